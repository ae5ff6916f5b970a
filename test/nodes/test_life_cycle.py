from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

from alt_ros.nodes.graph import Graph, dds_profile
from alt_ros.nodes.node import SENSOR
from alt_ros.nodes.operator import Operator


@pytest.mark.timeout(120)
def test_a_node_can_be_taken_down_and_configured_again_without_doubling(
    make_graph: Callable[..., Graph],
) -> None:
    graph = make_graph(sim=True)
    with Operator(graph.check) as operator:
        graph.start("sim_bridge")
        graph.start("camera_sync", {"autostart": False})
        change = operator.node.create_client(ChangeState, "camera_sync/change_state")
        state = operator.node.create_client(GetState, "camera_sync/get_state")
        stamps: list[int] = []
        operator.node.create_subscription(
            _observation(), "alt/observation", lambda m: stamps.append(_stamp(m)), SENSOR
        )

        def call(client: Any, request: Any) -> Any:
            operator.wait_for("the service", client.service_is_ready, 20.0)
            future = client.call_async(request)
            operator.wait_for("the answer", future.done, 20.0)
            return future.result()

        def to(transition: int) -> None:
            assert call(change, ChangeState.Request(transition=Transition(id=transition))).success

        assert call(state, GetState.Request()).current_state.label == "unconfigured"
        for _ in range(2):
            to(Transition.TRANSITION_CONFIGURE)
            to(Transition.TRANSITION_ACTIVATE)
            stamps.clear()
            operator.wait_for("observations", lambda: len(stamps) > 10, 20.0)
            assert len(set(stamps)) == len(stamps), "every observation must come once"
            to(Transition.TRANSITION_DEACTIVATE)
            to(Transition.TRANSITION_CLEANUP)
            time.sleep(0.3)
            stamps.clear()
            time.sleep(0.5)
            assert not stamps


@pytest.mark.timeout(60)
def test_the_executor_shares_no_memory_and_leaves_a_profile_of_ones_own_alone(
    make_graph: Callable[..., Graph], tmp_path: Path
) -> None:
    """A receiver that is kept off the processor must not keep the executor waiting."""
    graph = make_graph()
    name, usual = dds_profile()
    own = tmp_path / "own.xml"
    own.write_text(usual.read_text())
    with Operator(graph.check) as operator:
        graph.start("executor")
        graph.start("another", executable="executor", variables={name: str(own)})
        for node in ("executor", "another"):
            ready = operator.node.create_client(GetState, f"{node}/get_state").service_is_ready
            operator.wait_for(node, ready, 20.0)
        maps = [
            Path(f"/proc/{graph.process(n).pid}/maps").read_text() for n in ("executor", "another")
        ]
    if not any("/fastdds" in text or "/fastrtps" in text for text in maps):
        pytest.skip("SHARED MEMORY NOT TESTED: this DDS has none")
    assert ["/dev/shm/fast" in text for text in maps] == [False, True]


def _observation() -> type[Any]:
    from alt_ros.msg import Observation

    return Observation


def _stamp(message: Any) -> int:
    from alt_ros.messages import stamp_of

    return stamp_of(message)


@pytest.mark.timeout(120)
def test_alt_up_runs_the_simulated_graph_and_an_interrupt_ends_all_of_it(
    ros_environment: dict[str, str], small_bundle: Path, tmp_path: Path
) -> None:
    from alt_ros.nodes.graph import prefix

    command = [prefix() / "bin" / "alt", "up", "--sim", "--bundle", small_bundle]
    said = tmp_path / "said"
    with said.open("w") as stream:
        process = subprocess.Popen(command, cwd=tmp_path, env=ros_environment, stderr=stream)
    try:
        with Operator() as operator:
            operator.wait_for("a chunk", lambda: operator.chunks, 60.0)
            operator.wait_for("arming", lambda: operator.call("alt/arm").success, 20.0)
            operator.wait_for("commands", lambda: operator.commands, 20.0)
            process.terminate()
            assert process.wait(30.0) == 130
            operator.wait_for(
                "the end of every node",
                lambda: not {"executor", "sim_bridge"} & set(operator.node.get_node_names()),
                20.0,
            )
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in said.read_text()
