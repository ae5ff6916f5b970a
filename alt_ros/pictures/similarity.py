"""Pictures of the memorisation audit: one roll-out against each demonstration, and policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.memorisation.similarity import Similarity
from alt_ros.pictures.calibration import save_figure

Array = NDArray[np.float64]

NEAREST, SECOND, OTHER, AVERAGE = "tab:blue", "tab:cyan", "0.7", "tab:red"
RESAMPLES = 2000
"""Of the bootstrap."""


def draw_similarity(path: Path, similarity: Similarity, subject: str = "roll-out") -> None:
    """Draw how similar one executed trajectory is to each demonstration.

    The line is the average distance of the demonstrations to each other, where S_i is 0.

    Args:
        path: File to write; its ending says the format.
        similarity: What is drawn.
        subject: What was judged, for the title.

    Raises:
        DataError: The file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    values = similarity.per_demonstration
    colours = [OTHER] * len(values)
    colours[similarity.second], colours[similarity.nearest] = SECOND, NEAREST
    width = float(np.clip(2.0 + 0.16 * len(values), 6.0, 14.0))
    figure = Figure((width, 3.6), dpi=110, layout="constrained")
    axis = figure.subplots()
    bars = axis.bar(range(len(values)), values, color=colours, width=0.8)
    line = axis.axhline(0.0, color=AVERAGE, linewidth=1.5)
    axis.legend(
        [bars[similarity.nearest], bars[similarity.second], line],
        [
            f"nearest, {similarity.nearest}",
            f"second nearest, {similarity.second}",
            "average distance of demonstrations",
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=3,
        frameon=False,
        fontsize="small",
    )
    axis.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True))
    axis.set(xlim=(-0.8, len(values) - 0.2), ylim=(min(1.08 * float(values.min()), -0.05), 1.05))
    axis.set(xlabel="demonstration", ylabel="similarity $S_i$, 1 = a copy")
    axis.set_title(f"{subject}: S = {similarity.value:.3f}")
    save_figure(figure, path)


def draw_policies(
    path: Path, values: Mapping[str, Mapping[str, ArrayLike]], *, seed: int = 0
) -> None:
    """Draw the median S of each policy in each scenario, with its 95 % bootstrap interval.

    The median, since S has no lower bound and one roll-out would decide the mean. A cross marks
    the largest S, which is what the paper reports. A single roll-out has no interval.

    Args:
        path: File to write; its ending says the format.
        values: Policy to scenario to the S of its roll-outs; a policy may lack a scenario.
        seed: Of the bootstrap.

    Raises:
        ConfigurationError: The seed is negative.
        DataError: There is nothing to draw, a value is not finite, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    if seed < 0:
        raise ConfigurationError(f"bootstrap: seed must be at least 0, got {seed}")
    scenarios = list(dict.fromkeys(name for cells in values.values() for name in cells))
    if not scenarios:
        raise DataError("picture of similarities: no policy has a scenario: judge roll-outs first")
    generator = np.random.default_rng(seed)
    figure = Figure((max(2.5 + 1.5 * len(scenarios), 5.0), 4.0), dpi=110, layout="constrained")
    axis = figure.subplots()
    width = min(0.8 / len(values), 0.4)
    shown: list[Any] = []
    largest: list[tuple[float, float]] = []
    for number, (policy, cells) in enumerate(values.items()):
        drawn = {name: _checked(policy, name, cells[name]) for name in scenarios if name in cells}
        offset = (number - (len(values) - 1) / 2) * width
        at = [scenarios.index(name) + offset for name in drawn]
        medians = [float(np.median(each)) for each in drawn.values()]
        shown.append(axis.bar(at, medians, 0.92 * width, color=f"C{number}", label=policy))
        errors = _errors(list(drawn.values()), generator)
        axis.errorbar(at, medians, errors, fmt="none", ecolor="black", elinewidth=1, capsize=3)
        largest += zip(at, map(np.max, drawn.values()), strict=True)
    shown += axis.plot(*zip(*largest, strict=True), "kx", markersize=5, label="largest")
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(scenarios)), scenarios)
    axis.set_xlim(-0.6, len(scenarios) - 0.4)
    axis.set(ylabel="S, 1 = a copy", title="median S with its 95 % interval")
    axis.set_ylim(top=1.08)
    figure.legend(
        handles=shown,
        loc="outside lower center",
        ncols=min(len(values) + 1, 6),
        frameon=False,
    )
    save_figure(figure, path)


def _checked(policy: str, scenario: str, values: ArrayLike) -> Array:
    checked = np.asarray(values, np.float64)
    if checked.ndim != 1 or len(checked) == 0 or not np.isfinite(checked).all():
        raise DataError(
            f"similarities of '{policy}' in '{scenario}' must be at least one finite number, got "
            f"{checked.tolist()}"[:300]
        )
    return checked


def _errors(cells: Sequence[Array], generator: np.random.Generator) -> Array:
    """Return how far the 95 % interval reaches below and above each median: (2, cells)."""
    errors = np.full((2, len(cells)), np.nan)
    for cell, values in enumerate(cells):
        if len(values) > 1:
            rows = generator.integers(len(values), size=(RESAMPLES, len(values)))
            low, high = np.quantile(np.median(values[rows], axis=1), (0.025, 0.975))
            median = np.median(values)
            errors[:, cell] = max(median - low, 0.0), max(high - median, 0.0)
    return errors
