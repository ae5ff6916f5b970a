"""What is usual for a score along a demonstration: a centre and a scale over progress.

The modulation of functional conformal bands (Diquigiovanni, Fontana and Vantini 2022, "Conformal
prediction bands for multivariate functional data", J. Multivariate Analysis 189; FAIL-Detect, Xu
et al. 2025, arXiv 2503.08558, watches policies with it): a score is measured in units of what it
varies by at that point of the motion, so that one threshold serves all scores and all times.
Scores are positive and skewed, therefore their logarithms are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError

BINS = 8
SCALE_FLOOR = 0.1
"""A score of which ordinary episodes vary by less than a tenth is not known that well."""
SPREAD_SHARE = 0.5
"""No bin's scale is below this share of the score's spread over all times."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """Centre and scale of a score over progress.

    Attributes:
        centre: (B,) usual value in B equal parts of the progress from 0 to 1.
        scale: (B,) what it varies by, positive.
        resolution: Of log(value + resolution), which centre and scale are of; 0 takes the value
            itself.
        weight: What one scale counts beside other scores' scales, positive.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    resolution: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre", tuple(self.centre))
        object.__setattr__(self, "scale", tuple(self.scale))
        sizes = len(self.centre), len(self.scale)
        if sizes[0] != sizes[1] or not sizes[0]:
            raise ConfigurationError(
                "band: a centre and a scale for each bin are needed, "
                f"got {sizes[0]} and {sizes[1]}"
            )
        values = np.array([*self.centre, *self.scale, self.resolution, self.weight])
        positive = min(*self.scale, self.weight) > 0.0
        if not np.isfinite(values).all() or not positive or self.resolution < 0.0:
            raise ConfigurationError(
                "band: centres must be finite, scales and weight positive and the resolution not "
                f"negative, got {self.centre}, {self.scale}, {self.weight} and {self.resolution}"
            )

    def strangeness(self, values: Array | float, progress: Array | float) -> Array:
        """Return how many weighted scales values lie above the centre; NaN where a value is.

        Args:
            values: (...) values of the score.
            progress: (...) part of the demonstration that has passed, 0 to 1.
        """
        centre, scale = self._at(progress)
        return self.weight * (self._transformed(values) - centre) / scale

    def value_at(self, strangeness: float, progress: Array | float) -> Array:
        """Return the values of the score that are so strange: the inverse of ``strangeness``."""
        centre, scale = self._at(progress)
        values = centre + strangeness / self.weight * scale
        return np.exp(values) - self.resolution if self.resolution else values

    def _transformed(self, values: Array | float) -> Array:
        if not self.resolution:
            return np.asarray(values, np.float64)
        return np.log(np.maximum(values, 0.0) + self.resolution)  # rounding leaves -1e-8

    def _at(self, progress: Array | float) -> tuple[Array, Array]:
        """Return centre and scale, linear between the middles of the bins."""
        middles = (np.arange(len(self.centre)) + 0.5) / len(self.centre)
        centre = np.interp(progress, middles, self.centre)
        return np.asarray(centre), np.asarray(np.interp(progress, middles, self.scale))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Band:
        """Return the band that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is unknown, missing or out of bounds.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigurationError(f"band: fields do not fit: {error}") from error


def fit_band(
    values: Array, progress: Array, resolution: float, bins: int = BINS, weight: float = 1.0
) -> Band:
    """Return the band of a score over ordinary observations.

    Mean and standard deviation of each bin and, at half the weight, of its neighbours. The scale
    is floored, so that a few episodes that agree by chance do not make it tiny.

    Args:
        values: (n,) values of the score; NaN where it says nothing.
        progress: (n,) 0 to 1.
        resolution: See ``Band``; positive.
        bins: Parts of the progress; 1 is constant over time.
        weight: See ``Band``.

    Raises:
        ConfigurationError: No value is finite, or there is less than one bin.
    """
    known = np.isfinite(values)
    if bins < 1 or not known.any():
        raise ConfigurationError(
            "band: at least one bin and one finite value are needed, "
            f"got {bins} bins and {int(known.sum())} finite values"
        )
    logs = np.log(np.maximum(values[known], 0.0) + resolution)
    bin_of = np.clip((progress[known] * bins).astype(np.int64), 0, bins - 1)
    smooth = np.eye(bins) + 0.5 * (np.eye(bins, k=1) + np.eye(bins, k=-1))
    sums = [smooth @ np.bincount(bin_of, logs**power, bins) for power in (0, 1, 2)]
    count = np.where(sums[0] > 0.0, sums[0], np.nan)
    mean = _filled(sums[1] / count)
    deviation = np.sqrt(np.maximum(_filled(sums[2] / count - (sums[1] / count) ** 2), 0.0))
    floor = max(SPREAD_SHARE * float(logs.std()), SCALE_FLOOR)
    scale = np.maximum(deviation, floor)
    return Band(tuple(mean.tolist()), tuple(scale.tolist()), resolution, weight)


def _filled(values: Array) -> Array:
    """Return the bins with those that nothing is known of interpolated between the others."""
    known, bins = np.isfinite(values), np.arange(len(values))
    return np.interp(bins, bins[known], values[known])


def strangeness(bands: Sequence[Band], values: Array, progress: Array) -> Array:
    """Return how strange each score (n, S) of n observations is, a band per column."""
    columns = [band.strangeness(v, progress) for band, v in zip(bands, values.T, strict=True)]
    return np.column_stack(columns)


def combined(strange: Array) -> Array:
    """Return the level (...) of scores' strangeness (..., S): the largest.

    A score that says nothing is left out; where none says anything the level is -inf.
    """
    return np.where(np.isnan(strange), -np.inf, strange).max(axis=-1)
