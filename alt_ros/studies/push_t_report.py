"""The Push-T study's table and sentences, from its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alt_ros.benchmarks.push_t import SEEDS
from alt_ros.studies.report import Cell, Interval, Table

Figures = dict[str, Any]
"""Of one policy, see ``evaluate_push_t``; with ``training_s``."""

ALT, WEIGHED, NEAR, CORRECTED = "ALT", "ALT, weighed", "ALT by state", "ALT by state, correcting"
TRUE_NEAR, TRUE_CORRECTED = "true state", "true state, correcting"
VINN, KDTREE, DIFFUSION = "VINN", "KD-tree", "diffusion policy, small"
PUBLISHED = (
    ("published: GPI, vision", 0.833, 0.869),
    ("published: diffusion policy, DDIM-10", 0.791, 0.831),
)
"""Mean of the last checkpoints, best checkpoint; Li et al. 2025."""
SETTLED = 3_000
"""Diffusion steps below which that policy counts as barely trained."""
ORDER = (CORRECTED, NEAR, WEIGHED, ALT, KDTREE, VINN, DIFFUSION, TRUE_CORRECTED, TRUE_NEAR)


def summarized(
    figures: Mapping[str, Figures], demonstrations: int, diffusion_steps: int
) -> list[str]:
    """Return the findings in sentences; every number of a policy is computed from ``figures``.

    Args:
        figures: Of every policy of ``ORDER``, see ``evaluate_push_t``.
        demonstrations: That they were made of.
        diffusion_steps: Of the diffusion policy's training.
    """
    starts = int(figures[CORRECTED]["trials"])
    score = {name: float(of["mean_score"]) for name, of in figures.items()}
    robots = [name for name in figures if name not in (TRUE_NEAR, TRUE_CORRECTED)]
    best = max(robots, key=score.__getitem__)
    low, high = figures[best]["mean_score_interval_95"]
    beaten = [name for name, mean, _ in PUBLISHED if score[best] > mean]
    apart = [name for name, mean, _ in PUBLISHED if low > mean]
    said = [
        f"Best of what a robot could run: {best}, {score[best]:.3f} ({low:.3f} to {high:.3f}) "
        f"over {starts} starts, from {demonstrations} demonstrations."
    ]
    if starts < len(SEEDS):
        said.append(
            f"With {starts} of the {len(SEEDS)} starts nothing here is comparable with "
            "published figures."
        )
    else:
        said.append(
            f"Above the published mean of {len(beaten)} of {len(PUBLISHED)} methods, with the "
            f"whole interval above {len(apart)}; published figures are means of several trainings."
        )
    images = score[TRUE_CORRECTED] - score[CORRECTED]
    rule = 1.0 - score[TRUE_CORRECTED]
    error = figures[CORRECTED].get("pose_error")
    where = (
        f" (in the roll-outs it is {error['pixels_median']:.1f} pixels and "
        f"{error['degrees_median']:.1f} degrees off in the median, {error['pixels_p95']:.0f} and "
        f"{error['degrees_p95']:.0f} at the 95th percentile)"
        if error
        else ""
    )
    costs = f"the image costs {images:.3f}"
    if images <= 0.0:
        costs = f"with images it scores no less ({-images:+.3f})"
    limit = "telling from the image where the T is" if images > rule else "what is recalled"
    said.append(
        f"What limits {CORRECTED} more is {limit}: {costs}{where}; told where the T is, it lacks "
        f"{rule:.3f} of a whole score."
    )
    said.append(
        "Moving what is recalled along with the T, and not repeating it, changes the score by "
        f"{score[CORRECTED] - score[NEAR]:+.3f} with images and by "
        f"{score[TRUE_CORRECTED] - score[TRUE_NEAR]:+.3f} with the true state; weighing the "
        f"neighbours of ALT's own embedding by {score[WEIGHED] - score[ALT]:+.3f}."
    )
    said.append(
        f"{NEAR} and {CORRECTED} were trained on more than the others: on where the recordings "
        "say that the T is, and they know that it is rigid."
    )
    if diffusion_steps < SETTLED:
        said.append(
            f"The diffusion policy had {diffusion_steps} steps: it is barely trained, "
            "and its score says nothing of diffusion policies."
        )
    return said


def score_table(figures: Mapping[str, Figures]) -> Table:
    """Return the table of the policies, and the published figures below them."""
    first = figures[CORRECTED]
    rows: list[Sequence[Cell]] = []
    for name, of in figures.items():
        low, high = of["mean_score_interval_95"]
        mean = float(of["mean_score"])
        rows.append(
            [
                name,
                Interval(mean, min(low, mean), max(high, mean)),
                of["best_score"],
                f"{of['success']} of {of['trials']}",
                of["answer_ms"]["median"],
                of["training_s"] / 60.0,
                None,
            ]
        )
    rows += [[name, mean, None, None, None, None, best] for name, mean, best in PUBLISHED]
    return Table(
        f"{first['trials']} starts, {first['action_horizon']} actions of a chunk",
        (
            "policy",
            "mean score",
            "best episode",
            "success",
            "answer, ms",
            "training, min",
            "best checkpoint",
        ),
        rows,
        "Score: largest min(coverage / 0.95, 1) of an episode, with the mean's 95 % interval, "
        "bootstrapped over the starts. Published rows were not run here: their mean is of several "
        "trainings and checkpoints, the last column chooses the checkpoint by these very starts. "
        "'true state' is told where the T is and is no policy for a robot. Training: of the last "
        "process, where one was broken off; times with other parts beside it.",
    )
