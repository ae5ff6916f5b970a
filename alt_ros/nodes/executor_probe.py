"""What the executor sees at a robot, without one: for measuring the executor alone.

An arm that is where it was told to be, and chunks of a demonstrated path, one for every camera
frame. Everything is stamped with the system's time.
"""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from alt_ros.geometry import arm_action
from alt_ros.messages import pose_of
from alt_ros.msg import ActionChunk, OodFlag
from alt_ros.nodes.conversions import to_chunk, to_pose_stamped, to_time
from alt_ros.nodes.node import RELIABLE, SENSOR
from alt_ros.types import ActionChunk as Chunk
from alt_ros.types import ActionLayout, Neighbour

POSE_PERIOD, FRAME_PERIOD = 0.01, 0.05
ROWS = 30
FRAME_ID = "base"


class ExecutorProbe:
    """Feeds an executor through ``node``, which somebody else spins.

    The path is a horizontal circle of 5 cm, once in three seconds, the tool turning with it.
    """

    def __init__(self, node: Node, home: NDArray[np.float64]) -> None:
        self._node = node
        self._home = home
        self._pose = home.copy()
        self._arm = node.create_publisher(PoseStamped, "eef_pose", SENSOR)
        self._gripper = node.create_publisher(JointState, "gripper_state", SENSOR)
        self._observations = node.create_publisher(Header, "alt/observation_stamp", RELIABLE)
        self._flags = node.create_publisher(OodFlag, "alt/ood", RELIABLE)
        self._chunks = node.create_publisher(ActionChunk, "alt/action_chunk", RELIABLE)
        node.create_subscription(PoseStamped, "target_pose", self._on_command, RELIABLE)
        node.create_timer(POSE_PERIOD, self._on_pose_due)
        node.create_timer(FRAME_PERIOD, self._on_frame_due)

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def _on_command(self, message: PoseStamped) -> None:
        self._pose = pose_of(message.pose)

    def _on_pose_due(self) -> None:
        now = self._now()
        self._arm.publish(to_pose_stamped(self._pose, now, FRAME_ID))
        state = JointState(name=["gripper"], position=[0.05])
        state.header.stamp = to_time(now)
        self._gripper.publish(state)

    def _on_frame_due(self) -> None:
        now = self._now()
        header = Header(stamp=to_time(now), frame_id=FRAME_ID)
        self._observations.publish(header)
        self._flags.publish(OodFlag(header=header, score=0.1, threshold=1.0))
        self._chunks.publish(to_chunk(self._chunk(now), FRAME_ID, "probe"))

    def _chunk(self, now: int) -> Chunk:
        period = round(FRAME_PERIOD * 1e9)
        angles = 2.0 * np.pi / 3.0 * (now / 1e9 % 3.0 + FRAME_PERIOD * np.arange(ROWS))
        poses = np.repeat(self._home[None], ROWS, axis=0)
        poses[:, 0] += 0.05 * np.cos(angles)
        poses[:, 1] += 0.05 * np.sin(angles)
        actions = arm_action(poses[:, None], np.full((ROWS, 1), 0.05))
        return Chunk(now, period, actions, ActionLayout(), Neighbour(0, 0, 0.99))
