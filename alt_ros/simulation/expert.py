"""The scripted expert: knows where the cup is, and grasps it smoothly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError
from alt_ros.geometry import interpolate_pose, pose_distance
from alt_ros.simulation.scene import HOME_POSE, MAX_OPENING, CupPlacement

Array = NDArray[np.float64]

MAX_SPEED = 0.23
"""Metres a second."""
MAX_TURN_RATE = 1.0
"""Radians a second."""
MAX_ACCELERATION = 0.95
"""Metres a second squared."""
MAX_TURN_ACCELERATION = 4.0
"""Radians a second squared."""
CLOSING_SPEED = 0.12
"""Change of the opening, metres a second."""

APPROACH_HEIGHT = 0.165
"""Height of the grasp point above the table before the descent, metres."""
GRASP_HEIGHT = 0.055
LIFT = 0.12
"""Height gained by the lift, metres."""
GRASP_OPENING = 0.045
"""Commanded opening that squeezes a cup of 62 to 70 mm, metres."""
HOLD = 0.5
"""Pause at the end, seconds."""
MAX_DETOUR = 0.15
"""Metres."""
_SETTLE = 0.15


@dataclass(frozen=True)
class _Segment:
    """A move: pose and opening at its ends, the profile between them, and how far it swings out.

    It is straight unless it swings out: by ``swing`` (3,), metres, in the middle, along a sine.
    """

    start: Array
    end: Array
    opening_start: float
    opening_end: float
    duration: float
    ramp: float
    swing: Array | None = None

    def at(self, elapsed: float) -> tuple[Array, float]:
        """Return pose and opening ``elapsed`` seconds into the segment."""
        fraction = _trapezoid(elapsed, self.duration, self.ramp)
        pose = interpolate_pose(self.start, self.end, fraction)
        if self.swing is not None:
            pose[:3] += math.sin(math.pi * fraction) * self.swing
        return pose, self.opening_start + fraction * (self.opening_end - self.opening_start)


def _trapezoid(elapsed: float, duration: float, ramp: float) -> float:
    """Return the fraction of the way: even acceleration, even speed, even deceleration."""
    if elapsed <= 0.0 or duration <= 0.0:
        return 0.0 if duration > 0.0 else 1.0
    if elapsed >= duration:
        return 1.0
    speed = 1.0 / (duration - ramp)
    if elapsed > duration / 2:
        return 1.0 - _trapezoid(duration - elapsed, duration, ramp)
    if elapsed < ramp:
        return 0.5 * speed * elapsed**2 / ramp
    return speed * (elapsed - 0.5 * ramp)


def _profile(distance: float, speed: float, acceleration: float) -> tuple[float, float]:
    """Return (duration, ramp) in seconds of the fastest trapezoid within the limits."""
    if distance < 1e-9:
        return 0.0, 0.0
    ramp = min(speed / acceleration, math.sqrt(distance / acceleration))
    return distance / min(speed, acceleration * ramp) + ramp, ramp


def left_of(way: Array) -> Array:
    """Return the horizontal unit vector (3,) to the left of a way (3,); +y if vertical."""
    length = math.hypot(way[0], way[1])
    if length < 1e-6:
        return np.array([0.0, 1.0, 0.0])
    return np.array([-way[1], way[0], 0.0]) / length


def _move(start: Array, end: Array, opening: float, detour: float = 0.0) -> _Segment:
    """Return the fastest move in which neither translation nor rotation exceeds its limits."""
    distance, angle = pose_distance(start, end)
    speed, acceleration, swing = MAX_SPEED, MAX_ACCELERATION, None
    if detour:
        swing = detour * left_of(end[:3] - start[:3])
        distance = math.hypot(distance, math.pi * detour)  # so long, were it steep all the way
        acceleration /= math.sqrt(2.0)  # along the path; as much is left to bend it
        speed = min(speed, distance * math.sqrt(acceleration / abs(detour)) / math.pi)
    moves = (
        _profile(distance, speed, acceleration),
        _profile(angle, MAX_TURN_RATE, MAX_TURN_ACCELERATION),
    )
    ramp = max(ramp for _, ramp in moves)
    duration = max(max(duration - own for duration, own in moves) + ramp, 2 * ramp)
    return _Segment(start, end, opening, opening, duration, ramp, swing)


class ScriptedExpert:
    """Home, above the cup, down, close, lift, hold; within 0.25 m/s, 1 rad/s and 1 m/s^2.

    The gripper takes the yaw of the cup, which keeps the handle in front of the hand, never
    between the fingers.
    """

    def __init__(
        self, placement: CupPlacement, noise: float = 0.0, seed: int = 0, detour: float = 0.0
    ) -> None:
        """Plan for a cup.

        Args:
            placement: Where the expert believes the cup to be.
            noise: Standard deviation of the way-points about the ideal ones, metres; cut at three.
            seed: Of the noise.
            detour: How far the hand swings out to the left of the straight way from where it
                starts to above the cup, metres; below 0 to the right, 0 goes straight.

        Raises:
            ConfigurationError: The noise is negative or larger than 5 mm, or the detour is larger
                than 15 cm.
        """
        if not 0.0 <= noise <= 0.005:
            raise ConfigurationError(
                f"expert: noise must be 0 to 0.005 m, got {noise}: a grasp bears about 10 mm"
            )
        if not abs(detour) <= MAX_DETOUR:
            raise ConfigurationError(
                f"expert: detour must be -{MAX_DETOUR} to {MAX_DETOUR} m, got {detour}: the arm "
                "reaches no farther"
            )
        self._detour = detour
        rng = np.random.default_rng(seed)
        offsets = noise * np.clip(rng.standard_normal((2, 3)), -3.0, 3.0)
        home = Rotation.from_quat(HOME_POSE[3:])
        rotation = (Rotation.from_euler("z", placement.yaw) * home).as_quat()
        foot = np.array([placement.x, placement.y, 0.0])
        up = np.array([0.0, 0.0, 1.0])
        above = foot + APPROACH_HEIGHT * up + offsets[0]
        grasp = foot + GRASP_HEIGHT * up + offsets[1]
        self._waypoints = [
            np.concatenate([position, rotation]) for position in (above, grasp, grasp + LIFT * up)
        ]
        self._segments: list[_Segment] = []
        self._start_time: int | None = None
        self._time = 0

    def _plan(self, start: Array) -> list[_Segment]:
        above, grasp, lifted = self._waypoints
        closing = (MAX_OPENING - GRASP_OPENING) / CLOSING_SPEED
        return [
            _move(start, above, MAX_OPENING, self._detour),
            _move(above, grasp, MAX_OPENING),
            _Segment(grasp, grasp, MAX_OPENING, GRASP_OPENING, closing, 0.0),
            _Segment(grasp, grasp, GRASP_OPENING, GRASP_OPENING, _SETTLE, 0.0),
            _move(grasp, lifted, GRASP_OPENING),
            _Segment(lifted, lifted, GRASP_OPENING, GRASP_OPENING, HOLD, 0.0),
        ]

    def command(self, time: int, pose: Array, gripper: float) -> tuple[Array, float]:
        """Return the target of this instant; the first call starts the episode.

        Args:
            time: Now, ns.
            pose: (7,) measured pose of the grasp point; the first call's is where the plan starts.
            gripper: Measured opening, metres; a closing gripper is trusted, so it is not read.

        Returns:
            Target pose (7,), metres and quaternion xyzw, and target opening in metres.
        """
        del gripper
        if self._start_time is None:
            self._start_time = time
            self._segments = self._plan(np.array(pose, dtype=np.float64))
        self._time = max(time, self._time)
        elapsed = (time - self._start_time) * 1e-9
        for segment in self._segments:
            if elapsed < segment.duration:
                return segment.at(elapsed)
            elapsed -= segment.duration
        last = self._segments[-1]
        return last.end.copy(), last.opening_end

    @property
    def duration(self) -> float:
        """Length of the planned episode, seconds; 0 before the first command."""
        return sum(segment.duration for segment in self._segments)

    @property
    def done(self) -> bool:
        """Whether the last command came at or after the end of the plan."""
        if self._start_time is None:
            return False
        return (self._time - self._start_time) * 1e-9 >= self.duration
