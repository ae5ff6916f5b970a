"""The three kinds of command, each followed by the simulated arm through a whole grasp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alt_ros.demo import run_trial
from alt_ros.nodes.graph import Graph
from alt_ros.nodes.operator import Operator
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
