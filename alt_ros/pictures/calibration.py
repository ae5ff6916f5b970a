"""A picture of a calibration: what ordinary episodes do, and where strangeness begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alt_ros.errors import DataError
from alt_ros.lookup.calibration import EPISODE, Calibration
from alt_ros.lookup.episodes import EpisodeScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (5.2, 3.4)
"""Width and height of one panel, inches."""
ORDINARY, USUAL, LIMIT = "0.55", "tab:blue", "tab:red"


def draw_calibration(
    path: Path, calibration: Calibration, episodes: Sequence[EpisodeScores]
) -> None:
    """Draw each score over progress with its band, and the levels with the threshold.

    Args:
        path: File to write; its ending says the format.
        calibration: What is drawn.
        episodes: The ordinary episodes, the calibration's scores as columns.

    Raises:
        DataError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    panels = len(calibration.bands) + 1
    columns = math.ceil(math.sqrt(panels))
    rows = -(-panels // columns)
    figure = Figure((SIZE[0] * columns, SIZE[1] * rows), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for column, (name, axis) in enumerate(zip(calibration.bands, axes, strict=False)):
        _draw_score(axis, calibration, name, [(e.progress, e.values[:, column]) for e in episodes])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    _draw_levels(axes[panels - 1], calibration)
    for axis in axes[panels:]:
        axis.set_visible(False)
    save_figure(figure, path)


def _draw_score(
    axis: Any, calibration: Calibration, name: str, episodes: Sequence[tuple[Any, Any]]
) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    band = calibration.bands[name]
    grid = np.linspace(0.0, 1.0, 101)
    limit = band.value_at(calibration.threshold, grid)
    for number, (progress, values) in enumerate(episodes):
        label = f"{len(episodes)} ordinary episodes" if number == 0 else None
        shown = np.maximum(values, 0.0) + band.resolution
        axis.plot(progress, shown, color=ORDINARY, alpha=0.5, linewidth=0.7, label=label)
    one = [band.value_at(z, grid) + band.resolution for z in (-band.weight, band.weight)]
    axis.fill_between(grid, *one, color=USUAL, alpha=0.25, linewidth=0, label="usual, ± 1 scale")
    axis.plot(grid, band.value_at(0.0, grid) + band.resolution, color=USUAL)
    axis.plot(grid, limit + band.resolution, color=LIMIT, label="strange above")
    if band.resolution:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    added = f" + {band.resolution:g}" if band.resolution else ""
    axis.set(title=name, xlabel="progress", ylabel=f"score{added}", xlim=(0.0, 1.0))


def _draw_levels(axis: Any, calibration: Calibration) -> None:
    unit = "episodes" if calibration.per == EPISODE else "observations"
    levels = np.asarray(calibration.levels)
    if len(levels):
        axis.ecdf(levels, color=USUAL, label=f"{len(levels)} levels of {unit}")
        axis.plot(levels, np.full(len(levels), 0.01), "|", color=USUAL, alpha=0.6)
    axis.axvline(
        calibration.threshold, color=LIMIT, label=f"threshold {calibration.threshold:.2f}"
    )
    if calibration.rate is not None:
        words = f"1 - rate ({calibration.guarantee})"
        axis.axhline(
            1.0 - calibration.rate, color="black", linestyle=":", linewidth=1, label=words
        )
    axis.set(title=f"levels of ordinary {unit}", ylim=(0.0, 1.02))
    axis.set(xlabel="level, scales of the strangest score", ylabel="share at or below")
    axis.margins(x=0.08)
    axis.legend(fontsize="small", loc="lower right", bbox_to_anchor=(0.93, 0.05))


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"picture '{path}' cannot be written, its name must end in .png or the like: {error}"
        ) from error
