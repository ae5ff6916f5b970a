"""The audit of bags without a graph: what it finds, and what it says of bags that are broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
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
    record_sqlite,
    stamp_of_frame,
)

from alt_ros.audit.bag_audit import AuditConfig, audit_bag
from alt_ros.bags.contents import read_contents
from alt_ros.bundle import Bundle
from alt_ros.cli import main
from alt_ros.demonstrations.rosbag import BagTopics
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
    (finding,) = [f for f in audit.findings if f.kind == "bag"]
    assert "cut off here" in finding.text
    assert finding.start > stamp_of_frame(FRAMES - 1)
    assert len(audit.values["decisions"]["t"]) >= FRAMES - 2


def test_a_topic_of_another_type_is_left_out_and_told(tmp_path, bundle):
    episode = without(messages(FRAMES), TOPICS.pose)
    number = TYPES["std_msgs/msg/Float64"](data=1.0)
    episode.append((TOPICS.pose, "std_msgs/msg/Float64", episode[-1][2], number))
    audit = audit_bag(record(tmp_path / "bag", episode), bundle)
    (text,) = [text for text in texts(audit, "bag") if "must be of type" in text]
    assert "'/eef_pose' must be of type geometry_msgs/msg/PoseStamped" in text
    assert not any("nothing was recorded of" in text for text in texts(audit, "bag"))
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


# ------------------------------------------------ SQLite, topics of other names or found by type

OTHER = BagTopics(
    images={"wrist": "/hand_cam/color", "third_person": "/scene_cam/color"},
    pose="/tcp_pose",
    gripper="/hand/joint_states",
)


def renamed(episode: list[Message], names: dict[str, str]) -> list[Message]:
    return [(names.get(topic, topic), kind, at, message) for topic, kind, at, message in episode]


def names_of(topics: BagTopics) -> dict[str, str]:
    """Return the usual topics to these."""
    images = {TOPICS.images[view]: topic for view, topic in topics.images.items()}
    return {**images, TOPICS.pose: topics.pose, TOPICS.gripper: topics.gripper}


def figures(audit: Any, *, notes: bool = True) -> dict[str, Any]:
    """Return what an audit says of the run, without the bag's name and the time it took."""
    values = {k: v for k, v in audit.values.items() if k not in ("bag", "encoder_seconds")}
    if not notes:
        values["findings"] = [f for f in values["findings"] if f["severity"] != "note"]
    return values


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> dict[str, Any]:
    bag = record(tmp_path_factory.mktemp("usual") / "bag", messages(FRAMES))
    audit = audit_bag(bag, bundle)
    assert audit.values["decisions"]["t"]
    assert audit.values["commands"]["t"]
    return figures(audit)


def test_an_sqlite_copy_of_a_bag_gives_the_same_figures(tmp_path, bundle, usual):
    assert figures(audit_bag(record_sqlite(tmp_path / "bag", messages(FRAMES)), bundle)) == usual


@pytest.mark.parametrize("recorded", [record, record_sqlite])
def test_topics_of_other_names_are_read_where_they_are_named(tmp_path, bundle, usual, recorded):
    bag = recorded(tmp_path / "bag", renamed(messages(FRAMES), names_of(OTHER)))
    assert figures(audit_bag(bag, bundle, AuditConfig(topics=OTHER))) == usual


def test_topics_may_be_named_on_the_command_line(tmp_path, folder, monkeypatch, usual):
    bag = record(tmp_path / "run", renamed(messages(FRAMES), names_of(OTHER)))
    command = ["alt", "audit", str(bag), "--bundle", str(folder), "--image"]
    command += [word for pair in OTHER.images.items() for word in pair]
    command += ["--pose", OTHER.pose, "--gripper", OTHER.gripper]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    values = json.loads((tmp_path / "run_audit" / "audit.json").read_text())
    for key in ("decisions", "pairing", "commands", "findings", "jumps"):
        assert values[key] == json.loads(json.dumps(usual[key])), key


@pytest.mark.parametrize(
    "other",
    [
        BagTopics(
            images={"wrist": "/cam/Wrist/rgb", "third_person": "/cam/thirdPerson/rgb"},
            pose="/tcp_pose",
            gripper="/hand/joint_states",
        ),
        # One view is named as usual: the other image is the other view's.
        BagTopics(images={"wrist": "/wrist/image_raw", "third_person": "/scene_cam/color"}),
    ],
)
def test_topics_are_found_by_type_and_it_is_said_which(tmp_path, bundle, usual, other):
    names = names_of(other)
    bag = record(tmp_path / "bag", renamed(messages(FRAMES), names))
    audit = audit_bag(bag, bundle)
    assert figures(audit, notes=False) == usual
    notes = [f for f in audit.findings if f.severity == "note"]
    assert all(f.kind == "bag" for f in notes)
    other_names = {old: new for old, new in names.items() if old != new}
    assert len(notes) == len(other_names)
    for old, new in other_names.items():
        (note,) = [f for f in notes if f"taken from '{new}'" in f.text]
        assert f"there is no '{old}'" in note.text


def test_images_that_could_be_either_view_are_named_and_none_is_taken(tmp_path, bundle):
    bag = record(tmp_path / "bag", renamed(messages(FRAMES), names_of(OTHER)))
    audit = audit_bag(bag, bundle)
    said = [text for text in texts(audit, "bag") if "nothing was recorded of" in text]
    assert len(said) == 2
    for text in said:
        assert "it may be '/hand_cam/color', '/scene_cam/color'" in text
        assert text.endswith("say which with --image wrist TOPIC third_person TOPIC")
    assert not audit.values["decisions"]["t"]
    assert not any("taken from '/hand_cam" in text for text in texts(audit, "bag"))


def test_poses_and_grippers_that_could_be_meant_are_named_and_none_is_taken(tmp_path, bundle):
    names = {TOPICS.pose: "/left_pose", TOPICS.gripper: "/left_joints"}
    episode = renamed(messages(FRAMES), names)
    second = {"/left_pose": "/right_pose", "/left_joints": "/right_joints"}
    episode += [m for m in renamed(episode, second) if m[0] in second.values()]
    audit = audit_bag(record(tmp_path / "bag", episode), bundle)
    assert any(
        "it may be '/left_pose', '/right_pose': say which with --pose TOPIC" in text
        for text in texts(audit, "bag")
    )
    assert any(
        "it may be '/left_joints', '/right_joints': say which with --gripper TOPIC" in text
        for text in texts(audit, "bag")
    )
    assert not audit.values["decisions"]["t"]
    assert audit.values["pairing"]["intervals"]["wrist"]["t"]


def test_a_commanded_pose_is_not_taken_for_the_measured_one(tmp_path, bundle):
    for topic in (TOPICS.target_pose, "/cartesian_command"):
        names = {TOPICS.target_pose: topic}
        episode = renamed(without(messages(FRAMES), TOPICS.pose), names)
        audit = audit_bag(record(tmp_path / topic[1:], episode), bundle)
        assert "nothing was recorded of '/eef_pose', so nothing can be paired" in texts(
            audit, "bag"
        )
        assert not audit.values["decisions"]["t"]


def test_of_a_camera_s_raw_and_compressed_images_the_raw_ones_are_taken(tmp_path, bundle, usual):
    names = {TOPICS.images["wrist"]: "/cam/wrist/rgb"}
    episode = renamed(messages(FRAMES), names)
    kind = "sensor_msgs/msg/CompressedImage"
    for topic, _, at, message in list(episode):
        if topic == "/cam/wrist/rgb":
            jpeg = TYPES[kind](header=message.header, format="jpeg", data=np.zeros(4, np.uint8))
            episode.append((f"{topic}/compressed", kind, at, jpeg))
    episode.sort(key=lambda message: message[2])
    audit = audit_bag(record(tmp_path / "bag", episode), bundle)
    assert audit.values["decisions"] == usual["decisions"]
    assert any("taken from '/cam/wrist/rgb'" in text for text in texts(audit, "bag"))


# ------------------------------------------------------------------------ malformed bags

LARGE = (240, 320)
LENGTH = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("whole")
    episode = messages(LENGTH, size_of=lambda frame: LARGE)
    return {
        "mcap": record(made / "mcap", episode),
        "sqlite": record_sqlite(made / "sqlite", episode),
        "nothing": record(made / "nothing", []),
        "nothing_sqlite": record_sqlite(made / "nothing_sqlite", []),
    }


def file_of(bag: Path) -> Path:
    (file,) = (*bag.glob("*.mcap"), *bag.glob("*.db3"))
    return file


def cut(share: float) -> Callable[[Path], None]:
    def do(bag: Path) -> None:
        file = file_of(bag)
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])

    return do


def cut_without_metadata(bag: Path) -> None:
    cut(0.6)(bag)
    (bag / "metadata.yaml").unlink()


def metadata(text: str) -> Callable[[Path], None]:
    return lambda bag: (bag / "metadata.yaml").write_text(text) and None


def name_another(bag: Path) -> None:
    file, listed = file_of(bag).name, (bag / "metadata.yaml").read_text()
    assert f"- {file}" in listed
    (bag / "metadata.yaml").write_text(listed.replace(f"- {file}", f"- {file}\n  - gone.mcap", 1))


def garble(bag: Path) -> None:
    """Overwrite more than a picture, lest only its pixels be others."""
    file = file_of(bag)
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600_000] = np.random.default_rng(0).bytes(600_000)
    file.write_bytes(data)


def as_text(bag: Path) -> None:
    file_of(bag).write_text("no bag\n" * 200)
    (bag / "metadata.yaml").unlink()


def emptied(bag: Path) -> None:
    for file in bag.iterdir():
        file.unlink()


def as_they_are(bag: Path) -> None:
    """Leave the bag as it is."""


def run_audit(
    bag: Path, folder: Path, out: Path, capsys: Any, monkeypatch: Any
) -> tuple[int, list[str]]:
    """Return the exit code, and the lines of errors on standard error, of ``alt audit``."""
    command = ["alt", "audit", str(bag), "--bundle", str(folder), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setenv("COLUMNS", "400")
    code = main()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return code, [line for line in said.splitlines() if line.startswith("alt: ")]


@pytest.mark.parametrize(
    ("storage", "damage", "said"),
    [
        ("mcap", cut(0.6), "was cut off here"),
        ("mcap", cut(0.999), "was cut off here"),
        ("mcap", cut_without_metadata, "was cut off here"),
        ("sqlite", cut(0.6), "was cut off here"),
        ("sqlite", cut_without_metadata, "was cut off here"),
        ("sqlite", garble, "cannot be read: .*it is read up to the damage"),
        ("mcap", garble, "cannot be read: .*it was read up to"),
        ("mcap", metadata("{["), "metadata.yaml.*its files are read one by one"),
        ("sqlite", metadata("{["), "metadata.yaml.*its files are read one by one"),
        ("mcap", metadata(""), "metadata.*its files are read one by one"),
        ("mcap", name_another, "missing.*gone.mcap.*its files are read one by one"),
    ],
)
def test_of_a_malformed_bag_what_could_be_read_is_reported(
    tmp_path, folder, whole, capsys, monkeypatch, storage, damage, said
):
    bag = Path(shutil.copytree(whole[storage], tmp_path / "bag"))
    damage(bag)
    code, lines = run_audit(bag, folder, tmp_path / "out", capsys, monkeypatch)
    assert (code, lines) == (0, [])
    values = json.loads((tmp_path / "out" / "audit.json").read_text())
    found = [f for f in values["findings"] if f["kind"] == "bag"]
    assert [bool(re.search(said, f["text"])) for f in found] == [True], found
    assert found[0]["severity"] == "error"
    assert "\n" not in found[0]["text"]
    cut_short = damage in (garble, cut_without_metadata) or "cut off" in said
    assert len(values["pairing"]["intervals"]["wrist"]["t"]) >= (3 if cut_short else LENGTH - 2)
    assert (tmp_path / "out" / "audit.html").exists()


@pytest.mark.parametrize(
    ("storage", "damage", "said"),
    [
        ("mcap", cut(0.0), "holds no messages, it was cut off before its first message"),
        ("mcap", cut(0.001), "holds no messages, it was cut off before its first message"),
        ("sqlite", cut(0.0), "cannot be read"),
        ("sqlite", cut(0.01), "holds no messages, it was cut off before its first message"),
        ("mcap", as_text, "cannot be read: .*magic"),
        ("sqlite", as_text, "cannot be read: .*not a database"),
        ("mcap", emptied, "holds no bag: no metadata.yaml, .mcap or .db3"),
        ("mcap", lambda bag: file_of(bag).unlink(), "cannot be read: .*missing.*mcap.mcap"),
        ("nothing", as_they_are, "holds no messages, it is empty"),
        ("nothing_sqlite", as_they_are, "holds no messages, it is empty"),
    ],
)
def test_a_bag_of_which_nothing_can_be_read_ends_in_one_line(
    tmp_path, folder, whole, capsys, monkeypatch, storage, damage, said
):
    bag = Path(shutil.copytree(whole[storage], tmp_path / "bag"))
    damage(bag)
    code, lines = run_audit(bag, folder, tmp_path / "out", capsys, monkeypatch)
    assert code == 2
    assert len(lines) == 1, lines
    assert re.search(said, lines[0]), lines
    assert str(bag) in lines[0]
    assert not (tmp_path / "out").exists()


def test_of_a_split_bag_with_a_damaged_file_the_others_are_read(tmp_path, bundle, whole):
    bag = tmp_path / "split"
    bag.mkdir()
    shutil.copy(file_of(whole["mcap"]), bag / "split_0.mcap")
    (bag / "split_1.mcap").write_text("no bag\n" * 200)
    (bag / "metadata.yaml").write_text("{[")
    audit = audit_bag(bag, bundle)
    assert any("split_1.mcap' cannot be read" in text for text in texts(audit, "bag"))
    assert len(audit.values["decisions"]["t"]) >= LENGTH - 2


def test_what_may_not_be_read_is_said(whole):
    """For root, the checks are those of another user."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        bag = Path(shutil.copytree(whole["mcap"], Path(place) / "bag"))
        file_of(bag).chmod(0)
        user = os.geteuid()
        if not user:
            os.seteuid(65_534)
        try:
            for path in (bag, file_of(bag)):
                with pytest.raises(DataError, match=r"cannot be read: .*[Pp]ermission"):
                    read_contents(path)
        finally:
            os.seteuid(user)


def test_commands_whose_log_time_goes_back_are_read_in_order(tmp_path, bundle, usual):
    """A recorder writes from several threads: the log's order is that of its times."""
    episode = messages(FRAMES)
    mixed = [
        message for pair in zip(episode[1::2], episode[::2], strict=False) for message in pair
    ]
    mixed += episode[len(mixed) :]
    audit = audit_bag(record_sqlite(tmp_path / "bag", mixed), bundle)
    assert audit.values["pairing"]["t"] == usual["pairing"]["t"]
    assert not any("clock goes back" in text for text in texts(audit, "bag"))
