"""Similarity tells a copy from an interpolation, and on what a policy falls back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.memorisation.similarity import (
    Copy,
    TrainingTrajectories,
    copy_score,
    fall_back_concentration,
)
from alt_ros.memorisation.trajectory_distance import FRECHET, KINDS, Trajectory, TrajectoryDistance

SAMPLES = 20


def reach(*goal: float, samples: int = SAMPLES) -> Trajectory:
    """Return a straight reach from the origin to a goal."""
    return Trajectory.of_columns(np.linspace(0.0, 1.0, samples)[:, None] * np.array(goal))


def level(height: float) -> Trajectory:
    """Return a motion at a height: a distance to another is the difference of their heights."""
    return Trajectory.of_columns(np.c_[np.linspace(0.0, 1.0, SAMPLES), np.full(SAMPLES, height)])


GOALS = ((1.0, 0.0), (0.9, 0.3), (0.0, 1.0), (-1.0, 0.2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copied", range(len(GOALS)))
def test_a_copied_demonstration_has_a_similarity_of_one(kind, copied):
    training = TrainingTrajectories([reach(*goal) for goal in GOALS], TrajectoryDistance(kind))
    judged = training.judge(reach(*GOALS[copied]))
    assert (judged.nearest, judged.value) == (copied, 1.0)
    assert judged.per_demonstration[copied] == 1.0
    assert np.delete(judged.per_demonstration, copied).max() < 1.0


@pytest.mark.parametrize(
    ("height", "value"), [(0.0, 1.0), (0.1, 0.9), (0.5, 0.5), (-0.5, 0.5), (-1.0, 0.0), (-3.0, -2)]
)
def test_similarity_falls_with_the_distance_to_the_nearest(height, value):
    training = TrainingTrajectories([level(0.0), level(1.0), level(5.0)])
    judged = training.judge(level(height))
    assert (judged.nearest, judged.second) == (0, 1)
    assert judged.value == pytest.approx(value)


def test_the_second_nearest_is_that_of_the_executed_trajectory():
    training = TrainingTrajectories([level(0.0), level(1.0), level(-0.9)], TrajectoryDistance())
    judged = training.judge(level(0.2))
    assert (judged.nearest, judged.second) == (0, 1), "although 2 is nearer to 0"
    np.testing.assert_allclose(judged.distances, [0.2, 0.8, 1.1])
    assert judged.value == pytest.approx(1.0 - 0.2 / 1.0)


def test_the_similarity_to_each_demonstration_is_zero_at_their_average_distance():
    training = TrainingTrajectories([level(0.0), level(1.0), level(5.0)])
    assert training.mean_distance == pytest.approx((1.0 + 5.0 + 4.0) / 3.0)
    judged = training.judge(level(-10.0 / 3.0))
    np.testing.assert_allclose(judged.per_demonstration, [0.0, -0.3, -1.5], atol=1e-12)


@given(seed=st.integers(0, 10_000))
def test_similarity_does_not_depend_on_the_unit_or_on_the_order_of_the_demonstrations(seed):
    rng = np.random.default_rng(seed)
    demonstrations = [rng.normal(size=(rng.integers(2, 9), 2)) for _ in range(5)]
    executed = rng.normal(size=(6, 2))

    def judged(scale: float, order):
        many = [Trajectory.of_columns(scale * demonstrations[n]) for n in order]
        distance = TrajectoryDistance(FRECHET)
        return TrainingTrajectories(many, distance).judge(Trajectory.of_columns(scale * executed))

    plain, order = judged(1.0, range(5)), rng.permutation(5)
    other = judged(1000.0, order)
    assert other.value == pytest.approx(plain.value)
    assert plain.value <= 1.0
    assert plain.distances[plain.nearest] == plain.distances.min()
    np.testing.assert_allclose(other.per_demonstration, plain.per_demonstration[order])


def test_many_are_judged_by_distances_that_were_taken_once(monkeypatch):
    training = TrainingTrajectories([level(0.0), level(1.0)])

    def taken_again(*_):
        raise AssertionError("pairs of training trajectories were compared again")

    monkeypatch.setattr(TrajectoryDistance, "pairwise", taken_again)
    assert [training.judge(level(h)).nearest for h in (0.1, 0.9)] == [0, 1]


def test_one_demonstration_is_not_enough():
    with pytest.raises(DataError, match="needs two training demonstrations.* got 1"):
        TrainingTrajectories([level(0.0)])


@pytest.mark.parametrize("pair", [(0, 1), (1, 3), (2, 3)])
def test_demonstrations_that_are_the_same_are_refused_by_number(pair):
    many = [level(0.0), level(1.0), level(2.0), level(3.0)]
    many[pair[1]] = many[pair[0]]
    with pytest.raises(DataError, match=f"{pair[0]} and {pair[1]} have a distance of 0: leave"):
        TrainingTrajectories(many)


def test_a_trajectory_that_does_not_move_on_is_refused():
    point = Trajectory.of_columns(np.zeros((1, 2)))
    training = TrainingTrajectories([level(0.0), level(1.0)])
    with pytest.raises(DataError, match="executed trajectory needs at least 2 samples, got 1"):
        training.judge(point)
    with pytest.raises(DataError, match="training trajectory 1 needs at least 2 samples"):
        TrainingTrajectories([level(0.0), point])


def test_an_executed_trajectory_of_another_robot_is_refused():
    training = TrainingTrajectories([level(0.0), level(1.0)])
    with pytest.raises(DataError, match="same parts and columns"):
        training.judge(reach(1.0, 1.0, 1.0))


def walk(rng: np.random.Generator, samples: int) -> Trajectory:
    return Trajectory.of_columns(rng.normal(size=(samples, 2)))


def part(trajectory: Trajectory, start: int, samples: int) -> Trajectory:
    return Trajectory(trajectory.positions[start : start + samples])


@given(seed=st.integers(0, 10_000), samples=st.integers(1, 6))
def test_the_nearest_chunk_is_that_of_a_search_through_all(seed, samples):
    rng = np.random.default_rng(seed)
    training = [walk(rng, int(n)) for n in (*rng.integers(1, 10, 4), 6)]
    chunk = walk(rng, samples)
    distance = TrajectoryDistance("pointwise")
    found = [
        (distance.between(chunk, part(trajectory, start, samples)), number, start)
        for number, trajectory in enumerate(training)
        for start in range(len(trajectory) - samples + 1)
    ]
    best = min(found)
    got = copy_score(chunk, training)
    assert (got.demonstration, got.frame) == best[1:]
    assert got.distance == pytest.approx(best[0])


def test_a_copied_chunk_is_found_where_it_was_copied_from():
    rng = np.random.default_rng(0)
    training = [walk(rng, n) for n in (9, 30, 12)]
    assert copy_score(part(training[1], 22, 8), training) == Copy(0.0, 1, 22)
    assert copy_score(part(training[2], 4, 8), training) == Copy(0.0, 2, 4)


def test_a_chunk_over_the_end_of_a_demonstration_is_no_copy():
    rng = np.random.default_rng(0)
    training = [walk(rng, 10), walk(rng, 10)]
    joined = np.concatenate([training[0].positions[-4:], training[1].positions[:4]])
    assert copy_score(Trajectory(joined), training).distance > 0.1


def test_chunks_joined_from_two_demonstrations_are_copies_though_the_whole_is_none():
    training = [level(0.0), level(1.0)]
    half = SAMPLES // 2
    joined = np.concatenate([part(training[0], 0, half).positions, training[1].positions[half:]])
    between = level(0.5)
    assert copy_score(part(Trajectory(joined), half, half), training) == Copy(0.0, 1, half)
    assert copy_score(part(between, half, half), training).distance == pytest.approx(0.5)
    judge = TrainingTrajectories(training, TrajectoryDistance("pointwise")).judge
    assert judge(Trajectory(joined)).value == pytest.approx(0.5)
    assert judge(between).value == pytest.approx(0.5)


def test_the_weight_of_rotations_decides_which_chunk_is_nearest():
    zero, turned = np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 0.0])
    quaternions = [np.tile(q, (3, 1, 1)) for q in (zero, turned)]
    training = [
        Trajectory(np.full((3, 1, 3), 0.2), quaternions[0]),
        Trajectory(np.zeros((3, 1, 3)), quaternions[1]),
    ]
    chunk = Trajectory(np.zeros((3, 1, 3)), quaternions[0])
    assert copy_score(chunk, training, TrajectoryDistance(rotation_weight=0.0)) == Copy(0.0, 1, 0)
    heavy = copy_score(chunk, training, TrajectoryDistance(rotation_weight=1.0))
    assert (heavy.demonstration, heavy.distance) == (0, pytest.approx(0.2 * math.sqrt(3.0)))


@pytest.mark.parametrize("training", [[], [level(0.0)]])
def test_a_chunk_longer_than_every_demonstration_is_refused(training):
    with pytest.raises(DataError, match="the chunk has 21 samples, the longest of"):
        copy_score(reach(1.0, 0.0, samples=SAMPLES + 1), training)


def test_a_policy_that_falls_back_on_one_demonstration_is_far_from_chance():
    got = fall_back_concentration([4] * 18 + [2, 7], 31)
    assert (got.rollouts, got.demonstrations, got.most_frequent) == (20, 31, 4)
    assert (got.top.value, got.top_two.value) == (pytest.approx(0.9), pytest.approx(0.95))
    shares = np.array([0.9, 0.05, 0.05])
    assert got.entropy.value == pytest.approx(-(shares * np.log(shares)).sum() / np.log(31))
    assert got.top.value > got.top.high
    assert got.top_two.value > got.top_two.high
    assert got.entropy.value < got.entropy.low


def test_roll_outs_that_take_any_demonstration_are_within_chance():
    nearest = np.random.default_rng(1).integers(31, size=40).tolist()
    got = fall_back_concentration(nearest, 31)
    for figure in (got.top, got.top_two, got.entropy):
        assert figure.low <= figure.value <= figure.high
        assert figure.low <= figure.chance <= figure.high


def test_chance_is_that_of_a_coin_where_there_are_two_demonstrations():
    # Three throws: three alike in a quarter of the cases, else two to one.
    got = fall_back_concentration([0, 1, 1], 2)
    assert got.top.chance == pytest.approx(0.25 * 1.0 + 0.75 * 2.0 / 3.0, abs=0.005)
    assert (got.top.low, got.top.high) == (pytest.approx(2.0 / 3.0), 1.0)
    assert got.top_two.chance == 1.0
    mixed = -(np.log(1 / 3) / 3 + 2 * np.log(2 / 3) / 3) / np.log(2)
    assert got.entropy.value == pytest.approx(mixed)
    assert got.entropy.chance == pytest.approx(0.75 * mixed, abs=0.01)


def test_few_roll_outs_look_concentrated_by_chance():
    one = fall_back_concentration([3], 10)
    assert (one.top.value, one.top.chance, one.entropy.chance) == (1.0, 1.0, 0.0)
    alike = fall_back_concentration(list(range(10)) * 5, 10)
    assert (alike.top.value, alike.entropy.value) == (pytest.approx(0.1), pytest.approx(1.0))
    assert alike.most_frequent == 0


def test_chance_is_drawn_from_the_seed():
    one, again, other = (fall_back_concentration([0, 1], 9, seed=s) for s in (0, 0, 1))
    assert one == again
    assert one.entropy.chance != other.entropy.chance


@pytest.mark.parametrize("nearest", [[], [-1], [0, 5]])
def test_a_nearest_demonstration_that_does_not_exist_is_refused(nearest):
    with pytest.raises(DataError, match="one number of 0 to 4 per roll-out is needed"):
        fall_back_concentration(nearest, 5)


@pytest.mark.parametrize(("demonstrations", "seed"), [(1, 0), (0, 0), (5, -1)])
def test_concentration_on_a_single_demonstration_says_nothing(demonstrations, seed):
    with pytest.raises(ConfigurationError, match="two demonstrations and a seed of at least 0"):
        fall_back_concentration([0], demonstrations, seed=seed)
