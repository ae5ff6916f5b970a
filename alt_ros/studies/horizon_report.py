"""What the study ``horizon`` measures, and how it is told; see ``horizon`` for the notation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from alt_ros.errors import DependencyError
from alt_ros.simulation.rollout import FRAME_PERIOD, wilson_interval
from alt_ros.studies.report import Cell, Interval, Plot, Table
from alt_ros.studies.rollouts import Rollouts

Array = NDArray[np.float64]

SECONDS = FRAME_PERIOD / 1e9
LEVEL = 0.05
BOOTSTRAPS = 2000


def jumps(actions: Array, chunks: NDArray[np.int64]) -> Array:
    """Return the jump at each change of chunks, metres.

    Args:
        actions: (m, 10) followed, one per observation.
        chunks: (m,) stamp of the chunk that each is of.
    """
    starts = np.flatnonzero(np.diff(chunks)) + 1
    starts = starts[starts >= 2]
    p = actions[:, :3]
    return np.linalg.norm(p[starts] - 2.0 * p[starts - 1] + p[starts - 2], axis=1)


@dataclass(frozen=True, eq=False)
class Sweep:
    """What one policy did in one scenario at one Ta.

    Attributes:
        action_horizon: Ta.
        success: (N,) bool, by trial.
        seconds: (S,) length of each successful episode.
        jump: (M,) largest jump of each episode in which chunks changed, metres.
        inferences: (N,) chunks of which anything was followed.
    """

    action_horizon: int
    success: NDArray[np.bool_]
    seconds: Array
    jump: Array
    inferences: Array

    @classmethod
    def of(cls, action_horizon: int, rollouts: Rollouts) -> Sweep:
        """Return the figures of roll-outs."""
        pairs = list(zip(rollouts.actions, rollouts.chunks, strict=True))
        seconds = np.array([SECONDS * len(actions) for actions, _ in pairs])
        seams = [jumps(actions, chunks) for actions, chunks in pairs]
        return cls(
            action_horizon,
            rollouts.success,
            seconds[rollouts.success],
            np.array([jump.max() for jump in seams if len(jump)]),
            np.array([float(len(np.unique(chunks))) for _, chunks in pairs]),
        )

    @property
    def rate(self) -> Interval:
        """Share of successes."""
        done, trials = int(self.success.sum()), len(self.success)
        low, high = wilson_interval(done, trials)
        return Interval(done / trials, min(low, done / trials), max(high, done / trials))

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "action_horizon": self.action_horizon,
            "success": int(self.success.sum()),
            "trials": len(self.success),
            "seconds": float(self.seconds.mean()) if len(self.seconds) else None,
            "jump_mm": 1e3 * float(np.median(self.jump)) if len(self.jump) else None,
            "inferences": float(self.inferences.mean()),
        }


def spread(
    values: Array, statistic: Callable[..., Any], seed: int, scale: float = 1.0
) -> Interval | None:
    """Return a statistic with its 95 % bootstrap interval; None where there are no values."""
    if not len(values):
        return None
    draws = np.random.default_rng(seed).choice(values, (BOOTSTRAPS, len(values)))
    value = scale * float(statistic(values))
    low, high = (scale * float(v) for v in np.quantile(statistic(draws, axis=1), [0.025, 0.975]))
    return Interval(value, min(low, value), max(high, value))


def best_horizon(sweeps: Sequence[Sweep]) -> tuple[Sweep, list[int]]:
    """Return the sweep of most successes, the quicker of equals, and the Ta that are as good.

    As good is what McNemar's exact test cannot tell from the best.
    """

    def rank(sweep: Sweep) -> tuple[int, float]:
        quick = -float(sweep.seconds.mean()) if len(sweep.seconds) else 0.0
        return int(sweep.success.sum()), quick

    best = max(sweeps, key=rank)
    others = [sweep for sweep in sweeps if sweep is not best]
    alike: list[int] = []
    for other in others:
        won = int((best.success & ~other.success).sum())
        lost = int((other.success & ~best.success).sum())
        p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
        if p >= LEVEL / len(others):
            alike.append(other.action_horizon)
    return best, alike


def summary(quick: bool, sweeps: Mapping[tuple[str, str], Sequence[Sweep]]) -> list[str]:
    """Return the sentences."""
    said: list[str] = []
    for (name, scenario), of in sweeps.items():
        best, alike = best_horizon(of)
        rate = best.rate
        apart = [s.action_horizon for s in of if s is not best and s.action_horizon not in alike]
        said.append(
            f"{name}, {scenario}: best (successes, then time) at Ta = {best.action_horizon}, "
            f"{int(best.success.sum())} of {len(best.success)} "
            f"({rate.value:.2f} [{rate.low:.2f}, {rate.high:.2f}]). "
            + (f"As good for all that these trials tell: {_listed(alike)}. " if alike else "")
            + (f"Worse: {_listed(apart)}." if apart else "No Ta is told to be worse.")
        )
    left_out = "This is --quick: the diffusion policy and ACT are swept by --full."
    return [*([left_out] if quick else []), *said]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def table(sweeps: Mapping[tuple[str, str], Sequence[Sweep]], smooth: float, seed: int) -> Table:
    """Return the figures of every Ta."""
    rows: list[list[Cell]] = [
        [
            name,
            scenario,
            sweep.action_horizon,
            sweep.rate,
            spread(sweep.seconds, np.mean, seed),
            spread(sweep.jump, np.median, seed, 1e3),
            float(sweep.inferences.mean()),
        ]
        for (name, scenario), of in sweeps.items()
        for sweep in of
    ]
    columns = (
        *("policy", "scenario", "Ta", "success", "s to success"),
        *("largest jump, mm", "inferences an episode"),
    )
    return Table(
        "By action horizon",
        columns,
        rows,
        "Success: share with its 95 % Wilson interval. Time: mean over the successful episodes. "
        "Jump: median over the episodes of the largest at a change of chunks, before the executor "
        f"blends it away; a demonstration's own largest from any action to the next is "
        f"{1e3 * smooth:.2f} mm. Both with 95 % bootstrap intervals. Failed episodes go on for "
        "7 s, and count with all their inferences.",
    )


def plot(sweeps: Mapping[tuple[str, str], Sequence[Sweep]], smooth: float, seed: int) -> Plot:
    """Return success and jumps against Ta."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "a study draws with matplotlib, which is not installed: pip install matplotlib"
        ) from error
    names = list(dict.fromkeys(name for name, _ in sweeps))
    scenarios = list(dict.fromkeys(scenario for _, scenario in sweeps))
    figure = Figure(figsize=(5.2 * len(scenarios), 6.4), dpi=120, layout="constrained")
    axes = figure.subplots(2, len(scenarios), sharex=True, sharey="row", squeeze=False)
    for column, scenario in enumerate(scenarios):
        for number, name in enumerate(names):
            of = sweeps[name, scenario]
            at = np.array([sweep.action_horizon for sweep in of]) + 0.25 * number
            _line(axes[0, column], at, [sweep.rate for sweep in of], name, number)
            of_jumps = [spread(sweep.jump, np.median, seed, 1e3) for sweep in of]
            _line(axes[1, column], at, of_jumps, name, number)
        axes[1, column].axhline(1e3 * smooth, color="0.5", linestyle=":", label="demonstrated")
        axes[0, column].set_title(scenario)
        axes[1, column].set_xlabel("action horizon Ta, actions of 50 ms")
    axes[0, 0].set_ylim(-0.03, 1.03)
    axes[0, 0].set_ylabel("success, share of the trials")
    axes[1, 0].set_ylabel("largest jump between chunks, mm")
    axes[1, 0].set_ylim(bottom=0.0)
    handles, _ = axes[1, -1].get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return Plot.of(
        "Success and jumps against the action horizon",
        "95 % intervals: Wilson's for the success, bootstrapped for the median jump. Policies are "
        "drawn a little beside each other.",
        figure,
    )


def _line(axes: Any, at: Array, values: Sequence[Interval | None], name: str, number: int) -> None:
    known = [(x, value) for x, value in zip(at, values, strict=True) if value is not None]
    if not known:
        return
    middle = np.array([value.value for _, value in known])
    bars = [
        [value.value - value.low for _, value in known],
        [value.high - value.value for _, value in known],
    ]
    places = [x for x, _ in known]
    axes.errorbar(
        places, middle, yerr=bars, label=name, color=f"C{number}", marker="o", ms=4, capsize=2
    )
