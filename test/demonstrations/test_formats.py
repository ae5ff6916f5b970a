from __future__ import annotations

import builtins
import errno
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from alt_ros.demonstrations.formats import open_demonstrations
from alt_ros.demonstrations.lerobot import LeRobotDataset
from alt_ros.demonstrations.store import DemonstrationStore, write_store
from alt_ros.demonstrations.zarr_replay_buffer import ZarrReplayBuffer
from alt_ros.errors import ConfigurationError, DataError, DependencyError

ACCEPTED = "name a training store, a zarr replay buffer .*LeRobot.*rosbag2.*or a folder of those"


@pytest.fixture
def zarr_data():
    random = np.random.default_rng(0)
    return {
        "img": random.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8),
        "action": random.random((6, 2)),
    }


@pytest.fixture
def bags(monkeypatch, make_demonstration):
    """Stand in for the bag reader; give the paths that it was asked to open."""
    asked: list[Path] = []

    def open_bags(path, topics=None):
        asked.append(path)
        return [make_demonstration(path.stem)]

    module = types.ModuleType("alt_ros.demonstrations.rosbag")
    module.open_bags = open_bags
    monkeypatch.setitem(sys.modules, "alt_ros.demonstrations.rosbag", module)
    return asked


def test_every_format_is_recognised(
    tmp_path, write_zarr, zarr_data, lerobot_v21, lerobot_v30, make_demonstration
):
    write_store(tmp_path / "store", [make_demonstration()])
    write_zarr(tmp_path / "a.zarr", zarr_data, [2, 6])
    write_zarr(tmp_path / "a.zarr.zip", zarr_data, [2, 6])
    for path, kind, count in (
        (tmp_path / "store", DemonstrationStore, 1),
        (tmp_path / "a.zarr", ZarrReplayBuffer, 2),
        (tmp_path / "a.zarr.zip", ZarrReplayBuffer, 2),
        (lerobot_v21, LeRobotDataset, 2),
        (lerobot_v30, LeRobotDataset, 2),
    ):
        opened = open_demonstrations(str(path))
        assert isinstance(opened, kind)
        assert len(opened) == count


@pytest.mark.parametrize("suffix", ["mcap", "db3"])
def test_bags_are_recognised_as_folder_and_as_file(tmp_path, bags, suffix):
    closed, cut_off = tmp_path / "closed", tmp_path / "cut_off"
    for folder in (closed, cut_off):
        folder.mkdir()
        (folder / f"{folder.name}_0.{suffix}").touch()
    (closed / f"closed_1.{suffix}").touch()
    (closed / "metadata.yaml").touch()
    for path in (closed, cut_off, closed / f"closed_0.{suffix}"):
        assert len(open_demonstrations(path)) == 1
    assert bags == [closed, cut_off, closed / f"closed_0.{suffix}"]


def test_a_folder_of_bags_is_opened_bag_by_bag_and_keeps_their_names(tmp_path, bags):
    for name in ("run_2.1", "run_1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.yaml").touch()
        (tmp_path / name / "x.mcap").touch()
    (tmp_path / "run_3.mcap").touch()
    opened = open_demonstrations(tmp_path)
    assert len(opened) == 3
    assert bags == [tmp_path / "run_1", tmp_path / "run_2.1", tmp_path / "run_3.mcap"]
    assert [d.name for d in opened] == ["run_1", "run_2.1/run_2", "run_3"]


def test_a_folder_of_formats_is_joined_and_its_names_stay_apart(
    tmp_path, write_zarr, zarr_data, lerobot_v30, caplog
):
    write_zarr(tmp_path / "push.zarr.zip", zarr_data, [2, 6])
    (tmp_path / "README.md").touch()
    (tmp_path / "broken_recording").mkdir()
    with caplog.at_level(logging.WARNING):
        opened = open_demonstrations(tmp_path)
    assert "left out 'README.md', 'broken_recording': no demonstrations" in caplog.text
    assert [demonstration.name for demonstration in opened] == [
        "lerobot_v30/episode_000000",
        "lerobot_v30/episode_000001",
        "push/episode_000000",
        "push/episode_000001",
    ]
    assert opened[-1].name == "push/episode_000001"
    assert len(opened[1:3]) == 2


def test_a_folder_of_one_set_gives_that_set(tmp_path, write_zarr, zarr_data):
    write_zarr(tmp_path / "a.zarr", zarr_data, [2, 6])
    assert isinstance(open_demonstrations(tmp_path), ZarrReplayBuffer)


def test_options_reach_the_reader_and_unknown_ones_are_named(tmp_path, write_zarr, zarr_data):
    path = write_zarr(tmp_path / "a.zarr", zarr_data, [2, 6])
    assert open_demonstrations(path, rate=20)[0].period == 50_000_000
    with pytest.raises(ConfigurationError, match=r"its options are \['rate'.*got \['speed'\]"):
        open_demonstrations(path, speed=20)


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(DataError, match=f"folder '.*' is empty: {ACCEPTED}"):
        open_demonstrations(tmp_path)


def test_a_missing_path_is_said(tmp_path):
    with pytest.raises(DataError, match=f"nowhere' does not exist: {ACCEPTED}"):
        open_demonstrations(tmp_path / "nowhere")


def test_a_folder_of_other_things_is_said(tmp_path):
    for i in range(7):
        (tmp_path / f"{i}.jpg").touch()
    with pytest.raises(DataError, match=r"holds no demonstrations, only '0.jpg', .* and 2 more: "):
        open_demonstrations(tmp_path)


def test_another_file_is_said(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=f"is not a demonstration file: {ACCEPTED}"):
        open_demonstrations(tmp_path / "notes.txt")


@pytest.mark.parametrize("method", ["stat", "iterdir"])
def test_a_folder_that_may_not_be_read_is_said(tmp_path, monkeypatch, method):
    def refused(self, *_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, method, refused)
        with pytest.raises(DataError, match=f"'{tmp_path}' may not be read by this user: chmod"):
            open_demonstrations(tmp_path)


def test_a_damaged_store_is_recognised_as_a_store(tmp_path, make_demonstration):
    write_store(tmp_path / "store", [make_demonstration()])
    (tmp_path / "store" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest.json is damaged"):
        open_demonstrations(tmp_path / "store")


def test_a_library_that_is_absent_is_named(tmp_path, write_zarr, zarr_data, monkeypatch):
    path = write_zarr(tmp_path / "a.zarr", zarr_data, [2, 6])
    real = builtins.__import__

    def without_zarr(name, *args, **kwargs):
        if name.split(".")[0] == "zarr":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "alt_ros.demonstrations.zarr_replay_buffer")
    monkeypatch.setattr(builtins, "__import__", without_zarr)
    with pytest.raises(DependencyError, match="needs the Python package 'zarr': pip install zarr"):
        open_demonstrations(path)


def test_the_real_push_t_folder_is_opened(shared_data):
    assert len(open_demonstrations(shared_data / "pusht_human")) == 206
