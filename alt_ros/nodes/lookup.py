"""The lookup node: recalls the nearest demonstration frame, or says that there is none."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from alt_ros.bundle import Bundle
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.lookup.calibration import Calibration
from alt_ros.messages import query_of
from alt_ros.msg import ActionChunk, Embedding, OodFlag
from alt_ros.nodes.conversions import to_chunk, to_flag
from alt_ros.nodes.node import RELIABLE, AltNode, run
from alt_ros.nodes.parameters import parameter
from alt_ros.types import ActionChunk as Chunk


@dataclass(frozen=True)
class LookupParameters:
    """Parameters of lookup."""

    bundle: str = parameter("", "Folder of the bundle; required")
    threshold: float = parameter(
        -2.0,
        "Gamma: a cosine similarity below it is strange, whatever other scores say; -2 takes the "
        "bundle's calibration",
        low=-2.0,
        high=1.0,
    )
    threshold_margin: float = parameter(
        0.0,
        "Added to the threshold on the level; more than 0 flags less than calibrated",
        low=-100.0,
        high=100.0,
    )
    return_slowdown: float = parameter(
        2.0,
        "How many times as long as in the demonstration the way back on /alt/return_chunk takes",
        low=1.0,
        high=100.0,
    )
    publish_chunks: bool = parameter(
        True,
        "False: the monitor alone, beside another policy's node that publishes alt/action_chunk",
    )


class Lookup(AltNode):
    """Query the table for /alt/embedding; publish the chunk or the way back, and /alt/ood."""

    name = "lookup"
    Parameters = LookupParameters

    def configure(self) -> None:
        """Load the table and its index, warm them up, subscribe."""
        p = self.parameters
        if not p.bundle:
            raise ConfigurationError("lookup needs a bundle: set the parameter 'bundle'")
        bundle = Bundle.load(Path(p.bundle), encoder=False)
        self._encoder_id = bundle.encoder_id
        calibration = bundle.calibration
        if p.threshold >= -1.0:
            calibration = Calibration.given(p.threshold)
        threshold = calibration.threshold + p.threshold_margin
        self._lookup = bundle.lookup(calibration=replace(calibration, threshold=threshold))
        self._names = bundle.table.names
        self._trouble = ""
        self._decision = None
        self._seconds = 0.0
        self._chunks = self._returns = None
        if p.publish_chunks:
            self._chunks = self._create(ActionChunk, "alt/action_chunk")
            self._returns = self._create(ActionChunk, "alt/return_chunk")
        self._flags = self._create(OodFlag, "alt/ood")
        self.create_subscription(Embedding, "alt/embedding", self._on_embedding, RELIABLE)

    def _create(self, kind: type[Any], topic: str) -> Any:
        return self.create_lifecycle_publisher(kind, topic, RELIABLE)

    def activate(self) -> None:
        """Start a fresh episode."""
        self._lookup.reset()

    def _on_embedding(self, message: Embedding) -> None:
        if not self.is_active:
            return
        start = time.perf_counter()
        try:
            chunk, decision = self._step(message)
        except DataError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self.get_logger().error(self._trouble)
            return
        self._trouble = ""
        self._decision = decision
        self._seconds = time.perf_counter() - start
        self._flags.publish(to_flag(decision, message.header))
        if decision.flag:
            way_back = self._lookup.way_back(chunk.stamp, self.parameters.return_slowdown)
            self._publish(self._returns, way_back, message)
        else:
            self._publish(self._chunks, chunk, message)

    def _publish(self, publisher: Any, chunk: Chunk | None, message: Embedding) -> None:
        if publisher is None or chunk is None:
            return
        out = to_chunk(chunk, message.header.frame_id, "alt")
        out.demonstration_name = self._names[out.demonstration]
        out.encode_seconds = message.encode_seconds
        out.policy_seconds = self._seconds
        out.observation_published = message.observation_published
        publisher.publish(out)

    def _step(self, message: Embedding) -> Any:
        if message.encoder_id != self._encoder_id:
            raise DataError(
                f"embedding comes from encoder {message.encoder_id}, the table was built with "
                f"{self._encoder_id}: give both nodes the same bundle"
            )
        return self._lookup.step(query_of(message))

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report the last decision."""
        if self._trouble_or_nothing():
            return DiagnosticStatus.ERROR, self._trouble_or_nothing(), {}
        decision = getattr(self, "_decision", None)
        if decision is None:
            return DiagnosticStatus.OK, "no embedding has come", {}
        values = {
            "score": f"{decision.score:.4f}",
            "threshold": f"{decision.threshold:.4f}",
            "quantile": f"{decision.quantile:.4f}",
            "strangest": decision.cause,
            "similarity": f"{decision.neighbour.similarity:.4f}",
            "demonstration": self._names[decision.neighbour.demonstration],
            "frame": decision.neighbour.frame,
            "last [ms]": f"{1e3 * self._seconds:.3f}",
        }
        if decision.flag:
            text = f"out of distribution: {decision.cause}; strangest view: {decision.view}"
            return DiagnosticStatus.WARN, text, values
        return DiagnosticStatus.OK, "in distribution", values

    def _trouble_or_nothing(self) -> str:
        return getattr(self, "_trouble", "")


def main() -> int:
    """Run the node."""
    return run(Lookup)


if __name__ == "__main__":
    sys.exit(main())
