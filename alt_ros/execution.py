"""The executor without ROS: chunks, poses and flags go in, commands within the limits come out.

The executor node and the in-process roll-out drive this same class.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError
from alt_ros.receding_horizon import HorizonConfig, RecedingHorizon, Target
from alt_ros.safety import (
    FOLLOWING,
    SENDING,
    AfterOod,
    Command,
    Inputs,
    Role,
    SafetyLimits,
    SafetyMachine,
    SetPoint,
    State,
)
from alt_ros.tracking import Tracking
from alt_ros.types import NANOSECONDS, ActionChunk, OodDecision, check_poses

Array = NDArray[np.float64]

MAX_STALL = NANOSECONDS // 5
"""A longer time between two steps is a stall of the process, or a new start of simulated time, ns.
After a shorter one the set-point catches up in one command: 7 cm at 0.35 m/s."""
MAX_CLOCK_STEP = NANOSECONDS // 20
"""The stamps' clock may run off the steady one by this much between two steps, ns."""


class Moment(NamedTuple):
    """An instant on two clocks, ns.

    Attributes:
        now: On the clock that stamps are on; it may be set.
        steady: On a clock that nobody sets: periods and watchdogs are measured on it.
    """

    now: int
    steady: int

    @classmethod
    def of(cls, now: int) -> Moment:
        """Return the instant where one clock is both, as in simulation."""
        return cls(now, now)


@dataclass(frozen=True, eq=False)
class SentCommand:
    """What is to be sent.

    Attributes:
        command: Pose and opening.
        twist: (6,) linear and angular velocity of the pose, m/s and rad/s.
        stamp: The instant that the command is for, on the stamps' clock, ns.
        chunk_stamp: Stamp of the chunk that it follows; 0 while decelerating.
    """

    command: Command
    twist: Array
    stamp: int
    chunk_stamp: int


class Executor:
    """One arm under receding-horizon control.

    The chunks of one role at a time are followed, those of the others refused.

    ``refused`` counts the chunks and poses that were not used, by reason.

    Args:
        limits: What may be sent.
        horizon: How chunks are executed.
        control_period: Time from one command to the next, ns.
        after_ood: What follows the out-of-distribution flag.
        require_monitor: Whether nothing is sent without the monitor's decisions.
    """

    def __init__(
        self,
        limits: SafetyLimits,
        horizon: HorizonConfig,
        *,
        control_period: int = NANOSECONDS // 100,
        after_ood: AfterOod = AfterOod.STOP,
        require_monitor: bool = False,
    ) -> None:
        self.limits = limits
        self.machine = SafetyMachine(limits, after_ood=after_ood)
        self.refused: Counter[str] = Counter()
        self._horizon = RecedingHorizon(horizon)
        self._role = Role.POLICY  # what the horizon's chunks are for
        self._control_period = control_period
        self._require_monitor = require_monitor
        self._set_point: SetPoint | None = None
        self._tracking: Tracking | None = None
        self._pose: Array | None = None
        self._pose_stamp: int | None = None
        self._gripper: float | None = None
        self._came: dict[str, int] = {}  # what to when, on the steady clock
        self._ood = False
        self._listening = True
        self._last: Moment | None = None
        self._grid = 0  # the steady clock in whole control periods
        self._clock = ""
        self._not_before = 0

    @property
    def state(self) -> State:
        """Present state."""
        return self.machine.state

    @property
    def reason(self) -> str:
        """Why the state was entered."""
        return self.machine.reason

    @property
    def delay(self) -> int | None:
        """Estimated time from an observation's stamp to its chunk's arrival, ns."""
        return self._horizon.delay.value

    def margin(self, now: int) -> int | None:
        """Return how long the newest chunk outlasts the next one's estimated arrival, ns.

        Below 0 the arm stutters: chunks are too short for the time that they take.
        """
        end, delay = self._horizon.end, self.delay
        return None if end is None or delay is None else end - now - delay

    def observe_pose(self, pose: Array, stamp: int, at: Moment) -> None:
        """Take the measured pose (7,); one that cannot be used is counted.

        A pose of the same stamp as before is a driver that repeats itself, and counts as none.
        """
        try:
            check_poses(pose, "measured pose")
        except DataError:
            self.refused["pose is damaged"] += 1
            return
        if abs(at.now - stamp) > self.limits.pose_timeout:
            self.refused["pose is stamped on another clock, or old"] += 1
            return
        last = self._pose_stamp
        if last is not None and 0 <= last - stamp <= self.limits.pose_timeout:
            self.refused["pose is not newer than the one before"] += 1
            return
        self._pose, self._pose_stamp = pose, stamp
        self._came["pose"] = at.steady

    def observe_gripper(self, opening: float) -> None:
        """Take the measured gripper opening in metres."""
        if np.isfinite(opening):
            self._gripper = opening
        else:
            self.refused["gripper opening is not finite"] += 1

    def observe_observation(self, at: Moment) -> None:
        """Take note that the cameras have given an observation."""
        self._came["observation"] = at.steady

    def observe_ood(self, decision: OodDecision, at: Moment) -> None:
        """Take the monitor's decision."""
        self._ood = decision.flag
        self._came["decision"] = at.steady

    def observe_controller(self, listening: bool) -> None:
        """Take note whether anybody follows the commands."""
        self._listening = listening

    def offer_chunk(self, chunk: ActionChunk, at: Moment, role: Role = Role.POLICY) -> str:
        """Take a chunk for a role; return why it is refused, or an empty string."""
        reason = self._offer(chunk, at, role)
        if reason:
            self.refused[reason.split(":")[0]] += 1
        else:
            self._came["chunk"] = at.steady
            self._clock = ""
        return reason

    def _offer(self, chunk: ActionChunk, at: Moment, role: Role) -> str:
        if not self.machine.takes(role, self._ood):
            return f"chunk of role {role.value} is not followed now"
        if self._clock and chunk.stamp < self._not_before:
            return "chunk is from before the clock jumped"
        takes_over = role is not self._role
        horizon = self._horizon.successor() if takes_over else self._horizon
        reason = horizon.offer(chunk, at.now)
        if takes_over and not reason:
            self.machine.role = self._role = role
            self._horizon = horizon
        return reason

    def arm(self, at: Moment) -> list[str]:
        """Arm; return the reasons for refusal, empty when armed."""
        reasons = self.machine.arm(self._inputs(at, None, 0.0, 0))
        if self._set_point is None:
            self._horizon.rejoin()
        return reasons

    def stop(self, reason: str = "stopped by the operator") -> None:
        """Stop at once: nothing is sent until armed again."""
        self.machine.stop(reason)
        self._release()

    def hold(self) -> str:
        """Brake from the next step on, and hold until armed again; return why it is refused."""
        reason = self.machine.hold()
        self._change_role()
        return reason

    def fail(self, reason: str) -> None:
        """Send nothing more: a fault that the caller has found, latched until armed again."""
        self.machine.fail(reason)
        self._release()

    def reset(self, reason: str) -> None:
        """Forget chunks and set-point and return to idle: a new episode, or deactivation."""
        self.machine.disarm(reason)
        self._horizon.reset()
        self._release()
        self._came.pop("chunk", None)
        self._ood = False

    def step(self, at: Moment) -> SentCommand | None:
        """Advance to an instant; return what is to be sent, None for nothing.

        The set-point advances in whole control periods of the steady clock: a step that comes
        after three of them equals three steps. A step of either clock makes the chunks useless;
        the arm is then braked, and goes on with chunks on the new clock. In a stall nothing was
        sent and the arm has come to rest, so that there is nothing to brake.
        """
        last, self._last = self._last, at
        if last is None:
            self._grid = at.steady
            return None
        periods = self._periods(at, last)
        if periods == 0:
            return None
        ready = self.state in SENDING
        instant = at.now - (at.steady - self._grid)
        target = None
        if ready and (reference := self._reference()) is not None:
            twist = np.zeros(6) if self._set_point is None else self._set_point.twist
            first = instant - (periods - 1) * self._control_period
            target = self._horizon.target(first, reference, twist)
        pose = None if target is None else target.goal
        gripper = 0.0 if target is None else target.gripper
        if self._tracking is not None and self._pose is not None:
            self._tracking.measure(self._pose, periods)
        inputs = self._inputs(at, pose, gripper, periods * self._control_period)
        state = self.machine.update(inputs)
        self._change_role()
        if state not in SENDING:
            self._release()
            return None
        if state in FOLLOWING and self._set_point is None:
            assert self._pose is not None
            assert self._gripper is not None
            self._set_point = SetPoint(self.limits, self._pose, self._gripper)
            self._tracking = Tracking(self.limits, self._control_period, self._pose)
            periods = 1  # it starts from rest now, whenever the last step was
        return self._advance(instant, periods, target if state in FOLLOWING else None)

    def _release(self) -> None:
        self._set_point = self._tracking = None
        self._change_role()

    def _change_role(self) -> None:
        """Forget the chunks of another role than the machine's."""
        if self._role is not self.machine.role:
            self._role = self.machine.role
            self._horizon = self._horizon.successor()
            self._came.pop("chunk", None)

    def _periods(self, at: Moment, last: Moment) -> int:
        """Return how many control periods have passed, after looking at what the clocks did."""
        elapsed = at.steady - last.steady
        step = (at.now - last.now) - elapsed
        stalled = not 0 <= elapsed <= MAX_STALL
        if stalled or abs(step) > MAX_CLOCK_STEP:
            jump = elapsed - self._control_period if stalled else step
            self._forget(f"clock jumped by {jump / NANOSECONDS:+.2f} s", at.now)
        if stalled:
            # Nothing could come meanwhile: to the watchdogs a stall is one period.
            shift = elapsed - self._control_period
            self._came = {what: min(came + shift, at.steady) for what, came in self._came.items()}
            if self._set_point is not None:
                self._set_point.rest()
            self._grid = at.steady
            return 1
        periods = (at.steady - self._grid) // self._control_period
        self._grid += periods * self._control_period
        return periods

    def _forget(self, what: str, now: int) -> None:
        self._horizon.reset()
        self._clock = what
        self._not_before = now

    def _reference(self) -> Array | None:
        return self._pose if self._set_point is None else self._set_point.pose

    def _advance(self, instant: int, periods: int, target: Target | None) -> SentCommand | None:
        """Move the set-point by control periods, the last of which ends at ``instant``.

        ``target`` is the first period's; None brakes in all of them.
        """
        follow, set_point, moved = target is not None, self._set_point, None
        tracking = self._tracking
        if set_point is None or tracking is None:
            return None
        seconds = self._control_period / NANOSECONDS
        for left in reversed(range(periods)):
            if follow and left < periods - 1:
                due = instant - left * self._control_period
                target = self._horizon.target(due, set_point.pose, set_point.twist)
            if target is not None:
                moved = set_point.follow(target.pose, target.gripper, seconds)
            elif not set_point.at_rest:
                moved = set_point.decelerate(seconds)
            tracking.command(set_point.pose)
        if moved is None:
            return None
        stamp = 0 if target is None else target.chunk_stamp
        return SentCommand(moved, set_point.twist, instant, stamp)

    def _inputs(
        self, at: Moment, target_pose: Array | None, target_gripper: float, elapsed: int
    ) -> Inputs:
        ages = {name: at.steady - came for name, came in self._came.items()}
        return Inputs(
            pose=self._pose,
            gripper=self._gripper,
            pose_age=ages.get("pose"),
            observation_age=ages.get("observation"),
            chunk_age=ages.get("chunk"),
            decision_age=ages.get("decision") if self._require_monitor else 0,
            out_of_distribution=self._ood,
            listening=self._listening,
            clock=self._clock,
            target_pose=target_pose,
            target_gripper=target_gripper,
            command=None if self._set_point is None else self._set_point.pose,
            behind=self._tracking is not None and self._tracking.behind,
            elapsed=elapsed,
        )
