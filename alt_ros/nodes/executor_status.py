"""What the executor says about itself: /alt/state, latched, and its line in /diagnostics."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from alt_ros.execution import Executor
from alt_ros.msg import ExecutorState
from alt_ros.nodes.conversions import to_time
from alt_ros.nodes.node import LATCHED
from alt_ros.safety import State

LEVELS = {
    State.FAULT: DiagnosticStatus.ERROR,
    State.HOLDING: DiagnosticStatus.WARN,
    State.RETURNING: DiagnosticStatus.WARN,
    State.FALLBACK: DiagnosticStatus.WARN,
    State.STOPPED: DiagnosticStatus.WARN,
}


class ExecutorStatus:
    """Counts, and publishes the state in every life-cycle state of the node."""

    def __init__(self, node: Node) -> None:
        self._log = node.get_logger()
        # Told in every life-cycle state, so it is not a lifecycle publisher.
        self._publisher = node.create_publisher(ExecutorState, "alt/state", LATCHED)
        self._commands = self._chunks = 0
        self._latencies: deque[float] = deque(maxlen=1000)
        self._published_at: dict[int, int] = {}
        self._told: tuple[State, str] | None = None

    def accepted(self, stamp: int, published: int) -> None:
        """Count a chunk: its stamp, and when its observation was published (host time), ns."""
        self._chunks += 1
        self._published_at[stamp] = published
        if len(self._published_at) > 100:
            self._published_at.pop(next(iter(self._published_at)))

    def sent(self, chunk_stamp: int) -> None:
        """Count a command that follows a chunk."""
        self._commands += 1
        published = self._published_at.pop(chunk_stamp, None)
        if published is not None:
            self._latencies.append((time.time_ns() - published) / 1e6)

    def is_news(self, executor: Executor) -> bool:
        """Return whether state or reason are not the ones told last."""
        return (executor.state, executor.reason) != self._told

    def publish(self, executor: Executor, now: int) -> None:
        """Tell state, reason and counters."""
        if self.is_news(executor):
            self._told = (executor.state, executor.reason)
            self._log.info(f"{executor.state.value}: {executor.reason}")
        message = ExecutorState(state=executor.state.value, reason=executor.reason)
        message.header.stamp = to_time(now)
        message.commands, message.chunks = self._commands, self._chunks
        message.refused = sum(executor.refused.values())
        message.latency_ms, message.latency_p50_ms, message.latency_p99_ms = self._latency()
        message.delay_ms = float("nan") if executor.delay is None else executor.delay / 1e6
        self._publisher.publish(message)

    def _latency(self) -> tuple[float, float, float]:
        if not self._latencies:
            return (float("nan"),) * 3
        p50, p99 = np.percentile(self._latencies, [50, 99])
        return self._latencies[-1], float(p50), float(p99)

    def diagnostics(self, executor: Executor, now: int) -> tuple[bytes, str, dict[str, Any]]:
        """Return level, line and values."""
        _, p50, p99 = self._latency()
        values: dict[str, Any] = {
            "commands": self._commands,
            "chunks": self._chunks,
            "latency p50 [ms]": f"{p50:.1f}",
            "latency p99 [ms]": f"{p99:.1f}",
        }
        delay, margin = executor.delay, executor.margin(now)
        level = LEVELS.get(executor.state, DiagnosticStatus.OK)
        text = f"{executor.state.value}: {executor.reason}"
        if delay is not None and margin is not None:
            values["delay of chunks [ms]"] = f"{delay / 1e6:.1f}"
            values["chunks outlast the next by [ms]"] = f"{margin / 1e6:.0f}"
            if executor.state is State.RUNNING and margin < 0:
                level, text = DiagnosticStatus.WARN, "running: chunks end before the next can come"
        values.update({f"refused: {why}": count for why, count in executor.refused.items()})
        return level, text, values
