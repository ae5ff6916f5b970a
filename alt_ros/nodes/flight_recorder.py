"""Listens to commands and states, and judges them: what drills and the soak test go by."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64, Header

from alt_ros.audit.commands import CommandAudit
from alt_ros.geometry import pose_distance
from alt_ros.messages import pose_of, stamp_of
from alt_ros.msg import ActionChunk, Embedding, ExecutorState, OodFlag
from alt_ros.nodes.node import COMMAND
from alt_ros.safety import SafetyLimits

# The listener must not lose what the arm gets: room for ten seconds of commands.
EVERYTHING = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE
)
# The same, without what a broken network held back: as the arm's own subscription has it.
IN_TIME = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1000,
    reliability=ReliabilityPolicy.RELIABLE,
    lifespan=COMMAND.lifespan,
)
EVERY_STATE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
STATE_DELAY = 100_000_000
"""Commands that were sent before a state may arrive after it, on a loaded machine, ns."""
SLOWER = 1e-9
"""A command that moves less than the one before by this brakes, m."""
RUNNING = "running"


class SeenState(NamedTuple):
    """A state of the executor, when it came (s, monotonic clock), and its stamp (ns)."""

    arrival: float
    state: str
    reason: str
    stamp: int


class SeenCommand(NamedTuple):
    """A command, when it came (s, monotonic clock), and how far it moves from the one before."""

    arrival: float
    metres: float
    radians: float


class FlightRecorder:
    """Everything sent to the arm since ``begin``, judged as it comes.

    Args:
        node: A node that is being spun; listens from here on.
        commands: How it listens to commands: EVERYTHING or IN_TIME. The latter loses what it has
            no time to look at.

    Attributes:
        audit: What the commands exceed.
        states: Every state that differs from the one before.
        commands: Every command.
        observed, embedded, decided, recalled: Stamps of the observations, embeddings, decisions
            and chunks that came.
        newest: Stamp of the last command, ns on the executor's clock; 0 before one.
        executor_counters: What the executor's diagnostics said last.
    """

    def __init__(self, node: Node, commands: QoSProfile = EVERYTHING) -> None:
        self._lock = threading.Lock()
        self.begin()
        subscribe = node.create_subscription
        self.executor_counters: dict[str, str] = {}
        subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics, EVERYTHING)
        subscribe(ExecutorState, "alt/state", self._on_state, EVERY_STATE)
        subscribe(PoseStamped, "target_pose", self._on_pose, commands)
        subscribe(Float64, "target_gripper", self._on_gripper, commands)
        subscribe(Header, "alt/observation_stamp", self._on_observation, EVERYTHING)
        subscribe(Embedding, "alt/embedding", self._on_embedding, EVERYTHING)
        subscribe(OodFlag, "alt/ood", self._on_decision, EVERYTHING)
        subscribe(ActionChunk, "alt/action_chunk", self._on_chunk, EVERYTHING)

    def begin(self) -> None:
        """Forget what was seen, and judge anew."""
        with self._lock:
            self.audit = CommandAudit(SafetyLimits(), state_delay=STATE_DELAY)
            self.states: list[SeenState] = []
            self.commands: list[SeenCommand] = []
            self.observed: set[int] = set()
            self.embedded: set[int] = set()
            self.decided: set[int] = set()
            self.recalled: set[int] = set()
            self._poses: deque[tuple[int, int, PoseStamped]] = deque()  # arrival, sent
            self._grippers: deque[tuple[int, float]] = deque()  # sent
            self._last: NDArray[np.float64] | None = None
            self.newest = 0

    def forget_halves(self) -> None:
        """Forget poses that still wait for their opening: the executor was killed between both."""
        with self._lock:
            self._poses.clear()
            self._grippers.clear()
            self._last = None

    def entered(self, state: str, reason: str, since: float) -> SeenState | None:
        """Return the first entry of a state, for a reason that holds these words, since then."""
        for seen in list(self.states):
            if seen.arrival >= since and seen.state == state and reason in seen.reason:
                return seen
        return None

    def last_command(self, since: float, until: float = math.inf) -> float:
        """Return when the last command came between two times; ``since`` if none did."""
        times = [c.arrival for c in list(self.commands) if since <= c.arrival < until]
        return times[-1] if times else since

    def last_following_command(self, since: float, until: float) -> float:
        """Return when the last command came that does not brake; ``since`` if none did.

        Args:
            since: Where to begin, s on the monotonic clock.
            until: Where to end, unless the executor says before that it runs again.
        """
        again = [s.arrival for s in list(self.states) if s.arrival > since and s.state == RUNNING]
        until = min([until, *again])
        at, before = since, None
        for seen in list(self.commands):
            if since <= seen.arrival < until:
                braking = before is not None and (
                    seen.metres <= before.metres - SLOWER or seen.metres < SLOWER
                )
                at = at if braking else seen.arrival
            before = seen
        return at

    def _on_state(self, message: ExecutorState) -> None:
        arrival = time.monotonic()
        with self._lock:
            self.audit.state(message.state, round(arrival * 1e9))
            seen = SeenState(arrival, message.state, message.reason, stamp_of(message))
            if not self.states or self.states[-1][1:3] != seen[1:3]:
                self.states.append(seen)

    def _on_pose(self, message: PoseStamped, info: Any) -> None:
        with self._lock:
            self._poses.append((time.monotonic_ns(), info["source_timestamp"], message))
            self.newest = stamp_of(message)
            self._judge()

    def _on_gripper(self, message: Float64, info: Any) -> None:
        with self._lock:
            self._grippers.append((info["source_timestamp"], message.data))
            self._judge()

    def _judge(self) -> None:
        """Judge the commands of which both halves are there: a pose, the opening sent after it.

        Where a half was lost, as what expires on its way on a machine that stands still, the
        command is as lost as where both were.
        """
        while self._poses and self._grippers:
            sent, opening = self._grippers[0]
            if sent < self._poses[0][1]:
                self._grippers.popleft()
                continue
            arrival, _, message = self._poses.popleft()
            if self._poses and self._poses[0][1] <= sent:
                continue
            self._grippers.popleft()
            pose = pose_of(message.pose)
            self.audit.command(stamp_of(message), pose, opening, arrival)
            moved = (0.0, 0.0) if self._last is None else pose_distance(self._last, pose)
            self._last = pose
            self.commands.append(SeenCommand(arrival / 1e9, *moved))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "alt: executor":
                self.executor_counters = {pair.key: pair.value for pair in status.values}

    def _on_observation(self, message: Header) -> None:
        self.observed.add(message.stamp.sec * 1_000_000_000 + message.stamp.nanosec)

    def _on_embedding(self, message: Embedding) -> None:
        self.embedded.add(stamp_of(message))

    def _on_decision(self, message: OodFlag) -> None:
        self.decided.add(stamp_of(message))

    def _on_chunk(self, message: ActionChunk) -> None:
        self.recalled.add(stamp_of(message))
