"""The operator's side of the graph, from Python: arm, stop, reset, record, and what was seen.

The demo, the benchmark and the tests of the running graph stand here, as a person at the robot
would stand at a console. Messages arrive on a thread of their own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from alt_ros.errors import AltError
from alt_ros.msg import ActionChunk, ExecutorState, OodFlag
from alt_ros.nodes.node import LATCHED, RELIABLE
from alt_ros.srv import ResetSimulation, SetDisturbance, StartRecording, StopRecording

Result = TypeVar("Result")

# We see a service before it sees us; an answer that it gives before is lost.
FIRST_CALL_SECONDS = 0.3

SERVICES: dict[str, Any] = {
    "alt/arm": Trigger,
    "alt/stop": Trigger,
    "alt/hold": Trigger,
    "alt/disarm": Trigger,
    "sim/reset": ResetSimulation,
    "sim/set_disturbance": SetDisturbance,
    "sim/pause": SetBool,
    "sim/demonstrate": Trigger,
    "recorder/start": StartRecording,
    "recorder/stop": StopRecording,
}


class Operator:
    """Calls the graph's services and keeps what it publishes.

    Attributes:
        state: Last ExecutorState.
        success: Whether the simulated cup is held and lifted.
        chunks: The last chunks, newest last.
        states: The last ExecutorStates, newest last.
        flags: The last OOD flags, newest last.
        flags_at: The same with their arrival on the monotonic clock, s.
        commands: (arrival on the monotonic clock in s, PoseStamped) sent to the arm.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        """Join the graph.

        Args:
            check: Called while waiting; raises when there is nothing left to wait for, as
                ``Graph.check`` does for a node that died.
        """
        self._check = check
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("operator", context=self._context)
        self.state = ExecutorState()
        self.states: deque[ExecutorState] = deque(maxlen=2000)
        self.success = self.expert_done = False
        self.chunks: deque[ActionChunk] = deque(maxlen=2000)
        self.flags: deque[OodFlag] = deque(maxlen=2000)
        self.flags_at: deque[tuple[float, OodFlag]] = deque(maxlen=2000)
        self.commands: deque[tuple[float, PoseStamped]] = deque(maxlen=20_000)
        subscribe = self.node.create_subscription
        subscribe(ExecutorState, "alt/state", self._on_state, LATCHED)
        subscribe(Bool, "sim/success", self._on_success, LATCHED)
        subscribe(Bool, "sim/expert_done", self._on_expert_done, LATCHED)
        subscribe(ActionChunk, "alt/action_chunk", self._on_chunk, RELIABLE)
        subscribe(OodFlag, "alt/ood", self._on_flag, RELIABLE)
        subscribe(PoseStamped, "target_pose", self._on_command, RELIABLE)
        self._called: set[str] = set()
        self._diagnostics: dict[str, tuple[float, dict[str, str]]] = {}
        subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self._clients = {
            name: self.node.create_client(kind, name) for name, kind in SERVICES.items()
        }
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="operator", daemon=True)
        self._thread.start()

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the graph."""
        self._leaving.set()
        self._executor.wake()
        self._thread.join(timeout=5.0)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        try:
            while not self._leaving.is_set():
                self._executor.spin_once()
        except ExternalShutdownException:
            return

    def _on_state(self, message: ExecutorState) -> None:
        self.states.append(message)
        self.state = message

    def _on_success(self, message: Bool) -> None:
        self.success = message.data

    def _on_expert_done(self, message: Bool) -> None:
        self.expert_done = message.data

    def _on_chunk(self, message: ActionChunk) -> None:
        self.chunks.append(message)

    def _on_flag(self, message: OodFlag) -> None:
        self.flags_at.append((time.monotonic(), message))
        self.flags.append(message)

    def _on_command(self, message: PoseStamped) -> None:
        self.commands.append((time.monotonic(), message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            self._diagnostics[status.name] = (time.monotonic(), values)

    def diagnostics_since(self, name: str, since: float) -> dict[str, str] | None:
        """Return the values of a diagnostic status, None where none came since then.

        Args:
            name: As published, ``alt: executor``.
            since: On the monotonic clock, s.
        """
        came, values = self._diagnostics.get(name, (float("-inf"), {}))
        return values if came > since else None

    def call(self, service: str, timeout: float = 20.0, **fields: Any) -> Any:
        """Call a service and return its response.

        Raises:
            AltError: It is not there, or does not answer in time.
        """
        client = self._clients[service]
        self.wait_for(f"service '{service}'", client.service_is_ready, timeout)
        if service not in self._called:
            self._called.add(service)
            time.sleep(FIRST_CALL_SECONDS)
        future = client.call_async(client.srv_type.Request(**fields))
        self.wait_for(f"an answer of service '{service}'", future.done, timeout)
        return future.result()

    def require(self, service: str, timeout: float = 20.0, **fields: Any) -> Any:
        """Call a service that must succeed.

        Raises:
            AltError: It was refused, with its reason.
        """
        response = self.call(service, timeout, **fields)
        if not response.success:
            raise AltError(f"service '{service}' refused: {response.message}")
        return response

    def wait_for(self, what: str, condition: Callable[[], Result], timeout: float) -> Result:
        """Wait until a condition is true and return its value.

        Args:
            what: For the message: "waited 5 s for WHAT".
            condition: Polled every 5 ms.
            timeout: Seconds.

        Raises:
            AltError: It did not come true in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            self._check()
            if time.monotonic() > deadline:
                raise AltError(f"waited {timeout:g} s for {what}")
            time.sleep(0.005)
