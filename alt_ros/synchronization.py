"""Pairs camera frames and brings the arm's pose to the image's stamp.

The result depends on the stamps of each stream alone, not on how the streams' messages interleave
on arrival, so a bag replayed through this code gives the pairs that the live node gave. No
threads, no clock: a message goes in, the observations that it completes come out.

The rules, per frame of the primary view (the first one) at time t:

1. A partner is mutually nearest: of its view's frames the nearest one to t and within
   ``max_skew``, with no later primary frame nearer to it; of two as near, the earlier. Pairs never
   cross, and no pair depends on the one before it, so nothing slips and nothing latches.
2. The choice waits only while a nearer frame can still come: frames of a view follow each other at
   its shortest recent interval or later. At a steady phase that is never after both frames are
   here. A frame that comes earlier than that is not considered, whenever it arrives.
3. Pose and gripper are interpolated between the samples around t (linear, slerp); never
   extrapolated, never across a gap wider than ``max_bracket``.
4. Frames leave in stamp order. One that waits longer than ``max_wait`` (in stamps) takes the
   partner that it has, or is dropped; so are the frames of another view when the primary one falls
   silent.
5. Nothing is paired while ``max_skew`` is more than half the period that a view's stamps tell.
6. A stream whose stamps go back by more than ``clock_jump`` starts anew, and no other stream with
   it. A frame far behind another stream's stamps waits for that clock to follow, then is dropped.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import interpolate_pose
from alt_ros.types import NANOSECONDS, Observation, check_poses

Payload = TypeVar("Payload")
Array = NDArray[np.float64]

MILLISECOND = 1_000_000

# Intervals of a view that tell how soon its next frame can come, and how many tell its period.
SHORTEST_OF = 64
PERIOD_OF = 30
PERIOD_AT_LEAST = 8
PERIOD_TOLERANCE = 0.02


@dataclass(frozen=True)
class SynchronizationConfig:
    """How streams are matched; times in ns.

    Attributes:
        views: View names; the first is the primary one, whose frames set the stamps.
        arms: Number of end effectors, each with a pose and a gripper stream.
        frame_period: Nominal time between frames of the fastest camera.
        max_skew: Largest distance of a partner's stamp; at most half of ``frame_period``, and of
            the period that is measured.
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
        unknown = sorted(set(self.latencies) - {*self.views, "pose", "gripper"})
        if unknown:
            raise ConfigurationError(
                f"latencies name the streams {unknown}: known are {list(self.views)}, 'pose' and "
                f"'gripper'"
            )


@dataclass(frozen=True, eq=False)
class Match(Generic[Payload]):
    """Frames that belong together, not yet decoded.

    Attributes:
        stamp: Stamp of the primary frame, ns.
        frames: View name to the payload given to ``add_frame``.
        poses: (arms, 7) at the stamp.
        grippers: (arms,) at the stamp.
        skew: Largest distance of a frame's stamp from ``stamp``, ns.
        bracket: Largest gap between two samples that a pose or opening was interpolated from, ns.
    """

    stamp: int
    frames: Mapping[str, Payload]
    poses: Array
    grippers: Array
    skew: int
    bracket: int = 0


@dataclass(frozen=True)
class _Frame(Generic[Payload]):
    """A frame that waits, with what its view's stamps told up to it (ns; None: not yet)."""

    stamp: int
    payload: Payload
    shortest: int | None
    period: int | None

    def excludes_next_before(self, stamp: int) -> bool:
        """Return whether the view's next frame cannot come before ``stamp``."""
        return self.stamp + (self.shortest or 0) >= stamp


class _View(Generic[Payload]):
    """The frames of one camera that wait, and the intervals between its stamps."""

    def __init__(self) -> None:
        self.waiting: deque[_Frame[Payload]] = deque()
        self.period: int | None = None
        self._intervals: deque[int] = deque(maxlen=SHORTEST_OF)

    def append(self, stamp: int, payload: Payload, previous: int | None) -> None:
        if previous is not None and stamp > previous:
            self._intervals.append(stamp - previous)
            self.period = self._measured_period()
        shortest = min(self._intervals, default=None)
        self.waiting.append(_Frame(stamp, payload, shortest, self.period))

    def _measured_period(self) -> int | None:
        """Return the mean of the intervals without a lost frame: jitter cancels out in it."""
        recent = sorted(list(self._intervals)[-PERIOD_OF:])
        if len(recent) < PERIOD_AT_LEAST:
            return None
        whole = [i for i in recent if 2 * i < 3 * recent[len(recent) // 2]]
        return sum(whole) // len(whole)


class _Samples:
    """Stamped values of one stream; the newest within a bounded memory."""

    def __init__(self, length: int = 2048) -> None:
        self.stamps: deque[int] = deque(maxlen=length)
        self.values: deque[Array] = deque(maxlen=length)

    def append(self, stamp: int, value: Array) -> None:
        self.stamps.append(stamp)
        self.values.append(value)

    def clear(self) -> None:
        self.stamps.clear()
        self.values.clear()

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

    Attributes:
        drops: Reason to the number of messages that were not used. Every frame is in a match, in
            here, or among the ``pending`` ones.
        matched: Number of matches.
        refusal: Why nothing is paired although frames belong together; empty while pairs come.
    """

    def __init__(self, config: SynchronizationConfig) -> None:
        self.config = config
        self.drops: Counter[str] = Counter()
        self.matched = 0
        self.refusal = ""
        self._views: dict[str, _View[Payload]] = {view: _View() for view in config.views}
        self._poses = [_Samples() for _ in range(config.arms)]
        self._grippers = [_Samples() for _ in range(config.arms)]
        self._newest: dict[str, int] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}
        # Transport delays stay below this, clocks of their own lie beyond.
        self._apart = max(config.clock_jump, 2 * config.max_wait)

    @property
    def pending(self) -> int:
        """Number of frames that wait."""
        return sum(len(view.waiting) for view in self._views.values())

    @property
    def periods(self) -> dict[str, int]:
        """View to its measured frame period, ns, where it is known."""
        return {name: view.period for name, view in self._views.items() if view.period is not None}

    @property
    def behind(self) -> dict[str, int]:
        """Stream to how far its newest stamp lies behind the newest of all, ns."""
        newest = max(self._newest.values(), default=0)
        return {stream: newest - stamp for stream, stamp in self._newest.items()}

    def add_frame(self, view: str, stamp: int, payload: Payload) -> list[Match[Payload]]:
        """Take a camera frame; return the matches that it completes."""
        if view not in self._views:
            raise DataError(f"view '{view}' is not synchronised: known are {self.config.views}")
        stamp -= self.config.latencies.get(view, 0)
        previous = self._newest.get(view)
        waiting = self._views[view].waiting
        if not self._accept(view, stamp):
            return []
        if previous is not None and stamp < previous:
            self.drops["clock_jump"] += len(waiting)
            waiting.clear()
        self._views[view].append(stamp, payload, previous)
        return self._matches()

    def add_pose(self, stamp: int, pose: Array, arm: int = 0) -> list[Match[Payload]]:
        """Take a pose (7,); a damaged one is dropped and counted as ``invalid_pose``."""
        try:
            check_poses(pose, f"pose of arm {arm}")
        except DataError:
            self.drops["invalid_pose"] += 1
            return []
        return self._add_sample("pose", arm, self._poses[arm], stamp, pose)

    def add_gripper(self, stamp: int, opening: float, arm: int = 0) -> list[Match[Payload]]:
        """Take a gripper opening in metres; one that is not finite is dropped and counted."""
        if not np.isfinite(opening):
            self.drops["invalid_gripper"] += 1
            return []
        return self._add_sample("gripper", arm, self._grippers[arm], stamp, np.array([opening]))

    def observation(
        self, match: Match[Payload], decode: Callable[[Payload], NDArray[np.uint8]]
    ) -> Observation:
        """Decode the frames of a match.

        Raises:
            DataError: A frame does not decode, or is not of its view's size, which the first
                observation sets. The match's frames then count as ``undecodable`` or
                ``size_changed``.
        """
        reason = "undecodable"
        try:
            images = {view: decode(payload) for view, payload in match.frames.items()}
            made = Observation(match.stamp, images, match.poses, match.grippers, skew=match.skew)
            reason = "size_changed"
            self._check_sizes(images)
        except DataError:
            self.matched -= 1
            self.drops[reason] += len(match.frames)
            raise
        return made

    def _check_sizes(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        for view, image in images.items():
            height, width = self._sizes.get(view, image.shape)[:2]
            if image.shape[:2] != (height, width):
                raise DataError(
                    f"view '{view}' began with images of {width}x{height}, got one of "
                    f"{image.shape[1]}x{image.shape[0]}: the size must stay"
                )
        self._sizes = self._sizes or {view: image.shape for view, image in images.items()}

    def _add_sample(
        self, name: str, arm: int, samples: _Samples, stamp: int, value: Array
    ) -> list[Match[Payload]]:
        stamp -= self.config.latencies.get(name, 0)
        stream = f"{name} {arm}"
        previous = self._newest.get(stream)
        if not self._accept(stream, stamp):
            return []
        if previous is not None and stamp < previous:
            samples.clear()
        samples.append(stamp, value)
        return self._matches()

    def _accept(self, stream: str, stamp: int) -> bool:
        """Note the stream's newest stamp; return False for a message that is old or doubled."""
        newest = self._newest.get(stream)
        if newest is not None and 0 <= newest - stamp <= self.config.clock_jump:
            self.drops["duplicate" if stamp == newest else "out_of_order"] += 1
            return False
        self._newest[stream] = stamp
        return True

    def _matches(self) -> list[Match[Payload]]:
        matches: list[Match[Payload]] = []
        first = self.config.views[0]
        primary = self._views[first].waiting
        while primary:
            frame = primary[0]
            is_late = self._waited(first, frame.stamp) > self.config.max_wait
            partners: dict[str, _Frame[Payload]] = {}
            outcome = self._match(frame, partners, is_late)
            if outcome is None:
                break
            primary.popleft()
            for view, partner in partners.items():
                self._take(view, partner)
            if isinstance(outcome, Match):
                self.matched += 1
                self.refusal = ""
                matches.append(outcome)
            else:
                self.drops[outcome] += 1 + len(partners)
        self._drop_unclaimed()
        return matches

    def _waited(self, view: str, stamp: int) -> int:
        """Return how far the streams on the same clock have run ahead of a frame, ns."""
        return max(
            newest - stamp
            for stream, newest in self._newest.items()
            if stream == view or newest - stamp <= self._apart
        )

    def _take(self, view: str, partner: _Frame[Payload]) -> None:
        """Remove a partner and the frames before it: pairs do not cross."""
        waiting = self._views[view].waiting
        while waiting.popleft() is not partner:
            self.drops["no_partner"] += 1

    def _drop_unclaimed(self) -> None:
        longest = self.config.max_wait + self.config.max_skew
        for view in self.config.views[1:]:
            waiting = self._views[view].waiting
            while waiting and self._waited(view, waiting[0].stamp) > longest:
                waiting.popleft()
                self.drops["timeout"] += 1

    def _match(
        self, frame: _Frame[Payload], partners: dict[str, _Frame[Payload]], is_late: bool
    ) -> Match[Payload] | str | None:
        """Return the match, the reason why there is none, or None while it cannot be told.

        Args:
            frame: The oldest primary frame that waits.
            partners: Filled with the partners that were chosen.
            is_late: Whether the frame has waited for ``max_wait``.
        """
        views = self.config.views
        others = [newest for stream, newest in self._newest.items() if stream != views[0]]
        if max(others, default=frame.stamp) - frame.stamp > self._apart:
            return "clocks_apart" if is_late else None
        pending = no_partner = False
        for view in views[1:]:
            partner = self._partner(view, frame, is_late)
            if isinstance(partner, _Frame):
                partners[view] = partner
            pending |= partner is None
            no_partner |= partner == "no_partner"
        if pending:
            return "timeout" if is_late else None
        if no_partner:
            return "no_partner"
        excess = self._excess_of_skew(frame, partners)
        if excess:
            self.refusal = excess
            return "max_skew_too_large"
        return self._with_arms(frame, partners, is_late)

    def _partner(
        self, view: str, frame: _Frame[Payload], is_late: bool
    ) -> _Frame[Payload] | str | None:
        """Return the partner in a view, ``no_partner``, or None while it cannot be told."""
        config, stamp = self.config, frame.stamp
        waiting = self._views[view].waiting
        # Primary frames leave in order, so what is too old for this one is too old for all.
        while waiting and waiting[0].stamp < stamp - config.max_skew:
            old = waiting.popleft().stamp
            self.drops["clocks_apart" if stamp - old > self._apart else "no_partner"] += 1
        if not waiting:
            return None
        best = waiting[0]
        if best.stamp > stamp + config.max_skew:
            return "no_partner"
        for candidate in islice(waiting, 1, None):
            if best.excludes_next_before(2 * stamp - best.stamp):
                break
            if candidate.stamp - stamp >= stamp - best.stamp:
                break
            best = candidate
        else:
            if not best.excludes_next_before(2 * stamp - best.stamp) and not is_late:
                return None
        if not frame.excludes_next_before(2 * best.stamp - stamp):
            primary = self._views[config.views[0]].waiting
            if len(primary) > 1:
                return "no_partner" if primary[1].stamp < 2 * best.stamp - stamp else best
            if not is_late:
                return None
        return best

    def _excess_of_skew(
        self, frame: _Frame[Payload], partners: Mapping[str, _Frame[Payload]]
    ) -> str:
        """Return why ``max_skew`` does not fit the measured periods; empty where it does."""
        if not partners:
            return ""
        frames = {self.config.views[0]: frame} | dict(partners)
        periods = {view: f.period for view, f in frames.items() if f.period is not None}
        view = min(periods, key=lambda name: periods[name], default="")
        if not view or 2 * self.config.max_skew <= (1 + PERIOD_TOLERANCE) * periods[view]:
            return ""
        return (
            f"max_skew {self.config.max_skew / 1e6:g} ms is more than half the measured frame "
            f"period of view '{view}' ({periods[view] / 1e6:.1f} ms): set it to at most "
            f"{periods[view] // (2 * MILLISECOND)} ms"
        )

    def _with_arms(
        self, frame: _Frame[Payload], partners: Mapping[str, _Frame[Payload]], is_late: bool
    ) -> Match[Payload] | str | None:
        """Return the match with every pose and opening at its stamp; else as ``_match``."""
        values: list[Array] = []
        widths = [0]
        for pose, gripper in zip(self._poses, self._grippers, strict=True):
            for name, samples in (("pose", pose), ("gripper", gripper)):
                try:
                    bracket = samples.bracket(frame.stamp)
                except LookupError:
                    return f"no_{name}_before"
                if bracket is None:
                    return "timeout" if is_late else None
                before, start, after, end = bracket
                widths.append(after - before)
                if widths[-1] > self.config.max_bracket:
                    return f"{name}_gap"
                if after > before:
                    fraction = (frame.stamp - before) / (after - before)
                    interpolate = interpolate_pose if name == "pose" else _interpolate_linear
                    start = interpolate(start, end, fraction)
                values.append(start)
        frames = {self.config.views[0]: frame} | dict(partners)
        return Match(
            frame.stamp,
            {view: f.payload for view, f in frames.items()},
            np.array(values[::2], np.float64).reshape(-1, 7),
            np.array(values[1::2], np.float64).reshape(-1),
            skew=max(abs(f.stamp - frame.stamp) for f in frames.values()),
            bracket=max(widths),
        )


def _interpolate_linear(start: Array, end: Array, fraction: float) -> Array:
    return start + fraction * (end - start)
