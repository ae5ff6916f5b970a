"""ROS's ApproximateTimeSynchronizer, to compare with: the class itself, or a restatement of it.

The restatement follows ``ApproximateTimeSynchronizer.add`` of ros2/message_filters, commit
361e42c78ee0, src/message_filters/__init__.py, rule for rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import product
from types import SimpleNamespace
from typing import Any

Pairing = Callable[[int, int, int], "Sequence[int] | None"]
"""Takes (stream, stamp in ns, frame number); returns the frame numbers of a set that it makes."""


class RestatedApproximateTime:
    """Sets of one message per stream by the rules of ApproximateTimeSynchronizer.

    Args:
        streams: How many streams.
        queue_size: Messages that are kept per stream; beyond it the oldest stamp goes.
        slop: Stamps of a set lie less than this apart, ns.
    """

    def __init__(self, streams: int, queue_size: int, slop: int) -> None:
        self._queue_size = queue_size
        self._slop = slop
        self._queues: list[dict[int, int]] = [{} for _ in range(streams)]

    def __call__(self, stream: int, stamp: int, frame: int) -> Sequence[int] | None:
        """Take a message; return the frames of the first set around it, nearest stamps first."""
        own = self._queues[stream]
        own[stamp] = frame
        while len(own) > self._queue_size:
            del own[min(own)]
        near: list[list[int]] = []
        for number, queue in enumerate(self._queues):
            if number == stream:
                near.append([stamp])
                continue
            distances = {other: abs(other - stamp) for other in queue}
            within = [other for other in queue if distances[other] <= self._slop]
            near.append(sorted(within, key=distances.__getitem__))
        for stamps in product(*near):
            is_whole = all(s in queue for s, queue in zip(stamps, self._queues, strict=True))
            if is_whole and max(stamps) - min(stamps) < self._slop:
                return [queue.pop(s) for s, queue in zip(stamps, self._queues, strict=True)]
        return None


class _Input:
    """What the class of ROS takes for a subscription."""

    def __init__(self) -> None:
        self._callback: Callable[..., None] | None = None
        self._arguments: tuple[Any, ...] = ()

    def registerCallback(self, callback: Callable[..., None], *arguments: Any) -> int:  # noqa: N802
        self._callback, self._arguments = callback, arguments
        return 0

    def give(self, message: Any) -> None:
        assert self._callback is not None
        self._callback(message, *self._arguments)


class RosApproximateTime:
    """The class of ROS itself, fed with stamps.

    Args:
        module: The imported ``message_filters``.
        streams: How many streams.
        queue_size: As the class takes it.
        slop: As the class takes it, but in ns.
    """

    def __init__(self, module: Any, streams: int, queue_size: int, slop: int) -> None:
        self._time = module.Time
        self._inputs = [_Input() for _ in range(streams)]
        synchronizer = module.ApproximateTimeSynchronizer(self._inputs, queue_size, slop / 1e9)
        synchronizer.registerCallback(self._keep)
        self._made: list[int] | None = None

    def _keep(self, *messages: Any) -> None:
        self._made = [message.frame for message in messages]

    def __call__(self, stream: int, stamp: int, frame: int) -> Sequence[int] | None:
        """Take a message; return the frames of the set that it completes."""
        self._made = None
        header = SimpleNamespace(stamp=self._time(nanoseconds=stamp))
        self._inputs[stream].give(SimpleNamespace(header=header, frame=frame))
        return self._made


def approximate_time(streams: int, queue_size: int, slop: int) -> tuple[Pairing, str]:
    """Return the synchroniser and what it is: the class of ROS, or our restatement of it."""
    try:
        module = import_module("message_filters")
    except ImportError:
        return RestatedApproximateTime(streams, queue_size, slop), "restated"
    return RosApproximateTime(module, streams, queue_size, slop), "message_filters"
