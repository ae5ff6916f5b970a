from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from recorded import MS, SENSORS, fill, healthy, messages

from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.pairing import judge_matches, judge_pairing
from alt_ros.diagnosis.timing import timing_of
from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters


def judged(streams, sensors: CameraSyncParameters = SENSORS) -> dict[str, Finding]:
    timings = {role: timing_of(list(stream.messages)) for role, stream in streams.items()}
    findings = {f.subject: f for f in judge_pairing(streams, timings, sensors)}
    for finding in findings.values():
        assert finding.ok or finding.remedy
    return findings


def states(findings: dict[str, Finding]) -> dict[str, str]:
    return {subject: f.state for subject, f in findings.items() if not f.ok}


def test_streams_that_fit_have_nothing_wrong():
    findings = judged(healthy())
    assert states(findings) == {}
    assert "skew median 3.0 ms, p95 3.0 ms" in findings["wrist and third_person"].detail
    assert "100% of" in findings["observations"].detail


def test_one_cameras_clock_that_is_off_is_told_by_name():
    streams = healthy()
    fill(streams["third_person"], messages(offset=5.0, age=2100.0))
    findings = judged(streams)
    clocks = findings["clocks of cameras and arm"]
    assert clocks.state == "wrong"
    assert "2099.0 ms" in clocks.detail
    assert "'third_person'" in clocks.remedy
    assert findings["observations"].state == "wrong"


def test_cameras_that_run_freely_are_told():
    streams = healthy()
    fill(streams["third_person"], messages(50.0, offset=26.0))
    findings = judged(streams)
    assert findings["wrist and third_person"].state == "wrong"
    assert "half the frame period, 25 ms" in findings["wrist and third_person"].remedy
    assert findings["observations"].state == "wrong"


def test_a_delay_that_the_parameters_know_is_taken_off():
    streams = healthy()
    late = [replace(m, stamp=m.stamp + 22 * MS) for m in streams["third_person"].messages]
    fill(streams["third_person"], late)
    assert "wrist and third_person" in states(judged(streams))
    known = replace(SENSORS, latencies_views=(0.0, 0.022))
    assert states(judged(streams, known)) == {}


def test_images_without_poses_around_them_are_told():
    streams = healthy()
    made = [m for i, m in enumerate(messages(10.0, 300, age=1.0)) if i % 100 < 40]
    fill(streams["pose"], made)
    findings = judged(streams)
    assert findings["pose around images"].state == "wrong"
    assert findings["gripper around images"].ok


def test_frames_that_never_overlap_are_told():
    streams = healthy()
    fill(streams["third_person"], messages(offset=100_000.0))
    assert judged(streams)["wrist and third_person"].state == "wrong"


def test_what_is_not_there_is_not_paired():
    streams = healthy()
    fill(streams["wrist"], [])
    assert set(judged(streams)) == {"clocks of cameras and arm"}


def test_parameters_that_contradict_each_other_are_told():
    findings = judged(healthy(), replace(SENSORS, max_skew=0.04))
    assert states(findings) == {"camera_sync": "wrong"}


@pytest.mark.parametrize(
    ("matches", "frames", "state"),
    [(60, 60, "ok"), (40, 60, "look"), (10, 60, "wrong"), (0, 0, "look")],
)
def test_the_share_of_observations_is_judged_with_its_reasons(matches, frames, state):
    finding = judge_matches(matches, frames, Counter(no_partner=20, out_of_order=2))
    assert finding.state == state
    if frames and state != "ok":
        assert "no_partner 20" in finding.detail
