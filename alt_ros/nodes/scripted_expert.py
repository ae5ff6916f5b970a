"""The scripted_expert node: stands in for the person who demonstrates, in simulation."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64
from std_srvs.srv import Trigger

from alt_ros.messages import opening_of, pose_of
from alt_ros.nodes.conversions import to_pose_stamped
from alt_ros.nodes.node import LATCHED, RELIABLE, SENSOR, AltNode, run
from alt_ros.nodes.parameters import parameter
from alt_ros.simulation.cup_grasp import CupPlacement
from alt_ros.simulation.expert import ScriptedExpert


@dataclass(frozen=True)
class ScriptedExpertParameters:
    """Parameters of scripted_expert."""

    control_rate: float = parameter(50.0, "Commands a second", unit="Hz", low=5.0, high=200.0)


class ScriptedExpertNode(AltNode):
    """Grasp the cup that sim_bridge tells of, on the same command topics as the executor."""

    name = "scripted_expert"
    Parameters = ScriptedExpertParameters

    def configure(self) -> None:
        """Subscribe and offer the service."""
        self._expert: ScriptedExpert | None = None
        self._cup: np.ndarray | None = None
        self._cups_to_come = 0
        self._wanted = False
        self._pose: np.ndarray | None = None
        self._gripper: float | None = None
        self._frame_id = ""
        self._pose_publisher = self.create_lifecycle_publisher(
            PoseStamped, "target_pose", RELIABLE
        )
        self._gripper_publisher = self.create_lifecycle_publisher(
            Float64, "target_gripper", RELIABLE
        )
        self._done = self.create_lifecycle_publisher(Bool, "sim/expert_done", LATCHED)
        self.create_subscription(PoseStamped, "sim/cup_pose", self._on_cup, RELIABLE)
        self.create_subscription(PoseStamped, "eef_pose", self._on_pose, SENSOR)
        self.create_subscription(JointState, "gripper_state", self._on_gripper, SENSOR)
        self.create_service(Trigger, "sim/demonstrate", self._on_demonstrate)
        self.create_timer(1.0 / self.parameters.control_rate, self._on_tick)

    def _on_cup(self, message: PoseStamped) -> None:
        self._cup = pose_of(message.pose)
        self._cups_to_come = max(self._cups_to_come - 1, 0)
        if self._expert is None and self._wanted and not self._cups_to_come:
            yaw = float(Rotation.from_quat(self._cup[3:]).as_euler("zyx")[0])
            x, y = float(self._cup[0]), float(self._cup[1])
            self._expert = ScriptedExpert(CupPlacement(x, y, yaw))
            self._wanted = False

    def _on_pose(self, message: PoseStamped) -> None:
        self._frame_id = message.header.frame_id
        self._pose = pose_of(message.pose)

    def _on_gripper(self, message: JointState) -> None:
        self._gripper = opening_of(message)

    def _on_demonstrate(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if not self.is_active or self._cup is None or self._pose is None or self._gripper is None:
            response.success = False
            response.message = (
                "scripted_expert needs an active sim_bridge: no cup or pose has come"
            )
            return response
        # A cup pose from before a reset may still be on its way: the second from now on is not.
        self._expert, self._wanted, self._cups_to_come = None, True, 2
        self._done.publish(Bool(data=False))
        response.success, response.message = True, "demonstrating"
        return response

    def _on_tick(self) -> None:
        if self._expert is None or not self.is_active:
            return
        assert self._pose is not None
        assert self._gripper is not None
        now = self.get_clock().now().nanoseconds
        pose, gripper = self._expert.command(now, self._pose, self._gripper)
        if self._expert.done:
            self._expert = None
            self._done.publish(Bool(data=True))
            return
        self._pose_publisher.publish(to_pose_stamped(pose, now, self._frame_id))
        self._gripper_publisher.publish(Float64(data=float(gripper)))


def main() -> int:
    """Run the node."""
    return run(ScriptedExpertNode)


if __name__ == "__main__":
    sys.exit(main())
