"""Changes of chunks on a made-up path: what the figures say of ours and of the raw target."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alt_ros.benchmarks.seams import measure_seams
from alt_ros.errors import DataError
from alt_ros.geometry import arm_action
from alt_ros.lookup.table import Table, make_table
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.safety import SafetyLimits
from alt_ros.types import ActionLayout

FRAMES = 60
STEPS = [
    f"{kind}_{what}_step"
    for kind in ("position", "rotation")
    for what in ("velocity", "acceleration")
]


def arcs(frames: int = FRAMES, count: int = 3, apart: float = 0.02) -> Table:
    """Return demonstrations of arcs at 0.1 m/s, side by side, that turn at 0.2 rad/s."""
    rows = []
    for n in range(count):
        seconds = 0.05 * np.arange(frames)
        poses = np.zeros((frames, 1, 7))
        poses[:, 0, 0] = 0.4 + 0.1 * seconds
        poses[:, 0, 1] = apart * n + 0.03 * np.sin(seconds)
        poses[:, 0, 2] = 0.3
        poses[:, 0, 3:] = Rotation.from_euler("z", 0.2 * seconds[:, None]).as_quat()
        rows.append(poses)
    poses = np.concatenate(rows)
    ones = np.ones((len(poses), 1), np.float32)
    return make_table(
        embeddings=ones,
        view_embeddings=ones[:, None],
        actions=arm_action(poses, np.full((len(poses), 1), 0.05)),
        poses=poses,
        grippers=np.full((len(poses), 1), 0.05),
        episode_ends=frames * np.arange(1, count + 1),
        names=tuple(f"arc {n}" for n in range(count)),
        period=50_000_000,
        layout=ActionLayout(),
    )


@pytest.fixture(scope="module")
def figures() -> dict:
    return measure_seams(arcs(), changes=30, seed=1)


@pytest.mark.parametrize("way", ["offset", "neighbour"])
def test_ours_is_at_least_ten_times_smoother(figures, way):
    assert figures[way]["changes"] == 30
    assert figures[way]["interrupted_periods"] == 0
    for step in STEPS:
        if way == "neighbour" and step.startswith("rotation"):
            continue  # the arcs turn alike
        assert min(figures[way]["unblended_over_ours"][step].values()) >= 10.0


def test_the_steps_of_the_raw_target_are_those_of_the_offsets(figures):
    # Every other chunk lies 20 mm beside: a step of 2 m/s for one sample, there and back.
    found = figures["neighbour"]["unblended"]
    assert found["position_velocity_step"]["max"] == pytest.approx(2.0, rel=0.1)
    assert found["position_acceleration_step"]["max"] == pytest.approx(400.0, rel=0.1)


def test_ours_obeys_the_limits_and_the_demonstrated_path_is_smooth(figures):
    limits = SafetyLimits()
    for way in ("offset", "neighbour"):
        ours = figures[way]["ours"]
        assert ours["position_velocity_step"]["max"] <= 0.01 * limits.linear_acceleration + 1e-6
        assert ours["rotation_velocity_step"]["max"] <= 0.01 * limits.angular_acceleration + 1e-6
        shown = figures[way]["demonstrated"]
        assert shown["position_velocity_step"]["max"] < 0.003
        assert shown["tracking_max_mm"] == 0.0


def test_the_tracking_error_of_the_raw_target_is_the_offset(figures):
    unblended = figures["neighbour"]["unblended"]
    assert unblended["tracking_max_mm"] == pytest.approx(20.0, rel=0.05)
    assert 5.0 < unblended["tracking_mean_mm"] < 15.0
    assert figures["neighbour"]["ours"]["tracking_max_mm"] < 25.0


def test_the_same_seed_gives_the_same_figures_and_they_are_json():
    twice = [measure_seams(arcs(), changes=5, seed=3) for _ in range(2)]
    for figures in twice:
        del figures["machine"]
    assert twice[0] == json.loads(json.dumps(twice[1], allow_nan=False))


def test_progress_is_told_to_the_end():
    told = []
    measure_seams(arcs(), changes=5, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (10, 10)
    assert told == sorted(told)


def test_a_table_that_cannot_be_walked_is_refused():
    with pytest.raises(DataError, match="longer than 16 frames, two action horizons"):
        measure_seams(arcs(16), changes=1)
    two = dataclasses.replace(
        arcs(), actions=np.zeros((3 * FRAMES, 11)), layout=ActionLayout(extra=1)
    )
    with pytest.raises(DataError, match="must move one arm, it moves 1 and 1 other axes"):
        measure_seams(two, changes=1)


def test_without_blending_the_limits_alone_smooth():
    rule = HorizonConfig(blending="none")
    figures = measure_seams(arcs(), changes=5, horizon=rule)
    assert figures["blending"] == "none"
    assert figures["neighbour"]["ours"]["position_velocity_step"]["max"] <= 0.02 + 1e-6
