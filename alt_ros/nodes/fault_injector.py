"""The fault_injector node, a tool for drills: passes streams through, damaged when told so.

It stands between the drivers and the graph, or between the executor and the arm, and hands on the
serialised messages as they are. No robot needs it.
"""

from __future__ import annotations

import array
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64

from alt_ros.errors import ConfigurationError
from alt_ros.messages import raw_stamp, with_raw_stamp
from alt_ros.msg import ActionChunk
from alt_ros.nodes.node import COMMAND, RELIABLE, SENSOR, AltNode, run
from alt_ros.nodes.parameters import parameter
from alt_ros.srv import SetFault
from alt_ros.types import NANOSECONDS

STREAMS: dict[str, tuple[Any, Any]] = {
    "wrist/image_raw": (Image, SENSOR),
    "third_person/image_raw": (Image, SENSOR),
    "eef_pose": (PoseStamped, SENSOR),
    "gripper_state": (JointState, SENSOR),
    "alt/action_chunk": (ActionChunk, RELIABLE),
    "target_pose": (PoseStamped, COMMAND),
    "target_gripper": (Float64, COMMAND),
}
MEASURED = ("wrist/image_raw", "third_person/image_raw", "eef_pose", "gripper_state")
KEPT_STAMPS = 100


@dataclass(frozen=True)
class FaultInjectorParameters:
    """Parameters of fault_injector."""

    streams: tuple[str, ...] = parameter(
        (*MEASURED, "alt/action_chunk"), "Topics that pass through"
    )
    source: str = parameter("clean/", "Put before a topic that is read")
    sink: str = parameter("", "Put before a topic that is written")
    restamp: bool = parameter(
        False, "Stamp what drivers measure with the system's time: a simulation without /clock"
    )


@dataclass
class Stream:
    """One topic: where it goes, and what is wrong with it."""

    kind: Any
    publisher: Any
    fault: str = ""
    amount: float = 0.0
    count: int = 0
    kept: bytes = b""
    chance: random.Random = field(default_factory=lambda: random.Random(0))


def _freeze(stream: Stream, raw: bytes) -> bytes:
    stream.kept = stream.kept or raw
    return stream.kept


def _slow(stream: Stream, raw: bytes) -> bytes | None:
    return raw if stream.count % int(stream.amount) == 0 else None


def _drop(stream: Stream, raw: bytes) -> bytes | None:
    return None if stream.chance.random() < stream.amount else raw


def _stop(stream: Stream, raw: bytes) -> None:
    return None


def _shift(stream: Stream, raw: bytes) -> bytes:
    return with_raw_stamp(raw, raw_stamp(raw) + round(stream.amount * NANOSECONDS))


def _lengthen(stream: Stream, raw: bytes) -> bytes | None:
    """Send a long chunk for every fortieth: 80 MB take DDS a while, and it keeps ten of them."""
    if stream.count % 40 != 1:
        return None
    if not stream.kept:
        chunk = deserialize_message(raw, stream.kind)
        chunk.actions = chunk.actions[: _columns(chunk)] * int(stream.amount)
        stream.kept = serialize_message(chunk)
    return with_raw_stamp(stream.kept, raw_stamp(raw))


def _on_message(alter: Callable[[Any, float], None]) -> Callable[[Stream, bytes], bytes]:
    def damage(stream: Stream, raw: bytes) -> bytes:
        message = deserialize_message(raw, stream.kind)
        alter(message, stream.amount)
        return serialize_message(message)

    return damage


def _black(image: Image, _: float) -> None:
    image.data = array.array("B", bytes(len(image.data)))


def _resize(image: Image, share: float) -> None:
    """Keep the upper left part: what a driver sends after a change of its mode."""
    height, width = int(image.height * share), int(image.width * share)
    rows = (bytes(image.data[r * image.step : r * image.step + 3 * width]) for r in range(height))
    data = array.array("B", b"".join(rows))
    image.height, image.width, image.step = height, width, 3 * width
    image.data = data


def _jump(pose: PoseStamped, metres: float) -> None:
    pose.pose.position.z += metres


def _nan(message: Any, _: float) -> None:
    if isinstance(message, ActionChunk):
        message.actions[len(message.actions) // 2] = math.nan
    elif isinstance(message, JointState):
        message.position = [math.nan] * len(message.position)
    else:
        message.pose.position.x = math.nan


def _move(chunk: ActionChunk, metres: float) -> None:
    for first in range(0, len(chunk.actions), _columns(chunk)):
        chunk.actions[first] += metres


def _narrow(chunk: ActionChunk, columns: float) -> None:
    """Leave the last columns out of every row, without saying so."""
    wide = _columns(chunk)
    kept = wide - int(columns)
    rows = range(0, len(chunk.actions), wide)
    chunk.actions = array.array("d", [v for r in rows for v in chunk.actions[r : r + kept]])


def _widen(chunk: ActionChunk, arms: float) -> None:
    """Send actions of several arms, and say so."""
    wide = _columns(chunk)
    rows = range(0, len(chunk.actions), wide)
    data = [v for r in rows for v in list(chunk.actions[r : r + wide]) * int(arms)]
    chunk.arms, chunk.actions = int(arms), array.array("d", data)


def _columns(chunk: ActionChunk) -> int:
    return 10 * chunk.arms + chunk.extra


FAULTS: dict[str, Callable[[Stream, bytes], bytes | None]] = {
    "freeze": _freeze,
    "slow": _slow,
    "drop": _drop,
    "stop": _stop,
    "shift": _shift,
    "black": _on_message(_black),
    "resize": _on_message(_resize),
    "jump": _on_message(_jump),
    "nan": _on_message(_nan),
    "move": _on_message(_move),
    "lengthen": _lengthen,
    "narrow": _on_message(_narrow),
    "widen": _on_message(_widen),
}
"""Name to what it does: ``freeze`` repeats a message with its stamp; ``slow`` keeps every
amount-th; ``drop`` loses this share; ``stop`` loses all; ``shift`` moves stamps by seconds;
``black``, ``resize`` (to this share) are for images; ``jump`` (metres up) for poses; ``nan`` for
poses, openings and chunks; ``move`` (metres), ``lengthen`` (to rows), ``narrow`` (by columns),
``widen`` (to arms) for chunks."""


class FaultInjector(AltNode):
    """A tool for drills: pass streams through, and damage them when ~/set_fault says so."""

    name = "fault_injector"
    Parameters = FaultInjectorParameters

    def configure(self) -> None:
        """Put itself between source and sink of every stream.

        Raises:
            ConfigurationError: A stream is not known, or would feed itself.
        """
        p = self.parameters
        unknown = sorted(set(p.streams) - set(STREAMS))
        if unknown:
            raise ConfigurationError(f"streams must be among {sorted(STREAMS)}, got {unknown}")
        if p.source == p.sink:
            raise ConfigurationError(f"source and sink must differ, both are '{p.source}'")
        self._streams: dict[str, Stream] = {}
        self._stamps: dict[int, int] = {}
        for topic in p.streams:
            kind, quality = STREAMS[topic]
            publisher = self.create_lifecycle_publisher(kind, p.sink + topic, quality)
            self._streams[topic] = Stream(kind, publisher)
            self.create_subscription(
                kind, p.source + topic, partial(self._on_message, topic), quality, raw=True
            )
        self.create_service(SetFault, "~/set_fault", self._on_set_fault)

    def _on_message(self, topic: str, raw: bytes) -> None:
        if not self.is_active:
            return
        stream = self._streams[topic]
        stream.count += 1
        out: bytes | None = raw
        if self.parameters.restamp and topic in MEASURED:
            out = with_raw_stamp(raw, self._system_stamp(raw_stamp(raw)))
        if stream.fault:
            out = FAULTS[stream.fault](stream, out or b"")
        if out is not None:
            stream.publisher.publish(out)

    def _system_stamp(self, stamp: int) -> int:
        """Return when a stamp of the simulation was first seen: one for all of an instant."""
        if stamp not in self._stamps:
            self._stamps[stamp] = time.time_ns()
            if len(self._stamps) > KEPT_STAMPS:
                self._stamps.pop(next(iter(self._stamps)))
        return self._stamps[stamp]

    def _on_set_fault(
        self, request: SetFault.Request, response: SetFault.Response
    ) -> SetFault.Response:
        stream = self._streams.get(request.stream)
        if stream is None:
            response.message = f"streams are {list(self._streams)}, got '{request.stream}'"
        elif request.kind and request.kind not in FAULTS:
            response.message = f"kinds are {list(FAULTS)}, got '{request.kind}'"
        else:
            stream.fault, stream.amount = request.kind, request.amount
            stream.count, stream.kept = 0, b""
            response.success = True
            response.message = f"{request.stream}: {request.kind or 'well'}"
        return response


def main() -> int:
    """Run the node."""
    return run(FaultInjector)


if __name__ == "__main__":
    sys.exit(main())
