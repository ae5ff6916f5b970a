"""Demonstrations of the scripted expert, recorded in process.

``alt demo`` records them through the topics, as a robot's are; this is for studies that need many
of them and no ROS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.errors import DataError
from alt_ros.geometry import arm_action
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.expert import ScriptedExpert
from alt_ros.simulation.rollout import FRAME_PERIOD
from alt_ros.simulation.scene import CupPlacement
from alt_ros.types import ActionLayout


def record_demonstration(
    simulation: CupGraspSimulation, placement: CupPlacement, name: str, *, detour: float = 0.0
) -> Demonstration:
    """Let the expert grasp a cup; return a frame every 50 ms.

    Args:
        simulation: Stepped from here on; its time goes on.
        placement: Where the cup stands.
        name: Of the demonstration.
        detour: See ``ScriptedExpert``.

    Raises:
        ConfigurationError: The detour is out of bounds.
        DataError: The expert did not grasp it.
    """
    simulation.reset(placement)
    expert = ScriptedExpert(placement, detour=detour)
    stamps: list[int] = []
    images: dict[str, list[NDArray[np.uint8]]] = {view: [] for view in simulation.VIEWS}
    poses: list[NDArray[np.float64]] = []
    grippers: list[float] = []
    actions: list[NDArray[np.float64]] = []
    start = simulation.time
    while not expert.done:
        now, pose, opening = simulation.time, simulation.pose(), simulation.gripper()
        target, gripper = expert.command(now, pose, opening)
        if (now - start) % FRAME_PERIOD == 0:
            for view, image in simulation.render().items():
                images[view].append(image)
            stamps.append(now)
            poses.append(pose)
            grippers.append(opening)
            actions.append(arm_action(target[None], np.array([gripper])))
        simulation.step(target, gripper)
    if not simulation.success():
        raise DataError(
            f"demonstration '{name}': the expert did not grasp the cup at ({placement.x:.3f}, "
            f"{placement.y:.3f}) m: place it within its reach"
        )
    return Demonstration(
        name=name,
        stamps=np.array(stamps),
        images={view: np.stack(frames) for view, frames in images.items()},
        poses=np.array(poses)[:, None],
        grippers=np.array(grippers)[:, None],
        state=np.zeros((len(stamps), 0)),
        actions=np.array(actions),
        layout=ActionLayout(arms=1),
        success=True,
    )
