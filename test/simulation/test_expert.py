from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.geometry import pose_distance
from alt_ros.simulation.expert import LIFT, ScriptedExpert
from alt_ros.simulation.scenarios import SCENARIOS, TRAINING_PLACEMENTS, scenario
from alt_ros.simulation.scene import HOME_POSE, MAX_OPENING, CupPlacement

PERIOD = 10_000_000


def commands(expert: ScriptedExpert, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return every target pose (n, 7) and opening (n,) at 100 Hz."""
    poses, openings, time = [], [], start
    while not expert.done:
        pose, opening = expert.command(time, HOME_POSE, MAX_OPENING)
        poses.append(pose)
        openings.append(opening)
        time += PERIOD
    return np.array(poses), np.array(openings)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_commands_keep_to_the_limits_of_speed_and_acceleration(name: str) -> None:
    for index in range(0, 31, 6):
        poses, openings = commands(ScriptedExpert(scenario(name).trial(index).placement, 0.002))
        moves = [pose_distance(a, b) for a, b in pairwise(poses)]
        speeds, turns = np.array(moves).T / 0.01
        accelerations = np.diff(poses[:, :3], 2, axis=0) / 0.01**2
        assert speeds.max() <= 0.25
        assert turns.max() <= 1.0 + 1e-6
        assert np.linalg.norm(accelerations, axis=1).max() <= 1.0
        assert np.abs(np.diff(openings)).max() / 0.01 <= 0.15


def test_every_training_episode_takes_three_to_four_and_a_half_seconds() -> None:
    for placement in TRAINING_PLACEMENTS:
        expert = ScriptedExpert(placement)
        commands(expert)
        assert 3.0 < expert.duration < 4.5


def test_plan_starts_at_the_measured_pose_and_ends_lifted_over_the_cup() -> None:
    placement = CupPlacement(0.6, 0.1, 0.5)
    poses, openings = commands(ScriptedExpert(placement))
    np.testing.assert_allclose(poses[0], HOME_POSE, atol=1e-9)
    assert openings[0] == MAX_OPENING
    np.testing.assert_allclose(poses[-1, :2], (0.6, 0.1), atol=1e-9)
    assert poses[-1, 2] - poses[:, 2].min() == pytest.approx(LIFT)
    assert openings[-1] < 0.06


def test_gripper_takes_the_yaw_of_the_cup_so_that_the_handle_is_off_the_fingers() -> None:
    poses, _ = commands(ScriptedExpert(CupPlacement(0.5, 0.0, -0.6)))
    assert pose_distance(HOME_POSE, poses[-1])[1] == pytest.approx(0.6)


def test_gripper_closes_only_while_the_hand_stands_still() -> None:
    poses, openings = commands(ScriptedExpert(TRAINING_PLACEMENTS[2]))
    closing = np.flatnonzero(np.diff(openings) < 0)
    still = poses[closing[1:-1]]
    assert len(still) > 10
    np.testing.assert_allclose(still, np.broadcast_to(still[0], still.shape), atol=1e-12)


def test_same_placement_gives_the_same_commands_whenever_it_starts() -> None:
    first = commands(ScriptedExpert(TRAINING_PLACEMENTS[9]))
    later = commands(ScriptedExpert(TRAINING_PLACEMENTS[9]), start=7_000_000_000)
    np.testing.assert_array_equal(first[0], later[0])
    np.testing.assert_array_equal(first[1], later[1])


def test_noise_is_seeded_and_tiny() -> None:
    placement = TRAINING_PLACEMENTS[9]
    clean, _ = commands(ScriptedExpert(placement))
    noisy, _ = commands(ScriptedExpert(placement, noise=0.001, seed=4))
    again, _ = commands(ScriptedExpert(placement, noise=0.001, seed=4))
    np.testing.assert_array_equal(noisy, again)
    off = np.abs(noisy[-1, :3] - clean[-1, :3])
    assert 0 < off.max() <= 0.003


def test_noise_that_would_spoil_the_grasp_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"noise must be 0 to 0.005 m"):
        ScriptedExpert(TRAINING_PLACEMENTS[0], noise=0.02)


def test_expert_is_not_done_before_it_began() -> None:
    assert not ScriptedExpert(TRAINING_PLACEMENTS[0]).done


def off_the_way(poses: np.ndarray, placement: CupPlacement) -> np.ndarray:
    """Distance (n,) to the left of the straight way from home to above the cup, metres."""
    way = np.array([placement.x, placement.y]) - HOME_POSE[:2]
    left = np.array([-way[1], way[0]]) / np.linalg.norm(way)
    return (poses[:, :2] - HOME_POSE[:2]) @ left


@pytest.mark.parametrize("detour", [0.02, -0.08, 0.15])
def test_a_detour_keeps_to_the_limits_of_speed_and_acceleration(detour: float) -> None:
    for placement in TRAINING_PLACEMENTS[::5]:
        poses, _ = commands(ScriptedExpert(placement, detour=detour))
        moves = [pose_distance(a, b) for a, b in pairwise(poses)]
        accelerations = np.diff(poses[:, :3], 2, axis=0) / 0.01**2
        assert np.array(moves).max(axis=0)[0] / 0.01 <= 0.25
        assert np.array(moves).max(axis=0)[1] / 0.01 <= 1.0 + 1e-6
        assert np.linalg.norm(accelerations, axis=1).max() <= 1.0


def test_a_detour_swings_out_to_its_side_and_ends_over_the_cup_all_the_same() -> None:
    placement = TRAINING_PLACEMENTS[7]
    straight, _ = commands(ScriptedExpert(placement))
    left, _ = commands(ScriptedExpert(placement, detour=0.08))
    right, _ = commands(ScriptedExpert(placement, detour=-0.08))
    np.testing.assert_allclose(off_the_way(straight, placement), 0.0, atol=1e-12)
    assert off_the_way(left, placement).max() == pytest.approx(0.08, abs=1e-4)
    assert off_the_way(left, placement).min() > -1e-12
    np.testing.assert_allclose(off_the_way(right, placement), -off_the_way(left, placement))
    np.testing.assert_allclose(left[0], straight[0])
    np.testing.assert_allclose(left[-1], straight[-1])


def test_a_cup_straight_below_is_reached_over_the_robots_left() -> None:
    below = CupPlacement(float(HOME_POSE[0]), float(HOME_POSE[1]), 0.0)
    poses, _ = commands(ScriptedExpert(below, detour=0.08))
    assert poses[:, 1].max() == pytest.approx(0.08, abs=1e-4)


@pytest.mark.parametrize("detour", [0.2, -0.2, float("nan")])
def test_a_detour_beyond_reach_is_refused(detour: float) -> None:
    with pytest.raises(ConfigurationError, match=r"detour must be -0.15 to 0.15 m"):
        ScriptedExpert(TRAINING_PLACEMENTS[0], detour=detour)
