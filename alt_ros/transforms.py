"""The end effector's pose out of transforms, as /tf and /tf_static carry them.

tf2 interpolates over any gap without a word, and asks for "now". Here every instant at which a
link between the two frames was sent gives one pose, as soon as all links are known there; links
are interpolated between samples at most ``max_bracket`` apart, never extrapolated. The poses
depend on the links' stamps alone, so a bag gives those that the live node had.

A transform is the pose (7,) of the child in the parent: position x, y, z in metres, quaternion x,
y, z, w.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import interpolate_pose
from alt_ros.types import NANOSECONDS, check_poses

Array = NDArray[np.float64]

SAMPLES_KEPT = 256
IDENTITY = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])


class _Link:
    """Where a frame is in its parent: at every instant alike, or at the sampled ones."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.fixed: Array | None = None
        self.stamps: list[int] = []
        self.poses: list[Array] = []

    def append(self, stamp: int, pose: Array) -> None:
        self.stamps.append(stamp)
        self.poses.append(pose)
        if len(self.stamps) > 2 * SAMPLES_KEPT:
            del self.stamps[:SAMPLES_KEPT], self.poses[:SAMPLES_KEPT]

    def at(self, stamp: int, max_bracket: int) -> Array | None:
        """Return the pose at an instant between the samples; None in a gap of theirs."""
        if self.fixed is not None:
            return self.fixed
        after = bisect_left(self.stamps, stamp)
        if self.stamps[after] == stamp:
            return self.poses[after]
        start, end = self.stamps[after - 1], self.stamps[after]
        if end - start > max_bracket:
            return None
        fraction = (stamp - start) / (end - start)
        return interpolate_pose(self.poses[after - 1], self.poses[after], fraction)


class TransformChain:
    """Poses of one frame in another one, from the links between them.

    The two need not be each other's ancestor. Frame names are taken without a leading slash.

    Attributes:
        drops: Reason to the number of transforms, or of instants, that gave no pose.

    Args:
        base: The frame that the poses are given in.
        tip: The frame whose poses are wanted.
        max_bracket: Largest gap between the two samples that a link is interpolated from, ns.
        clock_jump: A stamp that goes back by more than this means a restarted clock, ns.
    """

    def __init__(
        self, base: str, tip: str, max_bracket: int, clock_jump: int = NANOSECONDS // 2
    ) -> None:
        self.base, self.tip = _plain(base), _plain(tip)
        if not self.base or not self.tip or self.base == self.tip:
            raise ConfigurationError(
                f"pose from transforms needs a base frame and another end-effector frame, got "
                f"'{base}' and '{tip}': set base_frame and eef_frame"
            )
        self.drops: Counter[str] = Counter()
        self._max_bracket = max_bracket
        self._clock_jump = clock_jump
        self._links: dict[str, _Link] = {}
        self._path: tuple[list[str], list[str]] | None = None
        self._problem = ""
        self._last: int | None = None
        self._trace()

    @property
    def problem(self) -> str:
        """Why no pose can come, naming the frames; empty once all links were received."""
        if self._problem or self._path is None:
            return self._problem
        moving = {f: self._links[f] for f in self._frames() if self._links[f].fixed is None}
        if not moving:
            return f"transforms from '{self.base}' to '{self.tip}' are all static: none has a time"
        silent = [f"'{link.parent}' -> '{f}'" for f, link in moving.items() if not link.stamps]
        if not silent:
            return ""
        return f"transforms {', '.join(silent)} were not received since a clock went back"

    def add(
        self, parent: str, child: str, stamp: int, pose: Array, *, is_static: bool = False
    ) -> list[tuple[int, Array]]:
        """Take a transform; return (stamp in ns, pose (7,)) of each pose that it completes.

        Args:
            parent: Frame that the pose is given in.
            child: Frame whose pose it is.
            stamp: ns; not looked at where ``is_static``.
            pose: (7,); a damaged one is dropped and counted as ``invalid_transform``.
            is_static: Whether it holds at every instant, as those of /tf_static do.
        """
        parent, child = _plain(parent), _plain(child)
        try:
            check_poses(pose, f"transform '{parent}' -> '{child}'")
        except DataError:
            self.drops["invalid_transform"] += 1
            return []
        link = self._links.get(child)
        if link is None or link.parent != parent:
            if link is not None:
                self.drops["parent_changed"] += 1
            link = self._links[child] = _Link(parent)
            self._trace()
        if is_static:
            link.fixed = pose
        elif not self._append(child, stamp, pose):
            return []
        return self._poses() if child in self._frames() else []

    def _append(self, child: str, stamp: int, pose: Array) -> bool:
        link = self._links[child]
        newest = link.stamps[-1] if link.stamps else None
        if newest is not None and stamp <= newest:
            if newest - stamp <= self._clock_jump:
                if stamp < newest:  # one sent again is usual on /tf
                    self.drops["out_of_order"] += 1
                return False
            self._restart(child)
        link.fixed = None
        link.append(stamp, pose)
        return True

    def _restart(self, child: str) -> None:
        """Forget the samples of a clock that went back: they must not mix with the new ones."""
        frames = self._frames()
        if child in frames:
            self._last = None
        for frame in frames if child in frames else [child]:
            self._links[frame].stamps.clear()
            self._links[frame].poses.clear()

    def _frames(self) -> list[str]:
        """Return the frames between the two, each the child of one link; empty if unconnected."""
        return [] if self._path is None else [*self._path[0], *self._path[1]]

    def _poses(self) -> list[tuple[int, Array]]:
        """Return the poses at the links' stamps since the last one, as far as all are known."""
        links = [self._links[frame] for frame in self._frames()]
        moving = [link for link in links if link.fixed is None]
        if not moving or not all(link.stamps for link in moving):
            return []
        since = max(link.stamps[0] for link in moving)
        if self._last is not None:
            since = max(since, self._last + 1)
        until = min(link.stamps[-1] for link in moving)
        instants: set[int] = set()
        for link in moving:
            stamps = link.stamps
            instants.update(stamps[bisect_left(stamps, since) : bisect_right(stamps, until)])
        poses: list[tuple[int, Array]] = []
        for instant in sorted(instants):
            self._last = instant
            pose = self._at(instant)
            if pose is None:
                self.drops["transform_gap"] += 1
            else:
                poses.append((instant, pose))
        return poses

    def _at(self, stamp: int) -> Array | None:
        """Return base <- ancestor <- tip at an instant."""
        assert self._path is not None
        ends: list[Array] = []
        for frames in self._path:
            pose = IDENTITY
            for frame in frames:
                link = self._links[frame].at(stamp, self._max_bracket)
                if link is None:
                    return None
                pose = _compose(link, pose)
            ends.append(pose)
        base, tip = ends
        return _compose(_inverse(base), tip)

    def _trace(self) -> None:
        """Find the links from both frames up to their nearest common ancestor."""
        self._path, self._problem = None, ""
        ways: list[list[str]] = []
        for start in (self.base, self.tip):
            way = [start]
            while way[-1] in self._links:
                way.append(self._links[way[-1]].parent)
                if way.index(way[-1]) < len(way) - 1:
                    self._problem = f"transforms form a loop: {' -> '.join(reversed(way))}"
                    return
            ways.append(way)
        base, tip = ways
        common = next((frame for frame in tip if frame in base), None)
        if common is None:
            self._problem = (
                f"no transforms connect '{self.base}' and '{self.tip}': {self._reach(base)}, "
                f"{self._reach(tip)}; check base_frame and eef_frame, and who sends the rest"
            )
            return
        self._path = base[: base.index(common)], tip[: tip.index(common)]

    def _reach(self, way: Iterable[str]) -> str:
        frame, *above = way
        known = frame in self._links or any(frame == link.parent for link in self._links.values())
        if above:
            return f"'{frame}' hangs on '{above[-1]}'"
        return f"'{frame}' has no parent" if known else f"'{frame}' was not received"


def _plain(frame: str) -> str:
    return frame.removeprefix("/")


def _compose(outer: Array, inner: Array) -> Array:
    """Return the pose of C in A from those of B in A and of C in B."""
    turn = Rotation.from_quat(outer[3:])
    quaternion = (turn * Rotation.from_quat(inner[3:])).as_quat()
    return np.concatenate([outer[:3] + turn.apply(inner[:3]), quaternion])


def _inverse(pose: Array) -> Array:
    """Return the pose of A in B from that of B in A."""
    turn = Rotation.from_quat(pose[3:]).inv()
    return np.concatenate([-turn.apply(pose[:3]), turn.as_quat()])
