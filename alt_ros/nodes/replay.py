"""The replay node: a bag's sensor topics into the live graph; it ends with the bag."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException

from alt_ros.bags.schedule import ReplayOptions
from alt_ros.errors import AltError, ConfigurationError
from alt_ros.nodes.bag_player import BagPlayer
from alt_ros.nodes.node import SIGNAL_PERIOD, AltNode, run
from alt_ros.nodes.parameters import parameter


@dataclass(frozen=True)
class ReplayParameters:
    """Parameters of replay."""

    bag: str = parameter("", "Folder or file of the rosbag2, MCAP or SQLite; required")
    topics: tuple[str, ...] = parameter(
        (), "Names or patterns of topics; none takes the sensors', and nothing that moves a robot"
    )
    rate: float = parameter(1.0, "Speed, 1 as recorded", low=0.01, high=100.0)
    start: float = parameter(0.0, "Where to begin in the bag", unit="s", low=0.0, high=1e6)
    duration: float = parameter(0.0, "How much of it; 0 for all", unit="s", low=0.0, high=1e6)
    loop: bool = parameter(False, "Begin anew at the end")
    clock: float = parameter(
        0.0,
        "How often /clock is published, with the bag's time; 0 for not at all",
        unit="Hz",
        low=0.0,
        high=1000.0,
    )
    restamp: bool = parameter(True, "Without /clock: shift stamps to now")
    wait_for_subscribers: float = parameter(
        2.0, "How long each topic's first subscriber is waited for", unit="s", low=0.0, high=600.0
    )
    after: tuple[str, ...] = parameter(
        (), "Topics that somebody must publish first, within two minutes: the policy has loaded"
    )

    def options(self) -> ReplayOptions:
        """Return what is replayed, and how."""
        return ReplayOptions(
            topics=tuple(topic for topic in self.topics if topic),
            rate=self.rate,
            start=self.start,
            duration=self.duration,
            loop=self.loop,
            clock=self.clock,
            restamp=self.restamp,
            wait=self.wait_for_subscribers,
            after=tuple(topic for topic in self.after if topic),
        )


class Replay(AltNode):
    """Publish a bag's topics when they are due; end when the bag does."""

    name = "replay"
    Parameters = ReplayParameters

    def configure(self) -> None:
        """Look into the bag and offer its topics."""
        p = self.parameters
        if not p.bag:
            raise ConfigurationError("replay needs a bag: set the parameter 'bag'")
        self._player = BagPlayer(self, Path(p.bag), p.options(), self.get_logger().info)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: AltError | None = None
        # On the steady clock: /clock may stand still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(SIGNAL_PERIOD, self._look, clock=steady)

    def activate(self) -> None:
        """Play from the start."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._play, name="replay", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        """Stop playing."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _play(self) -> None:
        try:
            self._player.play(self._stop)
        except AltError as error:
            self._error = error

    def _look(self) -> None:
        """End the process with the bag."""
        if self._thread is None or self._thread.is_alive():
            return
        if self._error is not None:
            raise self._error
        self.get_logger().info(self._player.said())
        if self._player.problem:
            raise AltError(self._player.problem)
        raise ExternalShutdownException

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report the position and how punctual it is."""
        player = getattr(self, "_player", None)
        if player is None:
            return DiagnosticStatus.STALE, "not configured", {}
        punctuality = player.punctuality
        values = {
            "position [s]": f"{player.position:.2f}",
            "lap": player.lap + 1,
            "messages": punctuality.messages,
            "late": punctuality.late,
            "worst lateness [ms]": f"{punctuality.worst / 1e6:.1f}",
        }
        if punctuality.late:
            return DiagnosticStatus.WARN, "it cannot keep up", values
        return DiagnosticStatus.OK, "replaying", values


def main() -> int:
    """Run the node."""
    return run(Replay)


if __name__ == "__main__":
    sys.exit(main())
