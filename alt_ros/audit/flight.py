"""What the executor did with the chunks that came: commands, states, seams, limits, latencies."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alt_ros.audit.command_replay import DIFFERS, FOLLOWS, UNKNOWN, CommandReplay
from alt_ros.audit.commands import SENDING, CommandAudit, Motion
from alt_ros.lookup.table import Table
from alt_ros.memorisation.similarity import copy_score
from alt_ros.memorisation.trajectory_distance import DTW, Trajectory, TrajectoryDistance
from alt_ros.messages import chunk_of, nanoseconds, opening_of, pose_of, stamp_of
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.safety import SafetyLimits
from alt_ros.types import NANOSECONDS, ActionChunk

Array = NDArray[np.float64]

STAGES = (
    "sensor to observation",
    "encoder",
    "policy",
    "transport",
    "to the first command",
)
COPY = 1e-6
"""Metres: a chunk nearer to a training chunk is a copy of it."""
STATE_DELAY = 100_000_000
_CHUNKS_KEPT = 200


class SeenState(NamedTuple):
    """A state of the executor, its log time in ns."""

    at: int
    state: str
    reason: str


class Seam(NamedTuple):
    """A change of chunks: log time (ns), steps of the command's velocity and acceleration."""

    at: int
    velocity_step: float
    acceleration_step: float


class Executed(NamedTuple):
    """A chunk that was followed: log time (ns), metres to the nearest training chunk, whose."""

    at: int
    distance: float
    demonstration: int


@dataclass(frozen=True)
class _Came:
    """A chunk and when it came, ns; its age at publication and its times, s."""

    chunk: ActionChunk
    at: int
    encode: float
    policy: float


class Flight:
    """Takes what the executor heard and said, in log order.

    Args:
        table: The demonstrations, to tell copies by.
        limits: The executor's.
        horizon: The executor's.
        control_period: In which the set-point moves, ns.

    Attributes:
        states: Every state that differs from the one before.
        motions: Of every command that has one before it.
        seams: At every change of chunks that is explained.
        executed: The chunks that were followed, each once.
        latencies: Log time of the first command of a chunk (ns), and its stages, s.
        limits_audit: What the commands exceed.
        replay: What each command was.
        policies: Names of the policies whose chunks came.
    """

    def __init__(
        self,
        table: Table,
        limits: SafetyLimits,
        horizon: HorizonConfig,
        control_period: int,
    ) -> None:
        self.states: list[SeenState] = []
        self.motions: list[Motion] = []
        self.seams: list[Seam] = []
        self.executed: list[Executed] = []
        self.latencies: list[tuple[int, tuple[float, ...]]] = []
        self.limits_audit = CommandAudit(limits, control_period, STATE_DELAY)
        self.replay = CommandReplay(limits, horizon, control_period)
        self.policies: set[str] = set()
        self._table = table
        self._horizon = horizon
        self._period = control_period / NANOSECONDS
        self._training = [
            Trajectory.of_actions(table.actions[table.rows(number)], table.layout)
            for number in range(table.demonstrations)
        ]
        self._distance = TrajectoryDistance(DTW)
        self._poses: deque[tuple[int, int, Array]] = deque()
        self._grippers: deque[float] = deque()
        self._came: dict[int, _Came] = {}
        self._published: dict[int, float] = {}
        self._answered = 0
        self._by_stamp: dict[int, Motion] = {}

    def observation(self, message: Any) -> None:
        """Take a logged observation's age."""
        self._published[stamp_of(message)] = nanoseconds(message.age) / NANOSECONDS
        _forget(self._published)

    def chunk(self, at: int, message: Any) -> None:
        """Take a chunk of any role.

        Raises:
            DataError: It is damaged.
        """
        chunk = chunk_of(message)
        self.policies.add(str(message.policy))
        came = _Came(chunk, at, float(message.encode_seconds), float(message.policy_seconds))
        self._came[chunk.stamp] = came
        _forget(self._came)
        self.replay.chunk(chunk, at)

    def pose(self, at: int, message: Any) -> None:
        """Take the arm's measured pose."""
        self.replay.measured_pose(pose_of(message.pose), at)

    def gripper(self, message: Any, joint: str) -> None:
        """Take the gripper's state.

        Raises:
            DataError: The joint is not in it.
        """
        self.replay.measured_gripper(opening_of(message, joint))

    def state(self, at: int, message: Any) -> None:
        """Take the executor's state."""
        state, reason = str(message.state), str(message.reason)
        if not self.states or self.states[-1][1:] != (state, reason):
            self.states.append(SeenState(at, state, reason))
        self.limits_audit.state(state, at)
        if state == "armed":
            self.replay.armed(stamp_of(message))
        if state not in SENDING:
            self.replay.released(at)

    def target_pose(self, at: int, message: Any) -> None:
        """Take a commanded pose."""
        self._poses.append((at, stamp_of(message), pose_of(message.pose)))
        self._command()

    def target_gripper(self, message: Any) -> None:
        """Take a commanded opening."""
        self._grippers.append(float(message.data))
        self._command()

    def finish(self) -> None:
        """Answer what waits."""
        self.replay.finish()
        self._look()

    def _command(self) -> None:
        while self._poses and self._grippers:
            at, stamp, pose = self._poses.popleft()
            gripper = self._grippers.popleft()
            self.limits_audit.command(stamp, pose, gripper, at)
            motion = self.limits_audit.motion
            if motion is not None:
                self.motions.append(motion)
                self._by_stamp[stamp] = motion
                _forget(self._by_stamp)
            self.replay.command(stamp, pose, gripper, at)
            self._look()

    def _look(self) -> None:
        """Look at the commands that the replay has explained since."""
        done = self.replay.done
        for number in range(self._answered, len(done)):
            command = done[number]
            if not command.took_over:
                continue
            came = self._came.get(command.chunk_stamp)
            if came is None:
                continue
            self._latency(command.at, came)
            self._copy(command.at, came.chunk)
            if number and done[number - 1].what == FOLLOWS:
                self._seam(command.stamp, done[number - 1].stamp)
        self._answered = len(done)

    def _latency(self, at: int, came: _Came) -> None:
        age = self._published.get(came.chunk.stamp)
        if age is None:
            return
        whole = (came.at - came.chunk.stamp) / NANOSECONDS
        transport = max(whole - age - came.encode - came.policy, 0.0)
        waits = max((at - came.at) / NANOSECONDS, 0.0)
        self.latencies.append((at, (age, came.encode, came.policy, transport, waits)))

    def _copy(self, at: int, chunk: ActionChunk) -> None:
        rows = min(len(chunk.actions), self._horizon.action_horizon)
        if chunk.layout != self._table.layout or rows > max(map(len, self._training)):
            return
        followed = Trajectory.of_actions(chunk.actions[:rows], chunk.layout)
        copy = copy_score(followed, self._training, self._distance)
        self.executed.append(Executed(at, copy.distance, copy.demonstration))

    def _seam(self, stamp: int, before: int) -> None:
        now, last = self._by_stamp.get(stamp), self._by_stamp.get(before)
        if now is None or last is None:
            return
        velocity = now.linear_acceleration * self._period
        acceleration = abs(now.linear_acceleration - last.linear_acceleration)
        self.seams.append(Seam(now.at, velocity, acceleration))

    @property
    def explained(self) -> tuple[int, int, int, int | None]:
        """Commands that are as the code gives them, that differ, not known, and the first one."""
        done = self.replay.done
        differing = [command for command in done if command.what == DIFFERS]
        unknown = sum(command.what == UNKNOWN for command in done)
        equal = len(done) - len(differing) - unknown
        return equal, len(differing), unknown, differing[0].at if differing else None


def _forget(by_stamp: dict[int, Any]) -> None:
    if len(by_stamp) > _CHUNKS_KEPT:
        del by_stamp[next(iter(by_stamp))]
