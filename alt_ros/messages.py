"""The fields of ROS messages as arrays: for rclpy's classes and for rosbags' alike.

Both libraries give messages the same field names, so these functions take either and import
neither. The live nodes and the bag reader go through them, which is why replay equals live.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError
from alt_ros.preprocessing import decode_compressed_image, decode_image
from alt_ros.types import (
    NANOSECONDS,
    ActionChunk,
    ActionLayout,
    Neighbour,
    Observation,
    OodDecision,
    Query,
)

Array = NDArray[np.float64]

_STAMP = {0: struct.Struct(">iI"), 1: struct.Struct("<iI")}
_OFFSET = 4  # after the encapsulation header, whose second byte tells the byte order


def nanoseconds(time: Any) -> int:
    """Return a Time or Duration message in ns."""
    return int(time.sec) * NANOSECONDS + int(time.nanosec)


def stamp_of(message: Any) -> int:
    """Return the header's stamp in ns."""
    return nanoseconds(message.header.stamp)


def raw_stamp(raw: bytes) -> int:
    """Return the stamp of a serialised message that begins with one (as a Header does), ns."""
    seconds, nanoseconds = _STAMP[raw[1] & 1].unpack_from(raw, _OFFSET)
    return int(seconds * NANOSECONDS + nanoseconds)


def with_raw_stamp(raw: bytes, stamp: int) -> bytes:
    """Return a serialised message that begins with a stamp, with another one (ns)."""
    packer = _STAMP[raw[1] & 1]
    packed = packer.pack(*divmod(stamp, NANOSECONDS))
    return b"".join((raw[:_OFFSET], packed, memoryview(raw)[_OFFSET + packer.size :]))


def image_of(message: Any) -> NDArray[np.uint8]:
    """Return the RGB image (H, W, 3) of an Image or CompressedImage message.

    Raises:
        DataError: It does not decode.
    """
    data = np.asarray(message.data, dtype=np.uint8)
    if hasattr(message, "format"):
        return decode_compressed_image(data)
    return decode_image(
        data,
        encoding=message.encoding,
        height=int(message.height),
        width=int(message.width),
        step=int(message.step),
        big_endian=bool(message.is_bigendian),
    )


def pose_of(pose: Any) -> Array:
    """Return a Pose message as (7,): position, quaternion x, y, z, w; not validated."""
    position, orientation = pose.position, pose.orientation
    return np.array(
        [
            position.x,
            position.y,
            position.z,
            orientation.x,
            orientation.y,
            orientation.z,
            orientation.w,
        ],
        dtype=np.float64,
    )


def transforms_of(message: Any) -> list[tuple[str, str, int, Array]]:
    """Return (parent, child, stamp in ns, pose (7,)) per transform of a TFMessage; unvalidated."""
    transforms: list[tuple[str, str, int, Array]] = []
    for stamped in message.transforms:
        position, orientation = stamped.transform.translation, stamped.transform.rotation
        values = [position.x, position.y, position.z]
        values += [orientation.x, orientation.y, orientation.z, orientation.w]
        pose = np.array(values, dtype=np.float64)
        transforms.append(
            (stamped.header.frame_id, stamped.child_frame_id, stamp_of(stamped), pose)
        )
    return transforms


def opening_of(joint_state: Any, joint: str = "") -> float:
    """Return the gripper's opening in metres from a JointState message.

    Args:
        joint_state: The message; the joint's position is the opening.
        joint: Name of the joint; empty takes the only one.

    Raises:
        DataError: The joint is not in the message, or there is more than one and none is named.
    """
    names, positions = list(joint_state.name), joint_state.position
    if joint in names and len(positions) > names.index(joint):
        return float(positions[names.index(joint)])
    if not joint and len(positions) == 1:
        return float(positions[0])
    raise DataError(
        f"gripper state holds the joints {names} with {len(positions)} positions, wanted "
        f"'{joint or 'exactly one'}': set the parameter gripper_joint"
    )


def observation_of(message: Any) -> Observation:
    """Return the Observation of an alt_ros/Observation message.

    Raises:
        DataError: Sizes contradict each other, or an image or a pose is damaged.
    """
    if len(message.views) != len(message.images):
        raise DataError(
            f"observation names {len(message.views)} views and holds {len(message.images)} images"
        )
    return Observation(
        stamp=stamp_of(message),
        images={
            view: image_of(image)
            for view, image in zip(message.views, message.images, strict=True)
        },
        poses=np.array([pose_of(pose) for pose in message.poses]).reshape(-1, 7),
        grippers=np.array(message.grippers, dtype=np.float64),
        skew=nanoseconds(message.skew),
    )


def query_of(message: Any) -> Query:
    """Return the Query of an alt_ros/Embedding message."""
    view_values = np.array(message.view_values, dtype=np.float32)
    return Query(
        stamp=stamp_of(message),
        embedding=np.array(message.values, dtype=np.float32),
        view_embeddings=view_values.reshape(len(message.views), -1),
        poses=np.array([pose_of(pose) for pose in message.poses]).reshape(-1, 7),
    )


def chunk_of(message: Any) -> ActionChunk:
    """Return the ActionChunk of an alt_ros/ActionChunk message.

    Raises:
        DataError: Sizes contradict each other, or a value is not finite.
    """
    layout = ActionLayout(int(message.arms), int(message.extra))
    actions = np.array(message.actions, dtype=np.float64)
    if actions.size == 0 or actions.size % layout.size:
        raise DataError(
            f"action chunk holds {actions.size} values, which is no whole number of rows of "
            f"{layout.size}"
        )
    source = None
    if message.demonstration >= 0:
        source = Neighbour(
            int(message.demonstration), int(message.frame), float(message.similarity)
        )
    return ActionChunk(
        stamp=stamp_of(message),
        period=nanoseconds(message.period),
        actions=actions.reshape(-1, layout.size),
        layout=layout,
        source=source,
    )


def decision_of(message: Any) -> OodDecision:
    """Return the monitor's decision of an alt_ros/OodFlag message."""
    return OodDecision(
        flag=bool(message.flag),
        score=float(message.score),
        threshold=float(message.threshold),
        neighbour=Neighbour(
            int(message.demonstration), int(message.frame), float(message.similarity)
        ),
        view=str(message.view),
        quantile=float(message.quantile),
        cause=str(message.cause),
        scores=tuple(message.scores),
        values=tuple(float(value) for value in message.values),
        strangeness=tuple(float(value) for value in message.strangeness),
    )


def observation_digest(observation: Observation) -> str:
    """Return a SHA-256 over everything in an observation: equal only when every bit is."""
    digest = hashlib.sha256()
    digest.update(f"{observation.stamp} {observation.skew}".encode())
    for view, image in observation.images.items():
        digest.update(f"{view} {image.shape}".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    digest.update(observation.poses.tobytes())
    digest.update(observation.grippers.tobytes())
    digest.update(observation.state.tobytes())
    return digest.hexdigest()
