"""A bag's messages as they were recorded: serialised, in log order, streamed."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from alt_ros.demonstrations.rosbag import bag_files, is_cut_off
from alt_ros.errors import DataError, in_one_line

if TYPE_CHECKING:
    from rosbags.interfaces import Qos


def read_raw(
    path: Path, topics: Collection[str], start: int | None = None, stop: int | None = None
) -> Iterator[tuple[str, int, bytes]]:
    """Yield (topic, log time in ns, CDR bytes) in log order; of a cut file what is before the cut.

    Args:
        path: Bag folder, or a bag file of its own.
        topics: Topics to read.
        start: First log time, ns.
        stop: Log time at which to end, ns; it is left out.

    Raises:
        DataError: The bag cannot be read, or not further.
    """
    for part in bag_files(path):
        read = _read_cut_off if is_cut_off(part) else _read_whole
        yield from read(part, topics, start, stop)


def latched_depths(path: Path) -> dict[str, int]:
    """Return how much the publishers of latched (transient local) topics kept, together.

    Topics whose bag does not say how they were offered are left out.

    Raises:
        DataError: The bag cannot be read.
    """
    from rosbags.interfaces import QosDurability

    offered: dict[str, list[Qos]] = {}
    for part in bag_files(path):
        offered |= (_qualities_cut_off if is_cut_off(part) else _qualities)(part)
    latched = QosDurability.TRANSIENT_LOCAL
    depths = {
        topic: sum(max(q.depth, 1) for q in all_of if q.durability == latched)
        for topic, all_of in offered.items()
    }
    return {topic: depth for topic, depth in depths.items() if depth}


def _read_whole(
    path: Path, topics: Collection[str], start: int | None, stop: int | None
) -> Iterator[tuple[str, int, bytes]]:
    from rosbags.rosbag2 import Reader

    try:
        with Reader(path) as reader:
            chosen = [c for c in reader.connections if c.topic in topics]
            if not chosen:  # rosbags takes an empty choice for all
                return
            for connection, time, raw in reader.messages(chosen, start, stop):
                yield connection.topic, time, bytes(raw)
    except Exception as error:  # rosbags lets AssertionError, struct.error and more through
        raise DataError(f"bag '{path}' cannot be read: {in_one_line(error)}") from error


def _read_cut_off(
    path: Path, topics: Collection[str], start: int | None, stop: int | None
) -> Iterator[tuple[str, int, bytes]]:
    from mcap.exceptions import McapError
    from mcap.records import Channel, Message
    from mcap.stream_reader import StreamReader

    names: dict[int, str] = {}
    try:
        with path.open("rb") as stream:
            for record in StreamReader(stream).records:
                if isinstance(record, Channel):
                    names[record.id] = record.topic
                elif isinstance(record, Message):
                    topic, time = names[record.channel_id], record.log_time
                    before = start is not None and time < start
                    if topic in topics and not before and (stop is None or time < stop):
                        yield topic, time, record.data
    except (McapError, EOFError, ValueError, struct.error):
        return  # the cut
    except (KeyError, OSError) as error:
        raise DataError(f"bag '{path}' cannot be read: {error}") from error


def _qualities(path: Path) -> dict[str, list[Qos]]:
    from rosbags.interfaces import ConnectionExtRosbag2
    from rosbags.rosbag2 import Reader

    try:
        with Reader(path) as reader:
            return {
                c.topic: c.ext.offered_qos_profiles
                for c in reader.connections
                if isinstance(c.ext, ConnectionExtRosbag2)
            }
    except Exception as error:  # as above
        raise DataError(f"bag '{path}' cannot be read: {in_one_line(error)}") from error


def _qualities_cut_off(path: Path) -> dict[str, list[Qos]]:
    from mcap.exceptions import McapError
    from mcap.records import Channel
    from mcap.stream_reader import StreamReader
    from rosbags.rosbag2.metadata import parse_qos

    offered: dict[str, list[Qos]] = {}
    try:
        with path.open("rb") as stream:
            for record in StreamReader(stream).records:
                if isinstance(record, Channel):
                    text = record.metadata.get("offered_qos_profiles", "")
                    offered[record.topic] = parse_qos(text) if text else []
    except (McapError, EOFError, ValueError, struct.error):
        pass  # the cut
    return offered
