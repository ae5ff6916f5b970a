"""When the messages of one stream were: rate, gaps, and how its stamps lie to the clock.

Notation: message i has the stamp s, was sent at o by the publishing host's clock and arrived at a
by this host's. Then a - s is the stamp's age at arrival, of which o - s arose in the driver and
a - o on the way, the difference of the hosts' clocks included. Under /clock both a and o are
replaced by the last time of /clock, c: the age is c - s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alt_ros.nodes.topic_record import Message

DRIFT_OF = 8
"""The age's drift is told from the first and the last eighth."""


@dataclass(frozen=True)
class Timing:
    """What the times of one stream say; times in ms, NaN where too few messages came.

    Attributes:
        count: Messages looked at.
        rate: Messages a second.
        interval: Median time from one to the next.
        worst_gap: Longest time without one.
        age: Median of a - s.
        spread: From the 5th to the 95th percentile of a - s.
        drift: By how much a - s grows, ms a second.
        driver: Median of o - s; NaN where the middleware does not tell o.
        way: Median of a - o, likewise.
        zeros: Stamps that are 0.
        repeats: Stamps equal to the one before.
        backwards: Stamps before the one before.
        on_clock: Times were compared with /clock.
    """

    count: int
    rate: float = math.nan
    interval: float = math.nan
    worst_gap: float = math.nan
    age: float = math.nan
    spread: float = math.nan
    drift: float = math.nan
    driver: float = math.nan
    way: float = math.nan
    zeros: int = 0
    repeats: int = 0
    backwards: int = 0
    on_clock: bool = False


def timing_of(messages: Sequence[Message], *, on_clock: bool = False) -> Timing:
    """Return what the times of one stream say.

    Args:
        messages: In order of arrival.
        on_clock: Compare with /clock; messages before its first time are left out.
    """
    kept = [m for m in messages if m.clock] if on_clock else list(messages)
    if not kept:
        return Timing(0, on_clock=on_clock)
    stamps = np.array([m.stamp for m in kept], np.int64)
    here = np.array([m.clock if on_clock else m.arrival for m in kept], np.int64)
    ages = (here - stamps) / 1e6
    steps = np.diff(stamps)
    gaps = np.diff(here) / 1e6
    low, middle, high = (float(v) for v in np.percentile(ages, (5, 50, 95)))
    span = float(here[-1] - here[0]) / 1e9
    sources = np.array([m.source for m in kept], np.int64)
    told = bool((sources > 0).all()) and not on_clock
    return Timing(
        count=len(kept),
        rate=len(gaps) / span if span > 0 else math.nan,
        interval=float(np.median(gaps)) if len(gaps) else math.nan,
        worst_gap=float(gaps.max()) if len(gaps) else math.nan,
        age=middle,
        spread=high - low,
        drift=_drift(here, ages),
        driver=float(np.median(sources - stamps)) / 1e6 if told else math.nan,
        way=float(np.median(here - sources)) / 1e6 if told else math.nan,
        zeros=int((stamps == 0).sum()),
        repeats=int((steps == 0).sum()),
        backwards=int((steps < 0).sum()),
        on_clock=on_clock,
    )


def _drift(here: NDArray[np.int64], ages: NDArray[np.float64]) -> float:
    part = len(ages) // DRIFT_OF
    if part == 0:
        return math.nan
    first, last = float(np.median(here[:part])), float(np.median(here[-part:]))
    if last <= first:
        return math.nan
    return float(np.median(ages[-part:]) - np.median(ages[:part])) / ((last - first) / 1e9)


def nearest_distances(stamps: Sequence[int], others: Sequence[int]) -> NDArray[np.float64]:
    """Return the distance of each stamp to the nearest of the others, ms, (n,).

    Stamps before the first of the others or after its last are left out: their partner may have
    come before or after the listening.
    """
    ordered = np.unique(np.array(others, np.int64))
    if len(ordered) < 2:
        return np.zeros(0)
    inside = np.array([s for s in stamps if ordered[0] <= s <= ordered[-1]], np.int64)
    right = np.clip(np.searchsorted(ordered, inside), 1, len(ordered) - 1)
    nearest = np.minimum(np.abs(inside - ordered[right - 1]), np.abs(ordered[right] - inside))
    return nearest / 1e6


def covered(stamps: Sequence[int], samples: Sequence[int], max_bracket: int) -> float:
    """Return the share of stamps between two samples at most ``max_bracket`` ns apart.

    Stamps after the last sample are left out where the samples come up to them: theirs is to
    come.

    Args:
        stamps: Of images, ns.
        samples: Stamps of poses, ns.
        max_bracket: Largest gap that is interpolated over, ns.
    """
    ordered = np.unique(np.array(samples, np.int64))
    if len(ordered) < 2:
        return 0.0
    first, last = int(ordered[0]) - max_bracket, int(ordered[-1]) + max_bracket
    asked = np.array(stamps, np.int64)
    edge = ((asked > ordered[-1]) & (asked <= last)) | ((asked < ordered[0]) & (asked >= first))
    asked = asked[~edge]
    if not len(asked):
        return 0.0
    right = np.searchsorted(ordered, asked)
    within = (right > 0) & (right < len(ordered))
    place = np.clip(right, 1, len(ordered) - 1)
    gap = ordered[place] - ordered[place - 1]
    exact = ordered[np.clip(right, 0, len(ordered) - 1)] == asked
    return float(np.mean(exact | (within & (gap <= max_bracket))))
