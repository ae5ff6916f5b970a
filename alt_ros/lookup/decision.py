"""When the flag goes up and down: k of the last n observations, fewer where they are very strange.

What raises the flag is one number at every observation, compared with one threshold, so that a
threshold calibrated on the largest of an episode's holds for all ways to raise it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MonitorConfig:
    """When the flag goes up and down. Calibration goes by it: calibrate again after a change.

    Attributes:
        raise_count: Strange observations, k, among the last n that put the flag up.
        raise_window: Those n observations.
        urgent_count: So many put it up too, where they are very strange.
        urgent_window: Among so many of the last.
        urgent_margin: Very strange is this much above the threshold, in units of the level.
        clear_after: Familiar observations in a row that take the flag down.
        clear_margin: While the flag is up, an observation is familiar only at this much below the
            threshold; in units of the level.
    """

    raise_count: int = 9
    raise_window: int = 10
    urgent_count: int = 3
    urgent_window: int = 4
    urgent_margin: float = 2.5
    clear_after: int = 10
    clear_margin: float = 0.0

    def __post_init__(self) -> None:
        for count, window in (("raise_count", "raise_window"), ("urgent_count", "urgent_window")):
            k, n = getattr(self, count), getattr(self, window)
            if not 1 <= k <= n:
                raise ConfigurationError(f"monitor: {count} must be 1 to {window}, got {k} of {n}")
        if self.clear_after < 1:
            raise ConfigurationError(
                f"monitor: clear_after must be at least 1, got {self.clear_after}"
            )
        for name in ("urgent_margin", "clear_margin"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigurationError(
                    f"monitor: {name} must be 0 or more, got {getattr(self, name)}"
                )

    @property
    def longest_window(self) -> int:
        """Most observations that the flag depends on."""
        return max(self.raise_window, self.urgent_window)

    def decided(self, levels: Array) -> Array:
        """Return what raises the flag at each observation: it goes up above the threshold.

        Args:
            levels: (n,) levels of an episode's observations.

        Returns:
            (n,) float64; -inf before there are observations enough.
        """
        urgent = kth_of_last(levels, self.urgent_count, self.urgent_window) - self.urgent_margin
        return np.maximum(kth_of_last(levels, self.raise_count, self.raise_window), urgent)

    def episode_level(self, levels: Array) -> float:
        """Return the highest threshold below which an episode raises the flag.

        An episode that is too short to raise it counts by its least level.
        """
        highest = float(self.decided(levels).max())
        return highest if highest > -np.inf else float(levels.min())

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MonitorConfig:
        """Return the config that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is unknown or out of bounds.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigurationError(f"monitor: {error}") from error


def kth_of_last(levels: Array, count: int, window: int) -> Array:
    """Return at each of (n,) levels the ``count``-th largest of the last ``window``.

    It is above a threshold exactly where ``count`` of the last ``window`` are; -inf before there
    are so many.
    """
    padded = np.concatenate([np.full(window - 1, -np.inf), levels])
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)
    return np.sort(windows, axis=1)[:, -count]
