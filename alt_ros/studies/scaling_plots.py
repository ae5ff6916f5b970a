"""The pictures of the study ``scaling``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alt_ros.studies.report import Cell, Interval, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDINARY = "ind"
DRIVEN = (ORDINARY, "anywhere")
MIB = 2**20


def _markers(
    axis: Axes,
    rows: Sequence[Mapping[str, Any]],
    name: str,
    of: Callable[[Any], Cell],
    colour: str,
) -> None:
    """Draw a figure of every table; hollow where it is resampled."""
    cells = [of(row) for row in rows]
    values = np.array([c.value if isinstance(c, Interval) else float(c or 0) for c in cells])
    x = np.array([float(row["demonstrations"]) for row in rows])
    kept = [
        n
        for n, row in enumerate(rows)  # through the best-founded table of each size
        if row["recorded"] == max(r["recorded"] for r in rows if r["demonstrations"] == x[n])
    ]
    axis.plot(x[kept], values[kept], color=colour, linewidth=1.0, label=name)
    for at, value, cell, row in zip(x, values, cells, rows, strict=True):
        low, high = (cell.low, cell.high) if isinstance(cell, Interval) else (value, value)
        axis.errorbar(
            at,
            value,
            yerr=[[value - low], [high - value]],
            fmt="o",
            color=colour,
            markerfacecolor="white" if row["resampled"] else colour,
            capsize=3,
        )


def cost_plot(rows: Sequence[Mapping[str, Any]], encoder_bytes: int, diffusion_bytes: int) -> Plot:
    """Return time and memory of every table, beside the bytes of two networks' weights."""
    from matplotlib.figure import Figure

    figure = Figure((10.0, 4.0), dpi=110, layout="constrained")
    times, memory = figure.subplots(1, 2)
    for name, key, colour in (
        ("answer", "answer_ms_median", "tab:green"),
        ("search, every row", "exact_ms_median", "tab:orange"),
        ("search, HNSW", "hnsw_ms_median", "tab:blue"),
    ):
        _markers(times, rows, name, lambda row, key=key: row[key], colour)
    _markers(memory, rows, "table", lambda row: row["table_bytes"] / MIB, "tab:blue")
    _markers(memory, rows, "graph", lambda row: row["index_bytes"] / MIB, "tab:orange")
    memory.axhline(encoder_bytes / MIB, color="0.5", linestyle=":", label="encoder")
    memory.axhline(diffusion_bytes / MIB, color="0.2", linestyle="--", label="diffusion policy")
    for axis, label in ((times, "median time, ms"), (memory, "memory, MiB")):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("demonstrations")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize="small")
    return Plot.of(
        "Time and memory",
        "Filled: recorded; hollow: resampled. Medians with 95 % intervals. The diffusion policy "
        "is of the published size; only its weights are counted.",
        figure,
    )


def worth_plot(rows: Sequence[Mapping[str, Any]]) -> Plot:
    """Return what every table detects, and how often it succeeds."""
    from matplotlib.figure import Figure

    figure = Figure((10.0, 4.0), dpi=110, layout="constrained")
    seen, done = figure.subplots(1, 2)
    _markers(seen, rows, "AUROC", lambda row: row["auroc"], "tab:blue")
    _markers(seen, rows, "balanced accuracy", lambda row: row["balanced_accuracy"], "tab:orange")
    for scenario, colour in zip(DRIVEN, ("tab:green", "tab:purple"), strict=True):
        _markers(done, rows, scenario, lambda row, s=scenario: row["driven"][s]["success"], colour)
    for axis, label in ((seen, "detection, all scenarios"), (done, "success")):
        axis.set_xscale("log")
        axis.set_ylim(-0.03, 1.03)
        axis.set_xlabel("demonstrations")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize="small")
    return Plot.of(
        "Detection and success",
        "Filled: recorded; hollow: resampled; 95 % intervals. The line goes through the table "
        "with the most recorded demonstrations of each size.",
        figure,
    )
