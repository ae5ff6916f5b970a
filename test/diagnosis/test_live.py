from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from recorded import DRIVER, SENSORS, fill, healthy, survey

from alt_ros.diagnosis.finding import is_fit
from alt_ros.diagnosis.live import judge_commands, judge_nodes, judge_survey
from alt_ros.nodes.executor_parameters import ExecutorParameters
from alt_ros.nodes.topic_record import Endpoint, Ends, Survey, wanted_streams

EXECUTOR = ExecutorParameters()
ARM = Endpoint("/arm", "reliable, volatile")


def test_a_healthy_graph_is_fit():
    findings = judge_survey(survey(healthy()), SENSORS, EXECUTOR)
    assert [f for f in findings if not f.ok] == []
    assert is_fit(findings)
    assert len({(f.group, f.subject) for f in findings}) == len(findings)


def test_an_empty_graph_is_told_with_every_way_out():
    empty = Survey(seconds=5.0, domain=73, streams=wanted_streams(SENSORS))
    findings = judge_survey(empty, SENSORS, EXECUTOR, reach="LOCALHOST")
    assert not is_fit(findings)
    first = findings[0]
    assert "domain 73, discovery range LOCALHOST" in first.detail
    for way in ("ROS_DOMAIN_ID", "--domain", "ROS_AUTOMATIC_DISCOVERY_RANGE", "start the drivers"):
        assert way in first.remedy
    assert all(f.ok or f.remedy for f in findings)


def test_simulated_time_is_said():
    streams = healthy()
    for stream in streams.values():
        fill(stream, [replace(m, clock=m.arrival) for m in stream.messages])
    findings = judge_survey(replace(survey(streams), clock=True), SENSORS, EXECUTOR)
    assert is_fit(findings)
    assert any("/clock is published" in f.detail for f in findings)
    assert any("behind /clock" in f.detail for f in findings)


@pytest.mark.parametrize(
    ("ends", "controller", "state", "said"),
    [
        (Ends((DRIVER,), (ARM,)), "", "ok", ""),
        (Ends((DRIVER,), (ARM,)), "arm", "ok", ""),
        (Ends((DRIVER,), (ARM,)), "other", "wrong", "start other"),
        (Ends((DRIVER,), ()), "", "wrong", "controller"),
        (Ends((DRIVER, Endpoint("/teleop", "")), (ARM,)), "", "look", "one send at a time"),
        (Ends((DRIVER, Endpoint("/scripted_expert", "")), (ARM,)), "", "ok", ""),
        (Ends((DRIVER,), (ARM,), ("/arm does not hear",), ("/arm",)), "", "wrong", "volatile"),
    ],
)
def test_who_commands_the_arm_and_who_listens_is_judged(ends, controller, state, said):
    executor = replace(EXECUTOR, controller=controller)
    (finding,) = judge_commands({"/target_pose": ends}, executor)
    assert finding.state == state
    assert said in finding.remedy


def test_a_gripper_that_nobody_moves_is_told_and_does_not_stop_the_arm():
    commands = {"/target_pose": Ends((), (ARM,)), "/target_gripper": Ends()}
    states = [finding.state for finding in judge_commands(commands, EXECUTOR)]
    assert states == ["ok", "look"]


def test_what_our_nodes_report_is_passed_on():
    reported = {
        "camera_sync": (2, "0.0 of 20.0"),
        "executor": (3, "not active"),
        "lookup": (0, ""),
    }
    states = {f.subject: f.state for f in judge_nodes(reported)}
    assert states == {"camera_sync": "wrong", "executor": "look", "lookup": "ok"}
    (nothing,) = judge_nodes({}, ("/driver",))
    assert nothing.ok


def test_judging_loads_no_ros():
    code = (
        "import sys, alt_ros.diagnosis.live, alt_ros.diagnosis.host; print('rclpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
