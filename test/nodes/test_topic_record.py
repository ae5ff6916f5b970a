"""Which topics a survey listens to."""

from __future__ import annotations

import pytest

from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.topic_record import (
    COMPRESSED,
    IMAGE,
    JOINTS,
    MOST_MESSAGES,
    MOST_NAMES,
    POSE,
    Message,
    StreamRecord,
    note,
    resolve,
    wanted_streams,
)

USUAL = {
    "/wrist/image_raw": (IMAGE,),
    "/third_person/image_raw": (IMAGE,),
    "/eef_pose": (POSE,),
    "/gripper_state": (JOINTS,),
}


def resolved(topics, heard=(), **parameters) -> dict[str, StreamRecord]:
    streams = wanted_streams(CameraSyncParameters(**parameters))
    resolve(streams, topics, heard)
    return streams


def test_the_topics_that_camera_sync_takes_are_taken():
    streams = resolved(USUAL)
    assert {s.topic for s in streams.values()} == set(USUAL)
    assert all(s.found == s.remedy == "" for s in streams.values())


def test_the_streams_follow_the_parameters():
    streams = resolved({}, views=("top",), compressed=True, pose_source="tf")
    assert [(s.wanted, s.kind) for s in streams.values()] == [
        ("/top/image_raw/compressed", COMPRESSED),
        ("/tf", "tf2_msgs/msg/TFMessage"),
        ("/gripper_state", JOINTS),
    ]


@pytest.mark.parametrize(
    ("other", "how", "remedy"),
    [
        ("/robot/wrist/image_raw", "in another namespace", "in the namespace /robot"),
        ("/wrist_cam/color", "by its name", "-r wrist/image_raw:=/wrist_cam/color"),
        ("/usb_cam/color", "the only one of its type", "-r wrist/image_raw:=/usb_cam/color"),
    ],
)
def test_a_topic_that_is_not_there_is_found_by_type_and_said(other, how, remedy):
    topics = {**USUAL, other: (IMAGE,)}
    del topics["/wrist/image_raw"]
    wrist = resolved(topics)["wrist"]
    assert (wrist.topic, wrist.found) == (other, how)
    assert remedy in wrist.remedy
    assert resolved(topics)["third_person"].topic == "/third_person/image_raw"


def test_what_a_running_camera_sync_hears_needs_no_remapping():
    topics = {"/a/color": (IMAGE,), "/b/color": (IMAGE,), "/c/color": (IMAGE,)}
    wrist = resolved(topics, heard=["/b/color"], views=("wrist",))["wrist"]
    assert (wrist.topic, wrist.found, wrist.remedy) == ("/b/color", "camera_sync hears it", "")


def test_one_of_several_is_not_guessed():
    wrist = resolved({"/a/color": (IMAGE,), "/b/color": (IMAGE,)})["wrist"]
    assert (wrist.topic, wrist.found) == ("/wrist/image_raw", "")


def test_the_other_kind_of_image_is_told():
    topics = {"/wrist/image_raw/compressed": (COMPRESSED,)}
    assert "compressed to true" in resolved(topics)["wrist"].remedy
    topics = {"/wrist/image_raw": (IMAGE,)}
    assert "compressed to false" in resolved(topics, compressed=True)["wrist"].remedy
    topics = {"/eef_pose": ("geometry_msgs/msg/Pose",)}
    assert "is of type geometry_msgs/msg/Pose" in resolved(topics)["pose"].remedy


def test_a_long_survey_and_a_wild_driver_fill_no_memory():
    stream = StreamRecord("wrist", "/wrist/image_raw", IMAGE)
    for number in range(MOST_MESSAGES + 10):
        stream.add(Message(number, number), f"frame_{number}")
        note(stream.encodings, "rgb8")
    assert len(stream.messages) == MOST_MESSAGES
    assert stream.count == MOST_MESSAGES + 10
    assert stream.messages[-1].stamp == MOST_MESSAGES + 9
    assert len(stream.frame_ids) == MOST_NAMES
    assert stream.encodings == {"rgb8": stream.count}
