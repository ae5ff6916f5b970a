"""From a camera's bytes to the network's input: one code path, live, replayed and offline.

``decode_image`` and ``decode_compressed_image`` give (H, W, 3) uint8 RGB; ``network_input`` gives
what the encoder takes. The conversions are OpenCV's, as cv_bridge's are, so both give the same
bits for the same message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

# encoding -> (dtype, channels as sent, OpenCV conversion to RGB; None where it is RGB already)
# An 8UC3 image names no colour order; OpenCV's own, BGR, is what drivers mean by it.
_ENCODINGS: dict[str, tuple[type[np.uint8] | type[np.uint16], int, int | None]] = {
    "rgb8": (np.uint8, 3, None),
    "bgr8": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "8UC3": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": (np.uint8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "8UC4": (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "mono16": (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "16UC1": (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "yuv422": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    # OpenCV names a Bayer pattern by its second row, ROS by its first.
    "bayer_rggb8": (np.uint8, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (np.uint8, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (np.uint8, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (np.uint8, 1, cv2.COLOR_BayerGB2RGB),
}
ENCODINGS = tuple(_ENCODINGS)


def decode_image(
    data: bytes | NDArray[np.uint8],
    *,
    encoding: str,
    height: int,
    width: int,
    step: int,
    big_endian: bool = False,
) -> NDArray[np.uint8]:
    """Return the RGB image that a raw image message holds.

    Args:
        data: The message's bytes.
        encoding: A name of ``ENCODINGS``.
        height: Pixels.
        width: Pixels.
        step: Bytes of one row, padding included.
        big_endian: Byte order of 16-bit encodings.

    Returns:
        (height, width, 3) uint8, C-contiguous; 16-bit images are scaled by 255 / 65535.

    Raises:
        DataError: The encoding is unknown, or the sizes contradict each other.
    """
    if encoding not in _ENCODINGS:
        raise DataError(
            f"image encoding '{encoding}' is not known: send one of {', '.join(ENCODINGS)}"
        )
    dtype, channels, conversion = _ENCODINGS[encoding]
    row_bytes = width * channels * np.dtype(dtype).itemsize
    if height <= 0 or width <= 0 or step < row_bytes or len(data) != height * step:
        raise DataError(
            f"image {width}x{height} {encoding} needs a step of at least {row_bytes} bytes and "
            f"height * step = {height * step} bytes of data, got step {step} and {len(data)} bytes"
        )
    if conversion in (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUY2) and width % 2:
        raise DataError(f"image encoding '{encoding}' needs an even width, got {width}")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(height, step)[:, :row_bytes]
    image = np.ascontiguousarray(rows).view(
        np.dtype(dtype).newbyteorder(">" if big_endian else "<")
    )
    image = image.astype(dtype, copy=False).reshape(height, width, channels)
    if dtype is np.uint16:
        image = cv2.convertScaleAbs(image, alpha=255.0 / 65535.0).reshape(height, width, 1)
    if conversion is None:
        return np.ascontiguousarray(image, dtype=np.uint8)
    return np.ascontiguousarray(cv2.cvtColor(np.ascontiguousarray(image), conversion), np.uint8)


def decode_compressed_image(data: bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the RGB image of a JPEG, PNG or other file that OpenCV reads.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: The bytes do not decode.
    """
    buffer = np.frombuffer(data, dtype=np.uint8)
    whole = buffer.size > 0 and not _is_cut_off_jpeg(buffer.tobytes())
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if whole else None
    except cv2.error:
        image = None
    if image is None:
        raise DataError(
            f"compressed image of {buffer.size} bytes does not decode: it is cut off, or no image"
        )
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _is_cut_off_jpeg(data: bytes) -> bool:
    """Return whether a JPEG's end marker is missing; OpenCV 4 fills what is missing with grey."""
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the image (height, width, 3) uint8, averaged over areas where it shrinks."""
    if image.shape[:2] == (height, width):
        return image
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def network_input(
    images: Mapping[str, NDArray[np.uint8]], views: Sequence[str], height: int, width: int
) -> NDArray[np.float32]:
    """Return the encoder's input for one observation.

    Args:
        images: View name to (H, W, 3) uint8 RGB.
        views: The views that the encoder was trained on, in its order.
        height: The encoder's input height, pixels.
        width: The encoder's input width, pixels.

    Returns:
        (len(views), 3, height, width) float32, ImageNet-normalised.

    Raises:
        DataError: A view is missing.
    """
    missing = [view for view in views if view not in images]
    if missing:
        raise DataError(
            f"encoder needs the views {list(views)}, the observation lacks {missing}: "
            f"it holds {list(images)}"
        )
    batch = np.stack([resize_image(images[view], height, width) for view in views])
    scaled = (batch.astype(np.float32) / np.float32(255.0) - IMAGENET_MEAN) / IMAGENET_STD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
