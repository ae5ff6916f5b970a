"""When the flag goes up: k of the last n."""

from __future__ import annotations

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.decision import MonitorConfig, kth_of_last


@pytest.mark.parametrize(("count", "window"), [(1, 1), (2, 2), (3, 4), (1, 5), (2, 5)])
def test_the_kth_largest_is_above_a_threshold_where_k_of_the_last_n_are(count, window):
    levels = np.random.default_rng(3).normal(size=60)
    taken = kth_of_last(levels, count, window)
    for threshold in (-0.5, 0.0, 0.8):
        above = levels > threshold
        expected = [
            above[max(i - window + 1, 0) : i + 1].sum() >= count for i in range(len(levels))
        ]
        assert (taken > threshold).tolist() == expected


def test_the_level_of_an_episode_is_what_raises_the_flag():
    levels = np.array([0.1, 9.0, 0.2, 0.7, 0.8, 0.6, 0.1])

    def level(count: int, window: int, part: np.ndarray = levels) -> float:
        config = MonitorConfig(raise_count=count, raise_window=window)
        return config.episode_level(part)

    assert level(1, 1) == 9.0
    assert level(3, 3) == 0.6
    assert level(3, 4) == 0.7
    assert level(3, 4, levels[:2]) == 0.1, "too short for the flag: its least"


@pytest.mark.parametrize(
    "settings",
    [
        {"raise_count": 0},
        {"raise_count": 5, "raise_window": 4},
        {"clear_after": 0},
        {"clear_margin": -0.1},
        {"clear_margin": float("nan")},
    ],
)
def test_settings_out_of_bounds_are_refused(settings):
    with pytest.raises(ConfigurationError, match="monitor"):
        MonitorConfig(**settings)


def test_a_config_survives_json():
    config = MonitorConfig(raise_count=2, clear_margin=0.5)
    assert MonitorConfig.from_json(config.to_json()) == config
    with pytest.raises(ConfigurationError, match="view_thresholds"):
        MonitorConfig.from_json({"view_thresholds": []})
