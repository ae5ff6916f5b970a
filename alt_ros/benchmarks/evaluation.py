"""Roll-outs of a policy over the trials of a scenario, in process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.benchmarks.ood_traces import recorded
from alt_ros.bundle import Bundle
from alt_ros.errors import ConfigurationError
from alt_ros.lookup.correction import CorrectionConfig
from alt_ros.lookup.monitor import OodMonitor
from alt_ros.lookup.retrieval import Retrieval
from alt_ros.policies.alt import AltPolicy
from alt_ros.progress import Advance
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.report import machine
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.rollout import Episode, run_episode, wilson_interval
from alt_ros.simulation.scenarios import scenario as find_scenario
from alt_ros.types import Query

RETRIEVALS = ("bundle", "recall", "correct")


def evaluate(
    bundle: Path,
    scenario: str,
    trials: int,
    *,
    seed: int,
    action_horizon: int,
    device: str,
    retrieval: str = "bundle",
    image_size: tuple[int, int] = (128, 128),
    progress: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """Run the trials and return the figures.

    Args:
        bundle: Folder of the bundle.
        scenario: Name of the scenario.
        trials: Number of episodes; trial n starts from training placement n modulo 31 where the
            scenario re-places it.
        seed: Of the placements.
        action_horizon: Ta.
        device: auto, cpu or cuda.
        retrieval: See ``with_retrieval``.
        image_size: (height, width) of the cameras, pixels.
        progress: Called after every episode.

    Returns:
        ``success``, ``trials``, ``recall`` (episodes in which most commands came from the
        demonstration whose cup stood nearest), the success rate's 95 % interval, and each episode.

    Raises:
        ConfigurationError: The scenario does not exist.
        BundleError: The bundle cannot be loaded.
    """
    family = find_scenario(scenario)
    policy = AltPolicy(with_retrieval(Bundle.load(bundle, device=device), retrieval))
    simulation = CupGraspSimulation(image_size)
    episodes: list[Episode] = []
    try:
        for trial in range(trials):
            horizon = HorizonConfig(action_horizon=action_horizon)
            episodes.append(
                run_episode(simulation, policy, family, trial, seed=seed, horizon=horizon)
            )
            progress(trial + 1, trials)
    finally:
        simulation.close()
    return summarize(scenario, episodes) | {"seed": seed, "machine": machine()}


def with_retrieval(bundle: Bundle, retrieval: str) -> Bundle:
    """Return a bundle with another retrieval.

    Args:
        bundle: The bundle.
        retrieval: "bundle": its own; "recall": motions as they were; "correct": corrected, as the
            bundle says or by the defaults.

    Raises:
        ConfigurationError: There is no such retrieval.
    """
    if retrieval == "bundle":
        return bundle
    if retrieval == "recall":
        return replace(bundle, correction=None)
    if retrieval == "correct":
        return replace(bundle, correction=bundle.correction or CorrectionConfig())
    raise ConfigurationError(
        f"retrieval must be one of {', '.join(RETRIEVALS)}, got '{retrieval}'"
    )


def evaluate_unwatched(
    bundle: Bundle,
    scenario: str,
    trials: int,
    *,
    seed: int,
    folder: Path,
    progress: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """Run the trials with the monitor off; say what it would have done.

    Args:
        bundle: A loaded bundle.
        scenario: Name of the scenario.
        trials: Number of episodes.
        seed: Of the placements.
        folder: Where the roll-outs are kept: a second run takes them up.
        progress: Called after every episode.

    Returns:
        As ``evaluate``, without what is known of single episodes; ``flagged`` is what the monitor
        would have flagged, ``stopped`` those of them that succeeded.

    Raises:
        ConfigurationError: The scenario does not exist.
    """
    trace = recorded(folder, bundle, scenario, trials, seed=seed, progress=progress)
    flagged = np.array(
        [is_flagged(bundle, queries) for queries in trace.episodes()], dtype=np.bool_
    )
    success = int(trace.success.sum())
    low, high = wilson_interval(success, trials)
    return {
        "policy": "alt",
        "scenario": scenario,
        "monitor": False,
        "success": success,
        "trials": trials,
        "success_interval_95": [round(low, 4), round(high, 4)],
        "flagged": int(flagged.sum()),
        "stopped": int((flagged & trace.success).sum()),
        "seed": seed,
        "machine": machine(),
    }


def is_flagged(bundle: Bundle, queries: Sequence[Query]) -> bool:
    """Return whether the bundle's monitor flags an episode."""
    retrieval = Retrieval(bundle.table, bundle.index, bundle.retrieval)
    monitor = OodMonitor(bundle.table, bundle.spec.views, bundle.calibration, bundle.monitor)
    for query in queries:
        below = monitor.strange_below
        recall = retrieval.recall(query.embedding, query.stamp, strange_below=below)
        if monitor.decide(query, recall).flag:
            return True
    return False


def summarize(scenario: str, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return the figures of episodes of one scenario."""
    success = sum(episode.success for episode in episodes)
    low, high = wilson_interval(success, len(episodes))
    delays = [episode.flag_delay for episode in episodes if episode.flagged]
    return {
        "policy": "alt",
        "scenario": scenario,
        "success": success,
        "trials": len(episodes),
        "success_interval_95": [round(low, 4), round(high, 4)],
        "recall": sum(episode.recalled == episode.expected for episode in episodes),
        "flagged": sum(episode.flagged for episode in episodes),
        "flag_delay_s": round(float(np.median(delays)), 3) if delays else None,
        "episodes": [
            {
                "trial": episode.trial,
                "success": episode.success,
                "flagged": episode.flagged,
                "expected": episode.expected,
                "recalled": episode.recalled,
                "commands": episode.commands,
                "seconds": round(episode.seconds, 2),
                "end": episode.reason,
            }
            for episode in episodes
        ],
    }
