"""camera_sync as a node: observations and their stamps, reports, refusals, poses out of /tf."""

from __future__ import annotations

import array
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from alt_ros.msg import Observation
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TransformStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header

from alt_ros.messages import observation_of, stamp_of
from alt_ros.nodes.camera_sync import TF, TF_STATIC
from alt_ros.nodes.conversions import to_image, to_pose_stamped, to_time
from alt_ros.nodes.graph import Graph
from alt_ros.nodes.node import NEWEST, RELIABLE, SENSOR

MS = 1_000_000
POSE = np.array([0.4, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
VIEWS = ("wrist", "third_person")
HAS_TF2_MSGS = importlib.util.find_spec("tf2_msgs") is not None

Start = Callable[..., Graph]


class Robot:
    """Sends what cameras and an arm send, and hears camera_sync."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        create = self.node.create_publisher
        self.cameras = {view: create(Image, f"{view}/image_raw", SENSOR) for view in VIEWS}
        self.compressed = {
            view: create(CompressedImage, f"{view}/image_raw/compressed", SENSOR) for view in VIEWS
        }
        self.poses = create(PoseStamped, "eef_pose", SENSOR)
        self.gripper = create(JointState, "gripper_state", SENSOR)
        self.observations: list[Any] = []
        self.stamps: list[Any] = []
        self.statuses: list[Any] = []
        subscribe = self.node.create_subscription
        subscribe(Observation, "alt/observation", self.observations.append, NEWEST)
        subscribe(Header, "alt/observation_stamp", self.stamps.append, RELIABLE)
        subscribe(DiagnosticArray, "/diagnostics", self._keep_status, RELIABLE)

    def _keep_status(self, message: Any) -> None:
        self.statuses += [s for s in message.status if s.name == "alt: camera_sync"]

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def listen(self, seconds: float, until: Callable[[], Any] = lambda: False) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.005)
            if until():
                return True
        return False

    def send_arm(self, stamp: int) -> None:
        self.poses.publish(to_pose_stamped(POSE, stamp, "base"))

    def send_frame(self, view: str, stamp: int, size: tuple[int, int]) -> None:
        self.cameras[view].publish(to_image(np.full((*size, 3), 90, np.uint8), stamp, "camera"))

    def frames(
        self,
        count: int,
        *,
        period: float = 0.05,
        size: tuple[int, int] = (48, 64),
        send_arm: Callable[[int], None] | None = None,
        send_frame: Callable[[str, int, tuple[int, int]], None] | None = None,
    ) -> list[Any]:
        """Send pairs of frames, 4 ms apart, with the arm around them; return the observations."""
        self.observations.clear()
        self.stamps.clear()
        for _ in range(count):
            stamp = time.time_ns()
            for at in (stamp - 10 * MS, stamp + 5 * MS):
                (send_arm or self.send_arm)(at)
                state = JointState(name=["gripper"], position=[0.05])
                state.header.stamp = to_time(at)
                self.gripper.publish(state)
            (send_frame or self.send_frame)("wrist", stamp, size)
            (send_frame or self.send_frame)("third_person", stamp + 4 * MS, (48, 64))
            self.listen(period)
        self.listen(0.2)
        return list(self.observations)

    def status(self) -> tuple[bytes, str, dict[str, str]]:
        """Return the next report: level, text, values."""
        self.statuses.clear()
        assert self.listen(4.0, lambda: self.statuses), "camera_sync reports nothing"
        status = self.statuses[-1]
        return status.level, status.message, {v.key: v.value for v in status.values}


@pytest.fixture
def robot(ros_environment: dict[str, str]) -> Iterator[Robot]:
    built = Robot()
    yield built
    built.close()


@pytest.fixture
def start(robot: Robot, make_graph: Callable[..., Graph]) -> Start:
    """Start camera_sync and wait until it hears the cameras."""

    def begin(**parameters: Any) -> Graph:
        graph = make_graph(sim=False)
        graph.start("camera_sync", parameters)
        heard = robot.compressed if parameters.get("compressed") else robot.cameras
        publishers = [*heard.values(), robot.gripper]
        assert robot.listen(20.0, lambda: all(p.get_subscription_count() for p in publishers))
        robot.listen(0.5)  # the other side has found us too
        return graph

    return begin


def log_of(tmp_path: Path) -> str:
    return (tmp_path / "logs" / "camera_sync.log").read_text()


def test_every_observation_has_its_stamp_beside_it_and_a_report_says_how_good_it_is(
    robot: Robot, start: Start
) -> None:
    start()
    observations = robot.frames(40)
    assert len(observations) >= 36
    seen = [stamp_of(o) for o in observations]
    told = [s.stamp.sec * 10**9 + s.stamp.nanosec for s in robot.stamps]
    both = max(seen[0], told[0])  # two topics, and each is discovered when it is
    assert [stamp for stamp in seen if stamp >= both] == [s for s in told if s >= both]
    assert min(len(seen), len(told)) >= 36
    assert {s.frame_id for s in robot.stamps} == {"base"}
    robot.statuses.clear()
    robot.frames(60)
    values = next(
        {v.key: v.value for v in status.values}
        for status in robot.statuses
        if any(v.key == "skew p50 [ms]" for v in status.values)
    )
    assert float(values["skew p50 [ms]"]) == float(values["skew max [ms]"]) == 4.0
    assert 0.0 < float(values["age p50 [ms]"]) <= float(values["age max [ms]"]) < 500.0
    assert 10.0 <= float(values["bracket max [ms]"]) <= 100.0
    assert float(values["frame period wrist [ms]"]) == pytest.approx(50.0, abs=10.0)
    assert float(values["rate [1/s]"]) <= 25.0
    assert float(values["stamps behind wrist [ms]"]) < 200.0


def test_nothing_published_is_an_error_and_drops_are_a_warning(robot: Robot, start: Start) -> None:
    start()
    assert robot.frames(10)
    robot.status()
    level, text, _ = robot.status()
    assert (level, text) == (DiagnosticStatus.ERROR, "0.0 of 20.0 observations a second")
    robot.statuses.clear()
    robot.frames(
        30,
        send_frame=lambda view, stamp, size: [
            robot.send_frame(view, at, size) for at in (stamp, stamp)
        ],
    )
    levels = {status.level: status.message for status in robot.statuses}
    assert "messages not used" in levels.get(DiagnosticStatus.WARN, ""), levels


def test_more_skew_than_half_the_measured_period_is_an_error_and_logged_once(
    robot: Robot, start: Start, tmp_path: Path
) -> None:
    start(max_skew=0.02)
    robot.frames(15, period=0.03)
    assert robot.frames(30, period=0.03) == []
    level, text, values = robot.status()
    assert level == DiagnosticStatus.ERROR
    assert "max_skew 20 ms is more than half the measured frame period of view" in text
    assert int(values["dropped: max_skew_too_large"]) >= 40
    assert log_of(tmp_path).count("is more than half the measured frame period") == 1
    assert robot.frames(60, period=0.06)


def test_frames_of_another_size_are_refused_counted_and_told_with_the_remedy(
    robot: Robot, start: Start, tmp_path: Path
) -> None:
    start()
    assert robot.frames(5)
    assert robot.frames(5, size=(24, 32)) == []
    assert "began with images of 64x48, got one of 32x24" in log_of(tmp_path)
    assert "restart camera_sync if a new size is meant" in log_of(tmp_path)
    assert int(robot.status()[2]["dropped: size_changed"]) >= 8
    observations = robot.frames(5)
    assert observation_of(observations[-1]).images["wrist"].shape == (48, 64, 3)


def test_compressed_frames_of_another_size_are_refused_too(robot: Robot, start: Start) -> None:
    start(compressed=True)

    def send(view: str, stamp: int, size: tuple[int, int]) -> None:
        data = cv2.imencode(".png", np.zeros((*size, 3), np.uint8))[1].tobytes()
        message = CompressedImage(format="png", data=array.array("B", data))
        message.header.stamp = to_time(stamp)
        robot.compressed[view].publish(message)

    assert robot.frames(5, send_frame=send)
    assert robot.frames(5, send_frame=send, size=(24, 32)) == []
    assert int(robot.status()[2]["dropped: size_changed"]) >= 8
    assert robot.frames(5, send_frame=send)


def test_latencies_are_taken_off_the_stamps(robot: Robot, start: Start) -> None:
    start(latencies_views=[0.02, 0.024], latency_pose=0.02, latency_gripper=0.02)
    sent: list[int] = []

    def send(view: str, stamp: int, size: tuple[int, int]) -> None:
        sent.append(stamp)
        robot.send_frame(view, stamp, size)

    observations = robot.frames(5, send_frame=send)
    assert observations
    assert all(stamp_of(o) + 20 * MS in sent for o in observations)
    assert {observation_of(o).skew for o in observations} == {0}


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"latencies_views": [0.1, 0.1, 0.1]}, "latencies_views must have one value, or one for"),
        ({"pose_source": "odometry"}, "one of topic, tf"),
        ({"pose_source": "tf"}, "set base_frame and eef_frame"),
        pytest.param(
            {"pose_source": "tf", "base_frame": "base", "eef_frame": "tool"},
            "install ros-<distro>-tf2-msgs",
            marks=pytest.mark.skipif(HAS_TF2_MSGS, reason="tf2_msgs is installed"),
        ),
    ],
)
def test_a_bad_parameter_ends_the_node_with_one_line(
    parameters: dict[str, Any], words: str, make_graph: Callable[..., Graph], tmp_path: Path
) -> None:
    graph = make_graph(sim=False)
    graph.start("camera_sync", parameters)
    assert graph.process("camera_sync").wait(30.0) == 1
    assert words in log_of(tmp_path)
    assert "Traceback" not in log_of(tmp_path)


def a_transform(parent: str, child: str, stamp: int, x: float) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp = to_time(stamp)
    message.transform.translation.x = x
    message.transform.rotation.w = 1.0
    return message


@pytest.mark.skipif(not HAS_TF2_MSGS, reason="LIVE /tf NOT TESTED: tf2_msgs is not installed")
def test_the_pose_comes_out_of_tf(robot: Robot, start: Start) -> None:
    from tf2_msgs.msg import TFMessage

    moving = robot.node.create_publisher(TFMessage, "/tf", TF)
    fixed = robot.node.create_publisher(TFMessage, "/tf_static", TF_STATIC)
    fixed.publish(TFMessage(transforms=[a_transform("flange", "tool", 0, 0.25)]))
    start(pose_source="tf", base_frame="base", eef_frame="tool")
    level, text, _ = robot.status()
    assert level == DiagnosticStatus.ERROR
    assert "no transforms connect 'base' and 'tool'" in text

    def send(stamp: int) -> None:
        moving.publish(TFMessage(transforms=[a_transform("base", "flange", stamp, 0.5)]))

    observations = robot.frames(10, send_arm=send)
    assert len(observations) >= 8
    assert observations[-1].header.frame_id == "base"
    np.testing.assert_allclose(
        observation_of(observations[-1]).poses, [[0.75, 0, 0, 0, 0, 0, 1]], atol=1e-12
    )
    assert robot.frames(5, send_arm=lambda stamp: None) == []


def test_a_camera_with_a_clock_of_its_own_is_named(robot: Robot, start: Start) -> None:
    start()
    assert robot.frames(5)

    def send(view: str, stamp: int, size: tuple[int, int]) -> None:
        robot.send_frame(view, stamp - 2000 * MS * (view == "third_person"), size)

    assert robot.frames(50, send_frame=send) == []
    level, text, values = robot.status()
    assert level == DiagnosticStatus.ERROR
    assert "the stamps of 'third_person' lie 2." in text
    assert int(values["dropped: clocks_apart"]) >= 30
    assert robot.frames(10)
