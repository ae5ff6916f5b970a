"""The audit of a bag: what was decided and done, again through the live code, and what went wrong.

``audit_bag`` reads the bag once, in log order and bounded memory, and returns what the page draws
and ``audit.json`` holds. Everything works on what is there: a bag without commands, of another
policy, or cut off is audited as far as it goes, and says so in its findings.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.audit.bag_topics import find_topics
from alt_ros.audit.decision_replay import (
    CHUNK,
    EMBEDDING,
    FLAG,
    OBSERVATION,
    Decided,
    DecisionReplay,
)
from alt_ros.audit.findings import ERROR, NOTE, Finding, findings_of, grouped
from alt_ros.audit.flight import COPY, STAGES, Flight
from alt_ros.audit.live_frames import LiveFrames
from alt_ros.bags.contents import BagContents, read_contents, read_parts
from alt_ros.bundle import Bundle
from alt_ros.demonstrations.rosbag import BagTopics
from alt_ros.errors import DataError
from alt_ros.lookup.calibration import Calibration
from alt_ros.lookup.lookup import Lookup
from alt_ros.messages import stamp_of
from alt_ros.progress import Advance
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.safety import SafetyLimits
from alt_ros.synchronization import SynchronizationConfig
from alt_ros.types import NANOSECONDS

STATE = "alt_ros/msg/ExecutorState"
ALT = "alt"


@dataclass(frozen=True)
class AuditConfig:
    """How a bag is read and judged; the defaults are those of the nodes.

    Attributes:
        topics: The sensors' and the commands' topics.
        synchronization: How streams are matched; None takes the views of ``topics``.
        limits: The executor's.
        horizon: The executor's.
        control_period: In which the set-point moves, ns.
        threshold: Gamma that the lookup node was given; None takes the bundle's calibration.
        latency_limit: Longest time from the sensor's stamp to the chunk, s.
    """

    topics: BagTopics = field(default_factory=BagTopics)
    synchronization: SynchronizationConfig | None = None
    limits: SafetyLimits = field(default_factory=SafetyLimits)
    horizon: HorizonConfig = field(default_factory=HorizonConfig)
    control_period: int = 10_000_000
    threshold: float | None = None
    latency_limit: float = 0.5

    @property
    def matching(self) -> SynchronizationConfig:
        """How streams are matched."""
        return self.synchronization or SynchronizationConfig(tuple(self.topics.images))


@dataclass(frozen=True)
class Audit:
    """What came of an audit.

    Attributes:
        values: JSON values; what ``write_page`` takes.
        findings: What went wrong, the worst first.
        live: Pictures of the run.
        first: Log time of the first message, ns.
    """

    values: dict[str, Any]
    findings: tuple[Finding, ...]
    live: LiveFrames
    first: int


def audit_bag(
    path: Path,
    bundle: Bundle,
    config: AuditConfig | None = None,
    *,
    command: str = "",
    progress: Advance = lambda done, total: None,
) -> Audit:
    """Audit a bag.

    Args:
        path: Bag folder or file.
        bundle: The policy; loaded without its encoder, logged embeddings are taken as they are.
        config: How it is read and judged.
        command: What the page says that it was made by.
        progress: Called with (milliseconds of the bag, of all).

    Raises:
        DataError: There is no bag, nothing of it can be read, or it holds no message that says
            anything about the policy.
    """
    reading = _Reading(path, bundle, config or AuditConfig())
    reading.read(progress)
    return reading.audit(command)


class _Reading:
    """One pass over a bag."""

    def __init__(self, path: Path, bundle: Bundle, config: AuditConfig) -> None:
        self._path, self._bundle, self._config = path, bundle, config
        self._contents = read_contents(path)
        if not self._contents.messages:
            why = "was cut off before its first message" if self._contents.cut_off else "is empty"
            raise DataError(f"bag '{path}' holds no messages, it {why}: record it again")
        self._problems: list[Finding] = []
        self._damaged: Counter[str] = Counter()
        self._read_until = self._contents.first
        for text in self._contents.problems:
            self._problem(text)
        self._intervals: dict[str, list[tuple[int, int]]] = {v: [] for v in config.topics.images}
        self._poses: list[tuple[int, int]] = []
        self._stamps: dict[str, int] = {}
        self._topics, self._roles = self._find_topics()
        kinds = {kind for _, kind in self._roles.values()}
        if not kinds & {"image", EMBEDDING, FLAG, CHUNK, STATE, "target_pose"}:
            raise DataError(
                f"bag '{path}' holds nothing of the cameras, the policy or the executor, only "
                f"{', '.join(sorted(self._contents.types)[:8])}: name the topics with "
                "--image, --pose and --gripper"
            )
        threshold = config.threshold
        lookup: Lookup = bundle.lookup(
            calibration=None if threshold is None else Calibration.given(threshold)
        )
        self._live = LiveFrames(bundle.spec.views)
        self._decisions = DecisionReplay(
            bundle,
            lookup,
            self._topics,
            config.matching,
            embeddings_logged=EMBEDDING in kinds or bundle.encoder is None,
            on_observation=self._live.add,
            on_change=self._live.keep,
        )
        self._flight = Flight(bundle.table, config.limits, config.horizon, config.control_period)

    def _find_topics(self) -> tuple[BagTopics, dict[str, tuple[str, str]]]:
        """Return the sensors' topics, and topic to (type that it must be, what it is)."""
        found = find_topics(self._config.topics, self._contents.types)
        for text in found.problems:
            self._problem(text)
        first = self._contents.first
        self._problems += [Finding(NOTE, "bag", text, first, first) for text in found.taken]
        roles = found.roles
        for kind in (OBSERVATION, EMBEDDING, FLAG, CHUNK, STATE):
            of_kind = self._contents.topics_of(kind)
            roles |= dict.fromkeys(of_kind, (kind, kind))
            if kind != CHUNK and len(of_kind) > 1:
                self._problem(f"{len(of_kind)} topics are of type {kind}: {', '.join(of_kind)}")
        return found.topics, roles

    def _problem(self, text: str, start: int | None = None) -> None:
        at = self._contents.first if start is None else start
        self._problems.append(Finding(ERROR, "bag", text, at, at))

    def read(self, progress: Advance) -> None:
        first, last = self._contents.first, self._contents.last
        whole = max((last - first) // 1_000_000, 1)
        for read in read_parts(self._contents, list(self._roles)):
            if isinstance(read, DataError):
                seconds = (self._read_until - first) / NANOSECONDS
                self._problem(f"{read}; it was read up to {seconds:.2f} s", self._read_until)
                continue
            topic, at, message = read
            if at < self._read_until - NANOSECONDS // 2:
                self._damaged["the log's clock goes back"] += 1
            self._read_until = at
            progress(min(max((at - first) // 1_000_000, 0), whole), whole)
            self._take(topic, at, message)
        self._decisions.finish()
        self._flight.finish()
        progress(whole, whole)

    def _take(self, topic: str, at: int, message: Any) -> None:
        _, what = self._roles[topic]
        try:
            if what in ("image", "pose", "gripper"):
                if what == "image":
                    self._note_interval(topic, at, message)
                elif what == "pose" and self._topics.pose_source == "topic":
                    self._note_interval(topic, at, message)
                    self._flight.pose(at, message)
                elif what == "gripper":
                    self._flight.gripper(message, self._topics.gripper_joint)
                self._decisions.sensor(topic, at, message)
            elif what == "target_pose":
                self._flight.target_pose(at, message)
            elif what == "target_gripper":
                self._flight.target_gripper(message)
            elif what == STATE:
                self._flight.state(at, message)
            else:
                self._take_decision(topic, what, at, message)
        except DataError as error:
            self._damaged[f"'{topic}': {error}"] += 1

    def _take_decision(self, topic: str, what: str, at: int, message: Any) -> None:
        if what == OBSERVATION:
            self._flight.observation(message)
        elif what == CHUNK:
            self._flight.chunk(at, message)
            if message.policy != ALT or not topic.endswith("action_chunk"):
                return
        self._decisions.logged(what, at, message)

    def _note_interval(self, topic: str, at: int, message: Any) -> None:
        stamp = stamp_of(message)
        last = self._stamps.get(topic)
        self._stamps[topic] = stamp
        if last is None:
            return
        view = next((v for v, t in self._topics.images.items() if t == topic), None)
        rows = self._poses if view is None else self._intervals[view]
        rows.append((at, stamp - last))

    def audit(self, command: str) -> Audit:
        decisions, flight, first = self._decisions, self._flight, self._contents.first
        for text, count in self._damaged.most_common(5):
            self._problem(f"{count} messages could not be used: {text}"[:300])
        if decisions.trouble:
            self._problem(decisions.trouble)
        policies = sorted(flight.policies) or [ALT]
        found = findings_of(
            decisions,
            flight,
            self._intervals,
            self._config.matching,
            self._config.latency_limit,
            self._bundle,
            self._poses,
        )
        if self._contents.cut_off:
            text = "the bag was cut off here: its recorder was killed, or the disk was full"
            self._problem(text, self._contents.last)
        findings = tuple(grouped([*self._problems, *found]))
        decided = decisions.decided
        views = list(self._bundle.spec.views)
        causes = sorted({d.decision.cause for d in decided})
        values: dict[str, Any] = {
            "bag": self._path.name,
            "bundle": str(self._bundle.path),
            "policy": ", ".join(policies),
            "recorded": _date(first),
            "seconds": round((self._contents.last - first) / NANOSECONDS, 3),
            "command": command,
            "findings": [finding.to_json(first) for finding in findings],
            "summary": _summary(decisions, flight, self._contents),
            "demonstrations": list(self._bundle.table.names),
            "causes": causes,
            "views": views,
            "decisions": _decisions(decided, first, causes, views),
            "jumps": _jumps(decided, first),
            "states": [
                {"t": _seconds(s.at, first), "state": s.state, "reason": s.reason}
                for s in flight.states
            ],
            "commands": _motions(flight, first),
            "limits": flight.limits_audit.to_json()["limits"],
            "violations": [
                {"t": _seconds(v.stamp, first), "kind": v.kind, "value": v.value, "limit": v.limit}
                for v in flight.limits_audit.violations[:1_000]
            ],
            "seams": [
                {
                    "t": _seconds(seam.at, first),
                    "velocity_step": _finite(seam.velocity_step),
                    "acceleration_step": _finite(seam.acceleration_step),
                }
                for seam in flight.seams
            ],
            "chunks": {
                "t": [_seconds(e.at, first) for e in flight.executed],
                "distance_mm": [1e3 * e.distance for e in flight.executed],
                "demonstration": [e.demonstration for e in flight.executed],
                "copied": [int(e.distance <= COPY) for e in flight.executed],
            },
            "latency": _latency(flight, first),
            "pairing": self._pairing(first),
            "parity": _parity(decisions, flight, first),
            "encoder_seconds": round(decisions.encode_seconds, 3),
        }
        return Audit(values, findings, self._live, first)

    def _pairing(self, first: int) -> dict[str, Any]:
        paired = self._decisions.paired
        return {
            "t": [_seconds(p.at, first) for p in paired],
            "skew_ms": [p.skew / 1e6 for p in paired],
            "drops": dict(self._decisions.synchronizer.drops),
            "intervals": {
                view: {
                    "t": [_seconds(at, first) for at, _ in rows],
                    "ms": [interval / 1e6 for _, interval in rows],
                }
                for view, rows in self._intervals.items()
            },
        }


def _seconds(at: int, first: int) -> float:
    return round((at - first) / NANOSECONDS, 6)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _date(first: int) -> str | None:
    """Return when the bag begins; None on a simulation's clock."""
    seconds = first / NANOSECONDS
    if seconds < 1e9:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _decisions(
    decided: Sequence[Decided], first: int, causes: list[str], views: list[str]
) -> dict[str, list[Any]]:
    return {
        "t": [_seconds(d.at, first) for d in decided],
        "similarity": [_finite(d.decision.neighbour.similarity) for d in decided],
        "score": [_finite(d.decision.score) for d in decided],
        "threshold": [_finite(d.decision.threshold) for d in decided],
        "flag": [int(d.decision.flag) for d in decided],
        "demonstration": [d.followed[0] for d in decided],
        "frame": [d.followed[1] for d in decided],
        "cause": [causes.index(d.decision.cause) for d in decided],
        "view": [views.index(d.decision.view) if d.decision.view else -1 for d in decided],
    }


def _jumps(decided: Sequence[Decided], first: int) -> list[dict[str, Any]]:
    return [
        {"t": _seconds(now.at, first), "from": list(before.followed), "to": list(now.followed)}
        for before, now in itertools.pairwise(decided)
        if before.followed[0] != now.followed[0]
    ]


def _motions(flight: Flight, first: int) -> dict[str, list[Any]]:
    names = ("linear_speed", "angular_speed", "linear_acceleration", "angular_acceleration")
    columns: dict[str, list[Any]] = {"t": [_seconds(m.at, first) for m in flight.motions]}
    return columns | {name: [_finite(getattr(m, name)) for m in flight.motions] for name in names}


def _latency(flight: Flight, first: int) -> dict[str, Any]:
    rows = np.array([row for _, row in flight.latencies]).reshape(-1, len(STAGES)) * 1e3
    known = len(rows) > 0

    def at(share: float) -> list[float] | None:
        return np.quantile(rows, share, axis=0).round(2).tolist() if known else None

    def whole(share: float) -> float | None:
        return round(float(np.quantile(rows.sum(axis=1), share)), 2) if known else None

    return {
        "stages": list(STAGES),
        "t": [_seconds(when, first) for when, _ in flight.latencies],
        "ms": rows.round(3).tolist(),
        "p50": at(0.5) or [None] * len(STAGES),
        "p99": at(0.99) or [None] * len(STAGES),
        "total_p50": whole(0.5),
        "total_p99": whole(0.99),
    }


def _parity(decisions: DecisionReplay, flight: Flight, first: int) -> list[dict[str, Any]]:
    rows = [
        {
            "what": parity.what,
            "logged": parity.logged,
            "equal": parity.equal,
            "not_replayed": parity.not_replayed,
            "first_difference": None
            if parity.first_difference is None
            else _seconds(parity.first_difference, first),
        }
        for parity in (
            decisions.observations,
            decisions.embeddings,
            decisions.decisions,
            decisions.chunks,
        )
    ]
    equal, _, unknown, at = flight.explained
    rows.append(
        {
            "what": "commands",
            "logged": len(flight.replay.done),
            "equal": equal,
            "not_replayed": unknown,
            "first_difference": None if at is None else _seconds(at, first),
        }
    )
    return rows


def _summary(decisions: DecisionReplay, flight: Flight, contents: BagContents) -> list[str]:
    seconds = (contents.last - contents.first) / NANOSECONDS
    flags = [d.decision.flag for d in decisions.decided]
    rises = sum(now and not before for before, now in zip([False, *flags], flags, strict=False))
    copies = [e.distance <= COPY for e in flight.executed]
    said = [
        f"{seconds:.1f} s, {contents.messages:,} messages; {len(decisions.decided):,} decisions, "
        f"the flag went up {rises} times; {flight.limits_audit.commands:,} commands.",
    ]
    if copies:
        said.append(
            f"{sum(copies)} of the {len(copies)} chunks that were followed are copies of training "
            "chunks."
        )
    return said


def frames_shown(values: Mapping[str, Any]) -> set[tuple[int, int]]:
    """Return (demonstration, frame) of every decision."""
    decisions = values["decisions"]
    return set(zip(decisions["demonstration"], decisions["frame"], strict=True))
