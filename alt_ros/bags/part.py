"""A part of a bag that is read as one: the contract, and a part that is whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.highlevel import AnyReader
from rosbags.interfaces import ConnectionExtRosbag2, Qos
from rosbags.typesys import Stores, get_typestore

from alt_ros.errors import DataError, in_one_line


class RawMessage(NamedTuple):
    """A message as it was recorded.

    Attributes:
        topic: Its topic.
        kind: Its type, ``sensor_msgs/msg/Image``.
        time: Log time, ns.
        data: CDR bytes.
    """

    topic: str
    kind: str
    time: int
    data: bytes


@dataclass(frozen=True)
class Choice:
    """Which messages are read.

    Attributes:
        topics: Their topics; None for all.
        start: First log time, ns.
        stop: Log time at which to end, ns; it is left out.
    """

    topics: Collection[str] | None = None
    start: int | None = None
    stop: int | None = None

    def takes(self, topic: str, time: int) -> bool:
        """Return whether a message is read."""
        if (self.start is not None and time < self.start) or (
            self.stop is not None and time >= self.stop
        ):
            return False
        return self.topics is None or topic in self.topics


EVERYTHING = Choice()


@dataclass
class Extent:
    """Topic to type, topic to number of messages, first and last log time in ns (or neither)."""

    types: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    times: list[int] = field(default_factory=list)

    def add(self, topic: str, time: int) -> None:
        """Count a message."""
        self.counts[topic] += 1
        self.times = [min(time, *self.times), max(time, *self.times)] if self.times else [time] * 2


class BagPart(ABC):
    """A bag, or a file of it; a context manager, open while it is read.

    Attributes:
        passed: Of a damaged part, how many messages ``raw`` has gone past, of any topic.
    """

    passed = 0

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> BagPart:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    @abstractmethod
    def extent(self) -> Extent:
        """Return what the part holds, without reading its messages where an index tells.

        Raises:
            DataError: Not even the topics can be read.
        """

    @abstractmethod
    def offered(self) -> dict[str, list[Qos]]:
        """Return how publishers offered their topics, where the part says so.

        Raises:
            DataError: Not even the topics can be read.
        """

    @abstractmethod
    def raw(self, choice: Choice = EVERYTHING) -> Iterator[RawMessage]:
        """Yield messages in log order; of a damaged part those before the damage.

        Raises:
            DataError: The part cannot be read, or not further.
        """

    @abstractmethod
    def deserialize(self, message: RawMessage) -> Any:
        """Return a message that was read from this part.

        Raises:
            DataError: It is not of its type, or the type is not known.
        """

    @contextmanager
    def _named(self) -> Generator[None]:
        """Name the part in whatever a library raises."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # rosbags lets AssertionError, struct.error and more through
            raise DataError(f"bag '{self.path}' cannot be read: {in_one_line(error)}") from error


class WholePart(BagPart):
    """A bag that was closed, or a file of one."""

    _reader: AnyReader

    def __enter__(self) -> BagPart:
        with self._named():
            self._reader = AnyReader([self.path], default_typestore=get_typestore(Stores.LATEST))
            self._reader.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.close()

    def extent(self) -> Extent:
        """Return what the index tells."""
        reader, extent = self._reader, Extent()
        for connection in reader.connections:
            extent.types[connection.topic] = connection.msgtype
            extent.counts[connection.topic] += connection.msgcount
        if reader.message_count:
            extent.times = [reader.start_time, reader.end_time - 1]  # the end is exclusive
        return extent

    def offered(self) -> dict[str, list[Qos]]:
        """Return how publishers offered their topics."""
        return {
            c.topic: c.ext.offered_qos_profiles
            for c in self._reader.connections
            if isinstance(c.ext, ConnectionExtRosbag2)
        }

    def raw(self, choice: Choice = EVERYTHING) -> Iterator[RawMessage]:
        """Yield messages in log order."""
        topics = choice.topics
        chosen = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not chosen:  # rosbags takes an empty choice for all
            return
        with self._named():
            for connection, time, data in self._reader.messages(chosen, choice.start, choice.stop):
                yield RawMessage(connection.topic, connection.msgtype, time, bytes(data))

    def deserialize(self, message: RawMessage) -> Any:
        """Return a message by the bag's definitions, or today's ROS's where it has none."""
        with self._named():
            return self._reader.deserialize(message.data, message.kind)
