"""What the simulated arm follows: the executor's commands, of any output, or the expert's."""

from __future__ import annotations

import time

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from scipy.spatial.transform import Rotation
from std_msgs.msg import Bool, Float64
from trajectory_msgs.msg import JointTrajectory

from alt_ros.messages import pose_of, stamp_of
from alt_ros.nodes.node import COMMAND, LATCHED
from alt_ros.simulation.cup_grasp import MAX_OPENING, CupGraspSimulation
from alt_ros.simulation.scene import ARM_JOINTS

TWIST_TIMEOUT = 100_000_000
"""A twist is followed for this long, as velocity controllers do, ns."""
EXPERT_LAG = 30_000_000
"""Simulated time may be this far ahead of the expert's last command: more than its period, ns."""
EXPERT_PATIENCE = 5.0
"""For how long it waits for a command, s."""


class SimCommands:
    """Keeps the newest command and steps the simulation by it.

    Args:
        node: Subscribes.
        kind: ``pose``, ``twist`` or ``joint_trajectory``.
        simulation: What is stepped.
    """

    def __init__(self, node: Node, kind: str, simulation: CupGraspSimulation) -> None:
        self._log = node.get_logger()
        self._simulation = simulation
        self._awaits_expert, self._patience = False, 0.0
        self.rest()
        if kind == "pose":
            node.create_subscription(PoseStamped, "target_pose", self._on_target_pose, COMMAND)
        elif kind == "twist":
            node.create_subscription(TwistStamped, "target_twist", self._on_twist, COMMAND)
        else:
            node.create_subscription(
                JointTrajectory, "joint_trajectory", self._on_joint_trajectory, COMMAND
            )
        node.create_subscription(Float64, "target_gripper", self._on_target_gripper, COMMAND)
        node.create_subscription(Bool, "sim/expert_done", self._on_expert_done, LATCHED)

    def rest(self, since: int = 0) -> None:
        """Stay where the arm stands, the gripper open.

        Args:
            since: Commands stamped before it are not followed, ns: those on their way at a reset
                meant the arm as it was.
        """
        self._since, self._resumed = since, not since
        self._target_pose, self._target_gripper = self._simulation.pose(), MAX_OPENING
        self._twist, self._twist_until = np.zeros(6), 0
        self._target_joints: np.ndarray | None = None
        self._expert_stamp = 0

    def step(self) -> None:
        """Advance the simulation by a control period."""
        if self._target_joints is not None:
            self._simulation.step_joints(self._target_joints, self._target_gripper)
            return
        if self._twist.any():
            self._follow_twist()
        self._simulation.step(self._target_pose, self._target_gripper)

    def is_late(self, now: int) -> bool:
        """Return whether simulated time (ns) must wait for a demonstrating expert.

        What it shows is then the same on a loaded machine. Not for ever: it may have died.
        """
        late = bool(self._expert_stamp) and now - self._expert_stamp > EXPERT_LAG
        if not late:
            self._patience = time.monotonic() + EXPERT_PATIENCE
        return late and time.monotonic() < self._patience

    def _on_expert_done(self, message: Bool) -> None:
        self._awaits_expert, self._expert_stamp = not message.data, 0

    def _is_of_now(self, message: PoseStamped | TwistStamped | JointTrajectory) -> bool:
        stamp = stamp_of(message)
        of_now = stamp >= self._since or stamp == 0  # a trajectory without a stamp begins at once
        self._resumed = self._resumed or of_now
        return of_now

    def _on_target_pose(self, message: PoseStamped) -> None:
        if not self._is_of_now(message):
            return
        if self._awaits_expert:
            self._expert_stamp = stamp_of(message)
        pose = pose_of(message.pose)
        if np.isfinite(pose).all():
            self._target_pose = pose
        else:
            self._log.error("target_pose is not finite: not followed")

    def _follow_twist(self) -> None:
        if self._simulation.time > self._twist_until:
            self._twist = np.zeros(6)
        step = self._twist * (CupGraspSimulation.CONTROL_PERIOD / 1e9)
        turned = Rotation.from_rotvec(step[3:]) * Rotation.from_quat(self._target_pose[3:])
        self._target_pose = np.concatenate([self._target_pose[:3] + step[:3], turned.as_quat()])

    def _on_twist(self, message: TwistStamped) -> None:
        if not self._is_of_now(message):
            return
        linear, angular = message.twist.linear, message.twist.angular
        twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        if np.isfinite(twist).all():
            self._twist, self._twist_until = twist, self._simulation.time + TWIST_TIMEOUT
        else:
            self._twist = np.zeros(6)
            self._log.error("target_twist is not finite: the arm is stopped")

    def _on_joint_trajectory(self, message: JointTrajectory) -> None:
        if not self._is_of_now(message):
            return
        known = {}
        if message.points:
            known = dict(zip(message.joint_names, message.points[-1].positions, strict=False))
        joints = np.array([known.get(name, np.nan) for name in ARM_JOINTS])
        if np.isfinite(joints).all():
            self._target_joints = joints
        else:
            self._log.error(f"joint_trajectory must end in finite {', '.join(ARM_JOINTS)}")

    def _on_target_gripper(self, message: Float64) -> None:
        if not self._resumed:
            return  # it has no stamp of its own, and comes with a pose
        if np.isfinite(message.data):
            self._target_gripper = message.data
        else:
            self._log.error("target_gripper is not finite: not followed")
