"""The camera_sync node: pairs the cameras and brings the arm's pose to the images' stamp."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CompressedImage, Image, JointState

from alt_ros.errors import DataError
from alt_ros.messages import opening_of, pose_of, stamp_of
from alt_ros.msg import Observation
from alt_ros.nodes.conversions import decode, to_observation
from alt_ros.nodes.node import NEWEST, SENSOR, AltNode, run
from alt_ros.nodes.parameters import parameter
from alt_ros.synchronization import Match, SynchronizationConfig, Synchronizer


@dataclass(frozen=True)
class CameraSyncParameters:
    """Parameters of camera_sync."""

    views: tuple[str, ...] = parameter(
        ("wrist", "third_person"), "Camera views; the first one's frames set the stamps"
    )
    compressed: bool = parameter(False, "Subscribe to <view>/image_raw/compressed instead")
    frame_period: float = parameter(
        0.05, "Nominal time between frames", unit="s", low=0.001, high=10.0
    )
    max_skew: float = parameter(
        0.02,
        "Largest distance of paired stamps; at most half a frame period",
        unit="s",
        low=0.0,
        high=5.0,
    )
    max_bracket: float = parameter(
        0.1, "Largest gap between the poses interpolated from", unit="s", low=0.001, high=5.0
    )
    max_wait: float = parameter(
        0.2, "How long a frame waits for its partners", unit="s", low=0.001, high=5.0
    )
    gripper_joint: str = parameter("", "Joint with the opening; empty takes the only one")


class CameraSync(AltNode):
    """Pair camera frames, interpolate the pose to their stamp, publish /alt/observation."""

    name = "camera_sync"
    Parameters = CameraSyncParameters

    def configure(self) -> None:
        """Build the synchroniser and subscribe."""
        p = self.parameters
        config = SynchronizationConfig(
            views=p.views,
            frame_period=round(p.frame_period * 1e9),
            max_skew=round(p.max_skew * 1e9),
            max_bracket=round(p.max_bracket * 1e9),
            max_wait=round(p.max_wait * 1e9),
        )
        self._synchronizer: Synchronizer[Any] = Synchronizer(config)
        self._frame_id = ""
        self._published = self._last_published = 0
        self._troubles: set[str] = set()
        self._publisher = self.create_lifecycle_publisher(Observation, "alt/observation", NEWEST)
        for view in p.views:
            kind, topic = Image, f"{view}/image_raw"
            if p.compressed:
                kind, topic = CompressedImage, f"{topic}/compressed"
            self.create_subscription(kind, topic, partial(self._on_image, view), SENSOR)
        self.create_subscription(PoseStamped, "eef_pose", self._on_pose, SENSOR)
        self.create_subscription(JointState, "gripper_state", self._on_gripper, SENSOR)

    def _on_image(self, view: str, message: Any) -> None:
        self._publish(self._synchronizer.add_frame(view, stamp_of(message), message))

    def _on_pose(self, message: PoseStamped) -> None:
        self._frame_id = message.header.frame_id
        self._publish(self._synchronizer.add_pose(stamp_of(message), pose_of(message.pose)))

    def _on_gripper(self, message: JointState) -> None:
        try:
            opening = opening_of(message, self.parameters.gripper_joint)
        except DataError as error:
            self._trouble("gripper", str(error))
            return
        self._publish(self._synchronizer.add_gripper(stamp_of(message), opening))

    def _publish(self, matches: list[Match[Any]]) -> None:
        if not self.is_active:
            return
        for match in matches:
            try:
                observation = match.observation(decode)
            except DataError as error:
                self._synchronizer.drops["undecodable"] += 1
                self._trouble("decode", str(error))
                continue
            if self._troubles:
                self.get_logger().info("observations flow again")
                self._troubles.clear()
            stamps = {view: stamp_of(frame) for view, frame in match.frames.items()}
            now = self.get_clock().now().nanoseconds
            self._publisher.publish(to_observation(observation, stamps, now, self._frame_id))
            self._published += 1

    def _trouble(self, kind: str, text: str) -> None:
        """Warn once per kind until observations flow again."""
        if kind not in self._troubles:
            self._troubles.add(kind)
            self.get_logger().warning(text)

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report the rate and the drops by reason."""
        if not hasattr(self, "_synchronizer"):
            return DiagnosticStatus.STALE, "not configured", {}
        rate, self._last_published = self._published - self._last_published, self._published
        level = DiagnosticStatus.OK if rate else DiagnosticStatus.ERROR
        values = {"rate [1/s]": rate, "observations": self._published}
        values.update({f"dropped: {k}": v for k, v in self._synchronizer.drops.items()})
        return level, f"{rate} observations a second", values


def main() -> int:
    """Run the node."""
    return run(CameraSync)


if __name__ == "__main__":
    sys.exit(main())
