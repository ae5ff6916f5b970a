import json

import pytest

from alt_ros.encoders.spec import BACKBONES, EncoderSpec
from alt_ros.errors import ConfigurationError


def test_a_spec_survives_json():
    spec = EncoderSpec(("wrist", "front"), 64, 96, embedding_size=64, use_pose=True, arms=2)
    assert EncoderSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_spec_of_every_backbone_survives_json(backbone):
    spec = EncoderSpec(("wrist",), 64, 96, backbone=backbone)
    assert EncoderSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("backbone", "height", "width", "match"),
    [
        ("vit_tiny", 50, 48, "multiples of 8 pixels for vit_tiny, got 48x50: take 48x48"),
        ("clip_tiny", 48, 63, "multiples of 8 pixels for clip_tiny, got 63x48: take 64x48"),
        ("vit_b_16", 100, 128, "multiples of 16 pixels for vit_b_16, got 128x100: take 128x96"),
        ("clip_vit_b_32", 240, 33, "of 32 pixels for clip_vit_b_32, got 33x240: take 32x256"),
    ],
)
def test_images_that_cannot_be_cut_into_patches_are_refused_with_a_size_that_can(
    backbone, height, width, match
):
    with pytest.raises(ConfigurationError, match=match) as refused:
        EncoderSpec(("a",), height, width, backbone=backbone)
    across, down = str(refused.value).rsplit(" ", 1)[1].split("x")
    EncoderSpec(("a",), int(down), int(across), backbone=backbone)


def test_a_resnet_takes_images_of_any_size():
    assert EncoderSpec(("a",), 33, 47).backbone == "resnet18"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"views": ()}, "views"),
        ({"views": ("a", "a")}, "views"),
        ({"height": 31}, "32 pixels"),
        ({"embedding_size": 0}, "embedding_size"),
        ({"view_size": 0}, "view_size"),
        ({"use_pose": True, "arms": 0}, "arms"),
        ({"backbone": "vit"}, "one of resnet18, vit_b_16, .*, got 'vit'"),
    ],
)
def test_a_spec_out_of_bounds_is_refused(change, match):
    with pytest.raises(ConfigurationError, match=match):
        EncoderSpec(**{"views": ("a",), "height": 32, "width": 32, **change})


@pytest.mark.parametrize(
    "change",
    [{"height": "64"}, {"use_pose": 1}, {"views": "wrist"}, {"views": [1]}, {"depth": 3}],
)
def test_json_of_wrong_types_is_refused(change):
    with pytest.raises(ConfigurationError, match="encoder"):
        EncoderSpec.from_json({"views": ["a"], "height": 32, "width": 32, **change})


def test_a_missing_field_is_named():
    with pytest.raises(ConfigurationError, match="missing \\['height'\\]"):
        EncoderSpec.from_json({"views": ["a"], "width": 32})
