"""A policy's score in Push-T, counted as Chi et al. (2023, "Diffusion Policy") count it.

The published tables hold two numbers of a method: the best checkpoint's and the average of the
last ten checkpoints', each over three trainings and 50 starts. What is given here is one policy's
mean over those 50 starts: one term of that average. It is not the tables' "max", which chooses the
checkpoint by the very starts that it is reported on. ``best_score`` is the best episode's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError
from alt_ros.pictures.sheets import BACKGROUND, grid, label, save_png
from alt_ros.policies.policy import Policy
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.simulation.push_t import PushTEpisode, PushTSimulation, run_push_t_episode
from alt_ros.simulation.rollout import wilson_interval

SEEDS = tuple(range(100_000, 100_050))
"""The starts of the published tables."""
RESAMPLES = 10_000
"""Of the bootstrap."""
_COLUMNS = 10


def evaluate_push_t(
    policy: Policy,
    seeds: Sequence[int] = SEEDS,
    *,
    action_horizon: int = 8,
    max_steps: int = 300,
    picture: Path | None = None,
    progress: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """Run an episode from the start of each seed and return the figures.

    Args:
        policy: The policy; one for Push-T, see ``check_push_t_policy``.
        seeds: Of the starts.
        action_horizon: Ta, most actions executed of a chunk.
        max_steps: Actions after which an episode ends.
        picture: Where to draw the episodes' ends, see ``draw_push_t``; None draws nothing.
        progress: Called after every episode.

    Returns:
        As ``summarize_push_t``, and the settings and the machine.

    Raises:
        ConfigurationError: There is no seed, or one twice; else see ``run_push_t_episode``.
        DependencyError: gym-pusht is not installed.
        DataError: The picture cannot be written.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigurationError(
            f"Push-T: seeds must be distinct, at least one, got {list(seeds)}"[:200]
        )
    simulation = PushTSimulation()
    episodes: list[PushTEpisode] = []
    for done, seed in enumerate(seeds, start=1):
        episodes.append(
            run_push_t_episode(
                simulation, policy, seed, action_horizon=action_horizon, max_steps=max_steps
            )
        )
        progress(done, len(seeds))
    if picture is not None:
        draw_push_t(picture, episodes)
    settings = {"action_horizon": action_horizon, "max_steps": max_steps, "machine": machine()}
    return summarize_push_t(episodes) | settings


def summarize_push_t(episodes: Sequence[PushTEpisode]) -> dict[str, Any]:
    """Return the figures of episodes.

    Returns:
        ``mean_score``: mean over the episodes of the largest reward, with its 95 % interval,
        bootstrapped over the episodes (percentiles); ``best_score``: of the best episode;
        ``success`` of ``trials`` with its 95 % Wilson interval; ``mean_final_coverage``;
        ``answer_ms``: median and 95th percentile of an answer's time; and each episode.

    Raises:
        ConfigurationError: There is no episode.
    """
    if not episodes:
        raise ConfigurationError("Push-T: at least one episode is needed, got none")
    scores = np.array([episode.score for episode in episodes])
    drawn = np.random.default_rng(0).integers(len(scores), size=(RESAMPLES, len(scores)))
    low, high = np.quantile(scores[drawn].mean(axis=1), [0.025, 0.975])
    success = sum(episode.success for episode in episodes)
    success_interval = wilson_interval(success, len(episodes))
    answer_ms = np.concatenate([episode.answer_ms for episode in episodes])
    return {
        "trials": len(episodes),
        "mean_score": round(float(scores.mean()), 4),
        "mean_score_interval_95": [round(float(low), 4), round(float(high), 4)],
        "best_score": round(float(scores.max()), 4),
        "success": success,
        "success_interval_95": [round(bound, 4) for bound in success_interval],
        "mean_final_coverage": round(float(np.mean([e.coverage for e in episodes])), 4),
        "answer_ms": {
            "median": round(float(np.median(answer_ms)), 3),
            "p95": round(float(np.quantile(answer_ms, 0.95)), 3),
        },
        "episodes": [
            {
                "seed": episode.seed,
                "score": round(episode.score, 4),
                "final_coverage": round(episode.coverage, 4),
                "success": episode.success,
                "steps": len(episode.actions),
            }
            for episode in episodes
        ],
    }


def draw_push_t(path: Path, episodes: Sequence[PushTEpisode]) -> None:
    """Draw the end of each episode, with its seed and its score.

    Args:
        path: File to write; its ending says the format.
        episodes: In the order of the tiles, ten to a row.

    Raises:
        ConfigurationError: There is no episode.
        DataError: The file cannot be written.
    """
    if not episodes:
        raise ConfigurationError("Push-T: at least one episode is needed, got none")
    tiles: list[NDArray[np.uint8]] = [
        label(episode.picture, f"{episode.seed}   score {episode.score:.2f}")
        for episode in episodes
    ]
    columns = min(len(tiles), _COLUMNS)
    empty = np.full_like(tiles[0], BACKGROUND)
    tiles += [empty] * (-len(tiles) % columns)
    save_png(path, grid([tiles[i : i + columns] for i in range(0, len(tiles), columns)]))
