"""The executor without ROS: chunks, poses and flags go in, commands within the limits come out.

The executor node and the in-process roll-out drive this same class.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError
from alt_ros.receding_horizon import HorizonConfig, RecedingHorizon
from alt_ros.safety import Command, Inputs, SafetyLimits, SafetyMachine, SetPoint, State
from alt_ros.types import NANOSECONDS, ActionChunk, OodDecision, check_poses

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SentCommand:
    """A command, and the chunk that it follows (0 while decelerating)."""

    command: Command
    chunk_stamp: int


class Executor:
    """One arm under receding-horizon control.

    ``refused`` counts the chunks and poses that were not used, by reason.
    """

    def __init__(
        self, limits: SafetyLimits, horizon: HorizonConfig, *, resume_after_ood: bool = False
    ) -> None:
        self.limits = limits
        self.machine = SafetyMachine(limits, resume_after_ood=resume_after_ood)
        self.refused: Counter[str] = Counter()
        self._horizon = RecedingHorizon(horizon)
        self._set_point: SetPoint | None = None
        self._pose: Array | None = None
        self._gripper: float | None = None
        self._pose_at: int | None = None
        self._chunk_at: int | None = None
        self._ood = False
        self._now: int | None = None

    @property
    def state(self) -> State:
        """Present state."""
        return self.machine.state

    @property
    def reason(self) -> str:
        """Why the state was entered."""
        return self.machine.reason

    def observe_pose(self, pose: Array, now: int) -> None:
        """Take the measured pose (7,); a damaged one is counted and not used."""
        try:
            check_poses(pose, "measured pose")
        except DataError:
            self.refused["invalid pose"] += 1
            return
        self._pose, self._pose_at = pose, now

    def observe_gripper(self, opening: float) -> None:
        """Take the measured gripper opening in metres."""
        if np.isfinite(opening):
            self._gripper = opening

    def observe_ood(self, decision: OodDecision) -> None:
        """Take the monitor's decision."""
        self._ood = decision.flag

    def offer_chunk(self, chunk: ActionChunk, now: int) -> str:
        """Take a chunk; return why it is refused, or an empty string."""
        reason = self._horizon.offer(chunk, now)
        if reason:
            self.refused[reason.split(":")[0]] += 1
        else:
            self._chunk_at = now
        return reason

    def arm(self, now: int) -> list[str]:
        """Arm; return the reasons for refusal, empty when armed."""
        if self.state not in (State.ARMED, State.RUNNING, State.HOLDING):
            self._set_point = None  # start from the measured pose
        return self.machine.arm(self._inputs(now, None, 0.0))

    def stop(self, reason: str = "stopped by the operator") -> None:
        """Stop at once: nothing is sent until armed again."""
        self.machine.stop(reason)
        self._set_point = None

    def reset(self, reason: str) -> None:
        """Forget chunks and set-point and return to idle: a new episode, or deactivation."""
        self.machine.disarm(reason)
        self._horizon.reset()
        self._set_point = self._chunk_at = None
        self._ood = False

    def step(self, now: int) -> SentCommand | None:
        """Advance to ``now`` (ns); return what is to be sent, None for nothing.

        Call it once per control period. A step of the clock beyond ten periods, or backwards,
        is taken as a single period of 10 ms, so that the set-point never leaps.
        """
        elapsed = 0 if self._now is None else now - self._now
        self._now = now
        if elapsed == 0:
            return None
        period = elapsed / NANOSECONDS if 0 < elapsed <= NANOSECONDS // 10 else 0.01
        reference = self._set_point.pose if self._set_point is not None else self._pose
        target = None
        if self.state in (State.ARMED, State.RUNNING, State.HOLDING) and reference is not None:
            target = self._horizon.target(now, reference)
        pose = None if target is None else target.pose
        gripper = 0.0 if target is None else target.gripper
        state = self.machine.update(self._inputs(now, pose, gripper))
        if state is State.RUNNING:
            if self._set_point is None:
                assert self._pose is not None
                assert self._gripper is not None
                self._set_point = SetPoint(self.limits, self._pose, self._gripper)
            if target is not None:
                command = self._set_point.follow(target.pose, target.gripper, period)
                return SentCommand(command, target.chunk_stamp)
        moving = self._set_point is not None and not self._set_point.at_rest
        if state in (State.ARMED, State.RUNNING, State.HOLDING) and moving:
            assert self._set_point is not None
            return SentCommand(self._set_point.decelerate(period), 0)
        return None

    def _inputs(self, now: int, target_pose: Array | None, target_gripper: float) -> Inputs:
        return Inputs(
            pose=self._pose,
            gripper=self._gripper,
            pose_age=None if self._pose_at is None else now - self._pose_at,
            chunk_age=None if self._chunk_at is None else now - self._chunk_at,
            out_of_distribution=self._ood,
            target_pose=target_pose,
            target_gripper=target_gripper,
            command=None if self._set_point is None else self._set_point.pose,
        )
