"""The encoder node: one observation in, one unit vector out."""

from __future__ import annotations

import array
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from alt_ros.bundle import Bundle
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.messages import observation_of
from alt_ros.msg import Embedding, Observation
from alt_ros.nodes.node import NEWEST, RELIABLE, AltNode, run
from alt_ros.nodes.parameters import parameter


@dataclass(frozen=True)
class EncoderParameters:
    """Parameters of encoder."""

    bundle: str = parameter("", "Folder of the bundle; required")
    device: str = parameter("auto", "Where the network runs", choices=("auto", "cpu", "cuda"))
    threads: int = parameter(1, "CPU threads of the network", low=1, high=64)


class Encoder(AltNode):
    """Run the bundle's TorchScript encoder on /alt/observation, publish /alt/embedding."""

    name = "encoder"
    Parameters = EncoderParameters

    def configure(self) -> None:
        """Load the network, warm it up, subscribe."""
        p = self.parameters
        if not p.bundle:
            raise ConfigurationError("encoder needs a bundle: set the parameter 'bundle'")
        bundle = Bundle.load(Path(p.bundle), encoder=False)
        self._runtime = bundle.load_encoder(p.device, p.threads)
        self._encoded = self._last_encoded = 0
        self._seconds = 0.0
        self._trouble = ""
        self._publisher = self.create_lifecycle_publisher(Embedding, "alt/embedding", RELIABLE)
        self.create_subscription(Observation, "alt/observation", self._on_observation, NEWEST)

    def _on_observation(self, message: Observation) -> None:
        if not self.is_active:
            return
        start = time.perf_counter()
        try:
            embedding = self._runtime.embed(observation_of(message))
        except DataError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self.get_logger().warning(self._trouble)
            return
        if self._trouble:
            self.get_logger().info("observations can be encoded again")
            self._trouble = ""
        self._seconds = time.perf_counter() - start
        self._encoded += 1
        self._publisher.publish(
            Embedding(
                header=message.header,
                encoder_id=embedding.encoder_id,
                values=array.array("f", embedding.values),
                views=message.views,
                view_values=array.array("f", embedding.view_values.ravel()),
                poses=message.poses,
                encode_seconds=self._seconds,
                observation_published=message.published,
            )
        )

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report the rate, the time per observation and the device."""
        if not hasattr(self, "_runtime"):
            return DiagnosticStatus.STALE, "not configured", {}
        rate, self._last_encoded = self._encoded - self._last_encoded, self._encoded
        level = DiagnosticStatus.WARN if self._trouble else DiagnosticStatus.OK
        values = {
            "rate [1/s]": rate,
            "last [ms]": f"{1e3 * self._seconds:.2f}",
            "device": self._runtime.device,
        }
        return level, self._trouble or f"{rate} embeddings a second", values


def main() -> int:
    """Run the node."""
    return run(Encoder)


if __name__ == "__main__":
    sys.exit(main())
