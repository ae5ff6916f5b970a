"""What went wrong in a run, in one sentence each, with the moment to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from alt_ros.audit.commands import SENDING
from alt_ros.audit.decision_replay import Decided, DecisionReplay
from alt_ros.audit.flight import Flight
from alt_ros.bundle import Bundle
from alt_ros.synchronization import SynchronizationConfig
from alt_ros.types import NANOSECONDS

ERROR, WARNING, NOTE = "error", "warning", "note"
RANKS = (ERROR, WARNING, NOTE)
OOD, CAMERA, LIMITS, LATENCY, EXECUTOR, PARITY, BAG = (
    "ood",
    "camera",
    "limits",
    "latency",
    "executor",
    "parity",
    "bag",
)
SLOW = 1.5
"""An interval so many times the frame period is a late frame."""
SLOW_RUN = 3
"""So many late frames near each other make a slow camera."""
BLANK_RUN = 3
"""Fewer pictures that show nothing are a disturbance of the camera, no covered one."""
SILENT = 400_000_000
"""A longer interval between two frames is a silence, ns."""
MOST_ALIKE = 5
"""More findings that say the same are told as one."""
APART = NANOSECONDS
"""Spans of one kind nearer to each other are told as one, ns."""


@dataclass(frozen=True)
class Finding:
    """One thing that went wrong.

    Attributes:
        severity: ``ERROR``, ``WARNING`` or ``NOTE``.
        kind: ``OOD``, ``CAMERA``, ``LIMITS``, ``LATENCY``, ``EXECUTOR``, ``PARITY`` or ``BAG``.
        text: A sentence.
        start, end: Log times, ns.
    """

    severity: str
    kind: str
    text: str
    start: int
    end: int

    @property
    def rank(self) -> int:
        """0 for the worst severity."""
        return RANKS.index(self.severity)

    def to_json(self, first: int) -> dict[str, Any]:
        """Return JSON values; times as seconds from ``first``."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "text": self.text,
            "start": round((self.start - first) / NANOSECONDS, 6),
            "end": round((self.end - first) / NANOSECONDS, 6),
        }


def grouped(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings in the order to read them, one for those that say the same too often."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.severity, finding.kind, finding.text), []).append(finding)
    told: list[Finding] = []
    for same in alike.values():
        if len(same) > MOST_ALIKE:
            first, last = min(f.start for f in same), max(f.end for f in same)
            text = f"{same[0].text} ({len(same)} times, the first here)"
            told.append(replace(same[0], text=text, start=first, end=last))
        else:
            told += same
    return sorted(told, key=lambda f: (f.rank, f.start))


def findings_of(
    decisions: DecisionReplay,
    flight: Flight,
    intervals: Mapping[str, Sequence[tuple[int, int]]],
    matching: SynchronizationConfig,
    latency_limit: float,
    bundle: Bundle,
    poses: Sequence[tuple[int, int]] = (),
) -> list[Finding]:
    """Return what went wrong.

    Args:
        decisions: The policy's decisions, replayed.
        flight: What the executor did.
        intervals: View to (log time, time since the frame before), ns.
        matching: How streams are matched.
        latency_limit: Longest time from the sensor's stamp to the chunk, s.
        bundle: The policy.
        poses: As ``intervals``, of the measured poses: while they come, silence is no pause.
    """
    seen = [
        *_blank(decisions.decided),
        *_strange(decisions.decided, bundle),
        *_slow(intervals, poses, matching.frame_period),
    ]
    return [
        *(_of_arm_at_rest(finding, flight) for finding in seen),
        *_states(flight),
        *_limits(flight),
        *_late(flight, latency_limit),
        *_parity(decisions, flight),
    ]


def _of_arm_at_rest(finding: Finding, flight: Flight) -> Finding:
    """Return what was seen while nothing was sent to the arm as a warning."""
    ends = [state.at for state in flight.states[1:]] + [finding.end + 1]
    if finding.severity != ERROR or not flight.states or finding.start < flight.states[0].at:
        return finding
    for state, end in zip(flight.states, ends, strict=True):
        if state.state in SENDING and state.at <= finding.end and end > finding.start:
            return finding
    return replace(finding, severity=WARNING, text=f"{finding.text}; the arm was not armed")


def _spans(marks: Sequence[tuple[int, bool]]) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of runs of true marks; those that lie near each other as one."""
    spans: list[tuple[int, int]] = []
    for true, run in groupby(marks, key=lambda mark: mark[1]):
        times = [at for at, _ in run]
        if not true:
            continue
        if spans and times[0] - spans[-1][1] < APART:
            spans[-1] = spans[-1][0], times[-1]
        else:
            spans.append((times[0], times[-1]))
    yield from spans


def _blank(decided: Sequence[Decided]) -> Iterator[Finding]:
    for view in sorted({view for d in decided for view in d.blank}):
        for start, end in _spans([(d.at, view in d.blank) for d in decided]):
            inside = [d for d in decided if start <= d.at <= end]
            severity = ERROR if len(inside) >= BLANK_RUN else WARNING
            text = (
                f"camera '{view}' shows nothing: it is covered, dark or dead "
                f"({_lasting(start, end)}, {_flagged(inside, start)})"
            )
            yield Finding(severity, CAMERA, text, start, end)


def _strange(decided: Sequence[Decided], bundle: Bundle) -> Iterator[Finding]:
    for start, end in _spans([(d.at, d.decision.flag) for d in decided]):
        inside = [d for d in decided if start <= d.at <= end and d.decision.flag]
        if inside[0].blank or 2 * sum(bool(d.blank) for d in inside) > len(inside):
            continue  # told as a camera that shows nothing
        worst = max(inside, key=lambda d: d.decision.score).decision
        views = [d.decision.view for d in inside if d.decision.view]
        view = max(set(views), key=views.count) if views else ""
        where = f", most in view '{view}'" if view else ""
        name = bundle.table.names[worst.neighbour.demonstration]
        began = _beginning(decided, start)
        text = (
            f"the scene is unlike the demonstrations{where}; nearest is '{name}', similarity "
            f"{worst.neighbour.similarity:.2f} ({_lasting(began, end)}, {_flagged(inside, began)})"
        )
        yield Finding(ERROR, OOD, text, began, end)


def _beginning(decided: Sequence[Decided], flagged: int) -> int:
    """Return when the scores rose above the threshold that put the flag up, log time in ns.

    The flag waits for several strange observations; what went wrong is at the first of them.
    """
    began = flagged
    for d in reversed([d for d in decided if d.at < flagged]):
        if not d.decision.score > d.decision.threshold or began - d.at > APART:
            break
        began = d.at
    return began


def _flagged(inside: Sequence[Decided], began: int) -> str:
    """Return how long after its beginning the flag was up, in words."""
    first = next((d.at for d in inside if d.decision.flag), None)
    if first is None:
        return "the flag did not go up"
    return f"the flag was up after {(first - began) / NANOSECONDS:.2f} s"


def _slow(
    intervals: Mapping[str, Sequence[tuple[int, int]]],
    poses: Sequence[tuple[int, int]],
    frame_period: int,
) -> Iterator[Finding]:
    pauses = _pauses([*intervals.values(), *([poses] if poses else [])])
    for at in pauses:
        text = "no camera gave a frame: a reset, or a pause of the recording"
        yield Finding(NOTE, CAMERA, text, at, at)
    for view, rows in intervals.items():
        late = np.array([interval > SLOW * frame_period for _, interval in rows])
        # A frame belongs to a slow stretch with its neighbours, lest one lost frame be told.
        counts = np.convolve(late, np.ones(2 * SLOW_RUN - 1), "same") if len(late) else late
        marks = [
            (at, bool(is_late and count >= SLOW_RUN))
            for (at, _), is_late, count in zip(rows, late, counts, strict=True)
        ]
        slow: list[tuple[int, int, float]] = []
        for first, end in _spans(marks):
            inside = [(at, interval) for at, interval in rows if first <= at <= end]
            period = float(np.median([interval for _, interval in inside]))
            start = first - inside[0][1]
            slow.append((start, end, period))
            text = (
                f"camera '{view}' is slow: {NANOSECONDS / period:.1f} frames a second, expected "
                f"{NANOSECONDS / frame_period:.1f} ({_lasting(start, end)})"
            )
            yield Finding(ERROR, CAMERA, text, start, end)
        for at, interval in rows:
            if interval > SILENT and not any(abs(at - pause) < SILENT for pause in pauses):
                if any(s < at <= e and interval <= 2.0 * period for s, e, period in slow):
                    continue  # told as slow
                text = f"camera '{view}' was silent for {interval / NANOSECONDS:.2f} s"
                yield Finding(ERROR, CAMERA, text, at - interval, at)
            elif interval <= 0:
                text = f"the stamps of camera '{view}' go back by {-interval / NANOSECONDS:.2f} s"
                yield Finding(WARNING, CAMERA, text, at, at)


def _pauses(streams: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
    """Return when all streams came back together after a silence, log times in ns."""
    silences = [[at for at, interval in rows if interval > SILENT] for rows in streams]
    if not silences:
        return []
    return [
        at
        for at in silences[0]
        if all(any(abs(at - other) < SILENT for other in of) for of in silences[1:])
    ]


def _states(flight: Flight) -> Iterator[Finding]:
    for seen in flight.states:
        if seen.state == "fault":
            yield Finding(ERROR, EXECUTOR, f"fault: {seen.reason}", seen.at, seen.at)
        elif seen.state == "holding" and "out of distribution" not in seen.reason:
            yield Finding(WARNING, EXECUTOR, f"the arm held: {seen.reason}", seen.at, seen.at)


def _limits(flight: Flight) -> Iterator[Finding]:
    violations = flight.limits_audit.violations
    for kind, count in flight.limits_audit.counts.items():
        of_kind = [violation for violation in violations if violation.kind == kind]
        worst = max(of_kind, key=lambda violation: violation.value)
        text = f"{count} commands exceed a limit: {kind} up to {worst.value:.3g}"
        text += f", allowed {worst.limit:.3g}" if worst.limit else ""
        yield Finding(ERROR, LIMITS, text, of_kind[0].stamp, of_kind[-1].stamp)


def _late(flight: Flight, limit: float) -> Iterator[Finding]:
    marks = [(at, sum(stages[:-1]) > limit) for at, stages in flight.latencies]
    for start, end in _spans(marks):
        inside = [sum(s[:-1]) for at, s in flight.latencies if start <= at <= end]
        text = (
            f"chunks came late: up to {1e3 * max(inside):.0f} ms after the sensor's stamp, "
            f"allowed {1e3 * limit:.0f} ms"
        )
        yield Finding(WARNING, LATENCY, text, start, end)


def _parity(decisions: DecisionReplay, flight: Flight) -> Iterator[Finding]:
    if decisions.other_encoder:
        start = decisions.decided[0].at if decisions.decided else 0
        text = (
            f"the bag was recorded with encoder {decisions.other_encoder}, the bundle's is "
            "another: what is compared says nothing, name the bundle of the run"
        )
        yield Finding(ERROR, PARITY, text, start, start)
        return
    for parity in (
        decisions.observations,
        decisions.embeddings,
        decisions.decisions,
        decisions.chunks,
    ):
        if parity.first_difference is not None:
            text = (
                f"{parity.differing} of {parity.logged} {parity.what} are not what the live code "
                "makes of the bag: other parameters, another version, or a message was lost"
            )
            at = parity.first_difference
            yield Finding(WARNING, PARITY, text, at, at)
    equal, differing, _, at = flight.explained
    if at is not None:
        text = (
            f"{differing} stretches of commands are not explained by the chunks and poses "
            f"({equal} commands are, bit for bit or nearly): other parameters, or a lost message"
        )
        yield Finding(WARNING, PARITY, text, at, at)


def _lasting(start: int, end: int) -> str:
    return f"for {(end - start) / NANOSECONDS:.2f} s" if end > start else "once"
