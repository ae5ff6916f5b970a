"""The operator of a drill: also damages streams, switches nodes off, and judges what is sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import QoSProfile

from alt_ros.errors import AltError
from alt_ros.nodes.flight_recorder import EVERYTHING, FlightRecorder
from alt_ros.nodes.operator import Operator
from alt_ros.srv import SetFault

ANSWER_SECONDS = 3.0


class DrillConsole(Operator):
    """An Operator with a FlightRecorder, and with hands on the faults.

    Attributes:
        flight: What was sent and said.
    """

    def __init__(
        self, check: Callable[[], None] = lambda: None, commands: QoSProfile = EVERYTHING
    ) -> None:
        """Join the graph; ``check`` as for Operator, ``commands`` as for FlightRecorder."""
        super().__init__(check)
        self.flight = FlightRecorder(self.node, commands)

    def insist(self, service: str, attempts: int = 10, **fields: object) -> None:
        """Call a service that must succeed, again when nobody answers.

        A node that was killed is still in the graph for some seconds, and a request may go there.

        Raises:
            AltError: It was refused or not answered to the end.
        """
        for left in reversed(range(attempts)):
            try:
                self.require(service, ANSWER_SECONDS, **fields)
                return
            except AltError:
                if not left:
                    raise
                time.sleep(0.05)

    def damage(self, injector: str, stream: str, kind: str, amount: float = 0.0) -> None:
        """Have a fault_injector damage a stream; an empty kind makes it well."""
        service = self._client(f"{injector}/set_fault", SetFault)
        self.insist(service, stream=stream, kind=kind, amount=amount)

    def set_active(self, node: str, active: bool) -> None:
        """Activate or deactivate a node by its life cycle."""
        service = self._client(f"{node}/change_state", ChangeState)
        transition = Transition(
            id=Transition.TRANSITION_ACTIVATE if active else Transition.TRANSITION_DEACTIVATE
        )
        self.insist(service, transition=transition)

    def _client(self, service: str, kind: Any) -> str:
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        return service
