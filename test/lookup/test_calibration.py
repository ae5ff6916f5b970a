import math

import numpy as np
import pytest
from tables import table, unit

from alt_ros.errors import BundleError, ConfigurationError, DataError
from alt_ros.lookup.calibration import (
    Calibration,
    calibrate_held_out,
    calibrate_leave_one_out,
    conformal_threshold,
    episode_bound,
    lowest_in_a_row,
    nearest_similarities,
)


def test_gamma_is_the_conformal_quantile():
    similarities = np.arange(1, 100) / 100.0  # 99 values: rank floor(0.05 * 100) = 5
    assert conformal_threshold(np.random.default_rng(0).permutation(similarities), 0.05) == 0.05


def test_new_frames_are_flagged_no_more_often_than_stated():
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(2000):
        similarities = rng.beta(20, 2, size=60)
        alarms.append(similarities[-1] < conformal_threshold(similarities[:-1], 0.1))
    assert 0.08 < np.mean(alarms) <= 0.115


def test_a_rate_too_low_for_so_few_frames_is_refused_with_the_number_needed():
    with pytest.raises(ConfigurationError, match="needs at least 99 held-out frames, got 98"):
        conformal_threshold(np.ones(98), 0.01)
    assert conformal_threshold(np.full(99, 0.5), 0.01) == 0.5


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_out_of_bounds_is_refused(rate):
    with pytest.raises(ConfigurationError, match="false_alarm_rate"):
        conformal_threshold(np.ones(200), rate)


def test_a_similarity_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="finite"):
        conformal_threshold(np.array([0.5, np.nan]), 0.5)


def test_held_out_frames_are_measured_by_their_nearest_table_frame():
    held = table()
    calibration = calibrate_held_out(
        held, held.embeddings, held.view_embeddings, np.array([7, 15]), false_alarm_rate=0.3
    )
    assert calibration.threshold == pytest.approx(1.0, abs=1e-6)
    assert calibration.view_thresholds == pytest.approx((1.0, 1.0), abs=1e-6)
    assert (calibration.frames, calibration.demonstrations) == (15, 2)
    assert calibration.how == "held_out"


def test_without_a_rate_gamma_is_the_least_similarity_and_the_rate_is_stated():
    held = table()
    rng = np.random.default_rng(5)
    seen = unit(held.embeddings + 0.2 * rng.normal(size=held.embeddings.shape))
    calibration = calibrate_held_out(held, seen, held.view_embeddings, np.array([5, 15]))
    assert calibration.threshold == pytest.approx((seen @ held.embeddings.T).max(axis=1).min())
    assert calibration.false_alarm_rate == 3 / 16  # the whole and two views


def test_the_episode_bound_holds_as_often_as_stated():
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(3000):
        lowest = 1.0 - np.exp(rng.normal(-4.0, 0.6, size=13))
        alarms.append(lowest[-1] < episode_bound(lowest[:-1], 0.05))
    assert 0.035 < np.mean(alarms) < 0.065


def test_fewer_episodes_give_a_more_cautious_bound():
    lowest = np.array([0.99, 0.96, 0.97])
    assert episode_bound(lowest, 0.05) < episode_bound(np.tile(lowest, 4), 0.05) < 0.96


def test_thresholds_are_the_bounds_of_the_episodes_at_a_share_of_the_rate_each():
    held = table()
    rng = np.random.default_rng(5)
    seen = unit(held.embeddings + 0.2 * rng.normal(size=held.embeddings.shape))
    ends = np.array([5, 10, 15])
    views = unit(held.view_embeddings + 0.2 * rng.normal(size=held.view_embeddings.shape))
    frames = calibrate_held_out(held, seen, views, ends)
    episodes = calibrate_held_out(held, seen, views, ends, episode_rate=0.06, raise_after=2)
    values = nearest_similarities(held, seen, views)
    lowest = np.array([lowest_in_a_row(values[k : k + 5], 2) for k in (0, 5, 10)])
    assert lowest.shape == (3, 3)
    bounds = [episode_bound(column, 0.02) for column in lowest.T]
    assert (episodes.threshold, *episodes.view_thresholds) == pytest.approx(bounds)
    assert episodes.threshold < frames.threshold
    assert episodes.episode_rate == 0.06
    assert math.isnan(episodes.false_alarm_rate)
    both = calibrate_held_out(held, seen, views, ends, 0.5, 0.99, raise_after=1)
    strict = calibrate_held_out(held, seen, views, ends, None, 0.99, raise_after=1)
    by_frame = calibrate_held_out(held, seen, views, ends, 0.5)
    assert both.threshold == min(strict.threshold, by_frame.threshold)


def test_a_single_bad_frame_does_not_lower_what_lasts():
    values = np.array([[0.9], [0.2], [0.8], [0.3], [0.4], [0.9]])
    assert lowest_in_a_row(values, 1).tolist() == [0.2]
    assert lowest_in_a_row(values, 2).tolist() == [0.4]
    assert lowest_in_a_row(values, 3).tolist() == [0.8]
    assert lowest_in_a_row(values, 9).tolist() == [0.9]


def test_a_view_is_compared_with_the_neighbours_views():
    held = table((20,))
    values = nearest_similarities(held, held.embeddings[:1], held.view_embeddings[3:4])
    few = nearest_similarities(held, held.embeddings[:1], held.view_embeddings[3:4], neighbours=1)
    assert values[0, 1:] == pytest.approx((1.0, 1.0), abs=1e-6)
    assert few[0, 1:] == pytest.approx((held.view_embeddings[0] * held.view_embeddings[3]).sum(1))


@pytest.mark.parametrize(("count", "rate"), [(2, 0.05), (5, 0.0), (5, 1.0)])
def test_too_few_episodes_or_a_rate_out_of_bounds_are_refused(count, rate):
    with pytest.raises(ConfigurationError, match="rate per episode"):
        episode_bound(np.linspace(0.9, 0.95, count), rate)


def test_leaving_one_out_never_compares_a_demonstration_with_itself():
    circle = unit(np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1.0]]))
    held = table((2, 2), embeddings=circle)
    calibration = calibrate_leave_one_out(held, 0.6)
    assert calibration.threshold < 0.1
    assert calibration.how == "leave_one_demonstration_out"


def test_leaving_one_of_one_out_is_refused():
    with pytest.raises(ConfigurationError, match="needs two demonstrations"):
        calibrate_leave_one_out(table((5,)), 0.2)


def test_embeddings_of_another_size_are_refused():
    with pytest.raises(DataError, match="16 values"):
        calibrate_held_out(table(), np.ones((3, 8), np.float32), np.ones((3, 2, 8)), np.array([3]))


@pytest.mark.parametrize(
    "calibration",
    [Calibration(0.75), Calibration(0.8, 0.01, 400, 6, "held_out", 0.05, (0.5, 0.25))],
)
def test_a_calibration_survives_the_disk(tmp_path, calibration):
    calibration.save(tmp_path / "calibration.json")
    read = Calibration.load(tmp_path / "calibration.json")
    assert read.to_json() == calibration.to_json()
    assert math.isnan(read.false_alarm_rate) == math.isnan(calibration.false_alarm_rate)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"threshold": 2, "false_alarm_rate": null}'])
def test_a_damaged_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(BundleError, match=r"calibration\.json"):
        Calibration.load(tmp_path / "calibration.json")
