"""What a survey of the live graph keeps, in bounded memory; known without rclpy."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters

MOST_MESSAGES = 20_000
MOST_NAMES = 8
"""Different frame_ids, encodings and sizes that are kept of one stream."""
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
POSE = "geometry_msgs/msg/PoseStamped"
JOINTS = "sensor_msgs/msg/JointState"
TRANSFORMS = "tf2_msgs/msg/TFMessage"


@dataclass(frozen=True)
class Message:
    """When one message was, ns.

    Attributes:
        arrival: This host's clock when it was received.
        stamp: Its header's.
        source: The publishing host's clock when it was sent; 0 where that is not told.
        clock: The last of /clock; 0 before there was one.
    """

    arrival: int
    stamp: int
    source: int = 0
    clock: int = 0


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscription.

    Attributes:
        node: Its node, with the namespace.
        quality: Reliability and durability in words.
    """

    node: str
    quality: str


@dataclass(frozen=True)
class Ends:
    """Who is on a topic.

    Attributes:
        publishers: Who sends.
        subscribers: Who listens, this survey left out.
        mismatches: Pairs that do not hear each other, in words.
        unheard: Subscribers that hear none of the publishers for their quality of service.
    """

    publishers: tuple[Endpoint, ...] = ()
    subscribers: tuple[Endpoint, ...] = ()
    mismatches: tuple[str, ...] = ()
    unheard: tuple[str, ...] = ()


@dataclass
class StreamRecord:
    """What came on one topic.

    Attributes:
        role: A view, ``pose`` or ``gripper``.
        wanted: Topic as camera_sync resolves it.
        kind: Its type.
        topic: Topic that was listened to.
        found: How that was found, where it is not the wanted one.
        remedy: What makes the wanted one of it, where it is not.
        ends: Who is on it.
        messages: The newest ones.
        count: All of them.
        frame_ids, encodings: As sent, each with its number of messages.
        sizes: (height, width) in pixels, each with its number of messages.
        values: Poses (7,), or openings (1,): the newest ones.
        trouble: Why a message cannot be used; empty where all can.
        contrast: Standard deviation of the last image's pixels; None where none was decoded.
    """

    role: str
    wanted: str
    kind: str
    topic: str = ""
    found: str = ""
    remedy: str = ""
    ends: Ends = Ends()
    messages: deque[Message] = field(default_factory=lambda: deque(maxlen=MOST_MESSAGES))
    count: int = 0
    frame_ids: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    values: deque[tuple[float, ...]] = field(default_factory=lambda: deque(maxlen=MOST_MESSAGES))
    trouble: str = ""
    contrast: float | None = None

    def add(self, message: Message, frame_id: str) -> None:
        """Take a message's times and frame."""
        self.messages.append(message)
        self.count += 1
        note(self.frame_ids, frame_id)


def note(counter: Counter[str], value: str) -> None:
    """Count a value; a stream that gives ever new ones fills no memory."""
    if value in counter or len(counter) < MOST_NAMES:
        counter[value] += 1


@dataclass
class Survey:
    """What was heard of a graph.

    Attributes:
        seconds: How long was listened.
        domain: ROS_DOMAIN_ID.
        streams: By role, in camera_sync's order.
        commands: Topic that the arm's controller listens to, to who is on it.
        nodes: Every node but this survey, with its namespace.
        topics: Every topic with a publisher, with its types.
        clock: Whether /clock is published.
        diagnostics: Name of a status of /diagnostics to its last level (0 to 3) and text.
    """

    seconds: float
    domain: int
    streams: dict[str, StreamRecord]
    commands: dict[str, Ends] = field(default_factory=dict[str, Ends])
    nodes: tuple[str, ...] = ()
    topics: dict[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    clock: bool = False
    diagnostics: dict[str, tuple[int, str]] = field(default_factory=dict[str, "tuple[int, str]"])


def wanted_streams(parameters: CameraSyncParameters) -> dict[str, StreamRecord]:
    """Return an empty record for every stream that camera_sync takes."""
    streams: dict[str, StreamRecord] = {}
    kind, ending = (
        (COMPRESSED, "image_raw/compressed") if parameters.compressed else (IMAGE, "image_raw")
    )
    for view in parameters.views:
        streams[view] = StreamRecord(view, f"/{view}/{ending}", kind)
    pose = ("/tf", TRANSFORMS) if parameters.pose_source == "tf" else ("/eef_pose", POSE)
    streams["pose"] = StreamRecord("pose", *pose)
    streams["gripper"] = StreamRecord("gripper", "/gripper_state", JOINTS)
    return streams


def resolve(
    streams: Mapping[str, StreamRecord],
    topics: Mapping[str, Sequence[str]],
    heard: Collection[str] = (),
) -> None:
    """Say for every stream which topic is listened to, and how it was found.

    Args:
        streams: From ``wanted_streams``; ``topic``, ``found`` and ``remedy`` are set.
        topics: Topics that have a publisher, with their types.
        heard: Topics that a running camera_sync listens to.
    """
    taken = {s.wanted for s in streams.values() if s.kind in topics.get(s.wanted, ())}
    for stream in streams.values():
        stream.topic = stream.wanted
        if stream.wanted in taken:
            continue
        name, how = _elsewhere(stream, topics, [t for t in heard if t not in taken], taken)
        if name:
            taken.add(name)
            stream.topic, stream.found = name, how
            listens = name in heard
            stream.remedy = "" if listens else f"-r {stream.wanted[1:]}:={name}"
            if not listens and name.endswith(stream.wanted):
                namespace = name.removesuffix(stream.wanted)
                stream.remedy += f", or start the graph in the namespace {namespace}"
        else:
            stream.remedy = _of_another_type(stream, topics)


def _elsewhere(
    stream: StreamRecord,
    topics: Mapping[str, Sequence[str]],
    heard: Sequence[str],
    taken: Collection[str],
) -> tuple[str, str]:
    """Return the one topic that can be meant and why, or nothing."""
    of_type = [t for t, kinds in topics.items() if stream.kind in kinds and t not in taken]
    word = stream.role.casefold()
    named = [t for t in of_type if word in t.casefold()]
    for candidates, how in (
        ([t for t in of_type if t in heard and t.endswith(stream.wanted)], "camera_sync hears it"),
        ([t for t in of_type if t in heard], "camera_sync hears it"),
        ([t for t in of_type if t.endswith(stream.wanted)], "in another namespace"),
        (named, "by its name"),
        (of_type, "the only one of its type"),
    ):
        if len(candidates) == 1:
            return candidates[0], how
    return "", ""


def _of_another_type(stream: StreamRecord, topics: Mapping[str, Sequence[str]]) -> str:
    """Return what to do where only the other kind of image is sent; else nothing."""
    if stream.wanted in topics:
        return f"{stream.wanted} is of type {', '.join(topics[stream.wanted])}, not {stream.kind}"
    if stream.kind == IMAGE and COMPRESSED in topics.get(f"{stream.wanted}/compressed", ()):
        return "set camera_sync's parameter compressed to true"
    raw = stream.wanted.removesuffix("/compressed")
    if stream.kind == COMPRESSED and IMAGE in topics.get(raw, ()):
        return "set camera_sync's parameter compressed to false"
    return ""
