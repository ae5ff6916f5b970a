"""Tables and plots of the study of a 2-D manifold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from alt_ros.simulation.rollout import wilson_interval
from alt_ros.studies.curves import SHAPES, curve
from alt_ros.studies.manifold_cells import Results
from alt_ros.studies.manifold_judgement import (
    GENERALISES,
    MEMORISES,
    MISSES,
    THRESHOLD,
    TOLERANCE,
    Judgement,
    verdict,
)
from alt_ros.studies.manifold_settings import EXPECTED, FEW, LARGE, MANY, SMALL, Cell, Settings
from alt_ros.studies.report import Interval, Plot, Report, Table, typed_command

RESAMPLES = 2000

TRAINED, DRAWN, TRUE = "tab:orange", "tab:blue", "0.6"
COLOURS = {
    (SMALL, FEW): "tab:purple",
    (SMALL, MANY): "tab:green",
    (LARGE, FEW): "tab:red",
    (LARGE, MANY): "tab:blue",
}
MARKERS = dict(zip(SHAPES, "*oDs", strict=True))


def manifold_report(
    name: str,
    settings: Settings,
    results: Results,
    seed: int,
    seconds: float,
) -> Report:
    """Return the report of trained cells.

    Args:
        name: What the command calls the study.
        settings: What was trained.
        results: What came of it.
        seed: Of everything.
        seconds: What the study took.
    """
    regimes = {
        regime: [judged for cell, (_, judged) in results.items() if cell.regime == regime]
        for regime in EXPECTED
    }
    expected = {
        regime: sum(judged.verdict == EXPECTED[regime] for judged in judgements)
        for regime, judgements in regimes.items()
    }
    return Report(
        name=name,
        title="Memorising, generalising and missing a 2-D manifold",
        summary=[
            f"{_said(settings, regime)}: {EXPECTED[regime]} in {expected[regime]} of "
            f"{len(judgements)} trainings."
            for regime, judgements in regimes.items()
        ],
        tables=[
            _regime_table(settings, regimes, seed),
            _cell_table(settings, results),
        ],
        plots=[_grid(settings, results), _numbers(results)],
        values={
            "settings": asdict(settings),
            "parameters": {
                SMALL: settings.small.parameters,
                LARGE: settings.large.parameters,
            },
            "tolerance": TOLERANCE,
            "threshold": THRESHOLD,
            "as_expected": {"/".join(regime): count for regime, count in expected.items()},
            "trainings": [
                {
                    **cell._asdict(),
                    **asdict(judged),
                    "verdict": judged.verdict,
                    "expected": EXPECTED[cell.regime],
                    "loss": generated.loss,
                    "seconds": generated.seconds,
                }
                for cell, (generated, judged) in results.items()
            ],
        },
        seeds=[seed],
        command=typed_command(),
        seconds=seconds,
    )


def _said(settings: Settings, regime: tuple[str, str]) -> str:
    cell = Cell("", *regime, 0)
    parameters, points = settings.network(cell).parameters, settings.points(cell)
    return f"{regime[0].capitalize()} network ({parameters:,} parameters), {points:,} points"


def _regime_table(
    settings: Settings, regimes: dict[tuple[str, str], list[Judgement]], seed: int
) -> Table:
    generator = np.random.default_rng(seed)
    rows: list[list[Any]] = []
    for regime, judgements in regimes.items():
        right = sum(judged.verdict == EXPECTED[regime] for judged in judgements)
        nearness = [judged.nearness for judged in judgements if judged.nearness is not None]
        low, high = wilson_interval(right, len(judgements))
        rows.append(
            [
                _said(settings, regime),
                EXPECTED[regime],
                f"{right} of {len(judgements)}",
                Interval(right / len(judgements), low, high),
                _mean([judged.on_manifold for judged in judgements], generator),
                _mean(nearness, generator) if nearness else None,
                _mean([judged.distance for judged in judgements], generator),
            ]
        )
    return Table(
        "The four regimes",
        ["regime", "paper", "so here", "share so", "on the curve", "nearness", "distance"],
        rows,
        f"On the curve: share of the samples within {TOLERANCE:.3f} of it; true points, blurred "
        "by the noise of the last denoising step, would have 0.95. Nearness: chance that a sample "
        "on the curve is nearer to a training point than a fresh true point is; 0.5 is what "
        "fresh points have, 1 lies on the training points. Distance: median from the curve, of a "
        f"shape two units wide. Below {THRESHOLD:.2f} on the curve a training misses; otherwise "
        f"it memorises above {THRESHOLD:.2f} nearness and generalises below. Intervals of 95 %: "
        f"Wilson for the share, bootstrap over the {len(next(iter(regimes.values())))} trainings "
        "for the means.",
    )


def _mean(values: Sequence[float], generator: np.random.Generator) -> Interval:
    """Return the mean and its bootstrapped interval."""
    array = np.asarray(values)
    means = array[generator.integers(len(array), size=(RESAMPLES, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    # All values alike differ from their mean by a rounding.
    mean = float(array.mean())
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def _cell_table(settings: Settings, results: Results) -> Table:
    rows: list[list[Any]] = []
    for shape in settings.shapes:
        for size, amount in EXPECTED:
            judgements = [
                results[Cell(shape, size, amount, repeat)][1] for repeat in range(settings.repeats)
            ]
            on = float(np.mean([judged.on_manifold for judged in judgements]))
            drawn = settings.samples * settings.repeats
            low, high = wilson_interval(round(on * drawn), drawn)
            nearness = _pooled(judgements)
            ratios = [judged.ratio for judged in judgements if judged.ratio is not None]
            said = verdict(on, nearness.value if nearness else None)
            rows.append(
                [
                    shape,
                    size,
                    settings.points(Cell(shape, size, amount, 0)),
                    Interval(on, low, high),
                    nearness,
                    float(np.mean(ratios)) if ratios else None,
                    said,
                    f"{sum(j.verdict == said for j in judgements)} of {len(judgements)}",
                ]
            )
    return Table(
        "Every cell",
        ["shape", "network", "points", "on the curve", "nearness", "ratio", "verdict", "agree"],
        rows,
        f"Means over {settings.repeats} trainings, each with its own points and weights, and how "
        "many of them have the verdict of the means. The 95 % intervals are those of these "
        "networks' samples (Wilson; DeLong), not of another training. Ratio: median distance to "
        "the nearest training point, along the curve, over that of fresh points.",
    )


def _pooled(judgements: Sequence[Judgement]) -> Interval | None:
    """Return the mean nearness, and its interval from the standard errors."""
    known = [(j.nearness, j.nearness_error) for j in judgements]
    values = [(value, error) for value, error in known if value is not None and error is not None]
    if not values:
        return None
    mean = sum(value for value, _ in values) / len(values)
    half = 1.96 * math.sqrt(sum(error**2 for _, error in values)) / len(values)
    return Interval(mean, max(mean - half, 0.0), min(mean + half, 1.0))


def _grid(settings: Settings, results: Results) -> Plot:
    from matplotlib.figure import Figure

    shapes = settings.shapes
    figure = Figure((2.5 * len(EXPECTED), 2.6 * len(shapes) + 0.6), dpi=110, layout="constrained")
    axes = figure.subplots(len(shapes), len(EXPECTED), squeeze=False)
    for row, shape in zip(axes, shapes, strict=True):
        for axis, regime in zip(row, EXPECTED, strict=True):
            cell = Cell(shape, *regime, 0)
            generated, judged = results[cell]
            line = curve(shape).points[::16]
            axis.plot(*line.T, color=TRUE, linewidth=0.8, label="true curve")
            axis.scatter(
                *generated.samples.T, s=3, color=DRAWN, alpha=0.35, linewidths=0, label="generated"
            )
            if cell.amount == FEW:
                axis.scatter(
                    *generated.training.T, s=26, marker="x", color=TRAINED, label="training points"
                )
            axis.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), xticks=[], yticks=[])
            axis.set_aspect("equal")
            near = "" if judged.nearness is None else f", near {judged.nearness:.2f}"
            axis.set_xlabel(f"{judged.verdict}: on {judged.on_manifold:.2f}{near}", fontsize=8.5)
    for axis, regime in zip(axes[0], EXPECTED, strict=True):
        points = settings.points(Cell("", *regime, 0))
        axis.set_title(f"{regime[0]} network, {points:,} points", fontsize=9.5)
    for axis, shape in zip(axes[:, 0], shapes, strict=True):
        axis.set_ylabel(shape)
    few = next(i for i, regime in enumerate(EXPECTED) if regime[1] == FEW)
    legend = figure.legend(
        *axes[0, few].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        markerscale=1.5,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    return Plot.of(
        "What is generated",
        "The first training of each cell. Of many training points none is drawn, as they cover "
        "the curve; samples outside the frame are not shown. Under each: the verdict, the share "
        "on the curve and the nearness.",
        figure,
    )


def _numbers(results: Results) -> Plot:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure((7.2, 4.8), dpi=110, layout="constrained")
    axis = figure.subplots()
    axis.axvline(THRESHOLD, color="0.4", linewidth=1)
    axis.plot([THRESHOLD, 1.02], [THRESHOLD, THRESHOLD], color="0.4", linewidth=1)
    axis.axhline(0.5, color="0.7", linestyle=":", linewidth=1)
    axis.annotate("fresh points", (0.47, 0.5), (0, 3), textcoords="offset points", color="0.5")
    for x, y, text in (
        (0.01, 1.0, MISSES),
        (THRESHOLD + 0.01, 1.0, MEMORISES),
        (THRESHOLD + 0.01, THRESHOLD - 0.015, GENERALISES),
    ):
        axis.text(x, y, text, va="top", weight="bold", color="0.35")
    for cell, (_, judged) in results.items():
        if judged.nearness is not None:
            assert judged.nearness_error is not None
            axis.errorbar(
                judged.on_manifold,
                judged.nearness,
                yerr=1.96 * judged.nearness_error,
                color=COLOURS[cell.regime],
                marker=MARKERS[cell.shape],
                markersize=7,
                alpha=0.75,
                elinewidth=1,
            )
    handles = [
        *(
            Line2D([], [], color=colour, marker="o", linestyle="", label=f"{size}, {amount}")
            for (size, amount), colour in COLOURS.items()
        ),
        *(
            Line2D([], [], color="0.4", marker=marker, linestyle="", label=shape)
            for shape, marker in MARKERS.items()
            if any(cell.shape == shape for cell in results)
        ),
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize="small")
    lowest = min((j.nearness for _, j in results.values() if j.nearness is not None), default=0.5)
    axis.set(xlim=(0.0, 1.02), ylim=(min(0.4, lowest - 0.05), 1.02))
    axis.set(xlabel="share of the samples on the curve", ylabel="nearness to training points")
    return Plot.of(
        "The two numbers",
        "One marker a training, with the 95 % interval of its nearness; the lines are the "
        "thresholds of the verdicts.",
        figure,
    )
