import numpy as np
import pytest
from tables import unit

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.lookup.monitor import MonitorConfig, OodMonitor
from alt_ros.types import Neighbour

VIEWS = ("wrist", "third_person")
SAME = unit(np.eye(2, 4))
RECALLED = SAME[None]  # one frame


def flags(monitor, scores):
    return [monitor.decide(Neighbour(0, 0, s), SAME, RECALLED).flag for s in scores]


def test_the_flag_rises_and_falls_only_after_so_many_frames_in_a_row():
    monitor = OodMonitor(VIEWS, MonitorConfig(threshold=0.5, raise_after=2, clear_after=3))
    scores = [0.9, 0.1, 0.9, 0.1, 0.1, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9]
    expected = [False] * 4 + [True] * 6 + [False]
    assert flags(monitor, scores) == expected


def test_a_score_at_the_threshold_is_familiar_and_no_number_is_strange():
    config = MonitorConfig(threshold=0.5, raise_after=1, clear_after=1)
    assert flags(OodMonitor(VIEWS, config), [0.5, float("nan")]) == [False, True]


def test_reset_takes_the_flag_down():
    monitor = OodMonitor(VIEWS, MonitorConfig(raise_after=1))
    assert flags(monitor, [0.0]) == [True]
    monitor.reset()
    assert flags(monitor, [0.9]) == [False]


@pytest.mark.parametrize("strange", [0, 1])
def test_the_least_similar_view_is_named_while_the_flag_is_up(strange):
    seen = SAME.copy()
    seen[strange] = unit(np.array([0.0, 0.0, 0.3, 1.0]))
    monitor = OodMonitor(VIEWS, MonitorConfig(raise_after=1, clear_after=1))
    assert monitor.decide(Neighbour(0, 0, 0.1), seen, RECALLED).view == VIEWS[strange]
    assert monitor.decide(Neighbour(0, 0, 0.9), seen, RECALLED).view == ""


def test_a_view_is_measured_by_what_is_usual_for_it():
    seen = unit(np.array([[0.8, 0.6, 0, 0], [0.3, 0.9, 0, 0]]))
    against = unit(np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    config = MonitorConfig(raise_after=1, view_thresholds=(0.7, 0.99))
    monitor = OodMonitor(VIEWS, config)
    assert monitor.decide(Neighbour(0, 0, 0.1), seen, against[None]).view == VIEWS[1]


def test_a_strange_view_raises_the_flag_by_itself():
    config = MonitorConfig(threshold=0.5, raise_after=1, view_thresholds=(0.7, 0.7))
    for seen, recalled, flag in (
        (SAME, RECALLED, False),
        (SAME, np.stack([-SAME, SAME]), False),  # one of the recalled frames is like it
        (np.stack([SAME[0], -SAME[1]]), RECALLED, True),
        (np.stack([SAME[0], np.full(4, np.nan, np.float32)]), RECALLED, True),
    ):
        decision = OodMonitor(VIEWS, config).decide(Neighbour(0, 0, 0.9), seen, recalled)
        assert decision.flag == flag
        assert decision.view == (VIEWS[1] if flag else "")


def test_a_table_without_view_embeddings_names_no_view():
    none = np.zeros((0, 0), np.float32)
    monitor = OodMonitor(VIEWS, MonitorConfig(raise_after=1))
    assert monitor.decide(Neighbour(0, 0, 0.1), none, none[None]).view == ""


def test_view_embeddings_of_the_wrong_shape_are_refused():
    with pytest.raises(DataError, match="view embeddings"):
        OodMonitor(VIEWS).decide(Neighbour(0, 0, 0.1), SAME, RECALLED[:, :1])


@pytest.mark.parametrize("settings", [{"threshold": 1.5}, {"raise_after": 0}, {"clear_after": 0}])
def test_settings_out_of_bounds_are_refused(settings):
    with pytest.raises(ConfigurationError, match="monitor"):
        MonitorConfig(**settings)


def test_view_thresholds_must_be_one_per_view():
    with pytest.raises(ConfigurationError, match="one per view"):
        OodMonitor(VIEWS, MonitorConfig(view_thresholds=(0.5,)))


def test_a_config_survives_json():
    config = MonitorConfig(threshold=0.6, view_thresholds=(0.1, 0.2))
    assert MonitorConfig.from_json(config.to_json()) == config
