"""The audit of bags without a graph: what it finds, and what it says of bags that are broken."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "demonstrations"))
from bundles import write_small_bundle
from test_rosbag import (
    MS,
    PERIOD,
    START,
    STORE,
    TOPICS,
    TYPES,
    Message,
    image,
    mcap_of,
    messages,
    picture,
    pose_stamped,
    record,
    stamp_of_frame,
)

from alt_ros.audit.bag_audit import audit_bag
from alt_ros.bundle import Bundle
from alt_ros.cli import main
from alt_ros.errors import DataError

torch.set_num_threads(1)
FRAMES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("audit") / "bundle")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return Bundle.load(folder, device="cpu", threads=1)


def texts(audit: Any, kind: str) -> list[str]:
    return [finding.text for finding in audit.findings if finding.kind == kind]


def without(episode: list[Message], topic: str) -> list[Message]:
    return [message for message in episode if message[0] != topic]


def frames_of(view: str, frames: range, pixels: Any = None) -> list[Message]:
    """Return the images of a view, 2 ms after their stamps."""
    made: list[Message] = []
    for frame in frames:
        stamp = stamp_of_frame(frame)
        rgb = picture(frame, view) if pixels is None else pixels
        made.append(
            (TOPICS.images[view], "sensor_msgs/msg/Image", stamp + 2 * MS, image(stamp, rgb))
        )
    return made


def changed(view: str, of_view: list[Message]) -> list[Message]:
    rest = without(messages(FRAMES, commands=False), TOPICS.images[view])
    return sorted([*rest, *of_view], key=lambda message: message[2])


def test_a_bag_of_sensors_alone_is_decided_upon_again(tmp_path, bundle):
    audit = audit_bag(record(tmp_path / "bag", messages(FRAMES)), bundle)
    decisions = audit.values["decisions"]
    assert len(decisions["t"]) == len(audit.values["pairing"]["t"]) >= FRAMES - 2
    assert decisions["t"] == sorted(decisions["t"])
    assert all(-1.0 <= similarity <= 1.0001 for similarity in decisions["similarity"])
    assert all(row["logged"] == 0 for row in audit.values["parity"][:4])
    assert len(audit.live.at) == len(decisions["t"])
    assert audit.values["pairing"]["skew_ms"] == pytest.approx([8.0] * len(decisions["t"]))
    json.dumps(audit.values, allow_nan=False)


def test_a_covered_camera_is_told_with_its_moment(tmp_path, bundle):
    black = np.zeros((24, 32, 3), np.uint8)
    seen = frames_of("wrist", range(20)) + frames_of("wrist", range(20, FRAMES), black)
    audit = audit_bag(record(tmp_path / "bag", changed("wrist", seen)), bundle)
    (finding,) = [f for f in audit.findings if "shows nothing" in f.text]
    assert "'wrist'" in finding.text
    assert finding.severity == "error"
    began = stamp_of_frame(20) - START
    assert began <= finding.start - START <= began + 2 * PERIOD
    assert finding == audit.findings[0], "it stands at the top"


def test_a_slow_camera_is_told_with_its_rate(tmp_path, bundle):
    kept = [*range(12), *range(12, FRAMES, 3)]
    seen = [frame for number in kept for frame in frames_of("wrist", range(number, number + 1))]
    audit = audit_bag(record(tmp_path / "bag", changed("wrist", seen)), bundle)
    (slow,) = [f for f in audit.findings if "is slow" in f.text]
    assert "'wrist' is slow: 6.7 frames a second, expected 20.0" in slow.text
    assert abs(slow.start - stamp_of_frame(12)) < 4 * PERIOD


def test_a_silent_camera_is_told_and_a_pause_of_all_is_none(tmp_path, bundle):
    seen = frames_of("wrist", range(10)) + frames_of("wrist", range(25, FRAMES))
    audit = audit_bag(record(tmp_path / "one", changed("wrist", seen)), bundle)
    assert any("'wrist' was silent for 0.80 s" in text for text in texts(audit, "camera"))
    early = [m for m in messages(FRAMES) if m[2] < stamp_of_frame(10)]
    late = [m for m in messages(FRAMES) if m[2] > stamp_of_frame(30)]
    audit = audit_bag(record(tmp_path / "all", [*early, *late]), bundle)
    assert not any("silent" in text for text in texts(audit, "camera"))
    assert any("pause of the recording" in text for text in texts(audit, "camera"))


def test_commands_out_of_the_limits_are_told(tmp_path, bundle):
    episode = messages(FRAMES)
    for number, (topic, kind, at, _) in enumerate(episode):
        if topic == TOPICS.target_pose and at > stamp_of_frame(20):
            far = np.array([2.0, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])
            episode[number] = topic, kind, at, pose_stamped(at - 2 * MS, far)
    audit = audit_bag(record(tmp_path / "bag", episode), bundle)
    assert any("workspace" in text for text in texts(audit, "limits"))
    assert audit.values["violations"]


def test_a_cut_bag_is_audited_as_far_as_it_goes(tmp_path, bundle):
    file = mcap_of(record(tmp_path / "bag", messages(FRAMES)))
    file.write_bytes(file.read_bytes()[: -len(b"\x89MCAP0\r\n")])
    audit = audit_bag(file, bundle)
    assert any("cut off" in text for text in texts(audit, "bag"))
    assert len(audit.values["decisions"]["t"]) >= FRAMES - 2


def test_a_topic_of_another_type_is_left_out_and_told(tmp_path, bundle):
    episode = without(messages(FRAMES), TOPICS.pose)
    number = TYPES["std_msgs/msg/Float64"](data=1.0)
    episode.append((TOPICS.pose, "std_msgs/msg/Float64", episode[-1][2], number))
    audit = audit_bag(record(tmp_path / "bag", episode), bundle)
    (text,) = [text for text in texts(audit, "bag") if "must be of type" in text]
    assert "'/eef_pose' must be of type geometry_msgs/msg/PoseStamped" in text
    assert not audit.values["decisions"]["t"]
    assert audit.values["pairing"]["intervals"]["wrist"]["t"], "what could be read is reported"


def test_missing_topics_are_named(tmp_path, bundle):
    audit = audit_bag(record(tmp_path / "b", without(messages(FRAMES), TOPICS.gripper)), bundle)
    assert "nothing was recorded of '/gripper_state', so nothing can be paired" in texts(
        audit, "bag"
    )


def test_a_clock_that_goes_back_is_told(tmp_path, bundle):
    episode = messages(FRAMES)
    back: list[Message] = []
    for topic, kind, at, message in messages(FRAMES, commands=False):
        if topic in TOPICS.images.values():
            message.header.stamp.sec -= 100
        back.append((topic, kind, at + FRAMES * PERIOD + 100 * MS, message))
    audit = audit_bag(record(tmp_path / "bag", [*episode, *back]), bundle)
    assert any("go back by" in text for text in texts(audit, "camera"))
    assert len(audit.values["decisions"]["t"]) >= FRAMES - 2


def test_an_empty_bag_and_one_of_other_things_end_in_one_line(tmp_path, bundle):
    number = TYPES["std_msgs/msg/Float64"](data=1.0)
    other = record(tmp_path / "other", [("/battery", "std_msgs/msg/Float64", START, number)])
    with pytest.raises(DataError, match=r"holds nothing of the cameras.*/battery"):
        audit_bag(other, bundle)
    with pytest.raises(DataError, match="holds no messages"):
        audit_bag(record(tmp_path / "empty", []), bundle)
    with pytest.raises(DataError, match="does not exist"):
        audit_bag(tmp_path / "absent", bundle)
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"\x00" * 4096)
    with pytest.raises(DataError, match="cannot be read"):
        audit_bag(broken, bundle)


def test_the_command_writes_page_and_figures_and_tells_what_ci_may_fail_on(
    tmp_path, folder, capsys, monkeypatch
):
    black = np.zeros((24, 32, 3), np.uint8)
    seen = frames_of("wrist", range(20)) + frames_of("wrist", range(20, FRAMES), black)
    bag = record(tmp_path / "run", changed("wrist", seen))
    command = ["alt", "audit", str(bag), "--bundle", str(folder)]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    out = tmp_path / "run_audit"
    values = json.loads((out / "audit.json").read_text())
    assert values["findings"][0]["kind"] == "camera"
    assert (out / "audit.html").stat().st_size > 10_000
    assert "shows nothing" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(sys, "argv", [*command, "--fail-on", "camera", "limits"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    monkeypatch.setattr(sys, "argv", [*command, "--fail-on", "ood", "limits"])
    assert main() == 0


def test_serializing_is_the_recorders(tmp_path):
    """The messages of these bags are those of a robot: bytes that ROS's own decoder takes."""
    pytest.importorskip("rclpy")
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import Image

    rgb = picture(0, "wrist")
    raw = bytes(STORE.serialize_cdr(image(START, rgb), "sensor_msgs/msg/Image"))
    assert bytes(deserialize_message(raw, Image).data) == rgb[..., ::-1].tobytes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("executor: {ros__parameters: {control_rate: fast}}", "control_rate of executor must be"),
        ("executor: {ros__parameters: {no_such: 1}}", "executor has no no_such"),
        ("[", "cannot be read"),
    ],
)
def test_a_parameter_file_that_cannot_be_is_one_line(
    tmp_path, folder, capsys, monkeypatch, text, said
):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    bag = record(tmp_path / "run", messages(4))
    command = ["alt", "audit", str(bag), "--bundle", str(folder), "--config", str(file)]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 2
    assert said in " ".join(capsys.readouterr().err.split())
