"""Judges a stream of commands by the limits, from outside: it shares no code with the set-point.

What is differentiated. Command k holds for its stamp; the duration since command k - 1 is the
difference of their stamps in whole control periods, in which a set-point moves. Speed is
``|p_k - p_(k-1)| / d_k``. For the acceleration the mean velocities of two durations are compared,
``|v_k - v_(k-1)| <= a * (d_k + d_(k-1)) / 2``: what lies between the middles of both, exact for a
velocity that changes by at most ``a * period`` a period, whichever messages were lost. Where the
clock jumped between two commands, their arrivals give the duration: the command is judged by its
speed, and from more than one period on not by its acceleration.

What is not. A first command has no command before it. It starts from rest, at a pose that is not
known here, so the second is judged by what two periods from rest allow. After a gap neither pose
nor velocity is known, since the sender may have stalled or rested: the second command is judged
by its speed, the third by everything.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.safety import SafetyLimits

Array = NDArray[np.float64]

MAX_GAP = 200_000_000
"""Commands further apart than this are not differentiated, ns: to the executor it is a stall."""
MAX_CLOCK_ERROR = 250_000_000
"""Stamps that advance by this much more than the arrivals are a jump of the clock, ns: a late
command may be followed at once by one on time, where those between have expired."""
SENDING = frozenset({"armed", "running", "holding", "returning", "fallback"})
"""States in which commands may be sent."""

_MAX_JUMP_GAP = 100_000_000
_RELATIVE = 1e-6
_METRES = 1e-6


class Violation(NamedTuple):
    """One limit that one command exceeds; SI units."""

    kind: str
    stamp: int
    value: float
    limit: float


class _Sent(NamedTuple):
    """A command, and by how much it came later than its stamp says, after the one before (ns)."""

    stamp: int
    arrival: int
    late: int
    position: Array
    rotation: Rotation
    gripper: float


class Motion(NamedTuple):
    """One command's motion: when it came (ns), m/s, rad/s, m/s^2, rad/s^2; NaN: not known."""

    at: int
    linear_speed: float
    angular_speed: float
    linear_acceleration: float
    angular_acceleration: float


class _Velocities(NamedTuple):
    """Mean velocities over a duration (s)."""

    linear: Array
    angular: Array
    duration: float


class CommandAudit:
    """Collects what a stream of commands exceeds.

    Attributes:
        violations: Everything found, in order of arrival.
        commands: Commands judged.
        starts: How often the stream began: restarts and gaps.
        peaks: Largest speeds and accelerations seen, SI units.
        motion: Of the last command; None where it has none before it.
    """

    def __init__(
        self, limits: SafetyLimits, control_period: int = 10_000_000, state_delay: int = 0
    ) -> None:
        """Take the limits.

        Args:
            limits: What is allowed.
            control_period: In which the set-point moves, ns.
            state_delay: By how much a state may arrive before or after commands that were sent
                the other way round: the two topics are not ordered, ns.
        """
        self.limits = limits
        self.violations: list[Violation] = []
        self.commands = 0
        self.starts = 0
        self.motion: Motion | None = None
        self.peaks = {
            "linear_speed": 0.0,
            "angular_speed": 0.0,
            "linear_acceleration": 0.0,
            "angular_acceleration": 0.0,
            "gripper_speed": 0.0,
        }
        self._period = control_period
        self._state_delay = state_delay
        self._state = ""
        self._state_since = 0
        self._forbidden: list[tuple[int, Violation]] = []
        self._last: _Sent | None = None
        self._before: _Velocities | None = None
        self._low = np.array(limits.workspace_low)
        self._high = np.array(limits.workspace_high)
        self.restart()

    @property
    def counts(self) -> Counter[str]:
        """Violations by kind."""
        return Counter(violation.kind for violation in self.violations)

    def restart(self) -> None:
        """Forget the commands so far: the next one starts from rest, where the arm stands.

        For an operator's arm. A state in which nothing may be sent implies it.
        """
        self._last = None
        # Rest until one period before the first command: its middle lies 1.5 periods before it.
        self._before = _Velocities(np.zeros(3), np.zeros(3), 3.0 * self._period / 1e9)

    def state(self, state: str, arrival: int) -> None:
        """Take the executor's state, as its topic names it.

        Args:
            state: idle, armed, running, holding, returning, fallback, stopped or fault.
            arrival: Time of a monotonic clock, ns.
        """
        if state == self._state:
            return
        if state not in SENDING:
            if self._state in SENDING:
                self._state_since = arrival
            self.restart()
        else:
            for sent, violation in self._forbidden:
                if arrival - sent <= self._state_delay:  # it overtook the state that allows it
                    self.violations.remove(violation)
        self._forbidden.clear()
        self._state = state

    def command(self, stamp: int, pose: Array, gripper: float, arrival: int) -> None:
        """Judge one command.

        Args:
            stamp: Its stamp, ns.
            pose: (7,) position in metres, quaternion x, y, z, w.
            gripper: Opening in metres.
            arrival: Time of a monotonic clock, ns.
        """
        self.commands += 1
        self.motion = None
        forbidden, since = self._state not in {"", *SENDING}, arrival - self._state_since
        if forbidden and since > self._state_delay:
            self._add(f"sent while {self._state}", stamp, since / 1e9, self._state_delay / 1e9)
            self._forbidden.append((arrival, self.violations[-1]))
        strange = int(np.count_nonzero(~np.isfinite([*pose, gripper])))
        if strange:
            self._add("not finite", stamp, strange, 0.0)
            return
        error = abs(float(np.linalg.norm(pose[3:])) - 1.0)
        if error > _RELATIVE:
            self._add("quaternion not unit", stamp, error, _RELATIVE)
            return
        self._judge_place(stamp, pose[:3], gripper)
        if forbidden and since <= self._state_delay:
            return  # the last of the old stream
        late, last = 0, self._last
        if last is not None:
            late = max(arrival - last.arrival - (stamp - last.stamp), 0)
        rotation = Rotation.from_quat(pose[3:])
        sent = _Sent(stamp, arrival, late, np.array(pose[:3]), rotation, gripper)
        self._judge_motion(sent)
        self._last = sent

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values: counts, peaks, limits and the first violations."""
        return {
            "commands": self.commands,
            "starts": self.starts,
            "violations": dict(self.counts),
            "first_violations": [violation._asdict() for violation in self.violations[:5]],
            "peaks": dict(self.peaks),
            "limits": {name: asdict(self.limits)[name] for name in self.peaks},
        }

    def _add(self, kind: str, stamp: int, value: float, limit: float) -> None:
        self.violations.append(Violation(kind, stamp, value, limit))

    def _judge_place(self, stamp: int, position: Array, gripper: float) -> None:
        limits = self.limits
        outside = float(np.maximum(self._low - position, position - self._high).max())
        if outside > _METRES:
            self._add("workspace", stamp, outside, 0.0)
        if gripper < limits.gripper_low - _METRES:
            self._add("gripper range", stamp, gripper, limits.gripper_low)
        elif gripper > limits.gripper_high + _METRES:
            self._add("gripper range", stamp, gripper, limits.gripper_high)

    def _judge_motion(self, sent: _Sent) -> None:
        last, limits = self._last, self.limits
        if last is None:
            self.starts += 1
            return
        periods, certain = self._periods_between(last, sent)
        if periods == 0:
            self.starts += 1
            self._before = None
            return
        duration = periods * self._period / 1e9
        linear = (sent.position - last.position) / duration
        angular = (sent.rotation * last.rotation.inv()).as_rotvec() / duration
        closing = abs(sent.gripper - last.gripper) / duration
        speeds = _norm(linear), _norm(angular)
        self._check("linear_speed", sent.stamp, speeds[0], limits.linear_speed)
        self._check("angular_speed", sent.stamp, speeds[1], limits.angular_speed)
        self._check("gripper_speed", sent.stamp, closing, limits.gripper_speed)
        now, before = _Velocities(linear, angular, duration), self._before
        self._before = now if certain else None
        if before is None or not certain:
            self.motion = Motion(sent.arrival, *speeds, math.nan, math.nan)
            return
        between = (duration + before.duration) / 2.0
        change, turn = _norm(linear - before.linear), _norm(angular - before.angular)
        self.motion = Motion(sent.arrival, *speeds, change / between, turn / between)
        self._check(
            "linear_acceleration", sent.stamp, change / between, limits.linear_acceleration
        )
        slack = self._turning(now) + self._turning(before)
        self._check(
            "angular_acceleration",
            sent.stamp,
            max(turn - slack, 0.0) / between,
            limits.angular_acceleration,
        )

    def _periods_between(self, last: _Sent, sent: _Sent) -> tuple[int, bool]:
        """Return the whole control periods between two commands, and whether that is certain.

        0 where it is not known. Across a jump of the clock the arrivals tell; one period is what
        they tell of a sender on time, more may be the way of the message.
        """
        elapsed, gap = sent.stamp - last.stamp, sent.arrival - last.arrival
        # A sender that was stopped within a command sends that one late, the next on time.
        if 0 < elapsed <= gap + last.late + MAX_CLOCK_ERROR:
            return (max(round(elapsed / self._period), 1) if elapsed <= MAX_GAP else 0), True
        if gap > _MAX_JUMP_GAP:
            return 0, True  # the stream stopped
        periods = max(round((gap + last.late) / self._period), 1)
        return periods, periods == 1

    def _turning(self, motion: _Velocities) -> float:
        """Return how far the mean turn rate may lie off the mean of the rates (rad/s).

        Rotations do not commute: n turns w_i h compose to their sum up to half the sum of the
        cross products (Baker, Campbell, Hausdorff), each at most w * a (j - i) h^3; the factor
        covers the higher orders. 0 for one period.
        """
        limits, period = self.limits, self._period / 1e9
        squares = max(motion.duration**2 - period**2, 0.0)
        higher = 1.0 + limits.angular_speed * motion.duration
        return limits.angular_speed * limits.angular_acceleration * squares / 12.0 * higher

    def _check(self, name: str, stamp: int, value: float, limit: float) -> None:
        self.peaks[name] = max(self.peaks[name], value)
        if value > limit * (1.0 + _RELATIVE):
            self._add(name.replace("_", " "), stamp, value, limit)


def _norm(vector: Array) -> float:
    return float(np.linalg.norm(vector))
