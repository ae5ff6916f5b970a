"""Commands of the real executor explained from chunks and poses alone, and a false one told."""

from __future__ import annotations

import numpy as np
import pytest

from alt_ros.audit.command_replay import BRAKES, DIFFERS, FOLLOWS, UNKNOWN, CommandReplay
from alt_ros.execution import Executor, Moment, SentCommand
from alt_ros.geometry import arm_action
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.safety import AfterOod, SafetyLimits, State
from alt_ros.types import ActionChunk, ActionLayout, Neighbour, OodDecision

MS = 1_000_000
TICK, FRAME = 10 * MS, 50 * MS
START = 5_000 * MS
LIMITS = SafetyLimits(workspace_low=(-2.0, -2.0, -2.0), workspace_high=(2.0, 2.0, 2.0))
HORIZON = HorizonConfig()


def place(stamp: int, side: float) -> np.ndarray:
    seconds = (stamp - START) / 1e9
    return np.array([0.4 + 0.1 * seconds, side, 0.3, 0.0, 0.0, 0.0, 1.0])


def chunk(stamp: int, side: float) -> ActionChunk:
    rows = [
        arm_action(place(stamp + row * FRAME, side)[None], np.array([0.08 - 0.001 * row]))
        for row in range(16)
    ]
    return ActionChunk(stamp, FRAME, np.array(rows), ActionLayout(arms=1))


class Run:
    """The executor on one clock, and what a bag of its run would hold."""

    def __init__(self, noise: float = 0.0) -> None:
        self.executor = Executor(LIMITS, HORIZON, after_ood=AfterOod.HOLD)
        self.replay = CommandReplay(LIMITS, HORIZON)
        self.pose = place(START, 0.0)
        self.sent: list[SentCommand] = []
        self.noise = np.random.default_rng(0)
        self.scale = noise

    def tick(self, now: int, side: float = 0.0, flag: bool = False) -> None:
        """Give what comes at an instant, and step."""
        at = Moment.of(now)
        measured = self.pose.copy()
        measured[:3] += self.scale * self.noise.normal(size=3)
        self.executor.observe_pose(measured, now, at)
        self.executor.observe_gripper(0.08)
        self.replay.measured_pose(measured, now)
        self.replay.measured_gripper(0.08)
        if now % FRAME == 0:
            made = chunk(now - 30 * MS, side)
            self.executor.observe_observation(at)
            decision = OodDecision(flag, 0.0, 1.0, Neighbour(0, 0, 1.0))
            self.executor.observe_ood(decision, at)
            if not flag:
                self.executor.offer_chunk(made, at)
                self.replay.chunk(made, now + 7 * MS)
        sent = self.executor.step(at)
        if sent is None:
            if self.executor.state in (State.STOPPED, State.IDLE, State.FAULT):
                self.replay.released(now)
            return
        self.pose = sent.command.pose.copy()
        self.sent.append(sent)

    def log(self, sent: SentCommand) -> None:
        """Log a command, a little after it was sent."""
        command = sent.command
        self.replay.command(sent.stamp, command.pose, command.gripper, sent.stamp + 3 * MS)


def run_to(run: Run, begin: int, end: int, **what: object) -> None:
    """Tick from one instant to another, and log what was sent."""
    for now in range(begin, end, TICK):
        before = len(run.sent)
        run.tick(now, **what)  # type: ignore[arg-type]
        for sent in run.sent[before:]:
            run.log(sent)


def armed(run: Run) -> int:
    """Let chunks come, arm, and return the instant after."""
    run_to(run, START, START + 300 * MS)
    now = START + 300 * MS
    assert run.executor.arm(Moment.of(now)) == []
    run.replay.armed(now)
    return now


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_every_command_is_explained_bit_for_bit(noise):
    run = Run(noise)
    now = armed(run)
    run_to(run, now, now + 1_000 * MS)
    run_to(run, now + 1_000 * MS, now + 2_000 * MS, side=0.02)  # another demonstration
    run.replay.finish()
    assert len(run.replay.done) == len(run.sent) > 150
    assert {done.what for done in run.replay.done} == {FOLLOWS}
    assert all(done.exact for done in run.replay.done)
    said = [done.chunk_stamp for done in run.replay.done]
    # Chunks of one motion give the same commands: which was followed shows where they differ.
    true = [sent.chunk_stamp for sent in run.sent]
    assert np.mean([ours == theirs for ours, theirs in zip(said, true, strict=True)]) > 0.5


def test_braking_and_going_on_are_explained():
    run = Run()
    now = armed(run)
    run_to(run, now, now + 700 * MS)
    run_to(run, now + 700 * MS, now + 1_500 * MS, flag=True)
    run_to(run, now + 1_500 * MS, now + 2_500 * MS)
    run.replay.finish()
    kinds = [done.what for done in run.replay.done]
    assert len(kinds) == len(run.sent)
    assert BRAKES in kinds
    assert kinds[0] == kinds[-1] == FOLLOWS
    assert DIFFERS not in kinds
    assert UNKNOWN not in kinds


def test_a_command_that_the_code_does_not_give_is_told_and_the_next_start_known_again():
    run = Run()
    now = armed(run)
    for tick in range(now, now + 600 * MS, TICK):
        before = len(run.sent)
        run.tick(tick)
        for sent in run.sent[before:]:
            if sent.stamp == now + 300 * MS:
                sent.command.pose[1] += 1e-4
            run.log(sent)
    run.executor.stop()
    run.replay.released(now + 600 * MS)
    later = now + 600 * MS
    run_to(run, later, later + 200 * MS)
    assert run.executor.arm(Moment.of(later + 200 * MS)) == []
    run.replay.armed(later + 200 * MS)
    run_to(run, later + 200 * MS, later + 500 * MS)
    run.replay.finish()
    done = run.replay.done
    (false,) = [command for command in done if command.what == DIFFERS]
    assert false.stamp == now + 300 * MS
    after = [c.what for c in done if false.stamp < c.stamp < later]
    assert set(after) == {UNKNOWN}
    assert {c.what for c in done if c.stamp > later} == {FOLLOWS}


def test_without_chunks_nothing_is_said():
    replay = CommandReplay(LIMITS, HORIZON)
    replay.command(START, place(START, 0.0), 0.08, START)
    replay.finish()
    assert [done.what for done in replay.done] == [UNKNOWN]
