"""The console node: shows the graph on a web page, and passes stop, arm, hold and disarm on.

Nothing of the graph waits for it: it reads with best effort, and does not subscribe to commands,
whose subscribers count as controllers of the arm.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from alt_ros.bundle import Bundle
from alt_ros.console.board import (
    Board,
    DecisionReport,
    DiagnosticReport,
    ExecutorReport,
    Picture,
)
from alt_ros.console.server import (
    ACTIONS,
    Answer,
    ConsoleConfig,
    ConsoleServer,
    new_token,
    page_address,
)
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.msg import ActionChunk, ExecutorState, OodFlag
from alt_ros.nodes.console_parameters import TOKEN_VARIABLE, ConsoleParameters
from alt_ros.nodes.conversions import decode
from alt_ros.nodes.node import NEWEST, AltNode, run
from alt_ros.pictures.jpeg import to_jpeg
from alt_ros.pictures.recalled import RecalledPictures, store_beside

# What the graph sends reliably is read so that a console that stands still holds nobody up.
SEEN = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.BEST_EFFORT
)
COUNTED = ("eef_pose", "gripper_state", "alt/observation_stamp", "alt/ood", "alt/action_chunk")
PICTURE_HEIGHT = 480
ANSWER_SECONDS = 2.0
STOP_AGAIN_SECONDS = 0.2
NICENESS = 10


class ConsoleNode(AltNode):
    """Serve the operator's page."""

    name = "console"
    Parameters = ConsoleParameters

    def configure(self) -> None:
        """Open the demonstrations, subscribe."""
        p = self.parameters
        self._server: ConsoleServer | None = None
        self._token = os.environ.get(TOKEN_VARIABLE, "") or new_token()
        self._config = ConsoleConfig(p.host, p.port, self._token, p.open_viewing, p.rate)
        ending = "/image_raw/compressed" if p.compressed else "/image_raw"
        images = {view: view + ending for view in p.views}
        recalled = self._recalled()
        self._board = Board(
            [*images.values(), *COUNTED],
            recalled=recalled,
            on_event=self._log,
        )
        self._requests = Requests(self)
        kind = CompressedImage if p.compressed else Image
        for view, topic in images.items():
            on_image = partial(self._on_image, view, topic, kind)
            self.create_subscription(kind, topic, on_image, NEWEST, raw=True)
        self.create_subscription(PoseStamped, "eef_pose", self._on_pose, SEEN, raw=True)
        self.create_subscription(JointState, "gripper_state", self._on_gripper, SEEN, raw=True)
        self.create_subscription(
            Header, "alt/observation_stamp", self._on_observation, SEEN, raw=True
        )
        self.create_subscription(ExecutorState, "alt/state", self._on_state, SEEN)
        self.create_subscription(OodFlag, "alt/ood", self._on_decision, SEEN)
        self.create_subscription(ActionChunk, "alt/action_chunk", self._on_chunk, SEEN)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, SEEN)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.25, lambda: self._board.control(self._requests.ready()), clock=steady)

    def _recalled(self) -> RecalledPictures | None:
        p = self.parameters
        store = Path(p.store) if p.store else None
        if store is None and p.bundle:
            bundle = Bundle.load(Path(p.bundle), encoder=False)
            store = store_beside(bundle.path, bundle.provenance)
        recalled = None
        if store is not None:
            recalled = RecalledPictures.open(store, p.views, PICTURE_HEIGHT)
            if recalled is None and p.store:
                raise ConfigurationError(
                    f"console: '{store}' must be a store with the views {', '.join(p.views)}"
                )
        if recalled is None:
            self.get_logger().warning(
                f"no pictures of the demonstrations: {'no store' if store is None else store} "
                "has them; set the parameter 'store'"
            )
        return recalled

    def activate(self) -> None:
        """Serve."""
        with contextlib.suppress(OSError):
            os.nice(NICENESS - os.nice(0))  # the control loop comes first
        self._server = ConsoleServer(self._board, self._requests, self._config)
        self._server.start()
        host, port = self._config.host, self._server.port
        if not self._config.is_loopback:
            self.get_logger().warning(
                f"the console listens at {host}: whoever reaches it may stop the arm, and see "
                "the cameras unless open_viewing is false; nothing is encrypted"
            )
        # Not into the log, which is a topic that bags record; who gave the token knows it.
        token = "" if TOKEN_VARIABLE in os.environ else self._token
        print(f"console: {page_address(host, port, token)}", flush=True)

    def deactivate(self) -> None:
        """Serve no longer."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _log(self, level: str, text: str) -> None:
        if level == "info":  # rclpy wants one severity a line of code
            self.get_logger().info(text)
        else:
            self.get_logger().warning(text)

    def _on_image(self, view: str, topic: str, kind: type[Any], raw: bytes) -> None:
        self._board.came(topic)
        now = self.get_clock().now().nanoseconds
        self._board.picture(Picture(view, now, lambda: _jpeg(raw, kind)))

    def _on_pose(self, raw: bytes) -> None:
        self._board.came("eef_pose")

    def _on_gripper(self, raw: bytes) -> None:
        self._board.came("gripper_state")

    def _on_observation(self, raw: bytes) -> None:
        self._board.came("alt/observation_stamp")

    def _on_state(self, message: ExecutorState) -> None:
        self._board.executor(
            ExecutorReport(
                message.state,
                message.reason,
                message.commands,
                message.chunks,
                message.refused,
                message.latency_p50_ms,
                message.latency_p99_ms,
                message.delay_ms,
            )
        )

    def _on_decision(self, message: OodFlag) -> None:
        self._board.came("alt/ood")
        self._board.decision(
            DecisionReport(
                message.demonstration,
                message.frame,
                message.similarity,
                message.score,
                message.threshold,
                message.flag,
                message.cause,
                message.view,
            )
        )

    def _on_chunk(self, message: ActionChunk) -> None:
        self._board.came("alt/action_chunk")
        self._board.took("encode", message.encode_seconds)
        self._board.took("policy", message.policy_seconds)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            level = int.from_bytes(status.level, "little")
            self._board.diagnostic(DiagnosticReport(status.name, level, status.message, values))

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report how many pages are open."""
        server = getattr(self, "_server", None)
        if server is None:
            return DiagnosticStatus.STALE, "not serving", {}
        return DiagnosticStatus.OK, "serving", {"viewers": server.viewers, "port": server.port}


class Requests:
    """Asks the executor, from the server's loop.

    Services are not answered in the order of asking: an arm may overtake a stop, or be carried
    out after it was given up. Such an arm is followed by a stop.
    """

    def __init__(self, node: Node) -> None:
        self._clients = {name: node.create_client(Trigger, f"alt/{name}") for name in ACTIONS}
        self._stops = 0
        self._undoing: set[asyncio.Task[Answer]] = set()

    def ready(self) -> dict[str, bool]:
        """Return which services are there."""
        return {name: client.service_is_ready() for name, client in self._clients.items()}

    async def __call__(self, action: str) -> Answer:
        """Ask for an action; a stop is asked for again until it is answered."""
        client = self._clients[action]
        self._stops += action == "stop"
        if not client.service_is_ready():
            return Answer(False, f"{action}: the executor is not there", 503)
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Trigger.Response] = loop.create_future()
        take = partial(self._take, action, self._stops, answered)

        def ask() -> None:
            future = client.call_async(Trigger.Request())
            future.add_done_callback(partial(loop.call_soon_threadsafe, take))

        ask()
        deadline = loop.time() + ANSWER_SECONDS
        while not answered.done() and (left := deadline - loop.time()) > 0:
            again = min(left, STOP_AGAIN_SECONDS) if action == "stop" else left
            await asyncio.wait([answered], timeout=again)
            if action == "stop" and not answered.done():
                ask()
        if not answered.done():
            answered.cancel()
            return Answer(False, f"{action}: no answer for {ANSWER_SECONDS:g} s", 504)
        response = answered.result()
        return Answer(response.success, response.message)

    def _take(
        self, action: str, stops: int, answered: asyncio.Future[Trigger.Response], future: Any
    ) -> None:
        if future.exception() is not None:
            return
        late = answered.cancelled() or stops != self._stops
        if action == "arm" and late and future.result().success:
            task = asyncio.ensure_future(self("stop"))
            self._undoing.add(task)
            task.add_done_callback(self._undoing.discard)
        if not answered.done():
            answered.set_result(future.result())


def _jpeg(raw: bytes, kind: type[Any]) -> bytes:
    try:
        return to_jpeg(decode(deserialize_message(raw, kind)), PICTURE_HEIGHT)
    except DataError:
        return b""


def main() -> int:
    """Run the node."""
    return run(ConsoleNode)


if __name__ == "__main__":
    sys.exit(main())
