"""MCAP files without their end: a recorder that was killed, a disk that was full.

The index stands at the end, so records are read from the start up to the last that is whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap.records import Channel, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import parse_qos

from alt_ros.bags.definitions import Definitions
from alt_ros.bags.part import EVERYTHING, BagPart, Choice, Extent, RawMessage


class CutMcap(BagPart):
    """A file that is read up to the cut."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._definitions = Definitions()
        self._types: dict[str, str] = {}
        self._qualities: dict[str, str] = {}

    def extent(self) -> Extent:
        """Return what stands before the cut; all of it is read."""
        extent = Extent(self._types)
        for message in self.raw():
            extent.add(message.topic, message.time)
        return extent

    def offered(self) -> dict[str, list[Qos]]:
        """Return how publishers offered their topics; all of the file is read."""
        for _ in self.raw(Choice(())):
            pass
        with self._named():
            texts = self._qualities.items()
            return {topic: parse_qos(text) if text else [] for topic, text in texts}

    def raw(self, choice: Choice = EVERYTHING) -> Iterator[RawMessage]:
        """Yield messages in the order of writing."""
        kinds: dict[int, str] = {}
        channels: dict[int, Channel] = {}
        self.passed = 0
        with self._named():
            for record in self._records():
                if isinstance(record, Schema):
                    kinds[record.id] = record.name
                    self._definitions.add(record.name, record.data.decode())
                elif isinstance(record, Channel):
                    channels[record.id] = record
                    self._types[record.topic] = kinds[record.schema_id]
                    self._qualities[record.topic] = record.metadata.get("offered_qos_profiles", "")
                elif isinstance(record, Message):
                    self.passed += 1
                    topic, time = channels[record.channel_id].topic, record.log_time
                    if choice.takes(topic, time):
                        yield RawMessage(topic, self._types[topic], time, record.data)

    def deserialize(self, message: RawMessage) -> Any:
        """Return a message by the definitions before it."""
        with self._named():
            return self._definitions.deserialize(message.data, message.kind)

    def _records(self) -> Iterator[McapRecord]:
        with self.path.open("rb") as stream:
            try:
                yield from StreamReader(stream).records
            except (McapError, EOFError, ValueError, struct.error):
                return  # the cut
