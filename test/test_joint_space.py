from __future__ import annotations

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.joint_space import JointPath, load_inverse_kinematics

POSE = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])
REST = np.array([0.1, 0.2])


def planar(pose: np.ndarray, joints: np.ndarray) -> np.ndarray | None:
    """Two joints that stand for x and y."""
    return None if pose[0] > 0.8 else np.array([pose[0] - 0.4, pose[1] + 0.2])


def test_a_function_is_found_by_its_name():
    found = load_inverse_kinematics("numpy.linalg:norm")
    assert found is np.linalg.norm


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "must be 'module:function'"),
        ("numpy", "must be 'module:function'"),
        ("no_such_module:solve", "cannot be had: No module named"),
        ("numpy:no_such_function", "cannot be had"),
        ("numpy:pi", "is no function"),
    ],
)
def test_a_function_that_is_none_is_refused(name, reason):
    with pytest.raises(ConfigurationError, match=reason):
        load_inverse_kinematics(name)


def test_a_motion_starts_at_the_measured_joints_and_goes_on_from_the_last_solution():
    seeds: list[np.ndarray] = []

    def solve(pose, joints):
        seeds.append(joints.copy())
        return planar(pose, joints)

    path = JointPath(solve, 2, 2.0)
    for k in range(3):
        path.positions(POSE + np.r_[0.01 * k, np.zeros(6)], REST, 0.01)
    np.testing.assert_allclose(seeds, [[0.1, 0.2], [0.1, 0.2], [0.11, 0.2]])
    path.restart()
    path.positions(POSE, REST, 0.01)
    assert list(seeds[-1]) == [0.1, 0.2]


@pytest.mark.parametrize(
    ("solve", "reason"),
    [
        (lambda pose, joints: None, r"out of reach"),
        (lambda pose, joints: np.array([np.nan, 0.2]), "2 finite joints"),
        (lambda pose, joints: np.zeros(3), "2 finite joints"),
        (lambda pose, joints: 1 / 0, "failed: division by zero"),
        (lambda pose, joints: joints + 0.021, r"leaps: a joint would move at 2.10 rad/s"),
    ],
)
def test_a_solution_that_is_none_is_refused_and_not_started_from(solve, reason):
    with pytest.raises(DataError, match=reason):
        JointPath(solve, 2, 2.0).positions(POSE, REST, 0.01)


def test_a_refused_solution_is_not_where_the_next_one_starts():
    path = JointPath(planar, 2, 2.0)
    before = path.positions(POSE, REST, 0.01)
    with pytest.raises(DataError, match="leaps"):
        path.positions(POSE + np.r_[0.2, np.zeros(6)], REST, 0.01)
    assert path.positions(POSE, REST, 0.01) == pytest.approx(before)
