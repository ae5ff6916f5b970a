"""What a bag holds, without reading its messages where its index tells."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alt_ros.bags.cut_sqlite import CutSqlite
from alt_ros.bags.files import bag_files, bag_parts, is_bag, is_cut_off, is_sqlite
from alt_ros.bags.part import BagPart, Choice, Extent
from alt_ros.bags.reading import part_at
from alt_ros.errors import DataError


@dataclass(frozen=True)
class BagContents:
    """Topics and extent of a bag.

    Attributes:
        types: Topic to type, as ``sensor_msgs/msg/Image``.
        counts: Topic to number of messages.
        first, last: Log times of the first and the last message, ns; 0 of an empty bag.
        cut_off: Whether a file lacks its end.
        parts: What to read one after the other: the bag, or those of its files that hold anything.
        salvaged: Those of them that are damaged inside, SQLite reads them up to the damage.
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
    parts = bag_parts(path)
    try:
        return _read(parts)
    except DataError as error:  # of its metadata, or of a file
        files = bag_files(path)
        if parts != [path] or not path.is_dir() or not files:
            raise
        contents = _read(files)
        if len(files) == 1 and contents.problems:
            return contents  # the same, said of the file
        problem = f"{error}; its files are read one by one"
        return replace(contents, problems=(problem, *contents.problems))


def _read(parts: list[Path]) -> BagContents:
    total = Extent()
    held: list[Path] = []
    salvaged: list[Path] = []
    problems: list[str] = []
    for part in parts:
        try:
            extent = _extent(part_at(part))
        except DataError as error:
            extent = _salvaged(part)
            if extent is None:
                if len(parts) == 1:
                    raise
                problems.append(str(error))
                continue
            salvaged.append(part)
            problems.append(f"{error}; it is read up to the damage")
        total.types |= extent.types
        total.counts += extent.counts
        total.times += extent.times
        if extent.times:
            held.append(part)
    if problems and not held:
        raise DataError(problems[-1])
    first, last = (min(total.times), max(total.times)) if total.times else (0, 0)
    cut_off = any(map(is_cut_off, parts))
    kept = tuple(held), tuple(salvaged), tuple(problems)
    return BagContents(total.types, dict(total.counts), first, last, cut_off, *kept)


def _extent(part: BagPart) -> Extent:
    with part:
        return part.extent()


def _salvaged(part: Path) -> Extent | None:
    """Return what can still be read of a damaged SQLite file; None where that is nothing."""
    if part.suffix != ".db3" or not is_sqlite(part):
        return None
    try:
        return _extent(CutSqlite(part))
    except DataError:
        return None


def read_parts(
    contents: BagContents, topics: Collection[str]
) -> Iterator[tuple[str, int, Any] | DataError]:
    """Yield (topic, log time in ns, message) in log order, and the errors that end a part.

    Args:
        contents: Of the bag.
        topics: Topics to read.
    """
    for path in contents.parts:
        try:
            with CutSqlite(path) if path in contents.salvaged else part_at(path) as part:
                for raw in part.raw(Choice(topics)):
                    yield raw.topic, raw.time, part.deserialize(raw)
        except DataError as error:
            yield error
