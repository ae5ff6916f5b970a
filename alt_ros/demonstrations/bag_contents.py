"""What a bag holds, without reading its messages where its index tells."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from alt_ros.demonstrations.rosbag import bag_files, is_cut_off
from alt_ros.errors import DataError


@dataclass(frozen=True)
class BagContents:
    """Topics and extent of a bag.

    Attributes:
        types: Topic to type, as ``sensor_msgs/msg/Image``.
        counts: Topic to number of messages.
        first, last: Log times of the first and the last message, ns; 0 of an empty bag.
        cut_off: Whether a file lacks its end.
    """

    types: dict[str, str]
    counts: dict[str, int]
    first: int
    last: int
    cut_off: bool

    @property
    def messages(self) -> int:
        """Number of messages."""
        return sum(self.counts.values())

    def topics_of(self, kind: str) -> list[str]:
        """Return the topics of a type, by name."""
        return sorted(topic for topic, found in self.types.items() if found == kind)


def read_contents(path: Path) -> BagContents:
    """Return what a bag holds.

    Args:
        path: Bag folder, or a bag file of its own.

    Raises:
        DataError: There is no bag, or nothing of it can be read.
    """
    if not path.exists():
        raise DataError(f"bag '{path}' does not exist")
    types: dict[str, str] = {}
    counts: Counter[str] = Counter()
    times: list[int] = []
    cut_off = False
    for file in bag_files(path):
        if is_cut_off(file):
            cut_off = True
            _scan(file, types, counts, times)
        else:
            _ask(file, types, counts, times)
    first, last = (min(times), max(times)) if times else (0, 0)
    return BagContents(types, dict(counts), first, last, cut_off)


def _ask(path: Path, types: dict[str, str], counts: Counter[str], times: list[int]) -> None:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
            for connection in reader.connections:
                types[connection.topic] = connection.msgtype
                counts[connection.topic] += connection.msgcount
            if reader.message_count:
                times += [reader.start_time, reader.end_time - 1]  # the end is exclusive
    except Exception as error:  # rosbags lets AssertionError, struct.error and more through
        raise DataError(f"bag '{path}' cannot be read: {error or type(error).__name__}") from error


def _scan(path: Path, types: dict[str, str], counts: Counter[str], times: list[int]) -> None:
    import struct

    from mcap.exceptions import McapError
    from mcap.records import Channel, Message, Schema
    from mcap.stream_reader import StreamReader

    schemas: dict[int, str] = {}
    topics: dict[int, str] = {}
    try:
        with path.open("rb") as stream:
            for record in StreamReader(stream).records:
                if isinstance(record, Schema):
                    schemas[record.id] = record.name
                elif isinstance(record, Channel):
                    topics[record.id] = record.topic
                    types[record.topic] = schemas[record.schema_id]
                elif isinstance(record, Message):
                    counts[topics[record.channel_id]] += 1
                    times.append(record.log_time)
                    del times[1:-1]
    except (McapError, EOFError, ValueError, struct.error, KeyError):
        return  # the cut
    except OSError as error:
        raise DataError(f"bag '{path}' cannot be read: {error}") from error
