"""Episodes written as MCAP bags: definitions, metadata, full disks and killed recorders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from alt_ros.bags.reading import read_messages
from alt_ros.bags.writing import EpisodeWriter, read_definitions
from alt_ros.errors import DataError

MESSAGES = Path(__file__).parents[2] / "msg"
DEFINITIONS = read_definitions(sorted(MESSAGES.glob("*.msg")))
STORE = get_typestore(Stores.LATEST)
for type_name, text in DEFINITIONS.items():
    STORE.register(get_types_from_msg(text, type_name))


def writer(path: Path, **options) -> EpisodeWriter:
    return EpisodeWriter(path, {}, **{"min_free_bytes": 0} | options)


def number(value: float) -> bytes:
    kind = "std_msgs/msg/Float64"
    return bytes(STORE.serialize_cdr(STORE.types[kind](data=value), kind))


def array(values: np.ndarray) -> bytes:
    kind = "std_msgs/msg/UInt8MultiArray"
    layout = STORE.types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    return bytes(STORE.serialize_cdr(STORE.types[kind](layout=layout, data=values), kind))


def write_numbers(bag: EpisodeWriter, count: int) -> None:
    for k in range(count):
        bag.write("/number", "std_msgs/msg/Float64", 1000 + k, number(k))


BLOCK = array(np.arange(100_000, dtype=np.uint32).astype(np.uint8))


def write_blocks(bag: EpisodeWriter, count: int) -> int:
    """Write blocks of 100 kB until there are enough or the disk is full; return how many."""
    for k in range(count):
        try:
            bag.write("/block", "std_msgs/msg/UInt8MultiArray", 1000 + k, BLOCK)
        except DataError:
            return k
    return count


def blocks_in(path: Path) -> int:
    count = 0
    for k, (topic, time, message) in enumerate(read_messages(path)):
        assert (topic, time) == ("/block", 1000 + k)
        assert message.data.tobytes() == BLOCK[-100_000:]
        count += 1
    return count


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    try:
        permitted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        permitted = False
    if not permitted:
        pytest.skip("FULL DISK NOT TESTED: mounting a small tmpfs is not permitted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_was_written_is_read(tmp_path):
    bag = writer(tmp_path / "episode")
    write_numbers(bag, 5)
    bag.close()
    assert bag.messages == 5
    got = [(topic, time, m.data) for topic, time, m in read_messages(tmp_path / "episode")]
    assert got == [("/number", 1000 + k, float(k)) for k in range(5)]


def test_what_was_written_into_sqlite_is_read(tmp_path):
    bag = writer(tmp_path / "bag", storage="sqlite3")
    write_numbers(bag, 5)
    bag.close({"success": "true"})
    assert (tmp_path / "bag" / "bag.db3").is_file()
    read = [(time, message.data) for _, time, message in read_messages(tmp_path / "bag")]
    assert read == [(1000 + k, float(k)) for k in range(5)]


def test_a_full_disk_ends_an_sqlite_bag_with_an_error(small_disk):
    bag = writer(small_disk / "bag", storage="sqlite3", min_free_bytes=0)
    assert write_blocks(bag, 200) < 200
    bag.close()
    with pytest.raises(DataError):
        write_numbers(bag, 1)


def test_the_folder_and_those_above_it_are_made(tmp_path):
    writer(tmp_path / "lab" / "monday" / "episode").close()
    assert (tmp_path / "lab" / "monday" / "episode" / "metadata.yaml").is_file()


def test_custom_metadata_is_kept(tmp_path):
    bag = writer(tmp_path / "episode")
    write_numbers(bag, 1)
    bag.close({"success": "true", "operator": "anna"})
    with Reader(tmp_path / "episode") as reader:
        assert reader.storage.metadata.custom == {"success": "true", "operator": "anna"}


def test_our_own_messages_are_written_with_all_definitions_that_they_need(tmp_path):
    kind = "alt_ros/msg/OodFlag"
    header = STORE.types["std_msgs/msg/Header"](
        stamp=STORE.types["builtin_interfaces/msg/Time"](sec=7, nanosec=9), frame_id="base"
    )
    flag = STORE.types[kind](
        header=header,
        flag=True,
        score=4.0,
        threshold=0.8,
        quantile=1.0,
        scores=["cosine"],
        values=np.array([0.6]),
        strangeness=np.array([4.0]),
        cause="cosine",
        view="wrist",
        demonstration=3,
        frame=4,
        similarity=0.4,
    )
    bag = EpisodeWriter(tmp_path / "episode", DEFINITIONS, min_free_bytes=0)
    bag.write("/alt/ood", kind, 1, bytes(STORE.serialize_cdr(flag, kind)))
    bag.close()
    ((_, _, got),) = read_messages(tmp_path / "episode")
    assert (got.header.stamp.sec, got.threshold, got.view) == (7, 0.8, "wrist")


def test_the_definitions_of_the_package_are_complete():
    assert set(DEFINITIONS) == {f"alt_ros/msg/{file.stem}" for file in MESSAGES.glob("*.msg")}
    assert {"alt_ros/msg/Observation", "alt_ros/msg/ActionChunk"} <= set(DEFINITIONS)


@pytest.mark.parametrize("outer_first", [True, False])
def test_definitions_may_come_in_any_order(tmp_path, outer_first):
    definitions = {"alt_ros/msg/Outer": "Inner[] parts\n", "alt_ros/msg/Inner": "float64 x\n"}
    if not outer_first:
        definitions = dict(reversed(definitions.items()))
    bag = EpisodeWriter(tmp_path / "episode", definitions, min_free_bytes=0)
    store = get_typestore(Stores.LATEST)
    for name, definition in definitions.items():
        store.register(get_types_from_msg(definition, name))
    outer = store.types["alt_ros/msg/Outer"](parts=[store.types["alt_ros/msg/Inner"](x=2.5)])
    data = bytes(store.serialize_cdr(outer, "alt_ros/msg/Outer"))
    bag.write("/outer", "alt_ros/msg/Outer", 1, data)
    bag.close()
    ((_, _, got),) = read_messages(tmp_path / "episode")
    assert got.parts[0].x == 2.5


def test_a_type_without_a_definition_is_refused_and_recording_goes_on(tmp_path):
    bag = writer(tmp_path / "episode")
    with pytest.raises(DataError, match="'/alt/ood'.*alt_ros/msg/OodFlag"):
        bag.write("/alt/ood", "alt_ros/msg/OodFlag", 1, b"")
    write_numbers(bag, 2)
    bag.close()
    assert len(list(read_messages(tmp_path / "episode"))) == 2


def test_an_existing_folder_is_refused_and_left_as_it_is(tmp_path):
    writer(tmp_path / "episode").close()
    before = (tmp_path / "episode" / "metadata.yaml").read_bytes()
    with pytest.raises(DataError, match="exists already"):
        writer(tmp_path / "episode")
    assert (tmp_path / "episode" / "metadata.yaml").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        writer(tmp_path / "file" / "episode")


def test_a_discarded_episode_is_gone(tmp_path):
    bag = writer(tmp_path / "episode")
    write_numbers(bag, 3)
    bag.discard()
    assert not (tmp_path / "episode").exists()


def test_a_disk_with_too_little_room_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match="MiB free, recording needs 1073741824 MiB"):
        writer(tmp_path / "episode", min_free_bytes=1 << 50)
    assert not (tmp_path / "episode").exists()


def test_writing_stops_while_the_bag_can_still_be_closed(small_disk):
    bag = writer(small_disk / "episode", min_free_bytes=4 << 20)
    count = write_blocks(bag, 100)
    assert 20 <= count < 50
    with pytest.raises(DataError, match="free some space"):
        bag.write("/block", "std_msgs/msg/UInt8MultiArray", 1, BLOCK)
    bag.close({"success": "false"})
    assert bag.messages == count
    assert blocks_in(small_disk / "episode") == count
    assert (small_disk / "episode" / "metadata.yaml").is_file()


def test_a_disk_that_others_fill_ends_the_bag_and_keeps_all_but_its_last_mib(small_disk, caplog):
    bag = writer(small_disk / "episode")
    count = write_blocks(bag, 100)
    assert count < 100
    with pytest.raises(DataError, match="ended when the disk refused"):
        bag.write("/block", "std_msgs/msg/UInt8MultiArray", 1, BLOCK)
    bag.close({"success": "false"})
    assert count - 11 <= blocks_in(small_disk / "episode") <= count
    assert "was cut off" in caplog.text


def test_a_disk_that_is_full_at_the_end_keeps_what_was_on_it(small_disk):
    bag = writer(small_disk / "episode")
    assert write_blocks(bag, 41) == 41
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(16 << 20))
    with pytest.raises(DataError, match="could not be closed"):
        bag.close()
    assert blocks_in(small_disk / "episode") >= 30


def test_an_episode_is_discarded_from_a_full_disk_too(small_disk):
    bag = writer(small_disk / "episode")
    write_blocks(bag, 100)
    bag.discard()
    assert not (small_disk / "episode").exists()


RECORDER = """
import sys
from pathlib import Path
from test_writing import BLOCK, writer
bag = writer(Path(sys.argv[1]))
for k in range(10**6):
    bag.write("/block", "std_msgs/msg/UInt8MultiArray", 1000 + k, BLOCK)
    print(k + 1, flush=True)
    if k == 54:
        sys.stdin.read()
"""


def test_a_recorder_that_was_killed_leaves_what_it_had_written(tmp_path, caplog):
    recorder = subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(tmp_path / "episode")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{MESSAGES.parent}:{Path(__file__).parent}"},
    )
    with recorder:
        assert recorder.stdout is not None
        while recorder.stdout.readline() != "55\n":
            assert recorder.poll() is None
        recorder.send_signal(signal.SIGKILL)
    assert not (tmp_path / "episode" / "metadata.yaml").exists()
    assert 55 - 11 <= blocks_in(tmp_path / "episode") <= 55
    assert "was cut off" in caplog.text
