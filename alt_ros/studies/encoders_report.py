"""The encoder ablation's tables, plot and sentences from what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alt_ros.encoders.runtime import compute_device
from alt_ros.errors import DependencyError
from alt_ros.studies.costs import INFERENCES
from alt_ros.studies.encoders_cells import FAMILIES, Cell
from alt_ros.studies.report import Plot, Table


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.0f} %" if f"{low:.0f}" == f"{high:.0f}" else f"{low:.0f} to {high:.0f} %"


def summary(cells: Sequence[Cell], demonstrations: int, quick: bool) -> list[str]:
    """Return what was found, in sentences.

    Args:
        cells: Of the families, in their order.
        demonstrations: Among which the right one is to be recalled.
        quick: Whether it was --quick.
    """
    families = {family.title: [c for c in cells if c.family is family] for family in FAMILIES}
    families = {title: members for title, members in families.items() if members}
    best = {title: max(of, key=lambda c: c.recall.value) for title, of in families.items()}
    first, *others = sorted(best, key=lambda title: -best[title].recall.value)
    told = ", ".join(
        f"{title} ({of[0].start}) {_span([c.recall.value for c in of])}"
        for title, of in families.items()
    )
    below = [t for t in others if best[t].recall.high < best[first].recall.low]
    level = [t for t in others if t not in below]
    sentences = [
        f"Recall in distribution, over the embedding sizes: {told}; by chance it would be "
        f"{100 / demonstrations:.0f} %.",
        f"At its best size {first} recalls {best[first].recall.value:.0f} %"
        + (f"; the 95 % intervals of {' and '.join(below)} lie below it" if below else "")
        + (f"; those of {' and '.join(level)} overlap with it" if level else "")
        + ".",
    ]
    for title, of in families.items():
        low, high = (f(of, key=lambda c: c.recall.value) for f in (min, max))
        if len(of) > 1 and low.recall.value == high.recall.value:
            sizes = ", ".join(str(cell.spec.embedding_size) for cell in of)
            sentences.append(f"{title}: {low.recall.value:.0f} % with {sizes} values alike.")
        elif len(of) > 1:
            apart = low.recall.high < high.recall.low
            sentences.append(
                f"{title}: {low.recall.value:.0f} % with {low.spec.embedding_size} values and "
                f"{high.recall.value:.0f} % with {high.spec.embedding_size}, the least and the "
                f"most; the intervals {'do not overlap' if apart else 'overlap'}."
            )
    small = [t for t, of in families.items() if t != "ResNet-18" and of[0].start == "scratch"]
    if small:
        millions = " and ".join(f"{families[t][0].parameters / 1e6:.1f}" for t in small)
        side = families[small[0]][0].spec.height
        sentences.append(
            f"{' and '.join(small)} are not the paper's networks here: small transformers "
            f"({millions} million parameters, {side}x{side} pixels) trained from scratch for "
            f"{cells[0].trainings[0].config.steps} steps, where the paper's are published, "
            "pretrained ones of 86 million. These figures say nothing about pretrained features: "
            "give published weights for that."
        )
    if quick:
        sentences.append(
            f"This is --quick: {cells[0].trials} trials with {demonstrations} "
            "demonstrations, one training each; differences within the intervals mean nothing."
        )
    return sentences


def recall_table(cells: Sequence[Cell]) -> Table:
    """Return recall, success and action distance of every cell."""
    columns = (
        *("backbone", "weights", "values", "trials", "recall, %", "success, %"),
        *("action distance, mm", "of a random chunk", "the paper's recall, %"),
    )
    return Table(
        "Recall in distribution",
        columns,
        [
            (
                cell.spec.backbone,
                cell.start,
                cell.spec.embedding_size,
                cell.trials,
                cell.recall,
                cell.success,
                cell.distance,
                1e3 * float(np.mean([m.chance for m in cell.measured])),
                cell.family.paper.get(cell.spec.embedding_size),
            )
            for cell in cells
        ],
        "Recall and success: share of all episodes with its 95 % Wilson interval, seeds pooled; "
        "episodes of one training are not quite independent, so it is rather too narrow. "
        "Action distance: each demonstration in turn is answered by the others; median over "
        "frames, the mean of the seeds. The paper's: a real robot, 31 trials, and published "
        "transformers.",
    )


def cost_table(cells: Sequence[Cell], device: str) -> Table:
    """Return time, size and training of every cell."""
    return Table(
        "What it costs",
        ("backbone", "values", "pixels", "ms an answer", "parameters", "MiB", "training, s"),
        [
            (
                cell.spec.backbone,
                cell.spec.embedding_size,
                f"{cell.spec.width}x{cell.spec.height}",
                cell.milliseconds,
                cell.parameters,
                cell.memory / 2**20,
                float(np.mean([m.train_seconds for m in cell.measured])),
            )
            for cell in cells
        ],
        f"An answer: images in, chunk out, encoder and lookup, mean of {INFERENCES} on "
        f"{compute_device(device).type}, one thread. Parameters: of the encoder. MiB: its weights "
        "in single precision, table and index. Trainings share the machine.",
    )


def plot(cells: Sequence[Cell], demonstrations: int) -> Plot:
    """Return recall against embedding size, a line a family."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "a study draws with matplotlib, which is not installed: pip install matplotlib"
        ) from error
    figure = Figure(figsize=(6.0, 4.0), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    shown = [family for family in FAMILIES if any(c.family is family for c in cells)]
    for place, family in enumerate(shown):
        own = [cell for cell in cells if cell.family is family]
        beside = 1.04 ** (place - (len(shown) - 1) / 2)  # so that the bars do not hide each other
        recall = np.array([(c.recall.value, c.recall.low, c.recall.high) for c in own])
        axes.errorbar(
            [beside * cell.spec.embedding_size for cell in own],
            recall[:, 0],
            yerr=[recall[:, 0] - recall[:, 1], recall[:, 2] - recall[:, 0]],
            marker="os^"[place],
            capsize=3,
            label=f"{own[0].spec.backbone}, {own[0].start}",
        )
    axes.axhline(100 / demonstrations, color="gray", linestyle=":", label="chance")
    sizes = sorted({cell.spec.embedding_size for cell in cells})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.minorticks_off()
    axes.set_xlabel("values of the embedding")
    axes.set_ylabel("recall in distribution, % of episodes")
    axes.set_ylim(-3, 103)
    axes.legend()
    return Plot.of(
        "Recall against embedding size",
        "Share of the episodes whose commands came mostly from the demonstration whose cup stood "
        "nearest; bars are 95 % Wilson intervals.",
        figure,
    )
