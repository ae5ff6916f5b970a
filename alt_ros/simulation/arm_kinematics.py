"""Inverse kinematics of the simulated arm, as the executor's ``inverse_kinematics`` takes it.

executor: inverse_kinematics := alt_ros.simulation.arm_kinematics:inverse_kinematics
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from alt_ros.geometry import pose_distance
from alt_ros.simulation.cup_grasp import CupGraspSimulation

Array = NDArray[np.float64]

REACHED_DISTANCE, REACHED_ANGLE = 0.005, 0.05
"""A solution further off, metres or radians, is none."""


@cache
def _arm() -> CupGraspSimulation:
    return CupGraspSimulation(render=False)


def inverse_kinematics(pose: Array, joints: Array) -> Array | None:
    """Return joint positions (6,), radians, for a pose (7,); None where it is out of reach.

    Args:
        pose: Metres, quaternion x, y, z, w, in the base frame.
        joints: (6,) where to start, radians.
    """
    found = _arm().inverse_kinematics(joints, pose)
    distance, angle = pose_distance(_arm().forward_kinematics(found), pose)
    return found if distance <= REACHED_DISTANCE and angle <= REACHED_ANGLE else None
