from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.lerobot import LeRobotDataset, decode_frames
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.types import ActionLayout


def check_first_two(dataset: LeRobotDataset, grey: Callable[[int, int], list[int]]) -> None:
    for index, frames in enumerate((7, 5)):
        demonstration = dataset[index]
        assert demonstration.name == f"episode_{index:06d}"
        assert demonstration.success is (index == 0)
        assert demonstration.layout == ActionLayout(arms=0, extra=3)
        action = np.arange(frames * 3).reshape(frames, 3) + index
        np.testing.assert_array_equal(demonstration.actions, action)
        np.testing.assert_array_equal(demonstration.state, action * 2)
        # float32 seconds, as LeRobot writes them
        assert np.abs(demonstration.stamps - np.arange(frames) * 100_000_000).max() < 100
        images = demonstration.images["top"]
        assert images.shape == (frames, 32, 48, 3)
        shades = images.reshape(frames, -1).mean(axis=1)
        np.testing.assert_allclose(shades, grey(index, frames), atol=2.5)


def test_format_2_1_is_read_and_its_absent_episodes_are_listed(lerobot_v21, grey, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = LeRobotDataset(lerobot_v21)
    assert len(dataset) == 2
    assert dataset.missing == (2,)
    assert "1 of 3 episodes are absent (2), reading 2" in caplog.text
    check_first_two(dataset, grey)


def test_format_3_0_is_read_from_shared_tables_and_videos(lerobot_v30, grey, caplog):
    dataset = LeRobotDataset(lerobot_v30)
    assert dataset.missing == ()
    assert not caplog.records
    check_first_two(dataset, grey)
    check_first_two(dataset, grey)  # the second episode's seek leaves nothing behind


def test_an_episode_asked_for_whose_files_are_absent_is_an_error(lerobot_v21):
    message = r"episode 2 is named in meta/ but its file 'data/.*episode_000002.parquet' is absent"
    with pytest.raises(DataError, match=message):
        LeRobotDataset(lerobot_v21).episode(2)
    with pytest.raises(DataError, match=message):
        LeRobotDataset(lerobot_v21, episodes=[0, 2])
    with pytest.raises(DataError, match="has no episode 9: it names 0-2"):
        LeRobotDataset(lerobot_v21).episode(9)
    with pytest.raises(DataError, match="episode 0 is not among the episodes chosen"):
        LeRobotDataset(lerobot_v21, episodes=[1]).episode(0)


def test_episodes_are_chosen_by_lerobots_number(lerobot_v21):
    dataset = LeRobotDataset(lerobot_v21, episodes=[1, 0])
    assert [demonstration.name for demonstration in dataset] == [
        "episode_000001",
        "episode_000000",
    ]
    assert dataset.episode(1).name == "episode_000001"


def test_an_episode_whose_video_alone_is_absent_counts_as_absent(lerobot_v21):
    next(lerobot_v21.rglob("episode_000001.mp4")).unlink()
    assert LeRobotDataset(lerobot_v21).missing == (1, 2)
    with pytest.raises(DataError, match=r"episode_000001.mp4' is absent"):
        LeRobotDataset(lerobot_v21, episodes=[1])


def test_a_set_without_any_episode_file_is_an_error(lerobot_v21):
    for file in lerobot_v21.rglob("*.parquet"):
        file.unlink()
    with pytest.raises(DataError, match="names 3 episodes and holds the files of none"):
        LeRobotDataset(lerobot_v21)


def test_images_are_resized_while_they_are_decoded(lerobot_v21, grey):
    images = LeRobotDataset(lerobot_v21, image_size=(16, 16))[0].images["top"]
    assert images.shape == (7, 16, 16, 3)
    with pytest.raises(ConfigurationError, match="image_size must be positive"):
        LeRobotDataset(lerobot_v21, image_size=(0, 16))


def test_an_unknown_view_lists_those_there_are(lerobot_v21):
    assert LeRobotDataset(lerobot_v21, views=["observation.images.top"]).views == ("top",)
    with pytest.raises(DataError, match=r"must hold the views \['wrist'\], it holds \['top'\]"):
        LeRobotDataset(lerobot_v21, views=["wrist"])


def edit_info(root: Path, **changes: Any) -> None:
    file = root / "meta" / "info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_another_format_version_is_named(lerobot_v21):
    edit_info(lerobot_v21, codebase_version="v1.6")
    with pytest.raises(DataError, match=r"has format v1.6, readable are v2.0, v2.1, v3.0"):
        LeRobotDataset(lerobot_v21)


def test_damaged_metadata_is_an_error(lerobot_v21, lerobot_v30):
    (lerobot_v21 / "meta" / "episodes.jsonl").write_text('{"episode_index": 0,')
    with pytest.raises(DataError, match="the episodes in meta/ are not readable"):
        LeRobotDataset(lerobot_v21)
    (lerobot_v21 / "meta" / "episodes.jsonl").unlink()
    with pytest.raises(DataError, match=r"lacks '.*episodes.jsonl'"):
        LeRobotDataset(lerobot_v21)
    next((lerobot_v30 / "meta" / "episodes").rglob("*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(DataError, match="the episodes in meta/ are not readable"):
        LeRobotDataset(lerobot_v30)
    (lerobot_v30 / "meta" / "info.json").write_text("[]")
    with pytest.raises(DataError, match=r"meta/info.json lacks \['codebase_version'"):
        LeRobotDataset(lerobot_v30)
    (lerobot_v30 / "meta" / "info.json").unlink()
    with pytest.raises(DataError, match=r"has no meta/info.json: check the path"):
        LeRobotDataset(lerobot_v30)


def test_a_table_that_was_cut_off_is_an_error(lerobot_v21):
    table = next(lerobot_v21.rglob("episode_000000.parquet"))
    table.write_bytes(table.read_bytes()[:500])
    with pytest.raises(DataError, match=r"episode 0: 'episode_000000.parquet' is damaged"):
        LeRobotDataset(lerobot_v21)[0]


def test_a_table_shorter_than_meta_says_is_an_error(lerobot_v21):
    file = next(lerobot_v21.rglob("episode_000000.parquet"))
    pq.write_table(pq.read_table(file).slice(0, 6), file)
    with pytest.raises(DataError, match="meta says 7 frames, .* holds 6"):
        LeRobotDataset(lerobot_v21)[0]


def replace_column(root: Path, name: str, values: Sequence[object]) -> None:
    file = next(root.rglob("episode_000000.parquet"))
    table = pq.read_table(file)
    table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, file)


def test_actions_of_two_sizes_in_one_episode_are_an_error(lerobot_v21):
    replace_column(lerobot_v21, "action", [[0.0, 1.0]] + [[0.0, 1.0, 2.0]] * 6)
    with pytest.raises(DataError, match="every row of 'action' must hold the same number"):
        LeRobotDataset(lerobot_v21)[0]


def test_actions_that_are_not_what_info_says_are_an_error(lerobot_v21):
    replace_column(lerobot_v21, "action", [[0.0, 1.0]] * 7)
    with pytest.raises(DataError, match=r"actions: shape must be \(7, 3\), got \(7, 2\)"):
        LeRobotDataset(lerobot_v21)[0]


def test_timestamps_that_do_not_increase_are_an_error(lerobot_v21):
    replace_column(lerobot_v21, "timestamp", [0.0, 0.1, 0.1, 0.3, 0.4, 0.5, 0.6])
    with pytest.raises(DataError, match="timestamps must be finite and increase"):
        LeRobotDataset(lerobot_v21)[0]


def test_stamps_are_the_timestamps_and_not_the_frame_numbers(lerobot_v21):
    replace_column(lerobot_v21, "timestamp", [0.0, 0.11, 0.19, 0.3, 0.4, 0.52, 0.6])
    stamps = LeRobotDataset(lerobot_v21)[0].stamps
    np.testing.assert_array_equal(stamps[:3], [0, 110_000_000, 190_000_000])


def test_a_video_that_lost_a_frame_is_an_error(lerobot_v21, grey, write_video):
    video = next(lerobot_v21.rglob("episode_000000.mp4"))
    write_video(video, grey(0, 6), times=[0, 1, 2, 4, 5, 6])
    with pytest.raises(DataError, match=r"nearest to 0.300 s must be within 50.0 ms, it is 100.0"):
        LeRobotDataset(lerobot_v21)[0]


def test_a_video_that_ends_early_is_an_error(lerobot_v21, grey, write_video):
    write_video(next(lerobot_v21.rglob("episode_000000.mp4")), grey(0, 5))
    with pytest.raises(DataError, match=r"nearest to 0.500 s must be within 50.0 ms"):
        LeRobotDataset(lerobot_v21)[0]


def test_a_video_that_was_cut_off_is_an_error(lerobot_v21):
    video = next(lerobot_v21.rglob("episode_000000.mp4"))
    video.write_bytes(video.read_bytes()[:300])
    with pytest.raises(DataError, match=r"'episode_000000.mp4' does not decode"):
        LeRobotDataset(lerobot_v21)[0]


def test_frames_are_taken_by_time_where_the_video_has_more_of_them(tmp_path, grey, write_video):
    write_video(tmp_path / "a.mp4", grey(0, 12), gop=12)
    times = np.array([0.31, 0.52, 0.69, 0.9])
    shades = [f.mean() for f in decode_frames(tmp_path / "a.mp4", times, 0.05, "video")]
    np.testing.assert_allclose(shades, np.array(grey(0, 12))[[3, 5, 7, 9]], atol=2.5)


def test_images_kept_inside_the_table_are_read(lerobot_v21):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (7, 8, 10, 3), dtype=np.uint8)
    cells = [
        {"bytes": cv2.imencode(".png", image[..., ::-1])[1].tobytes(), "path": None}
        for image in images
    ]
    file = next(lerobot_v21.rglob("episode_000000.parquet"))
    table = pq.read_table(file).append_column("observation.images.top", pa.array(cells))
    pq.write_table(table, file)
    features = json.loads((lerobot_v21 / "meta" / "info.json").read_text())["features"]
    features["observation.images.top"]["dtype"] = "image"
    edit_info(lerobot_v21, features=features)
    np.testing.assert_array_equal(LeRobotDataset(lerobot_v21)[0].images["top"], images)


def test_the_real_g1_set_is_read_where_it_is_present(shared_data):
    dataset = LeRobotDataset(shared_data / "g1_bottle", image_size=(60, 80))
    assert dataset.episode_numbers == (1, 2, 4)
    assert len(dataset.missing) == 97
    demonstration: Demonstration = dataset[2]
    assert len(demonstration) == 357
    assert demonstration.layout == ActionLayout(arms=0, extra=26)
    assert demonstration.state.shape == (357, 26)
    assert demonstration.images["cam_high"].shape == (357, 60, 80, 3)
    assert abs(demonstration.period - 33_333_333) < 1000
    with pytest.raises(DataError, match="episode 0 is named in meta/ .* or choose from 1-2, 4"):
        dataset.episode(0)
