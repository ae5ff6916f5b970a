"""When the flag goes up and down: k of the last n observations are strange.

What raises the flag is one number at every observation, compared with one threshold, so that a
threshold calibrated on the largest of an episode's holds for the flag.
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
        clear_after: Familiar observations in a row that take the flag down.
        clear_margin: While the flag is up, an observation is familiar only at this much below the
            threshold; in units of the level.
    """

    raise_count: int = 5
    raise_window: int = 6
    clear_after: int = 10
    clear_margin: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.raise_count <= self.raise_window or self.clear_after < 1:
            raise ConfigurationError(
                "monitor: raise_count must be 1 to raise_window and clear_after at least 1, "
                f"got {self.raise_count} of {self.raise_window} and {self.clear_after}"
            )
        if not 0.0 <= self.clear_margin < float("inf"):
            raise ConfigurationError(
                f"monitor: clear_margin must be 0 or more, got {self.clear_margin}"
            )

    def decided(self, levels: Array) -> Array:
        """Return what raises the flag at each observation: it goes up above the threshold.

        Args:
            levels: (n,) levels of an episode's observations.

        Returns:
            (n,) float64; -inf before there are observations enough.
        """
        return kth_of_last(levels, self.raise_count, self.raise_window)

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
