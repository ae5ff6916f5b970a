"""The three kinds of command, each followed by the simulated arm through a whole grasp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import JointState

from alt_ros.benchmarks.closed_loop import run_trial
from alt_ros.errors import DataError
from alt_ros.execution import SentCommand
from alt_ros.joint_space import JointPath
from alt_ros.nodes.arm_output import JointTrajectoryOutput
from alt_ros.nodes.graph import Graph
from alt_ros.nodes.operator import Operator
from alt_ros.safety import Command
from alt_ros.simulation.scene import ARM_JOINTS

IK = "alt_ros.simulation.arm_kinematics:inverse_kinematics"
OUTPUTS = {
    "twist": {"output": "twist"},
    "joint_trajectory": {
        "output": "joint_trajectory",
        "inverse_kinematics": IK,
        "joint_names": list(ARM_JOINTS),
    },
}


def start(graph: Graph, bundle: Path, folder: Path, executor: dict[str, Any]) -> None:
    graph.start("sim_bridge", {"command": executor["output"]})
    graph.start("camera_sync")
    graph.start("encoder", {"bundle": bundle})
    graph.start("lookup", {"bundle": bundle})
    graph.start("executor", executor)
    graph.start("episode_recorder", {"folder": folder})


@pytest.mark.timeout(60)
def test_after_a_late_tick_the_joints_have_the_time_that_has_passed(
    ros_environment: dict[str, str],
) -> None:
    period, speed = 0.01, 1.0
    context = Context()
    rclpy.init(context=context)
    try:
        node = LifecycleNode("joints", context=context)
        path = JointPath(lambda pose, seed: pose[:1], 1, speed)
        output = JointTrajectoryOutput(node, path, ["elbow"], period)
        output.publisher = sink = _Sink()
        output._on_joints(JointState(name=["elbow"], position=[0.0]))

        def send(joint: float, stamp: float) -> None:
            command = Command(np.array([joint, 0, 0, 0, 0, 0, 1.0]), 0.0)
            stamped = SentCommand(command, np.zeros(6), round(stamp * 1e9), 0)
            output.send(stamped, command.pose, "base")

        send(0.009, 1.0)
        send(0.039, 1.03)
        times = [point.points[0].time_from_start.nanosec for point in sink.sent]
        assert times == [10_000_000, 30_000_000]
        with pytest.raises(DataError, match="leaps"):
            send(0.069, 1.04)
        with pytest.raises(DataError, match="leaps"):
            send(0.069, 2.04)  # a stall: not a second's way at once
        node.destroy_node()
    finally:
        context.try_shutdown()


class _Sink:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def publish(self, message: Any) -> None:
        self.sent.append(message)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("output", OUTPUTS)
def test_the_cup_is_grasped_through_every_output(
    make_graph: Callable[..., Graph], small_bundle: Path, tmp_path: Path, output: str
) -> None:
    graph = make_graph()
    start(graph, small_bundle, tmp_path / "bags", OUTPUTS[output])
    with Operator(graph.check) as operator:
        result = run_trial(operator, "ind", 0, seed=0)
        assert result.success, result
        assert operator.state.commands > 100
        assert not operator.commands  # nothing on target_pose
        operator.require("alt/stop")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"inverse_kinematics": IK}, "needs the parameter joint_names"),
        ({"joint_names": list(ARM_JOINTS)}, "must be 'module:function'"),
        ({"joint_names": ["pan"], "inverse_kinematics": "nowhere:solve"}, "No module named"),
    ],
)
def test_what_an_output_needs_is_asked_for(
    make_graph: Callable[..., Graph], tmp_path: Path, parameters: dict[str, Any], reason: str
) -> None:
    graph = make_graph()
    graph.start("executor", {"output": "joint_trajectory", **parameters})
    assert graph.process("executor").wait(30) == 1
    assert reason in (tmp_path / "logs" / "executor.log").read_text()
