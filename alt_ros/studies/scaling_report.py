"""The tables, pictures and sentences of the study ``scaling``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp

from alt_ros.simulation.rollout import wilson_interval
from alt_ros.studies.report import Cell, Interval, Report, Table, typed_command
from alt_ros.studies.scaling_plots import DRIVEN, MIB, ORDINARY, cost_plot, worth_plot

BOOTSTRAPS = 1000
RESAMPLED = (
    "Resampled demonstrations are not recordings: their embeddings, actions and poses lie between "
    "those of recorded ones, and nothing was rendered. Time and memory do not care; what is said "
    "of detection and success at these sizes holds as far as the resampling does."
)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """One table of the study.

    Attributes:
        demonstrations: How many it holds.
        parents: The most recorded ones among them; the others are resampled from these.
    """

    demonstrations: int
    parents: int

    @property
    def resampled(self) -> bool:
        """Whether it holds resampled demonstrations."""
        return self.demonstrations > self.parents

    @property
    def name(self) -> str:
        """As in file names."""
        return f"{self.demonstrations}_of_{self.parents}"

    @property
    def made(self) -> str:
        """How it was made, in words."""
        return f"resampled from {self.parents}" if self.resampled else "recorded"


@dataclass(frozen=True, eq=False)
class Findings:
    """What the study found.

    Attributes:
        quick: Whether it was the quick one.
        seed: Of it.
        sizes: The tables.
        trained: Demonstrations that the encoder was trained on.
        costs: Of each table: bytes, seconds, milliseconds, and what its graph finds.
        worth: Of each table: what it detects, and how often it succeeds.
        likeness: Recorded demonstrations resampled from, to how far from the nearest recorded
            frame resampled and held-out ones are.
        encoder_bytes: Of the encoder's weights.
        diffusion_bytes: Of the weights of a diffusion policy of the published size.
    """

    quick: bool
    seed: int
    sizes: Sequence[Size]
    trained: int
    costs: Sequence[Mapping[str, Any]]
    worth: Sequence[Mapping[str, Any]]
    likeness: Mapping[int, Mapping[str, Any]]
    encoder_bytes: int
    diffusion_bytes: int


def scaling_report(findings: Findings, started: float) -> Report:
    """Return the report.

    Args:
        findings: What was found.
        started: When the study began, ``time.monotonic``.
    """
    rows = [
        _figures(findings, *parts)
        for parts in zip(findings.sizes, findings.costs, findings.worth, strict=True)
    ]
    likeness = [_likeness(findings, parents) for parents in findings.likeness]
    return Report(
        name="scaling",
        title="What more demonstrations cost, and what they are worth",
        summary=_summary(findings, rows, likeness),
        tables=(
            _time_table(rows),
            _memory_table(findings, rows),
            _detection_table(rows),
            _scenario_table(findings, rows),
            _success_table(rows),
            *([_likeness_table(likeness)] if likeness else []),
        ),
        plots=(
            cost_plot(rows, findings.encoder_bytes, findings.diffusion_bytes),
            worth_plot(rows),
        ),
        values={
            "sizes": [_plain(row) for row in rows],
            "resampling": [_plain(row) for row in likeness],
            "encoder_bytes": findings.encoder_bytes,
            "diffusion_paper_bytes": findings.diffusion_bytes,
        },
        seeds=(findings.seed,),
        command=typed_command(),
        seconds=time.monotonic() - started,
    )


def auroc(strange: ArrayLike, ordinary: ArrayLike) -> float:
    """Return how often a strange value is above an ordinary one, ties counted half."""
    above = np.asarray(strange, float)[:, None] - np.asarray(ordinary, float)
    return float((above > 0.0).mean() + 0.5 * (above == 0.0).mean())


def balanced_accuracy(strange: ArrayLike, ordinary: ArrayLike) -> float:
    """Return the mean of the shares of strange flagged and of ordinary not flagged ones."""
    flagged, alarms = (float(np.asarray(flags, float).mean()) for flags in (strange, ordinary))
    return 0.5 * (flagged + 1.0 - alarms)


def bootstrapped(
    statistic: Callable[..., float], *samples: ArrayLike, groups: ArrayLike | None = None
) -> Interval:
    """Return a statistic of samples with its 95 % interval, each sample drawn anew by itself.

    Args:
        statistic: Of the samples.
        samples: (n,) each.
        groups: (n,) of the one sample: whole groups are drawn, for its values in one are alike.
    """
    rng = np.random.default_rng(0)
    arrays = [np.asarray(sample, float) for sample in samples]
    value = statistic(*arrays)
    if groups is None:
        draws = [
            statistic(*(rng.choice(sample, len(sample)) for sample in arrays))
            for _ in range(BOOTSTRAPS)
        ]
    else:
        of = np.asarray(groups)
        parts = [arrays[0][of == group] for group in np.unique(of)]
        draws = [
            statistic(
                np.concatenate([parts[n] for n in rng.integers(len(parts), size=len(parts))])
            )
            for _ in range(BOOTSTRAPS)
        ]
    low, high = (float(v) for v in np.quantile(draws, [0.025, 0.975]))
    return Interval(value, min(low, value), max(high, value))


def _median(values: Array) -> float:
    return float(np.median(values))


def _p95(values: Array) -> float:
    return float(np.quantile(values, 0.95))


def _share(flags: Sequence[bool]) -> Interval:
    value = sum(flags) / len(flags)
    low, high = wilson_interval(sum(flags), len(flags))
    return Interval(value, min(low, value), max(high, value))


def _figures(
    findings: Findings, size: Size, costs: Mapping[str, Any], worth: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all figures of one table."""
    memory = costs["table_bytes"] + costs["index_bytes"]
    found = worth["detection"]["scenarios"]
    strange = {name: values for name, values in found.items() if name != ORDINARY}
    ordinary = found[ORDINARY]
    flags = np.concatenate([values["flag"] for values in strange.values()])
    levels = np.concatenate([values["level"] for values in strange.values()])
    taken = ("rows", "build_seconds", "build_threads", "ef", "own_rows_found")
    return {
        "demonstrations": size.demonstrations,
        "recorded": min(size.demonstrations, size.parents),
        "resampled": size.resampled,
        "made": size.made,
        **{name: costs[name] for name in (*taken, "table_bytes", "index_bytes")},
        "memory_bytes": memory,
        "memory_of_diffusion_paper": (memory + findings.encoder_bytes) / findings.diffusion_bytes,
        **{
            f"{kind}_{name}": bootstrapped(statistic, costs[kind])
            for kind in ("hnsw_ms", "exact_ms", "answer_ms")
            for name, statistic in (("median", _median), ("p95", _p95))
        },
        "recall_at_1": _share(
            [True] * costs["found"] + [False] * (costs["asked"] - costs["found"])
        ),
        "next_demonstration": (
            bootstrapped(_median, costs["next_demonstration"])
            if costs["next_demonstration"]
            else None
        ),
        "threshold": worth["detection"]["threshold"],
        "guarantee": worth["detection"]["guarantee"],
        "auroc": bootstrapped(auroc, levels, ordinary["level"]),
        "balanced_accuracy": bootstrapped(balanced_accuracy, flags, ordinary["flag"]),
        "flagged": _share(flags.tolist()),
        "false_alarms": _share(ordinary["flag"]),
        "scenarios": {
            name: {
                "auroc": bootstrapped(auroc, values["level"], ordinary["level"]),
                "balanced_accuracy": bootstrapped(
                    balanced_accuracy, values["flag"], ordinary["flag"]
                ),
            }
            for name, values in strange.items()
        },
        "driven": {
            name: {
                "trials": len(worth[name]["success"]),
                "success": _share(worth[name]["success"]),
                "recall": _share(worth[name]["nearest"]) if worth[name]["nearest"] else None,
                "recalled_mm": _millimetres(worth[name]["recalled_m"]),
                "nearest_mm": _millimetres(worth[name]["nearest_m"]),
            }
            for name in DRIVEN
        },
    }


def _millimetres(metres: Sequence[float]) -> Interval | None:
    return bootstrapped(_median, 1e3 * np.array(metres)) if metres else None


def _likeness(findings: Findings, parents: int) -> dict[str, Any]:
    """Return how far resampled and held-out demonstrations are from the recorded ones."""
    found = findings.likeness[parents]
    recorded, resampled = found["recorded"], found["resampled"]
    tested: Any = ks_2samp(recorded, resampled)
    return {
        "parents": parents,
        "compared_with": found["from"],
        "held_out": found["held_out"],
        "noise": found["noise"],
        "recorded": bootstrapped(_median, recorded, groups=found["recorded_of"]),
        "resampled": bootstrapped(_median, resampled, groups=found["resampled_of"]),
        "recorded_p95": _p95(np.array(recorded)),
        "resampled_p95": _p95(np.array(resampled)),
        "kolmogorov_smirnov": float(tested.statistic),
        "views_ratio": [
            _median(np.array(b)) / max(_median(np.array(a)), 1e-12)
            for a, b in zip(found["recorded_views"], found["resampled_views"], strict=True)
        ],
    }


def _plain(values: Any) -> Any:
    """Return figures as JSON values."""
    if isinstance(values, Interval):
        return values.to_json()
    if isinstance(values, Mapping):
        return {name: _plain(value) for name, value in values.items()}
    return values


def _summary(
    findings: Findings, rows: Sequence[Mapping[str, Any]], likeness: Sequence[Mapping[str, Any]]
) -> list[str]:
    first, last = rows[0], rows[-1]
    start, end = f"{first['demonstrations']:,}", f"{last['demonstrations']:,}"
    anywhere = {name: row["driven"]["anywhere"]["success"] for name, row in enumerate(rows)}
    trials = first["driven"][ORDINARY]["trials"]
    return [
        *(
            [
                f"This is --quick: {trials} trials of each scenario, so that the intervals are "
                "wide; more than 31 demonstrations are resampled; --full records 200 and goes to "
                "20,000."
            ]
            if findings.quick
            else []
        ),
        f"From {start} to {end} demonstrations a search by HNSW goes from "
        f"{first['hnsw_ms_median'].value:.3f} to {last['hnsw_ms_median'].value:.3f} ms and one "
        f"that compares with every row from {first['exact_ms_median'].value:.3f} to "
        f"{last['exact_ms_median'].value:.3f} ms; an answer, images in and chunk out, from "
        f"{first['answer_ms_median'].value:.1f} to {last['answer_ms_median'].value:.1f} ms.",
        f"Table and index take {first['memory_bytes'] / MIB:,.1f} to "
        f"{last['memory_bytes'] / MIB:,.1f} MiB; with the encoder that is "
        f"{first['memory_of_diffusion_paper']:.3f} to {last['memory_of_diffusion_paper']:.2f} of "
        "the weights of a diffusion policy of the published size, which do not grow.",
        f"Detection, AUROC over all scenarios: {first['auroc'].value:.2f} to "
        f"{last['auroc'].value:.2f}; balanced accuracy at the calibrated threshold "
        f"{first['balanced_accuracy'].value:.2f} to {last['balanced_accuracy'].value:.2f}.",
        "Success with the cup anywhere in the region: "
        + ", ".join(
            f"{anywhere[number].value:.0%} ({row['demonstrations']:,}, {row['made']})"
            for number, row in enumerate(rows)
        )
        + ".",
        *(
            f"Resampled from {row['parents']}: a frame is {row['resampled'].value:.4f} (1 - "
            "cosine, median) from the nearest recorded one, a recorded frame that was held out "
            f"{row['recorded'].value:.4f}; the largest difference of the two distributions is "
            f"{row['kolmogorov_smirnov']:.2f}."
            for row in likeness
        ),
        *([RESAMPLED] if likeness else []),
    ]


def _head(row: Mapping[str, Any]) -> list[Cell]:
    return [row["demonstrations"], row["made"]]


def _time_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    kinds = ("hnsw_ms", "exact_ms", "answer_ms")
    return Table(
        "Time",
        (
            *("demonstrations", "made", "frames", "build, s", "threads", "ef", "recall@1"),
            *("HNSW, ms", "p95", "every row, ms", "p95", "answer, ms", "p95"),
        ),
        [
            [
                *_head(row),
                *(row[name] for name in ("rows", "build_seconds", "build_threads", "ef")),
                row["recall_at_1"],
                *(row[f"{kind}_{name}"] for kind in kinds for name in ("median", "p95")),
            ]
            for row in rows
        ],
        "Medians and 95th percentiles with 95 % bootstrap intervals, one thread. A search asks "
        "for the 32 nearest frames; recall@1 (Wilson interval): the share of observations of the "
        "roll-outs for which HNSW finds the frame that is nearest by comparing with every row. An "
        "answer is images in, chunk out, with the encoder and the monitor's scores, by HNSW.",
    )


def _memory_table(findings: Findings, rows: Sequence[Mapping[str, Any]]) -> Table:
    cells: list[list[Cell]] = [
        [
            *_head(row),
            row["table_bytes"] / MIB,
            row["index_bytes"] / MIB,
            row["memory_bytes"] / MIB,
            row["memory_of_diffusion_paper"],
        ]
        for row in rows
    ]
    return Table(
        "Memory",
        ("demonstrations", "made", "table, MiB", "graph, MiB", "together", "of diffusion's"),
        cells,
        f"The encoder's weights, {findings.encoder_bytes / MIB:.1f} MiB, come on top at every "
        f"size and are in the last column: the share of the {findings.diffusion_bytes / MIB:,.0f} "
        "MiB of weights of a diffusion policy of the published size. Without the graph every row "
        "is compared with, and nothing more is held.",
    )


def _detection_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = ("auroc", "balanced_accuracy", "flagged", "false_alarms", "next_demonstration")
    return Table(
        "Detection",
        (
            *("demonstrations", "made", "AUROC", "balanced accuracy", "strange flagged"),
            *("false alarms", "to the next demonstration", "threshold", "guarantee"),
        ),
        [
            [*_head(row), *(row[name] for name in names), row["threshold"], row["guarantee"]]
            for row in rows
        ],
        "Over all strange scenarios, by the level that decides the flag of an episode. Every "
        "table judges the same roll-outs and is calibrated on the same ordinary ones, so that the "
        "threshold of a table that lacks most of their cups is wide. Bootstrap intervals over "
        "episodes, Wilson intervals of shares. To the next demonstration: median distance, "
        "1 - cosine, of a table's frames to the nearest of another demonstration.",
    )


def _scenario_table(findings: Findings, rows: Sequence[Mapping[str, Any]]) -> Table:
    names = list(rows[0]["scenarios"])
    cells: list[list[Cell]] = [
        [
            *_head(row),
            *(row["scenarios"][n][k] for n in names for k in ("auroc", "balanced_accuracy")),
        ]
        for row in rows
    ]
    columns = [text for n in names for text in (f"{n}, AUROC", "balanced accuracy")]
    return Table(
        "Detection by scenario",
        ("demonstrations", "made", *columns),
        cells,
        f"Against ordinary roll-outs of the table of {findings.trained}.",
    )


def _success_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = ("success", "recall", "recalled_mm", "nearest_mm")
    cells: list[list[Cell]] = [
        [*_head(row), scenario, row["driven"][scenario]["trials"]]
        + [row["driven"][scenario][name] for name in names]
        for row in rows
        for scenario in DRIVEN
    ]
    return Table(
        "Success without a monitor",
        (
            *("demonstrations", "made", "scenario", "trials", "success", "recall"),
            *("recalled cup off, mm", "nearest cup off, mm"),
        ),
        cells,
        "Recall: most commands came from the demonstration of the table whose cup stood nearest. "
        "The denser the table, the less it matters which of several near ones is recalled: how "
        "far the recalled demonstration's cup and the nearest one's stood off is told beside it "
        "(medians). Wilson and bootstrap intervals.",
    )


def _likeness_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        "Resampled and recorded demonstrations beside each other",
        (
            *("resampled from", "compared with", "held out", "noise", "recorded", "resampled"),
            *("recorded, p95", "resampled, p95", "Kolmogorov-Smirnov", "views' ratios"),
        ),
        [
            [
                *(row[name] for name in ("parents", "compared_with", "held_out", "noise")),
                *(row[name] for name in ("recorded", "resampled", "recorded_p95")),
                *(row[name] for name in ("resampled_p95", "kolmogorov_smirnov")),
                ", ".join(f"{ratio:.2f}" for ratio in row["views_ratio"]),
            ]
            for row in rows
        ],
        "Distance, 1 - cosine, of a frame to the nearest of the demonstrations compared with: of "
        "recorded demonstrations that were held out, and of resampled ones. The noise is fitted "
        "to the medians; the other figures are not, and the resampled ones here are not those of "
        "the fit. Views' ratios: the same medians of single views, resampled over recorded.",
    )
