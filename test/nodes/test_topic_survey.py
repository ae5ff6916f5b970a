"""``alt doctor --live`` against real publishers over real DDS."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, TransformStamped
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64

from alt_ros import doctor_cli
from alt_ros.diagnosis import host
from alt_ros.diagnosis.bundle_fit import BundleExpectation
from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.live import judge_survey
from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.conversions import to_image, to_pose_stamped, to_time
from alt_ros.nodes.executor_parameters import ExecutorParameters
from alt_ros.nodes.node import COMMAND, SENSOR
from alt_ros.nodes.topic_record import Survey
from alt_ros.nodes.topic_survey import survey

SECONDS = 2.0
HAS_TF2_MSGS = importlib.util.find_spec("tf2_msgs") is not None
FROM_TF = CameraSyncParameters(pose_source="tf", base_frame="base", eef_frame="tool")
POSE = np.array([0.4, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
PICTURE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
SENSORS, EXECUTOR = CameraSyncParameters(), ExecutorParameters()
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Robot:
    """Two cameras at 20 Hz and an arm at 100 Hz, in a thread; an arm's controller that listens.

    Args:
        behind: Camera to how far its stamps lie back, s.
        without: Topics that are not there.
        rename: Topic to the one that it has.
        clock: Publish simulated time, and stamp by it.
        controller: Quality of service of what listens to the commands.
    """

    def __init__(
        self,
        *,
        behind: dict[str, float] | None = None,
        without: tuple[str, ...] = (),
        rename: dict[str, str] | None = None,
        clock: bool = False,
        controller: QoSProfile = COMMAND,
    ) -> None:
        self.context = Context()
        self.context.init()
        self.node = Node("robot", context=self.context)
        self._behind = behind or {}
        create, names = self.node.create_publisher, rename or {}
        wanted: dict[str, Any] = {
            "wrist/image_raw": Image,
            "third_person/image_raw": Image,
            "eef_pose": PoseStamped,
            "gripper_state": JointState,
        }
        self._publishers = {
            topic: create(kind, names.get(topic, topic), SENSOR)
            for topic, kind in wanted.items()
            if topic not in without
        }
        self._clock = create(Clock, "/clock", RELIABLE) if clock else None
        self.commands = self.node.create_publisher(PoseStamped, "target_pose", COMMAND)
        self._listen(PoseStamped, "target_pose", controller)
        self._listen(Float64, "target_gripper", COMMAND)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _listen(self, kind: Any, topic: str, quality: QoSProfile) -> None:
        self.node.create_subscription(kind, topic, lambda message: None, quality)

    def _run(self) -> None:
        began, tick = time.monotonic(), 0
        while not self._stopping.is_set():
            self._publish(tick)
            tick += 1
            time.sleep(max(began + tick * 0.01 - time.monotonic(), 0.0))

    def _publish(self, tick: int) -> None:
        now = time.time_ns()
        if self._clock is not None:
            now = (1000 + tick) * 10_000_000
            self._clock.publish(Clock(clock=to_time(now)))
        state = JointState(name=["gripper"], position=[0.05])
        state.header.stamp = to_time(now)
        self._send("eef_pose", to_pose_stamped(POSE, now, "base"))
        self._send("gripper_state", state)
        if tick % 5 == 0:
            for view in SENSORS.views:
                stamp = now - round(self._behind.get(view, 0.0) * 1e9)
                self._send(f"{view}/image_raw", to_image(PICTURE, stamp, view))

    def _send(self, topic: str, message: Any) -> None:
        if topic in self._publishers:
            self._publishers[topic].publish(message)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def robot(ros_environment: dict[str, str]) -> Iterator[Callable[..., Robot]]:
    built: list[Robot] = []

    def build(**options: Any) -> Robot:
        built.append(Robot(**options))
        return built[-1]

    yield build
    for one in built:
        one.close()


Found = dict[tuple[str, str], Finding]


def look(bundle: BundleExpectation | None = None) -> tuple[Survey, Found]:
    heard = survey(SECONDS, SENSORS, EXECUTOR)
    findings = judge_survey(heard, SENSORS, EXECUTOR, bundle)
    assert all(f.ok or f.remedy for f in findings)
    return heard, {(f.group.split(":")[0], f.subject): f for f in findings}


def wrong(found: Found) -> set[tuple[str, str]]:
    return {key for key, finding in found.items() if finding.state == "wrong"}


def test_a_healthy_robot_is_heard_and_found_fit(
    robot: Callable[..., Robot], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    robot()
    monkeypatch.setattr(host, "examine", list)
    doctor_cli.doctor(live=(SECONDS,), json=tmp_path / "found.json")  # exits where it is not fit
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["fit"] is True
    found = {(f["group"].split(":")[0], f["subject"]): f for f in written["findings"]}
    for view in SENSORS.views:
        assert "/robot (best effort, volatile)" in found[view, "publisher"]["detail"]
        assert "160x120 rgb8" in found[view, "image"]["detail"]
        assert "behind this host's clock" in found[view, "stamps to clock"]["detail"]
    assert "frame_id 'base', 0.400, 0.000, 0.300" in found["pose", "content"]["detail"]
    assert "makes one of" in found["pairing", "observations"]["detail"]
    assert "to /robot" in found["commands", "/target_pose"]["detail"]
    assert "0 wrong" in capsys.readouterr().out


def test_a_survey_hears_every_message_once_and_knows_when_it_was_sent(
    robot: Callable[..., Robot],
) -> None:
    robot()
    heard, _ = look()
    pose = heard.streams["pose"]
    assert pose.count == len(pose.messages) >= 0.5 * SECONDS * 100
    assert len({m.stamp for m in pose.messages}) == pose.count
    for message in pose.messages:
        assert message.stamp <= message.source <= message.arrival
    assert "/robot" in heard.nodes
    assert heard.topics["/eef_pose"] == ("geometry_msgs/msg/PoseStamped",)


def test_a_survey_is_not_taken_for_the_arms_controller(robot: Callable[..., Robot]) -> None:
    one = robot()
    counts: list[int] = []
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            counts.append(one.commands.get_subscription_count())
            time.sleep(0.1)

    thread = threading.Thread(target=count)
    thread.start()
    look()
    done.set()
    thread.join()
    assert max(counts) <= 1, "the robot's own controller, and nobody else"


def test_a_camera_whose_stamps_lie_two_seconds_back_is_told(robot: Callable[..., Robot]) -> None:
    robot(behind={"third_person": 2.0})
    _, found = look()
    assert ("third_person", "stamps to clock") in wrong(found)
    assert found["wrist", "stamps to clock"].ok
    finding = found["third_person", "stamps to clock"]
    assert "2.0 s behind this host's clock" in finding.detail
    assert "already 2.0 s when it was sent" in finding.detail
    assert ("pairing", "clocks of cameras and arm") in wrong(found)
    assert ("pairing", "observations") in wrong(found)


def test_a_listener_that_a_best_effort_camera_cannot_reach_is_named(
    robot: Callable[..., Robot],
) -> None:
    one = robot()
    one.node.create_subscription(Image, "wrist/image_raw", lambda message: None, RELIABLE)
    _, found = look()
    finding = found["wrist", "quality of service"]
    assert finding.state == "look", "camera_sync itself asks for best effort"
    assert "/robot does not hear /robot" in finding.detail
    assert "best effort publisher and reliable subscription" in finding.detail
    assert ("third_person", "quality of service") not in found


def test_a_controller_that_asks_for_latched_commands_hears_none(
    robot: Callable[..., Robot],
) -> None:
    robot(controller=LATCHED)
    _, found = look()
    assert wrong(found) == {("commands", "/target_pose")}
    assert "transient local" in found["commands", "/target_pose"].detail


def test_a_size_unlike_the_demonstrations_is_told(robot: Callable[..., Robot]) -> None:
    robot()
    demonstrated = dict.fromkeys(SENSORS.views, (128, 128))
    bundle = BundleExpectation(SENSORS.views, (48, 48), 50_000_000, demonstrated=demonstrated)
    _, found = look(bundle)
    assert wrong(found) == {("bundle", f"size of {view}") for view in SENSORS.views}
    assert "set the camera to 128x128" in found["bundle", "size of wrist"].remedy


def test_a_topic_that_is_missing_and_one_in_another_namespace_are_told(
    robot: Callable[..., Robot],
) -> None:
    renamed = {"wrist/image_raw": "/cell/wrist/image_raw"}
    robot(without=("gripper_state",), rename=renamed)
    heard, found = look()
    assert {("gripper", "publisher"), ("wrist", "publisher")} <= wrong(found)
    assert "nobody publishes /gripper_state" in found["gripper", "publisher"].detail
    assert heard.streams["wrist"].count > 0
    assert "-r wrist/image_raw:=/cell/wrist/image_raw" in found["wrist", "publisher"].remedy


def test_a_camera_that_sends_compressed_images_only_is_told(robot: Callable[..., Robot]) -> None:
    one = robot(without=("wrist/image_raw",))
    one.node.create_publisher(CompressedImage, "wrist/image_raw/compressed", SENSOR)
    _, found = look()
    assert "compressed to true" in found["wrist", "publisher"].remedy


def test_simulated_time_is_what_stamps_are_held_against(robot: Callable[..., Robot]) -> None:
    robot(clock=True)
    heard, found = look()
    assert heard.clock
    assert wrong(found) == set()
    assert "/clock, spread" in found["pose", "stamps to clock"].detail
    assert "compared with it" in found["graph", "time"].detail


def test_a_domain_where_nobody_is_ends_in_time_and_says_what_to_do(
    ros_environment: dict[str, str],
) -> None:
    began = time.monotonic()
    heard = survey(1.0, SENSORS, EXECUTOR, domain=101)
    assert time.monotonic() - began < 15.0
    assert heard.domain == 101
    assert heard.nodes == ()
    finding = judge_survey(heard, SENSORS, EXECUTOR)[0]
    assert "--domain" in finding.remedy
    assert finding.state == "wrong"


@pytest.mark.skipif(HAS_TF2_MSGS, reason="tf2_msgs is installed")
def test_poses_from_tf_need_its_messages_and_the_survey_says_so(
    ros_environment: dict[str, str],
) -> None:
    findings = judge_survey(survey(1.0, FROM_TF, EXECUTOR), FROM_TF, EXECUTOR)
    told = [f for f in findings if "tf2_msgs is not installed" in f.detail]
    assert [f.state for f in told] == ["wrong"]
    assert "install tf2_msgs" in told[0].remedy


@pytest.mark.skipif(not HAS_TF2_MSGS, reason="POSES FROM TF NOT TESTED: no tf2_msgs")
def test_poses_from_tf_are_composed(robot: Callable[..., Robot]) -> None:
    one = robot()
    kind = importlib.import_module("tf2_msgs.msg").TFMessage
    publisher = one.node.create_publisher(kind, "/tf", RELIABLE)
    transform = TransformStamped(child_frame_id="tool")
    transform.header.frame_id = "base"
    transform.transform.translation.x, transform.transform.rotation.w = 0.4, 1.0

    def send() -> None:
        for _ in range(800):
            transform.header.stamp = to_time(time.time_ns())
            publisher.publish(kind(transforms=[transform]))
            time.sleep(0.01)

    thread = threading.Thread(target=send)
    thread.start()
    heard = survey(SECONDS, FROM_TF, EXECUTOR)
    thread.join()
    assert heard.streams["pose"].count > 0
    assert heard.streams["pose"].values[-1][0] == pytest.approx(0.4)
