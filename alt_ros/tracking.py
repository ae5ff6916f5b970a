"""Whether the arm gets to where it was sent.

The distance from the last command is not enough. A policy that looks at the arm begins every chunk
where the arm is, so that the command stays near an arm that stands still, or passes by it again
and again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alt_ros.geometry import pose_distances
from alt_ros.safety import SafetyLimits

Array = NDArray[np.float64]


class Tracking:
    """The commands and the measured poses of the last ``lag_timeout``, a row a control period.

    Args:
        limits: How late an arm may be, and how near it must come.
        control_period: ns.
        pose: (7,) where the arm stands, at rest.
    """

    def __init__(self, limits: SafetyLimits, control_period: int, pose: Array) -> None:
        self._limits = limits
        periods = max(limits.lag_timeout // control_period, 1)
        self._commanded = np.tile(pose, (periods, 1))
        self._measured = self._commanded.copy()
        self._row = 0  # the oldest one

    def measure(self, pose: Array, periods: int) -> None:
        """Take the measured pose (7,) after some control periods.

        Where the arm was in periods in which nobody looked is interpolated.
        """
        last = self._measured[self._row - 1]
        end = np.concatenate([pose[:3], np.copysign(1.0, last[3:] @ pose[3:]) * pose[3:]])
        shares = (np.arange(periods) + 1.0)[:, None] / periods
        rows = np.arange(self._row, self._row + periods) % len(self._measured)
        self._measured[rows] = last + shares * (end - last)

    def command(self, pose: Array) -> None:
        """Take the commanded pose (7,) of the next control period."""
        self._commanded[self._row] = pose
        self._row = (self._row + 1) % len(self._commanded)

    @property
    def behind(self) -> bool:
        """Whether the arm has not come near what was commanded ``lag_timeout`` ago, until now."""
        distances, angles = pose_distances(self._measured, self._commanded[self._row])
        near = (distances <= self._limits.lag_distance) & (angles <= self._limits.lag_angle)
        return not near.any()
