"""The monitor's bench: figures whose values are known, and one small run of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))  # bundles.py

from bundles import write_small_bundle

from alt_ros.benchmarks.evaluation import evaluate_unwatched, is_flagged, with_retrieval
from alt_ros.benchmarks.ood import MONITOR, RECALIBRATED, bench_ood, judge
from alt_ros.benchmarks.ood_traces import Trace, recorded
from alt_ros.bundle import Bundle
from alt_ros.errors import ConfigurationError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    path = write_small_bundle(tmp_path_factory.mktemp("ood") / "cup")
    return Bundle.load(path, encoder=False)


def trace(bundle: Bundle, episodes: int, noise: float, seed: int, success: bool = True) -> Trace:
    """Return demonstrations of the table that are seen with noise."""
    rng = np.random.default_rng(seed)
    table = bundle.table
    rows = [table.rows(int(d)) for d in rng.integers(table.demonstrations, size=episodes)]
    picked = np.concatenate([np.arange(r.start, r.stop) for r in rows])
    lengths = [r.stop - r.start for r in rows]

    def seen(values: np.ndarray) -> np.ndarray:
        values = values[picked] + noise * rng.normal(size=values[picked].shape)
        return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)

    return Trace(
        stamps=np.concatenate([np.arange(n) * table.period for n in lengths]),
        embeddings=seen(table.embeddings),
        view_embeddings=seen(table.view_embeddings),
        poses=table.poses[picked],
        ends=np.cumsum(lengths),
        success=np.full(episodes, success),
        failed_after=np.array(lengths),
    )


def test_a_clear_change_is_told_apart_and_false_alarms_are_as_rare_as_stated(bundle):
    traces = {
        "calibration": trace(bundle, 60, 0.02, 0),
        "ind": trace(bundle, 100, 0.02, 1),
        "noisy": trace(bundle, 20, 0.4, 2, success=False),
        "same": trace(bundle, 50, 0.02, 3),
    }
    values = judge(bundle, traces)
    cosine = values["scores"]["cosine"]
    assert cosine["false_alarms_interval_95"][0] <= 0.05 <= cosine["false_alarms_interval_95"][1]
    low, high = cosine["expected_false_alarms_95"]
    assert 0 <= low <= cosine["false_alarms"] <= high < 20
    noisy = values["scenarios"]["noisy"]["scores"]["cosine"]
    assert noisy["auroc"] > 0.99
    assert noisy["flagged"] >= 15
    assert noisy["failures"] == 20
    assert noisy["failures_flagged"] == noisy["flagged"]
    assert noisy["successes_stopped"] == 0
    assert noisy["delay"] == bundle.monitor.raise_count - 1
    same = values["scenarios"]["same"]["scores"]["cosine"]
    assert 0.35 < same["auroc"] < 0.65
    assert same["balanced_accuracy"] == pytest.approx(0.5, abs=0.08)
    shipped = values["scenarios"]["noisy"]["scores"][MONITOR]
    assert shipped["flagged"] >= 15
    assert shipped["auroc"] > 0.99
    again = values["scores"][RECALIBRATED]
    low, high = again["expected_false_alarms_95"]
    assert low <= again["false_alarms"] <= high < 20
    assert values["scores"][MONITOR]["threshold"] != again["threshold"]
    assert len(values["missed"]) == 20 - shipped["failures_flagged"]
    assert all(missed["scenario"] == "noisy" for missed in values["missed"])
    assert (cosine["failures"], cosine["successes"]) == (20, 150)
    assert cosine["failures_flagged"] == noisy["flagged"]
    assert cosine["successes_stopped"] == cosine["false_alarms"] + same["flagged"]
    assert values["ms_per_decision"] > 0.0


def test_a_flag_after_the_failure_is_not_in_time(bundle):
    late = trace(bundle, 20, 0.4, 2, success=False)
    late.failed_after[:] = 1
    traces = {
        "calibration": trace(bundle, 30, 0.02, 0),
        "ind": trace(bundle, 20, 0.02, 1),
        "late": late,
    }
    figures = judge(bundle, traces)["scenarios"]["late"]["scores"]["cosine"]
    assert figures["flagged"] >= 15
    assert figures["failures_flagged"] == 0


def test_too_few_calibration_episodes_are_refused(bundle):
    few = {"calibration": trace(bundle, 18, 0.02, 0), "ind": trace(bundle, 5, 0.02, 1)}
    with pytest.raises(ConfigurationError, match="at least 19 levels .* got 18"):
        judge(bundle, few)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_roll_outs_are_kept_and_taken_up(bundle, tmp_path):
    done: list[tuple[int, int]] = []
    loaded = Bundle.load(bundle.path, threads=1)
    first = recorded(
        tmp_path, loaded, "wrong_start", 1, seed=1, progress=lambda *p: done.append(p)
    )
    (file,) = tmp_path.rglob("*.npz")
    again = recorded(tmp_path, loaded, "wrong_start", 1, seed=1)
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    assert len(first) == 1
    assert not first.success.any()  # this table has never seen a cup
    assert first.poses.shape == (int(first.ends[0]), 1, 7)
    assert done[-1] == (1, 1)
    file.write_bytes(b"damaged")
    mended = recorded(tmp_path, loaded, "wrong_start", 1, seed=1)
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    figures = evaluate_unwatched(loaded, "wrong_start", 1, seed=1, folder=tmp_path)
    assert (figures["success"], figures["trials"], figures["stopped"]) == (0, 1, 0)
    assert figures["flagged"] == is_flagged(loaded, next(mended.episodes()))
    corrected = with_retrieval(loaded, "correct")
    recorded(tmp_path, corrected, "wrong_start", 1, seed=1)
    assert len(list(tmp_path.rglob("*.npz"))) == 2  # another policy, another file
    np.testing.assert_array_equal(first.stamps - first.stamps[0], mended.stamps - mended.stamps[0])
    with pytest.raises(ConfigurationError, match="scenario 'nonsense' does not exist"):
        bench_ood(bundle.path, tmp_path, scenarios=("nonsense",))
    with pytest.raises(ConfigurationError, match="at least 19 levels .* got 2"):
        bench_ood(bundle.path, tmp_path, calibration_trials=2)
