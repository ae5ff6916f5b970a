"""The executor node: streams what is due now to the arm, within the limits, or nothing."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from alt_ros.errors import DataError
from alt_ros.execution import Executor, SentCommand
from alt_ros.messages import chunk_of, nanoseconds, opening_of, pose_of
from alt_ros.msg import ActionChunk, ExecutorState, OodFlag
from alt_ros.nodes.conversions import to_pose_stamped, to_time
from alt_ros.nodes.executor_parameters import ExecutorParameters
from alt_ros.nodes.node import LATCHED, RELIABLE, SENSOR, AltNode, run
from alt_ros.safety import State
from alt_ros.types import Neighbour, OodDecision


class ExecutorNode(AltNode):
    """Follow /alt/action_chunk on target_pose and target_gripper while armed."""

    name = "executor"
    Parameters = ExecutorParameters

    def configure(self) -> None:
        """Build the executor, subscribe, offer the services."""
        p = self.parameters
        self._executor = Executor(p.limits(), p.horizon(), resume_after_ood=p.resume_after_ood)
        self._frame_id = ""
        self._commands = self._chunks = 0
        self._latencies: deque[float] = deque(maxlen=1000)
        self._published_at: dict[int, int] = {}
        self._last_state: tuple[State, str] | None = None
        self._pose_publisher = self.create_lifecycle_publisher(
            PoseStamped, "target_pose", RELIABLE
        )
        self._gripper_publisher = self.create_lifecycle_publisher(
            Float64, "target_gripper", RELIABLE
        )
        # The state is told in every life-cycle state, so it is not a lifecycle publisher.
        self._state_publisher = self.create_publisher(ExecutorState, "alt/state", LATCHED)
        self.create_subscription(ActionChunk, "alt/action_chunk", self._on_chunk, RELIABLE)
        self.create_subscription(OodFlag, "alt/ood", self._on_ood, RELIABLE)
        self.create_subscription(PoseStamped, "eef_pose", self._on_pose, SENSOR)
        self.create_subscription(JointState, "gripper_state", self._on_gripper, SENSOR)
        self.create_service(Trigger, "alt/arm", self._on_arm)
        self.create_service(Trigger, "alt/stop", self._on_stop)
        self.create_service(Trigger, "alt/disarm", self._on_disarm)
        self.create_timer(1.0 / p.control_rate, self._on_tick)
        self.create_timer(0.5, self._publish_state)
        self._publish_state()

    def deactivate(self) -> None:
        """Stop sending; the arm stays at the last command."""
        self._executor.stop("deactivated")
        self._publish_state()

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_chunk(self, message: ActionChunk) -> None:
        try:
            chunk = chunk_of(message)
        except DataError as error:
            self._executor.refused["damaged chunk"] += 1
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)
            return
        if not self._executor.offer_chunk(chunk, self._now()):
            self._chunks += 1
            self._published_at[chunk.stamp] = nanoseconds(message.observation_published)
            if len(self._published_at) > 100:
                self._published_at.pop(next(iter(self._published_at)))

    def _on_ood(self, message: OodFlag) -> None:
        neighbour = Neighbour(message.demonstration, message.frame, message.score)
        self._executor.observe_ood(
            OodDecision(message.flag, message.score, message.threshold, neighbour, message.view)
        )
        if message.flag:
            self._on_tick()  # do not wait for the next period to brake

    def _on_pose(self, message: PoseStamped) -> None:
        self._frame_id = message.header.frame_id
        self._executor.observe_pose(pose_of(message.pose), self._now())

    def _on_gripper(self, message: JointState) -> None:
        try:
            self._executor.observe_gripper(opening_of(message, self.parameters.gripper_joint))
        except DataError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)

    def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        reasons = self._executor.arm(self._now()) if self.is_active else ["node is not active"]
        response.success = not reasons
        response.message = "; ".join(reasons) or "armed"
        self._publish_state()
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._executor.stop()
        self._publish_state()
        response.success, response.message = True, "stopped"
        return response

    def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._executor.reset("disarmed by the operator")
        self._publish_state()
        response.success, response.message = True, "idle"
        return response

    def _on_tick(self) -> None:
        if not self.is_active:
            return
        now = self._now()
        sent = self._executor.step(now)
        if sent is not None:
            self._send(sent, now)
        if (self._executor.state, self._executor.reason) != self._last_state:
            self._publish_state()

    def _send(self, sent: SentCommand, now: int) -> None:
        command = sent.command
        self._pose_publisher.publish(to_pose_stamped(command.pose, now, self._frame_id))
        self._gripper_publisher.publish(Float64(data=command.gripper))
        self._commands += 1
        published = self._published_at.pop(sent.chunk_stamp, None)
        if published is not None:
            self._latencies.append((time.time_ns() - published) / 1e6)

    def _publish_state(self) -> None:
        state, reason = self._executor.state, self._executor.reason
        if self._last_state != (state, reason):
            self._last_state = (state, reason)
            self.get_logger().info(f"{state.value}: {reason}")
        message = ExecutorState(state=state.value, reason=reason)
        message.header.stamp = to_time(self._now())
        message.commands, message.chunks = self._commands, self._chunks
        latest, p50, p99 = self._latency()
        message.latency_ms, message.latency_p50_ms, message.latency_p99_ms = latest, p50, p99
        self._state_publisher.publish(message)

    def _latency(self) -> tuple[float, float, float]:
        if not self._latencies:
            return (float("nan"),) * 3
        p50, p99 = np.percentile(self._latencies, [50, 99])
        return self._latencies[-1], float(p50), float(p99)

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report state, reason, counters and latency."""
        if not hasattr(self, "_executor"):
            return DiagnosticStatus.STALE, "not configured", {}
        state = self._executor.state
        levels = {State.FAULT: DiagnosticStatus.ERROR, State.HOLDING: DiagnosticStatus.WARN}
        _, p50, p99 = self._latency()
        values = {
            "commands": self._commands,
            "latency p50 [ms]": f"{p50:.1f}",
            "latency p99 [ms]": f"{p99:.1f}",
            **{f"refused: {k}": v for k, v in self._executor.refused.items()},
        }
        text = f"{state.value}: {self._executor.reason}"
        return levels.get(state, DiagnosticStatus.OK), text, values


def main() -> int:
    """Run the node."""
    return run(ExecutorNode)


if __name__ == "__main__":
    sys.exit(main())
