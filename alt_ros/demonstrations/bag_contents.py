"""What a bag holds, without reading its messages where its index tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alt_ros.demonstrations.cut_sqlite import (
    is_cut_sqlite,
    is_sqlite,
    read_sqlite,
    scan_sqlite,
)
from alt_ros.demonstrations.rosbag import bag_files, is_bag, is_cut_off, read_messages
from alt_ros.errors import DataError, in_one_line


@dataclass(frozen=True)
class BagContents:
    """Topics and extent of a bag.

    Attributes:
        types: Topic to type, as ``sensor_msgs/msg/Image``.
        counts: Topic to number of messages.
        first, last: Log times of the first and the last message, ns; 0 of an empty bag.
        cut_off: Whether a file lacks its end.
        parts: What to read one after the other: the bag, or those of its files that hold anything.
        salvaged: Those of them that SQLite refuses to read as a whole.
        problems: What of the bag could not be read, a sentence each.
    """

    types: dict[str, str]
    counts: dict[str, int]
    first: int
    last: int
    cut_off: bool
    parts: tuple[Path, ...] = ()
    salvaged: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()

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
    try:
        if not path.exists():
            raise DataError(f"bag '{path}' does not exist")
        if path.is_dir() and not is_bag(path):
            raise DataError(f"folder '{path}' holds no bag: no metadata.yaml, .mcap or .db3")
        return _contents(path)
    except OSError as error:
        raise DataError(f"bag '{path}' cannot be read: {error}") from error


def _contents(path: Path) -> BagContents:
    files = [path] if path.is_file() else _files(path)
    parts = files if any(map(is_cut_sqlite, files)) else bag_files(path)
    try:
        return _read(parts)
    except DataError as error:  # of its metadata, or of a file
        if parts != [path] or not path.is_dir() or not files:
            raise
        contents = _read(files)
        if len(files) == 1 and contents.problems:
            return contents  # the same, said of the file
        problem = f"{error}; its files are read one by one"
        return replace(contents, problems=(problem, *contents.problems))


def _files(folder: Path) -> list[Path]:
    """Return a folder's bag files, in the order in which they were recorded."""
    found = (*folder.glob("*.mcap"), *folder.glob("*.db3"))
    return sorted((file for file in found if file.is_file()), key=lambda f: (len(f.name), f))


def _read(parts: list[Path]) -> BagContents:
    types: dict[str, str] = {}
    counts: Counter[str] = Counter()
    times: list[int] = []
    held: list[Path] = []
    salvaged: list[Path] = []
    problems: list[str] = []
    for part in parts:
        before = counts.total()
        try:
            if is_cut_sqlite(part):
                _salvage(part, types, counts, times)
                salvaged.append(part)
            elif is_cut_off(part):
                _scan(part, types, counts, times)
            else:
                _ask(part, types, counts, times)
        except DataError as error:
            if part.suffix == ".db3" and part not in salvaged and is_sqlite(part):
                _salvage(part, types, counts, times)
                salvaged.append(part)
                problems.append(f"{error}; it is read up to the damage")
            elif len(parts) == 1:
                raise
            else:
                problems.append(str(error))
        if counts.total() > before:
            held.append(part)
    if problems and not held:
        raise DataError(problems[-1])
    first, last = (min(times), max(times)) if times else (0, 0)
    cut_off = any(is_cut_off(part) or is_cut_sqlite(part) for part in parts)
    kept = tuple(held), tuple(salvaged), tuple(problems)
    return BagContents(types, dict(counts), first, last, cut_off, *kept)


def _salvage(path: Path, types: dict[str, str], counts: Counter[str], times: list[int]) -> None:
    more_types, more_counts, more_times = scan_sqlite(path)
    types.update(more_types)
    counts.update(more_counts)
    times += more_times


def read_parts(
    contents: BagContents, topics: Sequence[str]
) -> Iterator[tuple[str, int, Any] | DataError]:
    """Yield (topic, log time in ns, message) in log order, and the errors that end a part.

    Args:
        contents: Of the bag.
        topics: Topics to read.
    """
    for part in contents.parts:
        read = read_sqlite if part in contents.salvaged else read_messages
        try:
            yield from read(part, topics)
        except DataError as error:
            yield error


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
        raise DataError(f"bag '{path}' cannot be read: {in_one_line(error)}") from error


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
