"""What is usual over progress, and what several scores come to together."""

from __future__ import annotations

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.bands import (
    SCALE_FLOOR,
    Band,
    combined,
    fit_band,
    strangeness,
)

RESOLUTION = 1e-3


def drawn(
    bins: int, count: int = 4000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return values whose logarithm is normal about a centre that progress moves."""
    rng = np.random.default_rng(seed)
    progress = rng.uniform(size=count)
    centre, scale = -4.0 + 2.0 * progress, 0.4 + 0.4 * progress
    return np.exp(centre + scale * rng.normal(size=count)) - RESOLUTION, progress, centre, scale


def test_a_band_finds_centre_and_scale_of_every_time():
    values, progress, centre, scale = drawn(8)
    band = fit_band(values, progress, RESOLUTION, 8)
    strange = band.strangeness(values, progress)
    inner = (progress > 0.1) & (progress < 0.9)
    expected = (np.log(np.maximum(values, 0.0) + RESOLUTION) - centre) / scale
    assert np.abs(strange - expected)[inner].max() < 0.6
    assert abs(strange[inner].mean()) < 0.1
    assert 0.8 < strange[inner].std() < 1.1


def test_one_bin_is_constant_over_time():
    values, progress, _, _ = drawn(1)
    band = fit_band(values, progress, RESOLUTION, 1)
    assert band.strangeness(0.1, 0.0) == band.strangeness(0.1, 1.0)


def test_value_at_is_the_inverse_of_strangeness():
    values, progress, _, _ = drawn(4)
    for band in (fit_band(values, progress, RESOLUTION, 4), Band((0.1, 0.4), (1.0, 2.0), 0.0)):
        grid = np.linspace(0.0, 1.0, 11)
        np.testing.assert_allclose(band.strangeness(band.value_at(2.5, grid), grid), 2.5)


def test_without_resolution_the_value_itself_is_compared():
    band = Band((0.0,), (1.0,), 0.0)
    assert band.strangeness(0.25, 0.7) == 0.25
    assert band.strangeness(-0.5, 0.7) == -0.5


def test_a_few_episodes_that_agree_do_not_make_the_scale_tiny():
    progress = np.tile(np.linspace(0.0, 1.0, 20), 3)
    same = fit_band(np.full(60, 0.01), progress, RESOLUTION, 5)
    assert set(same.scale) == {SCALE_FLOOR}
    values = np.where(progress < 0.5, 0.01, np.tile([0.01, 0.2], 30))
    quiet_start = fit_band(values, progress, RESOLUTION, 5)
    assert quiet_start.scale[0] == pytest.approx(0.5 * np.log(values + RESOLUTION).std())


def test_bins_that_nothing_is_known_of_lie_between_their_neighbours():
    progress = np.concatenate([np.full(50, 0.05), np.full(50, 0.95)])
    values = np.where(progress < 0.5, 0.01, 0.1)
    band = fit_band(values, progress, RESOLUTION, 10)
    assert np.isfinite(band.centre).all()
    assert (np.diff(band.centre) >= 0.0).all()


def test_a_score_that_says_nothing_is_left_out():
    values = np.array([np.nan, 0.1, 0.2])
    band = fit_band(values, np.array([0.1, 0.5, 0.9]), RESOLUTION, 2)
    assert np.isnan(band.strangeness(np.nan, 0.5))
    with pytest.raises(ConfigurationError, match="0 finite values"):
        fit_band(np.full(3, np.nan), np.zeros(3), RESOLUTION)
    strange = np.array([[1.0, np.nan], [np.nan, np.nan], [2.0, 3.0]])
    assert combined(strange).tolist() == [1.0, -np.inf, 3.0]


def test_a_weight_says_what_a_scale_counts():
    band = Band((0.0,), (2.0,), 0.0, weight=0.25)
    assert band.strangeness(8.0, 0.5) == 1.0
    assert band.value_at(1.0, 0.5) == 8.0
    values, progress = np.array([0.1, 0.2, 0.4]), np.array([0.1, 0.5, 0.9])
    light, heavy = (fit_band(values, progress, 0.01, 2, weight) for weight in (0.25, 1.0))
    np.testing.assert_allclose(light.strangeness(0.3, 0.5), 0.25 * heavy.strangeness(0.3, 0.5))


def test_each_score_is_measured_by_its_own_band():
    bands = (Band((0.0,), (1.0,), 0.0), Band((10.0,), (5.0,), 0.0))
    values = np.array([[2.0, 10.0], [0.0, 25.0]])
    assert strangeness(bands, values, np.zeros(2)).tolist() == [[2.0, 0.0], [0.0, 3.0]]


@pytest.mark.parametrize(
    "fields",
    [
        {"centre": (), "scale": ()},
        {"centre": (0.0,), "scale": (1.0, 1.0)},
        {"scale": (0.0,)},
        {"centre": (float("nan"),)},
        {"resolution": -1.0},
        {"weight": 0.0},
    ],
)
def test_a_band_that_cannot_be_is_refused(fields):
    with pytest.raises(ConfigurationError, match="band"):
        Band(**{"centre": (0.0,), "scale": (1.0,), "resolution": 0.0} | fields)


def test_a_band_survives_json_and_refuses_other_fields():
    band = Band((0.1, 0.2), (1.0, 2.0), 1e-3)
    assert Band.from_json(band.to_json()) == band
    with pytest.raises(ConfigurationError, match="fields do not fit"):
        Band.from_json({"centre": [0.0]})
