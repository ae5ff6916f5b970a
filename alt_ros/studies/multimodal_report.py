"""What the study ``multimodal`` measures, and how it is told; see there for the notation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from alt_ros.errors import DependencyError
from alt_ros.simulation.expert import APPROACH_HEIGHT, left_of
from alt_ros.simulation.rollout import wilson_interval
from alt_ros.simulation.scene import HOME_POSE, CupPlacement
from alt_ros.studies.report import Cell, Interval, Plot, Report, Table, typed_command

Array = NDArray[np.float64]

APART = 0.06
"""Metres."""
DECIDED = 0.5
MODES = ("left", "between", "right", "none")
COLORS = {"left": "C0", "between": "C2", "right": "C1", "none": "C3"}
BOOTSTRAPS = 2000
UNTRAINED = (
    "This is --quick: five cups, and the networks are trained for two minutes or less each, so "
    "that their success says nothing about them; --full trains them, and ACT."
)


@dataclass(frozen=True, eq=False)
class Fork:
    """The two demonstrated ways to one cup.

    Attributes:
        placement: Where the cup stands.
        left: (n, 3) positions of the way to the left, metres.
        right: (m, 3) of the way to the right.
    """

    placement: CupPlacement
    left: Array
    right: Array

    @cached_property
    def way(self) -> Array:
        """(3,) from where the hand starts to above the cup."""
        above = np.array([self.placement.x, self.placement.y, APPROACH_HEIGHT])
        return above - HOME_POSE[:3]

    def sides(self, positions: Array) -> tuple[Array, Array]:
        """Return u (k,), NaN where the ways are not apart, and the distance (k,) to the nearer."""
        to_left = cdist(positions, self.left).min(axis=1)
        to_right = cdist(positions, self.right).min(axis=1)
        both = to_left + to_right
        apart = both >= APART
        sides = np.where(apart, (to_right - to_left) / np.where(apart, both, 1.0), np.nan)
        return sides, np.minimum(to_left, to_right)

    def offset(self, positions: Array) -> float | None:
        """Return the offset midway, 1 on the left way, -1 on the right; None if it stops short."""
        crossings = [self._crossing(path) for path in (positions, self.left, self.right)]
        found, left, right = crossings
        assert left is not None
        assert right is not None
        return None if found is None else 2.0 * (found - right) / (left - right) - 1.0

    def _crossing(self, positions: Array) -> float | None:
        """Return how far to the left a path crosses the plane midway, metres."""
        progress = (positions - HOME_POSE[:3]) @ self.way / (self.way @ self.way)
        beyond = np.flatnonzero(progress >= 0.5)
        if not len(beyond):
            return None
        return float((positions[beyond[0]] - HOME_POSE[:3]) @ left_of(self.way))


@dataclass(frozen=True, eq=False)
class Taken:
    """Which way one episode took.

    Attributes:
        positions: (m, 3) followed, metres.
        offset: Midway; None where it stopped short.
        mode: One of ``MODES``; none stopped short.
        committed: Whether it took a side and never changed to the other.
        switches: Changes of side from chunk to chunk.
        away: Mean distance to the nearer way where they are apart, metres; None where it never
            was there.
    """

    positions: Array
    offset: float | None
    mode: str
    committed: bool
    switches: int
    away: float | None


def taken(fork: Fork, actions: Array, chunks: NDArray[np.int64]) -> Taken:
    """Return which way an episode took.

    Args:
        fork: The two ways.
        actions: (m, 10) followed, one per observation.
        chunks: (m,) stamp of the chunk that each is of.
    """
    positions = actions[:, :3]
    if not len(positions):
        return Taken(positions, None, "none", False, 0, None)
    sides, nearest = fork.sides(positions)
    apart = np.isfinite(sides)
    offset = fork.offset(positions)
    mode = "none" if offset is None else "between"
    if offset is not None and abs(offset) > DECIDED:
        mode = "left" if offset > 0.0 else "right"
    decided = np.flatnonzero(np.abs(sides) > DECIDED)  # NaN is not
    committed = False
    if len(decided):
        after = sides[decided[0] :]
        committed = not bool((after * np.sign(sides[decided[0]]) < 0.0).any())
    means = [
        float(sides[apart & (chunks == stamp)].mean())
        for stamp in np.unique(chunks)
        if (apart & (chunks == stamp)).any()
    ]
    signs = np.sign([mean for mean in means if abs(mean) > DECIDED])
    switches = int(np.count_nonzero(np.diff(signs)))
    away = float(nearest[apart].mean()) if apart.any() else None
    return Taken(positions, offset, mode, committed, switches, away)


@dataclass(frozen=True)
class Start:
    """What a table finds at the start.

    Attributes:
        same_cup: Smallest cosine of the first frames of a cup's two demonstrations.
        other_cup: Largest cosine of first frames of two cups; None with one cup.
        choice_margin: Of the retrieval.
        split: Median distance of a cup's two demonstrations at the end of the first chunk that is
            followed, metres.
    """

    same_cup: float
    other_cup: float | None
    choice_margin: float
    split: float


@dataclass(frozen=True, eq=False)
class Findings:
    """What the study found.

    Attributes:
        quick: Whether less was done.
        seed: Of bootstraps, and of the study.
        cups: How many; an episode of each in turn.
        taken: Policy to which way each episode took.
        success: Policy to whether each succeeded.
        demonstrated: The demonstrated paths, (n, 3) each.
        start: See ``Start``.
    """

    quick: bool
    seed: int
    cups: int
    taken: Mapping[str, Sequence[Taken]]
    success: Mapping[str, Sequence[bool]]
    demonstrated: Sequence[Array]
    start: Start

    def count(self, name: str, mode: str) -> int:
        """Return in how many episodes a policy took a mode."""
        return sum(taken.mode == mode for taken in self.taken[name])

    def committed(self, name: str) -> int:
        """Return how many episodes stayed on the side that they took."""
        return sum(taken.committed for taken in self.taken[name])

    def both_ways(self, name: str) -> int:
        """Return at how many cups a policy took both ways, one time and another."""
        modes = [taken.mode for taken in self.taken[name]]
        return sum({"left", "right"} <= set(modes[cup :: self.cups]) for cup in range(self.cups))

    def balance(self, name: str) -> Interval | None:
        """Return the share of left among left and right; None where neither was taken."""
        left, right = self.count(name, "left"), self.count(name, "right")
        return share(left, left + right) if left + right else None

    def away(self, name: str) -> Interval | None:
        """Return the median distance to the nearer way, mm, with its 95 % bootstrap interval."""
        values = np.array([1e3 * t.away for t in self.taken[name] if t.away is not None])
        if not len(values):
            return None
        rng = np.random.default_rng(self.seed)
        draws = np.median(rng.choice(values, (BOOTSTRAPS, len(values))), axis=1)
        middle = float(np.median(values))
        low, high = (float(v) for v in np.quantile(draws, [0.025, 0.975]))
        return Interval(middle, min(low, middle), max(high, middle))

    def to_json(self, name: str) -> dict[str, Any]:
        """Return the figures of a policy as JSON values."""
        away = self.away(name)
        return {
            "trials": len(self.taken[name]),
            "modes": {mode: self.count(name, mode) for mode in MODES},
            "committed": self.committed(name),
            "cups_both_ways": self.both_ways(name),
            "switches": sum(taken.switches for taken in self.taken[name]),
            "away_mm": None if away is None else away.value,
            "success": sum(self.success[name]),
            "offsets": [taken.offset for taken in self.taken[name]],
        }


def share(count: int, of: int) -> Interval:
    """Return a share with its 95 % Wilson interval."""
    low, high = wilson_interval(count, of)
    value = count / of
    return Interval(value, min(low, value), max(high, value))


def multimodal_report(findings: Findings, started: float) -> Report:
    """Return the report.

    Args:
        findings: What is told.
        started: When the study began, on the monotonic clock.
    """
    start = findings.start
    return Report(
        name="multimodal",
        title="Two ways to the same cup",
        summary=_summary(findings),
        tables=(_table(findings),),
        plots=(_paths(findings), _shares(findings)),
        values={
            "policies": {name: findings.to_json(name) for name in findings.taken},
            "start": {
                "cosine_same_cup": start.same_cup,
                "cosine_other_cup": start.other_cup,
                "choice_margin": start.choice_margin,
                "split_mm": 1e3 * start.split,
            },
        },
        seeds=(findings.seed,),
        command=typed_command(),
        seconds=time.monotonic() - started,
    )


def _summary(findings: Findings) -> list[str]:
    start = findings.start
    others = (
        f"; first frames of two cups come to {start.other_cup:.3f} at the most"
        if start.other_cup is not None
        else ""
    )
    said = [
        "At the start a cup's two demonstrations look alike to the table: the cosine of their "
        f"first frames is at least {start.same_cup:.4f}{others}. The actions they call for are "
        f"{1e3 * start.split:.0f} mm apart at the end of the first chunk that is followed. alt "
        "takes the nearest frame, so that what decides is which of two equals comes first; "
        "alt_top_3 draws among the best frames of the three nearest demonstrations that are not "
        f"worse by more than {start.choice_margin:g}. Both then stay with what they chose."
    ]
    for name, taken in findings.taken.items():
        away, trials = findings.away(name), len(taken)
        modes = [f"{findings.count(name, mode)} {mode}" for mode in MODES[:3]]
        told = f"{name}: {', '.join(modes)} of {trials}; {findings.committed(name)} keep to a side"
        told += f"; both ways at {findings.both_ways(name)} of {findings.cups} cups"
        if away is not None:
            told += f"; {away.value:.1f} mm from the nearer way"
        said.append(f"{told}; {sum(findings.success[name])} succeed.")
    return [*([UNTRAINED] if findings.quick else []), *said]


def _table(findings: Findings) -> Table:
    rows: list[list[Cell]] = [
        [
            name,
            *(findings.count(name, mode) for mode in MODES),
            findings.balance(name),
            findings.both_ways(name),
            share(findings.committed(name), len(taken)),
            sum(t.switches for t in taken) / len(taken),
            findings.away(name),
            share(sum(findings.success[name]), len(taken)),
        ]
        for name, taken in findings.taken.items()
    ]
    columns = (
        *("policy", "left", "between", "right", "stopped short", "left of left and right"),
        *("cups with both", "committed", "switches an episode", "mm from the nearer way"),
        "success",
    )
    return Table(
        "Which way each policy takes",
        columns,
        rows,
        "Demonstrated half and half, at every cup. Shares with 95 % Wilson intervals, the median "
        "distance with a bootstrapped one. Committed: took a side and never came nearer to the "
        "other. Distance: where the ways are apart; where a policy goes midway it is about half "
        "of what lies between them.",
    )


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "a study draws with matplotlib, which is not installed: pip install matplotlib"
        ) from error
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _paths(findings: Findings) -> Plot:
    names = list(findings.taken)
    columns = min(len(names), 4)
    lines = -(-len(names) // columns)
    figure = _figure(3.4 * columns, 3.6 * lines + 0.4)
    every = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in every[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(every, names, strict=False):
        for path in findings.demonstrated:
            axes.plot(path[:, 1], path[:, 0], color="0.82", linewidth=2.5, zorder=1)
        for taken in findings.taken[name]:
            p = taken.positions
            axes.plot(p[:, 1], p[:, 0], color=COLORS[taken.mode], linewidth=0.9, alpha=0.8)
        axes.set_title(name)
        axes.set_aspect("equal")
    every[0].invert_xaxis()  # y points to the left
    for axes in every[::columns]:
        axes.set_ylabel("x, m")
    for axes in every[max(len(names) - columns, 0) : len(names)]:
        axes.set_xlabel("y, m")
        axes.tick_params(labelbottom=True)
    handles = [every[0].plot([], [], color=COLORS[mode], label=mode)[0] for mode in MODES[:3]]
    handles.append(every[0].plot([], [], color=COLORS["none"], label="stopped short")[0])
    handles.append(every[0].plot([], [], color="0.82", linewidth=2.5, label="demonstrated")[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    return Plot.of(
        "The ways taken, from above",
        "Followed actions of every episode, coloured by where they pass midway; every way begins "
        "at the home position. Grey: the demonstrations.",
        figure,
    )


def _shares(findings: Findings) -> Plot:
    names = list(findings.taken)
    figure = _figure(1.6 * len(names) + 1.5, 3.6)
    axes, width = figure.add_subplot(), 0.26
    for number, mode in enumerate(MODES[:3]):
        shares = [share(findings.count(name, mode), len(findings.taken[name])) for name in names]
        bars = [[s.value - s.low for s in shares], [s.high - s.value for s in shares]]
        axes.bar(
            np.arange(len(names)) + (number - 1) * width,
            [s.value for s in shares],
            width,
            yerr=bars,
            color=COLORS[mode],
            capsize=2,
            label=mode,
        )
    axes.axhline(0.5, color="0.5", linestyle=":", linewidth=1.0)
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_ylim(0.0, 1.03)
    axes.set_ylabel("share of the episodes")
    figure.legend(loc="outside right center", frameon=False)
    return Plot.of(
        "Shares of the ways",
        "With 95 % Wilson intervals; demonstrated are a half left and a half right (dotted).",
        figure,
    )
