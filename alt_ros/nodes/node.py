"""What every node of the graph shares: life cycle, quality of service, diagnostics, ``main``."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.service import Service
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from alt_ros.errors import AltError
from alt_ros.nodes.parameters import declare, help_text

# REP 2003. A node that falls behind must not work off old images: the newest is enough.
NEWEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
)
# What the synchroniser reads: it needs every frame and sample, a few of them while it is busy.
SENSOR = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=50, reliability=ReliabilityPolicy.BEST_EFFORT
)
RELIABLE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE
)
# Commands: one that a broken network held back must not come when the network is back. What lies
# in the kernel's queues only the subscription can drop: it needs the lifespan too. DDS tells the
# age by the clocks of both computers, which must agree within this as the poses' stamps must.
COMMAND = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    lifespan=Duration(nanoseconds=200_000_000),
)
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
SIGNAL_PERIOD = 0.1
HOST = socket.gethostname()


class AltNode(LifecycleNode):
    """A lifecycle node that configures from a parameter dataclass and reports diagnostics.

    A subclass sets ``name``, ``Parameters`` and the three hooks below.
    """

    name: ClassVar[str]
    Parameters: ClassVar[type[Any]]

    def __init__(self) -> None:
        super().__init__(self.name)
        self.declare_parameter("autostart", True)
        self.parameters = declare(self, self.Parameters)
        self.is_active = False
        self._configured: list[Any] = []
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self._diagnostics_timer = self.create_timer(1.0, self._publish_diagnostics)

    def configure(self) -> None:
        """Load and connect everything; raise an AltError for what cannot be had."""

    def activate(self) -> None:
        """Start to publish; raise an AltError for what cannot be had."""

    def deactivate(self) -> None:
        """Stop publishing, and leave the robot safe."""

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Return the level, a line of text and named values."""
        return DiagnosticStatus.OK, "ok", {}

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Configure; an error that a user can act on is one line in the log."""
        before = set(self._entities())
        try:
            self.configure()
        except AltError as error:
            self.get_logger().fatal(str(error))
            return TransitionCallbackReturn.FAILURE
        finally:
            self._configured = [e for e in self._entities() if e not in before]
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take down what ``configure`` made, so that it can be configured again."""
        for entity in self._configured:
            if isinstance(entity, Subscription):
                self.destroy_subscription(entity)
            elif isinstance(entity, Service):
                self.destroy_service(entity)
            elif isinstance(entity, Timer):
                self.destroy_timer(entity)
            else:
                self.destroy_publisher(entity)
        self._configured = []
        return super().on_cleanup(state)

    def _entities(self) -> Iterator[Any]:
        yield from (*self.subscriptions, *self.services, *self.timers, *self.publishers)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Activate; an error that a user can act on is one line in the log."""
        result = super().on_activate(state)
        self.is_active = True
        try:
            self.activate()
        except AltError as error:
            self.get_logger().fatal(str(error))
            self.is_active = False
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate."""
        self.is_active = False
        self.deactivate()
        return super().on_deactivate(state)

    def _publish_diagnostics(self) -> None:
        level, text, values = self.diagnostics()
        if not self.is_active:
            level, text = DiagnosticStatus.STALE, "not active"
        status = DiagnosticStatus(
            level=level, name=f"alt: {self.name}", message=text, hardware_id=HOST
        )
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def run(node_type: type[AltNode]) -> int:
    """Run a node until it is interrupted; return the exit status.

    With the parameter ``autostart`` (default) it configures and activates itself; without, a
    lifecycle manager does. SIGINT and SIGTERM deactivate it before it goes.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(node_type.name, node_type.__doc__ or "", node_type.Parameters))
        return 0
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGTERM, _interrupt)
    executor = SingleThreadedExecutor()
    node = None
    try:
        node = node_type()
        executor.add_node(node)
        if node.get_parameter("autostart").value:
            if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                return 1
            if node.trigger_activate() != TransitionCallbackReturn.SUCCESS:
                return 1
        _spin_until_signal(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except AltError as error:
        print(f"[{node_type.name}] {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            if node.is_active:
                node.trigger_deactivate()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _spin_until_signal(node: AltNode, executor: SingleThreadedExecutor) -> None:
    """Run callbacks until a signal comes; the one that runs then ends first, its bag whole."""
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: signals.append(received))
    # Python's signal handlers wait while rcl waits in C. A timer on the steady clock bounds that,
    # also when /clock stands still and no other timer fires.
    steady = Clock(clock_type=ClockType.STEADY_TIME)
    node.create_timer(SIGNAL_PERIOD, lambda: None, clock=steady)
    while not signals:
        executor.spin_once()


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
