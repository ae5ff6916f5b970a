"""Listens to the graph for the benchmark: when did each observation come, when its chunk."""

from __future__ import annotations

import time
from collections import deque

from rclpy.node import Node

from alt_ros.messages import nanoseconds
from alt_ros.msg import ActionChunk, Observation
from alt_ros.nodes.node import NEWEST, RELIABLE

KEPT_OBSERVATIONS = 50


class PipelineProbe:
    """Times chunks against the publication of their observations, on the host's system clock.

    Args:
        node: A node that is being spun; listens from here on.

    Attributes:
        observations: Some of the observation messages.
        graph_ms: Publication of the observation to arrival of its chunk here.
        encoder_ms: What the encoder node says it took.
        lookup_ms: What the lookup node says it took.
    """

    def __init__(self, node: Node) -> None:
        self.observations: deque[Observation] = deque(maxlen=KEPT_OBSERVATIONS)
        self.graph_ms: list[float] = []
        self.encoder_ms: list[float] = []
        self.lookup_ms: list[float] = []
        node.create_subscription(ActionChunk, "alt/action_chunk", self._on_chunk, RELIABLE)
        node.create_subscription(Observation, "alt/observation", self._on_observation, NEWEST)

    def _on_observation(self, message: Observation) -> None:
        self.observations.append(message)

    def _on_chunk(self, message: ActionChunk) -> None:
        elapsed = time.time_ns() - nanoseconds(message.observation_published)
        if len(self.observations) < KEPT_OBSERVATIONS:
            return  # warming up, and collecting what the bare measurement needs
        self.graph_ms.append(elapsed / 1e6)
        self.encoder_ms.append(1e3 * message.encode_seconds)
        self.lookup_ms.append(1e3 * message.policy_seconds)
