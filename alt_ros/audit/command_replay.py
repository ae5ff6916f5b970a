"""Commands through the executor's code again: what each one followed, and whether it had to be so.

A bag does not hold when the executor took a chunk or a measured pose. It need not: from the state
before, ``RecedingHorizon`` and ``SetPoint`` give a command for each thing that may have been done
(go on with the active chunk, take over to one that had come, brake, set out from a measured pose),
and commands are 64-bit numbers. The one that is equal in every bit is what was done; where none
is, the command is not the live code's.

An arm sets out from where it is measured, with a chunk that was taken up then, or up to
``MAX_LEAD`` control periods before, while the executor was armed and waited for something else.
Where several ways give the same commands, all are followed until the commands tell them apart.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alt_ros.execution import MAX_STALL
from alt_ros.receding_horizon import HorizonConfig, RecedingHorizon, Target
from alt_ros.safety import SafetyLimits, SetPoint
from alt_ros.types import ActionChunk

Array = NDArray[np.float64]

NEARLY = 1e-9
"""Metres, and parts of a quaternion: what another computer's rounding may make of it."""
RECENT_CHUNKS, RECENT_POSES = 12, 200
AROUND = 60_000_000
"""A pose that the executor took as the latest was logged at most so long before or after, ns."""
LOGGED_AFTER = 100_000_000
"""What a command follows may be logged so long after it, ns: topics are not ordered."""
MAX_LEAD, MAX_LATE = 50, 4
MAX_POSSIBLE = 512
FOLLOWS, BRAKES, UNKNOWN, DIFFERS = "follows", "brakes", "unknown", "differs"
_NONE = -1


class Done(NamedTuple):
    """What a command was.

    Attributes:
        stamp: Of the command, ns.
        at: Its log time, ns.
        what: ``FOLLOWS`` a chunk, ``BRAKES``, ``DIFFERS`` from everything that the code may give,
            or is ``UNKNOWN``: it goes on from a command that does.
        chunk_stamp: Of the chunk that it follows; -1 without one.
        took_over: Whether it is the first that follows this chunk.
        exact: Whether it is equal in every bit.
    """

    stamp: int
    at: int
    what: str
    chunk_stamp: int = _NONE
    took_over: bool = False
    exact: bool = False


@dataclass
class _Known:
    """The executor after a command."""

    horizon: RecedingHorizon
    set_point: SetPoint
    active: int
    stamp: int
    since: int = 0  # the command with which the active chunk took over
    start: int = 0  # which way of setting out it was


class _Match(NamedTuple):
    known: _Known
    took_over: bool
    exact: bool


def _equal(
    possible: Iterable[tuple[_Known, bool]], pose: Array, gripper: float, *, first: bool
) -> list[_Match]:
    """Return what gives a command; with ``first`` nothing after what does in every bit."""
    found: list[_Match] = []
    for known, took_over in possible:
        made = known.set_point
        off = max(float(np.abs(made.pose - pose).max()), abs(made.gripper - gripper))
        if off <= NEARLY:
            found.append(_Match(known, took_over, off == 0.0))
        if len(found) == MAX_POSSIBLE or (first and off == 0.0):
            break
    return found


class CommandReplay:
    """Takes chunks, measured poses and commands in log order.

    Args:
        limits: The executor's.
        horizon: The executor's.
        control_period: In which the set-point moves, ns.

    Attributes:
        done: What each command was.
    """

    def __init__(
        self, limits: SafetyLimits, horizon: HorizonConfig, control_period: int = 10_000_000
    ) -> None:
        self.done: list[Done] = []
        self._limits = limits
        # Whether a chunk was too old when it came is not known here: what was followed was not.
        self._config = horizon
        self._period = control_period
        self._chunks: deque[tuple[int, ActionChunk]] = deque(maxlen=RECENT_CHUNKS)
        self._poses: deque[tuple[int, Array]] = deque(maxlen=RECENT_POSES)
        self._grippers: deque[float] = deque([0.0], maxlen=2)
        self._likely: list[ActionChunk] = []
        self._armed: int | None = None
        self._waiting: deque[tuple[int, tuple[int, Array, float] | None]] = deque()
        self._known: list[_Known] = []  # each of them explains all commands so far
        self._last: int | None = None  # stamp of the last command since the arm set out

    def chunk(self, chunk: ActionChunk, at: int) -> None:
        """Take a chunk of any role, logged at a time in ns."""
        self._answer(at)
        self._chunks.append((at, chunk))

    def measured_pose(self, pose: Array, at: int) -> None:
        """Take the measured pose (7,), logged at a time in ns."""
        self._poses.append((at, pose))

    def measured_gripper(self, opening: float) -> None:
        """Take the measured opening, metres."""
        if opening not in self._grippers:
            self._grippers.append(opening)

    def armed(self, stamp: int) -> None:
        """Take the time of the arming: no chunk is taken up before it."""
        self._armed = stamp

    def released(self, at: int) -> None:
        """Take note that nothing may be sent: the next command sets out from a measured pose."""
        self._waiting.append((at, None))
        self._answer(at)

    def command(self, stamp: int, pose: Array, gripper: float, at: int) -> None:
        """Take a command; it is answered once what may have been logged after it is there.

        Args:
            stamp: Its stamp, ns.
            pose: (7,).
            gripper: Opening, metres.
            at: Log time, ns.
        """
        self._waiting.append((at, (stamp, pose, gripper)))
        self._answer(at)

    def finish(self) -> None:
        """Answer what waits."""
        self._answer(None)

    def _answer(self, until: int | None) -> None:
        while self._waiting and (until is None or self._waiting[0][0] + LOGGED_AFTER < until):
            at, command = self._waiting.popleft()
            if command is None:
                self._known, self._last = [], None
            else:
                stamp, pose, gripper = command
                self.done.append(self._what(stamp, pose, gripper, at))
                self._last = stamp

    def _what(self, stamp: int, pose: Array, gripper: float, at: int) -> Done:
        going, lost = self._known, self._last is not None and not self._known
        if lost or not self._chunks:
            return Done(stamp, at, UNKNOWN)
        found: list[_Match] = []
        self._likely = self._by_likelihood(at)
        for known in going:
            if 0 < stamp - known.stamp <= MAX_STALL:
                # Chunks recalled one after the other tell the same motion: which of them took
                # over may show only later.
                settled = stamp + self._config.arm_latency < known.horizon.until
                found += _equal(self._going_on(known, stamp), pose, gripper, first=settled)
        if not found:
            starts = self._resuming(going[0], stamp) if going else self._setting_out(stamp)
            found = _equal(starts, pose, gripper, first=False)
        exact = [match for match in found if match.exact]
        found = exact[:MAX_POSSIBLE] or found[:1]
        alike = {self._what_matters(match.known): match.known for match in reversed(found)}
        self._known = list(reversed(alike.values()))
        if not found:
            return Done(stamp, at, DIFFERS)
        known, took_over, is_exact = found[0]
        what = BRAKES if known.active == _NONE else FOLLOWS
        return Done(stamp, at, what, known.active, took_over, is_exact)

    def _what_matters(self, known: _Known) -> tuple[int, int, int]:
        """Return what tells an executor from another that gave the same commands."""
        faded = known.stamp - known.since > self._config.fade
        return known.active, known.horizon.until, 0 if faded else known.start

    def _by_likelihood(self, at: int) -> list[ActionChunk]:
        """Return the chunks: the newest that was logged before a time, ..., those after it."""
        before = [chunk for logged, chunk in reversed(self._chunks) if logged <= at]
        return before + [chunk for logged, chunk in self._chunks if logged > at]

    def _going_on(self, known: _Known, stamp: int) -> Iterator[tuple[_Known, bool]]:
        """Yield what may have been done since the last command, and whether it took a chunk over.

        The likeliest comes first.
        """
        periods = max(round((stamp - known.stamp) / self._period), 1)
        stays = self._advanced(known, None, stamp, periods)
        if stays is not None and not stays[1]:
            yield stays
        for chunk in self._likely:
            if chunk.stamp <= known.active:
                continue
            other = self._advanced(known, chunk, stamp, periods)
            if other is not None and other[1]:
                yield other
        braked = copy.copy(known.set_point)
        for _ in range(periods):
            braked.decelerate(self._period / 1e9)
        horizon = copy.copy(known.horizon)
        yield _Known(horizon, braked, _NONE, stamp, start=known.start), False
        for chunk in self._likely:  # after braking, or of another role
            horizon = known.horizon.successor()
            fresh = _Known(horizon, known.set_point, _NONE, known.stamp, start=known.start)
            other = self._advanced(fresh, chunk, stamp, periods)
            if other is not None:
                yield other

    def _resuming(self, known: _Known, stamp: int) -> Iterator[tuple[_Known, bool]]:
        """Yield what may follow a hold: the set-point stood where it was sent last."""
        if known.set_point.at_rest:
            pose = known.set_point.pose
            taken_up = self._taken_up(stamp, lambda due: [pose])
            for number, (_, horizon) in enumerate(taken_up):
                start = _Known(horizon, known.set_point, _NONE, stamp, start=number)
                for periods in range(1, MAX_LATE + 1):
                    other = self._advanced(start, None, stamp, periods)
                    if other is not None:
                        yield other

    def _setting_out(self, stamp: int) -> Iterator[tuple[_Known, bool]]:
        """Yield what may follow an arming: the set-point starts where the arm is measured."""
        poses = self._measured_around(stamp)
        if not poses:
            return
        number = count()
        for lead, horizon in self._taken_up(stamp, self._measured_around):
            # A step after several periods asks for the first one's target, and sets out with it.
            for late in range(min(lead + 1, MAX_LATE)):
                asked = copy.copy(horizon)
                target = asked.target(stamp - late * self._period, poses[0])
                if target is None:
                    continue
                for pose in poses:
                    for gripper in reversed(self._grippers):
                        set_point = SetPoint(self._limits, pose, gripper)
                        set_point.follow(target.pose, target.gripper, self._period / 1e9)
                        chunk, way = target.chunk_stamp, next(number)
                        yield _Known(asked, set_point, chunk, stamp, stamp, way), True

    def _measured_around(self, due: int) -> list[Array]:
        """Return the poses that may have been the latest at an instant."""
        near: dict[bytes, tuple[int, Array]] = {}
        for at, pose in self._poses:
            if abs(at - due) <= AROUND:
                near[pose.tobytes()] = abs(at - due), pose
        return [pose for _, pose in sorted(near.values(), key=lambda found: found[0])]

    def _taken_up(
        self, stamp: int, references: Callable[[int], Sequence[Array]]
    ) -> Iterator[tuple[int, RecedingHorizon]]:
        """Yield receding horizons that took a chunk up, and how many periods ago."""
        period = self._period
        most = MAX_LEAD
        if self._armed is not None and self._armed <= stamp:
            most = min(most, (stamp - self._armed) // period + 2)
        for lead in range(most):
            due = stamp - lead * period
            for chunk in self._likely:
                for reference in references(due):
                    for asked_before in (False, True):
                        horizon = RecedingHorizon(self._config)
                        if asked_before:  # while there was no chunk yet
                            horizon.target(due - period, reference)
                        refused = horizon.offer(chunk, chunk.stamp)
                        if not refused and horizon.target(due, reference) is not None:
                            yield lead, horizon

    def _advanced(
        self,
        known: _Known,
        chunk: ActionChunk | None,
        stamp: int,
        periods: int,
    ) -> tuple[_Known, bool] | None:
        """Return the executor some periods on, the chunk offered before; None: nothing is due."""
        horizon, set_point = copy.copy(known.horizon), copy.copy(known.set_point)
        if chunk is not None and horizon.offer(chunk, chunk.stamp):
            return None
        target: Target | None = None
        for left in reversed(range(periods)):
            due = stamp - left * self._period
            target = horizon.target(due, set_point.pose, set_point.twist)
            if target is None:
                return None
            set_point.follow(target.pose, target.gripper, self._period / 1e9)
        assert target is not None
        took_over = target.chunk_stamp != known.active
        since = stamp if took_over else known.since
        return _Known(horizon, set_point, target.chunk_stamp, stamp, since, known.start), took_over
