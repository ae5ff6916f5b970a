"""Which action is due now: receding-horizon execution of action chunks (Chi et al. 2023).

Action i of a chunk is due at ``stamp + i * period``, and is sent the device's latency ahead of
that. After ``action_horizon`` (Ta) actions of the active chunk, the newest chunk takes over;
actions that were due before the hand-over are never sent. Between actions the target is
interpolated (monotone cubic, slerp), and the last one lasts for one period. At a hand-over the old
motion is blended into the new one, the gripper exempt. Time is an argument.

Blending rules:

- ``offset``: what the commanded motion is off the new chunk in pose and velocity fades out on a
  quintic, so that pose, velocity and acceleration of the target are continuous.
- ``crossfade``: the weight moves from the old chunk's target to the new one's on the same curve;
  it goes over to the new chunk at once where the old one has ended.
- ``none``: the new chunk at once; the set-point's limits alone smooth it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import interpolate_pose, rotation_between, split_arm_action
from alt_ros.types import ActionChunk

Array = NDArray[np.float64]

BLENDINGS = ("offset", "crossfade", "none")
MAX_AHEAD = 50_000_000
"""How far the clocks of two computers may disagree before a stamp counts as the future's, ns."""
AT_REST: Array = np.zeros(6)
AT_REST.setflags(write=False)


@dataclass(frozen=True)
class HorizonConfig:
    """How chunks are executed; times in ns.

    Attributes:
        action_horizon: Ta, actions executed before the newest chunk takes over.
        blending: Rule at a hand-over: ``offset``, ``crossfade`` or ``none``.
        fade: How long the blending lasts; 0 is ``none``.
        arm_latency: How far ahead of its due time a pose is sent: the arm's own delay.
        gripper_latency: The same for the gripper.
        max_age: A chunk whose observation is older than this when it arrives is refused.
        max_rows: A chunk of more actions is refused.
    """

    action_horizon: int = 8
    blending: str = "offset"
    fade: int = 300_000_000
    arm_latency: int = 0
    gripper_latency: int = 0
    max_age: int = 500_000_000
    max_rows: int = 1000

    def __post_init__(self) -> None:
        if self.action_horizon < 1:
            raise ConfigurationError(
                f"action_horizon must be at least 1 action, got {self.action_horizon}"
            )
        if self.blending not in BLENDINGS:
            raise ConfigurationError(
                f"blending must be one of {', '.join(BLENDINGS)}, got '{self.blending}'"
            )
        for name in ("fade", "arm_latency", "gripper_latency"):
            if getattr(self, name) < 0:
                raise ConfigurationError(
                    f"{name} must be at least 0, got {getattr(self, name)} ns"
                )
        if self.max_age <= 0 or self.max_rows < 1:
            raise ConfigurationError(
                f"max_age and max_rows must be positive, got {self.max_age} ns and {self.max_rows}"
            )


class DelayEstimate:
    """How long chunks take from the observation's stamp to their arrival.

    The estimate is the 90th percentile of the last 20, rounded down in rank: a single spike, such
    as the first inference, never is the estimate once there are two delays.
    """

    def __init__(self) -> None:
        self._delays: deque[int] = deque(maxlen=20)

    def add(self, delay: int) -> None:
        """Take a delay, ns."""
        self._delays.append(delay)

    @property
    def value(self) -> int | None:
        """The estimate, ns; None before the first chunk."""
        if not self._delays:
            return None
        return sorted(self._delays)[int(0.9 * (len(self._delays) - 1))]


@dataclass(frozen=True, eq=False)
class Target:
    """Where one end effector should be now.

    Attributes:
        pose: (7,) what to follow, blended in from the motion before.
        goal: (7,) what the chunk says, unblended.
        gripper: Opening, metres.
        chunk_stamp: Stamp of the chunk, ns.
    """

    pose: Array
    goal: Array
    gripper: float
    chunk_stamp: int


class _Path:
    """A chunk's targets: positions on a monotone cubic (PCHIP), rotations by slerp.

    Fritsch and Butland 1984: continuous in velocity and without overshoot between two actions.
    """

    def __init__(self, chunk: ActionChunk, poses: Array, grippers: Array) -> None:
        self.chunk = chunk
        self.poses = poses  # (n, 7)
        self.grippers = grippers  # (n,)
        knots = np.arange(max(len(poses), 2))
        positions = poses[:, :3] if len(poses) > 1 else np.repeat(poses[:, :3], 2, axis=0)
        self._positions = PchipInterpolator(knots, positions)

    @property
    def end(self) -> int:
        return self.chunk.stamp + len(self.poses) * self.chunk.period

    def _bracket(self, due: int) -> tuple[int, int, float]:
        position = (due - self.chunk.stamp) / self.chunk.period
        index = min(max(int(position), 0), len(self.poses) - 1)
        return index, min(index + 1, len(self.poses) - 1), position - index

    def pose(self, due: int) -> Array:
        index, after, fraction = self._bracket(due)
        pose = interpolate_pose(self.poses[index], self.poses[after], fraction)
        if after > index:
            pose[:3] = self._positions(index + fraction)
        return pose

    def twist(self, due: int) -> Array:
        """Return linear and angular velocity (6,), m/s and rad/s."""
        index, after, fraction = self._bracket(due)
        if after == index:
            return np.zeros(6)
        turn = rotation_between(self.poses[index], self.poses[after])
        step = np.concatenate([self._positions(index + fraction, 1), turn])
        return step * (1e9 / self.chunk.period)

    def gripper(self, due: int) -> float:
        return float(self.grippers[self._bracket(due)[0]])


@lru_cache(maxsize=64)  # an audit offers each chunk often
def _path_of(chunk: ActionChunk) -> _Path:
    poses, grippers = split_arm_action(chunk.actions, 1)
    return _Path(chunk, poses[:, 0], grippers[:, 0])


class RecedingHorizon:
    """Keeps the active and the newest chunk of one arm."""

    def __init__(self, config: HorizonConfig) -> None:
        self.config = config
        self.delay = DelayEstimate()
        self._newest: _Path | None = None
        self._active: _Path | None = None
        self._previous: _Path | None = None
        self._until = 0
        self._last_due: int | None = None
        self._faded_from = 0
        self._offset = np.zeros(6)
        self._offset_rate = np.zeros(6)

    def reset(self) -> None:
        """Forget every chunk."""
        self._newest = self._active = self._previous = self._last_due = None

    def successor(self) -> RecedingHorizon:
        """Return an empty one that goes on where this one is: for the chunks of another policy."""
        horizon = RecedingHorizon(self.config)
        horizon._last_due = self._last_due
        return horizon

    def rejoin(self) -> None:
        """Blend the newest chunk in from the next reference: the arm was not where it was sent."""
        self._active = self._previous = self._last_due = None

    @property
    def end(self) -> int | None:
        """When the newest chunk ends, ns; None without one."""
        return None if self._newest is None else self._newest.end

    @property
    def until(self) -> int:
        """Instant from which on the newest chunk may take over, ns."""
        return self._until

    def offer(self, chunk: ActionChunk, now: int) -> str:
        """Take a chunk; return why it is refused, or an empty string."""
        if chunk.layout.arms != 1 or chunk.layout.extra:
            return (
                f"chunk moves {chunk.layout.arms} arms and {chunk.layout.extra} other axes, "
                f"this executor moves one arm"
            )
        if len(chunk.actions) > self.config.max_rows:
            return (
                f"chunk is too long: {len(chunk.actions)} actions, allowed are "
                f"{self.config.max_rows}"
            )
        age, max_age = now - chunk.stamp, self.config.max_age
        if age > max_age:
            return f"chunk is too old: {age / 1e6:.0f} ms, allowed are {max_age / 1e6:.0f} ms"
        if age < -MAX_AHEAD:
            return f"chunk answers an observation in the future: by {-age / 1e6:.0f} ms"
        if self._newest is not None and self._newest.chunk.stamp - now > MAX_AHEAD:
            self.reset()  # the clock went back
        if self._newest is not None and chunk.stamp <= self._newest.chunk.stamp:
            return "chunk is not newer than the one before"
        try:
            self._newest = _path_of(chunk)
        except DataError as error:
            return f"chunk holds no rotation: {error}"
        self.delay.add(age)
        return ""

    def target(self, now: int, reference: Array, twist: Array = AT_REST) -> Target | None:
        """Return what is due now.

        Args:
            now: Time, ns.
            reference: (7,) the pose sent last (or measured, before the first), which a new
                chunk is blended in from.
            twist: (6,) its velocity, m/s and rad/s.

        Returns:
            The target, or None while no action is due: there is no chunk, or all are in the past.
        """
        due = now + self.config.arm_latency
        if self._may_switch(due):
            self._activate(due, reference, twist)
        self._last_due = due
        path = self._active
        if path is None or not path.chunk.stamp <= due < path.end:
            return None
        goal = path.pose(due)
        gripper = path.gripper(now + self.config.gripper_latency)
        return Target(self._blend(goal, due), goal, gripper, path.chunk.stamp)

    def _may_switch(self, due: int) -> bool:
        newest = self._newest
        if newest is None or newest is self._active:
            return False
        if not newest.chunk.stamp <= due < newest.end:
            return False
        return self._active is None or due >= self._until or self._active.end <= due

    def _activate(self, due: int, reference: Array, twist: Array) -> None:
        path = self._newest
        assert path is not None
        self._previous, self._active = self._active, path
        self._until = due + self.config.action_horizon * path.chunk.period
        # The reference was sent at the last instant, so that is where the blending starts.
        since = due if self._last_due is None else max(min(self._last_due, due), due - MAX_AHEAD)
        self._faded_from = since
        start = path.pose(since)
        turn = rotation_between(start, reference)
        self._offset = np.concatenate([reference[:3] - start[:3], turn])
        self._offset_rate = twist - path.twist(since)

    def _blend(self, pose: Array, due: int) -> Array:
        rule, fade = self.config.blending, self.config.fade
        # max: the clock may go back
        s = max(due - self._faded_from, 0) / fade if fade else 1.0
        if rule == "none" or s >= 1.0:
            return pose
        weight = 1.0 - s**3 * (10.0 - s * (15.0 - 6.0 * s))
        if rule == "crossfade" and self._previous is not None:
            if due >= self._previous.end:
                return pose
            return interpolate_pose(pose, self._previous.pose(due), weight)
        # Quintic Hermite: weight and slope vanish at the end with their first two derivatives.
        slope = s - s**3 * (6.0 - s * (8.0 - 3.0 * s))
        offset = weight * self._offset + slope * (fade / 1e9) * self._offset_rate
        rotation = Rotation.from_rotvec(offset[3:]) * Rotation.from_quat(pose[3:])
        return np.concatenate([pose[:3] + offset[:3], rotation.as_quat()])
