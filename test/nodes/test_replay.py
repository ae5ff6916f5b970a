"""A bag into real subscribers: what comes, in which order, with which stamps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.signals import SignalHandlerOptions
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float64
from visualization_msgs.msg import Marker, MarkerArray

from alt_ros.bags.schedule import ReplayOptions
from alt_ros.errors import AltError, ConfigurationError, DataError
from alt_ros.messages import nanoseconds, stamp_of
from alt_ros.nodes.bag_player import LAP_GAP, BagPlayer
from alt_ros.nodes.conversions import to_time
from alt_ros.nodes.graph import Graph
from alt_ros.nodes.message_stamps import shift_stamps
from alt_ros.types import NANOSECONDS

ALT = Path(sys.executable).with_name("alt")
STORE = get_typestore(Stores.LATEST)
START, PERIOD, FRAMES = 63_000_000_000, 50_000_000, 20
IMAGE, POSE, MARKS, DONE = "/wrist/image_raw", "/eef_pose", "/marks", "/sim/done"
TARGET, GRIPPER = "/target_pose", "/target_gripper"
KINDS: dict[str, tuple[Any, str]] = {
    IMAGE: (Image, "sensor_msgs/msg/Image"),
    POSE: (PoseStamped, "geometry_msgs/msg/PoseStamped"),
    MARKS: (MarkerArray, "visualization_msgs/msg/MarkerArray"),
    DONE: (Bool, "std_msgs/msg/Bool"),
    TARGET: (PoseStamped, "geometry_msgs/msg/PoseStamped"),
    GRIPPER: (Float64, "std_msgs/msg/Float64"),
}
BEST_EFFORT = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
FAST = {"rate": 5.0, "wait": 5.0}
Message = tuple[str, int, bytes]


@cache  # serialised again, what fills gaps between fields would differ
def frame(number: int) -> list[Message]:
    """Return what is logged around a frame; the stamps are a few ms older."""
    at = START + PERIOD * number
    stamp = to_time(at - 4_000_000)
    image = Image(height=4, width=4, step=12, encoding="rgb8", data=bytes([number % 256] * 48))
    pose = PoseStamped()
    pose.pose.position.x = 0.01 * number
    mark, unstamped = Marker(id=number), Marker(id=1000)
    for message in (image, pose, mark):
        message.header.stamp = stamp
        message.header.frame_id = "base"
    every = [(IMAGE, image), (POSE, pose), (MARKS, MarkerArray(markers=[mark, unstamped]))]
    every += [(TARGET, pose), (GRIPPER, Float64(data=0.04))]
    if number in (2, 15):
        every.append((DONE, Bool(data=number == 15)))
    return [(topic, at + i, serialize_message(m)) for i, (topic, m) in enumerate(every)]


def offered(topic: str) -> list[Qos]:
    if topic != DONE:
        return []
    none = QosTime(0, 0)
    reliable, latched = QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL
    live = QosLiveliness.AUTOMATIC
    return [Qos(QosHistory.KEEP_LAST, 1, reliable, latched, none, none, live, none, False)]


def write_bag(path: Path, storage: StoragePlugin, frames: int = FRAMES) -> list[Message]:
    """Write a bag of an arm with a camera; return what it holds."""
    messages = [message for number in range(frames) for message in frame(number)]
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {
            topic: writer.add_connection(
                topic, kind, typestore=STORE, offered_qos_profiles=offered(topic)
            )
            for topic, (_, kind) in KINDS.items()
        }
        for topic, at, raw in messages:
            writer.write(connections[topic], at, raw)
    return messages


def of(messages: list[Message], topic: str) -> list[bytes]:
    return [raw for name, _, raw in messages if name == topic]


class Listener:
    """Subscribes to everything as it is serialised, and keeps the order of arrival."""

    def __init__(self, topics: tuple[str, ...] = (*KINDS, "/clock")) -> None:
        self.context = Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: list[tuple[str, bytes, float]] = []
        for topic in topics:
            # A sensor's subscriber is best effort, a recorder's reliable: both must be served.
            self.hear(topic, BEST_EFFORT if topic == IMAGE else RELIABLE)

    def hear(self, topic: str, quality: QoSProfile) -> None:
        kind = Clock if topic == "/clock" else KINDS[topic][0]

        def keep(raw: bytes) -> None:
            self.heard.append((topic, raw, time.monotonic()))

        self.node.create_subscription(kind, topic, keep, quality, raw=True)

    def of(self, topic: str) -> list[bytes]:
        return [raw for name, raw, _ in self.heard if name == topic]

    def stamps(self, topic: str) -> list[int]:
        return [stamp_of(deserialize_message(raw, KINDS[topic][0])) for raw in self.of(topic)]

    def clock(self) -> list[int]:
        return [nanoseconds(deserialize_message(raw, Clock).clock) for raw in self.of("/clock")]

    def listen(self, seconds: float, until: Callable[[], Any] = lambda: False) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.01)
            if until():
                return True
        return False

    def replay(self, bag: Path, until: Callable[[], Any] | None = None, **options: Any) -> Replay:
        """Replay a bag while listening: to its end, or until something is so."""
        replay = Replay(bag, ReplayOptions(**{**FAST, **options}), self.context)
        try:
            replay.begin()
            assert self.listen(40.0, until or replay.has_ended)
        finally:
            replay.end()
        self.listen(0.3)
        return replay

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


class Replay:
    """A player on a thread of its own, as the replay node has it."""

    def __init__(self, bag: Path, options: ReplayOptions, context: Context) -> None:
        self.said: list[str] = []
        self.node = Node("replay", context=context)
        self.error: AltError | None = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._play)
        try:
            self.player = BagPlayer(self.node, bag, options, self.said.append)
        except AltError:
            self.node.destroy_node()
            raise

    def begin(self) -> None:
        self.thread.start()

    def _play(self) -> None:
        try:
            self.player.play(self.stop)
        except AltError as error:
            self.error = error

    def has_ended(self) -> bool:
        return not self.thread.is_alive()

    def end(self) -> None:
        self.stop.set()
        self.thread.join()
        self.node.destroy_node()


@pytest.fixture
def listener(ros_environment: dict[str, str]) -> Iterator[Listener]:
    built = Listener()
    yield built
    built.close()


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "episode"
    write_bag(path, StoragePlugin.MCAP)
    return path


@pytest.mark.parametrize("storage", list(StoragePlugin), ids=lambda s: s.name)
def test_subscribers_hear_what_was_recorded_byte_for_byte_and_no_commands(
    listener: Listener, tmp_path: Path, storage: StoragePlugin
) -> None:
    written = write_bag(tmp_path / "bag", storage)
    replay = listener.replay(tmp_path / "bag", restamp=False)
    assert (replay.error, replay.player.problem) == (None, "")
    for topic in (IMAGE, POSE, MARKS, DONE):
        assert listener.of(topic) == of(written, topic), topic
    assert listener.of(TARGET) == listener.of(GRIPPER) == listener.of("/clock") == []
    assert "left out, it may move a robot: /target_gripper, /target_pose" in replay.said
    assert any("without /clock" in line for line in replay.said)
    assert replay.player.punctuality.messages == 3 * FRAMES + 2


def test_restamped_messages_are_of_now_and_as_far_apart_as_the_speed_says(
    listener: Listener, bag: Path
) -> None:
    before = time.time_ns()
    listener.replay(bag)
    after = time.time_ns()
    stamps = listener.stamps(POSE)
    assert listener.stamps(IMAGE) == stamps
    assert len(stamps) == FRAMES
    assert before - NANOSECONDS < stamps[0] < stamps[-1] < after
    gaps = [b - a for a, b in pairwise(stamps)]
    assert gaps == pytest.approx([PERIOD / 5] * (FRAMES - 1), abs=10)
    # Headers in an array too; one without a stamp stays so; nothing else changes.
    marks = [deserialize_message(raw, MarkerArray).markers for raw in listener.of(MARKS)]
    assert [nanoseconds(pair[0].header.stamp) for pair in marks] == stamps
    assert [pair[0].id for pair in marks] == list(range(FRAMES))
    assert all(pair[1].header.stamp == Time() and pair[1].id == 1000 for pair in marks)
    assert all(pair[0].header.frame_id == "base" for pair in marks)
    assert [raw[12:] for raw in listener.of(IMAGE)] == [
        raw[12:] for n in range(FRAMES) for raw in of(frame(n), IMAGE)
    ]


def test_the_clock_begins_with_the_bag_and_never_goes_back_or_past_it(
    listener: Listener, bag: Path
) -> None:
    listener.replay(bag, clock=200.0)
    clock = listener.clock()
    assert clock == sorted(clock)
    assert clock[0] == START
    last = START + PERIOD * (FRAMES - 1)
    assert last - PERIOD <= clock[-1] <= last + NANOSECONDS // 10
    assert len(set(clock)) > 5
    assert listener.of(POSE) == [raw for n in range(FRAMES) for raw in of(frame(n), POSE)]


@pytest.mark.parametrize("clock", [0.0, 200.0], ids=["restamped", "clock"])
def test_in_a_loop_stamps_go_on_after_a_gap(listener: Listener, bag: Path, clock: float) -> None:
    def three_laps() -> bool:
        return len(listener.of(POSE)) > 2 * FRAMES + 3

    replay = listener.replay(bag, three_laps, loop=True, clock=clock, rate=10.0)
    stamps = listener.stamps(POSE)
    assert stamps == sorted(set(stamps))
    gaps = [b - a for a, b in pairwise(stamps)]
    jumps = [place for place, gap in enumerate(gaps) if gap > NANOSECONDS]
    assert jumps == [FRAMES - 1, 2 * FRAMES - 1]
    assert all(LAP_GAP <= gaps[place] <= LAP_GAP + PERIOD for place in jumps)
    assert replay.player.lap == 2
    if clock:
        times = listener.clock()
        assert times == sorted(times)
        assert times[-1] >= stamps[-1] - NANOSECONDS // 10  # it ticks every 50 ms of the bag
        assert stamps[0] == START - 4_000_000


def test_start_and_duration_cut_out_a_part_and_latched_ones_come_before_it(
    listener: Listener, bag: Path
) -> None:
    replay = listener.replay(bag, start=0.2, duration=0.3, restamp=False)
    expected = [raw for n in range(4, 10) for raw in of(frame(n), POSE)]
    assert listener.of(POSE) == expected
    assert listener.of(DONE) == of(frame(2), DONE)  # latched at 0.1 s
    assert replay.player.position == pytest.approx(0.5, abs=0.01)


def test_a_latched_topic_serves_who_comes_late(ros_environment: dict[str, str], bag: Path) -> None:
    listener = Listener((POSE,))
    replay = Replay(bag, ReplayOptions(rate=1.0, wait=1.0), listener.context)
    try:
        replay.begin()
        assert listener.listen(20.0, lambda: len(listener.of(POSE)) > 4)
        listener.hear(DONE, LATCHED)
        assert listener.listen(5.0, lambda: listener.of(DONE))
        assert listener.of(DONE)[0] == of(frame(2), DONE)[0]
    finally:
        replay.end()
        listener.close()
    assert any(line.startswith("nobody listens to") and DONE in line for line in replay.said)


def test_the_speed_sets_when_messages_come(listener: Listener, bag: Path) -> None:
    seconds = PERIOD * (FRAMES - 1) / NANOSECONDS
    listener.replay(bag, rate=0.5)
    arrivals = [at for topic, _, at in listener.heard if topic == POSE]
    assert arrivals[-1] - arrivals[0] > 2 * seconds - 0.2


def test_what_is_named_is_replayed_under_another_name_and_told(
    listener: Listener, bag: Path
) -> None:
    replay = listener.replay(
        bag, topics=("/target_*", POSE), remap={POSE: TARGET, TARGET: POSE}, restamp=False
    )
    assert len(listener.of(TARGET)) == len(listener.of(POSE)) == FRAMES
    assert len(listener.of(GRIPPER)) == FRAMES
    assert listener.of(IMAGE) == []
    warning = next(line for line in replay.said if line.startswith("MAY MOVE A ROBOT"))
    assert all(topic in warning for topic in (TARGET, GRIPPER, POSE))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 100.0}, "start must be within the bag's 0.95 s"),
        ({"remap": {TARGET: "/x"}}, "not replayed: /target_pose"),
        ({"remap": {POSE: IMAGE}}, "two topics on /wrist/image_raw"),
        ({"topics": ("/none",)}, "no topic is '/none'"),
    ],
    ids=["start", "left-out", "doubled", "topic"],
)
def test_options_that_do_not_fit_the_bag_are_refused(
    listener: Listener, bag: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        listener.replay(bag, **options)


def test_a_second_clock_is_refused(listener: Listener, bag: Path) -> None:
    listener.node.create_publisher(Clock, "/clock", RELIABLE)
    replay = listener.replay(bag, clock=100.0)
    assert isinstance(replay.error, ConfigurationError)
    assert "somebody else publishes /clock" in str(replay.error)
    assert listener.heard == []


def test_a_driver_that_publishes_too_is_told(listener: Listener, bag: Path) -> None:
    listener.node.create_publisher(PoseStamped, POSE, RELIABLE)
    replay = listener.replay(bag)
    assert "somebody else publishes too, both are mixed: /eef_pose" in replay.said


def test_of_a_cut_bag_what_is_before_the_cut_is_replayed(
    listener: Listener, tmp_path: Path
) -> None:
    frames = 400
    written = write_bag(tmp_path / "bag", StoragePlugin.MCAP, frames)
    file = next((tmp_path / "bag").glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:-2000])  # the index at the end
    replay = listener.replay(tmp_path / "bag", rate=20.0, restamp=False)
    heard = listener.of(POSE)
    assert heard
    assert heard == of(written, POSE)[: len(heard)]
    assert any("was cut off: what is before the cut is replayed" in line for line in replay.said)
    assert replay.player.problem == ""


def test_a_bag_without_messages_is_refused(listener: Listener, tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", StoragePlugin.MCAP, frames=0)
    with pytest.raises(DataError, match="holds no message"):
        listener.replay(tmp_path / "bag")


def test_messages_without_stamps_stay_as_they_are() -> None:
    raw = serialize_message(Float64(data=0.5))
    assert shift_stamps(raw, Float64, lambda stamp: stamp + 1) == raw


def test_a_clock_is_stamped_although_it_has_no_header() -> None:
    raw = serialize_message(Clock(clock=to_time(5)))
    moved = deserialize_message(shift_stamps(raw, Clock, lambda stamp: stamp + 2), Clock)
    assert nanoseconds(moved.clock) == 7


Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def command() -> Iterator[Command]:
    """Start `alt replay`; what a test leaves running ends with it."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [ALT, "replay", *map(str, arguments)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"COLUMNS": "160", "TERM": "dumb"},
            # A shell's background jobs ignore it, and what they start too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_command_replays_to_the_end(command: Command, listener: Listener, bag: Path) -> None:
    process = command(bag, "--wait-for-subscribers", "5", "--no-restamp")
    assert listener.listen(40.0, lambda: process.poll() is not None)
    listener.listen(0.3)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "replayed to 0.95 s: 62 messages, worst lateness" in said
    assert listener.of(IMAGE) == [raw for n in range(FRAMES) for raw in of(frame(n), IMAGE)]


def test_ctrl_c_ends_the_command_with_one_line(
    command: Command, listener: Listener, bag: Path
) -> None:
    process = command(bag, "--loop", "--clock")
    assert listener.listen(40.0, lambda: len(listener.of(POSE)) > 3)
    assert listener.clock()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20.0)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1].startswith("stopped: replayed to 0.")


def test_the_command_refuses_what_is_not_there(
    command: Command, ros_environment: dict[str, str], tmp_path: Path
) -> None:
    process = command(tmp_path / "none")
    said = process.communicate(timeout=40.0)[1]
    assert (process.returncode, said) == (2, f"alt: bag '{tmp_path / 'none'}' does not exist\n")


def test_the_node_ends_with_the_bag(
    listener: Listener, bag: Path, make_graph: Callable[..., Graph]
) -> None:
    graph = make_graph(sim=False)
    graph.start("replay", {"bag": bag, "restamp": False, "wait_for_subscribers": 5.0})
    assert listener.listen(40.0, lambda: graph.has_ended("replay"))
    listener.listen(0.3)
    assert graph.process("replay").returncode == 0
    assert listener.of(IMAGE) == [raw for n in range(FRAMES) for raw in of(frame(n), IMAGE)]


def test_the_node_waits_for_what_it_is_to_come_after(
    listener: Listener, bag: Path, make_graph: Callable[..., Graph]
) -> None:
    graph = make_graph(sim=False)
    graph.start("replay", {"bag": bag, "after": [GRIPPER], "loop": True})
    listener.listen(6.0)
    assert listener.heard == []
    listener.node.create_publisher(Float64, GRIPPER, RELIABLE)
    assert listener.listen(20.0, lambda: len(listener.of(POSE)) > 3)
    assert not graph.has_ended("replay")
    process = graph.process("replay")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20.0) == 0


def test_the_node_refuses_a_bag_that_is_not_there(make_graph: Callable[..., Graph]) -> None:
    graph = make_graph(sim=False)
    graph.start("replay", {"bag": "/none"})
    assert graph.process("replay").wait(40.0) == 1
    with pytest.raises(AltError, match="bag '/none' does not exist"):
        graph.check()
