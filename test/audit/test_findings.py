"""What is told of a run, and in which order: causes first, what was seen at rest last."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from alt_ros.audit.decision_replay import Decided
from alt_ros.audit.findings import Finding, findings_of, grouped
from alt_ros.audit.flight import SeenState
from alt_ros.audit.parity import Parity
from alt_ros.synchronization import SynchronizationConfig
from alt_ros.types import Neighbour, OodDecision

MS = 1_000_000
PERIOD = 50 * MS
VIEWS = ("wrist", "third_person")
RUNNING = [SeenState(0, "running", "following chunks")]


def decided(
    count: int = 60,
    *,
    blank: range = range(0),
    strange: range = range(0),
    flagged: range = range(0),
) -> list[Decided]:
    """Return a decision each 50 ms; which show nothing, lie above the threshold, are flagged."""
    made: list[Decided] = []
    for frame in range(count):
        score = math.inf if frame in blank else 3.0 if frame in strange else 0.5
        view = "wrist" if frame in flagged else ""
        decision = OodDecision(frame in flagged, score, 2.0, Neighbour(0, frame, 0.7), view)
        views = ("wrist",) if frame in blank else ()
        made.append(Decided(frame * PERIOD, frame * PERIOD, decision, (0, frame), views))
    return made


def told(
    decisions: list[Decided],
    states: list[SeenState] = RUNNING,
    intervals: dict[str, list[tuple[int, int]]] | None = None,
    poses: list[tuple[int, int]] | None = None,
) -> list[Finding]:
    replay: Any = SimpleNamespace(
        decided=decisions,
        other_encoder="",
        **{what: Parity(what) for what in ("observations", "embeddings", "decisions", "chunks")},
    )
    flight: Any = SimpleNamespace(
        states=states,
        limits_audit=SimpleNamespace(violations=[], counts={}),
        latencies=[],
        explained=(0, 0, 0, None),
    )
    bundle: Any = SimpleNamespace(table=SimpleNamespace(names=("cup_00",)))
    matching = SynchronizationConfig(VIEWS)
    found = findings_of(replay, flight, intervals or {}, matching, 0.5, bundle, poses or [])
    return grouped(found)


def frames(*stretches: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (log time, interval) of frames: (count, interval in ms) one after the other."""
    at, rows = 0, []
    for count, interval in stretches:
        for _ in range(count):
            at += interval * MS
            rows.append((at, interval * MS))
    return rows


def test_a_strange_scene_begins_where_its_scores_rose_not_where_the_flag_went_up():
    (finding,) = told(decided(strange=range(20, 60), flagged=range(25, 60)))
    assert finding.start == 20 * PERIOD
    assert finding.end == 59 * PERIOD
    assert "unlike the demonstrations, most in view 'wrist'; nearest is 'cup_00'" in finding.text
    assert "(for 1.95 s, the flag was up after 0.25 s)" in finding.text


def test_an_earlier_strange_frame_is_no_part_of_it():
    marks = decided(strange=range(20, 60), flagged=range(25, 60))
    marks[17] = decided(strange=range(17, 18))[17]
    (finding,) = told(marks)
    assert finding.start == 20 * PERIOD


def test_a_covered_camera_is_told_once_with_the_flags_delay():
    (finding,) = told(decided(blank=range(20, 60), flagged=range(24, 60)))
    assert (finding.kind, finding.severity, finding.start) == ("camera", "error", 20 * PERIOD)
    assert "for 1.95 s, the flag was up after 0.20 s" in finding.text


def test_a_covered_camera_that_nobody_flagged_is_told_as_such():
    (finding,) = told(decided(blank=range(20, 60)))
    assert "the flag did not go up" in finding.text


def test_one_black_picture_does_not_stand_before_a_strange_scene_nor_hides_it():
    marks = decided(blank=range(5, 6), strange=range(20, 60), flagged=range(25, 60))
    marks[40] = decided(blank=range(40, 41), flagged=range(40, 41))[40]
    findings = told(marks)
    assert [(f.kind, f.severity) for f in findings] == [
        ("ood", "error"),
        ("camera", "warning"),
        ("camera", "warning"),
    ]


def test_what_was_seen_before_the_arm_was_armed_stands_below_what_then_went_wrong():
    states = [SeenState(0, "idle", ""), SeenState(30 * PERIOD, "armed", ""), *RUNNING]
    states[2] = states[2]._replace(at=31 * PERIOD)
    early, late = range(10), range(40, 60)
    marks = decided(blank=early, strange=late, flagged=late)
    first, second = told(marks, states)
    assert (first.kind, first.severity) == ("ood", "error")
    assert (second.kind, second.severity) == ("camera", "warning")
    assert second.text.endswith("; the arm was not armed")


def test_what_began_at_rest_and_went_on_is_an_error():
    states = [SeenState(0, "idle", ""), SeenState(30 * PERIOD, "running", "")]
    (finding,) = told(decided(blank=range(10, 40)), states)
    assert finding.severity == "error"


def test_without_a_state_nothing_is_taken_for_rest():
    (finding,) = told(decided(blank=range(10, 40)), [])
    assert finding.severity == "error"
    late = [SeenState(50 * PERIOD, "idle", "")]
    (finding,) = told(decided(blank=range(10, 40)), late)
    assert finding.severity == "error"


def test_the_hold_that_a_covered_camera_caused_stands_below_it():
    states = [*RUNNING, SeenState(23 * PERIOD, "holding", "no observation for 0.5 s")]
    findings = told(decided(blank=range(24, 60)), states)
    assert [f.kind for f in findings] == ["camera", "executor"]


def test_a_slow_camera_begins_with_its_first_late_interval():
    wrist = frames((20, 50), (10, 150), (1, 300))
    (finding,) = told([], intervals={"wrist": wrist, "third_person": frames((58, 50))})
    assert "'wrist' is slow: 6.7 frames a second, expected 20.0 (for 1.80 s)" in finding.text
    assert (finding.start, finding.end) == (20 * PERIOD, wrist[-1][0])


def test_a_very_slow_camera_is_slow_and_not_silent_again_and_again():
    both = {"wrist": frames((20, 50), (8, 600)), "third_person": frames((116, 50))}
    (finding,) = told([], intervals=both)
    assert "'wrist' is slow: 1.7 frames a second" in finding.text
    both["wrist"] = frames((20, 50), (8, 600), (1, 2000), (8, 600))
    slow, silent = told([], intervals=both)
    assert "slow" in slow.text
    assert "'wrist' was silent for 2.00 s" in silent.text


def test_cameras_that_all_fall_silent_while_poses_come_are_told_and_a_pause_of_all_is_none():
    both = {view: frames((20, 50), (1, 2000), (20, 50)) for view in VIEWS}
    findings = told([], intervals=both, poses=frames((400, 10)))
    assert [f.text for f in findings] == [f"camera '{v}' was silent for 2.00 s" for v in VIEWS]
    (note,) = told([], intervals=both, poses=frames((100, 10), (1, 2000), (100, 10)))
    assert "pause of the recording" in note.text
    alone = {"wrist": both["wrist"]}
    (silent,) = told([], intervals=alone, poses=frames((400, 10)))
    assert "'wrist' was silent" in silent.text
