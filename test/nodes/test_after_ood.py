"""What the running executor does after the out-of-distribution flag, through its topics."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alt_ros.msg import ActionChunk, OodFlag
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Header

from alt_ros.benchmarks.closed_loop import reset_trial
from alt_ros.geometry import arm_action
from alt_ros.messages import pose_of
from alt_ros.nodes.conversions import to_chunk, to_pose_stamped, to_time
from alt_ros.nodes.flight_recorder import FlightRecorder
from alt_ros.nodes.graph import Graph
from alt_ros.nodes.node import COMMAND, RELIABLE, SENSOR
from alt_ros.nodes.operator import Operator
from alt_ros.types import ActionChunk as Chunk
from alt_ros.types import ActionLayout

PERIOD = 50_000_000
FRAMES = 60
OPEN, CLOSED = 0.08, 0.03


def demonstration() -> np.ndarray:
    """Return the demonstrated poses (FRAMES, 7): from rest to rest, 20 cm along y on an arc."""
    share = (1.0 - np.cos(np.linspace(0.0, np.pi, FRAMES))) / 2.0
    poses = np.tile([0.5, -0.1, 0.3, 0.0, 0.0, 0.0, 1.0], (FRAMES, 1))
    poses[:, 0] += 0.05 * np.sin(np.pi * share)
    poses[:, 1] += 0.2 * share
    return poses


PATH = demonstration()
GRIPPERS = np.where(np.arange(FRAMES) < 10, OPEN, CLOSED)


def chunk(stamp: int, poses: np.ndarray, grippers: np.ndarray, period: int = PERIOD) -> Chunk:
    actions = arm_action(poses[:, None], grippers[:, None])
    return Chunk(stamp, period, actions, ActionLayout())


class Cell:
    """An arm that is where it was told to be, cameras, a monitor and policies, on real topics.

    Attributes:
        pose: (7,) where the arm is.
        flag: What the monitor says.
        policies: Topic to what publishes chunks there, in every frame.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.pose, self.opening = PATH[0].copy(), OPEN
        self.flag = False
        self.policies = {"alt/action_chunk": self.recall}
        self.recorder = FlightRecorder(operator.node)
        node = operator.node
        self._arm = node.create_publisher(PoseStamped, "eef_pose", SENSOR)
        self._gripper = node.create_publisher(JointState, "gripper_state", SENSOR)
        self._observations = node.create_publisher(Header, "alt/observation_stamp", RELIABLE)
        self._flags = node.create_publisher(OodFlag, "alt/ood", RELIABLE)
        self._chunks = {
            topic: node.create_publisher(ActionChunk, topic, RELIABLE)
            for topic in ("alt/action_chunk", "alt/return_chunk", "alt/fallback_chunk")
        }
        node.create_subscription(PoseStamped, "target_pose", self._on_pose, COMMAND)
        node.create_subscription(Float64, "target_gripper", self._on_gripper, COMMAND)
        node.create_timer(0.01, self._on_arm_due)
        node.create_timer(PERIOD / 1e9, self._on_frame_due)

    @property
    def frame(self) -> int:
        """The demonstrated frame nearest to the arm."""
        return int(np.linalg.norm(PATH[:, :3] - self.pose[:3], axis=1).argmin())

    def recall(self, stamp: int) -> Chunk:
        """What followed the nearest frame."""
        rows = slice(self.frame, self.frame + 16)
        return chunk(stamp, PATH[rows], GRIPPERS[rows])

    def way_back(self, stamp: int) -> Chunk:
        """The demonstration backwards from the nearest frame, half as fast."""
        rows = slice(self.frame, None, -1)
        return chunk(stamp, PATH[rows], GRIPPERS[rows], 2 * PERIOD)

    def aside(self, stamp: int) -> Chunk:
        """Another policy: along x with 5 cm/s."""
        poses = np.tile(self.pose, (16, 1))
        poses[:, 0] -= 0.05 * np.arange(16) * PERIOD / 1e9
        return chunk(stamp, poses, np.full(16, self.opening))

    def _on_pose(self, message: PoseStamped) -> None:
        self.pose = pose_of(message.pose)

    def _on_gripper(self, message: Float64) -> None:
        self.opening = message.data

    def _on_arm_due(self) -> None:
        now = time.time_ns()
        self._arm.publish(to_pose_stamped(self.pose, now, "base"))
        state = JointState(name=["gripper"], position=[self.opening])
        state.header.stamp = to_time(now)
        self._gripper.publish(state)

    def _on_frame_due(self) -> None:
        now = time.time_ns()
        header = Header(stamp=to_time(now), frame_id="base")
        self._observations.publish(header)
        self._flags.publish(OodFlag(header=header, flag=self.flag))
        for topic, decide in list(self.policies.items()):
            self._chunks[topic].publish(to_chunk(decide(now), "base", "test"))

    @property
    def states(self) -> list[str]:
        """The states so far, each once in a row."""
        names = [seen.state for seen in list(self.recorder.states)]
        return [name for name, _ in itertools.groupby(names)]

    def run(self) -> None:
        """Arm, and wait until the arm is 10 cm on its way with its gripper closed."""
        self.operator.wait_for("arming", lambda: self.operator.call("alt/arm").success, 30.0)
        self.wait_for("the way", lambda: self.pose[1] > 0.0 and self.opening < CLOSED + 1e-6)
        assert self.states[-2:] == ["armed", "running"]

    def wait_for(self, what: str, condition: Callable[[], Any], timeout: float = 10.0) -> None:
        self.operator.wait_for(what, condition, timeout)

    def wait_for_state(self, state: str, timeout: float = 10.0) -> None:
        self.wait_for(f"state '{state}'", lambda: self.operator.state.state == state, timeout)

    def is_subscribed(self, topic: str) -> bool:
        return self.operator.node.count_subscribers(topic) > 0

    def rests(self, seconds: float) -> bool:
        """Return whether no command comes for a while."""
        count = len(self.recorder.commands)
        time.sleep(seconds)
        return len(self.recorder.commands) == count


@pytest.fixture
def start(
    ros_environment: dict[str, str], make_graph: Callable[..., Graph]
) -> Iterator[Callable[[str], Cell]]:
    """Start an executor with a value of after_ood, and the cell around it."""
    graph = make_graph(sim=False)
    with Operator(graph.check) as operator:

        def start(after_ood: str) -> Cell:
            graph.start("executor", {"after_ood": after_ood})
            return Cell(operator)

        yield start


@pytest.mark.timeout(120)
def test_the_arm_returns_along_the_demonstration_and_waits_to_be_armed(
    start: Callable[[str], Cell],
) -> None:
    cell = start("return")
    cell.run()
    assert cell.is_subscribed("alt/return_chunk")
    assert not cell.is_subscribed("alt/fallback_chunk")
    cell.policies["alt/return_chunk"] = cell.way_back
    cell.flag = True
    cell.wait_for_state("returning")
    assert not cell.operator.call("alt/arm").success
    cell.flag = False
    way: list[np.ndarray] = []
    cell.wait_for(
        "the end",
        lambda: way.append(cell.pose) or "returned" in cell.operator.state.reason,
        timeout=20.0,
    )
    assert cell.states == ["idle", "armed", "running", "holding", "returning", "holding"]
    assert cell.operator.state.reason == "returned along the recalled demonstration"
    assert np.linalg.norm(cell.pose[:3] - PATH[0, :3]) < 0.01
    assert cell.opening == pytest.approx(OPEN, abs=1e-3)
    off = [np.linalg.norm(PATH[:, :3] - pose[:3], axis=1).min() for pose in way]
    assert max(off) < 0.02, "it goes back the way it came"
    time.sleep(0.3)
    assert cell.rests(0.5)
    assert cell.states[-1] == "holding"
    cell.wait_for("arming", lambda: cell.operator.call("alt/arm").success)
    cell.wait_for_state("running")
    assert cell.recorder.audit.violations == []


@pytest.mark.timeout(120)
def test_another_policy_moves_the_arm_while_the_flag_is_up(start: Callable[[str], Cell]) -> None:
    cell = start("fallback")
    cell.policies["alt/fallback_chunk"] = cell.aside
    cell.run()
    assert cell.is_subscribed("alt/fallback_chunk")
    assert not cell.is_subscribed("alt/return_chunk")
    cell.flag = True
    cell.wait_for_state("fallback")
    before = cell.pose[0]
    cell.wait_for("the fallback's motion", lambda: cell.pose[0] < before - 0.03)
    assert "scene is out of distribution" in cell.operator.call("alt/arm").message
    cell.flag = False
    cell.wait_for_state("running")
    cell.wait_for("the end of the demonstration", lambda: cell.pose[1] > PATH[-1, 1] - 0.02)
    assert cell.states == ["idle", "armed", "running", "holding", "fallback", "running"]
    asked = time.monotonic()
    cell.wait_for(
        "diagnostics", lambda: cell.operator.diagnostics_since("alt: executor", asked) or {}
    )
    counted = cell.operator.diagnostics_since("alt: executor", asked) or {}
    for role in ("policy", "fallback"):
        assert int(counted[f"refused: chunk of role {role} is not followed now"]) > 5
    del cell.policies["alt/action_chunk"]
    cell.flag = True
    cell.wait_for_state("fallback")
    del cell.policies["alt/fallback_chunk"]
    cell.wait_for_state("holding")
    assert cell.operator.state.reason == "no fallback chunk for 500 ms"
    cell.wait_for_state("stopped")
    assert cell.recorder.audit.violations == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("after_ood", ["stop", "hold"])
def test_the_arm_holds_and_goes_on_by_itself_only_where_that_was_asked_for(
    after_ood: str, start: Callable[[str], Cell]
) -> None:
    cell = start(after_ood)
    cell.policies |= {"alt/return_chunk": cell.way_back, "alt/fallback_chunk": cell.aside}
    cell.run()
    assert not cell.is_subscribed("alt/return_chunk")
    assert not cell.is_subscribed("alt/fallback_chunk")
    cell.flag = True
    cell.wait_for_state("holding")
    time.sleep(0.5)  # it brakes
    assert cell.rests(0.5)
    cell.flag = False
    if after_ood == "stop":
        assert cell.rests(0.5)
        cell.wait_for("arming", lambda: cell.operator.call("alt/arm").success)
    cell.wait_for_state("running")
    again = ["armed", "running"] if after_ood == "stop" else ["running"]
    assert cell.states == ["idle", "armed", "running", "holding", *again]
    assert cell.recorder.audit.violations == []


@pytest.mark.timeout(120)
def test_a_way_back_that_does_not_come_leaves_the_arm_where_it_is(
    start: Callable[[str], Cell],
) -> None:
    cell = start("return")
    cell.run()
    cell.flag = True
    cell.wait_for("the reason", lambda: "no way back for 500 ms" in cell.operator.state.reason)
    cell.policies["alt/return_chunk"] = cell.way_back
    cell.flag = False
    assert cell.rests(0.5)
    assert cell.states == ["idle", "armed", "running", "holding"]


@pytest.mark.timeout(240)
def test_a_covered_camera_sends_the_arm_back_to_where_the_demonstration_began(
    make_graph: Callable[..., Graph], small_bundle: Path
) -> None:
    graph = make_graph(sim=True)
    with Operator(graph.check) as operator:
        recorder = FlightRecorder(operator.node)
        poses: list[np.ndarray] = []
        operator.node.create_subscription(
            PoseStamped, "eef_pose", lambda m: poses.append(pose_of(m.pose)), SENSOR
        )
        for node in ("sim_bridge", "camera_sync", "encoder", "lookup"):
            bundle = {"bundle": small_bundle} if node in ("encoder", "lookup") else {}
            graph.start(node, bundle)
        graph.start("executor", {"after_ood": "return"})
        reset_trial(operator, "covered_camera", 0, seed=0, without_disturbance=True)
        start = poses[-1]
        operator.wait_for("arming", lambda: operator.call("alt/arm").success, timeout=20.0)
        operator.wait_for(
            "the way", lambda: np.linalg.norm(poses[-1][:3] - start[:3]) > 0.1, timeout=20.0
        )
        operator.require("sim/set_disturbance", scenario="covered_camera", trial=0)
        operator.wait_for("the end", lambda: "returned" in operator.state.reason, timeout=30.0)
        names = [name for name, _ in itertools.groupby(s.state for s in recorder.states)]
        assert names[-5:] == ["armed", "running", "holding", "returning", "holding"]
        time.sleep(0.5)
        assert np.linalg.norm(poses[-1][:3] - start[:3]) < 0.01
        assert operator.flags[-1].flag
        assert recorder.audit.violations == []
