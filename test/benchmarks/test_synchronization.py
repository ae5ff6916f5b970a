"""The synchronisation bench: a few minutes of every scenario, and its measure of known errors."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from alt_ros.benchmarks.approximate_time import (
    RestatedApproximateTime,
    RosApproximateTime,
    approximate_time,
)
from alt_ros.benchmarks.synchronization import (
    FRAME_PERIOD,
    SCENARIOS,
    _existing,
    _Pairs,
    _score,
    _streams,
    measure_synchronization,
)

MS = 1_000_000
MINUTE = 60 * 1000 * MS


@pytest.fixture(scope="module")
def measured():
    calls = []
    result = measure_synchronization(
        0.03, progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1] == (35, 35)
    return result


def test_ours_makes_no_wrong_pair_finds_those_that_exist_and_interpolates(measured):
    assert measured["passed"]
    assert set(measured["scenarios"]) == set(SCENARIOS)
    for name, result in measured["scenarios"].items():
        for method in ("alt", "alt_without_pose"):
            assert result[method]["wrong_pairs"] == 0, name
            assert result[method]["found"] >= 0.995, name
        error = result["alt"]["pose_error"]["at_stamp"]
        assert error["ratio_mm"] <= 0.1, name
        assert error["ratio_degrees"] <= 0.1, name


def test_the_steady_scenarios_cost_no_waiting(measured):
    for name in ("phase_8ms", "loss_0.5%", "loss_5%", "transport_skew_30ms", "clock_jump"):
        assert measured["scenarios"][name]["alt"]["added_latency_ms"]["p99"] == 0.0, name


def test_the_bench_sees_a_synchroniser_that_slips(measured):
    assert measured["scenarios"]["loss_5%"]["approximate_time_50ms"]["wrong_pairs"] > 100


def test_the_same_seed_gives_the_same_figures():
    first, second = (
        measure_synchronization(0.002, seed=3, progress=lambda done, total: None)["scenarios"]
        for _ in range(2)
    )
    assert first == second


def test_slipped_pairs_are_counted_as_wrong_by_their_distance():
    cameras, _ = _streams(SCENARIOS["phase_8ms"], MINUTE, np.random.default_rng(0))
    count = int(_existing(cameras).sum())
    assert count == MINUTE // FRAME_PERIOD
    frames = list(range(10, 110))
    arrivals = cameras[1].arrivals
    right = _Pairs(frames, frames, [int(arrivals[k]) + 2 * MS for k in frames])
    slipped = _Pairs(frames, [k - 1 for k in frames], [int(arrivals[k]) for k in frames])
    assert _score(cameras, right) == {
        "pairs_made": 100,
        "wrong_pairs": 0,
        "found": round(100 / count, 5),
        "worst_error_ms": 0.0,
        "added_latency_ms": {"mean": 2.0, "p50": 2.0, "p99": 2.0},
    }
    wrong = _score(cameras, slipped)
    assert (wrong["wrong_pairs"], wrong["found"]) == (100, 0.0)
    assert wrong["worst_error_ms"] == 33.333


def test_a_lost_frame_has_no_pair_that_exists():
    cameras, _ = _streams(SCENARIOS["loss_5%"], MINUTE, np.random.default_rng(0))
    existing = _existing(cameras)
    np.testing.assert_array_equal(existing, cameras[0].delivered & cameras[1].delivered)
    assert 0.85 < existing.mean() < 0.95


# ---------------------------------------------------------------- ApproximateTimeSynchronizer


def test_it_takes_the_nearest_stamp_below_the_slop_and_uses_it_once():
    pair = RestatedApproximateTime(2, 10, 20)
    assert pair(0, 100, 0) is None
    assert pair(0, 110, 1) is None
    assert pair(1, 112, 2) == [1, 2]
    assert pair(1, 113, 3) == [0, 3]
    assert pair(1, 114, 4) is None


def test_at_the_slop_itself_there_is_no_pair():
    pair = RestatedApproximateTime(2, 10, 20)
    pair(0, 100, 0)
    assert pair(1, 120, 1) is None
    assert pair(1, 119, 2) == [0, 2]


def test_a_full_queue_forgets_its_oldest_stamp():
    pair = RestatedApproximateTime(2, 2, 5)
    for stamp in (100, 200, 300):
        pair(0, stamp, stamp)
    assert pair(1, 100, 0) is None
    assert pair(1, 200, 0) == [200, 0]


def test_it_slips_where_a_frame_was_lost_and_stays_slipped():
    pair = RestatedApproximateTime(2, 10, 50)
    made = []
    for k in range(10):
        if k != 3:
            made.append(pair(0, 33 * k, k))
        made.append(pair(1, 33 * k + 8, k))
    assert [m for m in made if m] == [[k, k] for k in range(3)] + [[k + 1, k] for k in range(3, 9)]


@pytest.mark.skipif(
    importlib.util.find_spec("message_filters") is None,
    reason="RESTATEMENT NOT COMPARED: message_filters is not installed",
)
@pytest.mark.parametrize("streams", [2, 3])
def test_the_restatement_gives_what_the_class_of_ros_gives(streams):
    random = np.random.default_rng(0)
    for slop in (3, 10, 40):
        theirs, _ = approximate_time(streams, 10, slop)
        assert isinstance(theirs, RosApproximateTime)
        ours = RestatedApproximateTime(streams, 10, slop)
        for k in range(500):
            stream, stamp = int(random.integers(streams)), 1000 + 3 * k + int(random.integers(60))
            expected, got = theirs(stream, stamp, k), ours(stream, stamp, k)
            assert (None if expected is None else list(expected)) == got
