"""Frozen, validated data: what is refused, and that the message says why."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from alt_ros.errors import DataError
from alt_ros.types import (
    ActionChunk,
    ActionLayout,
    Neighbour,
    Observation,
    OodDecision,
    check_image,
    check_poses,
)

IMAGE = np.zeros((4, 6, 3), np.uint8)
POSE = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])


def chunk(actions: np.ndarray, **fields: object) -> ActionChunk:
    values = {"stamp": 0, "period": 50_000_000, "layout": ActionLayout()} | fields
    return ActionChunk(actions=actions, **values)  # type: ignore[arg-type]


def test_a_unit_quaternion_within_a_thousandth_is_accepted():
    check_poses(POSE * [1, 1, 1, 1, 1, 1, 1.0009], "pose")
    check_poses(np.stack([POSE, POSE])[None], "poses of any leading shape")
    check_poses(np.zeros((0, 7)), "no pose at all")


@pytest.mark.parametrize(
    ("pose", "reason"),
    [
        (np.r_[POSE[:6], 0.99], "norm 1"),
        (np.r_[POSE[:6], 0.0], "norm 1"),
        (np.r_[np.nan, POSE[1:]], "finite"),
        (np.r_[POSE[:6], np.inf], "finite"),
        (POSE[:6], "7 values"),
        (np.array(1.0), "7 values"),
    ],
)
def test_a_damaged_pose_is_refused_with_subject_and_reason(pose, reason):
    with pytest.raises(DataError, match=f"pose of arm 0.*{reason}"):
        check_poses(pose, "pose of arm 0")


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 6), np.uint8),
        np.zeros((4, 6, 4), np.uint8),
        np.zeros((4, 6, 3), np.float32),
        np.zeros((0, 6, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_rgb_image_is_refused(image):
    with pytest.raises(DataError, match="view 'wrist'.*uint8 RGB"):
        check_image(image, "view 'wrist'")


def test_a_layout_counts_ten_columns_per_arm_and_the_extra_ones():
    assert ActionLayout().size == 10
    assert ActionLayout(arms=2, extra=3).size == 23
    assert ActionLayout(arms=0, extra=7).size == 7


@pytest.mark.parametrize("fields", [{"arms": 0}, {"arms": -1}, {"extra": -1}])
def test_a_layout_without_columns_is_refused(fields):
    with pytest.raises(DataError, match="at least one column"):
        ActionLayout(**fields)


def test_an_observation_keeps_its_views_in_order_and_cannot_be_changed():
    images = {"wrist": IMAGE, "third_person": IMAGE}
    observation = Observation(5, images, POSE[None], np.array([0.04]))
    images["intruder"] = IMAGE
    assert list(observation.images) == ["wrist", "third_person"]
    with pytest.raises(TypeError):
        observation.images["wrist"] = IMAGE  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        observation.stamp = 6  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"images": {}}, "at least one image"),
        ({"images": {"wrist": IMAGE[..., :1]}}, "view 'wrist'"),
        ({"poses": POSE[None] * 2}, "norm 1"),
        ({"poses": POSE, "grippers": np.zeros(7)}, "one gripper opening per arm"),
        ({"grippers": np.zeros(2)}, "one gripper opening per arm"),
        ({"grippers": np.array([np.nan])}, "finite"),
        ({"state": np.array([np.inf])}, "finite"),
    ],
)
def test_a_damaged_observation_is_refused_with_the_reason(fields, reason):
    whole = {"images": {"wrist": IMAGE}, "poses": POSE[None], "grippers": np.array([0.04])}
    Observation(stamp=0, **whole)
    with pytest.raises(DataError, match=reason):
        Observation(stamp=0, **whole | fields)


@pytest.mark.parametrize(
    ("actions", "fields", "reason"),
    [
        (np.zeros((0, 10)), {}, "n >= 1"),
        (np.zeros(10), {}, "n >= 1"),
        (np.zeros((4, 9)), {}, "10"),
        (np.full((4, 10), np.nan), {}, "finite"),
        (np.zeros((4, 10)), {"period": 0}, "period must be positive"),
        (np.zeros((4, 10)), {"layout": ActionLayout(2)}, "20"),
    ],
)
def test_a_damaged_chunk_is_refused_with_the_reason(actions, fields, reason):
    with pytest.raises(DataError, match=reason):
        chunk(actions, **fields)


def test_a_chunk_of_one_row_is_whole():
    assert chunk(np.zeros((1, 10))).actions.shape == (1, 10)


def test_a_decision_needs_a_value_and_a_strangeness_for_each_score():
    nearest = Neighbour(0, 0, 0.9)
    OodDecision(False, 1.0, 2.0, nearest, scores=("cosine",), values=(0.1,), strangeness=(1.0,))
    with pytest.raises(DataError, match="2 names, 1 and 0"):
        OodDecision(False, 1.0, 2.0, nearest, scores=("cosine", "jumps"), values=(0.1,))
