import json

import pytest

from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import ConfigurationError


def test_a_spec_survives_json():
    spec = EncoderSpec(("wrist", "front"), 64, 96, embedding_size=64, use_pose=True, arms=2)
    assert EncoderSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"views": ()}, "views"),
        ({"views": ("a", "a")}, "views"),
        ({"height": 31}, "32 pixels"),
        ({"embedding_size": 0}, "embedding_size"),
        ({"view_size": 0}, "view_size"),
        ({"use_pose": True, "arms": 0}, "arms"),
        ({"backbone": "vit"}, "one of resnet18, got 'vit'"),
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
