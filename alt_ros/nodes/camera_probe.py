"""Two cameras for measuring what watches them: pictures of usual size, at a usual rate."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image

from alt_ros.nodes.conversions import to_image
from alt_ros.nodes.node import SENSOR

VIEWS = ("wrist", "third_person")
RATE, HEIGHT, WIDTH = 20.0, 480, 640


def publish_cameras() -> None:
    """Publish a moving gradient on each view's topic until this process is ended."""
    rclpy.init()
    node = Node("cameras")
    publishers = {
        view: node.create_publisher(Image, f"{view}/image_raw", SENSOR) for view in VIEWS
    }
    gradient = np.linspace(0, 255, WIDTH, dtype=np.uint8)[None, :, None]
    picture = np.tile(gradient, (HEIGHT, 1, 3))

    def publish() -> None:
        now = time.time_ns()
        shift = now // 10_000_000 % WIDTH
        for view, publisher in publishers.items():
            publisher.publish(to_image(np.roll(picture, shift, axis=1), now, view))

    node.create_timer(1.0 / RATE, publish)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
