"""Distances of trajectories obey their definitions, and what a distance has to obey."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import arm_action, pose_distance
from alt_ros.memorisation.trajectory_distance import (
    BLOCK,
    DTW,
    FRECHET,
    KINDS,
    POINTWISE,
    Trajectory,
    TrajectoryDistance,
)
from alt_ros.types import ActionLayout

NUMBERS = st.integers(-3, 3).map(float)
"""Few values, so that warpings of equal cost and repeated samples occur."""


def paths(min_size: int = 1, max_size: int = 7) -> st.SearchStrategy[Trajectory]:
    points = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=min_size, max_size=max_size)
    return points.map(lambda rows: Trajectory.of_columns(np.array(rows)))


@st.composite
def pose_paths(draw, arms: int = 2) -> Trajectory:
    """Draw a trajectory of end effectors."""
    n, seed = draw(st.integers(1, 8)), draw(st.integers(0, 10_000))
    return random_poses(np.random.default_rng(seed), n, arms)


def random_poses(rng: np.random.Generator, n: int, arms: int = 1) -> Trajectory:
    quaternions = rng.normal(size=(n, arms, 4))
    quaternions /= np.linalg.norm(quaternions, axis=2, keepdims=True)
    return Trajectory.of_poses(np.concatenate([rng.normal(size=(n, arms, 3)), quaternions], 2))


def columns(*values: float) -> Trajectory:
    return Trajectory.of_columns(np.array(values)[:, None])


def repeated(trajectory: Trajectory, times) -> Trajectory:
    turned = trajectory.rotations
    return Trajectory(
        trajectory.positions.repeat(times, axis=0),
        None if turned is None else turned.repeat(times, axis=0),
    )


def point_distance(first: Trajectory, i: int, second: Trajectory, j: int, weight: float) -> float:
    """Return the ground distance by the geometry room, one arm after the other."""
    parts = []
    for part in range(first.positions.shape[1]):
        if first.rotations is None or second.rotations is None:
            parts.append(np.linalg.norm(first.positions[i, part] - second.positions[j, part]))
            continue
        one = np.r_[first.positions[i, part], first.rotations[i, part]]
        two = np.r_[second.positions[j, part], second.rotations[j, part]]
        metres, radians = pose_distance(one, two)
        parts.append(metres + weight * radians)
    return float(np.mean(parts))


def recursive(kind: str, first: Trajectory, second: Trajectory, weight: float = 0.1) -> float:
    """Return DTW or Fréchet by the recursion that defines it, top down."""

    @cache
    def cell(i: int, j: int) -> float:
        d = point_distance(first, i, second, j, weight)
        if i == 0 and j == 0:
            return 2.0 * d if kind == DTW else d
        along = [cell(i - 1, j)] if i else []
        along += [cell(i, j - 1)] if j else []
        across = [cell(i - 1, j - 1)] if i and j else []
        if kind == DTW:
            return min([g + d for g in along] + [g + 2.0 * d for g in across])
        return max(d, min(along + across))

    total = cell(len(first) - 1, len(second) - 1)
    return total / (len(first) + len(second)) if kind == DTW else total


@pytest.mark.parametrize("kind", [DTW, FRECHET])
@given(first=paths(), others=st.lists(paths(), min_size=1, max_size=4))
def test_warped_distances_to_several_at_once_are_those_of_the_recursion(kind, first, others):
    got = TrajectoryDistance(kind).to_each(first, others)
    np.testing.assert_allclose(got, [recursive(kind, first, other) for other in others])


@pytest.mark.parametrize("kind", [DTW, FRECHET])
@pytest.mark.parametrize("weight", [0.0, 0.3])
@settings(max_examples=40)
@given(first=pose_paths(), second=pose_paths())
def test_warped_distances_of_poses_are_those_of_the_recursion(kind, weight, first, second):
    got = TrajectoryDistance(kind, weight).between(first, second)
    assert got == pytest.approx(recursive(kind, first, second, weight))


@pytest.mark.parametrize("kind", KINDS)
@given(trajectory=st.one_of(paths(), pose_paths()))
def test_a_trajectory_has_no_distance_to_itself(kind, trajectory):
    assert TrajectoryDistance(kind).between(trajectory, trajectory) == 0.0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(first=pose_paths(), second=pose_paths())
def test_a_distance_is_the_same_in_both_directions(kind, first, second):
    distance = TrajectoryDistance(kind)
    assert distance.between(first, second) == pytest.approx(distance.between(second, first))


@given(first=paths(), second=paths())
def test_frechet_is_at_least_the_distance_of_the_ends(first, second):
    got = TrajectoryDistance(FRECHET).between(first, second)
    for at in (0, -1):
        assert got >= np.linalg.norm(first.positions[at] - second.positions[at]) - 1e-12


@given(first=paths(), second=paths())
def test_the_mean_along_a_warping_is_at_most_the_longest_leash(first, second):
    dtw, frechet = (TrajectoryDistance(kind).between(first, second) for kind in (DTW, FRECHET))
    assert dtw <= frechet + 1e-12


@given(first=paths(), second=paths(), third=paths())
def test_frechet_obeys_the_triangle_inequality(first, second, third):
    between = TrajectoryDistance(FRECHET).between
    assert between(first, third) <= between(first, second) + between(second, third) + 1e-12


@pytest.mark.parametrize("kind", [DTW, FRECHET])
@given(trajectory=pose_paths(), data=st.data())
def test_waiting_costs_nothing_where_time_is_warped(kind, trajectory, data):
    times = data.draw(
        st.lists(st.integers(1, 4), min_size=len(trajectory), max_size=len(trajectory))
    )
    assert TrajectoryDistance(kind).between(trajectory, repeated(trajectory, times)) == 0.0


@given(first=paths(), second=paths(), times=st.integers(2, 4))
def test_frechet_does_not_see_repeated_samples(first, second, times):
    between = TrajectoryDistance(FRECHET).between
    assert between(repeated(first, times), second) == pytest.approx(between(first, second))


def test_the_three_distances_of_known_paths():
    early, late = columns(0, 0, 0, 9), columns(0, 9, 9, 9)
    assert TrajectoryDistance(POINTWISE).between(early, late) == pytest.approx(4.5)
    assert TrajectoryDistance(DTW).between(early, late) == 0.0
    assert TrajectoryDistance(FRECHET).between(early, late) == 0.0
    short, long = columns(0, 4), columns(0, 0, 4)
    assert TrajectoryDistance(POINTWISE).between(short, long) == pytest.approx(2.0 / 3.0)
    bumped, straight = columns(0, 0, 4, 0, 0), columns(0, 0, 0, 0, 0)
    assert TrajectoryDistance(POINTWISE).between(bumped, straight) == pytest.approx(0.8)
    assert TrajectoryDistance(DTW).between(bumped, straight) == pytest.approx(0.4)
    assert TrajectoryDistance(FRECHET).between(bumped, straight) == pytest.approx(4.0)


@given(n=st.integers(1, 12), m=st.integers(2, 12))
def test_pointwise_resamples_a_straight_motion_without_loss(n, m):
    turns = Rotation.from_rotvec(np.linspace(0.0, 2.0, m)[:, None] * [0.0, 0.6, 0.8])
    turns = turns.as_quat()[:, None]  # (m, 1, 4)
    line = np.linspace(0.0, 1.0, m)[:, None, None] * np.array([1.0, -2.0, 3.0])
    long = Trajectory(line, turns)
    ends = Trajectory(line[[0, -1]], turns[[0, -1]])
    assert TrajectoryDistance(POINTWISE).between(ends, long) == pytest.approx(0.0, abs=1e-7)
    one = Trajectory(line[:1].repeat(n, axis=0), turns[:1].repeat(n, axis=0))
    single = Trajectory(line[:1], turns[:1])
    assert TrajectoryDistance(POINTWISE).between(single, one) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_radian_counts_as_its_weight_in_metres_and_arms_are_averaged(kind):
    still = np.zeros((5, 2, 7))
    still[..., 6] = 1.0
    moved = still.copy()
    moved[:, 0, 0] = 0.3  # one arm is 0.3 m off
    moved[:, 1, 3:] = Rotation.from_euler("y", 1.2).as_quat()  # the other 1.2 rad
    first, second = Trajectory.of_poses(still), Trajectory.of_poses(moved)
    assert TrajectoryDistance(kind, 0.5).between(first, second) == pytest.approx(0.45)
    assert TrajectoryDistance(kind, 0.0).between(first, second) == pytest.approx(0.15)


@given(seed=st.integers(0, 1000), angle=st.floats(0.0, np.pi))
def test_the_angle_is_the_geodesic_one_whichever_sign_the_quaternions_have(seed, angle):
    rng = np.random.default_rng(seed)
    start = Rotation.random(random_state=seed)
    axis = rng.normal(size=3)
    end = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)) * start
    zero = np.zeros((1, 1, 3))
    for sign in (1.0, -1.0):
        first = Trajectory(zero, start.as_quat()[None, None])
        second = Trajectory(zero, sign * end.as_quat()[None, None])
        got = TrajectoryDistance(FRECHET, 1.0).between(first, second)
        assert got == pytest.approx(angle, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_are_the_distances_one_by_one(kind):
    rng = np.random.default_rng(0)
    many = [random_poses(rng, int(n)) for n in rng.integers(1, 12, BLOCK + 5)]
    distance = TrajectoryDistance(kind)
    got = distance.pairwise(many)
    one_by_one = [[distance.between(a, b) for b in many] for a in many]
    np.testing.assert_allclose(got, one_by_one, atol=1e-12)
    np.testing.assert_array_equal(got, got.T)


@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_of_a_training_set_take_seconds(kind):
    rng = np.random.default_rng(0)
    many = [random_poses(rng, int(n)) for n in rng.integers(75, 86, 31)]
    begin = time.perf_counter()
    TrajectoryDistance(kind).pairwise(many)
    assert time.perf_counter() - begin < 5.0


def test_every_sample_is_compared_with_every_sample():
    first, second = columns(0.0, 1.0), columns(0.0, 2.0, 5.0)
    got = TrajectoryDistance().of_samples(first, second)
    np.testing.assert_allclose(got, [[0.0, 2.0, 5.0], [1.0, 1.0, 4.0]])


def test_nothing_to_compare_with_gives_no_distances():
    for kind in KINDS:
        assert TrajectoryDistance(kind).to_each(columns(1.0), []).shape == (0,)
        assert TrajectoryDistance(kind).pairwise([]).shape == (0, 0)


def test_action_rows_are_compared_by_their_target_poses():
    poses = np.concatenate(
        [
            random_poses(np.random.default_rng(0), 6, 2).positions,
            np.broadcast_to([0.0, 0.0, 0.6, 0.8], (6, 2, 4)),
        ],
        axis=2,
    )
    rows = [arm_action(poses, np.full((6, 2), opening)) for opening in (0.0, 0.08)]
    layout = ActionLayout(arms=2, extra=1)
    closed, opened = (
        Trajectory.of_actions(np.c_[row, np.full(6, 7.0 * n)], layout)
        for n, row in enumerate(rows)
    )
    between = TrajectoryDistance(POINTWISE, 1.0).between
    assert between(closed, opened) == 0.0, "openings and extra columns do not count"
    assert between(closed, Trajectory.of_poses(poses)) == pytest.approx(0.0, abs=1e-7)


def test_actions_without_end_effectors_are_compared_by_all_their_columns():
    rows = np.array([[3.0, 4.0], [0.0, 0.0]])
    trajectory = Trajectory.of_actions(rows, ActionLayout(arms=0, extra=2))
    assert trajectory.rotations is None
    zero = Trajectory.of_columns(np.zeros((2, 2)))
    assert TrajectoryDistance(FRECHET).between(trajectory, zero) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trajectory(np.zeros((0, 1, 3))), "none of them 0"),
        (lambda: Trajectory(np.zeros((4, 3))), r"must be \(n, parts, D\)"),
        (lambda: Trajectory.of_columns(np.array([[0.0], [np.nan]])), "not finite at sample 1"),
        (lambda: Trajectory.of_columns(np.zeros(4)), r"columns must be \(n, C\)"),
        (lambda: Trajectory.of_poses(np.zeros((4, 7))), r"poses must be \(n, arms, 7\)"),
        (lambda: Trajectory.of_poses(np.zeros((4, 1, 7))), "quaternion must have norm 1"),
        (lambda: Trajectory(np.zeros((4, 1, 3)), np.ones((3, 1, 4))), "with rotations"),
        (lambda: Trajectory(np.zeros((4, 1, 2)), np.ones((4, 1, 4))), "with rotations"),
        (lambda: Trajectory.of_actions(np.zeros((4, 9)), ActionLayout()), r"must be \(n, 10\)"),
    ],
)
def test_a_trajectory_of_another_shape_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize("kind", KINDS)
def test_trajectories_of_different_robots_are_not_compared(kind):
    rng = np.random.default_rng(0)
    one, two = random_poses(rng, 3), random_poses(rng, 3, arms=2)
    with pytest.raises(DataError, match="same parts and columns"):
        TrajectoryDistance(kind).between(one, two)
    with pytest.raises(DataError, match="both have rotations or neither"):
        TrajectoryDistance(kind).between(one, Trajectory(one.positions))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "euclid"}, "kind must be one of pointwise, dtw, frechet, got 'euclid'"),
        ({"rotation_weight": -0.1}, "rotation_weight must be finite and at least 0"),
        ({"rotation_weight": np.nan}, "rotation_weight must be finite"),
    ],
)
def test_an_unknown_distance_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        TrajectoryDistance(**options)
