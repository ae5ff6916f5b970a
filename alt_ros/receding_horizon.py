"""Which action is due now: receding-horizon execution of action chunks (Chi et al. 2023).

Action i of a chunk is due at ``stamp + i * period``. After ``action_horizon`` (Ta) actions of the
active chunk, the newest chunk takes over; actions that were due before the hand-over are never
sent. Between actions the target is interpolated (linear, slerp); at a hand-over the step between
the old and the new target is faded out, the gripper exempt. Time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import interpolate_pose, rotation_between, split_arm_action
from alt_ros.types import ActionChunk

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HorizonConfig:
    """How chunks are executed; times in ns.

    Attributes:
        action_horizon: Ta, actions executed before the newest chunk takes over.
        fade: Time over which the step at a hand-over is faded out; 0 switches at once.
        lead: How far ahead of its due time an action is sent: the arm's own delay.
        max_age: A chunk whose observation is older than this when it arrives is refused.
    """

    action_horizon: int = 8
    fade: int = 100_000_000
    lead: int = 0
    max_age: int = 500_000_000

    def __post_init__(self) -> None:
        if self.action_horizon < 1:
            raise ConfigurationError(
                f"action_horizon must be at least 1 action, got {self.action_horizon}"
            )
        if self.fade < 0 or self.lead < 0 or self.max_age <= 0:
            raise ConfigurationError(
                f"fade and lead must be at least 0 and max_age positive, got {self.fade}, "
                f"{self.lead} and {self.max_age} ns"
            )


@dataclass(frozen=True, eq=False)
class Target:
    """Where one end effector should be now: pose (7,), gripper opening in metres."""

    pose: Array
    gripper: float
    chunk_stamp: int


class RecedingHorizon:
    """Keeps the active and the newest chunk of one arm."""

    def __init__(self, config: HorizonConfig) -> None:
        self.config = config
        self._newest: ActionChunk | None = None
        self._active: ActionChunk | None = None
        self._poses = np.zeros((0, 7))
        self._grippers = np.zeros(0)
        self._newest_targets = (self._poses, self._grippers)
        self._until = 0
        self._faded_from = 0
        self._step_position = np.zeros(3)
        self._step_turn = np.zeros(3)

    def reset(self) -> None:
        """Forget every chunk."""
        self._newest = self._active = None

    def offer(self, chunk: ActionChunk, now: int) -> str:
        """Take a chunk; return why it is refused, or an empty string."""
        if chunk.layout.arms != 1 or chunk.layout.extra:
            return (
                f"chunk moves {chunk.layout.arms} arms and {chunk.layout.extra} other axes, "
                f"this executor moves one arm"
            )
        age, max_age = now - chunk.stamp, self.config.max_age
        if age > max_age:
            return f"chunk is too old: {age / 1e6:.0f} ms, allowed are {max_age / 1e6:.0f} ms"
        if age < -max_age:
            return f"chunk answers an observation in the future: by {-age / 1e6:.0f} ms"
        if self._newest is not None and self._newest.stamp - now > max_age:
            self.reset()  # the clock went back
        if self._newest is not None and chunk.stamp <= self._newest.stamp:
            return "chunk is not newer than the one before"
        try:
            poses, grippers = split_arm_action(chunk.actions, 1)
        except DataError as error:
            return f"chunk holds no rotation: {error}"
        self._newest, self._newest_targets = chunk, (poses[:, 0], grippers[:, 0])
        return ""

    def target(self, now: int, reference: Array) -> Target | None:
        """Return what is due now.

        Args:
            now: Time, ns.
            reference: (7,) the pose sent last (or measured, before the first), which a new
                chunk's first target is faded in from.

        Returns:
            The target, or None while no action is due: there is no chunk, or all are in the past.
        """
        due = now + self.config.lead
        if self._may_switch(due):
            self._activate(due, reference)
        chunk = self._active
        if chunk is None:
            return None
        position = (due - chunk.stamp) / chunk.period
        if position > len(chunk.actions) - 1 or position < 0:
            return None
        index = min(int(position), max(len(chunk.actions) - 2, 0))
        after = min(index + 1, len(chunk.actions) - 1)
        pose = interpolate_pose(self._poses[index], self._poses[after], position - index)
        remaining = 0.0
        if self.config.fade:
            elapsed = (due - self._faded_from) / self.config.fade
            remaining = 1.0 - min(max(elapsed, 0.0), 1.0)
        if remaining > 0.0:
            weight = remaining * remaining * (3.0 - 2.0 * remaining)  # smooth at both ends
            rotation = Rotation.from_rotvec(weight * self._step_turn) * Rotation.from_quat(
                pose[3:]
            )
            pose = np.concatenate([pose[:3] + weight * self._step_position, rotation.as_quat()])
        return Target(pose, float(self._grippers[int(position)]), chunk.stamp)

    def _may_switch(self, due: int) -> bool:
        newest = self._newest
        if newest is None or newest is self._active:
            return False
        if not newest.stamp <= due <= self._end(newest):
            return False
        return self._active is None or due >= self._until or self._end(self._active) < due

    @staticmethod
    def _end(chunk: ActionChunk) -> int:
        return chunk.stamp + (len(chunk.actions) - 1) * chunk.period

    def _activate(self, due: int, reference: Array) -> None:
        chunk = self._newest
        assert chunk is not None
        self._active = chunk
        self._poses, self._grippers = self._newest_targets
        self._until = due + self.config.action_horizon * chunk.period
        position = (due - chunk.stamp) / chunk.period
        index = min(int(position), max(len(chunk.actions) - 2, 0))
        after = min(index + 1, len(chunk.actions) - 1)
        start = interpolate_pose(self._poses[index], self._poses[after], position - index)
        self._faded_from = due
        self._step_position = reference[:3] - start[:3]
        self._step_turn = rotation_between(start, reference)
