"""Listens to a live graph for some seconds and says what was heard; it judges nothing.

The sensors' topics are subscribed to as camera_sync subscribes to them. Commands are not: who
listens to them counts as the arm's controller. Nothing is published but what every node publishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CompressedImage, Image, JointState

from alt_ros.errors import DataError
from alt_ros.messages import image_of, nanoseconds, opening_of, pose_of, stamp_of, transforms_of
from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.executor_parameters import ExecutorParameters
from alt_ros.nodes.node import NEWEST, RELIABLE, SENSOR
from alt_ros.nodes.topic_record import (
    COMPRESSED,
    IMAGE,
    MOST_NAMES,
    Endpoint,
    Ends,
    Message,
    StreamRecord,
    Survey,
    note,
    resolve,
    wanted_streams,
)
from alt_ros.transforms import TransformChain

DISCOVERY_SECONDS = 3.0
"""So long is waited for topics that are not there."""
SETTLING_SECONDS = 1.0
"""So long at least, for the types of those that are there and for other nodes."""
DECODED_EVERY = 1.0
"""An image is decoded so often, s: decoding all would keep this from listening."""
NODE = "alt_doctor"
COMMANDS = {
    "pose": "/target_pose",
    "twist": "/target_twist",
    "joint_trajectory": "/joint_trajectory",
}
GRIPPER_COMMAND = "/target_gripper"
_KEEP_LAST = HistoryPolicy.KEEP_LAST
# As camera_sync subscribes to transforms: what tf2's broadcasters offer.
_TF = QoSProfile(history=_KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
_TF_STATIC = QoSProfile(
    history=_KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def survey(
    seconds: float,
    sensors: CameraSyncParameters,
    executor: ExecutorParameters,
    *,
    domain: int | None = None,
) -> Survey:
    """Listen and return what was heard; after discovery and ``seconds`` at the latest.

    Args:
        seconds: How long.
        sensors: Which topics camera_sync takes.
        executor: Which commands the executor sends.
        domain: ROS_DOMAIN_ID; the surroundings' unless given.
    """
    context = Context()
    context.init(domain_id=domain)
    node = Node(NODE, context=context, enable_rosout=False, start_parameter_services=False)
    spinner = SingleThreadedExecutor(context=context)
    spinner.add_node(node)
    try:
        return _Listener(node, spinner, sensors, executor).listen(seconds)
    finally:
        spinner.shutdown()
        node.destroy_node()
        context.try_shutdown()


class _Listener:
    """One node that listens."""

    def __init__(
        self,
        node: Node,
        spinner: SingleThreadedExecutor,
        sensors: CameraSyncParameters,
        executor: ExecutorParameters,
    ) -> None:
        self._node = node
        self._spinner = spinner
        self._sensors = sensors
        self._commands = (COMMANDS[executor.output], GRIPPER_COMMAND)
        self._streams = wanted_streams(sensors)
        self._clock = 0
        self._decoded_at: dict[str, float] = {}
        self._diagnostics: dict[str, tuple[int, str]] = {}
        self._chain: TransformChain | None = None

    def listen(self, seconds: float) -> Survey:
        """Find the topics, hear them, look who is on them."""
        self._discover()
        heard = self._heard_by_camera_sync()
        resolve(self._streams, self._published(), heard)
        self._subscribe()
        self._spin(seconds)
        if self._chain is not None:
            self._streams["pose"].trouble = self._chain.problem
        for stream in self._streams.values():
            stream.ends = self._ends(stream.topic, _quality_of(stream))
            if stream.topic == "/tf":
                static = self._ends("/tf_static", _TF_STATIC)
                both = stream.ends.mismatches + static.mismatches
                stream.ends = replace(stream.ends, mismatches=both)
        return Survey(
            seconds=seconds,
            domain=self._node.context.get_domain_id(),
            streams=self._streams,
            commands={topic: self._ends(topic, None) for topic in self._commands},
            nodes=self._nodes(),
            topics=self._published(),
            clock=self._node.count_publishers("/clock") > 0,
            diagnostics=self._diagnostics,
        )

    def _spin(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not until():
            self._spinner.spin_once(timeout_sec=min(left, 0.1))

    def _discover(self) -> None:
        self._spin(SETTLING_SECONDS)
        wanted = [stream.wanted for stream in self._streams.values()]
        self._spin(
            DISCOVERY_SECONDS - SETTLING_SECONDS,
            lambda: all(self._node.count_publishers(topic) for topic in wanted),
        )

    def _published(self) -> dict[str, tuple[str, ...]]:
        return {
            topic: tuple(kinds)
            for topic, kinds in self._node.get_topic_names_and_types()
            if self._node.count_publishers(topic)
        }

    def _nodes(self) -> tuple[str, ...]:
        names = self._node.get_node_names_and_namespaces()
        return tuple(sorted(_joined(space, name) for name, space in names if name != NODE))

    def _heard_by_camera_sync(self) -> list[str]:
        """Return what a running camera_sync listens to: its remappings are in force there."""
        heard: list[str] = []
        for name, space in self._node.get_node_names_and_namespaces():
            if name == "camera_sync":
                topics = self._node.get_subscriber_names_and_types_by_node(name, space)
                heard += [topic for topic, _ in topics]
        return heard

    def _subscribe(self) -> None:
        create = self._node.create_subscription
        for stream in self._streams.values():
            if stream.kind in (IMAGE, COMPRESSED):
                kind = Image if stream.kind == IMAGE else CompressedImage
                create(kind, stream.topic, self._on(stream, self._on_image), SENSOR)
        gripper = self._streams["gripper"]
        create(JointState, gripper.topic, self._on(gripper, self._on_gripper), SENSOR)
        pose = self._streams["pose"]
        if self._sensors.pose_source == "topic":
            create(PoseStamped, pose.topic, self._on(pose, self._on_pose), SENSOR)
        else:
            self._subscribe_transforms(pose)
        create(ClockMessage, "/clock", self._on_clock, NEWEST)
        create(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)

    def _subscribe_transforms(self, pose: StreamRecord) -> None:
        p, config = self._sensors, self._sensors.synchronization()
        self._chain = TransformChain(
            p.base_frame, p.eef_frame, config.max_bracket, config.clock_jump
        )
        try:
            kind = import_module("tf2_msgs.msg").TFMessage
        except ImportError:
            pose.trouble = "the package tf2_msgs is not installed"
            self._chain = None
            return
        for topic, is_static, quality in (("/tf", False, _TF), ("/tf_static", True, _TF_STATIC)):
            callback = partial(self._on_transforms, pose, is_static)
            self._node.create_subscription(kind, topic, _with_info(callback), quality)

    def _on(
        self, stream: StreamRecord, take: Callable[[StreamRecord, Any], None]
    ) -> Callable[[Any, Any], None]:
        def callback(message: Any, info: Mapping[str, int]) -> None:
            stream.add(self._times(stamp_of(message), info), str(message.header.frame_id))
            take(stream, message)

        return callback

    def _times(self, stamp: int, info: Mapping[str, int]) -> Message:
        # Not every middleware says when a message was received; then it was now.
        arrival = info["received_timestamp"] or time.time_ns()
        return Message(arrival, stamp, max(info["source_timestamp"], 0), self._clock)

    def _on_image(self, stream: StreamRecord, message: Any) -> None:
        if stream.kind == IMAGE:
            note(stream.encodings, str(message.encoding))
            _note_size(stream, (int(message.height), int(message.width)))
        else:
            note(stream.encodings, str(message.format))
        now = time.monotonic()
        if now - self._decoded_at.get(stream.role, -DECODED_EVERY) < DECODED_EVERY:
            return
        self._decoded_at[stream.role] = now
        try:
            image = image_of(message)
        except DataError as error:
            stream.trouble = str(error)
            return
        stream.contrast = float(np.std(image))
        if stream.kind == COMPRESSED:
            _note_size(stream, (image.shape[0], image.shape[1]))

    def _on_pose(self, stream: StreamRecord, message: Any) -> None:
        stream.values.append(tuple(pose_of(message.pose).tolist()))

    def _on_gripper(self, stream: StreamRecord, message: Any) -> None:
        try:
            stream.values.append((opening_of(message, self._sensors.gripper_joint),))
        except DataError as error:
            stream.trouble = str(error)

    def _on_transforms(
        self, stream: StreamRecord, is_static: bool, message: Any, info: Mapping[str, int]
    ) -> None:
        assert self._chain is not None
        for parent, child, stamp, transform in transforms_of(message):
            for at, pose in self._chain.add(parent, child, stamp, transform, is_static=is_static):
                stream.add(self._times(at, info), self._chain.base)
                stream.values.append(tuple(pose.tolist()))

    def _on_clock(self, message: Any) -> None:
        self._clock = nanoseconds(message.clock)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            if status.name.startswith("alt: "):
                level = int.from_bytes(status.level, "little")
                self._diagnostics[status.name.removeprefix("alt: ")] = (level, status.message)

    def _ends(self, topic: str, ours: QoSProfile | None) -> Ends:
        """Return who is on a topic; with ``ours``, what camera_sync asks for is held to it too."""
        node = self._node
        publishers = node.get_publishers_info_by_topic(topic)
        subscribers = [
            end for end in node.get_subscriptions_info_by_topic(topic) if end.node_name != NODE
        ]
        asked = {_name(end): end.qos_profile for end in subscribers}
        if ours is not None and not any(end.node_name == "camera_sync" for end in subscribers):
            asked["camera_sync, when it runs,"] = ours
        mismatches: list[str] = []
        unheard: list[str] = []
        for name, quality in asked.items():
            reasons = [_reason(end, quality) for end in publishers]
            mismatches += [
                f"{name} does not hear {_name(end)} ({reason})"
                for end, reason in zip(publishers, reasons, strict=True)
                if reason
            ]
            if reasons and all(reasons):
                unheard.append(name)
        return Ends(
            publishers=tuple(_endpoint(end) for end in publishers),
            subscribers=tuple(_endpoint(end) for end in subscribers),
            mismatches=tuple(mismatches),
            unheard=tuple(unheard),
        )


def _with_info(callback: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Return a function whose two parameters rclpy can count."""

    def called(message: Any, info: Any) -> None:
        callback(message, info)

    return called


def _quality_of(stream: StreamRecord) -> QoSProfile:
    return _TF if stream.topic == "/tf" else SENSOR


def _note_size(stream: StreamRecord, size: tuple[int, int]) -> None:
    if size in stream.sizes or len(stream.sizes) < MOST_NAMES:
        stream.sizes[size] += 1


def _reason(publisher: Any, quality: QoSProfile) -> str:
    """Return why a subscription of a quality does not hear a publisher; empty where it does."""
    compatibility, reason = qos_check_compatible(publisher.qos_profile, quality)
    if compatibility != QoSCompatibility.ERROR:
        return ""
    return reason.removeprefix("ERROR: ").strip(" ;").lower()


def _endpoint(end: Any) -> Endpoint:
    profile = end.qos_profile
    words = (profile.reliability.name, profile.durability.name)
    return Endpoint(_name(end), ", ".join(w.replace("_", " ").lower() for w in words))


def _name(end: Any) -> str:
    return _joined(end.node_namespace, end.node_name)


def _joined(namespace: str, name: str) -> str:
    return f"{namespace.rstrip('/')}/{name}"
