"""Publishes a bag's messages when they are due: what ``alt replay`` and the node replay share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from alt_ros.bags.contents import read_contents
from alt_ros.bags.reading import latched_depths, read_raw
from alt_ros.bags.schedule import (
    CLOCK,
    IMAGES,
    Punctuality,
    ReplayOptions,
    Timeline,
    clock_ahead,
    frame_period,
    may_command,
    select_topics,
)
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.messages import raw_stamp
from alt_ros.nodes.conversions import to_time
from alt_ros.nodes.message_stamps import message_class, shift_stamps, stamps_of
from alt_ros.nodes.node import RELIABLE
from alt_ros.types import NANOSECONDS

Progress = Callable[[int, int], None]
"""Called with (done, total), s of bag time."""

# What a reliable subscriber has not got yet is kept, also when a replay catches up in a burst.
LARGE = (*IMAGES, "sensor_msgs/msg/PointCloud2")
LARGE_DEPTH, DEPTH = 50, 1000
TF_STATIC, TF_STATIC_DEPTH = "/tf_static", 100
# Between two laps stamps jump further than what tells the lookup that a new episode begins.
LAP_GAP = RetrievalConfig().reset_gap + NANOSECONDS // 2
# The subscriber learns of us a little after we learn of it.
SETTLING_SECONDS = 0.5
LOADING_SECONDS = 120.0
FIRST_MESSAGES = 200
PROGRESS_PERIOD = NANOSECONDS // 10
ACKNOWLEDGED = Duration(seconds=1)


class BagPlayer:
    """A bag and the publishers of its topics.

    Args:
        node: Publishes; nothing is subscribed to, so it need not be spun.
        path: Bag folder or file.
        options: What is replayed, and how.
        say: Takes one line at a time of what the user should know.

    Attributes:
        punctuality: How late messages went out so far.
        position: Bag time since the bag's first message, s.
        lap: The present pass.
        problem: Why the replay ended before the bag; empty otherwise.

    Raises:
        DataError: The bag cannot be read, or holds nothing of what is replayed.
        ConfigurationError: The options do not fit the bag.
    """

    def __init__(
        self, node: Node, path: Path, options: ReplayOptions, say: Callable[[str], None]
    ) -> None:
        self._node, self._path, self._options, self._say = node, path, options, say
        self.position, self.lap, self.problem = 0.0, 0, ""
        contents = read_contents(path)
        if contents.messages == 0:
            raise DataError(f"bag '{path}' holds no message: record it again")
        chosen, left_out = select_topics(contents.types, options.topics)
        self._kinds: dict[str, type[Any]] = {}
        for topic in chosen:
            try:
                self._kinds[topic] = message_class(contents.types[topic])
            except ConfigurationError as error:
                if options.topics:
                    raise
                left_out[topic] = str(error)
        self._first = contents.first + round(options.start * NANOSECONDS)
        self._last = contents.last
        if self._first > contents.last:
            seconds = (contents.last - contents.first) / NANOSECONDS
            raise ConfigurationError(
                f"replay: start must be within the bag's {seconds:.2f} s, got {options.start:g}"
            )
        if options.duration:
            end = self._first + round(options.duration * NANOSECONDS)
            self._last = min(self._last, end)
        self._bag_first = contents.first
        counts = {topic: contents.counts.get(topic, 0) for topic in self._kinds}
        if not any(counts.values()):
            raise DataError(f"bag '{path}' holds no message on {', '.join(self._kinds)}")
        types = {topic: contents.types[topic] for topic in self._kinds}
        images = [topic for topic, kind in types.items() if kind in IMAGES]
        first_images = islice(read_raw(path, images, self._first), FIRST_MESSAGES)
        frame = frame_period((image.topic, image.time) for image in first_images)
        self.punctuality = Punctuality(round(frame / options.rate))
        self._latched = {t: d for t, d in latched_depths(path).items() if t in self._kinds}
        if TF_STATIC in self._kinds:  # a latched topic by convention, also where no bag says so
            self._latched.setdefault(TF_STATIC, TF_STATIC_DEPTH)
        self._stamps_ahead = clock_ahead(self._first_stamps())
        self._announce(left_out, types, cut_off=contents.cut_off)
        self._connect(types)

    def _announce(self, left_out: dict[str, str], types: dict[str, str], *, cut_off: bool) -> None:
        options, say = self._options, self._say
        reasons: dict[str, list[str]] = {}
        for topic, reason in left_out.items():
            reasons.setdefault(reason, []).append(topic)
        for reason, topics in reasons.items():
            say(f"left out, {reason}: {', '.join(topics)}")
        sinks = {topic: self._sink(topic) for topic in self._kinds}
        commands = [s for t, s in sinks.items() if may_command(t, types[t]) or may_command(s, "")]
        if commands:
            say(f"MAY MOVE A ROBOT, as asked for: {', '.join(commands)}")
        if cut_off:
            say(f"bag '{self._path}' was cut off: what is before the cut is replayed")
        if self._stamps_ahead:
            say("the stamps are of another clock than the log times: they are taken as bag time")
        if options.clock:
            say("stamps are the bag's, and so is /clock: subscribers need use_sim_time:=true")
        elif options.restamp:
            say("stamps are shifted to now: subscribers need no simulated time")
        else:
            say("stamps are the bag's, without /clock: old for a graph on the system's time")
        if options.loop:
            say(f"looping: after each lap nothing comes and stamps jump by {LAP_GAP / 1e9:g} s")

    def _sink(self, topic: str) -> str:
        return (self._options.remap or {}).get(topic, topic)

    def _connect(self, types: dict[str, str]) -> None:
        unknown = sorted(set(self._options.remap or {}) - set(self._kinds))
        if unknown:
            raise ConfigurationError(
                f"replay: remap is of topics that are not replayed: {', '.join(unknown)}"
            )
        sinks = [self._sink(topic) for topic in self._kinds]
        doubled = sorted({sink for sink in sinks if sinks.count(sink) > 1})
        if doubled:
            raise ConfigurationError(f"replay: remap puts two topics on {', '.join(doubled)}")
        self._publishers: dict[str, Any] = {}
        for topic, kind in self._kinds.items():
            depth = self._latched.get(topic, 0)
            kept = DurabilityPolicy.TRANSIENT_LOCAL if depth else DurabilityPolicy.VOLATILE
            quality = QoSProfile(
                history=HistoryPolicy.KEEP_LAST,
                depth=depth or (LARGE_DEPTH if types[topic] in LARGE else DEPTH),
                reliability=ReliabilityPolicy.RELIABLE,  # serves best-effort subscribers too
                durability=kept,
            )
            self._publishers[topic] = self._node.create_publisher(kind, self._sink(topic), quality)
        self._clock: Any = None
        if self._options.clock:
            self._clock = self._node.create_publisher(Clock, CLOCK, RELIABLE)

    def _first_stamps(self) -> Iterator[tuple[int, int]]:
        """Yield (log time, stamp) of every stamped topic's first message."""
        wanted = {
            topic
            for topic, kind in self._kinds.items()
            if stamps_of(kind)[0] and topic not in self._latched
        }
        for number, read in enumerate(read_raw(self._path, wanted, self._first)):
            if read.topic in wanted:
                wanted.discard(read.topic)
                yield read.time, raw_stamp(read.data)
            if not wanted or number > FIRST_MESSAGES:
                return

    def wait_for_graph(self, stop: threading.Event) -> None:
        """Wait until the graph has loaded and every topic has a subscriber: as the options say.

        Raises:
            ConfigurationError: Somebody else publishes /clock, or nobody what must be there first.
        """
        deadline = time.monotonic() + LOADING_SECONDS
        while missing := [t for t in self._options.after if not self._node.count_publishers(t)]:
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"replay: nobody publishes {', '.join(missing)} after {LOADING_SECONDS:g} s"
                )
            if stop.wait(0.1):
                return
        every = {**self._publishers, **({CLOCK: self._clock} if self._clock else {})}
        deadline = time.monotonic() + self._options.wait
        while time.monotonic() < deadline and not stop.is_set():
            if all(map(self._is_matched, every.values())):
                break
            stop.wait(0.02)
        if self._options.wait:
            stop.wait(min(SETTLING_SECONDS, self._options.wait))
        if self._clock and self._node.count_publishers(CLOCK) > 1:
            raise ConfigurationError(
                "replay: somebody else publishes /clock: stop the simulation, or replay without "
                "--clock"
            )
        unheard = [p.topic_name for p in every.values() if not p.get_subscription_count()]
        if unheard:
            self._say(f"nobody listens to {', '.join(unheard)}")
        shared = [n for p in every.values() if self._node.count_publishers(n := p.topic_name) > 1]
        if shared:
            self._say(f"somebody else publishes too, both are mixed: {', '.join(shared)}")

    def _is_matched(self, publisher: Any) -> bool:
        """Return whether a publisher knows every subscription of its topic, and there is one."""
        wanted = max(1, self._node.count_subscribers(publisher.topic_name))
        return publisher.get_subscription_count() >= wanted

    def play(self, stop: threading.Event, progress: Progress | None = None) -> None:
        """Publish everything when it is due, until the end or until ``stop`` is set.

        Where the bag turns out damaged, ``problem`` says so and what came before it was replayed.
        """
        self.wait_for_graph(stop)
        options = self._options
        restamped = options.restamp and not options.clock
        self._timeline = Timeline(
            self._first,
            self._last,
            options.rate,
            LAP_GAP,
            time.time_ns() if restamped else None,
            self._stamps_ahead,
        )
        self._progress = progress or (lambda done, total: None)
        self._progress_due = self._tick_due = 0
        self._begun = time.monotonic_ns()
        for self.lap in count() if options.loop else range(1):
            published = self.punctuality.messages
            try:
                self._play_lap(stop)
            except DataError as error:
                self.problem = str(error)
            if stop.is_set() or self.problem or self.punctuality.messages == published:
                break
        self._report(self._last if not stop.is_set() and not self.problem else None)
        for publisher in () if stop.is_set() else self._publishers.values():
            publisher.wait_for_all_acked(ACKNOWLEDGED)

    def _play_lap(self, stop: threading.Event) -> None:
        for topic, raw in self._latched_before():
            self._publishers[topic].publish(self._stamped(topic, raw))
        last = 0
        for topic, _, at, raw in read_raw(self._path, self._kinds, self._first, self._last + 1):
            last = max(last, self._timeline.due(at, self.lap))
            if not self._sleep_until(last, stop):
                return
            self._publishers[topic].publish(self._stamped(topic, raw))
            self.punctuality.add(self._elapsed() - last)
            if last >= self._progress_due:
                self._report(at)
                self._progress_due = last + PROGRESS_PERIOD

    def _latched_before(self) -> list[tuple[str, bytes]]:
        """Return what latched topics said last before the start: a subscriber has it by then."""
        if not self._latched or self._first == self._bag_first:
            return []
        kept = {topic: deque[bytes](maxlen=depth) for topic, depth in self._latched.items()}
        for topic, _, _, raw in read_raw(self._path, self._latched, None, self._first):
            kept[topic].append(raw)
        return [(topic, raw) for topic, all_of in kept.items() for raw in all_of]

    def _stamped(self, topic: str, raw: bytes) -> bytes:
        if self._timeline.keeps_stamps(self.lap):
            return raw
        return shift_stamps(
            raw, self._kinds[topic], lambda stamp: self._timeline.stamp(stamp, self.lap)
        )

    def _sleep_until(self, due: int, stop: threading.Event) -> bool:
        """Return True when it is due, ns after the start; False as soon as ``stop`` is set.

        /clock ticks on meanwhile, and never passes a message that has not gone out.
        """
        while True:
            now = self._elapsed()
            if self._clock and now >= self._tick_due:
                tick = self._timeline.clock(min(now, due))
                self._clock.publish(Clock(clock=to_time(tick)))
                self._tick_due = now + round(NANOSECONDS / self._options.clock)
            until = min(due, self._tick_due) if self._clock else due
            if stop.wait(max(until - now, 0) / NANOSECONDS):
                return False
            if self._elapsed() >= due:
                return True

    def _elapsed(self) -> int:
        return time.monotonic_ns() - self._begun

    def _report(self, at: int | None) -> None:
        if at is not None:
            self.position = (at - self._bag_first) / NANOSECONDS
        total = round((self._last - self._first) / NANOSECONDS)
        self._progress(round(self.position - self._options.start), total)

    def said(self) -> str:
        """Return how far it came and how punctually, in one line."""
        laps = f" of lap {self.lap + 1}" if self._options.loop else ""
        return f"replayed to {self.position:.2f} s{laps}: {self.punctuality}"


class Replayed(NamedTuple):
    """How a replay ended: in words, why before the bag did, and whether by Ctrl-C."""

    text: str
    problem: str
    interrupted: bool


def replay_bag(
    path: Path,
    options: ReplayOptions,
    *,
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> Replayed:
    """Replay a bag from this process, as node ``replay``.

    Args:
        path: Bag folder or file.
        options: What is replayed, and how.
        say: Takes one line at a time of what the user should know.
        progress: Called with (done, total), s of bag time.

    Raises:
        DataError: The bag cannot be read, or holds nothing of what is replayed.
        ConfigurationError: The options do not fit the bag or the graph.
    """
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("replay")
    interrupted = False
    try:
        player = BagPlayer(node, path, options, say)
        try:
            player.play(threading.Event(), progress)
        except KeyboardInterrupt:
            interrupted = True
        return Replayed(player.said(), player.problem, interrupted)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
