import dataclasses

import pytest
import torch

from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import ConfigurationError

SPEC = EncoderSpec(("wrist", "front"), 32, 48, embedding_size=24, view_size=16, arms=2)
TRANSFORMERS = ("vit_tiny", "clip_tiny")


def inputs(batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((batch, 2, 3, 32, 48), generator=generator)
    return images, torch.randn((batch, 2, 7), generator=generator)


@pytest.mark.parametrize("backbone", ["resnet18", *TRANSFORMERS])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("pose", [True, False])
def test_embeddings_have_unit_length_and_the_specs_shape(shared, pose, backbone):
    spec = dataclasses.replace(SPEC, shared_trunk=shared, use_pose=pose, backbone=backbone)
    with torch.no_grad():
        values, views = MultiViewEncoder(spec).eval()(*inputs())
    assert values.shape == (3, 24)
    assert views.shape == (3, 2, 16)
    torch.testing.assert_close(values.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(views.norm(dim=-1), torch.ones(3, 2))


def test_a_shared_trunk_sees_the_views_with_the_same_eyes():
    encoder = MultiViewEncoder(SPEC).eval()
    images, poses = inputs()
    with torch.no_grad():
        _, straight = encoder(images, poses)
        _, swapped = encoder(images.flip(1), poses)
    torch.testing.assert_close(swapped, straight.flip(1))
    separate = MultiViewEncoder(dataclasses.replace(SPEC, shared_trunk=False))
    own = sum(p.numel() for p in separate.trunks.parameters())
    assert own == 2 * sum(p.numel() for p in encoder.trunks.parameters())


def test_the_pose_matters_only_with_a_pose_branch():
    images, poses = inputs()
    for use_pose in (True, False):
        encoder = MultiViewEncoder(dataclasses.replace(SPEC, use_pose=use_pose)).eval()
        with torch.no_grad():
            same = torch.equal(encoder(images, poses)[0], encoder(images, poses + 1.0)[0])
        assert same != use_pose


@pytest.mark.parametrize("backbone", ["resnet18", *TRANSFORMERS])
def test_half_precision_still_gives_single_precision_embeddings(backbone):
    encoder = MultiViewEncoder(dataclasses.replace(SPEC, backbone=backbone)).eval().half()
    images, poses = inputs()
    with torch.no_grad():
        values, views = encoder(images.half(), poses.half())
    assert values.dtype == views.dtype == torch.float32
    torch.testing.assert_close(values.norm(dim=-1), torch.ones(3))


def test_a_trunk_starts_from_the_given_weights(tmp_path):
    from alt_ros.encoders.torchvision_import import import_torchvision

    weights = import_torchvision().models.resnet18(weights=None).state_dict()
    torch.save(weights, tmp_path / "resnet18.pt")
    encoder = MultiViewEncoder(SPEC, tmp_path / "resnet18.pt")
    torch.testing.assert_close(encoder.trunks[0].conv1.weight.data, weights["conv1.weight"])


@pytest.mark.parametrize("content", [None, b"", b"not weights"])
def test_weights_that_do_not_load_are_refused_by_name(tmp_path, content):
    path = tmp_path / "weights.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"weights\.pt"):
        MultiViewEncoder(SPEC, path)


@pytest.mark.parametrize("backbone", TRANSFORMERS)
def test_a_transformer_gives_the_same_in_both_layouts_of_memory(backbone):
    encoder = MultiViewEncoder(dataclasses.replace(SPEC, backbone=backbone)).eval()
    with torch.no_grad():
        values, _ = encoder(*inputs())
        encoder.channels_last = False
        torch.testing.assert_close(encoder(*inputs())[0], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", TRANSFORMERS)
def test_every_weight_of_a_transformer_is_trained(backbone):
    encoder = MultiViewEncoder(dataclasses.replace(SPEC, backbone=backbone))
    values, _ = encoder(*inputs())
    values[0].dot(values[1]).backward()
    still = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_the_published_transformers_are_of_the_published_size():
    for backbone, millions in (("vit_b_16", 86), ("clip_vit_b_32", 88)):
        spec = EncoderSpec(("wrist",), 224, 224, backbone=backbone)
        with torch.device("meta"):  # nothing is allocated
            encoder = MultiViewEncoder(spec)
        assert round(sum(p.numel() for p in encoder.parameters()) / 1e6) == millions


@pytest.mark.parametrize("backbone", TRANSFORMERS)
def test_a_transformer_starts_from_weights_that_were_made_at_another_input_size(
    tmp_path, backbone
):
    square = dataclasses.replace(SPEC, height=64, width=64, backbone=backbone)
    trunk = MultiViewEncoder(square).trunks[0]
    network = trunk.visual if backbone.startswith("clip") else trunk.network
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    spec = dataclasses.replace(SPEC, backbone=backbone, shared_trunk=False)
    encoder = MultiViewEncoder(spec, tmp_path / "weights.pt")
    for started in encoder.trunks:
        own = started.visual if backbone.startswith("clip") else started.network
        expected = network.state_dict()
        for name, value in own.state_dict().items():
            if "pos" not in name and "heads" not in name:
                assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("backbone", TRANSFORMERS)
@pytest.mark.parametrize("content", ["nothing", "a ResNet's", "another width"])
def test_weights_of_another_network_are_refused_by_name_and_backbone(tmp_path, backbone, content):
    path = tmp_path / "weights.pt"
    if content == "a ResNet's":
        torch.save(MultiViewEncoder(SPEC).trunks[0].state_dict(), path)
    elif content == "another width":
        trunk = MultiViewEncoder(dataclasses.replace(SPEC, backbone=backbone)).trunks[0]
        network = trunk.visual if backbone.startswith("clip") else trunk.network
        torch.save({name: value[..., :-1] for name, value in network.state_dict().items()}, path)
    else:
        path.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match=rf"weights\.pt' must be .* {backbone}") as error:
        MultiViewEncoder(dataclasses.replace(SPEC, backbone=backbone), path)
    assert "\n" not in str(error.value)
