import numpy as np
import pytest

from alt_ros.policies.policy import Policy, PolicyOutput
from alt_ros.studies.rollouts import Rollouts, rolled_out
from alt_ros.types import ActionChunk, ActionLayout


class Still(Policy):
    """Stays where it is, ten actions long."""

    views = ("wrist", "third_person")
    layout = ActionLayout(1)
    period = 50_000_000
    horizon = 10

    def reset(self) -> None:
        pass

    def observe(self, observation) -> None:
        pass

    def act(self, observation) -> PolicyOutput:
        row = np.concatenate([observation.poses[0, :3], [1, 0, 0, 0, -1, 0, 0.08]])
        actions = np.tile(row, (self.horizon, 1))
        return PolicyOutput(
            ActionChunk(observation.stamp, self.period, actions, self.layout), None
        )


def test_what_was_followed_of_each_chunk_is_a_segment():
    actions = np.arange(70.0).reshape(7, 10)
    rollouts = Rollouts(
        np.array([True]), np.array([3]), [actions], [np.array([0, 0, 0, 5, 5, 9, 9])]
    )
    segments = rollouts.segments(0)
    assert [len(s) for s in segments] == [3, 2, 2]
    assert np.array_equal(np.concatenate(segments), actions)


def test_an_episode_without_an_action_has_no_segment():
    empty = Rollouts(
        np.array([False]), np.array([0]), [np.zeros((0, 10))], [np.zeros(0, np.int64)]
    )
    assert empty.segments(0) == []


def test_roll_outs_are_kept_and_those_of_another_policy_are_run_again(tmp_path):
    made = []

    def make() -> Policy:
        made.append(1)
        return Still()

    def roll(identity: str) -> Rollouts:
        return rolled_out(
            tmp_path / "kept.npz",
            identity,
            make,
            "ind",
            1,
            seed=0,
            action_horizon=4,
            act_every=4,
        )

    first = roll("a")
    again = roll("a")
    assert len(made) == 1
    assert not first.success.any()
    assert np.array_equal(first.actions[0], again.actions[0])
    assert np.array_equal(first.chunks[0], again.chunks[0])
    # Ta = 4 observations of each chunk, and the arm stands still for 7 s.
    assert {len(segment) for segment in first.segments(0)[:-1]} == {4}
    assert len(first.actions[0]) == pytest.approx(140, abs=2)
    roll("b")
    assert len(made) == 2


def test_a_damaged_file_is_run_again(tmp_path):
    (tmp_path / "kept.npz").write_bytes(b"PK\x03\x04 cut off")
    rollouts = rolled_out(
        tmp_path / "kept.npz", "a", Still, "ind", 1, seed=0, action_horizon=8, act_every=8
    )
    assert len(rollouts) == 1
