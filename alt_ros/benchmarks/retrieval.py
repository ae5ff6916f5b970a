"""What each way to correct a recalled motion is worth, beside the paper's plain recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alt_ros.benchmarks.ood_traces import recorded
from alt_ros.bundle import Bundle
from alt_ros.errors import ConfigurationError
from alt_ros.lookup.correction import CorrectionConfig
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.simulation.rollout import wilson_interval
from alt_ros.simulation.scenarios import scenario as find_scenario

VARIANTS: dict[str, CorrectionConfig | None] = {
    "recall": None,
    "correct": CorrectionConfig(),
    "nearest demonstration": CorrectionConfig(weights="nearest"),
    "no anchor": CorrectionConfig(anchor="none"),
    "anchor base": CorrectionConfig(anchor="base"),
    "attraction 0.3": CorrectionConfig(attraction=0.3),
    "few and alike": CorrectionConfig(demonstrations=6, motion_tolerance=0.04),
}
"""Name to correction: the default, and one thing changed at a time; "recall" is the paper's."""
SCENARIOS = ("ind", "interpolate", "anywhere")


def compare_retrieval(
    bundles: Sequence[Path],
    folder: Path,
    *,
    variants: Sequence[str] = (),
    scenarios: Sequence[str] = SCENARIOS,
    trials: int = 50,
    seed: int = 3000,
    progress: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """Roll out every variant on every scenario with the monitor off.

    Args:
        bundles: Folders of the bundles, of other encoders for instance.
        folder: Where the roll-outs are kept: a second run takes them up.
        variants: Names from ``VARIANTS``; empty takes all.
        scenarios: Names of the scenarios.
        trials: Episodes of each.
        seed: Of the placements.
        progress: Called after every episode.

    Returns:
        ``bundles``: folder to variant to scenario to ``success`` and ``success_interval_95``.

    Raises:
        ConfigurationError: A variant or a scenario does not exist.
        BundleError: A bundle cannot be loaded.
    """
    names = list(variants) or list(VARIANTS)
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise ConfigurationError(
            f"variants of the retrieval are {', '.join(VARIANTS)}; got {', '.join(unknown)}"
        )
    for scenario in scenarios:
        find_scenario(scenario)
    total, done = len(bundles) * len(names) * len(scenarios) * trials, 0
    result: dict[str, Any] = {}
    for path in bundles:
        bundle = Bundle.load(path, threads=1)
        rows: dict[str, Any] = {}
        for name in names:
            policy = replace(bundle, correction=VARIANTS[name])
            rows[name] = {}
            for scenario in scenarios:

                def report(part: int, _: int, before: int = done) -> None:
                    progress(before + part, total)

                trace = recorded(folder, policy, scenario, trials, seed=seed, progress=report)
                done += trials
                success = int(trace.success.sum())
                low, high = wilson_interval(success, trials)
                rows[name][scenario] = {
                    "success": success,
                    "success_interval_95": [round(low, 4), round(high, 4)],
                }
        result[path.as_posix()] = rows
    return {"bundles": result, "trials": trials, "seed": seed, "machine": machine()}
