"""The camera_sync node: pairs the cameras and brings the arm's pose to the images' stamp."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.messages import opening_of, pose_of, stamp_of, transforms_of
from alt_ros.msg import Observation
from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.conversions import decode, to_observation
from alt_ros.nodes.node import NEWEST, RELIABLE, SENSOR, AltNode, run
from alt_ros.synchronization import Match, Synchronizer
from alt_ros.transforms import TransformChain

# What tf2's broadcasters offer.
TF = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
TF_STATIC = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
RATE_AT_LEAST = 0.8


class CameraSync(AltNode):
    """Pair camera frames, interpolate the pose to their stamp, publish /alt/observation."""

    name = "camera_sync"
    Parameters = CameraSyncParameters

    def configure(self) -> None:
        """Build the synchroniser and subscribe."""
        p = self.parameters
        config = p.synchronization()
        self._synchronizer: Synchronizer[Any] = Synchronizer(config)
        self._frame_id = ""
        self._published = 0
        self._window: list[tuple[int, int, int]] = []  # skew, bracket, age in ns since the report
        self._reported_at, self._reported_drops = time.monotonic(), 0
        self._troubles: set[str] = set()
        self._publisher = self.create_lifecycle_publisher(Observation, "alt/observation", NEWEST)
        self._stamp_publisher = self.create_lifecycle_publisher(
            Header, "alt/observation_stamp", RELIABLE
        )
        for view in p.views:
            kind, topic = Image, f"{view}/image_raw"
            if p.compressed:
                kind, topic = CompressedImage, f"{topic}/compressed"
            self.create_subscription(kind, topic, partial(self._on_image, view), SENSOR)
        self.create_subscription(JointState, "gripper_state", self._on_gripper, SENSOR)
        self._chain: TransformChain | None = None
        if p.pose_source == "topic":
            self.create_subscription(PoseStamped, "eef_pose", self._on_pose, SENSOR)
            return
        self._chain = TransformChain(
            p.base_frame, p.eef_frame, config.max_bracket, config.clock_jump
        )
        self._frame_id = self._chain.base
        transforms = _transforms_message()
        self.create_subscription(transforms, "/tf", partial(self._on_transforms, False), TF)
        self.create_subscription(
            transforms, "/tf_static", partial(self._on_transforms, True), TF_STATIC
        )

    def _on_image(self, view: str, message: Any) -> None:
        self._publish(self._synchronizer.add_frame(view, stamp_of(message), message))

    def _on_pose(self, message: PoseStamped) -> None:
        self._frame_id = message.header.frame_id
        self._publish(self._synchronizer.add_pose(stamp_of(message), pose_of(message.pose)))

    def _on_transforms(self, is_static: bool, message: Any) -> None:
        assert self._chain is not None
        for parent, child, stamp, transform in transforms_of(message):
            for at, pose in self._chain.add(parent, child, stamp, transform, is_static=is_static):
                self._publish(self._synchronizer.add_pose(at, pose))

    def _on_gripper(self, message: JointState) -> None:
        try:
            opening = opening_of(message, self.parameters.gripper_joint)
        except DataError as error:
            self._trouble("gripper", str(error))
            return
        self._publish(self._synchronizer.add_gripper(stamp_of(message), opening))

    def _publish(self, matches: list[Match[Any]]) -> None:
        if self._synchronizer.refusal:
            self._trouble("refusal", self._synchronizer.refusal)
        if not self.is_active:
            return
        for match in matches:
            try:
                observation = self._synchronizer.observation(match, decode)
            except DataError as error:
                self._trouble("images", f"{error}; restart camera_sync if a new size is meant")
                continue
            if self._troubles:
                self.get_logger().info("observations flow again")
                self._troubles.clear()
            stamps = {view: stamp_of(frame) for view, frame in match.frames.items()}
            now = self.get_clock().now().nanoseconds
            message = to_observation(observation, stamps, now, self._frame_id)
            self._publisher.publish(message)
            self._stamp_publisher.publish(message.header)
            self._published += 1
            self._window.append((match.skew, match.bracket, max(now - match.stamp, 0)))

    def _trouble(self, kind: str, text: str) -> None:
        """Warn once per kind until observations flow again."""
        if kind not in self._troubles:
            self._troubles.add(kind)
            self.get_logger().warning(text)

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report rate, skew, age, bracket, measured periods and the drops by reason."""
        if not hasattr(self, "_synchronizer"):
            return DiagnosticStatus.STALE, "not configured", {}
        synchronizer = self._synchronizer
        now = time.monotonic()
        rate = len(self._window) / max(now - self._reported_at, 1e-3)
        skews, brackets, ages = zip(*self._window, strict=True) if self._window else ((), (), ())
        drops = synchronizer.drops + (Counter() if self._chain is None else self._chain.drops)
        dropped = drops.total() - self._reported_drops
        self._window, self._reported_at, self._reported_drops = [], now, drops.total()

        values: dict[str, Any] = {"rate [1/s]": f"{rate:.1f}", "observations": self._published}
        values |= _percentiles("skew", skews) | _percentiles("age", ages)
        if brackets:
            values["bracket max [ms]"] = f"{max(brackets) / 1e6:.2f}"
        for view, period in synchronizer.periods.items():
            values[f"frame period {view} [ms]"] = f"{period / 1e6:.2f}"
        for stream, behind in synchronizer.behind.items():
            values[f"stamps behind {stream} [ms]"] = f"{behind / 1e6:.1f}"
        values |= {f"dropped: {reason}": count for reason, count in drops.items()}

        nominal = 1.0 / self.parameters.frame_period
        text = f"{rate:.1f} of {nominal:.1f} observations a second"
        if self._chain is not None and self._chain.problem:
            self._trouble("transforms", self._chain.problem)
            return DiagnosticStatus.ERROR, self._chain.problem, values
        if synchronizer.refusal:
            return DiagnosticStatus.ERROR, synchronizer.refusal, values
        if not skews:
            last, behind = max(synchronizer.behind.items(), key=lambda s: s[1], default=("", 0))
            if behind > synchronizer.config.clock_jump:
                text += f", the stamps of '{last}' lie {behind / 1e9:.1f} s behind the newest"
            return DiagnosticStatus.ERROR, text, values
        if rate < RATE_AT_LEAST * nominal or dropped:
            return DiagnosticStatus.WARN, f"{text}, {dropped} messages not used", values
        return DiagnosticStatus.OK, text, values


def _transforms_message() -> Any:
    """Return the class of /tf's messages.

    Raises:
        ConfigurationError: Its package is not installed.
    """
    try:
        return import_module("tf2_msgs.msg").TFMessage
    except ImportError as error:
        raise ConfigurationError(
            "pose_source 'tf' needs the package tf2_msgs, which is not installed: install "
            "ros-<distro>-tf2-msgs, or take pose_source 'topic'"
        ) from error


def _percentiles(name: str, values: Sequence[int]) -> dict[str, str]:
    if not values:
        return {}
    return {
        f"{name} p50 [ms]": f"{np.median(values) / 1e6:.2f}",
        f"{name} max [ms]": f"{max(values) / 1e6:.2f}",
    }


def main() -> int:
    """Run the node."""
    return run(CameraSync)


if __name__ == "__main__":
    sys.exit(main())
