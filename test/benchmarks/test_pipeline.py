from __future__ import annotations

import numpy as np
import pytest

from alt_ros.benchmarks.pipeline import _percentiles


def test_percentiles_are_the_middle_and_the_hundredth_from_the_top():
    assert _percentiles(range(101)) == {"p50": 50.0, "p99": 99.0}
    assert _percentiles(list(reversed(range(101)))) == {"p50": 50.0, "p99": 99.0}


def test_percentiles_lie_between_neighbouring_values_and_are_rounded_to_a_microsecond():
    assert _percentiles([1.0, 2.0]) == {"p50": 1.5, "p99": 1.99}
    assert _percentiles([1 / 3]) == {"p50": 0.333, "p99": 0.333}


def test_one_slow_value_shows_in_the_tail_and_not_in_the_middle():
    figures = _percentiles([10.0] * 98 + [500.0] * 2)
    assert figures == {"p50": 10.0, "p99": 500.0}
    assert all(isinstance(value, float) for value in figures.values())


def test_nothing_timed_is_no_figure():
    with pytest.raises((IndexError, ValueError)):
        _percentiles(np.zeros(0))
