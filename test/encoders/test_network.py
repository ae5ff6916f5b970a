import dataclasses

import pytest
import torch

from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import ConfigurationError

SPEC = EncoderSpec(("wrist", "front"), 32, 48, embedding_size=24, view_size=16, arms=2)


def inputs(batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((batch, 2, 3, 32, 48), generator=generator)
    return images, torch.randn((batch, 2, 7), generator=generator)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("pose", [True, False])
def test_embeddings_have_unit_length_and_the_specs_shape(shared, pose):
    spec = dataclasses.replace(SPEC, shared_trunk=shared, use_pose=pose)
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


def test_half_precision_still_gives_single_precision_embeddings():
    encoder = MultiViewEncoder(SPEC).eval().half()
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
