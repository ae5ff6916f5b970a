"""SQLite bags that are cut off or garbled: a copy that was broken off, a disk that was full.

SQLite refuses a file that is shorter than its header says, though the tables stand in front. Rows
are read in the order in which they were written, up to the first that is not whole.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from alt_ros.errors import DataError

log = logging.getLogger(__name__)

MAGIC = b"SQLite format 3\x00"
_HEADER = 100

_DEFINITIONS = "SELECT topic_type, encoded_message_definition FROM message_definitions"


def is_sqlite(path: Path) -> bool:
    """Return whether a file begins as an SQLite database does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def is_cut_sqlite(path: Path) -> bool:
    """Return whether a file is an SQLite database that is shorter than its header says."""
    if path.suffix != ".db3" or not is_sqlite(path):
        return False
    with path.open("rb") as stream:
        header = stream.read(_HEADER)
    if len(header) < _HEADER:
        return True
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    if header[24:28] != header[92:96]:  # an old writer did not keep the count
        return False
    return path.stat().st_size < pages * (65_536 if page == 1 else page)


def scan_sqlite(path: Path) -> tuple[dict[str, str], Counter[str], list[int]]:
    """Return topic to type, topic to number of messages, and first and last log time in ns.

    Raises:
        DataError: Not even the topics can be read.
    """
    types: dict[str, str] = {}
    counts: Counter[str] = Counter()
    times: list[int] = []
    with closing(_opened(path)) as database:
        topics = _topics(database, path)
        types.update(topics.values())
        for number, time in _rows(database, "topic_id, timestamp"):
            if number in topics and isinstance(time, int):
                counts[topics[number][0]] += 1
                times = [min(time, *times), max(time, *times)] if times else [time, time]
    return types, counts, times


def read_sqlite(path: Path, topics: Sequence[str]) -> Iterator[tuple[str, int, Any]]:
    """Yield (topic, log time in ns, message) up to the cut, in the order of writing.

    Args:
        path: The file.
        topics: Topics to read.

    Raises:
        DataError: A whole message does not deserialise, or not even the topics can be read.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.LATEST)
    count = 0
    with closing(_opened(path)) as database:
        known = _topics(database, path)
        try:
            for kind, text in _definitions(database):
                new = get_types_from_msg(text, kind)
                store.register({name: v for name, v in new.items() if name not in store.types})
            for number, time, data in _rows(database, "topic_id, timestamp, data"):
                count += 1
                topic, kind = known.get(number, ("", ""))
                if topic in topics and isinstance(time, int):
                    yield topic, time, store.deserialize_cdr(data, kind)
        except Exception as error:  # rosbags lets AssertionError, struct.error and more through
            raise DataError(f"bag '{path}' cannot be read: {error}") from error
    log.warning("bag '%s' is damaged: read %d messages before that", path, count)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)


def _topics(database: sqlite3.Connection, path: Path) -> dict[int, tuple[str, str]]:
    try:
        # SQLite then takes a file that is shorter than its header says.
        database.execute("PRAGMA writable_schema = ON")
        rows = database.execute("SELECT id, name, type FROM topics").fetchall()
    except sqlite3.Error as error:
        raise DataError(f"bag '{path}' cannot be read: {error}") from error
    return {int(number): (str(name), str(kind)) for number, name, kind in rows}


def _definitions(database: sqlite3.Connection) -> list[tuple[str, str]]:
    try:
        return database.execute(_DEFINITIONS).fetchall()
    except sqlite3.Error:
        return []  # an older recorder keeps none


def _rows(database: sqlite3.Connection, columns: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from database.execute(f"SELECT {columns} FROM messages NOT INDEXED ORDER BY id")
    except sqlite3.Error:
        return  # the cut
