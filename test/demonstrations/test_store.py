from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alt_ros.demonstrations import store as store_module
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import DemonstrationStore, is_store, write_store
from alt_ros.demonstrations.zarr_replay_buffer import ZarrReplayBuffer
from alt_ros.errors import ConfigurationError, DataError, DependencyError
from alt_ros.preprocessing import resize_image
from alt_ros.types import ActionLayout


@pytest.fixture
def three(make_demonstration) -> list[Demonstration]:
    return [
        make_demonstration("first", 5, seed=1),
        make_demonstration("second", 1, seed=2, success=False),
        make_demonstration("third", 7, seed=3, success=None),
    ]


def same(first: Demonstration, second: Demonstration) -> None:
    assert (first.name, first.layout, first.success, first.source) == (
        second.name,
        second.layout,
        second.success,
        second.source,
    )
    for key in ("stamps", "poses", "grippers", "state", "actions"):
        np.testing.assert_array_equal(getattr(first, key), getattr(second, key))
    assert list(first.images) == list(second.images)
    for view in first.images:
        np.testing.assert_array_equal(first.images[view], second.images[view])


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


def test_demonstrations_come_back_as_they_were_written(tmp_path, three):
    seen: list[int] = []
    written = write_store(tmp_path / "store", iter(three), progress=seen.append)
    assert seen == [1, 2, 3]
    for opened in (written, DemonstrationStore.open(tmp_path / "store")):
        assert len(opened) == 3
        for i, demonstration in enumerate(three):
            same(opened[i], demonstration)
        same(opened[-1], three[2])
        assert opened.names == ("first", "second", "third")
        assert opened.frames == 13
        assert opened.views == ("wrist", "third_person")
        assert opened.sizes["wrist"] == (12, 16)
        assert opened.layout == ActionLayout(arms=1)
        assert opened.period == 100_000_000
        np.testing.assert_array_equal(opened.episode_ends, [5, 6, 13])
        np.testing.assert_array_equal(opened.actions[5:6], three[1].actions)
        np.testing.assert_array_equal(opened.images("wrist")[6:], three[2].images["wrist"])
    assert leftovers(tmp_path) == []


def test_a_row_is_located_in_its_demonstration(tmp_path, three):
    opened = write_store(tmp_path / "store", three)
    located = [opened.locate(row) for row in range(opened.frames)]
    assert located == [(i, f) for i, d in enumerate(three) for f in range(len(d))]
    for row in (-1, 13):
        with pytest.raises(DataError, match=rf"row must be in 0..12, got {row}"):
            opened.locate(row)


def test_images_are_mapped_and_nothing_can_be_written(tmp_path, three):
    opened = write_store(tmp_path / "store", three)
    for array in (opened.images("wrist"), opened[0].images["wrist"], opened.actions, opened.state):
        assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(DataError, match="has no view 'left', it has wrist, third_person"):
        opened.images("left")


def test_a_store_without_arms_and_state_is_opened(tmp_path, make_demonstration):
    demonstration = make_demonstration(layout=ActionLayout(arms=0, extra=2), state=0)
    same(write_store(tmp_path / "store", [demonstration])[0], demonstration)


def test_images_are_resized_as_the_network_input_is(tmp_path, make_demonstration):
    demonstrations = [make_demonstration("a", size=(12, 16)), make_demonstration("b", size=(9, 9))]
    opened = write_store(tmp_path / "store", demonstrations, image_size=(6, 8))
    assert opened.sizes == {"wrist": (6, 8), "third_person": (6, 8)}
    for stored, given in zip(opened, demonstrations, strict=True):
        for frame in range(5):
            expected = resize_image(given.images["wrist"][frame], 6, 8)
            np.testing.assert_array_equal(stored.images["wrist"][frame], expected)
    with pytest.raises(ConfigurationError, match="image_size must be positive"):
        write_store(tmp_path / "store", demonstrations, image_size=(0, 8))


def test_a_view_named_like_a_topic_is_stored(tmp_path, make_demonstration):
    demonstration = make_demonstration(views=["/camera/wrist"])
    same(write_store(tmp_path / "store", [demonstration])[0], demonstration)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": ActionLayout(arms=0, extra=26)}, "action layouts .* 10 columns .* 26 columns"),
        ({"layout": ActionLayout(arms=0, extra=10)}, r"action layouts .*arms=1.*arms=0"),
        ({"views": ["wrist"]}, r"views .*\['third_person', 'wrist'\].*\['wrist'\]"),
        ({"size": (12, 17)}, r"image sizes .*\(12, 16\).*\(12, 17\).*pass an image size"),
        ({"state": 3}, "state sizes .* has 2, .* has 3"),
        ({"rate": 30.0}, "periods .* 100.0 ms, .* 33.3 ms"),
    ],
)
def test_two_demonstrations_that_do_not_fit_are_both_named(
    tmp_path, make_demonstration, change, message
):
    demonstrations = [make_demonstration("one"), make_demonstration("other", **change)]
    with pytest.raises(DataError, match=message) as caught:
        write_store(tmp_path / "store", demonstrations)
    assert "'one'" in str(caught.value)
    assert "'other'" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_two_demonstrations_of_one_name_are_an_error(tmp_path, make_demonstration):
    with pytest.raises(DataError, match="demonstrations 0 and 1 are both named 'first'"):
        write_store(tmp_path / "store", [make_demonstration(), make_demonstration()])


def test_nothing_to_store_is_an_error(tmp_path):
    with pytest.raises(DataError, match="needs at least one demonstration, got none"):
        write_store(tmp_path / "store", [])
    assert list(tmp_path.iterdir()) == []


def test_a_demonstration_without_frames_never_comes_as_far_as_the_store(make_demonstration):
    with pytest.raises(DataError, match="demonstration 'empty' has no frames"):
        make_demonstration("empty", frames=0)


def test_an_existing_store_is_replaced_only_by_a_complete_one(tmp_path, three, make_demonstration):
    path = tmp_path / "store"
    write_store(path, three)

    def broken() -> Iterator[Demonstration]:
        yield make_demonstration("new")
        assert len(DemonstrationStore.open(path)) == 3
        raise RuntimeError("the reader fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        write_store(path, broken())
    assert len(DemonstrationStore.open(path)) == 3
    assert leftovers(tmp_path) == []
    assert write_store(path, [make_demonstration("new")]).names == ("new",)
    assert leftovers(tmp_path) == []


def test_a_store_can_be_rewritten_from_itself(tmp_path, three):
    path = tmp_path / "store"
    opened = write_store(path, three)
    smaller = write_store(path, opened, image_size=(6, 8))
    assert smaller.sizes["wrist"] == (6, 8)
    same(opened[2], three[2])  # its files live on as long as it is open


def test_what_is_not_a_store_is_never_replaced(tmp_path, three):
    folder, file = tmp_path / "photos", tmp_path / "notes.txt"
    folder.mkdir()
    (folder / "holiday.jpg").write_text("x")
    (folder / "manifest.json").write_text('{"format": "another program"}')
    file.write_text("x")
    for path in (folder, file):
        with pytest.raises(DataError, match="exists and is not a store, it is left as it is"):
            write_store(path, three)
    assert (folder / "holiday.jpg").exists()
    assert file.read_text() == "x"
    (tmp_path / "empty").mkdir()
    assert len(write_store(tmp_path / "empty", three)) == 3


WRITER = """
import sys, time, pathlib
import numpy as np
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import write_store
from alt_ros.types import ActionLayout

def endless():
    for i in range(10_000):
        yield Demonstration(
            name=f"new {i}", stamps=np.arange(4) * 100_000_000,
            images={"wrist": np.zeros((4, 64, 64, 3), np.uint8)}, poses=np.zeros((4, 0, 7)),
            grippers=np.zeros((4, 0)), state=np.zeros((4, 0)), actions=np.zeros((4, 2)),
            layout=ActionLayout(arms=0, extra=2))
        print("written", flush=True)
        time.sleep(0.01)
write_store(sys.argv[1], endless())
"""


def test_a_writer_that_is_killed_leaves_the_old_store_and_its_rest_is_cleared(tmp_path, three):
    path = tmp_path / "store"
    write_store(path, three)
    root = str(Path(__file__).parents[2])
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert writer.stdout is not None
    for _ in range(5):
        assert writer.stdout.readline() == b"written\n"
    # A second writer leaves the files of one that still writes alone.
    write_store(path, three)
    assert len(leftovers(tmp_path)) == 1
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    assert len(leftovers(tmp_path)) == 1
    assert not is_store(tmp_path / leftovers(tmp_path)[0])
    for stored, demonstration in zip(DemonstrationStore.open(path), three, strict=True):
        same(stored, demonstration)
    write_store(path, three)
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_the_old_store(tmp_path, three, monkeypatch):
    path = tmp_path / "store"
    write_store(path, three)
    append = store_module._ArrayWriter.append

    def full(self, rows):
        if self.path.name == "images_wrist.npy" and self.rows >= 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, rows)

    monkeypatch.setattr(store_module._ArrayWriter, "append", full)
    with pytest.raises(
        DependencyError, match=r"store '.*store': the disk is full after 2 demon.* MB are free"
    ):
        write_store(path, three)
    assert leftovers(tmp_path) == []
    assert len(DemonstrationStore.open(path)) == 3


def test_a_really_full_disk_is_said(tmp_path, make_demonstration):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip("FULL DISK ONLY SIMULATED: mounting a small one needs root")
    try:
        with pytest.raises(DependencyError, match="the disk is full after [1-9]"):
            write_store(disk / "s", (make_demonstration(f"{i}", 20) for i in range(100)))
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_without_permission_is_said(tmp_path, three, monkeypatch):
    def refused(self, *_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(DataError, match="cannot be written: .*Permission denied"):
        write_store(tmp_path / "store", three)


@pytest.mark.parametrize(
    "name",
    [
        "images_wrist.npy",
        "images_third_person.npy",
        "stamps.npy",
        "poses.npy",
        "grippers.npy",
        "state.npy",
        "actions.npy",
        "episode_ends.npy",
    ],
)
@pytest.mark.parametrize("kept", ["none", "header", "most"])
def test_an_array_that_was_cut_off_is_named(tmp_path, three, name, kept):
    path = tmp_path / "store"
    write_store(path, three)
    file = path / name
    size = file.stat().st_size
    os.truncate(file, {"none": 0, "header": 70, "most": size - 1}[kept])
    with pytest.raises(DataError, match=rf"'{name}' is absent, cut off or not readable"):
        DemonstrationStore.open(path)
    file.unlink()
    with pytest.raises(DataError, match=rf"'{name}' is absent, cut off or not readable"):
        DemonstrationStore.open(path)


def test_a_changed_value_is_found_by_its_hash(tmp_path, three):
    path = tmp_path / "store"
    write_store(path, three)
    actions = np.load(path / "actions.npy")
    actions[3, 2] += 1e-6
    np.save(path / "actions.npy", actions)
    with pytest.raises(DataError, match=r"'actions.npy' differs from its sha256"):
        DemonstrationStore.open(path)


def test_an_array_of_another_shape_is_named(tmp_path, three):
    path = tmp_path / "store"
    write_store(path, three)
    np.save(path / "images_wrist.npy", np.zeros((13, 12, 15, 3), np.uint8))
    with pytest.raises(DataError, match=r"must be \(13, 12, 16, 3\) uint8, got \(13, 12, 15, 3\)"):
        DemonstrationStore.open(path)


def test_an_array_of_pickled_objects_is_refused(tmp_path, three):
    path = tmp_path / "store"
    write_store(path, three)
    np.save(path / "actions.npy", np.array([{}] * 13, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"'actions.npy' is absent, cut off or not readable"):
        DemonstrationStore.open(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has version 2, this alt_ros reads 1"),
        ({"layout": {"arms": 0, "extra": 0}}, "manifest.json is damaged"),
        ({"layout": None}, "manifest.json is damaged"),
        ({"names": ["only"]}, "must list one name, source and success"),
        ({"names": 3}, "manifest.json is damaged"),
        ({"views": ["left"]}, "manifest.json is damaged"),
        ({"frames": "many"}, "manifest.json is damaged"),
        ({"frames": 12}, r"'stamps.npy' must be \(12,\) int64, got \(13,\)"),
        ({"sha256": {}}, "differs from its sha256"),
        ({"format": "other"}, "is not a store: its manifest.json is of something else"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, three, change, message):
    path = tmp_path / "store"
    write_store(path, three)
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    with pytest.raises(DataError, match=message):
        DemonstrationStore.open(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_a_manifest_that_is_no_json_object_is_named(tmp_path, three, content):
    path = tmp_path / "store"
    write_store(path, three)
    (path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"manifest.json"):
        DemonstrationStore.open(path)


def test_a_missing_store_is_said(tmp_path):
    with pytest.raises(
        DataError, match=r"is not a store, it has no manifest.json: check the path"
    ):
        DemonstrationStore.open(tmp_path / "nowhere")


def test_a_part_of_the_real_push_t_set_goes_through_the_store(tmp_path, shared_data):
    buffer = ZarrReplayBuffer(shared_data / "pusht_human" / "pusht_cchi_v7_replay.zarr.zip")
    begin = time.monotonic()
    opened = write_store(tmp_path / "store", buffer[:20])
    assert time.monotonic() - begin < 20
    assert opened.frames == int(buffer.episode_ends[19])
    same(opened[7], buffer[7])
