"""Runs as Rerun recordings, read back as the viewer reads them."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "demonstrations"))
from bundles import write_small_bundle
from test_rosbag import TOPICS, TYPES, header, messages, pose_stamped, record

from alt_ros.audit.bag_audit import AuditConfig
from alt_ros.audit.page import Frames
from alt_ros.audit.recorded_trial import record_trial
from alt_ros.audit.rerun_log import (
    COMMANDED,
    MEASURED,
    Path3D,
    Run,
    Said,
    paths_in_bag,
    require_rerun,
    run_of_audit,
    write_recording,
)
from alt_ros.bundle import Bundle
from alt_ros.cli import main
from alt_ros.demonstrations.rosbag import BagTopics
from alt_ros.errors import DataError, DependencyError
from alt_ros.policies.alt import AltPolicy
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.rollout import run_episode
from alt_ros.simulation.scenarios import scenario

torch.set_num_threads(1)
FRAMES = 20
VIEWS = ("wrist", "third_person")
JPEG = b"\xff\xd8"


@pytest.fixture
def rerun() -> Any:
    return pytest.importorskip("rerun", reason="RERUN NOT TESTED: rerun-sdk is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("rerun") / "bundle")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("bag") / "run", messages(FRAMES))


def rows_of(path: Path) -> dict[str, dict[str, list[Any]]]:
    """Return entity to its columns over time, and ``static`` of it where it has such."""
    from rerun.chunk import RrdReader

    found: dict[str, dict[str, list[Any]]] = {}
    for chunk in RrdReader(path).stream().to_chunks():
        if chunk.entity_path.startswith("/__properties"):
            continue
        columns = chunk.to_record_batch().to_pydict()
        if chunk.is_static:
            columns = {"static": [columns]}
        else:
            assert chunk.timeline_names == ["time"]
        entity = found.setdefault(chunk.entity_path, {})
        for name, values in columns.items():
            entity.setdefault(name, []).extend(values)
    return found


def seconds(entity: dict[str, list[Any]]) -> list[float]:
    return [round(at / timedelta(seconds=1), 6) for at in entity["time"]]


def scalars(entity: dict[str, list[Any]]) -> list[float]:
    return [value for (value,) in entity["Scalars:scalars"]]


def small_run(name: str = "", **changes: Any) -> Run:
    decisions = {
        "t": [0.1, 0.2, 0.3],
        "similarity": [0.9, 0.5, 0.4],
        "score": [0.5, None, 9.0],
        "threshold": [4.0, 4.0, 4.0],
        "flag": [0, 0, 1],
        "demonstration": [2, 2, 1],
        "frame": [0, 7, 3],
    }
    live = [[JPEG + b"w0", JPEG + b"t0"], [b"", JPEG + b"t1"]]
    recalled = {(2, 0): [JPEG + b"a", JPEG + b"b"], (2, 5): [JPEG + b"c", JPEG + b"d"]}
    values: dict[str, Any] = {
        "views": VIEWS,
        "decisions": decisions,
        "frames": Frames([0.09, 0.19], live, recalled),
        "states": [Said(0.0, "idle: "), Said(0.3, "holding: strange", "WARN")],
        "paths": {MEASURED: Path3D(np.array([0.0, 0.5]), np.array([[0.4, 0, 0.3], [0.5, 0, 0]]))},
    }
    return Run(name, **values | changes)


def test_a_run_is_read_back_as_it_was(tmp_path, rerun):
    path = tmp_path / "new" / "run.rrd"
    write_recording(path, [small_run()])
    rows = rows_of(path)
    assert {"/similarity", "/level/score", "/level/threshold", "/flag"} <= set(rows)
    assert seconds(rows["/similarity"]) == [0.1, 0.2, 0.3]
    assert scalars(rows["/similarity"]) == [0.9, 0.5, 0.4]
    assert np.array_equal(scalars(rows["/level/score"]), [0.5, np.nan, 9.0], equal_nan=True)
    assert scalars(rows["/flag"]) == [0.0, 0.0, 1.0]
    assert rows["/state"]["TextLog:text"] == [["idle: "], ["holding: strange"]]
    assert rows["/state"]["TextLog:level"] == [["INFO"], ["WARN"]]
    assert "/findings" not in rows
    assert seconds(rows["/hand/measured"]) == [0.0, 0.5]
    line = rows["/path/measured"]["static"][0]["LineStrips3D:strips"]
    assert np.array(line[0][0]) == pytest.approx(np.array([[0.4, 0, 0.3], [0.5, 0, 0]]))
    assert [p.name for p in path.parent.iterdir()] == ["run.rrd"], "nothing else is left"


def test_pictures_are_the_kept_ones_and_the_nearest_of_their_demonstration(tmp_path, rerun):
    write_recording(tmp_path / "run.rrd", [small_run()])
    rows = rows_of(tmp_path / "run.rrd")

    def pictures(entity: str) -> list[bytes]:
        return [bytes(blob) for (blob,) in rows[entity]["EncodedImage:blob"]]

    assert pictures("/live/wrist") == [JPEG + b"w0"], "a view without a picture is left out"
    assert pictures("/live/third_person") == [JPEG + b"t0", JPEG + b"t1"]
    # frame 7 has none: that of frame 5; demonstration 1 has none at all
    assert pictures("/recalled/wrist") == [JPEG + b"a", JPEG + b"c"]
    assert seconds(rows["/recalled/wrist"]) == [0.1, 0.2]


def test_runs_have_their_names_before_their_entities(tmp_path, rerun):
    from rerun.chunk import RrdReader

    write_recording(tmp_path / "two.rrd", [small_run("ind"), small_run("blurred_camera")])
    rows = rows_of(tmp_path / "two.rrd")
    assert len(rows["/ind/similarity"]["time"]) == len(rows["/blurred_camera/similarity"]["time"])
    assert {entity.split("/")[1] for entity in rows} == {"ind", "blurred_camera"}
    assert len(RrdReader(tmp_path / "two.rrd").blueprints()) == 1


def test_a_run_without_anything_is_written_all_the_same(tmp_path, rerun):
    empty = {name: [] for name in small_run().decisions}
    run = small_run(decisions=empty, frames=Frames([], [], {}), states=[], paths={})
    write_recording(tmp_path / "empty.rrd", [run])
    assert rows_of(tmp_path / "empty.rrd") == {}


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, rerun):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_recording(tmp_path / "file" / "run.rrd", [small_run()])


def test_without_rerun_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(DependencyError, match="pip install rerun-sdk"):
        require_rerun()


@pytest.mark.parametrize("command", ["audit", "eval"])
def test_without_rerun_no_command_begins(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setitem(sys.modules, "rerun", None)
    (tmp_path / "bag").mkdir()
    given = {"audit": ["audit", str(tmp_path / "bag")], "eval": ["eval"]}[command]
    options = ["--bundle", str(tmp_path / "absent"), "--rerun", str(tmp_path / "run.rrd")]
    monkeypatch.setattr(sys, "argv", ["alt", *given, *options])
    assert main() == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run.rrd").exists()


def test_an_episode_of_the_graph_is_referred_to_its_bag(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["alt", "eval", "--graph", "--rerun", "run.rrd"])
    assert main() == 2
    assert "give --rerun to 'alt audit BAG'" in capsys.readouterr().err


def test_positions_of_a_bag_are_where_the_arm_was_and_was_sent(bag):
    whole = messages(FRAMES)
    paths = paths_in_bag(bag, AuditConfig(), whole[0][2])
    for name, topic in ((MEASURED, TOPICS.pose), (COMMANDED, TOPICS.target_pose)):
        sent = [(at, m.pose.position) for found, _, at, m in whole if found == topic]
        assert paths[name].t == pytest.approx([(at - whole[0][2]) / 1e9 for at, _ in sent])
        assert paths[name].positions == pytest.approx(np.array([(p.x, p.y, p.z) for _, p in sent]))


def test_positions_come_from_transforms_and_not_from_damaged_poses(tmp_path):
    def transform(at: int, x: float) -> tuple[str, str, int, Any]:
        stamped = TYPES["geometry_msgs/msg/TransformStamped"](
            header=header(at),
            child_frame_id="hand",
            transform=TYPES["geometry_msgs/msg/Transform"](
                translation=TYPES["geometry_msgs/msg/Vector3"](x=x, y=0.0, z=0.0),
                rotation=TYPES["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
            ),
        )
        message = TYPES["tf2_msgs/msg/TFMessage"](transforms=[stamped])
        return "/tf", "tf2_msgs/msg/TFMessage", at, message

    start, step = 10**18, 10**7
    whole = [transform(start + n * step, 0.1 * n) for n in range(4)]
    broken = np.array([np.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    whole.append(
        (TOPICS.target_pose, "geometry_msgs/msg/PoseStamped", start, pose_stamped(start, broken))
    )
    topics = BagTopics(pose_source="tf", base_frame="base", eef_frame="hand")
    paths = paths_in_bag(record(tmp_path / "tf", whole), AuditConfig(topics), start)
    assert paths[MEASURED].positions[:, 0] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert len(paths[COMMANDED].t) == 0


def test_an_audit_is_shown_with_its_states_and_findings():
    values = {
        "views": VIEWS,
        "decisions": small_run().decisions,
        "states": [
            {"t": 0.0, "state": "running", "reason": "following chunks"},
            {"t": 0.4, "state": "fault", "reason": "pose lost"},
        ],
        "findings": [
            {"severity": "error", "kind": "executor", "text": "pose lost", "start": 0.4},
            {"severity": "note", "kind": "camera", "text": "a pause", "start": 0.1},
        ],
    }
    run = run_of_audit(values, Frames([], [], {}), {})
    assert [said.level for said in run.states] == ["INFO", "ERROR"]
    assert run.states[1].text == "fault: pose lost"
    assert [(said.t, said.level) for said in run.findings] == [(0.1, "INFO"), (0.4, "ERROR")]


def test_the_audit_writes_what_its_page_shows(tmp_path, rerun, bag, folder, monkeypatch):
    path = tmp_path / "run.rrd"
    command = ["alt", "audit", str(bag), "--bundle", str(folder), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*command, "--rerun", str(path)])
    assert main() == 0
    rows = rows_of(path)
    decisions = len(rows["/similarity"]["time"])
    assert decisions >= FRAMES - 2
    for entity in ("level/score", "level/threshold", "flag", "live/wrist", "live/third_person"):
        assert len(rows[f"/{entity}"]["time"]) == decisions
    measured = sum(topic == TOPICS.pose for topic, *_ in messages(FRAMES))
    assert len(rows["/hand/measured"]["time"]) == measured
    assert "static" in rows["/path/commanded"]


def test_the_recorded_trial_is_the_evaluations_first(tmp_path, rerun, folder):
    bundle = Bundle.load(folder, device="cpu", threads=1)
    run = record_trial(bundle, "covered_camera", seed=1, action_horizon=8)
    with CupGraspSimulation((128, 128)) as simulation:
        episode = run_episode(simulation, AltPolicy(bundle), scenario("covered_camera"), 0, seed=1)
    assert episode.flagged
    observations = len(episode.poses)
    assert np.array_equal(run.paths[MEASURED].positions, episode.poses[:, :3])
    assert len(run.frames.live) == len(run.decisions["t"]) == observations
    raised = run.decisions["flag"].index(True)
    assert run.decisions["t"][raised] == pytest.approx(episode.flag_delay)
    assert run.states[0].text.startswith("flag up: not_finite")
    assert run.states[-1].text == f"no success; {episode.reason}"
    write_recording(tmp_path / "eval.rrd", [run])
    rows = rows_of(tmp_path / "eval.rrd")
    assert len(rows["/covered_camera/live/wrist"]["time"]) == observations
    assert len(rows["/covered_camera/hand/cup"]["time"]) == observations


def test_an_unwatched_trial_goes_on_and_tells_of_the_flag(folder):
    bundle = Bundle.load(folder, device="cpu", threads=1)
    run = record_trial(bundle, "covered_camera", seed=1, action_horizon=8, watched=False)
    assert any(run.decisions["flag"])
    assert any(said.text.startswith("flag up") for said in run.states)
    assert "out of distribution" not in run.states[-1].text
