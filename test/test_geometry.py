"""SE(3), held against properties and against scipy's own Slerp."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from alt_ros.errors import DataError
from alt_ros.geometry import (
    arm_action,
    interpolate_pose,
    pose_distance,
    quaternion_to_rot6d,
    rot6d_to_quaternion,
    rotation_between,
    split_arm_action,
)

bounded = settings(max_examples=100, deadline=None)
unit = st.floats(-1.0, 1.0)


@st.composite
def quaternions(draw):
    values = np.array(draw(st.tuples(unit, unit, unit, unit)))
    norm = np.linalg.norm(values)
    return values / norm if norm > 1e-3 else np.array([0.0, 0.0, 0.0, 1.0])


@st.composite
def poses(draw):
    return np.concatenate([draw(st.tuples(unit, unit, unit)), draw(quaternions())])


def angle_between(first, second) -> float:
    return float((Rotation.from_quat(first) * Rotation.from_quat(second).inv()).magnitude())


@bounded
@given(quaternions())
def test_rot6d_keeps_the_rotation(quaternion):
    back = rot6d_to_quaternion(quaternion_to_rot6d(quaternion))
    assert back[3] >= 0.0
    assert angle_between(back, quaternion) < 1e-6


def test_rot6d_is_the_first_two_columns_one_after_the_other():
    quarter_turn_about_z = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
    np.testing.assert_allclose(
        quaternion_to_rot6d(quarter_turn_about_z), [0, 1, 0, -1, 0, 0], atol=1e-12
    )


@bounded
@given(quaternions(), st.floats(0.1, 10.0), st.floats(-3.0, 3.0), st.floats(0.1, 10.0))
def test_rot6d_that_is_not_orthonormal_means_its_gram_schmidt_rotation(quaternion, a, b, c):
    rot6d = quaternion_to_rot6d(quaternion)
    skewed = np.concatenate([a * rot6d[:3], b * rot6d[:3] + c * rot6d[3:]])
    assert angle_between(rot6d_to_quaternion(skewed), quaternion) < 1e-6


@pytest.mark.parametrize(
    "rot6d",
    [[0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [1, 0, 0, 2, 0, 0], [1, 0, 0, -1, 0, 0], [0] * 6],
)
def test_rot6d_that_means_no_rotation_is_refused(rot6d):
    good = [1.0, 0, 0, 0, 1, 0]
    with pytest.raises(DataError, match="neither zero nor parallel"):
        rot6d_to_quaternion(np.array([good, rot6d], np.float64))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_rot6d_keeps_leading_dimensions(shape):
    stack = np.broadcast_to([0.0, 0.0, 0.0, 1.0], (*shape, 4))
    rot6d = quaternion_to_rot6d(stack)
    assert rot6d.shape == (*shape, 6)
    assert rot6d_to_quaternion(rot6d).shape == (*shape, 4)


@bounded
@given(st.lists(st.tuples(poses(), st.floats(0.0, 0.1)), min_size=1, max_size=3))
def test_arm_actions_split_into_what_they_were_made_of(arms):
    given_poses = np.array([pose for pose, _ in arms])
    given_grippers = np.array([opening for _, opening in arms])
    row = arm_action(given_poses, given_grippers)
    assert row.shape == (10 * len(arms),)
    split_poses, split_grippers = split_arm_action(row, len(arms))
    np.testing.assert_array_equal(split_grippers, given_grippers)
    np.testing.assert_array_equal(split_poses[:, :3], given_poses[:, :3])
    for split, pose in zip(split_poses, given_poses, strict=True):
        assert angle_between(split[3:], pose[3:]) < 1e-6


def test_columns_after_the_arms_are_left_alone():
    rows = np.zeros((5, 13))
    rows[:, [3, 7]] = 1.0
    rows[:, 9] = 0.03
    poses, grippers = split_arm_action(rows, 1)
    assert poses.shape == (5, 1, 7)
    np.testing.assert_array_equal(grippers, np.full((5, 1), 0.03))


@bounded
@given(poses(), poses())
def test_interpolation_ends_at_its_ends(start, end):
    for fraction, wanted in ((0.0, start), (1.0, end)):
        metres, radians = pose_distance(interpolate_pose(start, end, fraction), wanted)
        assert metres < 1e-12
        assert radians < 1e-6


@bounded
@given(poses(), poses(), st.floats(0.0, 1.0))
def test_interpolation_is_linear_in_position_and_slerp_in_rotation(start, end, fraction):
    pose = interpolate_pose(start, end, fraction)
    np.testing.assert_allclose(
        pose[:3], (1 - fraction) * start[:3] + fraction * end[:3], atol=1e-12
    )
    assert abs(np.linalg.norm(pose[3:]) - 1.0) < 1e-9
    if angle_between(start[3:], end[3:]) < np.pi - 1e-3:  # at pi either way is the shorter
        slerp = Slerp([0.0, 1.0], Rotation.from_quat([start[3:], end[3:]]))
        assert angle_between(pose[3:], slerp(fraction).as_quat()) < 1e-6


def test_interpolation_takes_the_shorter_way_whatever_the_quaternions_signs():
    start = np.r_[np.zeros(3), Rotation.from_euler("z", 170, degrees=True).as_quat()]
    end = np.r_[np.zeros(3), Rotation.from_euler("z", -170, degrees=True).as_quat()]
    for sign in (1.0, -1.0):
        pose = interpolate_pose(start, end * [1, 1, 1, *[sign] * 4], 0.5)
        half_turn = Rotation.from_euler("z", 180, degrees=True).as_quat()
        assert angle_between(pose[3:], half_turn) < 1e-9


@bounded
@given(poses(), poses())
def test_the_rotation_between_two_poses_turns_one_into_the_other(start, end):
    turned = Rotation.from_rotvec(rotation_between(start, end)) * Rotation.from_quat(start[3:])
    assert angle_between(turned.as_quat(), end[3:]) < 1e-6
    assert np.linalg.norm(rotation_between(start, end)) <= np.pi + 1e-9


def test_distance_is_in_metres_and_radians():
    start = np.array([0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 1.0])
    end = np.r_[0.1, 0.5, 0.7, Rotation.from_rotvec([0.0, 0.4, 0.0]).as_quat()]
    assert pose_distance(start, end) == pytest.approx((0.5, 0.4))
