"""Roll-outs in process: a policy that knows the cup, and flags at the start and on the way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from alt_ros.geometry import arm_action
from alt_ros.policies.policy import Policy, PolicyOutput
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.expert import ScriptedExpert
from alt_ros.simulation.rollout import FRAME_PERIOD, Episode, run_episode, wilson_interval
from alt_ros.simulation.scenarios import scenario
from alt_ros.simulation.scene import CupPlacement
from alt_ros.types import NANOSECONDS, ActionChunk, ActionLayout, Neighbour, OodDecision

CONTROL_RATE = 100
BRAKING = 0.35 / 2.0
"""Speed over acceleration of the default limits, s."""


class ExpertPolicy(Policy):
    """Plans as the scripted expert does; says which demonstration it follows."""

    views = CupGraspSimulation.VIEWS
    layout = ActionLayout(arms=1)
    period = FRAME_PERIOD
    horizon = 16

    def __init__(self, placement: CupPlacement, flag_after: float = math.inf) -> None:
        self.placement = placement
        self.flag_after = flag_after
        self.reset()

    def reset(self) -> None:
        self.expert = ScriptedExpert(self.placement)
        self.start: int | None = None

    def observe(self, observation) -> None:
        self.act(observation)

    def act(self, observation) -> PolicyOutput:
        assert set(observation.images) == set(self.views)
        stamp, pose, opening = observation.stamp, observation.poses[0], observation.grippers[0]
        self.start = stamp if self.start is None else self.start
        first = self.expert.command(stamp, pose, opening)  # the first call of all starts the plan
        later = [
            self.expert.command(stamp + n * self.period, pose, opening)
            for n in range(1, self.horizon)
        ]
        poses, openings = zip(first, *later, strict=True)
        seconds = (stamp - self.start) / NANOSECONDS
        source = Neighbour(3 if seconds < 0.5 else 11, 0, 0.9)
        chunk = ActionChunk(
            stamp,
            self.period,
            arm_action(np.array(poses)[:, None], np.array(openings)[:, None]),
            self.layout,
            source,
        )
        flag = seconds >= self.flag_after
        return PolicyOutput(chunk, OodDecision(flag, 0.9, 0.8, source))


@pytest.fixture(scope="module")
def undisturbed(simulation: CupGraspSimulation) -> Episode:
    ind = scenario("ind")
    return run_episode(simulation, ExpertPolicy(ind.trial(0).placement), ind, 0)


def test_a_policy_that_knows_the_cup_lifts_it(undisturbed):
    assert undisturbed.success
    assert (undisturbed.scenario, undisturbed.trial, undisturbed.expected) == ("ind", 0, 0)
    assert not undisturbed.flagged
    assert math.isnan(undisturbed.flag_delay)
    assert 2.0 < undisturbed.seconds < 7.0
    assert undisturbed.reason.startswith("running: ")


def test_there_is_a_command_in_every_control_period_once_it_is_armed(undisturbed):
    periods = undisturbed.seconds * CONTROL_RATE
    assert periods - 10 <= undisturbed.commands <= periods


def test_the_demonstration_of_most_commands_is_the_recalled_one(undisturbed):
    assert undisturbed.recalled == 11, "0.5 s came from 3, the rest from 11"


def test_the_path_holds_one_position_per_observation_and_ends_lifted(undisturbed):
    frames = math.ceil(undisturbed.seconds * NANOSECONDS / FRAME_PERIOD)
    assert undisturbed.poses.shape == (frames, 7)
    lowest = undisturbed.poses[:, 2].min()
    assert undisturbed.poses[-1, 2] > lowest + 0.05


def test_the_same_policy_and_trial_give_the_same_episode(simulation, undisturbed):
    ind = scenario("ind")
    again = run_episode(simulation, ExpertPolicy(ind.trial(0).placement), ind, 0)
    np.testing.assert_array_equal(again.poses, undisturbed.poses)
    assert again.commands == undisturbed.commands


def test_a_policy_that_believes_the_cup_elsewhere_fails_in_the_time_given(simulation):
    elsewhere = CupPlacement(0.42, -0.12, 0.0)
    episode = run_episode(simulation, ExpertPolicy(elsewhere), scenario("ind"), 0, max_seconds=5.0)
    assert not episode.success
    assert episode.seconds == pytest.approx(5.0, abs=0.011)
    assert episode.commands > 0


def test_a_flag_from_the_start_lets_no_command_out(simulation):
    ind = scenario("ind")
    policy = ExpertPolicy(ind.trial(0).placement, flag_after=0.0)
    episode = run_episode(simulation, policy, ind, 0, max_seconds=1.0)
    assert (episode.commands, episode.recalled) == (0, -1)
    assert (episode.flagged, episode.flag_delay, episode.success) == (True, 0.0, False)
    assert np.ptp(episode.poses[:, :3], axis=0).max() < 2e-3, "the arm stands still"


def test_a_flag_on_the_way_ends_the_commands_within_the_braking_time(simulation):
    ind = scenario("ind")
    policy = ExpertPolicy(ind.trial(0).placement, flag_after=0.4)
    episode = run_episode(simulation, policy, ind, 0, max_seconds=2.5)
    assert (episode.flagged, episode.flag_delay) == (True, pytest.approx(0.4))
    assert not episode.success
    before = 0.4 * CONTROL_RATE
    assert before - 10 <= episode.commands <= before + BRAKING * CONTROL_RATE + 1
    assert episode.reason == "holding: scene is out of distribution"
    moved = np.linalg.norm(np.diff(episode.poses[:, :3], axis=0), axis=1)
    assert moved[7] > 5e-3, "it moved when the flag went up"
    assert moved[-20:].max() < 1e-3, "and came to rest"


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.959964
        (10, 10, 0.7225, 1.0),
        (0, 10, 0.0, 0.2775),
        (9, 10, 0.5958, 0.9821),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_the_interval_is_wilsons(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)
