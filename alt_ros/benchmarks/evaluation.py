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
from alt_ros.policies.policy import Policy
from alt_ros.policies.registry import ALT, InferenceConfig, load_policy
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
    policy: str = ALT,
    inference: InferenceConfig | None = None,
    watched: bool = True,
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
        policy: Which policy; any but ALT answers every Ta observations, and is watched by the
            bundle's monitor.
        inference: How it answers.
        watched: Stop at the monitor's flag; ALT always does, see ``evaluate_unwatched``.
        retrieval: ALT: see ``with_retrieval``.
        image_size: (height, width) of the cameras, pixels.
        progress: Called after every episode.

    Returns:
        ``success``, ``trials``, ``recall`` (episodes in which most commands came from the
        demonstration whose cup stood nearest; None of a policy whose chunks name no source), the
        success rate's 95 % interval, and each episode.

    Raises:
        ConfigurationError: The scenario does not exist.
        BundleError: The bundle cannot be loaded, or holds no such policy.
    """
    find_scenario(scenario)  # a wrong name is told before anything is loaded
    inference = inference or InferenceConfig()
    monitor: AltPolicy | None = None
    if policy == ALT or watched:
        loaded = Bundle.load(bundle, device=inference.device, threads=inference.threads)
        monitor = AltPolicy(with_retrieval(loaded, retrieval))
    if policy == ALT:
        assert monitor is not None
        acting, monitor, act_every = monitor, None, 1
    else:
        acting, act_every = load_policy(policy, bundle, inference), action_horizon
    with CupGraspSimulation(image_size) as simulation:
        episodes = roll_out(
            simulation,
            acting,
            scenario,
            range(trials),
            seed=seed,
            action_horizon=action_horizon,
            monitor=monitor,
            act_every=act_every,
            progress=progress,
        )
    figures = summarize(scenario, episodes)
    return figures | {"policy": policy, "seed": seed, "machine": machine()}


def roll_out(
    simulation: CupGraspSimulation,
    policy: Policy,
    scenario: str,
    trials: Sequence[int],
    *,
    seed: int,
    action_horizon: int,
    monitor: Policy | None = None,
    act_every: int = 1,
    watched: bool = True,
    progress: Advance = lambda done, total: None,
) -> list[Episode]:
    """Run trials of a scenario, see ``run_episode``.

    Raises:
        ConfigurationError: The scenario does not exist.
    """
    family = find_scenario(scenario)
    episodes: list[Episode] = []
    for done, trial in enumerate(trials, start=1):
        episodes.append(
            run_episode(
                simulation,
                policy,
                family,
                trial,
                seed=seed,
                horizon=HorizonConfig(action_horizon=action_horizon),
                monitor=monitor,
                act_every=act_every,
                watched=watched,
            )
        )
        progress(done, len(trials))
    return episodes


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
        "scenario": scenario,
        "success": success,
        "trials": len(episodes),
        "success_interval_95": [round(low, 4), round(high, 4)],
        "recall": sum(episode.recalled == episode.expected for episode in episodes)
        if any(episode.recalled >= 0 for episode in episodes)
        else None,
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
