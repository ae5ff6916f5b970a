"""Pairs camera frames and brings the arm's pose to the image's stamp.

The result depends on the stamps of each stream alone, not on how the streams' messages interleave
on arrival, so a bag replayed through this code gives the pairs that the live node gave. No
threads, no clock: a message goes in, the observations that it completes come out.

The rules, per frame of the primary view (the first one) at time t:

1. Another view's partner is its first frame within ``max_skew`` of t that no earlier primary
   frame took. With ``max_skew`` at most half a frame period there is one to choose, two only where
   stamps jitter, so nothing slips, nothing latches, and no later arrival changes the choice.
2. Pose and gripper are interpolated between the samples around t (linear, slerp); never
   extrapolated, never across a gap wider than ``max_bracket``.
3. Frames leave in stamp order. One that waits longer than ``max_wait`` (in stamps) is dropped;
   so are the frames of another view when the primary one falls silent.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import interpolate_pose
from alt_ros.types import NANOSECONDS, Observation, check_poses

Payload = TypeVar("Payload")
Array = NDArray[np.float64]

MILLISECOND = 1_000_000


@dataclass(frozen=True)
class SynchronizationConfig:
    """How streams are matched; times in ns.

    Attributes:
        views: View names; the first is the primary one, whose frames set the stamps.
        arms: Number of end effectors, each with a pose and a gripper stream.
        frame_period: Nominal time between frames of the fastest camera.
        max_skew: Largest distance of a partner's stamp; at most half of ``frame_period``.
        max_bracket: Largest gap between the two samples that a pose is interpolated from.
        max_wait: How far the streams may run ahead of a frame before it is given up.
        clock_jump: A stamp that goes back by more than this means a restarted clock.
        latencies: Stream name (a view, ``pose``, ``gripper``) to the delay inside its stamps.
    """

    views: tuple[str, ...]
    arms: int = 1
    frame_period: int = 50 * MILLISECOND
    max_skew: int = 20 * MILLISECOND
    max_bracket: int = 100 * MILLISECOND
    max_wait: int = 200 * MILLISECOND
    clock_jump: int = NANOSECONDS // 2
    latencies: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.views or len(set(self.views)) != len(self.views):
            raise ConfigurationError(
                f"synchronisation needs at least one view, each named once, got {self.views}"
            )
        if self.max_skew < 0 or 2 * self.max_skew > self.frame_period:
            raise ConfigurationError(
                f"max_skew must be between 0 and half the frame period "
                f"({self.frame_period / 2e6:g} ms), got {self.max_skew / 1e6:g} ms: a larger one "
                f"would accept the neighbouring frame as partner"
            )
        for name in ("frame_period", "max_bracket", "max_wait", "clock_jump"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} must be positive, got {getattr(self, name)} ns")


@dataclass(frozen=True, eq=False)
class Match(Generic[Payload]):
    """Frames that belong together, not yet decoded.

    Attributes:
        stamp: Stamp of the primary frame, ns.
        frames: View name to the payload given to ``add_frame``.
        poses: (arms, 7) at the stamp.
        grippers: (arms,) at the stamp.
        skew: Largest distance of a frame's stamp from ``stamp``, ns.
    """

    stamp: int
    frames: Mapping[str, Payload]
    poses: Array
    grippers: Array
    skew: int

    def observation(self, decode: Callable[[Payload], NDArray[np.uint8]]) -> Observation:
        """Decode the frames.

        Raises:
            DataError: A frame does not decode.
        """
        images = {view: decode(payload) for view, payload in self.frames.items()}
        return Observation(self.stamp, images, self.poses, self.grippers, skew=self.skew)


class _Samples:
    """Stamped values of one stream; the newest within a bounded memory."""

    def __init__(self, length: int = 2048) -> None:
        self.stamps: deque[int] = deque(maxlen=length)
        self.values: deque[Array] = deque(maxlen=length)

    def bracket(self, stamp: int) -> tuple[int, Array, int, Array] | None:
        """Return the samples around ``stamp``; None while the later one has not come."""
        if not self.stamps or self.stamps[-1] < stamp:
            return None
        index = len(self.stamps) - 1
        while index > 0 and self.stamps[index - 1] >= stamp:
            index -= 1
        before = index if self.stamps[index] == stamp else index - 1
        if before < 0:
            raise LookupError
        return self.stamps[before], self.values[before], self.stamps[index], self.values[index]


class Synchronizer(Generic[Payload]):
    """Matches the streams of one robot.

    ``drops`` counts every message that was not used, by reason.
    """

    def __init__(self, config: SynchronizationConfig) -> None:
        self.config = config
        self.drops: Counter[str] = Counter()
        self.matched = 0
        self._frames: dict[str, deque[tuple[int, Payload]]] = {}
        self._poses: list[_Samples] = []
        self._grippers: list[_Samples] = []
        self._newest: dict[str, int] = {}
        self._forget()

    def _forget(self) -> None:
        self._frames = {view: deque() for view in self.config.views}
        self._poses = [_Samples() for _ in range(self.config.arms)]
        self._grippers = [_Samples() for _ in range(self.config.arms)]
        self._newest = {}

    def add_frame(self, view: str, stamp: int, payload: Payload) -> list[Match[Payload]]:
        """Take a camera frame; return the matches that it completes."""
        if view not in self._frames:
            raise DataError(f"view '{view}' is not synchronised: known are {self.config.views}")
        stamp -= self.config.latencies.get(view, 0)
        if not self._accept(view, stamp):
            return []
        self._frames[view].append((stamp, payload))
        return self._matches()

    def add_pose(self, stamp: int, pose: Array, arm: int = 0) -> list[Match[Payload]]:
        """Take a pose (7,); a damaged one is dropped and counted as ``invalid_pose``."""
        stamp -= self.config.latencies.get("pose", 0)
        try:
            check_poses(pose, f"pose of arm {arm}")
        except DataError:
            self.drops["invalid_pose"] += 1
            return []
        if not self._accept(f"pose {arm}", stamp):
            return []
        self._poses[arm].stamps.append(stamp)
        self._poses[arm].values.append(pose)
        return self._matches()

    def add_gripper(self, stamp: int, opening: float, arm: int = 0) -> list[Match[Payload]]:
        """Take a gripper opening in metres; one that is not finite is dropped and counted."""
        stamp -= self.config.latencies.get("gripper", 0)
        if not np.isfinite(opening):
            self.drops["invalid_gripper"] += 1
            return []
        if not self._accept(f"gripper {arm}", stamp):
            return []
        self._grippers[arm].stamps.append(stamp)
        self._grippers[arm].values.append(np.array([opening]))
        return self._matches()

    def _accept(self, stream: str, stamp: int) -> bool:
        newest = self._newest.get(stream)
        if newest is not None and stamp <= newest:
            if newest - stamp > self.config.clock_jump:
                self.drops["clock_jump"] += sum(map(len, self._frames.values()))
                self._forget()
            else:
                self.drops["duplicate" if stamp == newest else "out_of_order"] += 1
                return False
        self._newest[stream] = stamp
        return True

    def _matches(self) -> list[Match[Payload]]:
        matches: list[Match[Payload]] = []
        primary = self._frames[self.config.views[0]]
        while primary:
            stamp, payload = primary[0]
            outcome = self._match(stamp, payload)
            if outcome is None:
                if max(self._newest.values()) - stamp <= self.config.max_wait:
                    break
                outcome = "timeout"
            primary.popleft()
            if isinstance(outcome, str):
                self.drops[outcome] += 1
            else:
                self.matched += 1
                matches.append(outcome)
        self._drop_unclaimed()
        return matches

    def _drop_unclaimed(self) -> None:
        oldest = max(self._newest.values()) - self.config.max_wait - self.config.max_skew
        for view in self.config.views[1:]:
            queue = self._frames[view]
            while queue and queue[0][0] < oldest:
                queue.popleft()
                self.drops["timeout"] += 1

    def _match(self, stamp: int, payload: Payload) -> Match[Payload] | str | None:
        """Return the match, the reason why there is none, or None while it cannot be told."""
        partners: dict[str, tuple[int, Payload]] = {}
        for view in self.config.views[1:]:
            partner = self._partner(view, stamp)
            if partner is None or isinstance(partner, str):
                return partner
            partners[view] = partner
        poses, grippers = [], []
        for arm in range(self.config.arms):
            pose = self._at(self._poses[arm], stamp, "pose", interpolate_pose)
            if pose is None or isinstance(pose, str):
                return pose
            gripper = self._at(self._grippers[arm], stamp, "gripper", _interpolate_linear)
            if gripper is None or isinstance(gripper, str):
                return gripper
            poses.append(pose)
            grippers.append(gripper[0])
        for view in partners:
            self._frames[view].popleft()
        frames = {self.config.views[0]: payload} | {v: frame for v, (_, frame) in partners.items()}
        skew = max(
            (abs(partner_stamp - stamp) for partner_stamp, _ in partners.values()), default=0
        )
        return Match(
            stamp, frames, np.array(poses).reshape(-1, 7), np.array(grippers, np.float64), skew
        )

    def _partner(self, view: str, stamp: int) -> tuple[int, Payload] | str | None:
        queue = self._frames[view]
        # Primary frames leave in order, so what is too old for this one is too old for all.
        while queue and queue[0][0] < stamp - self.config.max_skew:
            queue.popleft()
            self.drops["no_partner"] += 1
        if not queue:
            return None
        return queue[0] if queue[0][0] <= stamp + self.config.max_skew else "no_partner"

    def _at(
        self,
        samples: _Samples,
        stamp: int,
        name: str,
        interpolate: Callable[[Array, Array, float], Array],
    ) -> Array | str | None:
        try:
            bracket = samples.bracket(stamp)
        except LookupError:
            return f"no_{name}_before"
        if bracket is None:
            return None
        before, start, after, end = bracket
        if after == before:
            return start
        if after - before > self.config.max_bracket:
            return f"{name}_gap"
        return interpolate(start, end, (stamp - before) / (after - before))


def _interpolate_linear(start: Array, end: Array, fraction: float) -> Array:
    return start + fraction * (end - start)
