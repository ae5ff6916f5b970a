"""SQLite bags that are cut off or garbled: a copy that was broken off, a disk that was full.

SQLite refuses a file that is shorter than its header says, though the tables stand in front. Rows
are read in the order in which they were written, up to the first that is not whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import parse_qos

from alt_ros.bags.definitions import Definitions
from alt_ros.bags.part import EVERYTHING, BagPart, Choice, Extent, RawMessage

_DEFINITIONS = "SELECT topic_type, encoded_message_definition FROM message_definitions"


class CutSqlite(BagPart):
    """A file that is read up to the cut or the damage."""

    def __enter__(self) -> CutSqlite:
        with self._named():
            address = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
            self._database = sqlite3.connect(address, uri=True)
            # SQLite then takes a file that is shorter than its header says.
            self._database.execute("PRAGMA writable_schema = ON")
            rows = self._database.execute("SELECT id, name, type FROM topics").fetchall()
            self._topics = {number: (str(name), str(kind)) for number, name, kind in rows}
        self._definitions = Definitions()
        for kind, text in self._maybe(_DEFINITIONS):
            self._definitions.add(kind, text)
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def extent(self) -> Extent:
        """Return what stands before the cut; all rows are read, without their data."""
        extent = Extent(dict(self._topics.values()))
        for number, time in self._rows("topic_id, timestamp"):
            if number in self._topics and isinstance(time, int):
                extent.add(self._topics[number][0], time)
        return extent

    def offered(self) -> dict[str, list[Qos]]:
        """Return how publishers offered their topics."""
        rows = self._maybe("SELECT name, offered_qos_profiles FROM topics")
        with self._named():
            return {str(topic): parse_qos(text) if text else [] for topic, text in rows}

    def raw(self, choice: Choice = EVERYTHING) -> Iterator[RawMessage]:
        """Yield messages in the order of writing."""
        self.passed = 0
        for number, time, data in self._rows("topic_id, timestamp, data"):
            self.passed += 1
            topic, kind = self._topics.get(number, ("", ""))
            if not topic or not isinstance(time, int) or not isinstance(data, bytes):
                continue
            if choice.takes(topic, time):
                yield RawMessage(topic, kind, time, data)

    def deserialize(self, message: RawMessage) -> Any:
        """Return a message by the bag's definitions, or today's ROS's where it has none."""
        with self._named():
            return self._definitions.deserialize(message.data, message.kind)

    def _maybe(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query).fetchall()
        except sqlite3.Error:
            return []  # an older recorder keeps none

    def _rows(self, columns: str) -> Iterator[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM messages NOT INDEXED ORDER BY id"
        try:
            yield from self._database.execute(query)
        except sqlite3.Error:
            return  # the cut
