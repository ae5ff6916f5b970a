"""Push-T: the recorded demonstrations decide whether this is the environment they came from."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.zarr_replay_buffer import ZarrReplayBuffer
from alt_ros.errors import ConfigurationError, DataError, DependencyError
from alt_ros.policies.policy import Policy, PolicyOutput
from alt_ros.simulation.push_t import (
    LAYOUT,
    PERIOD,
    SUCCESS_COVERAGE,
    VIEW,
    PushTSimulation,
    run_push_t_episode,
)
from alt_ros.types import ActionChunk, ActionLayout

HAS_PUSH_T = importlib.util.find_spec("gym_pusht") is not None
needs_push_t = pytest.mark.skipif(
    not HAS_PUSH_T, reason="PUSH-T NOT TESTED: pip install --no-deps gym-pusht"
)
STARTS = {
    0: (222.0, 97.0, 222.99382, 381.59903, 3.0079994),
    3: (412.0, 202.0, 323.35718, 312.97900, 3.7479041),
    50: (226.0, 445.0, 253.86625, 430.53296, 1.4936743),
    150: (278.0, 75.0, 349.40363, 331.92505, 3.1993220),
}
"""First recorded state of some human demonstrations; each was begun from its number as seed."""


@pytest.fixture(scope="module")
def recorded() -> ZarrReplayBuffer:
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    path = Path(os.environ.get("ALT_ROS_SHARED_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: '{path}' is absent, set ALT_ROS_SHARED_DATA")
    return ZarrReplayBuffer(path / "pusht_human" / "pusht_cchi_v7_replay.zarr.zip")


@pytest.fixture(scope="module")
def simulation() -> PushTSimulation:
    return PushTSimulation()


class Scripted(Policy):
    """Plays a list of targets, a chunk at a time, and notes what it was shown."""

    views = (VIEW,)
    layout = LAYOUT
    period = PERIOD
    horizon = 16

    def __init__(self, targets, length: int = 16) -> None:
        self.targets, self.length = np.asarray(targets, np.float64), length
        self.reset()

    def reset(self) -> None:
        self.acted: list[int] = []
        self.observed: list[int] = []
        self.seen: list[np.ndarray] = []

    def observe(self, observation) -> None:
        self.observed.append(observation.stamp)
        self.seen.append(observation.state)

    def act(self, observation) -> PolicyOutput:
        self.acted.append(observation.stamp)
        row = len(self.seen)
        self.seen.append(observation.state)
        rows = self.targets[row : row + self.length]
        if not len(rows):
            return PolicyOutput(None, None)
        return PolicyOutput(ActionChunk(observation.stamp, PERIOD, rows, LAYOUT), None)


def replay(simulation: PushTSimulation, demonstration: Demonstration) -> tuple[np.ndarray, float]:
    """Return the states (n + 1, 5) and the largest coverage of the recorded actions."""
    simulation.reset_to(demonstration.state[0])
    states = [simulation.observation().state]
    coverages: list[float] = []
    for target in demonstration.actions:
        coverages.append(simulation.step(target))
        states.append(simulation.observation().state)
    return np.array(states), max(coverages)


@needs_push_t
@pytest.mark.parametrize("seed", STARTS)
def test_a_seed_begins_where_the_demonstration_of_its_number_began(simulation, seed):
    simulation.reset(seed)
    np.testing.assert_allclose(simulation.observation().state, STARTS[seed], atol=1e-4)


@needs_push_t
def test_the_state_of_a_reset_is_the_one_that_was_asked_for(simulation):
    for state in STARTS.values():
        simulation.reset_to(state)
        np.testing.assert_allclose(simulation.observation().state, state, atol=1e-9)


@needs_push_t
@settings(max_examples=20)
@given(
    st.tuples(*[st.floats(60.0, 100.0)] * 2, *[st.floats(250.0, 300.0)] * 2, st.floats(-9.0, 9.0))
)
def test_any_state_without_contact_is_given_back(simulation, state):
    simulation.reset_to(state)
    seen = simulation.observation().state
    np.testing.assert_allclose(seen[:4], state[:4], atol=1e-9)
    assert 0.0 <= seen[4] <= 2.0 * np.pi
    assert np.cos(seen[4] - state[4]) == pytest.approx(1.0)


@needs_push_t
def test_recorded_actions_end_where_the_recording_ends(simulation, recorded):
    for number in (0, 60, 205):
        demonstration = recorded[number]
        states, coverage = replay(simulation, demonstration)
        np.testing.assert_allclose(states[:-1, :4], demonstration.state[:, :4], atol=0.01)
        assert 0.86 < coverage < 0.97, "a person ends with nine tenths of the outline covered"


@needs_push_t
def test_the_live_picture_is_the_recorded_one_but_for_some_pixels_of_edges(simulation, recorded):
    for number in (3, 90):
        demonstration = recorded[number]
        for frame in range(0, len(demonstration.stamps), 20):
            simulation.reset_to(demonstration.state[frame])
            live = simulation.observation().images[VIEW].astype(int)
            difference = np.abs(live - demonstration.images[VIEW][frame])
            assert difference.mean() < 0.2, f"demonstration {number}, frame {frame}"
            assert (difference.max(axis=2) > 0).sum() < 80


@needs_push_t
def test_the_picture_and_the_state_follow_the_finger(simulation):
    simulation.reset_to((100.0, 100.0, 300.0, 300.0, 0.0))
    before = simulation.observation()
    for _ in range(20):
        simulation.step((140.0, 100.0))
    after = simulation.observation()
    np.testing.assert_allclose(after.state, (140.0, 100.0, 300.0, 300.0, 0.0), atol=1.0)
    assert after.stamp - before.stamp == 20 * PERIOD
    for seen in (before, after):
        column, row = np.rint(seen.state[:2] * 96 / 512 - 0.5).astype(int)
        red, _, blue = seen.images[VIEW][row, column].astype(int)
        assert blue > red + 100, "the finger is blue"
    assert tuple(before.images) == (VIEW,)
    assert before.images[VIEW].shape == (96, 96, 3)


@needs_push_t
def test_an_observation_outlives_the_next_step(simulation):
    simulation.reset(1)
    seen = simulation.observation()
    image, state = seen.images[VIEW].copy(), seen.state.copy()
    for _ in range(5):
        simulation.step((0.0, 0.0))
    np.testing.assert_array_equal(seen.images[VIEW], image)
    np.testing.assert_array_equal(seen.state, state)
    assert not np.array_equal(simulation.observation().state, state)


@needs_push_t
def test_a_t_on_its_outline_covers_all_of_it(simulation):
    simulation.reset_to((50.0, 50.0, 256.0, 256.0, np.pi / 4))
    assert simulation.step((50.0, 50.0)) == pytest.approx(1.0)
    simulation.reset_to((50.0, 50.0, 450.0, 100.0, np.pi / 4))
    assert simulation.step((50.0, 50.0)) == 0.0


@needs_push_t
def test_the_policy_acts_every_horizon_and_observes_between(simulation):
    policy = Scripted(np.full((20, 2), 30.0))
    episode = run_push_t_episode(simulation, policy, 7, action_horizon=8, max_steps=20)
    steps = (np.array(policy.acted) - policy.acted[0]) // PERIOD
    np.testing.assert_array_equal(steps, [0, 8, 16])
    stamps = sorted(policy.acted + policy.observed)
    np.testing.assert_array_equal(np.diff(stamps), PERIOD)
    assert len(stamps) == 20
    np.testing.assert_array_equal(policy.seen, episode.states[:-1])
    assert len(episode.answer_ms) == 3
    assert (episode.answer_ms > 0.0).all()


@needs_push_t
def test_the_executed_actions_are_the_chunks_in_order(simulation):
    targets = np.random.default_rng(0).uniform(200.0, 300.0, (20, 2))
    episode = run_push_t_episode(simulation, Scripted(targets), 7, action_horizon=6, max_steps=20)
    np.testing.assert_array_equal(episode.actions, targets)
    assert episode.states.shape == (21, 5)


@needs_push_t
def test_a_chunk_that_ends_early_is_asked_for_again(simulation):
    policy = Scripted(np.full((9, 2), 100.0), length=3)
    run_push_t_episode(simulation, policy, 7, action_horizon=8, max_steps=9)
    steps = (np.array(policy.acted) - policy.acted[0]) // PERIOD
    np.testing.assert_array_equal(steps, [0, 3, 6])


@needs_push_t
def test_without_a_chunk_the_finger_stays_and_the_policy_is_asked_at_every_step(simulation):
    policy = Scripted(np.zeros((0, 2)))
    episode = run_push_t_episode(simulation, policy, 7, max_steps=4)
    assert len(policy.acted) == 4
    np.testing.assert_array_equal(episode.actions, [episode.states[0, :2]] * 4)
    np.testing.assert_allclose(episode.states[:, :2], episode.states[:1, :2].repeat(5, axis=0))


@needs_push_t
def test_the_score_is_the_largest_reward_and_the_coverage_the_last(simulation, recorded):
    demonstration = recorded[0]
    _, largest = replay(simulation, demonstration)
    away = np.repeat([[256.0, 60.0]], 5, axis=0)  # the finger leaves, the T stays
    policy = Scripted(np.concatenate([demonstration.actions, away]))
    steps = len(policy.targets)
    episode = run_push_t_episode(simulation, policy, 0, max_steps=steps)
    assert episode.score == pytest.approx(largest / SUCCESS_COVERAGE, abs=1e-3)
    assert not episode.success
    assert len(episode.actions) == steps
    start = run_push_t_episode(simulation, policy, 0, max_steps=40)
    assert start.score < episode.score
    assert len(start.actions) == 40


@needs_push_t
def test_success_ends_the_episode_with_a_score_of_one(simulation, recorded):
    number = 51  # one of the seven people's episodes whose recorded actions reach 95 %
    demonstration = recorded[number]
    policy = Scripted(np.concatenate([demonstration.actions, np.full((50, 2), 256.0)]))
    episode = run_push_t_episode(simulation, policy, number)
    assert episode.success
    assert episode.score == 1.0
    assert episode.coverage > SUCCESS_COVERAGE
    assert len(episode.actions) <= len(demonstration.actions)


@needs_push_t
def test_an_episode_is_the_same_again_whatever_ran_before(simulation):
    targets = np.random.default_rng(1).uniform(150.0, 350.0, (30, 2))
    first, again = Scripted(targets), Scripted(targets)
    one = run_push_t_episode(simulation, first, 11, max_steps=30)
    run_push_t_episode(simulation, Scripted(targets[::-1]), 12, max_steps=30)
    two = run_push_t_episode(simulation, again, 11, max_steps=30)
    np.testing.assert_array_equal(one.states, two.states)
    np.testing.assert_array_equal(one.picture, two.picture)
    assert first.acted == again.acted, "stamps decide what a policy draws"


@needs_push_t
def test_no_two_seeds_share_a_stamp(simulation):
    spans = []
    for seed in (100_000, 100_001):
        policy = Scripted(np.full((300, 2), 256.0))
        run_push_t_episode(simulation, policy, seed, max_steps=3)
        spans.append(policy.acted[0])
    assert spans[1] - spans[0] > 300 * PERIOD


@needs_push_t
def test_a_policy_of_another_robot_is_refused(simulation):
    arm, slow, wrist = (Scripted(np.zeros((1, 2))) for _ in range(3))
    arm.layout = ActionLayout(arms=1)
    slow.period = 2 * PERIOD
    wrist.views = ("wrist",)
    with pytest.raises(ConfigurationError, match=r"takes actions of ActionLayout\(arms=0"):
        run_push_t_episode(simulation, arm, 0)
    with pytest.raises(ConfigurationError, match="every 200000000 ns"):
        run_push_t_episode(simulation, slow, 0)
    with pytest.raises(ConfigurationError, match=r"has the view 'img', the policy needs \['wrist"):
        run_push_t_episode(simulation, wrist, 0)


@needs_push_t
def test_what_makes_no_sense_is_refused(simulation):
    policy = Scripted(np.zeros((1, 2)))
    for wrong in ({"action_horizon": 0}, {"max_steps": 0}):
        with pytest.raises(ConfigurationError, match="must be at least 1"):
            run_push_t_episode(simulation, policy, 0, **wrong)
    for seed in (-1, 10**8):
        with pytest.raises(ConfigurationError, match=f"must be 0 to 99999999, got {seed}"):
            simulation.reset(seed)
    with pytest.raises(DataError, match="a state is five finite numbers"):
        simulation.reset_to((1.0, 2.0))
    with pytest.raises(DataError, match=r"two finite numbers \(x, y\), got \[nan"):
        simulation.step((np.nan, 0.0))


def test_without_gym_pusht_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gym_pusht.envs.pusht", None)
    with pytest.raises(DependencyError, match="pip install --no-deps gym-pusht"):
        PushTSimulation()


@needs_push_t
def test_a_pymunk_that_is_too_new_is_named(monkeypatch):
    import pymunk

    monkeypatch.delattr(pymunk.Space, "add_collision_handler")
    with pytest.raises(DependencyError, match="needs pymunk before 7, it is"):
        PushTSimulation()
