"""The executor node: streams what is due now to the arm, within the limits, or nothing.

On the robot's clock the commands come from a thread of their own (alt_ros/control_loop.py); under
simulated time they come with /clock, whatever its speed. Callbacks and that thread share one lock,
so after ``alt/stop`` has answered nothing is sent.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Header
from std_srvs.srv import Trigger

from alt_ros.control_loop import enter_realtime
from alt_ros.errors import DataError
from alt_ros.execution import Moment, SentCommand
from alt_ros.messages import decision_of, opening_of, pose_of, stamp_of
from alt_ros.msg import OodFlag
from alt_ros.nodes.arm_output import arm_output, is_listened_to
from alt_ros.nodes.control_ticks import ClockTicks, LoopTicks
from alt_ros.nodes.executor_chunks import read_chunk, subscribe_chunks
from alt_ros.nodes.executor_parameters import ExecutorParameters
from alt_ros.nodes.executor_status import ExecutorStatus
from alt_ros.nodes.graph import leave_shared_memory
from alt_ros.nodes.node import COMMAND, RELIABLE, SENSOR, AltNode, run
from alt_ros.safety import AfterOod, Role
from alt_ros.types import NANOSECONDS


class ExecutorNode(AltNode):
    """Follow /alt/action_chunk on target_pose and target_gripper while armed."""

    name = "executor"
    Parameters = ExecutorParameters

    def configure(self) -> None:
        """Build the executor, subscribe, offer the services."""
        p = self.parameters
        self._lock = threading.RLock()
        self._period = round(NANOSECONDS / p.control_rate)
        self._executor = p.executor(self._period)
        self._simulated = self.get_parameter("use_sim_time").value
        self._ticks: ClockTicks | LoopTicks | None = None
        self._broken = ""
        self._scheduling = "driven by /clock"
        if not self._simulated:
            self._scheduling = enter_realtime(p.realtime_priority)
            self.get_logger().info(f"scheduling: {self._scheduling}")
        self._frame_id = ""
        self._measured = np.zeros(7)
        self._moving = False
        self._output = arm_output(self, p, p.limits())
        self._gripper_publisher = self.create_lifecycle_publisher(
            Float64, "target_gripper", COMMAND
        )
        self._status = ExecutorStatus(self)
        subscribe_chunks(self, AfterOod(p.after_ood), self._on_chunk)
        self.create_subscription(OodFlag, "alt/ood", self._on_ood, RELIABLE)
        self.create_subscription(Header, "alt/observation_stamp", self._on_observation, RELIABLE)
        self.create_subscription(PoseStamped, "eef_pose", self._on_pose, SENSOR)
        self.create_subscription(JointState, "gripper_state", self._on_gripper, SENSOR)
        self.create_service(Trigger, "alt/arm", self._on_arm)
        self.create_service(Trigger, "alt/stop", self._on_stop)
        self.create_service(Trigger, "alt/hold", self._on_hold)
        self.create_service(Trigger, "alt/disarm", self._on_disarm)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.1, self._look_for_controller, clock=steady)
        self.create_timer(0.5, self._tell)
        self._tell()

    def activate(self) -> None:
        """Begin to tick."""
        if self._simulated:
            self._ticks = ClockTicks(self.get_clock(), self._tick)
        else:
            self._ticks = LoopTicks(
                self.get_clock(),
                self._period,
                self.parameters.realtime_priority,
                self._tick,
                self._on_failure,
            )

    def deactivate(self) -> None:
        """Stop sending; the arm stays at the last command."""
        assert self._ticks is not None
        self._ticks.stop()
        self._stop("deactivated")

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def _at(self) -> Moment:
        now = self._now()
        return Moment.of(now) if self._simulated else Moment(now, time.monotonic_ns())

    def _on_chunk(self, role: Role, raw: bytes) -> None:
        try:
            chunk, published = read_chunk(raw, self._frame_id)
        except DataError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)
            with self._lock:
                self._executor.refused[str(error).split(":")[0]] += 1
            return
        with self._lock:
            if not self._executor.offer_chunk(chunk, self._at(), role):
                self._status.accepted(chunk.stamp, published)

    def _on_ood(self, message: OodFlag) -> None:
        decision = decision_of(message)
        with self._lock:
            self._executor.observe_ood(decision, self._at())

    def _on_observation(self, message: Header) -> None:
        with self._lock:
            self._executor.observe_observation(self._at())

    def _on_pose(self, message: PoseStamped) -> None:
        pose, stamp = pose_of(message.pose), stamp_of(message)
        with self._lock:
            self._frame_id = message.header.frame_id
            self._executor.observe_pose(pose, stamp, self._at())
            self._measured = pose

    def _on_gripper(self, message: JointState) -> None:
        try:
            opening = opening_of(message, self.parameters.gripper_joint)
        except DataError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
            return
        with self._lock:
            self._executor.observe_gripper(opening)

    def _look_for_controller(self) -> None:
        listening = is_listened_to(self, self._output, self.parameters.controller)
        with self._lock:
            self._executor.observe_controller(listening)

    def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            if not self.is_active:
                reasons = ["node is not active"]
            elif self._broken:
                reasons = [self._broken]
            else:
                reasons = self._executor.arm(self._at())
            self._tell()
        response.success = not reasons
        response.message = "; ".join(reasons) or "armed"
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop("stopped by the operator")
        response.success, response.message = True, "stopped"
        return response

    def _stop(self, reason: str) -> None:
        with self._lock:
            self._executor.stop(reason)
            self._halt(self._now())
            self._tell()

    def _on_hold(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            reason = self._executor.hold()
            self._tell()
        response.success, response.message = not reason, reason or "holding"
        return response

    def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            self._executor.reset("disarmed by the operator")
            self._halt(self._now())
            self._tell()
        response.success, response.message = True, "idle"
        return response

    def _on_failure(self, error: BaseException) -> None:
        with self._lock:
            self._broken = f"control loop has ended: {type(error).__name__}: {error}"
            self._executor.fail(self._broken)
            self._tell()

    def _tick(self, at: Moment) -> None:
        with self._lock:
            if not self.is_active:
                return
            sent = self._executor.step(at)
            if sent is not None:
                self._send(sent)
            else:
                self._halt(at.now)
            if self._status.is_news(self._executor):
                self._tell()

    def _send(self, sent: SentCommand) -> None:
        try:
            self._output.send(sent, self._measured, self._frame_id)
        except DataError as error:
            self._executor.fail(str(error))
            self._halt(sent.stamp)
            return
        self._gripper_publisher.publish(Float64(data=sent.command.gripper))
        self._moving = True
        self._status.sent(sent.chunk_stamp)

    def _halt(self, now: int) -> None:
        if self._moving:
            self._moving = False
            self._output.halt(now, self._frame_id)

    def _tell(self) -> None:
        with self._lock:
            self._status.publish(self._executor, self._now())

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report state, reason, counters, latency, and how punctual the ticks are."""
        if not hasattr(self, "_executor"):
            return DiagnosticStatus.STALE, "not configured", {}
        with self._lock:
            level, text, values = self._status.diagnostics(self._executor, self._now())
        values["scheduling"] = self._scheduling
        if self._ticks is not None:
            values.update(self._ticks.diagnostics())
        return level, text, values


def main() -> int:
    """Run the node; what it sends must not wait for whoever receives it."""
    leave_shared_memory()
    return run(ExecutorNode)


if __name__ == "__main__":
    sys.exit(main())
