"""Whether the arm gets to where it was sent, however late."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alt_ros.safety import SafetyLimits
from alt_ros.tracking import Tracking

LIMITS = SafetyLimits()
PERIOD = 10_000_000
LAG = LIMITS.lag_timeout // PERIOD


def pose(x: float, turn: float = 0.0) -> np.ndarray:
    return np.concatenate([[x, 0.0, 0.3], Rotation.from_rotvec([0.0, 0.0, turn]).as_quat()])


def behind(commanded, measured, every: int = 1) -> list[int]:
    """Return the periods in which the arm is behind; it is looked at every few periods."""
    tracking = Tracking(LIMITS, PERIOD, pose(0.0))
    found = []
    for k in range(every, len(commanded), every):
        tracking.measure(measured[k], every)
        if tracking.behind:
            found.append(k)
        for sent in commanded[k - every + 1 : k + 1]:
            tracking.command(sent)
    return found


def to_and_fro(seconds: np.ndarray, metres: float = 0.06, turn: float = 0.0) -> np.ndarray:
    wave = 0.5 - 0.5 * np.cos(2.0 * np.pi * seconds / 0.8)
    return np.stack([pose(metres * w, turn * w) for w in wave])


SECONDS = np.arange(300) * 0.01


@pytest.mark.parametrize("late", [0.0, 0.1, 0.45])
@pytest.mark.parametrize("every", [1, 7, 20])
def test_an_arm_that_comes_late_is_not_behind(late, every):
    commanded = to_and_fro(SECONDS, 0.06, 0.5)
    measured = to_and_fro(np.maximum(SECONDS - late, 0.0), 0.06, 0.5)
    assert behind(commanded, measured, every) == []


@pytest.mark.parametrize(("metres", "turn"), [(0.06, 0.0), (0.0, 0.5), (-0.06, 0.0)])
def test_an_arm_that_stands_still_is_behind_where_the_commands_go_to_and_fro(metres, turn):
    commanded = to_and_fro(SECONDS, metres, turn)
    measured = np.repeat(commanded[:1], len(commanded), axis=0)
    first = behind(commanded, measured)[0]
    far = np.argmax((np.abs(commanded[:, 0]) > 0.03) | (commanded[:, 5] > np.sin(0.1)))
    assert first == far + LAG


def test_an_arm_that_goes_half_of_the_way_is_behind():
    commanded = np.stack([pose(x) for x in np.minimum(0.1 * SECONDS, 0.07)])
    measured = np.stack([pose(x) for x in np.minimum(0.1 * SECONDS, 0.035)])
    assert behind(commanded, measured)


def test_a_quaternion_and_its_negative_are_the_same_rotation():
    commanded = to_and_fro(SECONDS, 0.0, 0.5)
    measured = commanded.copy()
    measured[1::2, 3:] *= -1.0
    assert behind(commanded, measured, 3) == []


def test_a_timeout_of_less_than_a_period_looks_at_the_last_command():
    tracking = Tracking(SafetyLimits(lag_timeout=1), PERIOD, pose(0.0))
    tracking.measure(pose(0.0), 25)
    tracking.command(pose(0.05))
    assert tracking.behind
    tracking.measure(pose(0.05), 1)
    assert not tracking.behind
