"""Which of a bag's topics are replayed, when, and with which stamps."""

from __future__ import annotations

import pytest

from alt_ros.bags.schedule import (
    Punctuality,
    ReplayOptions,
    Timeline,
    clock_ahead,
    frame_period,
    may_command,
    parse_remap,
    select_topics,
)
from alt_ros.errors import ConfigurationError
from alt_ros.types import NANOSECONDS

SENSORS = {
    "/wrist/image_raw": "sensor_msgs/msg/Image",
    "/eef_pose": "geometry_msgs/msg/PoseStamped",
    "/gripper_state": "sensor_msgs/msg/JointState",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/tf_static": "tf2_msgs/msg/TFMessage",
    "/arm_controller/state": "control_msgs/msg/JointTrajectoryControllerState",
}
NOT_SENSORS = {
    "/alt/ood": "alt_ros/msg/OodFlag",
    "/left/alt/observation": "alt_ros/msg/Observation",
    "/target_pose": "geometry_msgs/msg/PoseStamped",
    "/target_gripper": "std_msgs/msg/Float64",
    "/target_twist": "geometry_msgs/msg/TwistStamped",
    "/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "/forward_position_controller/commands": "std_msgs/msg/Float64MultiArray",
    "/joint_command": "sensor_msgs/msg/JointState",
    "/servo_node/delta_twist_cmds": "geometry_msgs/msg/TwistStamped",
    "/base/velocity": "geometry_msgs/msg/Twist",
    "/joy": "sensor_msgs/msg/Joy",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
    "/rosout": "rcl_interfaces/msg/Log",
    "/parameter_events": "rcl_interfaces/msg/ParameterEvent",
    "/grasp/_action/status": "action_msgs/msg/GoalStatusArray",
    "/clock": "rosgraph_msgs/msg/Clock",
}
START, NOW = 63_000_000_000, 1_800_000_000_000_000_000


def test_only_what_sensors_say_is_replayed_unasked():
    chosen, left_out = select_topics(SENSORS | NOT_SENSORS)
    assert chosen == sorted(SENSORS)
    assert set(left_out) == set(NOT_SENSORS)
    assert left_out["/alt/ood"] == "the graph makes it"
    assert left_out["/target_pose"] == left_out["/joy"] == "it may move a robot"


def test_what_is_named_is_replayed_whatever_it_is():
    every = SENSORS | NOT_SENSORS
    assert select_topics(every, ["/target_pose", "eef_pose"])[0] == ["/eef_pose", "/target_pose"]
    assert select_topics(every, ["/tf*", "/alt/*"])[0] == ["/alt/ood", "/tf", "/tf_static"]
    assert "/clock" not in select_topics(every, ["*"])[0]
    assert may_command("/target_pose", every["/target_pose"])


def test_a_name_that_fits_nothing_is_refused_with_what_there_is():
    with pytest.raises(ConfigurationError, match="no topic is '/wrist': the bag holds /eef_pose"):
        select_topics({"/eef_pose": SENSORS["/eef_pose"]}, ["/wrist"])
    with pytest.raises(ConfigurationError, match="no topic is a sensor's"):
        select_topics({"/alt/ood": NOT_SENSORS["/alt/ood"]})
    with pytest.raises(ConfigurationError, match="take --clock"):
        select_topics(NOT_SENSORS, ["/clock"])


def test_remap_takes_both_ways_of_writing_it():
    assert parse_remap(["/a=b", "c:=/d"]) == {"/a": "/b", "/c": "/d"}
    for wrong in (["/a"], ["=/b"], ["/a="], ["/a=/b", "a=/c"]):
        with pytest.raises(ConfigurationError, match="FROM=TO"):
            parse_remap(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0.0},
        {"rate": float("inf")},
        {"start": -1.0},
        {"duration": float("nan")},
        {"clock": -1.0},
    ],
    ids=str,
)
def test_options_out_of_bounds_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} must be"):
        ReplayOptions(**wrong)


def test_messages_are_due_as_they_were_logged_over_the_speed():
    line = Timeline(START, START + 4 * NANOSECONDS, rate=2.0, gap=NANOSECONDS)
    assert line.due(START) == 0
    assert line.due(START + 3 * NANOSECONDS) == 3 * NANOSECONDS // 2
    assert line.due(START, lap=1) == 5 * NANOSECONDS // 2
    assert line.due(START, lap=1) > line.due(line.last)


def test_without_restamping_the_first_lap_is_as_recorded_and_later_ones_are_ahead():
    line = Timeline(START, START + 4 * NANOSECONDS, rate=2.0, gap=NANOSECONDS)
    assert line.keeps_stamps(0)
    assert not line.keeps_stamps(1)
    assert line.stamp(START + 7) == START + 7
    assert line.stamp(START, lap=1) - line.stamp(line.last) == NANOSECONDS
    assert line.stamp(START, lap=2) - line.stamp(START, lap=1) == line.lap_length


@pytest.mark.parametrize("rate", [0.25, 1.0, 3.0])
def test_restamped_messages_say_when_they_are_due(rate):
    line = Timeline(START, START + 4 * NANOSECONDS, rate, gap=NANOSECONDS, origin=NOW)
    for lap in (0, 1, 5):
        for time in (START, START + NANOSECONDS, line.last):
            latency = 30_000_000  # from the shutter to the log
            stamp = line.stamp(time - latency, lap)
            assert abs(NOW + line.due(time, lap) - stamp - latency / rate) <= 2
    assert line.stamp(START, 1) - line.stamp(line.last, 0) == NANOSECONDS  # at any speed
    assert not line.keeps_stamps(0)


def test_a_stamp_of_zero_is_none_and_stays():
    assert Timeline(START, START + 1, origin=NOW).stamp(0) == 0
    assert Timeline(START, START + 1).stamp(0, lap=3) == 0


def test_the_clock_goes_with_the_stamps_over_laps():
    line = Timeline(START, START + 4 * NANOSECONDS, rate=2.0, gap=NANOSECONDS)
    assert line.clock(0) == START
    for lap in (0, 1, 2):
        assert line.clock(line.due(line.last, lap)) == line.stamp(line.last, lap)


def test_stamps_of_another_clock_are_taken_as_bag_time():
    of_one_clock = [(NOW, NOW - 5_000_000), (NOW, START)]
    assert clock_ahead(of_one_clock) == 0
    ahead = clock_ahead([(NOW, START), (NOW + 10, 0)])
    assert ahead == START - NOW
    line = Timeline(NOW, NOW + NANOSECONDS, ahead=ahead)
    assert line.clock(0) == line.stamp(START)
    shifted = Timeline(NOW, NOW + NANOSECONDS, origin=2 * NOW, ahead=ahead)
    assert shifted.stamp(START + 7) == 2 * NOW + 7
    assert clock_ahead([]) == 0


def test_frame_period_is_that_of_the_fastest_camera():
    ms = 1_000_000
    slow = [("slow", 100 * i * ms) for i in range(5)]
    fast = [("fast", t * ms) for t in (0, 33, 66, 1066, 1099)]  # with a gap
    assert frame_period([*slow, *fast]) == 33 * ms
    assert frame_period([("once", 5)]) == frame_period([]) == 50 * ms


def test_lateness_is_counted_against_the_frame():
    punctuality = Punctuality(frame=50_000_000)
    for lateness in (0, 1_000_000, 60_000_000):
        punctuality.add(lateness)
    assert (punctuality.messages, punctuality.late, punctuality.worst) == (3, 1, 60_000_000)
    assert "3 messages, worst lateness 60.0 ms, 1 late by more than a frame" in str(punctuality)
