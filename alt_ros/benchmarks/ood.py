"""How well each score, and the monitor of the bundle, tell strange episodes from ordinary ones.

Everything is computed from roll-outs with the monitor off, so that success and failure are known
of episodes that the flag would have stopped. A score's figure for an episode is the highest value
that as many observations reached as raise the flag.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from alt_ros.benchmarks.ood_traces import Trace, recorded
from alt_ros.bundle import Bundle
from alt_ros.lookup.bands import decided
from alt_ros.lookup.calibration import conformal_threshold
from alt_ros.lookup.scores import score_episodes, score_names
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.simulation.rollout import wilson_interval
from alt_ros.simulation.scenarios import SCENARIOS
from alt_ros.simulation.scenarios import scenario as find_scenario
from alt_ros.types import Query

ORDINARY = "ind"
CALIBRATION_SEED = 2000
EPISODE_RATE = 0.05
MONITOR = "monitor of the bundle"
Array = NDArray[np.float64]


def bench_ood(
    bundle: Path,
    folder: Path,
    *,
    scenarios: Sequence[str] = (),
    trials: int = 24,
    ordinary_trials: int = 100,
    calibration_trials: int = 40,
    seed: int = 3000,
    progress: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """Roll out every scenario with the monitor off and judge every score by it.

    Args:
        bundle: Folder of the bundle.
        folder: Where the roll-outs are kept: a second run takes them up.
        scenarios: Which; empty takes all that are not ordinary.
        trials: Episodes of each.
        ordinary_trials: Fresh ordinary episodes, on which false alarms are counted.
        calibration_trials: Ordinary episodes from which each score's threshold comes, for
            ``EPISODE_RATE`` false alarms an episode.
        seed: Of the placements; the calibration has its own.
        progress: Called after every episode.

    Returns:
        ``scores``: name to threshold and false alarms; ``scenarios``: name to success, failures
        and per score ``auroc``, ``balanced_accuracy``, ``flagged``, ``delay`` (observations, the
        median), ``failures_flagged`` (before they failed) and ``successes_flagged``.

    Raises:
        ConfigurationError: A scenario does not exist, or there are too few calibration episodes.
        BundleError: The bundle cannot be loaded.
    """
    loaded = Bundle.load(bundle, threads=1)
    chosen = list(scenarios) or [s for s in SCENARIOS if s not in ("training", ORDINARY)]
    for name in chosen:
        find_scenario(name)
    # Too few are refused before the long run, not after it.
    conformal_threshold(np.zeros(calibration_trials), EPISODE_RATE)
    wanted = [
        ("calibration", ORDINARY, calibration_trials, CALIBRATION_SEED),
        (ORDINARY, ORDINARY, ordinary_trials, seed),
        *((name, name, trials, seed) for name in chosen),
    ]
    total = sum(count for _, _, count, _ in wanted)
    done = 0
    traces: dict[str, Trace] = {}
    for key, name, count, at in wanted:
        before = done

        def report(part: int, _: int, before: int = before) -> None:
            progress(before + part, total)

        traces[key] = recorded(folder, loaded, name, count, seed=at, progress=report)
        done += count
    return judge(loaded, traces) | {"seed": seed, "machine": machine()}


def judge(bundle: Bundle, traces: dict[str, Trace]) -> dict[str, Any]:
    """Return the figures of traces: ``calibration``, ``ind``, and any other scenarios."""
    names = score_names(bundle.table, bundle.spec.views)
    started = time.perf_counter()
    levels = {key: _decided(bundle, names, trace) for key, trace in traces.items()}
    seconds = time.perf_counter() - started
    decisions = sum(int(trace.ends[-1]) for trace in traces.values())
    highest = {
        key: np.array([e.max(axis=0) for e in episodes]) for key, episodes in levels.items()
    }
    thresholds = [conformal_threshold(column, EPISODE_RATE) for column in highest["calibration"].T]
    flags: dict[str, dict[str, list[int | None]]] = {MONITOR: {}}
    for key, trace in traces.items():
        flags[MONITOR][key] = [_monitored(bundle, queries) for queries in trace.episodes()]
    for column, (name, threshold) in enumerate(zip(names, thresholds, strict=True)):
        flags[name] = {
            key: [_first(episode[:, column] > threshold) for episode in episodes]
            for key, episodes in levels.items()
        }
    result: dict[str, Any] = {
        "ms_per_decision": round(1e3 * seconds / decisions, 4),
        "scores": {
            name: {
                "threshold": None if name == MONITOR else round(thresholds[names.index(name)], 6),
                "false_alarm_rate": (bundle.calibration.rate if name == MONITOR else EPISODE_RATE),
                **_false_alarms(of_scenario[ORDINARY]),
            }
            for name, of_scenario in flags.items()
        },
        "scenarios": {},
    }
    for key, trace in traces.items():
        if key in ("calibration", ORDINARY):
            continue
        auroc = dict(zip(names, _auroc(highest[key], highest[ORDINARY]), strict=True))
        result["scenarios"][key] = {
            "episodes": len(trace),
            "successes": int(trace.success.sum()),
            "scores": {
                name: {"auroc": auroc.get(name)}
                | _figures(of_scenario[key], of_scenario[ORDINARY], trace)
                for name, of_scenario in flags.items()
            },
        }
    return result


def _decided(bundle: Bundle, names: Sequence[str], trace: Trace) -> list[Array]:
    """Return for each episode what (n, S) scores would raise the flag by at each observation.

    A score that says nothing counts as its least value.
    """
    config = bundle.monitor
    table, index, views = bundle.table, bundle.index, bundle.spec.views
    scored = score_episodes(table, index, views, names, trace.episodes(), bundle.retrieval)
    return [
        np.column_stack(
            [
                np.maximum(decided(values, config.raise_count, config.raise_window), 0.0)
                for values in np.nan_to_num(episode.values, nan=0.0).T
            ]
        )
        for episode in scored
    ]


def _monitored(bundle: Bundle, queries: Sequence[Query]) -> int | None:
    lookup = bundle.lookup()
    return _first(np.array([lookup.step(query)[1].flag for query in queries]))


def _first(raised: NDArray[np.bool_]) -> int | None:
    return int(raised.argmax()) if raised.any() else None


def _auroc(strange: Array, ordinary: Array) -> list[float]:
    pairs = len(strange) * len(ordinary)
    return [
        round(float(mannwhitneyu(a, b).statistic) / pairs, 4)
        for a, b in zip(strange.T, ordinary.T, strict=True)
    ]


def _false_alarms(first: Sequence[int | None]) -> dict[str, Any]:
    alarms = sum(flag is not None for flag in first)
    low, high = wilson_interval(alarms, len(first))
    return {
        "false_alarms": alarms,
        "ordinary_episodes": len(first),
        "false_alarms_interval_95": [round(low, 4), round(high, 4)],
    }


def _figures(
    first: Sequence[int | None], ordinary: Sequence[int | None], trace: Trace
) -> dict[str, Any]:
    flagged = np.array([flag is not None for flag in first])
    quiet = np.array([flag is None for flag in ordinary])
    in_time = np.array(
        [
            flag is not None and flag < failed
            for flag, failed in zip(first, trace.failed_after, strict=True)
        ]
    )
    delays = [flag for flag in first if flag is not None]
    return {
        "balanced_accuracy": round(float(flagged.mean() + quiet.mean()) / 2.0, 4),
        "flagged": int(flagged.sum()),
        "delay": float(np.median(delays)) if delays else None,
        "failures": int((~trace.success).sum()),
        "failures_flagged": int((in_time & ~trace.success).sum()),
        "successes_flagged": int((flagged & trace.success).sum()),
    }
