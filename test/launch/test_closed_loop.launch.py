"""The closed loop in simulation as `ros2 launch` starts it: the cup is grasped, a stop holds.

Run it with `launch_test test/launch/test_closed_loop.launch.py`. It needs a trained bundle:
$ALT_ROS_TEST_BUNDLE, or what `make demo` left in build/demo.
"""

import os
import time
import unittest
from pathlib import Path

import launch_testing
import launch_testing.actions
import launch_testing.asserts
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from alt_ros.messages import stamp_of
from alt_ros.nodes import graph
from alt_ros.nodes.operator import Operator

DEMO_BUNDLE = Path(__file__).resolve().parents[2] / "build" / "demo" / "bundle"
NODES = ("sim_bridge", "scripted_expert", "camera_sync", "encoder", "lookup", "executor")
ATTEMPTS = 3
EPISODE_SECONDS = 15.0
CHUNKS_AFTER_STOP = 20
IN_FLIGHT_SECONDS = 0.3
NEW_EPISODE = 1_000_000_000  # ns: sim/reset moves the stamps on by more


def generate_test_description() -> LaunchDescription:
    bundle = Path(os.environ.get("ALT_ROS_TEST_BUNDLE") or DEMO_BUNDLE).resolve()
    if not (bundle / "manifest.json").is_file():
        raise unittest.SkipTest(
            f"NO BUNDLE, closed loop not tested: '{bundle}' is none; run 'make demo' or set "
            "ALT_ROS_TEST_BUNDLE"
        )
    os.environ.update(graph.environment(local_domain=20 + os.getpid() % 80))
    source = PythonLaunchDescriptionSource(str(graph.share() / "launch" / "alt.launch.py"))
    arguments = {"sim": "true", "bundle": str(bundle)}
    return LaunchDescription(
        [
            IncludeLaunchDescription(source, launch_arguments=arguments.items()),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class TestClosedLoop(unittest.TestCase):
    def setUp(self) -> None:
        self.operator = Operator()
        self.addCleanup(self.operator.close)

    def start_episode(self) -> None:
        """Reset the simulation to ind trial 0 and arm once chunks of the new episode come."""
        operator = self.operator
        operator.require("alt/disarm", timeout=60.0)
        # lookup may still be loading; a flag answers every observation, a chunk only familiar ones
        operator.wait_for("a flag", lambda: operator.flags, timeout=60.0)
        before = stamp_of(operator.flags[-1])
        operator.require("sim/reset", scenario="ind", trial=0, timeout=60.0)
        operator.wait_for(
            "a chunk after the reset",
            lambda: operator.chunks and stamp_of(operator.chunks[-1]) > before + NEW_EPISODE,
            timeout=30.0,
        )
        operator.success = False
        operator.commands.clear()
        operator.wait_for("arming", lambda: operator.call("alt/arm").success, timeout=10.0)

    def test_cup_is_grasped(self) -> None:
        for attempt in range(ATTEMPTS):
            self.start_episode()
            deadline = time.monotonic() + EPISODE_SECONDS
            while time.monotonic() < deadline and not self.operator.success:
                time.sleep(0.01)
            if self.operator.success:
                return
            print(f"attempt {attempt}: {self.operator.state.state}, {self.operator.state.reason}")
        self.fail(f"the cup was not grasped in {ATTEMPTS} attempts")

    def test_stop_holds_until_armed_again_though_chunks_come(self) -> None:
        operator = self.operator
        self.start_episode()
        operator.wait_for("commands", lambda: len(operator.commands) > 20, timeout=10.0)
        operator.require("alt/stop")
        operator.wait_for("the stop", lambda: operator.state.state == "stopped", timeout=5.0)
        time.sleep(IN_FLIGHT_SECONDS)  # commands that were sent before it
        operator.commands.clear()
        operator.chunks.clear()
        operator.wait_for(
            "chunks after the stop",
            lambda: len(operator.chunks) >= CHUNKS_AFTER_STOP,
            timeout=30.0,
        )
        assert not operator.commands
        assert operator.state.state == "stopped"
        operator.require("alt/arm")
        operator.wait_for("commands", lambda: operator.commands, timeout=10.0)


@launch_testing.post_shutdown_test()
class TestShutdown(unittest.TestCase):
    def test_every_node_exits_with_0(self, proc_info) -> None:
        assert len(proc_info.process_names()) == len(NODES)
        launch_testing.asserts.assertExitCodes(proc_info)
