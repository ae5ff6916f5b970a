"""Roll-outs of a policy over the trials of a scenario, in process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.policies.alt import AltPolicy
from alt_ros.progress import Advance
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.report import machine
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.rollout import Episode, run_episode, wilson_interval
from alt_ros.simulation.scenarios import scenario as find_scenario


def evaluate(
    bundle: Path,
    scenario: str,
    trials: int,
    *,
    seed: int,
    action_horizon: int,
    device: str,
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
    policy = AltPolicy.load(bundle, device=device)
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
