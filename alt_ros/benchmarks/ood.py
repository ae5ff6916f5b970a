"""How well each score, and the monitor of the bundle, tell strange episodes from ordinary ones.

Everything is computed from roll-outs with the monitor off, so that success and failure are known
of episodes that the flag would have stopped. A score's figure for an episode is the highest value
that as many observations reached as raise the flag.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from alt_ros.benchmarks.ood_traces import Trace, recorded
from alt_ros.bundle import Bundle
from alt_ros.lookup.calibration import (
    EPISODE,
    SPLIT,
    Calibration,
    calibrate,
    conformal_threshold,
    expected_alarms,
)
from alt_ros.lookup.decision import kth_of_last
from alt_ros.lookup.episodes import score_episodes
from alt_ros.lookup.monitor import OodMonitor
from alt_ros.lookup.retrieval import Retrieval
from alt_ros.lookup.scores import score_names
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.simulation.rollout import wilson_interval
from alt_ros.simulation.scenarios import SCENARIOS
from alt_ros.simulation.scenarios import scenario as find_scenario
from alt_ros.types import OodDecision

ORDINARY = "ind"
CALIBRATION_SEED = 2000
EPISODE_RATE = 0.05
MONITOR = "shipped"
"""The monitor of the bundle, with its own calibration."""
RECALIBRATED = "shipped (roll-outs)"
"""The same scores, calibrated on the policy's roll-outs: episodes like those it is tested on."""
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
        ``scores``: name, ``MONITOR`` and ``RECALIBRATED`` among them, to threshold, false alarms,
        how many the calibration lets expect (``expected_false_alarms_95``) and, over all
        scenarios, ``failures_flagged`` (before they failed) and ``successes_stopped``;
        ``scenarios``: name to ``success`` and per score the same and ``auroc``,
        ``balanced_accuracy``, ``flagged`` and ``delay`` (observations, the median); ``missed``:
        the failures that the bundle's monitor did not flag in time; ``ms_per_decision``.

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
    levels = {key: _decided(bundle, names, trace) for key, trace in traces.items()}
    calibrated = np.array([episode.max(axis=0) for episode in levels["calibration"]])
    calibrations = {MONITOR: bundle.calibration, RECALIBRATED: _recalibrated(bundle, traces)}
    detectors: dict[str, dict[str, list[Verdict]]] = {}
    thresholds: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for name, calibration in calibrations.items():
        detectors[name], seconds[name] = _monitored(bundle, calibration, traces)
        thresholds[name] = round(calibration.threshold, 6)
    for column, name in enumerate(names):
        threshold = conformal_threshold(calibrated[:, column], EPISODE_RATE)
        thresholds[name] = round(threshold, 6)
        detectors[name] = {
            key: [Verdict.of(e[:, column], e[:, column] > threshold) for e in episodes]
            for key, episodes in levels.items()
        }
    strange = [key for key in traces if key not in ("calibration", ORDINARY)]
    judged = [ORDINARY, *strange]
    return {
        "ms_per_decision": round(1e3 * seconds[MONITOR], 4),
        "scores": {
            name: {
                "threshold": thresholds[name],
                "false_alarm_rate": (
                    calibrations[name].rate if name in calibrations else EPISODE_RATE
                ),
                **_false_alarms(verdicts[ORDINARY]),
                **_expected(calibrations.get(name), calibrated, verdicts[ORDINARY]),
                **_against_failures([(traces[key], verdicts[key]) for key in judged]),
            }
            for name, verdicts in detectors.items()
        },
        "scenarios": {
            key: {
                "episodes": len(traces[key]),
                **_rate("success", int(traces[key].success.sum()), len(traces[key])),
                "scores": {
                    name: _figures(verdicts[key], verdicts[ORDINARY], traces[key])
                    for name, verdicts in detectors.items()
                },
            }
            for key in judged
        },
        "missed": [
            {"scenario": key, "trial": trial}
            for key in judged
            for trial in np.flatnonzero(
                ~traces[key].success & ~_in_time(detectors[MONITOR][key], traces[key])
            ).tolist()
        ],
    }


class Verdict(NamedTuple):
    """What a detector said of an episode.

    Attributes:
        first: The observation at which it raised its flag; None: it did not.
        highest: The highest value that the flag is decided by.
    """

    first: int | None
    highest: float

    @classmethod
    def of(cls, levels: Array, raised: NDArray[np.bool_]) -> Verdict:
        """Return the verdict of an episode's levels (n,) and flags (n,)."""
        return cls(int(raised.argmax()) if raised.any() else None, float(levels.max()))


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
                np.maximum(kth_of_last(values, config.raise_count, config.raise_window), 0.0)
                for values in np.nan_to_num(episode.values, nan=0.0).T
            ]
        )
        for episode in scored
    ]


def _recalibrated(bundle: Bundle, traces: dict[str, Trace]) -> Calibration:
    """Return a calibration of the bundle's scores on the ordinary roll-outs."""
    names = tuple(bundle.calibration.bands)
    episodes = traces["calibration"].episodes()
    table, index, views = bundle.table, bundle.index, bundle.spec.views
    scored = score_episodes(table, index, views, names, episodes, bundle.retrieval)
    return calibrate(scored, names, monitor=bundle.monitor, rate=EPISODE_RATE)


def _monitored(
    bundle: Bundle, calibration: Calibration, traces: dict[str, Trace]
) -> tuple[dict[str, list[Verdict]], float]:
    """Return what the monitor says with a calibration, and the seconds that a decision takes."""
    table, config = bundle.table, bundle.monitor
    retrieval = Retrieval(table, bundle.index, bundle.retrieval)
    monitor = OodMonitor(table, bundle.spec.views, calibration, config)
    verdicts: dict[str, list[Verdict]] = {}
    spent: list[float] = []
    for key, trace in traces.items():
        verdicts[key] = []
        for queries in trace.episodes():
            retrieval.reset()
            monitor.reset()
            decisions: list[OodDecision] = []
            for query in queries:
                recall = retrieval.recall(
                    query.embedding, query.stamp, strange_below=monitor.strange_below
                )
                started = time.perf_counter()
                decisions.append(monitor.decide(query, recall))
                spent.append(time.perf_counter() - started)
            levels = np.array([decision.score for decision in decisions])
            verdicts[key].append(
                Verdict.of(
                    config.decided(levels),
                    np.array([decision.flag for decision in decisions]),
                )
            )
    return verdicts, float(np.median(spent))


def _rate(name: str, count: int, total: int) -> dict[str, Any]:
    low, high = wilson_interval(count, total)
    return {name: count, f"{name}_interval_95": [round(low, 4), round(high, 4)]}


def _false_alarms(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    alarms = sum(verdict.first is not None for verdict in verdicts)
    return {
        **_rate("false_alarms", alarms, len(verdicts)),
        "ordinary_episodes": len(verdicts),
    }


def _expected(
    calibration: Calibration | None, calibrated: Array, ordinary: Sequence[Verdict]
) -> dict[str, Any]:
    """Return how many false alarms are to be expected, where a rate is guaranteed."""
    count, rate = len(calibrated), EPISODE_RATE
    if calibration is not None:
        if calibration.guarantee != SPLIT or calibration.per != EPISODE:
            return {}
        assert calibration.rate is not None
        count, rate = calibration.episodes, calibration.rate
    return {"expected_false_alarms_95": list(expected_alarms(count, rate, len(ordinary)))}


def _in_time(verdicts: Sequence[Verdict], trace: Trace) -> NDArray[np.bool_]:
    """Return which episodes (E,) were flagged before they had failed."""
    return np.array(
        [
            verdict.first is not None and verdict.first < failed
            for verdict, failed in zip(verdicts, trace.failed_after.tolist(), strict=True)
        ]
    )


def _against_failures(parts: Sequence[tuple[Trace, Sequence[Verdict]]]) -> dict[str, Any]:
    """Return how many episodes fail, and how many of those were flagged before; and succeed."""
    success = np.concatenate([trace.success for trace, _ in parts])
    in_time = np.concatenate([_in_time(verdicts, trace) for trace, verdicts in parts])
    flagged = np.array([v.first is not None for _, verdicts in parts for v in verdicts])
    failures, successes = int((~success).sum()), int(success.sum())
    result: dict[str, Any] = {"failures": failures, "successes": successes}
    if failures:
        result |= _rate("failures_flagged", int((in_time & ~success).sum()), failures)
    if successes:
        result |= _rate("successes_stopped", int((flagged & success).sum()), successes)
    return result


def _figures(
    verdicts: Sequence[Verdict], ordinary: Sequence[Verdict], trace: Trace
) -> dict[str, Any]:
    flagged = np.array([verdict.first is not None for verdict in verdicts])
    quiet = np.array([verdict.first is None for verdict in ordinary])
    delays = [verdict.first for verdict in verdicts if verdict.first is not None]
    strange = np.array([verdict.highest for verdict in verdicts])
    usual = np.array([verdict.highest for verdict in ordinary])
    auroc = float(mannwhitneyu(strange, usual).statistic) / (len(strange) * len(usual))
    return {
        "auroc": round(auroc, 4),
        "balanced_accuracy": round(float(flagged.mean() + quiet.mean()) / 2.0, 4),
        "flagged": int(flagged.sum()),
        "delay": float(np.median(delays)) if delays else None,
        "failures": int((~trace.success).sum()),
        "failures_flagged": int((_in_time(verdicts, trace) & ~trace.success).sum()),
        "successes_stopped": int((flagged & trace.success).sum()),
    }
