"""From commanded poses to joint positions, through an inverse-kinematics function of the user's.

The function is named ``module:function`` and is called as ``function(pose, joints)``: ``pose``
(7,) position in metres and quaternion x, y, z, w in the base frame, ``joints`` (n,) the present
positions in radians, to start from. It returns (n,) positions in radians, or None where the pose
cannot be reached.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError, DataError

Array = NDArray[np.float64]
InverseKinematics = Callable[[Array, Array], Array | None]


def load_inverse_kinematics(name: str) -> InverseKinematics:
    """Return the function that ``module:function`` names.

    Raises:
        ConfigurationError: There is no such function.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise ConfigurationError(
            f"inverse_kinematics must be 'module:function', got '{name}': output joint_trajectory "
            f"needs it"
        )
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"inverse_kinematics '{name}' cannot be had: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"inverse_kinematics '{name}' is no function")
    return cast("InverseKinematics", found)


class JointPath:
    """Turns one pose a control period into joint positions that are near the ones before.

    Args:
        solve: The inverse kinematics.
        joints: Number of joints.
        max_speed: Of each joint, rad/s.
    """

    def __init__(self, solve: InverseKinematics, joints: int, max_speed: float) -> None:
        self._solve = solve
        self._joints = joints
        self._max_speed = max_speed
        self._last: Array | None = None

    def restart(self) -> None:
        """Begin at the measured joints again."""
        self._last = None

    def positions(self, pose: Array, measured: Array, period: float) -> Array:
        """Return joint positions (n,), radians, for a pose.

        Args:
            pose: (7,) the commanded pose.
            measured: (n,) the measured joints, from which a new motion starts.
            period: Time since the last call, s.

        Raises:
            DataError: There is no solution, or it is not a small motion away.
        """
        seed = measured if self._last is None else self._last
        try:
            found = self._solve(pose, seed)
        except Exception as error:  # the user's function may raise anything
            what = str(error) or type(error).__name__
            raise DataError(f"inverse kinematics failed: {what}") from error
        if found is None:
            raise DataError(f"inverse kinematics: {np.round(pose[:3], 3)} m is out of reach")
        solution = np.asarray(found, np.float64)
        if solution.shape != (self._joints,) or not np.isfinite(solution).all():
            raise DataError(
                f"inverse kinematics must give {self._joints} finite joints, gave {solution}"
            )
        speed = float(np.abs(solution - seed).max()) / period
        if speed > self._max_speed:
            raise DataError(
                f"inverse kinematics leaps: a joint would move at {speed:.2f} rad/s, allowed are "
                f"{self._max_speed:g}"
            )
        self._last = solution
        return solution
