"""A bag's messages, serialised or not, in log order, streamed; of damaged files what is whole."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos, QosDurability

from alt_ros.bags.cut_mcap import CutMcap
from alt_ros.bags.cut_sqlite import CutSqlite
from alt_ros.bags.files import bag_parts, is_cut_mcap, is_cut_sqlite
from alt_ros.bags.part import BagPart, Choice, RawMessage, WholePart
from alt_ros.errors import DataError

log = logging.getLogger(__name__)


def part_at(path: Path) -> BagPart:
    """Return the reader of a bag or one of its files."""
    if is_cut_mcap(path):
        return CutMcap(path)
    return CutSqlite(path) if is_cut_sqlite(path) else WholePart(path)


def read_raw(
    path: Path,
    topics: Collection[str] | None = None,
    start: int | None = None,
    stop: int | None = None,
) -> Iterator[RawMessage]:
    """Yield messages as they were recorded, in log order; of a cut file those before the cut.

    Args:
        path: Bag folder, or a bag file of its own.
        topics: Topics to read; None reads all.
        start: First log time, ns.
        stop: Log time at which to end, ns; it is left out.

    Raises:
        DataError: The bag cannot be read, or not further.
    """
    for part in bag_parts(path):
        with part_at(part) as reader:
            yield from reader.raw(Choice(topics, start, stop))


def read_messages(
    path: Path, topics: Collection[str] | None = None
) -> Iterator[tuple[str, int, Any]]:
    """Yield (topic, log time in ns, message) in log order; of a cut file those before the cut.

    Args:
        path: Bag folder, or a bag file of its own.
        topics: Topics to read; None reads all.

    Raises:
        DataError: The bag cannot be read, or not further; or it was cut off before its first
            whole message.
    """
    parts = bag_parts(path)
    for part in parts:
        with part_at(part) as reader:
            for raw in reader.raw(Choice(topics)):
                yield raw.topic, raw.time, reader.deserialize(raw)
        if isinstance(reader, WholePart):
            continue
        if reader.passed == 0 and len(parts) == 1:
            raise DataError(
                f"bag '{path}' was cut off before its first whole message: record it again"
            )
        log.warning("bag '%s' was cut off: read %d messages before the cut", part, reader.passed)


def latched_depths(path: Path) -> dict[str, int]:
    """Return how much the publishers of latched (transient local) topics kept, together.

    Topics whose bag does not say how they were offered are left out.

    Raises:
        DataError: The bag cannot be read.
    """
    offered: dict[str, list[Qos]] = {}
    for part in bag_parts(path):
        with part_at(part) as reader:
            offered |= reader.offered()
    latched = QosDurability.TRANSIENT_LOCAL
    depths = {
        topic: sum(max(q.depth, 1) for q in all_of if q.durability == latched)
        for topic, all_of in offered.items()
    }
    return {topic: depth for topic, depth in depths.items() if depth}
