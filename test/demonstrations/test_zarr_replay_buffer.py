from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alt_ros import geometry
from alt_ros.demonstrations.zarr_replay_buffer import ZarrReplayBuffer
from alt_ros.errors import ConfigurationError, DataError, DependencyError
from alt_ros.types import ActionLayout

RANDOM = np.random.default_rng(7)
N = 11
ENDS = (3, 5, 11)
BYTES = RANDOM.integers(0, 256, (N, 6, 8, 3), dtype=np.uint8)


def push(images=BYTES, **more):
    return {
        "img": images,
        "state": RANDOM.random((N, 5)).astype(np.float32),
        "action": RANDOM.random((N, 2)).astype(np.float32),
        **more,
    }


def umi():
    turns = RANDOM.normal(size=(N, 3)).astype(np.float32)
    return {
        "camera0_rgb": BYTES,
        "robot0_eef_pos": RANDOM.normal(size=(N, 3)).astype(np.float32),
        "robot0_eef_rot_axis_angle": turns,
        "robot0_gripper_width": RANDOM.random((N, 1)).astype(np.float32),
    }


@pytest.mark.parametrize("name", ["set.zarr", "set.zarr.zip"])
@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_episodes_come_back_as_they_were_written_whatever_the_chunks(
    tmp_path, write_zarr, name, chunk
):
    data = push()
    buffer = ZarrReplayBuffer(write_zarr(tmp_path / name, data, ENDS, chunk))
    assert [len(demonstration) for demonstration in buffer] == [3, 2, 6]
    assert buffer.layout == ActionLayout(arms=0, extra=2)
    second = buffer[1]
    np.testing.assert_array_equal(second.images["img"], BYTES[3:5])
    np.testing.assert_array_equal(second.state, data["state"][3:5])
    np.testing.assert_array_equal(second.actions, data["action"][3:5])
    np.testing.assert_array_equal(second.stamps, [0, 100_000_000])
    assert buffer[-1].name == "episode_000002"
    assert [d.name for d in buffer[1:]] == ["episode_000001", "episode_000002"]


def test_the_rate_parameter_sets_the_stamps(tmp_path, write_zarr):
    buffer = ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr", push(), ENDS), rate=30)
    np.testing.assert_array_equal(buffer[0].stamps, [0, 33_333_333, 66_666_667])
    with pytest.raises(ConfigurationError, match="rate must be positive, got 0"):
        ZarrReplayBuffer(tmp_path / "a.zarr", rate=0)


def test_stamps_of_the_set_win_over_the_rate(tmp_path, write_zarr):
    data = push(timestamp=np.arange(N) * 0.04 + 100.0)
    buffer = ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr", data, ENDS))
    np.testing.assert_array_equal(buffer[0].stamps - 100_000_000_000, [0, 40_000_000, 80_000_000])


@pytest.mark.parametrize("blocks", [1, 3])
def test_the_block_kept_between_episodes_never_shows_in_the_images(
    tmp_path, write_zarr, monkeypatch, blocks
):
    monkeypatch.setattr("alt_ros.demonstrations.zarr_replay_buffer._BLOCK_ROWS", blocks)
    buffer = ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr", push(), ENDS, chunk=2))
    for index in (2, 0, 1, 1, 0, 2):
        start = (0, *ENDS)[index]
        np.testing.assert_array_equal(buffer[index].images["img"], BYTES[start : ENDS[index]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("white", [1.0, 255.0])
def test_float_images_of_either_range_become_the_same_bytes(tmp_path, write_zarr, dtype, white):
    images = (BYTES / 255.0 * white).astype(dtype)
    buffer = ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr", push(images), ENDS))
    np.testing.assert_array_equal(np.concatenate([d.images["img"] for d in buffer]), BYTES)


@pytest.mark.parametrize("highest", [1.0, 1.5, 12.0])
def test_float_images_that_may_be_either_range_are_refused(tmp_path, write_zarr, highest):
    images = np.where(BYTES > 127, highest, 0.0).astype(np.float32)
    path = write_zarr(tmp_path / "a.zarr", push(images), ENDS)
    with pytest.raises(DataError, match=r"may mean 0..1 or 0..255: pass image_maximum"):
        ZarrReplayBuffer(path)
    if highest <= 1.0:
        assert ZarrReplayBuffer(path, image_maximum=1.0)[0].images["img"].max() == highest * 255


@pytest.mark.parametrize("bad", [-1.0, 300.0, np.nan])
def test_an_image_value_out_of_the_range_is_an_error(tmp_path, write_zarr, bad):
    images = BYTES.astype(np.float32)
    images[4, 0, 0, 0] = bad
    path = write_zarr(tmp_path / "a.zarr", push(images), ENDS)
    with pytest.raises(DataError, match="must lie in 0..255"):
        ZarrReplayBuffer(path, image_maximum=255.0)[1]


def test_images_of_another_dtype_are_refused(tmp_path, write_zarr):
    with pytest.raises(DataError, match="must be uint8 or float, got uint16"):
        ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr", push(BYTES.astype(np.uint16)), ENDS))


def test_umi_keys_become_poses_and_the_next_pose_the_action(tmp_path, write_zarr):
    data = umi()
    buffer = ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr.zip", data, ENDS))
    assert buffer.layout == ActionLayout(arms=1)
    last = buffer[2]
    np.testing.assert_allclose(last.poses[:, 0, :3], data["robot0_eef_pos"][5:])
    turns = Rotation.from_quat(last.poses[:, 0, 3:]).as_matrix()
    expected = Rotation.from_rotvec(data["robot0_eef_rot_axis_angle"][5:]).as_matrix()
    np.testing.assert_allclose(turns, expected, atol=1e-6)
    np.testing.assert_allclose(last.grippers, data["robot0_gripper_width"][5:])
    targets, openings = geometry.split_arm_action(last.actions, arms=1)
    np.testing.assert_allclose(targets[:-1, :, :3], last.poses[1:, :, :3])
    np.testing.assert_allclose(targets[-1, :, :3], last.poses[-1, :, :3])
    np.testing.assert_allclose(openings[:-1], last.grippers[1:])
    assert last.state.shape == (6, 0)


def test_a_seven_column_action_is_position_axis_angle_and_gripper(tmp_path, write_zarr):
    action = RANDOM.normal(size=(N, 7))
    buffer = ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr", {**umi(), "action": action}, ENDS))
    targets, openings = geometry.split_arm_action(buffer[0].actions, arms=1)
    np.testing.assert_allclose(targets[:, 0, :3], action[:3, :3])
    np.testing.assert_allclose(
        Rotation.from_quat(targets[:, 0, 3:]).as_matrix(),
        Rotation.from_rotvec(action[:3, 3:6]).as_matrix(),
        atol=1e-9,
    )
    np.testing.assert_allclose(openings[:, 0], action[:3, 6])


@pytest.mark.parametrize("convention", ["rows", "columns"])
def test_a_ten_column_action_is_read_in_the_rot6d_convention_named(
    tmp_path, write_zarr, convention
):
    matrices = Rotation.random(N, random_state=1).as_matrix()
    kept = matrices if convention == "rows" else matrices.transpose(0, 2, 1)
    action = np.concatenate(
        [np.ones((N, 3)), kept[:, :2].reshape(N, 6), np.full((N, 1), 0.04)], axis=1
    )
    path = write_zarr(tmp_path / "a.zarr", {**umi(), "action": action}, ENDS)
    buffer = ZarrReplayBuffer(path, rot6d=convention)
    targets, _ = geometry.split_arm_action(buffer[0].actions, arms=1)
    turned = Rotation.from_quat(targets[:, 0, 3:]).as_matrix()
    np.testing.assert_allclose(turned, matrices[:3], atol=1e-9)


def test_an_arm_without_its_gripper_is_an_error(tmp_path, write_zarr):
    data = umi()
    del data["robot0_gripper_width"]
    with pytest.raises(DataError, match="data/robot0_gripper_width must be"):
        ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr", data, ENDS))


def test_a_set_without_action_and_poses_is_an_error(tmp_path, write_zarr):
    with pytest.raises(DataError, match="needs data/action or robot0_eef_pos"):
        ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr", {"img": BYTES}, ENDS))


def test_an_unknown_view_lists_what_the_set_holds(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "a.zarr", push(), ENDS)
    with pytest.raises(DataError, match=r"views \['wrist'\].*'img': \(11, 6, 8, 3\)"):
        ZarrReplayBuffer(path, views=["wrist"])
    with pytest.raises(DataError, match=r"lacks the state keys \['joints'\]"):
        ZarrReplayBuffer(path, state_keys=["joints"])


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((3, 3, 11), "episode 1 has no frames"),
        ((0, 11), "episode 0 has no frames"),
        ((3, 9), "every array must have 9 rows"),
        ((), "holds no episodes"),
    ],
)
def test_episode_ends_that_do_not_fit_are_an_error(tmp_path, write_zarr, ends, message):
    with pytest.raises(DataError, match=message):
        ZarrReplayBuffer(write_zarr(tmp_path / "a.zarr", push(), ends))


def test_an_absent_image_chunk_is_an_error_and_not_a_black_image(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "a.zarr", push(), ENDS)
    (path / "data" / "img" / "1.0.0.0").unlink()
    with pytest.raises(DataError, match="1 of 3 chunks of data/img are absent"):
        ZarrReplayBuffer(path)


@pytest.mark.parametrize("key", ["img", "action"])
@pytest.mark.parametrize("kept", [0, 10, 20, 40])
def test_a_chunk_that_was_cut_off_is_named_when_it_is_read(tmp_path, write_zarr, key, kept):
    path = write_zarr(tmp_path / "a.zarr", push(), ENDS)
    chunk = path / "data" / key / ("1.0.0.0" if key == "img" else "1.0")
    chunk.write_bytes(chunk.read_bytes()[:kept])
    buffer = ZarrReplayBuffer(path)
    with pytest.raises(DataError, match=f"'data/{key}/1.0.*' is cut off at {kept} bytes"):
        buffer[1]


def test_a_damaged_zip_member_is_named_when_it_is_read(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "a.zarr.zip", push(), ENDS)
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("data/img/1.0.0.0").header_offset + 100
    content = bytearray(path.read_bytes())
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    buffer = ZarrReplayBuffer(path)
    with pytest.raises(DataError, match="of data/img do not decode .*CRC"):
        buffer[1]


def test_a_codec_that_is_not_installed_is_named(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "a.zarr", push(), ENDS)
    header = path / "data" / "img" / ".zarray"
    content = json.loads(header.read_text())
    content["compressor"] = {"id": "never_heard_of", "level": 3}
    header.write_text(json.dumps(content))
    with pytest.raises(DependencyError, match="codec that is not installed.*never_heard_of"):
        ZarrReplayBuffer(path)


@pytest.mark.parametrize("name", ["absent.zarr", "text.zarr.zip", "empty.zarr"])
def test_what_is_no_replay_buffer_is_an_error(tmp_path: Path, name):
    (tmp_path / "text.zarr.zip").write_text("no zip")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(DataError, match=f"zarr replay buffer '.*{name}'"):
        ZarrReplayBuffer(tmp_path / name)


def test_the_real_push_t_set_is_read_whole(shared_data):
    buffer = ZarrReplayBuffer(shared_data / "pusht_human" / "pusht_cchi_v7_replay.zarr.zip")
    assert len(buffer) == 206
    assert int(buffer.episode_ends[-1]) == 25_650
    assert buffer.layout == ActionLayout(arms=0, extra=2)
    demonstration = buffer[100]
    assert demonstration.images["img"].shape == (117, 96, 96, 3)
    assert demonstration.images["img"].max() == 255
    assert demonstration.period == 100_000_000
    # The agent's blue disc is where the state says, pixels of 512 drawn on 96.
    column, row = (demonstration.state[0, :2] / 512 * 96).round().astype(int)
    red, green, blue = demonstration.images["img"][0, row, column]
    assert blue > 200 > green > red
