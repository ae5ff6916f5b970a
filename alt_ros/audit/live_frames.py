"""A bounded number of pictures of a run of any length, evenly spaced."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from alt_ros.types import Observation

MOST = 1_200
HEIGHT = 160
QUALITY = 70


class LiveFrames:
    """Keeps every n-th observation's pictures; n doubles whenever they are too many.

    Args:
        views: Names of the views, in order.
        most: Observations kept.

    Attributes:
        at: Log times, ns.
        pictures: A JPEG of each view for each of them; empty bytes where a view is missing.
    """

    def __init__(self, views: Sequence[str], most: int = MOST) -> None:
        self.at: list[int] = []
        self.pictures: list[list[bytes]] = []
        self._views, self._most = tuple(views), most
        self._every, self._seen = 1, 0

    def add(self, observation: Observation, at: int) -> None:
        """Take an observation, logged at a time in ns."""
        if self._seen % self._every == 0:
            self.at.append(at)
            self.pictures.append(
                [
                    to_jpeg(observation.images[view]) if view in observation.images else b""
                    for view in self._views
                ]
            )
            if len(self.at) >= self._most:
                del self.at[1::2], self.pictures[1::2]
                self._every *= 2
        self._seen += 1


def to_jpeg(image: NDArray[np.uint8], most: int = HEIGHT) -> bytes:
    """Return an RGB image (H, W, 3) as a JPEG at most ``most`` pixels high."""
    height, width = image.shape[:2]
    if height > most:
        size = max(round(width * most / height), 1), most
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
