"""Core types to ROS messages, and image decoding through cv_bridge where it is installed."""

from __future__ import annotations

import array
import time
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Pose, PoseStamped
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from alt_ros.errors import DataError
from alt_ros.messages import image_of
from alt_ros.msg import ActionChunk as ActionChunkMessage
from alt_ros.msg import Observation as ObservationMessage
from alt_ros.msg import OodFlag
from alt_ros.types import NANOSECONDS, ActionChunk, Observation, OodDecision

try:  # the compiled core that a robot's own ROS brings; a wheel of the same name lacks it
    from cv_bridge import CvBridge, CvBridgeError
    from cv_bridge.boost import cv_bridge_boost as _core  # noqa: F401

    _bridge: Any = CvBridge()
except Exception:  # also what a binary built against another numpy raises
    _bridge, CvBridgeError = None, DataError


def decode(message: Any) -> NDArray[np.uint8]:
    """Return the RGB image (H, W, 3) of an Image or CompressedImage message.

    Raises:
        DataError: It does not decode.
    """
    if _bridge is None or hasattr(message, "format") or message.encoding.startswith("8UC"):
        return image_of(message)
    try:
        return np.ascontiguousarray(_bridge.imgmsg_to_cv2(message, "rgb8"), np.uint8)
    except CvBridgeError:
        return image_of(message)  # names what is wrong, or knows an encoding that cv_bridge lacks


def to_time(nanoseconds: int) -> Time:
    """Return a Time message."""
    return Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def to_duration(nanoseconds: int) -> Duration:
    """Return a Duration message."""
    return Duration(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def system_time() -> Time:
    """Return the host's system time, whatever clock the graph runs on."""
    return to_time(time.time_ns())


def to_pose(pose: NDArray[np.float64]) -> Pose:
    """Return a Pose message of (7,): position, quaternion x, y, z, w."""
    message = Pose()
    x, y, z, qx, qy, qz, qw = (float(value) for value in pose)
    message.position.x, message.position.y, message.position.z = x, y, z
    message.orientation.x, message.orientation.y = qx, qy
    message.orientation.z, message.orientation.w = qz, qw
    return message


def to_pose_stamped(pose: NDArray[np.float64], stamp: int, frame_id: str) -> PoseStamped:
    """Return a PoseStamped message."""
    message = PoseStamped(pose=to_pose(pose))
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame_id
    return message


def to_image(image: NDArray[np.uint8], stamp: int, frame_id: str) -> Image:
    """Return an rgb8 Image message of (H, W, 3)."""
    height, width = image.shape[:2]
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp = to_time(stamp)
    message.header.frame_id = frame_id
    message.data = array.array("B", np.ascontiguousarray(image).tobytes())
    return message


def to_observation(
    observation: Observation, frame_stamps: dict[str, int], now: int, frame_id: str
) -> ObservationMessage:
    """Return an Observation message.

    Args:
        observation: What the synchroniser made.
        frame_stamps: View name to its image's own stamp, ns.
        now: The node's clock, ns.
        frame_id: Frame of the poses.
    """
    message = ObservationMessage()
    message.header.stamp = to_time(observation.stamp)
    message.header.frame_id = frame_id
    message.views = list(observation.images)
    message.images = [
        to_image(image, frame_stamps[view], view) for view, image in observation.images.items()
    ]
    message.poses = [to_pose(pose) for pose in observation.poses]
    message.grippers = array.array("d", observation.grippers)
    message.skew = to_duration(observation.skew)
    message.age = to_duration(max(now - observation.stamp, 0))
    message.published = system_time()
    return message


def to_flag(decision: OodDecision, header: Header) -> OodFlag:
    """Return an OodFlag message.

    Args:
        decision: The monitor's.
        header: Of the observation: its stamp and frame.
    """
    return OodFlag(
        header=header,
        flag=decision.flag,
        score=decision.score,
        threshold=decision.threshold,
        quantile=decision.quantile,
        scores=list(decision.scores),
        values=array.array("d", decision.values),
        strangeness=array.array("d", decision.strangeness),
        cause=decision.cause,
        view=decision.view,
        demonstration=decision.neighbour.demonstration,
        frame=decision.neighbour.frame,
        similarity=decision.neighbour.similarity,
    )


def to_chunk(chunk: ActionChunk, frame_id: str, policy: str) -> ActionChunkMessage:
    """Return an ActionChunk message; the caller fills in names and timings."""
    message = ActionChunkMessage()
    message.header.stamp = to_time(chunk.stamp)
    message.header.frame_id = frame_id
    message.period = to_duration(chunk.period)
    message.arms, message.extra = chunk.layout.arms, chunk.layout.extra
    message.actions = array.array("d", chunk.actions.ravel())
    message.policy = policy
    message.demonstration = -1
    if chunk.source is not None:
        message.demonstration = chunk.source.demonstration
        message.frame = chunk.source.frame
        message.similarity = chunk.source.similarity
    return message
