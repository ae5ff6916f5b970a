"""Message fields as arrays, with real message classes: those that rosbags generates."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from alt_ros.bags.writing import read_definitions
from alt_ros.errors import DataError
from alt_ros.messages import (
    chunk_of,
    image_of,
    nanoseconds,
    observation_digest,
    observation_of,
    opening_of,
    pose_of,
    raw_stamp,
    stamp_of,
    transforms_of,
    with_raw_stamp,
)
from alt_ros.types import Neighbour, Observation

MESSAGES = Path(__file__).parents[1] / "msg"
STORE = get_typestore(Stores.LATEST)
for name, text in read_definitions(sorted(MESSAGES.glob("*.msg"))).items():
    STORE.register(get_types_from_msg(text, name))
TYPES = STORE.types

STAMP = 1_700_000_000_123_456_789
RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def time(stamp: int, kind: str = "Time") -> Any:
    return TYPES[f"builtin_interfaces/msg/{kind}"](sec=stamp // 10**9, nanosec=stamp % 10**9)


def header(stamp: int = STAMP) -> Any:
    return TYPES["std_msgs/msg/Header"](stamp=time(stamp), frame_id="base")


def pose(values: tuple[float, ...] = (0.1, 0.2, 0.3, 0.0, 0.0, 0.6, 0.8)) -> Any:
    x, y, z, qx, qy, qz, qw = values
    return TYPES["geometry_msgs/msg/Pose"](
        position=TYPES["geometry_msgs/msg/Point"](x=x, y=y, z=z),
        orientation=TYPES["geometry_msgs/msg/Quaternion"](x=qx, y=qy, z=qz, w=qw),
    )


def image(rgb: np.ndarray = RGB) -> Any:
    return TYPES["sensor_msgs/msg/Image"](
        header=header(),
        height=rgb.shape[0],
        width=rgb.shape[1],
        encoding="rgb8",
        is_bigendian=0,
        step=rgb.shape[1] * 3,
        data=rgb.reshape(-1),
    )


def joints(names: list[str], positions: list[float]) -> Any:
    empty = np.zeros(0)
    return TYPES["sensor_msgs/msg/JointState"](
        header=header(), name=names, position=np.array(positions), velocity=empty, effort=empty
    )


def observation(**fields: Any) -> Any:
    whole = {
        "header": header(),
        "views": ["wrist", "third_person"],
        "images": [image(), image(RGB[::-1].copy())],
        "poses": [pose()],
        "grippers": np.array([0.04]),
        "skew": time(8_000_000, "Duration"),
        "age": time(1, "Duration"),
        "published": time(2),
    }
    return TYPES["alt_ros/msg/Observation"](**whole | fields)


def chunk(**fields: Any) -> Any:
    whole = {
        "header": header(),
        "period": time(50_000_000, "Duration"),
        "arms": 1,
        "extra": 0,
        "actions": np.arange(30, dtype=np.float64),
        "policy": "alt",
        "demonstration": 4,
        "demonstration_name": "fourth",
        "frame": 17,
        "similarity": 0.75,
        "encode_seconds": 0.0,
        "policy_seconds": 0.0,
        "observation_published": time(0),
    }
    return TYPES["alt_ros/msg/ActionChunk"](**whole | fields)


@pytest.mark.parametrize("stamp", [0, 1, 999_999_999, 10**9, STAMP])
def test_a_stamp_keeps_every_nanosecond(stamp):
    assert stamp_of(observation(header=header(stamp))) == stamp


def test_a_negative_duration_keeps_its_sign():
    # ROS normalises -0.25 s to -1 s and 750,000,000 ns.
    assert nanoseconds(time(-250_000_000, "Duration")) == -250_000_000


def test_a_raw_image_message_is_decoded():
    np.testing.assert_array_equal(image_of(image()), RGB)


def test_a_compressed_image_message_is_decoded():
    buffer = io.BytesIO()
    Picture.fromarray(RGB).save(buffer, "PNG")
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    message = TYPES["sensor_msgs/msg/CompressedImage"](header=header(), format="png", data=data)
    np.testing.assert_array_equal(image_of(message), RGB)


def test_an_image_message_that_contradicts_itself_is_refused():
    message = image()
    message.height = 5
    with pytest.raises(DataError, match="6x5 rgb8"):
        image_of(message)


def test_a_pose_is_position_then_quaternion_with_w_last():
    np.testing.assert_array_equal(pose_of(pose()), [0.1, 0.2, 0.3, 0.0, 0.0, 0.6, 0.8])


def test_a_transforms_message_gives_links_with_their_own_stamps():
    stamped = [
        TYPES["geometry_msgs/msg/TransformStamped"](
            header=header(STAMP + k),
            child_frame_id=child,
            transform=TYPES["geometry_msgs/msg/Transform"](
                translation=TYPES["geometry_msgs/msg/Vector3"](x=0.1 + k, y=0.2, z=0.3),
                rotation=TYPES["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.6, w=0.8),
            ),
        )
        for k, child in enumerate(["link", "tool"])
    ]
    first, second = transforms_of(TYPES["tf2_msgs/msg/TFMessage"](transforms=stamped))
    assert first[:3] == ("base", "link", STAMP)
    assert second[:3] == ("base", "tool", STAMP + 1)
    np.testing.assert_array_equal(second[3], [1.1, 0.2, 0.3, 0.0, 0.0, 0.6, 0.8])


def test_the_only_joint_is_the_gripper():
    assert opening_of(joints(["finger"], [0.03])) == 0.03
    assert opening_of(joints([], [0.03])) == 0.03


def test_a_named_joint_is_found_among_others():
    assert opening_of(joints(["elbow", "finger"], [1.2, 0.03]), "finger") == 0.03


@pytest.mark.parametrize(
    ("names", "positions", "joint"),
    [
        (["elbow", "finger"], [1.2, 0.03], ""),
        (["elbow"], [1.2], "finger"),
        (["elbow", "finger"], [1.2], "finger"),
        ([], [], ""),
    ],
)
def test_a_gripper_that_cannot_be_told_is_refused_with_the_remedy(names, positions, joint):
    with pytest.raises(DataError, match="set the parameter gripper_joint"):
        opening_of(joints(names, positions), joint)


def test_an_observation_message_becomes_an_observation():
    got = observation_of(observation())
    assert got.stamp == STAMP
    assert got.skew == 8_000_000
    assert list(got.images) == ["wrist", "third_person"]
    np.testing.assert_array_equal(got.images["third_person"], RGB[::-1])
    np.testing.assert_array_equal(got.poses, [[0.1, 0.2, 0.3, 0.0, 0.0, 0.6, 0.8]])
    np.testing.assert_array_equal(got.grippers, [0.04])


def test_an_observation_without_an_arm_has_no_poses():
    got = observation_of(observation(poses=[], grippers=np.zeros(0)))
    assert got.poses.shape == (0, 7)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"views": ["wrist"]}, "1 views and holds 2 images"),
        ({"views": [], "images": []}, "at least one image"),
        ({"poses": [pose(), pose()]}, "per arm"),
        ({"poses": [pose((0, 0, 0, 0, 0, 0, 0))]}, "norm 1"),
        ({"grippers": np.array([np.nan])}, "finite"),
    ],
)
def test_a_damaged_observation_message_is_refused(fields, reason):
    with pytest.raises(DataError, match=reason):
        observation_of(observation(**fields))


def test_a_chunk_message_becomes_a_chunk():
    got = chunk_of(chunk())
    assert (got.stamp, got.period) == (STAMP, 50_000_000)
    np.testing.assert_array_equal(got.actions, np.arange(30.0).reshape(3, 10))
    assert got.source == Neighbour(4, 17, 0.75)


def test_a_generated_chunk_has_no_source():
    assert chunk_of(chunk(demonstration=-1)).source is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"actions": np.zeros(0)}, "0 values"),
        ({"actions": np.zeros(29)}, "29 values"),
        ({"actions": np.full(10, np.nan)}, "finite"),
        ({"actions": np.full(10, np.inf)}, "finite"),
        ({"arms": 0}, "at least one column"),
        ({"arms": 2}, "rows of 20"),
        ({"period": time(0, "Duration")}, "period must be positive"),
    ],
)
def test_a_damaged_chunk_message_is_refused(fields, reason):
    with pytest.raises(DataError, match=reason):
        chunk_of(chunk(**fields))


BASE = {
    "stamp": 5,
    "images": {"wrist": RGB},
    "poses": np.array([[0.5, 0, 0.3, 0, 0, 0, 1.0]]),
    "grippers": np.array([0.04]),
    "state": np.array([1.0]),
    "skew": 3,
}


def test_equal_observations_have_equal_digests():
    copies = {"images": {"wrist": RGB.copy()}, "poses": BASE["poses"].copy()}
    assert observation_digest(Observation(**BASE)) == observation_digest(
        Observation(**BASE | copies)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"stamp": 6},
        {"skew": 4},
        {"images": {"third_person": RGB}},
        {"images": {"wrist": RGB.reshape(6, 4, 3)}},
        {"images": {"wrist": RGB ^ np.uint8(1)}},
        {"poses": np.nextafter(BASE["poses"], 2.0)},
        {"grippers": np.nextafter(BASE["grippers"], 2.0)},
        {"state": np.nextafter(BASE["state"], 2.0)},
    ],
    ids=["stamp", "skew", "view", "shape", "pixels", "pose", "gripper", "state"],
)
def test_the_digest_tells_a_single_bit(change):
    assert observation_digest(Observation(**BASE | change)) != observation_digest(
        Observation(**BASE)
    )


@pytest.mark.parametrize(("order", "flag"), [("<", 1), (">", 0)])
def test_a_stamp_is_changed_in_place_and_nothing_else(order, flag):
    rest = b"frame and everything after it"
    raw = bytes([0, flag, 0, 0]) + struct.pack(f"{order}iI", 63, 5) + rest
    assert raw_stamp(raw) == 63 * 10**9 + 5
    changed = with_raw_stamp(raw, STAMP + 9)
    assert raw_stamp(changed) == STAMP + 9
    assert (changed[:4], changed[12:]) == (raw[:4], rest)
    assert with_raw_stamp(changed, raw_stamp(raw)) == raw
