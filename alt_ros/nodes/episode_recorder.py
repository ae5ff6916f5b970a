"""The episode_recorder node: one MCAP bag per episode, from the live topics."""

from __future__ import annotations

import importlib
import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile

from alt_ros.bags.writing import EpisodeWriter, read_definitions
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.nodes.node import AltNode, run
from alt_ros.nodes.parameters import parameter
from alt_ros.srv import StartRecording, StopRecording

QUEUE_DEPTH = 200
# Until both ends of a new subscription know of each other, messages are lost.
SETTLING_SECONDS = 0.5


@dataclass(frozen=True)
class EpisodeRecorderParameters:
    """Parameters of episode_recorder."""

    folder: str = parameter("", "Where the bags go; required")
    required_topics: tuple[str, ...] = parameter(
        ("/wrist/image_raw", "/third_person/image_raw", "/eef_pose", "/gripper_state"),
        "Topics without which no recording starts",
    )
    optional_topics: tuple[str, ...] = parameter(
        (
            "/target_pose",
            "/target_gripper",
            "/alt/observation",
            "/alt/embedding",
            "/alt/action_chunk",
            "/alt/return_chunk",
            "/alt/fallback_chunk",
            "/alt/ood",
            "/alt/state",
        ),
        "Topics recorded where they exist",
    )
    min_free_mib: int = parameter(
        64, "Recording stops before the disk has less left", unit="MiB", low=1, high=1_000_000
    )


class EpisodeRecorder(AltNode):
    """Write MCAP bags between the calls of recorder/start and recorder/stop."""

    name = "episode_recorder"
    Parameters = EpisodeRecorderParameters

    def configure(self) -> None:
        """Check the folder, offer the services, look for topics."""
        p = self.parameters
        if not p.folder:
            raise ConfigurationError("episode_recorder needs a folder: set the parameter 'folder'")
        self._folder = Path(p.folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / ".writable").touch()
            (self._folder / ".writable").unlink()
        except OSError as error:
            raise ConfigurationError(f"folder '{p.folder}' cannot be written: {error}") from error
        messages = Path(get_package_share_directory("alt_ros")) / "msg"
        self._definitions = read_definitions(sorted(messages.glob("*.msg")))
        self._writer: EpisodeWriter | None = None
        self._trouble = ""
        self._types: dict[str, str] = {}
        self._subscribed_at: dict[str, float] = {}
        self._recorded: dict[str, Any] = {}
        self.create_service(StartRecording, "recorder/start", self._on_start)
        self.create_service(StopRecording, "recorder/stop", self._on_stop)
        self.create_timer(0.5, self._subscribe)

    def deactivate(self) -> None:
        """Close a bag that is open."""
        self._catch_up()
        if self._writer is not None:
            self._finish({"interrupted": "true"})

    def _subscribe(self) -> None:
        wanted = (*self.parameters.required_topics, *self.parameters.optional_topics)
        if all(topic in self._types for topic in wanted):
            return
        for topic, types in self.get_topic_names_and_types():
            if topic not in wanted or topic in self._types:
                continue
            publishers = self.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            package, _, kind = types[0].split("/")
            offered = publishers[0].qos_profile
            profile = QoSProfile(
                depth=QUEUE_DEPTH,
                reliability=offered.reliability,
                durability=offered.durability,
            )
            self._types[topic] = types[0]
            self._subscribed_at[topic] = time.monotonic()
            message_type = getattr(importlib.import_module(f"{package}.msg"), kind)
            callback = partial(self._on_message, topic)
            subscription = self.create_subscription(
                message_type, topic, callback, profile, raw=True
            )
            self._recorded[topic] = subscription

    def _catch_up(self) -> None:
        """Take what has come but was not looked at yet: a busy recorder is behind."""
        for topic, subscription in self._recorded.items():
            while True:
                with subscription.handle:
                    taken = subscription.handle.take_message(subscription.msg_type, True)
                if taken is None:
                    break
                self._on_message(topic, taken[0])

    def _on_message(self, topic: str, data: bytes) -> None:
        if self._writer is None:
            return
        now = self.get_clock().now().nanoseconds
        try:
            self._writer.write(topic, self._types[topic], now, data)
        except DataError as error:
            self._trouble = str(error)
            self.get_logger().error(self._trouble)
            self._finish({"interrupted": self._trouble})

    def _finish(self, metadata: dict[str, str]) -> None:
        writer, self._writer = self._writer, None
        assert writer is not None
        try:
            writer.close(metadata)
        except DataError as error:
            self._trouble = str(error)
            self.get_logger().error(self._trouble)

    def _on_start(self, request: Any, response: Any) -> Any:
        self._subscribe()
        if self._writer is None:
            self._catch_up()  # what came before does not belong to the episode
        settled = time.monotonic() - SETTLING_SECONDS
        fresh = [t for t, at in self._subscribed_at.items() if at > settled]
        missing = [t for t in self.parameters.required_topics if t not in self._types]
        silent = [
            t
            for t in self.parameters.required_topics
            if t in self._types and not self.get_publishers_info_by_topic(t)
        ]
        if self._writer is not None:
            response.success, response.message = False, f"already recording {self._writer.path}"
        elif not self.is_active:
            response.success, response.message = False, "episode_recorder is not active"
        elif missing or silent:
            response.success = False
            response.message = f"nobody publishes {', '.join(missing + silent)}"
        elif fresh:
            response.success = False
            response.message = f"still connecting to {', '.join(fresh)}: try again"
        else:
            try:
                path = self._folder / (request.name or self._next_name())
                self._writer = EpisodeWriter(
                    path, self._definitions, min_free_bytes=self.parameters.min_free_mib << 20
                )
            except DataError as error:
                response.success, response.message = False, str(error)
                return response
            self._trouble = ""
            response.success, response.message, response.path = True, "recording", str(path)
        return response

    def _next_name(self) -> str:
        number = 0
        while (self._folder / f"episode_{number:04d}").exists():
            number += 1
        return f"episode_{number:04d}"

    def _on_stop(self, request: Any, response: Any) -> Any:
        self._catch_up()
        if self._writer is None:
            response.success = False
            response.message = self._trouble or "not recording"
            return response
        writer = self._writer
        response.path, response.messages = str(writer.path), writer.messages
        if request.discard:
            self._writer = None
            writer.discard()
            response.success, response.message = True, "discarded"
            return response
        self._finish({"success": json.dumps(request.episode_success)})
        response.success = not self._trouble
        response.message = self._trouble or "recorded"
        return response

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report what is being recorded."""
        writer = getattr(self, "_writer", None)
        if getattr(self, "_trouble", ""):
            return DiagnosticStatus.ERROR, self._trouble, {}
        if writer is None:
            return DiagnosticStatus.OK, "not recording", {}
        values = {"bag": writer.path, "messages": writer.messages}
        return DiagnosticStatus.OK, "recording", values


def main() -> int:
    """Run the node."""
    return run(EpisodeRecorder)


if __name__ == "__main__":
    sys.exit(main())
