import torch
from torch.nn import functional

from alt_ros.encoders.torchvision_import import import_torchvision
from alt_ros.encoders.vision_transformer import (
    BASE,
    TINY,
    TransformerSize,
    VisionTransformerTrunk,
    fit_positions,
)

SMALL = TransformerSize(width=16, layers=2, heads=2, projected=8)


def torchvisions(side: int, patch: int, size: TransformerSize = SMALL):
    torch.manual_seed(1)
    network = import_torchvision().models.VisionTransformer(
        side, patch, size.layers, size.heads, size.width, 4 * size.width, num_classes=5
    )
    torch.nn.init.normal_(network.heads.head.weight)
    return network.eval()


def test_on_square_images_it_computes_what_torchvisions_does():
    reference = torchvisions(32, 8)
    trunk = VisionTransformerTrunk(8, (4, 4), SMALL, 5).eval()
    trunk.start_from(reference.state_dict())
    trunk.network.heads.load_state_dict(reference.heads.head.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(trunk(images), reference(images))


def test_the_published_size_is_that_of_torchvisions_vit_b_16():
    with torch.device("meta"):
        trunk = VisionTransformerTrunk(16, (14, 14), BASE, 7)
        reference = import_torchvision().models.vit_b_16()
    expected = {n: v.shape for n, v in reference.state_dict().items() if "heads" not in n}
    own = {n: v.shape for n, v in trunk.network.state_dict().items() if "heads" not in n}
    assert own == expected


def test_a_classifier_in_the_weights_is_left_out():
    trunk = VisionTransformerTrunk(8, (4, 4), SMALL, 7)
    before = trunk.network.heads.weight.clone()
    trunk.start_from(torchvisions(32, 8).state_dict())
    assert torch.equal(trunk.network.heads.weight, before)
    with torch.no_grad():
        assert trunk(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_weights_of_another_input_size_have_their_positions_interpolated():
    trunk = VisionTransformerTrunk(8, (3, 5), SMALL, 7)
    state = torchvisions(32, 8).state_dict()
    trunk.start_from(state)
    expected = fit_positions(state["encoder.pos_embedding"][0], (3, 5))
    torch.testing.assert_close(trunk.network.encoder.pos_embedding[0].detach(), expected)
    with torch.no_grad():
        assert trunk(torch.zeros(2, 3, 24, 40)).shape == (2, 7)


def test_positions_of_the_same_grid_are_the_same_bits():
    positions = torch.randn(17, 6)
    assert torch.equal(fit_positions(positions, (4, 4)), positions)


def test_interpolated_positions_keep_the_class_token_and_the_order_of_rows_and_columns():
    down, across = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    square = torch.stack([down, across], dim=-1).reshape(16, 2)
    positions = torch.cat([torch.tensor([[9.0, -9.0]]), square])
    fitted = fit_positions(positions, (4, 8))
    assert fitted.shape == (33, 2)
    assert fitted[0].tolist() == [9.0, -9.0]
    grid = fitted[1:].reshape(4, 8, 2)
    torch.testing.assert_close(grid[..., 0], down[:, :1].expand(4, 8))
    assert (grid[..., 1].diff(dim=1) > 0).all()
    halved = fit_positions(positions, (2, 2))[1:].reshape(2, 2, 2)
    torch.testing.assert_close(
        halved[..., 0].mean(dim=1).diff(), torch.tensor([2.0]), atol=0.3, rtol=0
    )


def test_it_looks_at_every_patch_and_knows_where_it_is():
    torch.manual_seed(0)
    trunk = VisionTransformerTrunk(8, (4, 6), TINY, 8).eval()
    images = torch.zeros(25, 3, 32, 48)
    for number in range(24):
        row, column = divmod(number, 6)
        images[number, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1.0
    with torch.no_grad():
        features = functional.normalize(trunk(images), dim=-1)
    assert len(torch.unique(features.round(decimals=6), dim=0)) == 25
