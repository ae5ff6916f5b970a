"""What the console shows now: written by the graph's thread, read by each viewer at its own pace.

Nothing here waits for a viewer, and nothing is kept for one: who reads slowly sees fewer frames.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from alt_ros.pictures.recalled import RecalledPictures

HISTORY_SECONDS = 60.0
MOST_DECISIONS = 6_000
MOST_EVENTS = 50
RATE_SECONDS = 2.0

Value = TypeVar("Value")


@dataclass(frozen=True)
class ExecutorReport:
    """What the executor said last; times in milliseconds."""

    state: str
    reason: str
    commands: int
    chunks: int
    refused: int
    latency_p50_ms: float
    latency_p99_ms: float
    delay_ms: float


@dataclass(frozen=True)
class DecisionReport:
    """The monitor's last decision, as /alt/ood names its fields."""

    demonstration: int
    frame: int
    similarity: float
    score: float
    threshold: float
    flag: bool
    cause: str
    view: str


@dataclass(frozen=True)
class DiagnosticReport:
    """One status of /diagnostics; level 0 ok, 1 warning, 2 error, 3 stale."""

    name: str
    level: int
    message: str
    values: Mapping[str, str]


class Picture:
    """An image that becomes a JPEG when the first viewer asks for it.

    Args:
        view: Its view.
        stamp: ns.
        encode: Makes the JPEG; raises nothing.
    """

    def __init__(self, view: str, stamp: int, encode: Callable[[], bytes]) -> None:
        self.view, self.stamp = view, stamp
        self._encode, self._lock, self._jpeg = encode, threading.Lock(), b""

    @property
    def jpeg(self) -> bytes:
        """The JPEG; empty where the image does not decode."""
        with self._lock:
            if not self._jpeg:
                self._jpeg = self._encode()
            return self._jpeg


class Shown(NamedTuple):
    """A picture for a viewer: what it is, and its JPEG."""

    header: dict[str, Any]
    jpeg: bytes


class _Log(Generic[Value]):
    """The last entries, numbered, so that each viewer gets what it has not seen."""

    def __init__(self, most: int) -> None:
        self._entries: deque[Value] = deque(maxlen=most)
        self.added = 0

    def add(self, entry: Value) -> None:
        self._entries.append(entry)
        self.added += 1

    def since(self, seen: int) -> list[Value]:
        new = min(self.added - seen, len(self._entries))
        return list(itertools.islice(self._entries, len(self._entries) - new, None))


class Board:
    """The latest of everything.

    Args:
        topics: Whose rates are shown, in this order.
        recalled: Pictures of the demonstrations; None: there are none.
        on_event: Told of every event: level and text.
    """

    def __init__(
        self,
        topics: Sequence[str],
        *,
        recalled: RecalledPictures | None = None,
        on_event: Callable[[str, str], None] = lambda level, text: None,
    ) -> None:
        self.recalled = recalled
        self._on_event = on_event
        self._lock = threading.Lock()
        # Wall time for people that never goes back: the system's clock may be set meanwhile.
        self._epoch = time.time() - time.monotonic()
        self._came: dict[str, deque[float]] = {topic: deque(maxlen=400) for topic in topics}
        self._executor: tuple[float, float, ExecutorReport] | None = None
        self._decision: tuple[float, DecisionReport] | None = None
        self._seconds: dict[str, float] = {}
        self._diagnostics: dict[str, tuple[float, DiagnosticReport]] = {}
        self._pictures: dict[str, Picture] = {}
        self._control: dict[str, bool] = {}
        self._decisions: _Log[tuple[float, DecisionReport]] = _Log(MOST_DECISIONS)
        self._events: _Log[tuple[float, str, str]] = _Log(MOST_EVENTS)

    def came(self, topic: str) -> None:
        """Count a message of a topic."""
        with self._lock:
            self._came[topic].append(time.monotonic())

    def executor(self, report: ExecutorReport) -> None:
        """Take the executor's state."""
        now = time.monotonic()
        with self._lock:
            last = self._executor
            same = last is not None and (last[2].state, last[2].reason) == (
                report.state,
                report.reason,
            )
            self._executor = (now, last[1] if same and last is not None else now, report)
        if not same:
            bad = report.state in ("holding", "stopped", "fault")
            self.event("warning" if bad else "info", f"{report.state}: {report.reason}")

    def decision(self, report: DecisionReport) -> None:
        """Take the monitor's decision."""
        with self._lock:
            now = time.monotonic()
            self._decision = (now, report)
            self._decisions.add((now, report))

    def took(self, stage: str, seconds: float) -> None:
        """Take how long a stage took last: encode or policy."""
        with self._lock:
            self._seconds[stage] = seconds

    def diagnostic(self, report: DiagnosticReport) -> None:
        """Take a diagnostic status."""
        with self._lock:
            self._diagnostics[report.name] = (time.monotonic(), report)

    def picture(self, picture: Picture) -> None:
        """Take a live image."""
        with self._lock:
            self._pictures[picture.view] = picture

    def control(self, ready: Mapping[str, bool]) -> None:
        """Take which of the executor's services are there."""
        with self._lock:
            self._control = dict(ready)

    def event(self, level: str, text: str) -> None:
        """Take what happened: level info or warning, and a line of text."""
        with self._lock:
            self._events.add((time.monotonic(), level, text))
        self._on_event(level, text)

    def state(self, decisions: int, events: int) -> tuple[dict[str, Any], int, int]:
        """Return what is shown, and how many decisions and events there have been.

        Args:
            decisions: How many of them the viewer has seen.
            events: The same of the events.
        """
        with self._lock:
            now = time.monotonic()
            return (
                {
                    "type": "state",
                    "time": now + self._epoch,
                    "executor": self._executor_now(now),
                    "decision": self._decision_now(now),
                    "decisions": [
                        [
                            at + self._epoch,
                            _finite(seen.similarity),
                            _finite(seen.score),
                            _finite(seen.threshold),
                            int(seen.flag),
                            seen.demonstration,
                            seen.frame,
                        ]
                        for at, seen in self._decisions.since(decisions)
                        if at > now - HISTORY_SECONDS
                    ],
                    "rates": [self._rate(topic, now) for topic in self._came],
                    "latency": self._latency(),
                    "diagnostics": [
                        {**asdict(report), "age": now - at}
                        for at, report in self._diagnostics.values()
                    ],
                    "events": [
                        [at + self._epoch, level, text]
                        for at, level, text in self._events.since(events)
                    ],
                    "control": dict(self._control),
                },
                self._decisions.added,
                self._events.added,
            )

    def pictures(self) -> tuple[list[Picture], tuple[int, int] | None]:
        """Return the latest live images, and which demonstration and frame was recalled."""
        with self._lock:
            decision = self._decision
            where = None if decision is None else (decision[1].demonstration, decision[1].frame)
            return list(self._pictures.values()), where

    def _executor_now(self, now: float) -> dict[str, Any] | None:
        if self._executor is None:
            return None
        at, since, report = self._executor
        values = {name: _finite(value) for name, value in asdict(report).items()}
        return {**values, "seconds": now - since, "age": now - at}

    def _decision_now(self, now: float) -> dict[str, Any] | None:
        if self._decision is None:
            return None
        at, report = self._decision
        values = {name: _finite(value) for name, value in asdict(report).items()}
        frames = self.recalled.frames(report.demonstration) if self.recalled else 0
        name = self.recalled.names[report.demonstration] if self.recalled and frames else ""
        return {**values, "name": name, "frames": frames or None, "age": now - at}

    def _rate(self, topic: str, now: float) -> dict[str, Any]:
        came = self._came[topic]
        recent = [at for at in came if at > now - RATE_SECONDS]
        rate = None
        if len(recent) > 1 and recent[-1] > recent[0]:
            rate = (len(recent) - 1) / (recent[-1] - recent[0])
        return {"topic": topic, "hz": rate, "age": now - came[-1] if came else None}

    def _latency(self) -> dict[str, float | None]:
        report = None if self._executor is None else self._executor[2]
        return {
            **{f"{stage}_ms": _finite(1e3 * took) for stage, took in self._seconds.items()},
            "command_p50_ms": None if report is None else _finite(report.latency_p50_ms),
            "command_p99_ms": None if report is None else _finite(report.latency_p99_ms),
        }


class Viewer:
    """What one client has seen, so that it gets the rest.

    Args:
        board: What is shown.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._decisions = self._events = 0
        self._stamps: dict[str, int] = {}
        self._recalled: tuple[int, int] | None = None

    def state(self) -> dict[str, Any]:
        """Return the state message: the latest of everything, and what was added to the logs."""
        message, self._decisions, self._events = self._board.state(self._decisions, self._events)
        return message

    def pictures(self) -> Iterable[Shown]:
        """Return the pictures that have changed: what they are, and their JPEG."""
        live, where = self._board.pictures()
        for picture in live:
            if self._stamps.get(picture.view) != picture.stamp:
                self._stamps[picture.view] = picture.stamp
                yield Shown(
                    {"picture": "live", "view": picture.view, "stamp": str(picture.stamp)},
                    picture.jpeg,
                )
        recalled = self._board.recalled
        if recalled is None or where is None or where == self._recalled:
            return
        self._recalled = where
        about = {"picture": "recalled", "stamp": "", "demonstration": where[0], "frame": where[1]}
        for view, jpeg in zip(recalled.views, recalled.at(*where), strict=False):
            yield Shown({**about, "view": view}, jpeg)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
