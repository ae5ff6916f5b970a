"""Small pictures for pages."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT = 160
QUALITY = 70


def to_jpeg(image: NDArray[np.uint8], most: int = HEIGHT) -> bytes:
    """Return an RGB image (H, W, 3) as a JPEG at most ``most`` pixels high."""
    height, width = image.shape[:2]
    if height > most:
        size = max(round(width * most / height), 1), most
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
