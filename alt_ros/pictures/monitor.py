"""A picture of a judged monitor: what it flags, what it misses, and which score sees what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alt_ros.pictures.calibration import save_figure

FLAGGED, MISSED, STOPPED, GOOD = "tab:blue", "tab:red", "tab:orange", "0.8"


def draw_monitor(path: Path, figures: Mapping[str, Any]) -> None:
    """Draw for each scenario what came of its episodes, and the AUROC of every score.

    Args:
        path: File to write; its ending says the format.
        figures: What ``benchmarks.ood.judge`` returns.

    Raises:
        DataError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    scores, scenarios = list(figures["scores"]), list(figures["scenarios"])
    height = 2.4 + 0.3 * len(scenarios)
    figure = Figure((7.0 + 0.55 * len(scores), height), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4.5, 0.55 * len(scores)))
    _draw_episodes(left, figures["scenarios"], scores[0])
    values = [[figures["scenarios"][s]["scores"][n]["auroc"] for n in scores] for s in scenarios]
    right.imshow(values, vmin=0.5, vmax=1.0, cmap="viridis", aspect="auto")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            colour = "black" if value > 0.8 else "white"
            right.text(
                column, row, f"{value:.2f}", ha="center", va="center", size="x-small", color=colour
            )
    right.set_xticks(range(len(scores)), scores, rotation=60, ha="right")
    right.set_title("AUROC against ordinary episodes")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=4)
    save_figure(figure, path)


def _draw_episodes(axis: Any, scenarios: Mapping[str, Any], monitor: str) -> None:
    parts: dict[str, tuple[str, list[float]]] = {
        "failed, flagged in time": (FLAGGED, []),
        "failed, not flagged in time": (MISSED, []),
        "succeeded, stopped": (STOPPED, []),
        "succeeded": (GOOD, []),
    }
    for scenario in scenarios.values():
        judged = scenario["scores"][monitor]
        counts = (
            judged["failures_flagged"],
            judged["failures"] - judged["failures_flagged"],
            judged["successes_stopped"],
            scenario["success"] - judged["successes_stopped"],
        )
        for (_, shares), count in zip(parts.values(), counts, strict=True):
            shares.append(count / scenario["episodes"])
    reached = [0.0] * len(scenarios)
    for name, (colour, shares) in parts.items():
        axis.barh(range(len(scenarios)), shares, left=reached, color=colour, label=name)
        reached = [at + share for at, share in zip(reached, shares, strict=True)]
    names = [f"{name} ({scenario['episodes']})" for name, scenario in scenarios.items()]
    axis.set_yticks(range(len(scenarios)), names)
    axis.set(xlim=(0.0, 1.0), xlabel="share of the episodes", title="what the monitor does")
