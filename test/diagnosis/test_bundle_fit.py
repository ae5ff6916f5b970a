from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from bundles import write_small_bundle
from recorded import POSE, SENSORS, fill, healthy, messages

from alt_ros.bundle import Bundle
from alt_ros.diagnosis.bundle_fit import (
    BundleExpectation,
    expectation_of,
    judge_bundle,
    judge_size,
)
from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.timing import timing_of

VIEWS = ("wrist", "third_person")
EXPECTED = BundleExpectation(
    views=VIEWS,
    size=(224, 224),
    period=50_000_000,
    demonstrated=dict.fromkeys(VIEWS, (480, 640)),
    low=(0.3, -0.2, 0.0),
    high=(0.7, 0.2, 0.4),
    openings=(0.0, 0.09),
)


def judged(streams=None, expected=EXPECTED, sensors=SENSORS) -> dict[str, Finding]:
    streams = streams or healthy()
    timings = {role: timing_of(list(stream.messages)) for role, stream in streams.items()}
    findings = {f.subject: f for f in judge_bundle(expected, streams, timings, sensors)}
    for finding in findings.values():
        assert finding.ok or finding.remedy
    return findings


def states(findings: dict[str, Finding]) -> dict[str, str]:
    return {subject: f.state for subject, f in findings.items() if not f.ok}


def test_topics_that_fit_the_bundle_have_nothing_wrong():
    findings = judged()
    assert states(findings) == {}
    assert {"views", "arms", "size of wrist", "rate", "arm's place"} <= set(findings)


def test_what_a_bundle_was_made_of_is_read_from_it(tmp_path):
    bundle = Bundle.load(write_small_bundle(tmp_path / "bundle"), encoder=False)
    expected = expectation_of(bundle)
    assert expected.views == bundle.spec.views
    assert expected.period == bundle.table.period
    assert expected.arms == bundle.layout.arms
    assert expected.demonstrated == {}, "its store is not beside it"
    positions = bundle.table.poses[:, 0, :3]
    assert (positions >= expected.low).all()
    assert (positions <= expected.high).all()


@pytest.mark.parametrize(
    ("views", "state"),
    [(("wrist",), "wrong"), (("wrist", "side"), "wrong"), ((*VIEWS, "side"), "look")],
)
def test_views_that_differ_are_told(views, state):
    finding = judged(sensors=replace(SENSORS, views=views))["views"]
    assert finding.state == state
    assert "[wrist, third_person]" in finding.remedy


def test_a_bundle_of_two_arms_is_told():
    assert judged(expected=replace(EXPECTED, arms=2))["arms"].state == "wrong"


@pytest.mark.parametrize(
    ("size", "made_of", "state", "said"),
    [
        ((480, 640), (480, 640), "ok", "demonstrations 640x480"),
        ((960, 1280), (480, 640), "ok", ""),
        ((720, 1280), (480, 640), "wrong", "another aspect ratio"),
        ((120, 160), (480, 640), "look", "scaled up"),
        ((480, 640), None, "look", "another aspect ratio"),
        ((480, 480), None, "ok", "encoder's input 224x224"),
    ],
)
def test_sizes_are_held_against_the_demonstrations(size, made_of, state, said):
    demonstrated = {} if made_of is None else {"wrist": made_of}
    finding = judge_size("wrist", size, replace(EXPECTED, demonstrated=demonstrated))
    assert finding.state == state
    assert said in finding.detail


def test_a_wrong_size_on_a_topic_is_told():
    streams = healthy()
    streams["third_person"].sizes = Counter({(720, 1280): 60})
    assert states(judged(streams)) == {"size of third_person": "wrong"}


def test_cameras_of_another_rate_than_the_demonstrations_are_told():
    streams = healthy()
    fill(streams["wrist"], messages(100.0))
    assert states(judged(streams)) == {"rate": "look"}


@pytest.mark.parametrize(
    ("position", "state", "said"),
    [
        ((0.5, 0.0, 0.1), "ok", ""),
        ((0.5, 0.6, 0.1), "look", "where the demonstrations begin"),
        ((500.0, 0.0, 100.0), "wrong", "millimetres"),
        ((float("nan"), 0.0, 0.1), "look", ""),
    ],
)
def test_an_arm_elsewhere_or_in_other_units_is_told(position, state, said):
    streams = healthy()
    streams["pose"].values.append((*position, *POSE[3:]))
    finding = judged(streams)["arm's place"]
    assert finding.state == state
    assert said in finding.remedy


def test_an_opening_in_percent_is_told():
    streams = healthy()
    streams["gripper"].values.append((80.0,))
    assert states(judged(streams)) == {"gripper's opening": "look"}
