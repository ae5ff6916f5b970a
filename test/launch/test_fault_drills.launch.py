"""Drills of the catalogue on a graph that `launch` started: it starts anew what a drill kills.

Run it with `launch_test test/launch/test_fault_drills.launch.py`. It needs a trained bundle:
$ALT_ROS_TEST_BUNDLE, or what `make demo` left in build/demo.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import time
import unittest
from pathlib import Path

import launch_testing
import launch_testing.actions
import launch_testing.asserts
from launch import LaunchDescription
from launch.actions import RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch_ros.actions import Node

from alt_ros.benchmarks.drill_result import PASSED
from alt_ros.benchmarks.drill_rig import GraphRig, node_specs
from alt_ros.benchmarks.fault_catalogue import DRILLS, World
from alt_ros.benchmarks.faults import run_drill
from alt_ros.errors import AltError
from alt_ros.nodes import graph
from alt_ros.nodes.drill_console import DrillConsole

DEMO_BUNDLE = Path(__file__).resolve().parents[2] / "build" / "demo" / "bundle"
NAMES = (
    "wrist camera freezes",
    "third-person camera goes black",
    "third-person camera slows to 5 Hz",
    "pose stops",
    "pose jumps 20 cm",
    "policy sends chunks of 2 s ago",
    "encoder takes 3 s",
    "command subscriber gone",
    "executor deactivated",
    "simulated time paused",
    "encoder killed",
    "executor killed",
)
# Longer than any drill leaves a node dead.
RESPAWN_SECONDS = 7.0
START_SECONDS = 30.0


class LaunchedProcess:
    """A process that launch started, as far as drills handle one."""

    def __init__(self, number: int) -> None:
        self.number = number

    def send_signal(self, which: signal.Signals) -> None:
        os.kill(self.number, which)

    @property
    def is_there(self) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.number, 0)
            return True
        return False


class LaunchedGraph:
    """Acts as a Graph; launch starts the processes, and starts them anew."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._ended: dict[str, int] = {}

    def on_start(self, event, context) -> None:
        self._numbers[event.action.node_name.rpartition("/")[2]] = event.pid

    def process(self, node: str) -> LaunchedProcess:
        return LaunchedProcess(self._numbers[node])

    def kill(self, node: str) -> None:
        self._end(node, signal.SIGKILL)

    def stop(self, node: str) -> None:
        self._end(node, signal.SIGTERM)

    def _end(self, node: str, which: signal.Signals) -> None:
        process = self.process(node)
        self._ended[node] = process.number
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(which)
        self._await(f"the end of '{node}'", lambda: not process.is_there)

    def start(self, node: str, parameters, **how) -> None:
        ended = self._ended.pop(node)
        self._await(f"launch to start '{node}' anew", lambda: self._numbers[node] != ended)

    def has_ended(self, node: str) -> bool:
        return not self.process(node).is_there

    def _await(self, what: str, condition) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AltError(f"waited {START_SECONDS:g} s for {what}")
            time.sleep(0.01)


def generate_test_description():
    bundle = Path(os.environ.get("ALT_ROS_TEST_BUNDLE") or DEMO_BUNDLE).resolve()
    if not (bundle / "manifest.json").is_file():
        raise unittest.SkipTest(
            f"NO BUNDLE, drills not run: '{bundle}' is none; run 'make demo' or set "
            "ALT_ROS_TEST_BUNDLE"
        )
    os.environ.update(graph.environment(local_domain=20 + os.getpid() % 80))
    folder = Path(tempfile.mkdtemp(prefix="alt_drills_"))
    config = graph.share() / "config"
    files = [str(config / "alt.yaml"), str(config / "simulation.yaml")]
    launched = LaunchedGraph()
    actions = []
    for name, spec in node_specs(World.SIMULATED, bundle, folder).items():
        values = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in spec.parameters.items()
        }
        node = Node(
            package="alt_ros",
            executable=spec.executable,
            name=name,
            parameters=[*files, values],
            remappings=list(spec.remap.items()),
            output="screen",
            respawn=True,
            respawn_delay=RESPAWN_SECONDS,
        )
        actions.append(node)
        actions.append(
            RegisterEventHandler(OnProcessStart(target_action=node, on_start=launched.on_start))
        )
    actions.append(launch_testing.actions.ReadyToTest())
    return LaunchDescription(actions), {"launched": launched, "bundle": bundle, "folder": folder}


class TestFaultDrills(unittest.TestCase):
    def test_the_graph_answers_as_declared(self, launched, bundle, folder) -> None:
        drills = {drill.name: drill for drill in DRILLS}
        rig = GraphRig(launched, World.SIMULATED, bundle, folder)
        with DrillConsole() as console:
            rig.attach(console)
            for name in NAMES:
                with self.subTest(name):
                    result = run_drill(lambda: rig, drills[name])
                    print(result)
                    assert result.verdict == PASSED, result
                    assert result.commands > 0
                    assert result.violations == {}


@launch_testing.post_shutdown_test()
class TestShutdown(unittest.TestCase):
    def test_nodes_that_no_drill_killed_exit_with_0(self, proc_info, folder) -> None:
        shutil.rmtree(folder)
        for node in ("sim_bridge", "camera_sync", "lookup", "episode_recorder"):
            launch_testing.asserts.assertExitCodes(proc_info, process=node)
