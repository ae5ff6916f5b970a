"""Listens to the graph for the benchmark: when did each observation come, when its chunk."""

from __future__ import annotations

import threading
import time
from collections import deque

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from alt_ros.messages import nanoseconds
from alt_ros.msg import ActionChunk, Observation
from alt_ros.nodes.node import NEWEST, RELIABLE

KEPT_OBSERVATIONS = 50


class PipelineProbe:
    """Times chunks against the publication of their observations, on the host's system clock.

    Attributes:
        observations: Some of the observation messages.
        graph_ms: Publication of the observation to arrival of its chunk here.
        encoder_ms: What the encoder node says it took.
        lookup_ms: What the lookup node says it took.
    """

    def __init__(self) -> None:
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node("pipeline_probe", context=self._context)
        self.observations: deque[Observation] = deque(maxlen=KEPT_OBSERVATIONS)
        self.graph_ms: list[float] = []
        self.encoder_ms: list[float] = []
        self.lookup_ms: list[float] = []
        self._node.create_subscription(ActionChunk, "alt/action_chunk", self._on_chunk, RELIABLE)
        self._observations = self._node.create_subscription(
            Observation, "alt/observation", self._on_observation, NEWEST
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def __enter__(self) -> PipelineProbe:
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown()
        self._thread.join(timeout=5.0)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _on_observation(self, message: Observation) -> None:
        self.observations.append(message)

    def _on_chunk(self, message: ActionChunk) -> None:
        elapsed = time.time_ns() - nanoseconds(message.observation_published)
        if len(self.observations) < KEPT_OBSERVATIONS:
            return  # warming up, and collecting what the bare measurement needs
        self.graph_ms.append(elapsed / 1e6)
        self.encoder_ms.append(1e3 * message.encode_seconds)
        self.lookup_ms.append(1e3 * message.policy_seconds)
