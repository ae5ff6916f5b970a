"""The camera_sync node's parameters: which streams there are and how they are matched."""

from __future__ import annotations

from dataclasses import dataclass

from alt_ros.errors import ConfigurationError
from alt_ros.nodes.parameters import parameter
from alt_ros.synchronization import SynchronizationConfig


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
        "Largest distance of paired stamps; at most half a frame period, measured ones too",
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
    clock_jump: float = parameter(
        0.5, "Stamps that go back by more mean a restarted clock", unit="s", low=0.001, high=60.0
    )
    latencies_views: tuple[float, ...] = parameter(
        (0.0,), "Delay inside the views' stamps, one for all or one each", unit="s"
    )
    latency_pose: float = parameter(
        0.0, "Delay inside the pose's stamps", unit="s", low=-1.0, high=1.0
    )
    latency_gripper: float = parameter(
        0.0, "Delay inside the gripper's stamps", unit="s", low=-1.0, high=1.0
    )
    pose_source: str = parameter(
        "topic", "Where the pose comes from: eef_pose, or /tf", choices=("topic", "tf")
    )
    base_frame: str = parameter("", "With tf: the frame that poses are given in")
    eef_frame: str = parameter("", "With tf: the frame of the end effector")
    gripper_joint: str = parameter("", "Joint with the opening; empty takes the only one")

    def synchronization(self) -> SynchronizationConfig:
        """Return how streams are matched.

        Raises:
            ConfigurationError: A value is out of bounds, or two contradict each other.
        """
        latencies = self.latencies_views * (
            len(self.views) if len(self.latencies_views) == 1 else 1
        )
        if len(latencies) != len(self.views):
            raise ConfigurationError(
                f"latencies_views must have one value, or one for each of {list(self.views)}, got "
                f"{list(self.latencies_views)}"
            )
        delays = dict(zip(self.views, latencies, strict=True))
        delays |= {"pose": self.latency_pose, "gripper": self.latency_gripper}
        return SynchronizationConfig(
            views=self.views,
            frame_period=round(self.frame_period * 1e9),
            max_skew=round(self.max_skew * 1e9),
            max_bracket=round(self.max_bracket * 1e9),
            max_wait=round(self.max_wait * 1e9),
            clock_jump=round(self.clock_jump * 1e9),
            latencies={stream: round(delay * 1e9) for stream, delay in delays.items()},
        )
