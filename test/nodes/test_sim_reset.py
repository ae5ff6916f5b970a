"""A reset simulation does not follow what was sent to the arm as it was before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import Float64

from alt_ros.messages import opening_of, pose_of, stamp_of
from alt_ros.nodes.conversions import to_pose_stamped
from alt_ros.nodes.graph import Graph
from alt_ros.nodes.node import COMMAND, SENSOR
from alt_ros.nodes.operator import Operator

FAR = 0.05


@pytest.mark.timeout(120)
def test_a_command_from_before_the_reset_moves_nothing_after_it(
    make_graph: Callable[..., Graph],
) -> None:
    from sensor_msgs.msg import JointState

    graph = make_graph()
    graph.start("sim_bridge")
    with Operator(graph.check) as operator:
        poses: list[Any] = []
        grippers: list[float] = []
        node = operator.node
        node.create_subscription(PoseStamped, "eef_pose", poses.append, SENSOR)
        node.create_subscription(
            JointState, "gripper_state", lambda m: grippers.append(opening_of(m, "")), SENSOR
        )
        pose_publisher = node.create_publisher(PoseStamped, "target_pose", COMMAND)
        gripper_publisher = node.create_publisher(Float64, "target_gripper", COMMAND)
        operator.wait_for("poses", lambda: poses and grippers, 60.0)
        operator.wait_for("its listener", lambda: pose_publisher.get_subscription_count(), 20.0)
        operator.wait_for("its listener", lambda: gripper_publisher.get_subscription_count(), 20.0)

        def command(stamp: int) -> None:
            pose_publisher.publish(to_pose_stamped(target, stamp, "base"))
            gripper_publisher.publish(Float64(data=0.0))

        def pass_time(seconds: float) -> None:
            until = stamp_of(poses[-1]) + round(seconds * 1e9)
            operator.wait_for("simulated time", lambda: stamp_of(poses[-1]) > until, 60.0)

        before = stamp_of(poses[-1])
        operator.require("sim/reset", scenario="ind", trial=0)
        operator.wait_for("the reset", lambda: stamp_of(poses[-1]) > before + 10**9, 20.0)
        home = pose_of(poses[-1].pose)
        target = home + np.array([0.0, 2 * FAR, 0.0, 0.0, 0.0, 0.0, 0.0])
        for _ in range(10):
            command(before)
        pass_time(0.5)
        assert np.linalg.norm(pose_of(poses[-1].pose)[:3] - home[:3]) < 0.2 * FAR
        assert grippers[-1] > 0.05
        command(stamp_of(poses[-1]))
        pass_time(1.0)
        assert np.linalg.norm(pose_of(poses[-1].pose)[:3] - home[:3]) > FAR
        assert grippers[-1] < 0.05
