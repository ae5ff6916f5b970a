"""When a bag's messages are due in a replay, which of them, and with which stamps: without ROS.

Notation: ``time`` is when a message was logged, ``stamp`` what its header says, both in ns; a
``lap`` is one pass through the bag, counted from 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import sub
from statistics import median_low

from alt_ros.errors import ConfigurationError
from alt_ros.types import NANOSECONDS

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CLOCK = "/clock"
OTHER_CLOCK = 60 * NANOSECONDS
"""Stamps that differ from the log times by more than this are of another clock, ns."""
USUAL_FRAME = NANOSECONDS // 20

# What may move a robot: told by a word of the name, or by the type.
COMMAND_WORDS = frozenset(
    f"{word}{plural}"
    for word in ("target", "command", "cmd", "goal", "setpoint", "reference", "desired")
    for plural in ("", "s")
)
COMMAND_TYPES = (
    "trajectory_msgs/",
    "geometry_msgs/msg/Twist",
    "control_msgs/msg/JointJog",
    "sensor_msgs/msg/Joy",
)
ROS_TYPES = ("rcl_interfaces/", "diagnostic_msgs/", "lifecycle_msgs/", "rosbag2_interfaces/")


@dataclass(frozen=True)
class ReplayOptions:
    """What is replayed, and how.

    Attributes:
        topics: Names or patterns (``/wrist/*``); none takes the sensors'.
        remap: Topic in the bag to topic in the graph.
        rate: Speed, 1 as recorded.
        start: Where to begin, s after the bag's first message.
        duration: How much of it, s; 0 for all.
        loop: Begin anew at the end.
        clock: How often /clock is published, 1/s; 0 for not at all.
        restamp: Without /clock: shift stamps to now.
        wait: How long subscribers are waited for, s.
        after: Topics that somebody must publish first: what the replay is for has loaded.

    Raises:
        ConfigurationError: A value is out of bounds.
    """

    topics: tuple[str, ...] = ()
    remap: Mapping[str, str] | None = None
    rate: float = 1.0
    start: float = 0.0
    duration: float = 0.0
    loop: bool = False
    clock: float = 0.0
    restamp: bool = True
    wait: float = 2.0
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rate", "start", "duration", "clock", "wait"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0.0 or (name == "rate" and value == 0.0):
                bound = "more than 0" if name == "rate" else "0 or more"
                raise ConfigurationError(f"replay: {name} must be {bound}, got {value:g}")


def parse_remap(rules: Iterable[str]) -> dict[str, str]:
    """Return topic to topic from ``FROM=TO`` (or ROS's ``FROM:=TO``).

    Raises:
        ConfigurationError: A rule is not of that form, or two begin with the same topic.
    """
    remap: dict[str, str] = {}
    for rule in rules:
        source, _, sink = rule.replace(":=", "=").partition("=")
        if not source or not sink or absolute(source) in remap:
            raise ConfigurationError(
                f"replay: remap must be FROM=TO, each topic once, got '{rule}'"
            )
        remap[absolute(source)] = absolute(sink)
    return remap


def absolute(topic: str) -> str:
    """Return a topic's name as bags have it."""
    return topic if topic.startswith("/") else f"/{topic}"


def may_command(topic: str, kind: str) -> bool:
    """Return whether a topic may move a robot, by its name or type."""
    words = {word for part in topic.lower().split("/") for word in part.split("_")}
    return bool(words & COMMAND_WORDS) or kind.startswith(COMMAND_TYPES)


def reason_to_leave_out(topic: str, kind: str) -> str:
    """Return why a topic is not replayed unless it is named; empty for a sensor's."""
    parts = topic.split("/")
    if topic == CLOCK:
        return "the replay has a clock of its own"
    if "alt" in parts:
        return "the graph makes it"
    if may_command(topic, kind):
        return "it may move a robot"
    if kind.startswith(ROS_TYPES) or topic == "/rosout" or any(p.startswith("_") for p in parts):
        return "ROS makes it"
    return ""


def select_topics(
    types: Mapping[str, str], patterns: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Return the topics to replay, by name, and those left out unasked with the reason.

    Args:
        types: Topic to type, ``sensor_msgs/msg/Image``.
        patterns: Names or patterns that were asked for; none takes the sensors'.

    Raises:
        ConfigurationError: A pattern fits no topic, or nothing but /clock; no topic is a sensor's.
    """
    held = f"the bag holds {', '.join(sorted(types)) or 'no topics'}"
    if not patterns:
        left_out = {t: r for t, kind in types.items() if (r := reason_to_leave_out(t, kind))}
        chosen = sorted(set(types) - set(left_out))
        if not chosen:
            raise ConfigurationError(
                f"replay: no topic is a sensor's, name some with --topics; {held}"
            )
        return chosen, dict(sorted(left_out.items()))
    found: set[str] = set()
    for pattern in patterns:
        fitting = {topic for topic in types if fnmatchcase(topic, absolute(pattern))} - {CLOCK}
        if not fitting and absolute(pattern) == CLOCK:
            raise ConfigurationError("replay: a recorded /clock cannot be sped up: take --clock")
        if not fitting:
            raise ConfigurationError(f"replay: no topic is '{pattern}': {held}")
        found |= fitting
    return sorted(found), {}


@dataclass(frozen=True)
class Timeline:
    """When what is due, and which stamp it gets.

    Attributes:
        first, last: Log times between which a lap runs, ns.
        rate: Speed.
        gap: Pause between two laps as stamps show it, ns.
        origin: System time at the start, ns, where stamps are shifted to it; None where they stay
            the bag's.
        ahead: How far stamps are ahead of log times where they are of another clock, ns.
    """

    first: int
    last: int
    rate: float = 1.0
    gap: int = 0
    origin: int | None = None
    ahead: int = 0

    @property
    def lap_length(self) -> int:
        """Bag time from the start of a lap to that of the next, ns."""
        gap = self.gap if self.origin is None else round(self.gap * self.rate)
        return self.last - self.first + gap

    def due(self, time: int, lap: int = 0) -> int:
        """Return when a message is due, ns after the start."""
        return round((lap * self.lap_length + time - self.first) / self.rate)

    def stamp(self, stamp: int, lap: int = 0) -> int:
        """Return what a stamp becomes, ns; 0, which is none, stays."""
        if stamp == 0:
            return 0
        if self.origin is None:
            return stamp + lap * self.lap_length
        return max(self.origin + self.due(stamp - self.ahead, lap), 1)

    def keeps_stamps(self, lap: int) -> bool:
        """Return whether a lap's messages go out as they are."""
        return self.origin is None and lap == 0

    def clock(self, elapsed: int) -> int:
        """Return what /clock says so long after the start, ns."""
        return self.first + self.ahead + round(elapsed * self.rate)


def clock_ahead(first_messages: Iterable[tuple[int, int]]) -> int:
    """Return how far stamps are ahead of log times, ns; 0 where both are of one clock.

    A bag of a simulation that was recorded without its clock has such stamps.

    Args:
        first_messages: (log time, stamp) of every stamped topic's first message.
    """
    ahead = [stamp - time for time, stamp in first_messages if stamp]
    least = min(ahead, key=abs, default=0)
    return least if abs(least) > OTHER_CLOCK else 0


def frame_period(images: Iterable[tuple[str, int]]) -> int:
    """Return the usual time between frames of the fastest camera, ns; 50 ms where none is known.

    Args:
        images: (topic, log time) of some images.
    """
    times: dict[str, list[int]] = {}
    for topic, time in images:
        times.setdefault(topic, []).append(time)
    periods = [median_low(map(sub, at[1:], at)) for at in times.values() if len(at) > 1]
    return min((period for period in periods if period > 0), default=USUAL_FRAME)


@dataclass
class Punctuality:
    """How late messages went out.

    Attributes:
        frame: What counts as late, ns.
        messages: How many there were.
        late: How many were late.
        worst: The largest lateness, ns.
    """

    frame: int
    messages: int = 0
    late: int = 0
    worst: int = 0

    def add(self, lateness: int) -> None:
        """Count a message that went out so long after it was due, ns."""
        self.messages += 1
        self.late += lateness > self.frame
        self.worst = max(self.worst, lateness)

    def __str__(self) -> str:
        return (
            f"{self.messages:,} messages, worst lateness {self.worst / 1e6:.1f} ms, {self.late:,} "
            f"late by more than a frame ({self.frame / 1e6:.0f} ms)"
        )
