"""What the arm controller takes: poses, twists or joint positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.execution import MAX_STALL, SentCommand
from alt_ros.joint_space import JointPath, load_inverse_kinematics
from alt_ros.nodes.conversions import to_duration, to_pose_stamped, to_time
from alt_ros.nodes.executor_parameters import ExecutorParameters
from alt_ros.nodes.node import COMMAND, SENSOR
from alt_ros.safety import SafetyLimits, TwistFollower
from alt_ros.types import NANOSECONDS

Array = NDArray[np.float64]


class ArmOutput(Protocol):
    """One kind of command."""

    publisher: Any

    def send(self, sent: SentCommand, measured: Array, frame_id: str) -> None:
        """Publish a command.

        Raises:
            DataError: It cannot be expressed.
        """

    def halt(self, stamp: int, frame_id: str) -> None:
        """Say that no more commands come, where the arm would move on without that."""


def arm_output(
    node: LifecycleNode, parameters: ExecutorParameters, limits: SafetyLimits
) -> ArmOutput:
    """Return the output that the parameters ask for.

    Raises:
        ConfigurationError: Something that it needs is missing.
    """
    period = 1.0 / parameters.control_rate
    if parameters.output == "twist":
        return TwistOutput(node, TwistFollower(limits, parameters.twist_gain, period))
    if parameters.output == "joint_trajectory":
        names = [name for name in parameters.joint_names if name]
        if not names:
            raise ConfigurationError("output joint_trajectory needs the parameter joint_names")
        solve = load_inverse_kinematics(parameters.inverse_kinematics)
        path = JointPath(solve, len(names), parameters.joint_speed)
        return JointTrajectoryOutput(node, path, names, period)
    return PoseOutput(node)


def is_listened_to(node: LifecycleNode, output: ArmOutput, controller: str) -> bool:
    """Return whether a node subscribes to the commands.

    Args:
        node: The executor.
        output: Its commands.
        controller: The node that must; empty takes any.
    """
    if not controller:
        return output.publisher.get_subscription_count() > 0
    listeners = node.get_subscriptions_info_by_topic(output.publisher.topic_name)
    return any(listener.node_name == controller for listener in listeners)


class PoseOutput:
    """PoseStamped on target_pose; without new ones the arm stays where it is."""

    def __init__(self, node: LifecycleNode) -> None:
        self.publisher = node.create_lifecycle_publisher(PoseStamped, "target_pose", COMMAND)

    def send(self, sent: SentCommand, measured: Array, frame_id: str) -> None:
        """Publish the pose."""
        self.publisher.publish(to_pose_stamped(sent.command.pose, sent.stamp, frame_id))

    def halt(self, stamp: int, frame_id: str) -> None:
        """Nothing to say."""


class TwistOutput:
    """TwistStamped on target_twist, in the base frame; zero when the commands end."""

    def __init__(self, node: LifecycleNode, follower: TwistFollower) -> None:
        self.publisher = node.create_lifecycle_publisher(TwistStamped, "target_twist", COMMAND)
        self._follower = follower

    def send(self, sent: SentCommand, measured: Array, frame_id: str) -> None:
        """Publish the twist that keeps the arm on the commanded pose."""
        self._publish(
            self._follower.twist(sent.command.pose, sent.twist, measured), sent.stamp, frame_id
        )

    def halt(self, stamp: int, frame_id: str) -> None:
        """Publish zero."""
        self._follower.restart()
        self._publish(np.zeros(6), stamp, frame_id)

    def _publish(self, twist: Array, stamp: int, frame_id: str) -> None:
        message = TwistStamped()
        message.header.stamp = to_time(stamp)
        message.header.frame_id = frame_id
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z = (float(v) for v in twist[:3])
        angular.x, angular.y, angular.z = (float(v) for v in twist[3:])
        self.publisher.publish(message)


class JointTrajectoryOutput:
    """JointTrajectory of one point on joint_trajectory; the measured joints on joint_states."""

    def __init__(
        self, node: LifecycleNode, path: JointPath, names: Sequence[str], period: float
    ) -> None:
        self.publisher = node.create_lifecycle_publisher(
            JointTrajectory, "joint_trajectory", COMMAND
        )
        node.create_subscription(JointState, "joint_states", self._on_joints, SENSOR)
        self._path = path
        self._names = list(names)
        self._period = period
        self._measured: Array | None = None
        self._stamp: int | None = None  # of the last command

    def _on_joints(self, message: JointState) -> None:
        known = dict(zip(message.name, message.position, strict=False))
        if all(name in known for name in self._names):
            self._measured = np.array([known[name] for name in self._names])

    def send(self, sent: SentCommand, measured: Array, frame_id: str) -> None:
        """Publish the joint positions of the pose, to be reached in the time since the last.

        A late tick makes up for those that were missed: then that is several control periods.
        """
        if self._measured is None:
            raise DataError(f"joint_states has not told the joints {', '.join(self._names)}")
        elapsed = 0.0 if self._stamp is None else (sent.stamp - self._stamp) / NANOSECONDS
        # A stamp that leaps is a clock that was set, or a stall: the motion starts from rest.
        periods = round(elapsed / self._period) if 0.0 < elapsed <= MAX_STALL / NANOSECONDS else 1
        seconds = max(periods, 1) * self._period
        positions = self._path.positions(sent.command.pose, self._measured, seconds)
        self._stamp = sent.stamp
        point = JointTrajectoryPoint(positions=[float(p) for p in positions])
        point.time_from_start = to_duration(round(seconds * NANOSECONDS))
        # Stamp 0: at once. A stamp in the past would make the controller drop the point.
        self.publisher.publish(JointTrajectory(joint_names=self._names, points=[point]))

    def halt(self, stamp: int, frame_id: str) -> None:
        """Begin at the measured joints the next time."""
        self._path.restart()
        self._stamp = None
