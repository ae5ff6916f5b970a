"""Bags to demonstrations: MCAP and SQLite, whole, cut off and damaged."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation

from alt_ros.bags.files import find_bags, is_bag
from alt_ros.bags.reading import read_messages
from alt_ros.bags.writing import EpisodeWriter
from alt_ros.demonstrations.rosbag import (
    BagTopics,
    open_bags,
    read_bag,
    replay_observations,
)
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import pose_distance, split_arm_action
from alt_ros.messages import observation_digest
from alt_ros.synchronization import SynchronizationConfig

MS = 1_000_000
START = 1_700_000_000 * 1000 * MS
FRAMES = 20
PERIOD = 50 * MS
STORE = get_typestore(Stores.LATEST)
TYPES = STORE.types
TOPICS = BagTopics()

Message = tuple[str, str, int, Any]  # topic, type, log time, message


def time(stamp: int) -> Any:
    return TYPES["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)


def header(stamp: int) -> Any:
    return TYPES["std_msgs/msg/Header"](stamp=time(stamp), frame_id="base")


def picture(frame: int, view: str, height: int = 24, width: int = 32) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    base = 3 * frame if view == "wrist" else 200 - 3 * frame
    return np.stack([base + 0 * x, 4 * x, 5 * y], -1).astype(np.uint8)


def image(stamp: int, rgb: np.ndarray) -> Any:
    return TYPES["sensor_msgs/msg/Image"](
        header=header(stamp),
        height=rgb.shape[0],
        width=rgb.shape[1],
        encoding="bgr8",
        is_bigendian=0,
        step=rgb.shape[1] * 3,
        data=np.ascontiguousarray(rgb[..., ::-1]).reshape(-1),
    )


def pose_at(stamp: int, ahead: float = 0.0) -> np.ndarray:
    seconds = (stamp - START) / 1e9
    turn = Rotation.from_rotvec([0.0, 0.2 * seconds, 0.5 * seconds])
    return np.r_[0.4 + 0.1 * seconds + ahead, 0.05, 0.3 - 0.1 * seconds, turn.as_quat()]


def pose_stamped(stamp: int, pose: np.ndarray) -> Any:
    x, y, z, qx, qy, qz, qw = map(float, pose)
    return TYPES["geometry_msgs/msg/PoseStamped"](
        header=header(stamp),
        pose=TYPES["geometry_msgs/msg/Pose"](
            position=TYPES["geometry_msgs/msg/Point"](x=x, y=y, z=z),
            orientation=TYPES["geometry_msgs/msg/Quaternion"](x=qx, y=qy, z=qz, w=qw),
        ),
    )


def joint_state(stamp: int, opening: float) -> Any:
    return TYPES["sensor_msgs/msg/JointState"](
        header=header(stamp),
        name=["finger"],
        position=np.array([opening]),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )


def opening_at(stamp: int) -> float:
    return 0.02 + 0.01 * (stamp - START) / 1e9


def commanded_opening(stamp: int) -> float:
    """Return the command that holds at a stamp: closed from 400 ms after the start."""
    return 0.08 if stamp < START + 400 * MS else 0.01


def stamp_of_frame(frame: int) -> int:
    return START + frame * PERIOD + 3 * MS


def messages(
    frames: int = FRAMES,
    *,
    commands: bool = True,
    size_of: Callable[[int], tuple[int, int]] = lambda frame: (24, 32),
) -> list[Message]:
    """Return an episode as a robot's topics give it, in log order, 2 ms after the stamps."""
    made: list[Message] = []

    def add(topic: str, kind: str, stamp: int, message: Any) -> None:
        made.append((topic, kind, stamp + 2 * MS, message))

    for frame in range(frames):
        for view, phase in (("wrist", 0), ("third_person", 8 * MS)):
            stamp = stamp_of_frame(frame) + phase
            rgb = picture(frame, view, *size_of(frame))
            add(TOPICS.images[view], "sensor_msgs/msg/Image", stamp, image(stamp, rgb))
    for stamp in range(START - 20 * MS, START + frames * PERIOD + 40 * MS, 10 * MS):
        add(
            TOPICS.pose,
            "geometry_msgs/msg/PoseStamped",
            stamp,
            pose_stamped(stamp, pose_at(stamp)),
        )
        add(
            TOPICS.gripper,
            "sensor_msgs/msg/JointState",
            stamp,
            joint_state(stamp, opening_at(stamp)),
        )
    if commands:
        for stamp in range(START, START + frames * PERIOD + 40 * MS, 20 * MS):
            target = pose_stamped(stamp, pose_at(stamp, 0.02))
            add(TOPICS.target_pose, "geometry_msgs/msg/PoseStamped", stamp, target)
            opening = TYPES["std_msgs/msg/Float64"](data=commanded_opening(stamp))
            add(TOPICS.target_gripper, "std_msgs/msg/Float64", stamp + MS, opening)
    return sorted(made, key=lambda message: message[2])


def record(path: Path, episode: list[Message], metadata: Mapping[str, str] | None = None) -> Path:
    bag = EpisodeWriter(path, {}, min_free_bytes=0)
    for topic, kind, log_time, message in episode:
        bag.write(topic, kind, log_time, bytes(STORE.serialize_cdr(message, kind)))
    bag.close(metadata)
    return path


def record_sqlite(path: Path, episode: list[Message]) -> Path:
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as bag:
        connections: dict[str, Any] = {}
        for topic, kind, log_time, message in episode:
            if topic not in connections:
                connections[topic] = bag.add_connection(topic, kind, typestore=STORE)
            bag.write(connections[topic], log_time, bytes(STORE.serialize_cdr(message, kind)))
    return path


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return record(tmp_path / "episode_0000", messages())


def mcap_of(bag: Path) -> Path:
    (file,) = bag.glob("*.mcap")
    return file


def check_episode(demonstration: Any, frames: range = range(FRAMES)) -> None:
    """Require every frame to be what was recorded: stamp, images, pose, gripper, action."""
    stamps = [stamp_of_frame(frame) for frame in frames]
    assert demonstration.stamps.tolist() == stamps
    poses, grippers = split_arm_action(demonstration.actions, 1)
    for place, (frame, stamp) in enumerate(zip(frames, stamps, strict=True)):
        for view in ("wrist", "third_person"):
            np.testing.assert_array_equal(demonstration.images[view][place], picture(frame, view))
        measured = pose_distance(demonstration.poses[place, 0], pose_at(stamp))
        assert measured == pytest.approx((0, 0), abs=1e-7)
        assert demonstration.grippers[place, 0] == pytest.approx(opening_at(stamp))
        commanded = pose_distance(poses[place, 0], pose_at(stamp, 0.02))
        assert commanded == pytest.approx((0, 0), abs=1e-7)
        assert grippers[place, 0] == commanded_opening(stamp - stamp % (20 * MS))


def test_an_mcap_bag_is_read_frame_by_frame(bag):
    demonstration = read_bag(bag)
    check_episode(demonstration)
    assert demonstration.name == "episode_0000"
    assert demonstration.source == str(bag)
    assert demonstration.success is None


def test_an_sqlite_bag_is_read_to_the_same(tmp_path):
    check_episode(read_bag(record_sqlite(tmp_path / "episode", messages())))


@pytest.mark.parametrize("recorded", [record, record_sqlite])
def test_a_bag_file_of_its_own_is_read_to_the_same(tmp_path, recorded):
    folder = recorded(tmp_path / "episode_0007", messages())
    (file,) = (*folder.glob("*.mcap"), *folder.glob("*.db3"))
    moved = file.rename(tmp_path / file.name)
    demonstration = read_bag(moved)
    check_episode(demonstration)
    assert demonstration.name == "episode_0007"


@pytest.mark.parametrize("recorded", [record, record_sqlite])
def test_a_closed_bag_without_its_metadata_file_is_read_to_the_same(tmp_path, recorded):
    folder = recorded(tmp_path / "episode", messages())
    (folder / "metadata.yaml").unlink()
    check_episode(read_bag(folder))


@pytest.mark.parametrize(
    ("metadata", "success"),
    [({"success": "true"}, True), ({"success": "false"}, False), ({}, None)],
)
@pytest.mark.parametrize("kept", ["folder", "no metadata.yaml", "file"])
def test_success_is_what_the_recorder_noted(tmp_path, metadata, success, kept):
    path = record(tmp_path / "episode", messages(3), metadata)
    if kept == "no metadata.yaml":
        (path / "metadata.yaml").unlink()
    elif kept == "file":
        path = mcap_of(path).rename(tmp_path / "lonely.mcap")
    assert read_bag(path).success is success


def test_a_success_that_is_neither_true_nor_false_is_refused(tmp_path):
    path = record(tmp_path / "episode", messages(3), {"success": "perhaps"})
    with pytest.raises(DataError, match="success must be 'true' or 'false', got 'perhaps'"):
        read_bag(path)


def test_without_commands_the_measured_pose_is_the_action(tmp_path):
    demonstration = read_bag(record(tmp_path / "episode", messages(5, commands=False)))
    poses, grippers = split_arm_action(demonstration.actions, 1)
    for pose, stamp in zip(poses[:, 0], demonstration.stamps, strict=True):
        assert pose_distance(pose, pose_at(int(stamp))) == pytest.approx((0, 0), abs=1e-7)
    np.testing.assert_array_equal(grippers, demonstration.grippers)


def test_frames_before_the_first_command_are_left_out(tmp_path):
    commands = {TOPICS.target_pose, TOPICS.target_gripper}
    late = [m for m in messages() if m[0] not in commands or m[2] > START + 5 * PERIOD]
    demonstration = read_bag(record(tmp_path / "episode", late))
    assert 5 <= FRAMES - len(demonstration) <= 6
    check_episode(demonstration, range(FRAMES - len(demonstration), FRAMES))


@pytest.mark.parametrize("absent", [TOPICS.target_pose, TOPICS.target_gripper])
def test_half_a_command_is_refused_and_the_missing_topic_is_named(tmp_path, absent):
    episode = [m for m in messages(3) if m[0] != absent]
    with pytest.raises(DataError, match=f"none on '{absent}'"):
        read_bag(record(tmp_path / "episode", episode))


@pytest.mark.parametrize("damaged", [np.zeros(7), np.r_[np.nan, 0, 0, 0, 0, 0, 1]])
def test_a_damaged_command_is_refused(tmp_path, damaged):
    broken = (
        TOPICS.target_pose,
        "geometry_msgs/msg/PoseStamped",
        START + 60 * MS,
        pose_stamped(START + 60 * MS, damaged),
    )
    episode = sorted([*messages(3), broken], key=lambda message: message[2])
    with pytest.raises(DataError, match="'/target_pose': "):
        read_bag(record(tmp_path / "episode", episode))


def test_an_image_size_that_changes_is_refused(tmp_path):
    episode = messages(6, size_of=lambda frame: (24, 32) if frame < 3 else (12, 16))
    with pytest.raises(DataError, match="image size changes within the episode"):
        read_bag(record(tmp_path / "episode", episode))


def test_a_replay_leaves_out_frames_of_another_size_as_the_live_node_does(tmp_path, caplog):
    episode = messages(6, size_of=lambda frame: (12, 16) if frame == 3 else (24, 32))
    bag = record(tmp_path / "episode", episode)
    config = SynchronizationConfig(tuple(TOPICS.images))
    stamps = [o.stamp for o in replay_observations(bag, TOPICS, config)]
    assert stamps == [stamp_of_frame(k) for k in (0, 1, 2, 4, 5)]
    assert "began with images of 32x24, got one of 16x12" in caplog.text


def transform(parent: str, child: str, stamp: int, pose: np.ndarray) -> Any:
    x, y, z, qx, qy, qz, qw = map(float, pose)
    message = TYPES["geometry_msgs/msg/TransformStamped"](
        header=header(stamp),
        child_frame_id=child,
        transform=TYPES["geometry_msgs/msg/Transform"](
            translation=TYPES["geometry_msgs/msg/Vector3"](x=x, y=y, z=z),
            rotation=TYPES["geometry_msgs/msg/Quaternion"](x=qx, y=qy, z=qz, w=qw),
        ),
    )
    message.header.frame_id = parent
    return TYPES["tf2_msgs/msg/TFMessage"](transforms=[message])


def with_transforms(episode: list[Message]) -> list[Message]:
    """Return the episode with its poses on /tf: base to flange, and the tool fixed on that."""
    half_turn = np.array([0.0, 0.0, 0.1, 0.0, 0.0, 1.0, 0.0])
    kind = "tf2_msgs/msg/TFMessage"
    made = [("/tf_static", kind, START - 20 * MS, transform("flange", "tool", 0, half_turn))]
    for topic, name, log_time, message in episode:
        if topic != TOPICS.pose:
            made.append((topic, name, log_time, message))
            continue
        stamp = log_time - 2 * MS
        pose = pose_at(stamp)
        turn = Rotation.from_quat(pose[3:]) * Rotation.from_euler("z", np.pi)
        pose[:3] -= turn.apply([0.0, 0.0, 0.1])
        pose[3:] = turn.as_quat()
        made.append(("/tf", kind, log_time, transform("/base", "flange", stamp, pose)))
    return made


def test_the_pose_comes_out_of_the_transforms_that_a_bag_holds(tmp_path):
    topics = BagTopics(pose_source="tf", base_frame="base", eef_frame="tool")
    path = record(tmp_path / "episode", with_transforms(messages()))
    check_episode(read_bag(path, topics))
    config = SynchronizationConfig(tuple(TOPICS.images))
    digests = [
        [observation_digest(o) for o in replay_observations(path, topics, config)]
        for _ in range(2)
    ]
    assert digests[0] == digests[1]


def test_transforms_that_do_not_connect_are_named(tmp_path):
    topics = BagTopics(pose_source="tf", base_frame="base", eef_frame="gripper")
    path = record(tmp_path / "episode", with_transforms(messages(4)))
    with pytest.raises(DataError, match="'/tf', '/tf_static'.*'gripper' was not received"):
        read_bag(path, topics)


def test_an_unknown_source_of_the_pose_is_refused():
    with pytest.raises(ConfigurationError, match="pose_source must be one of topic, tf"):
        BagTopics(pose_source="odometry")


def test_a_frame_that_does_not_decode_is_left_out_with_a_warning(tmp_path, caplog):
    episode = messages(6)
    third = [m for m in episode if m[0] == TOPICS.images["wrist"]][3]
    third[3].encoding = "32FC1"
    demonstration = read_bag(record(tmp_path / "episode", episode))
    assert demonstration.stamps.tolist() == [stamp_of_frame(k) for k in (0, 1, 2, 4, 5)]
    assert "'32FC1' is not known" in caplog.text


def test_a_bag_without_the_topics_is_refused_and_they_are_named(bag):
    topics = BagTopics(images={"wrist": "/camera/color"}, pose="/tcp")
    with pytest.raises(DataError, match="'/camera/color'.*'/tcp'.*'/gripper_state'"):
        read_bag(bag, topics)


def test_a_closed_bag_without_a_message_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no frame"):
        read_bag(record(tmp_path / "episode", []))


def test_topics_that_are_absent_give_no_messages_rather_than_all(bag):
    assert list(read_messages(bag, ["/absent"])) == []
    assert {topic for topic, _, _ in read_messages(bag, [TOPICS.pose])} == {TOPICS.pose}
    assert len(list(read_messages(bag))) == len(messages())


def test_the_views_and_their_order_are_those_asked_for(bag):
    images = dict(reversed(TOPICS.images.items()))
    demonstration = read_bag(bag, BagTopics(images=images))
    assert list(demonstration.images) == ["third_person", "wrist"]
    assert demonstration.stamps[0] == stamp_of_frame(0) + 8 * MS


def test_a_replay_gives_the_same_bits_every_time_and_from_either_storage(tmp_path):
    config = SynchronizationConfig(tuple(TOPICS.images))
    bags = [
        record(tmp_path / "mcap", messages()),
        record_sqlite(tmp_path / "sqlite", messages()),
    ]
    digests = [
        [observation_digest(o) for o in replay_observations(path, TOPICS, config)]
        for path in (*bags, *bags)
    ]
    assert len(set(digests[0])) == FRAMES
    assert digests == [digests[0]] * 4


# ---------------------------------------------------------------- cut off and damaged

# Large enough for several chunks of 1 MiB, which is what a recorder writes at once.
LARGE = (240, 320)


@pytest.fixture(scope="module")
def large_bag(tmp_path_factory) -> Path:
    episode = messages(size_of=lambda frame: LARGE)
    return record(tmp_path_factory.mktemp("large") / "episode", episode)


@pytest.mark.parametrize("with_metadata", [True, False])
@pytest.mark.parametrize("kept", [0.5, 0.7, 0.999])
def test_a_bag_that_was_cut_off_is_read_up_to_the_cut(
    large_bag, tmp_path, caplog, kept, with_metadata
):
    cut = Path(shutil.copytree(large_bag, tmp_path / "cut"))
    file = mcap_of(cut)
    whole = list(read_messages(large_bag))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    if not with_metadata:
        (cut / "metadata.yaml").unlink()
    for path in (cut, file):
        caplog.clear()
        got = list(read_messages(path))
        assert [(t, s) for t, s, _ in got] == [(t, s) for t, s, _ in whole[: len(got)]]
        assert (kept - 0.25) * len(whole) <= len(got) <= len(whole)  # a chunk is a fifth
        assert f"was cut off: read {len(got)} messages" in caplog.text
    demonstration = read_bag(cut)
    assert 0.3 * FRAMES * kept <= len(demonstration) <= FRAMES
    assert demonstration.stamps.tolist() == [stamp_of_frame(k) for k in range(len(demonstration))]
    assert demonstration.success is None


def test_a_cut_off_bag_without_commands_uses_the_measured_pose(tmp_path, caplog):
    episode = messages(size_of=lambda frame: LARGE, commands=False)
    bag = record(tmp_path / "episode", episode)
    file = mcap_of(bag)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.8)])
    demonstration = read_bag(bag)
    np.testing.assert_array_equal(
        split_arm_action(demonstration.actions, 1)[1], demonstration.grippers
    )
    assert "was cut off" in caplog.text


def test_an_sqlite_bag_that_was_cut_off_is_read_up_to_the_cut(tmp_path, caplog):
    bag = record_sqlite(tmp_path / "episode", messages(size_of=lambda frame: LARGE))
    (file,) = bag.glob("*.db3")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.7)])
    demonstration = read_bag(bag)
    assert 0.5 * FRAMES < len(demonstration) < FRAMES
    assert demonstration.stamps.tolist() == [stamp_of_frame(k) for k in range(len(demonstration))]
    assert "was cut off" in caplog.text


@pytest.mark.parametrize("kept", [0, 3, 8, 20, 100, 1000])
def test_a_bag_cut_off_before_its_first_message_is_refused(large_bag, tmp_path, kept):
    cut = Path(shutil.copytree(large_bag, tmp_path / "cut"))
    mcap_of(cut).write_bytes(mcap_of(large_bag).read_bytes()[:kept])
    for path in (cut, mcap_of(cut)):
        with pytest.raises(DataError, match="cut off before its first whole message"):
            read_bag(path)


@pytest.mark.parametrize("kept", [1.0, 0.8, 0.0])
def test_a_split_bag_whose_last_file_was_cut_off_is_read_up_to_the_cut(tmp_path, kept):
    episode = messages(size_of=lambda frame: LARGE)
    half = len(episode) // 2
    split = tmp_path / "episode"
    split.mkdir()
    for number, part in ((9, episode[:half]), (10, episode[half:])):  # 10 comes after 9
        file = mcap_of(record(tmp_path / f"episode_{number}", part))
        file.rename(split / f"episode_{number}.mcap")
    last = split / "episode_10.mcap"
    last.write_bytes(last.read_bytes()[: int(last.stat().st_size * kept)])
    got = [(topic, log_time) for topic, log_time, _ in read_messages(split)]
    assert got == [(topic, log_time) for topic, _, log_time, _ in episode[: len(got)]]
    assert len(got) == len(episode) if kept == 1.0 else half <= len(got) < len(episode)
    assert len(read_bag(split)) >= FRAMES // 2 - 1


def test_messages_of_our_own_types_are_read_from_a_cut_off_bag_too(tmp_path):
    definitions = {"alt_ros/msg/Outer": "Inner[] parts\n", "alt_ros/msg/Inner": "uint8[] data\n"}
    store = get_typestore(Stores.LATEST)
    for name, text in definitions.items():
        store.register(get_types_from_msg(text, name))
    inner = store.types["alt_ros/msg/Inner"](data=np.arange(250, dtype=np.uint8))
    outer = store.types["alt_ros/msg/Outer"](parts=[inner] * 1000)
    data = bytes(store.serialize_cdr(outer, "alt_ros/msg/Outer"))
    bag = EpisodeWriter(tmp_path / "episode", definitions, min_free_bytes=0)
    for k in range(10):
        bag.write("/outer", "alt_ros/msg/Outer", k, data)
    bag.close()
    file = mcap_of(tmp_path / "episode")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
    got = [message for _, _, message in read_messages(tmp_path / "episode")]
    assert len(got) == 5
    assert got[4].parts[999].data.tolist() == list(range(250))


@pytest.mark.parametrize("recorded", [record, record_sqlite])
def test_damaged_bytes_give_an_episode_or_a_data_error_and_nothing_else(tmp_path, recorded):
    folder = recorded(tmp_path / "episode", messages(4))
    (file,) = (*folder.glob("*.mcap"), *folder.glob("*.db3"))
    whole = file.read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 20])):
            start = chance.choice([0, len(whole) // 2, len(whole) - 4096])
            damaged[chance.randrange(start, start + 4096)] = chance.randrange(256)
        file.write_bytes(damaged)
        try:
            read_bag(file)
        except DataError:
            refused += 1
    assert 5 < refused < 60


@pytest.mark.parametrize("content", [b"", b"no bag", bytes(5000)])
@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3", "bag.txt"])
def test_a_file_that_is_no_bag_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_bag(tmp_path / name)


def test_a_path_that_does_not_exist_and_an_empty_folder_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "absent", tmp_path / "empty"):
        with pytest.raises(DataError, match=path.name):
            read_bag(path)
        with pytest.raises(DataError, match="holds no rosbag2 bag"):
            open_bags(path)


def test_metadata_that_cannot_be_parsed_is_refused(bag):
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: [unclosed")
    with pytest.raises(DataError, match="episode_0000"):
        read_bag(bag)


# ---------------------------------------------------------------- folders of bags


def test_a_folder_of_bags_is_a_sequence_of_episodes_by_name(tmp_path):
    for name, frames in (("b", 4), ("a", 3)):
        record(tmp_path / name, messages(frames))
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").touch()
    episodes = open_bags(tmp_path)
    assert [(episode.name, len(episode)) for episode in episodes] == [("a", 3), ("b", 4)]


def test_a_bag_is_known_by_its_files(tmp_path, bag):
    assert find_bags(bag) == [bag]
    assert is_bag(mcap_of(bag))
    assert not is_bag(tmp_path)
    (bag / "metadata.yaml").unlink()
    assert is_bag(bag)
