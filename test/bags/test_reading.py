"""Serialised messages out of bags of both kinds, whole and cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from alt_ros.bags.files import bag_files
from alt_ros.bags.part import RawMessage
from alt_ros.bags.reading import latched_depths, read_messages, read_raw
from alt_ros.errors import DataError

STORE = get_typestore(Stores.LATEST)
STORAGES = pytest.mark.parametrize("storage", list(StoragePlugin), ids=lambda s: s.name)
FIRST, PERIOD, MESSAGES = 1_000_000_000, 10_000_000, 400
WORDS, STATE = "/words", "/state"


def quality(durability: QosDurability, depth: int) -> Qos:
    none = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        durability,
        none,
        none,
        QosLiveliness.AUTOMATIC,
        none,
        False,
    )


def word(number: int) -> bytes:
    kind: Any = STORE.types["std_msgs/msg/String"]
    return bytes(STORE.serialize_cdr(kind(f"{number} " * 2000), "std_msgs/msg/String"))


def write(path: Path, storage: StoragePlugin) -> list[RawMessage]:
    """Write a bag with a latched topic; return its messages."""
    written = []
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {
            topic: writer.add_connection(
                topic, "std_msgs/msg/String", typestore=STORE, offered_qos_profiles=offered
            )
            for topic, offered in (
                (WORDS, [quality(QosDurability.VOLATILE, 10)]),
                (STATE, [quality(QosDurability.TRANSIENT_LOCAL, 1)] * 2),
            )
        }
        for number in range(MESSAGES):
            topic = STATE if number % 10 == 0 else WORDS
            message = RawMessage(
                topic, "std_msgs/msg/String", FIRST + PERIOD * number, word(number)
            )
            writer.write(connections[topic], message.time, message.data)
            written.append(message)
    return written


@STORAGES
def test_messages_come_as_they_were_written_in_order(tmp_path, storage):
    written = write(tmp_path / "bag", storage)
    assert list(read_raw(tmp_path / "bag", {WORDS, STATE})) == written
    assert list(read_raw(tmp_path / "bag", {STATE})) == [m for m in written if m.topic == STATE]
    assert list(read_raw(tmp_path / "bag", {"/none"})) == []


@STORAGES
def test_reading_begins_and_ends_where_it_is_told(tmp_path, storage):
    written = write(tmp_path / "bag", storage)
    start, stop = written[15].time, written[30].time
    assert list(read_raw(tmp_path / "bag", {WORDS, STATE}, start, stop)) == written[15:30]


@STORAGES
def test_latched_topics_are_those_that_were_offered_so(tmp_path, storage):
    write(tmp_path / "bag", storage)
    assert latched_depths(tmp_path / "bag") == {STATE: 2}


@STORAGES
def test_a_cut_file_gives_what_is_before_the_cut(tmp_path, storage):
    written = write(tmp_path / "bag", storage)
    (file,) = bag_files(tmp_path / "bag")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    read = list(read_raw(tmp_path / "bag", {WORDS, STATE}))
    assert 10 < len(read) < len(written)
    assert read == written[: len(read)]
    assert latched_depths(tmp_path / "bag") == {STATE: 2}
    start, stop = written[5].time, written[8].time
    assert list(read_raw(tmp_path / "bag", {WORDS}, start, stop)) == written[5:8]
    words = [message.data for _, _, message in read_messages(tmp_path / "bag")]
    assert words == ["".join(f"{number} " for _ in range(2000)) for number in range(len(read))]


def test_a_damaged_file_gives_what_is_before_the_damage_then_says_so(tmp_path):
    written = write(tmp_path / "bag", StoragePlugin.MCAP)
    file = next((tmp_path / "bag").glob("*.mcap"))
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = b"\xff" * 20_000  # more than a message
    file.write_bytes(content)
    read: list[RawMessage] = []

    def read_on() -> None:
        for message in read_raw(tmp_path / "bag", {WORDS, STATE}):
            read.append(message)

    with pytest.raises(DataError, match="cannot be read"):
        read_on()
    assert 10 < len(read) < len(written)
    assert read == written[: len(read)]


def test_what_is_no_bag_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no bag")
    with pytest.raises(DataError, match="notes.txt' cannot be read"):
        list(read_raw(tmp_path / "notes.txt", {WORDS}))
