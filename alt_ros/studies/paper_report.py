"""The memorisation paper's tables, pictures and sentences from what was found."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.memorisation.similarity import (
    MIN_SAMPLES,
    Concentration,
    TrainingTrajectories,
    fall_back_concentration,
)
from alt_ros.memorisation.trajectory_distance import Trajectory
from alt_ros.pictures.similarity import draw_policies, draw_similarity
from alt_ros.policies.registry import ALT
from alt_ros.simulation.rollout import wilson_interval
from alt_ros.studies.judged import Judged
from alt_ros.studies.report import Cell, Interval, Plot, Report, Table, typed_command
from alt_ros.studies.rollouts import Rollouts
from alt_ros.types import ActionLayout

Array = NDArray[np.float64]

BOOTSTRAPS = 2000
UNTRAINED = (
    "This is --quick: the networks are trained for a minute each, so that what they do says "
    "nothing about them; --full trains them."
)
PUBLISHED_MEMORY = 0.0085
"""The paper's memory of ALT over that of the Diffusion Policy."""


@dataclass(frozen=True)
class Costs:
    """What each method costs.

    Attributes:
        milliseconds: Mean time of an answer, by method.
        memory: Bytes, by method.
        parameters: Numbers held, by method.
        large_parameters: Of the diffusion policy of the larger published size.
    """

    milliseconds: Mapping[str, float]
    memory: Mapping[str, int]
    parameters: Mapping[str, int]
    large_parameters: int


@dataclass(frozen=True, eq=False)
class Findings:
    """What the study found.

    Attributes:
        quick: Whether it was the quick one.
        seed: Of it.
        names: Policies, in the tables' order.
        scenarios: Names, ``ind`` first.
        layout: Of the actions.
        training: What the policies were trained on.
        rollouts: By policy and scenario; the diffusion policy with DDIM besides, in ``ind``.
        judged: What each of them is worth.
        costs: Of each method.
    """

    quick: bool
    seed: int
    names: Sequence[str]
    scenarios: Sequence[str]
    layout: ActionLayout
    training: TrainingTrajectories
    rollouts: Mapping[tuple[str, str], Rollouts]
    judged: Mapping[tuple[str, str], Judged]
    costs: Costs


def paper_report(findings: Findings, folder: Path, started: float) -> Report:
    """Return the report.

    Args:
        findings: What was found.
        folder: Where the pictures are kept.
        started: When the study began, ``time.monotonic``.
    """
    figures = _figures(findings)
    names, scenarios, judged = findings.names, findings.scenarios, findings.judged
    similarity = {n: {s: judged[n, s].median for s in scenarios} for n in names}
    largest = {n: {s: judged[n, s].largest for s in scenarios} for n in names}
    copies = {n: {s: judged[n, s].copies for s in scenarios} for n in names}
    concentration = _concentration(findings)
    ratios = _ratios(findings.costs)
    return Report(
        name="paper",
        title="Does it recall, and what does it cost?",
        summary=_summary(findings, figures, similarity, copies, ratios),
        tables=(
            _similarity_table(findings),
            _per_scenario("Copied chunks: 1 is a copy", scenarios, copies, ""),
            _per_scenario(
                "Largest S of a roll-out, as the paper reports it", scenarios, largest, ""
            ),
            _success_table(findings),
            _method_table(figures),
            Table(
                "Where the roll-outs out of distribution fall back to",
                ("policy", "roll-outs", "share of one demonstration", "by chance", "of two"),
                [
                    (name, c.rollouts, c.top.value, c.top.chance, c.top_two.value)
                    for name, c in concentration.items()
                ],
                "The share of the roll-outs that are nearest to the most frequent demonstration.",
            ),
        ),
        plots=_plots(findings, folder),
        values={
            "similarity": similarity,
            "similarity_largest": largest,
            "copies": copies,
            "methods": figures,
            "ratios": ratios,
            "fall_back": {name: c.top.value for name, c in concentration.items()},
        },
        seeds=(findings.seed,),
        command=typed_command(),
        seconds=time.monotonic() - started,
    )


def _figures(findings: Findings) -> dict[str, dict[str, Any]]:
    """Return the second table: what each method reached, and what it costs."""
    costs = findings.costs
    reached = {
        # the policy of the first table is the one with 100 steps
        f"{name}_ddpm_100" if name == "diffusion" else name: (name, "ind")
        for name, scenario in findings.rollouts
        if scenario == "ind"
    }
    figures: dict[str, dict[str, Any]] = {}
    for name, milliseconds in costs.milliseconds.items():
        cell = reached.get(name)
        rollouts = None if cell is None else findings.rollouts[cell]
        figures[name] = {
            "recall": None if cell is None else findings.judged[cell].recalled,
            "success": None if rollouts is None else int(rollouts.success.sum()),
            "trials": None if rollouts is None else len(rollouts),
            "inference_ms": milliseconds,
            "memory_bytes": costs.memory[name],
            "parameters": costs.parameters[name],
        }
    return figures


def _ratios(costs: Costs) -> dict[str, float]:
    """Return what the diffusion policy of the published size costs in units of ALT's cost."""
    ms, memory = costs.milliseconds, costs.memory
    return {
        "time_ddpm_100": ms["diffusion_paper_ddpm_100"] / ms[ALT],
        "time_ddim_10": ms["diffusion_paper_ddim_10"] / ms[ALT],
        "memory": memory[ALT] / memory["diffusion_paper_ddpm_100"],
        "memory_large": memory[ALT] / (4 * costs.large_parameters),
    }


def _concentration(findings: Findings) -> dict[str, Concentration]:
    outside = {
        name: [int(n) for s in findings.scenarios[1:] for n in findings.judged[name, s].nearest]
        for name in findings.names
    }
    count = len(findings.training.trajectories)
    return {
        name: fall_back_concentration(nearest, count, seed=findings.seed)
        for name, nearest in outside.items()
        if nearest
    }


def _plots(findings: Findings, folder: Path) -> tuple[Plot, ...]:
    cells = {
        name: {
            s: findings.judged[name, s].similarity
            for s in findings.scenarios
            if len(findings.judged[name, s].similarity)
        }
        for name in findings.names
    }
    picture, bars = folder / "similarity.png", folder / "demonstrations.png"
    draw_policies(picture, {n: moved for n, moved in cells.items() if moved}, seed=findings.seed)
    subject, first = next(
        (f"{name}, {s}", actions)
        for name in ("diffusion", ALT)
        for s in findings.scenarios[1:]
        for actions in findings.rollouts[name, s].actions
        if len(actions) >= MIN_SAMPLES
    )
    executed = Trajectory.of_actions(first, findings.layout)
    draw_similarity(bars, findings.training.judge(executed), subject)
    return (
        Plot(
            "Similarity to the training demonstrations",
            "Median S and its 95 % interval; a cross marks the largest.",
            picture.read_bytes(),
        ),
        Plot(
            "One roll-out against every demonstration",
            "S_i = 1 - distance / mean distance of two demonstrations; 0 is that average.",
            bars.read_bytes(),
        ),
    )


def _median(values: Array, seed: int) -> Interval | None:
    if not len(values):
        return None
    rng = np.random.default_rng(seed)
    draws = np.median(rng.choice(values, (BOOTSTRAPS, len(values))), axis=1)
    middle = float(np.median(values))
    low, high = (float(v) for v in np.quantile(draws, [0.025, 0.975]))
    return Interval(middle, min(low, middle), max(high, middle))


def _summary(
    findings: Findings,
    figures: Mapping[str, Mapping[str, Any]],
    similarity: Mapping[str, Mapping[str, float | None]],
    copies: Mapping[str, Mapping[str, float | None]],
    ratios: Mapping[str, float],
) -> list[str]:
    alt, diffusion = figures[ALT], figures["diffusion_ddpm_100"]
    compared = [
        f"{scenario} {diffusions:.2f} and {acts:.2f}"
        for scenario in ("ind", "distractors")
        if (diffusions := similarity["diffusion"][scenario]) is not None
        and (acts := similarity["act"][scenario]) is not None
    ]
    worst = min(value for value in copies[ALT].values() if value is not None)
    return [
        *([UNTRAINED] if findings.quick else []),
        f"ALT succeeds in {alt['success']} of {alt['trials']} trials and recalls the right "
        f"demonstration in {alt['recall']}; the diffusion policy (small, 100 DDPM steps) succeeds "
        f"in {diffusion['success']} of {diffusion['trials']}.",
        f"What ALT follows is a copy of training chunks: measured, {worst:.6f} of 1 at the least.",
        (
            f"Median S of the diffusion policy and of ACT: {', '.join(compared)}."
            if compared
            else "The diffusion policy or ACT moved nothing, so their S are not compared."
        ),
        f"ALT answers {ratios['time_ddpm_100']:.0f} times faster than the diffusion policy of the "
        f"published size with 100 steps, {ratios['time_ddim_10']:.0f} times faster than with 10, "
        f"and needs {ratios['memory']:.4f} of its memory, {ratios['memory_large']:.4f} of that of "
        f"the larger published size (published: {PUBLISHED_MEMORY}). Nearly all of it are the "
        "encoder's weights in single precision; with a byte for each it would be "
        f"{ratios['memory_large'] / 4:.4f} of the larger size.",
    ]


def _similarity_table(findings: Findings) -> Table:
    judged, scenarios = findings.judged, findings.scenarios
    rows: list[list[Cell]] = [
        [name, *(_median(judged[name, s].similarity, findings.seed) for s in scenarios)]
        for name in findings.names
    ]
    return Table(
        "Similarity S to the training demonstrations",
        ("policy", *scenarios),
        rows,
        "Median over the roll-outs with its 95 % bootstrap interval; 1 is a copy of one "
        "demonstration, 0 is as far from it as the next one is. Empty: no roll-out moved.",
    )


def _per_scenario(
    title: str,
    scenarios: Sequence[str],
    values: Mapping[str, Mapping[str, float | None]],
    note: str,
) -> Table:
    rows = [[name, *(cells[s] for s in scenarios)] for name, cells in values.items()]
    return Table(title, ("policy", *scenarios), rows, note)


def _success_table(findings: Findings) -> Table:
    def share(cell: Rollouts) -> Interval:
        done = int(cell.success.sum())
        low, high = wilson_interval(done, len(cell))
        value = done / len(cell)
        return Interval(value, min(low, value), max(high, value))

    rows: list[list[Cell]] = [
        [name, *(share(findings.rollouts[name, s]) for s in findings.scenarios)]
        for name in findings.names
    ]
    return Table(
        "Success without a monitor",
        ("policy", *findings.scenarios),
        rows,
        "Share, 95 % Wilson interval.",
    )


def _method_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    alt = figures[ALT]
    rows: list[list[Cell]] = [
        [
            name,
            values["recall"],
            values["success"],
            values["trials"],
            values["inference_ms"],
            values["inference_ms"] / alt["inference_ms"],
            values["memory_bytes"] / 2**20,
            values["parameters"],
        ]
        for name, values in figures.items()
    ]
    columns = (
        *("method", "recall", "ind success", "trials", "ms an answer", "times ALT's"),
        *("MiB", "parameters"),
    )
    return Table(
        "Methods",
        columns,
        rows,
        "diffusion_paper is of the published size and not trained here: it is timed, not rolled "
        "out. Memory: weights, and the table with its index.",
    )
