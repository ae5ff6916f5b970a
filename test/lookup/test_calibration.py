"""The threshold keeps the stated rate, says what vouches for it, and sees what is strange."""

from __future__ import annotations

import numpy as np
import pytest
from tables import table

from alt_ros.errors import BundleError, ConfigurationError, DataError
from alt_ros.lookup.bands import Band, combined, strangeness
from alt_ros.lookup.calibration import (
    APPROXIMATE,
    EXTRAPOLATED,
    INDEPENDENT,
    KEPT_LEVELS,
    LEAVE_ONE_OUT,
    SPLIT,
    Calibration,
    calibrate,
    conformal_threshold,
    demonstrated_queries,
    episode_bound,
    expected_alarms,
    frame_threshold,
    needed_episodes,
    realised_range,
    score_left_out,
)
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.episodes import EpisodeScores

NAMES = ("cosine", "jumps")
FLAG = {"monitor": MonitorConfig(raise_count=3, raise_window=4)}


def episode(rng: np.random.Generator, strange: float = 0.0, frames: int = 30) -> EpisodeScores:
    """Return an episode whose observations resemble each other, as those of one scene do."""
    progress = np.linspace(0.0, 1.0, frames)
    own = 0.5 * rng.normal(size=2)
    logs = -4.0 + np.sin(3.0 * progress)[:, None] + own + 0.4 * rng.normal(size=(frames, 2))
    logs[frames // 2 :] += strange
    return EpisodeScores(np.exp(logs), progress)


def episodes(rng: np.random.Generator, count: int, strange: float = 0.0) -> list[EpisodeScores]:
    return [episode(rng, strange) for _ in range(count)]


def levels_of(calibration: Calibration, seen: EpisodeScores) -> np.ndarray:
    bands = tuple(calibration.bands.values())
    return combined(strangeness(bands, seen.values, seen.progress))


def raises(calibration: Calibration, seen: EpisodeScores) -> bool:
    """Return whether the flag goes up, counted as the monitor counts."""
    above = levels_of(calibration, seen) > calibration.threshold
    return any(above[max(i - 3, 0) : i + 1].sum() >= 3 for i in range(len(above)))


@pytest.mark.parametrize(("rate", "count"), [(0.1, 13), (0.1, 24), (0.2, 24)])
def test_no_more_ordinary_episodes_are_flagged_than_stated_and_not_many_fewer(rate, count):
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(300):
        calibration = calibrate(episodes(rng, count), NAMES, rate=rate, **FLAG)
        assert calibration.guarantee == SPLIT
        alarms += [raises(calibration, seen) for seen in episodes(rng, 4)]
    rank = np.ceil((1.0 - rate) * (calibration.episodes + 1))
    expected = 1.0 - rank / (calibration.episodes + 1)  # the rate, or what so few can be cut to
    assert expected <= rate
    assert np.mean(alarms) == pytest.approx(expected, abs=0.03)


def test_no_more_ordinary_frames_are_strange_than_stated_and_not_many_fewer():
    rng = np.random.default_rng(2)
    rate, shares = 0.2, []
    for _ in range(150):
        calibration = calibrate(episodes(rng, 36), NAMES, rate=rate, per="frame", **FLAG)
        assert calibration.guarantee == SPLIT
        shares += [
            (levels_of(calibration, seen) > calibration.threshold).mean()
            for seen in episodes(rng, 4)
        ]
    assert 0.6 * rate < np.mean(shares) <= rate + 0.01


@pytest.mark.parametrize("how", ["held_out", LEAVE_ONE_OUT])
@pytest.mark.parametrize("count", [6, 24])
def test_what_is_strange_is_flagged(how, count):
    rng = np.random.default_rng(3)
    calibration = calibrate(episodes(rng, count), NAMES, how=how, rate=0.1, **FLAG)
    strange = episodes(rng, 50, strange=6.0)
    assert np.mean([raises(calibration, seen) for seen in strange]) > 0.95


def test_extrapolated_and_left_out_thresholds_are_about_as_rare_as_stated():
    rng = np.random.default_rng(4)
    for how, count, guarantee in (
        ("held_out", 8, EXTRAPOLATED),
        (LEAVE_ONE_OUT, 24, APPROXIMATE),
        (LEAVE_ONE_OUT, 8, EXTRAPOLATED),
    ):
        alarms = []
        for _ in range(100):
            calibration = calibrate(episodes(rng, count), NAMES, how=how, rate=0.1, **FLAG)
            alarms += [raises(calibration, seen) for seen in episodes(rng, 4)]
        assert calibration.guarantee == guarantee
        assert (calibration.episodes, calibration.band_episodes) == (count, count)
        assert calibration.realised is None
        assert 0.03 < np.mean(alarms) < 0.17


def test_bands_and_levels_come_from_different_episodes():
    rng = np.random.default_rng(5)
    many = calibrate(episodes(rng, 60), NAMES, rate=0.05, **FLAG)
    assert (many.band_episodes, many.episodes) == (20, 40)
    just = calibrate(episodes(rng, 23), NAMES, rate=0.05, **FLAG)
    assert (just.band_episodes, just.episodes, just.guarantee) == (4, 19, SPLIT)
    few = calibrate(episodes(rng, 22), NAMES, rate=0.05, **FLAG)
    assert (few.episodes, few.guarantee) == (22, EXTRAPOLATED)


def test_frames_of_too_few_episodes_are_taken_as_independent_and_that_is_said():
    rng = np.random.default_rng(6)
    calibration = calibrate(episodes(rng, 4), NAMES, rate=0.05, per="frame", **FLAG)
    assert calibration.guarantee == INDEPENDENT
    assert (calibration.episodes, calibration.frames) == (4, 120)
    assert "between 4 and 120 samples" in calibration.explained()
    with pytest.raises(ConfigurationError, match="at least 999 levels .* got 120: record more"):
        calibrate(episodes(rng, 4), NAMES, rate=0.001, per="frame", **FLAG)


def test_the_threshold_is_the_conformal_quantile():
    levels = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    assert conformal_threshold(levels, 0.05) == 95.0
    assert conformal_threshold(np.arange(19.0), 0.05) == 18.0
    assert [needed_episodes(rate) for rate in (0.05, 0.1, 0.03)] == [19, 9, 33]
    with pytest.raises(ConfigurationError, match="needs at least 19 .* got 18"):
        conformal_threshold(np.arange(18.0), 0.05)


def test_a_long_episode_weighs_as_much_as_a_short_one():
    short, long = np.array([1.0]), np.full(1000, 2.0)
    assert frame_threshold([short] * 8 + [long], 0.3) == 1.0
    assert frame_threshold([short] + [long] * 8, 0.3) == 2.0


def test_the_realised_rate_is_beta_distributed():
    rng = np.random.default_rng(7)
    realised = [1.0 - conformal_threshold(rng.uniform(size=39), 0.1) for _ in range(4000)]
    expected = np.quantile(realised, [0.025, 0.975])
    np.testing.assert_allclose(realised_range(39, 0.1), expected, atol=0.01)


def test_so_many_false_alarms_are_expected_as_come():
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(2000):
        levels = rng.normal(size=19 + 100)
        alarms.append(int((levels[19:] > conformal_threshold(levels[:19], 0.05)).sum()))
    low, high = expected_alarms(19, 0.05, 100)
    assert low == 0 < high
    outside = np.mean((np.array(alarms) < low) | (np.array(alarms) > high))
    assert 0.01 < outside < 0.06


def test_the_bound_of_normal_levels_holds_as_often_as_stated():
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(3000):
        levels = rng.normal(2.0, 0.6, size=13)
        alarms.append(levels[-1] > episode_bound(levels[:-1], 0.05))
    assert 0.035 < np.mean(alarms) < 0.065


def test_too_few_episodes_and_a_rate_out_of_bounds_are_refused_with_a_remedy():
    rng = np.random.default_rng(8)
    with pytest.raises(ConfigurationError, match="at least 3 ordinary episodes, got 2: record"):
        calibrate(episodes(rng, 2), NAMES, **FLAG)
    for rate in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ConfigurationError, match="rate must be between 0 and 1"):
            calibrate(episodes(rng, 5), NAMES, rate=rate, **FLAG)
    with pytest.raises(ConfigurationError, match="got 0.1 per day"):
        calibrate(episodes(rng, 5), NAMES, rate=0.1, per="day", **FLAG)


def test_scores_that_say_nothing_are_refused_by_name():
    rng = np.random.default_rng(9)
    seen = episodes(rng, 5)
    for one in seen:
        one.values[:, 1] = np.nan
    with pytest.raises(ConfigurationError, match="scores jumps say nothing"):
        calibrate(seen, NAMES, **FLAG)
    seen[2].values[:] = np.nan
    with pytest.raises(DataError, match="says anything about episode 2"):
        calibrate(seen, NAMES, **FLAG)
    with pytest.raises(DataError, match=r"must be \(n >= 1, 1\)"):
        calibrate(seen, NAMES[:1], **FLAG)


def test_a_demonstration_is_scored_against_all_the_others():
    held = table((6, 4, 5))
    scored = score_left_out(held, ("wrist", "third_person"), ("cosine",))
    assert [len(one) for one in scored] == [6, 4, 5]
    similarities = held.embeddings @ held.embeddings.T
    for number, one in enumerate(scored):
        rows = held.rows(number)
        others = np.delete(similarities[rows], np.arange(rows.start, rows.stop), axis=1)
        np.testing.assert_allclose(one.values[:, 0], 1.0 - others.max(axis=1), atol=1e-6)
    with pytest.raises(ConfigurationError, match="needs 3 demonstrations, the table holds 2"):
        score_left_out(table((5, 5)), ("wrist", "third_person"), ("cosine",))


def test_a_demonstration_becomes_the_queries_it_was_made_from():
    held = table()
    queries = demonstrated_queries(held, 1)
    assert [query.stamp for query in queries] == [0, 50_000_000, 100_000_000, 150_000_000]
    np.testing.assert_array_equal(queries[2].embedding, held.embeddings[8])
    np.testing.assert_array_equal(queries[2].poses, held.poses[8])


def test_a_given_gamma_is_the_papers_rule():
    calibration = Calibration.given(0.75)
    assert list(calibration.bands) == ["cosine"]
    assert calibration.threshold == 0.25
    assert calibration.bands["cosine"].strangeness(1.0 - 0.6, 0.5) == pytest.approx(0.4)
    assert np.isnan(calibration.quantile(0.3))
    assert "nothing is known" in calibration.explained()
    with pytest.raises(ConfigurationError, match="gamma is a cosine similarity"):
        Calibration.given(1.5)


def test_the_quantile_is_the_share_of_levels_at_or_below():
    calibration = Calibration(2.0, {"cosine": Band((0.0,), (1.0,), 0.0)}, levels=(1.0, 2.0, 3.0))
    assert [calibration.quantile(v) for v in (0.5, 2.0, 9.0)] == [0.0, pytest.approx(2 / 3), 1.0]


def test_of_many_levels_a_thousand_quantiles_are_kept():
    rng = np.random.default_rng(10)
    calibration = calibrate(episodes(rng, 60), NAMES, per="frame", **FLAG)
    assert len(calibration.levels) == KEPT_LEVELS
    assert list(calibration.levels) == sorted(calibration.levels)
    assert calibration.frames == 40 * 30
    assert calibration.quantile(calibration.threshold) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("how", ["held_out", "given"])
def test_a_calibration_survives_the_disk(tmp_path, how):
    rng = np.random.default_rng(11)
    calibration = Calibration.given(0.75)
    if how == "held_out":
        calibration = calibrate(episodes(rng, 24), NAMES, **FLAG)
    calibration.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == calibration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        '{"threshold": 2, "bands": {}}',
        '{"threshold": 2, "bands": {"cosine": {"centre": [0]}}}',
        '{"threshold": 2, "bands": {"cosine": {"centre": [0], "scale": [1], "resolution": 0}},'
        ' "how": "guessed"}',
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(BundleError, match=r"calibration\.json"):
        Calibration.load(tmp_path / "calibration.json")
