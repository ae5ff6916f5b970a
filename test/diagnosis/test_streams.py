from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from recorded import DRIVER, MS, POSE, SENSORS, fill, healthy, messages

from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.streams import judge_age, judge_stream
from alt_ros.diagnosis.timing import timing_of
from alt_ros.nodes.topic_record import Endpoint, Ends, StreamRecord


def judged(stream: StreamRecord, *others: str, max_age: float = 0.5) -> dict[str, Finding]:
    findings = judge_stream(stream, timing_of(list(stream.messages)), SENSORS, max_age, others)
    by_subject = {finding.subject: finding for finding in findings}
    for finding in by_subject.values():
        assert finding.ok or finding.remedy, f"{finding} must say what to do"
        assert stream.wanted in finding.group or stream.topic in finding.group
    return by_subject


def camera() -> StreamRecord:
    return healthy()["wrist"]


def wrong(findings: dict[str, Finding]) -> dict[str, str]:
    return {f.subject: f.state for f in findings.values() if not f.ok}


@pytest.mark.parametrize("role", ["wrist", "third_person", "pose", "gripper"])
def test_a_healthy_stream_has_nothing_wrong(role):
    findings = judged(healthy()[role])
    assert wrong(findings) == {}
    assert {"publisher", "rate", "stamps rise", "stamps to clock"} <= set(findings)


def test_a_topic_that_nobody_publishes_names_the_others_of_its_type():
    stream = camera()
    stream.ends, stream.count = Ends(), 0
    assert wrong(judged(stream)) == {"publisher": "wrong"}
    remedy = judged(stream, "/camera/image")["publisher"].remedy
    assert "-r wrist/image_raw:=/camera/image" in remedy


def test_a_topic_found_elsewhere_needs_a_remapping_unless_camera_sync_has_it():
    stream = camera()
    stream.topic, stream.found = "/robot/wrist/image_raw", "in another namespace"
    stream.remedy = "-r wrist/image_raw:=/robot/wrist/image_raw"
    finding = judged(stream)["publisher"]
    assert finding.state == "wrong"
    assert stream.remedy in finding.remedy
    stream.remedy = ""
    assert judged(stream)["publisher"].ok


def test_two_publishers_of_one_topic_are_told():
    stream = camera()
    stream.ends = Ends(publishers=(DRIVER, Endpoint("/other", "reliable, volatile")))
    assert wrong(judged(stream)) == {"publisher": "wrong"}


@pytest.mark.parametrize(
    ("unheard", "state"), [(("/camera_sync",), "wrong"), (("/viewer",), "look"), ((), "look")]
)
def test_a_quality_that_camera_sync_does_not_hear_is_wrong_another_is_told(unheard, state):
    stream = camera()
    lost = ("/viewer does not hear /driver (reliability)",)
    stream.ends = Ends((DRIVER,), (), mismatches=lost, unheard=unheard)
    finding = judged(stream)["quality of service"]
    assert finding.state == state
    assert "/viewer" in finding.detail


def test_a_publisher_that_sends_nothing_is_told():
    stream = fill(camera(), [])
    findings = judged(stream)
    assert wrong(findings) == {"messages": "wrong"}
    assert "DDS profile" in findings["messages"].remedy
    stream = replace(fill(healthy()["pose"], []), trouble="no transform from base to tool")
    assert "eef_frame" in judged(stream)["messages"].remedy


@pytest.mark.parametrize(
    ("period", "state", "said"),
    [
        (50.0, "ok", "20.0 Hz of 20.0"),
        (55.0, "ok", "18.2 Hz"),
        (66.7, "wrong", "15.0 Hz"),
        (33.3, "look", "30.0 Hz"),
    ],
)
def test_a_cameras_rate_is_held_against_the_frame_period(period, state, said):
    finding = judged(fill(camera(), messages(period)))["rate"]
    assert finding.state == state
    assert said in finding.detail
    if state != "ok":
        assert f"frame_period to {period / 1e3:.3f}" in finding.remedy


def test_frames_that_are_lost_now_and_then_are_told():
    made = messages(50.0, 100)
    del made[50:54]
    finding = judged(fill(camera(), made))["rate"]
    assert (finding.state, "worst gap 250 ms" in finding.detail) == ("look", True)


@pytest.mark.parametrize(("period", "state"), [(10.0, "ok"), (90.0, "ok"), (150.0, "wrong")])
def test_poses_must_come_within_the_bracket(period, state):
    assert judged(fill(healthy()["pose"], messages(period)))["rate"].state == state


def test_one_long_gap_between_poses_is_told():
    made = messages(10.0, 300)
    del made[100:115]
    assert judged(fill(healthy()["pose"], made))["rate"].state == "look"


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [
        (lambda i, m: replace(m, stamp=0), "wrong", "60 of 60 stamps are zero"),
        (lambda i, m: replace(m, stamp=m.stamp - i % 2 * 80 * MS), "wrong", "lie before"),
        (lambda i, m: replace(m, stamp=m.stamp - i % 2 * 50 * MS), "wrong", "repeat the one"),
        (lambda i, m: replace(m, stamp=m.stamp - (i == 9) * 50 * MS), "look", "1 of 60"),
    ],
)
def test_stamps_that_do_not_rise_are_told(change, state, said):
    made = [change(i, m) for i, m in enumerate(messages())]
    finding = judged(fill(camera(), made))["stamps rise"]
    assert finding.state == state
    assert said in finding.detail


@pytest.mark.parametrize(
    ("age", "way", "state", "said", "remedy"),
    [
        (30.0, 1.0, "ok", "30.0 ms behind", ""),
        (-5.0, 1.0, "ok", "5.0 ms ahead of", ""),
        (250.0, 1.0, "look", "already 249.0 ms when it was sent", "host's clock"),
        (2100.0, 2099.0, "wrong", "2.1 s behind this host's clock", "on the sender's computer"),
        (2100.0, 1.0, "wrong", "already 2.1 s when it was sent", "sender and this host agree"),
        (-100.0, -99.0, "look", "100.0 ms ahead of", "on the sender's computer"),
        (-900.0, -899.0, "wrong", "900.0 ms ahead of", "chrony"),
        (1.79e12 - 5e6, 1.0, "wrong", "behind", "device's uptime"),
    ],
)
def test_stamps_are_held_against_the_clock_and_the_place_of_the_fault_is_told(
    age, way, state, said, remedy
):
    finding = judge_age(timing_of(messages(age=age, way=way)), 0.5)
    assert finding.state == state
    assert said in finding.detail
    assert remedy in finding.remedy


def test_a_middleware_that_does_not_tell_the_sending_gets_no_place():
    made = [replace(m, source=0) for m in messages(age=2100.0)]
    finding = judge_age(timing_of(made), 0.5)
    assert "sent" not in finding.detail
    assert "chrony" in finding.remedy


def test_drifting_and_scattered_stamps_are_told():
    drifting = [replace(m, stamp=m.stamp + i * MS) for i, m in enumerate(messages())]
    assert "drifting -20" in judge_age(timing_of(drifting), 0.5).detail
    scattered = judge_age(timing_of(messages(age=90.0, jitter=40.0)), 0.5)
    assert scattered.state == "look"
    assert "exposure" in scattered.remedy


def test_under_simulated_time_the_clock_topic_is_what_counts():
    made = messages(age=300.0, clock=True)
    finding = judge_age(timing_of(made, on_clock=True), 0.2)
    assert "behind /clock" in finding.detail
    assert "use_sim_time" in finding.remedy
    silent = judge_age(timing_of(messages(), on_clock=True), 0.2)
    assert silent.state == "look"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trouble": "image encoding 'jpeg' is not known", "encodings": Counter(jpeg=9)}, "rgb8"),
        ({"trouble": "image 640x480 needs more", "encodings": Counter(rgb8=9)}, "contradict"),
        ({"sizes": Counter({(480, 640): 5, (240, 320): 5})}, "keeps to the first"),
        ({"encodings": Counter(rgb8=5, bgr8=5)}, "keeps to the first"),
        ({"contrast": 0.4}, "cap"),
    ],
)
def test_an_image_that_cannot_be_used_is_told(change, said):
    finding = judged(replace(camera(), **change))["image"]
    assert finding.state == "wrong"
    assert said in finding.remedy


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [
        ({"frame_ids": Counter({"": 9})}, "look", "frame_id"),
        ({"frame_ids": Counter(base=5, world=5)}, "wrong", "one frame"),
        ({"values": [(*POSE[:6], 0.5)]}, "wrong", "quaternion"),
        ({"values": [(float("nan"), *POSE[1:])]}, "wrong", "NaN"),
        ({"trouble": "no transform from base to tool"}, "wrong", "eef_frame"),
    ],
)
def test_a_pose_that_cannot_be_used_is_told(change, state, said):
    finding = judged(replace(healthy()["pose"], **change))["content"]
    assert finding.state == state
    assert said in finding.remedy


def test_an_opening_that_is_not_finite_is_told():
    gripper = replace(healthy()["gripper"], values=[(float("inf"),)])
    assert judged(gripper)["content"].state == "wrong"
