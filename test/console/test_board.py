"""What the board shows, to a viewer that keeps up and to one that does not."""

from __future__ import annotations

import json
import math
import time

import cv2
import numpy as np
import pytest

from alt_ros.console import board as board_module
from alt_ros.console.board import (
    Board,
    DecisionReport,
    DiagnosticReport,
    ExecutorReport,
    Picture,
    Viewer,
)
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import write_store
from alt_ros.pictures.jpeg import to_jpeg
from alt_ros.pictures.recalled import RecalledPictures
from alt_ros.types import ActionLayout

NAN = float("nan")


def report(state: str = "running", reason: str = "following chunks") -> ExecutorReport:
    return ExecutorReport(state, reason, 10, 2, 0, 30.0, NAN, 40.0)


def decision(frame: int = 0, demonstration: int = 0, **fields) -> DecisionReport:
    values = {"similarity": 0.9, "score": 0.5, "threshold": 1.0, "flag": False, **fields}
    return DecisionReport(demonstration, frame, cause="cosine", view="", **values)


@pytest.fixture
def recalled(tmp_path) -> RecalledPictures:
    """Two demonstrations; each picture is grey, as bright as its row times ten."""

    def demonstration(name: str, first: int, frames: int) -> Demonstration:
        poses = np.tile([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0], (frames, 1, 1))
        brightness = 10 * np.arange(first, first + frames, dtype=np.uint8)
        image = np.broadcast_to(brightness[:, None, None, None], (frames, 8, 8, 3))
        return Demonstration(
            name=name,
            stamps=np.arange(frames, dtype=np.int64) * 50_000_000,
            images={"wrist": np.ascontiguousarray(image), "side": np.ascontiguousarray(image)},
            poses=poses,
            grippers=np.zeros((frames, 1)),
            state=np.zeros((frames, 0)),
            actions=np.tile(np.r_[np.zeros(3), 1, 0, 0, 0, 1, 0, 0.0], (frames, 1)),
            layout=ActionLayout(),
            success=True,
            source=name,
        )

    store = write_store(
        tmp_path / "store", [demonstration("first", 0, 3), demonstration("second", 3, 4)]
    )
    pictures = RecalledPictures.open(store.path, ("wrist", "side"))
    assert pictures is not None
    return pictures


def brightness(jpeg: bytes) -> float:
    return float(np.mean(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)))


def test_before_anything_has_come_nothing_is_made_up():
    message = Viewer(Board(["eef_pose"])).state()
    assert message["executor"] is None
    assert message["decision"] is None
    assert message["decisions"] == message["events"] == message["diagnostics"] == []
    assert message["rates"] == [{"topic": "eef_pose", "hz": None, "age": None}]
    assert message["control"] == {}


def test_what_is_not_finite_is_null_and_the_message_is_json():
    board = Board([])
    board.executor(report())
    board.decision(decision(score=math.inf, similarity=NAN))
    message = json.loads(json.dumps(Viewer(board).state(), allow_nan=False))
    assert message["executor"]["latency_p99_ms"] is None
    assert message["executor"]["latency_p50_ms"] == 30.0
    assert message["decision"]["score"] is None
    assert message["decisions"][0][1:4] == [None, None, 1.0]


def test_a_state_lasts_from_its_first_message_on():
    board = Board([])
    board.executor(report())
    time.sleep(0.05)
    board.executor(report())
    now = Viewer(board).state()["executor"]
    assert now["seconds"] > 0.05 > now["age"]
    board.executor(report("holding", "scene is out of distribution"))
    now = Viewer(board).state()
    assert now["executor"]["seconds"] < 0.05
    assert [event[1:] for event in now["events"]] == [
        ["info", "running: following chunks"],
        ["warning", "holding: scene is out of distribution"],
    ]


def test_each_viewer_gets_what_it_has_not_seen():
    board = Board([])
    early, late = Viewer(board), Viewer(board)
    board.decision(decision(frame=1))
    assert [d[6] for d in early.state()["decisions"]] == [1]
    assert early.state()["decisions"] == []
    board.decision(decision(frame=2, flag=True))
    board.event("warning", "arm refused")
    first, second = early.state(), late.state()
    assert [d[4:] for d in first["decisions"]] == [[1, 0, 2]]
    assert [d[6] for d in second["decisions"]] == [1, 2]
    assert [e[2] for e in first["events"]] == [e[2] for e in second["events"]] == ["arm refused"]


def test_the_logs_are_bounded(monkeypatch):
    board = Board([])
    for frame in range(board_module.MOST_DECISIONS + 100):
        board.decision(decision(frame=frame))
        board.event("info", str(frame))
    message = Viewer(board).state()
    assert len(message["decisions"]) == board_module.MOST_DECISIONS
    assert len(message["events"]) == board_module.MOST_EVENTS
    monkeypatch.setattr(board_module, "HISTORY_SECONDS", 0.0)
    assert Viewer(board).state()["decisions"] == []


def test_rates_are_of_the_last_seconds(monkeypatch):
    board = Board(["wrist/image_raw"])
    for _ in range(5):
        board.came("wrist/image_raw")
        time.sleep(0.02)
    (rate,) = Viewer(board).state()["rates"]
    assert 5.0 < rate["hz"] <= 50.0
    assert rate["age"] >= 0.02
    monkeypatch.setattr(board_module, "RATE_SECONDS", 0.0)
    assert Viewer(board).state()["rates"][0]["hz"] is None


def test_the_last_status_of_each_name_is_shown():
    board = Board([])
    board.diagnostic(DiagnosticReport("alt: lookup", 0, "ok", {"a": "1"}))
    board.diagnostic(DiagnosticReport("alt: lookup", 2, "broken", {"a": "2"}))
    (status,) = Viewer(board).state()["diagnostics"]
    assert (status["level"], status["message"], status["values"]) == (2, "broken", {"a": "2"})


def test_a_picture_is_encoded_once_for_all_viewers_and_not_before_one_asks():
    board, encoded = Board([]), []

    def encode() -> bytes:
        encoded.append(1)
        return b"jpeg"

    board.picture(Picture("wrist", 1, encode))
    assert encoded == []
    viewers = [Viewer(board) for _ in range(5)]
    assert [next(iter(viewer.pictures())).jpeg for viewer in viewers] == [b"jpeg"] * 5
    assert encoded == [1]
    assert list(viewers[0].pictures()) == []


def test_a_viewer_that_comes_late_gets_the_latest_picture_only():
    board = Board([])
    viewer = Viewer(board)
    for stamp in range(1, 4):
        board.picture(Picture("wrist", stamp, lambda: b"jpeg"))
    assert [shown.header["stamp"] for shown in viewer.pictures()] == ["3"]


def test_the_recalled_frame_is_named_and_shown_when_it_changes(recalled):
    board = Board([], recalled=recalled)
    viewer = Viewer(board)
    board.decision(decision(demonstration=1, frame=2))
    now = viewer.state()["decision"]
    assert (now["name"], now["frames"]) == ("second", 4)
    shown = list(viewer.pictures())
    assert [(s.header["picture"], s.header["view"]) for s in shown] == [
        ("recalled", "wrist"),
        ("recalled", "side"),
    ]
    assert (shown[0].header["demonstration"], shown[0].header["frame"]) == (1, 2)
    assert brightness(shown[0].jpeg) == pytest.approx(50.0, abs=2.0)
    board.decision(decision(demonstration=1, frame=2))
    assert list(viewer.pictures()) == []
    board.decision(decision(demonstration=0, frame=1))
    assert brightness(next(iter(viewer.pictures())).jpeg) == pytest.approx(10.0, abs=2.0)


@pytest.mark.parametrize("where", [(-1, 0), (2, 0), (0, 3), (1, -1)])
def test_a_frame_that_the_store_does_not_have_is_no_picture(recalled, where):
    board = Board([], recalled=recalled)
    viewer = Viewer(board)
    board.decision(decision(demonstration=where[0], frame=where[1]))
    assert list(viewer.pictures()) == []
    assert viewer.state()["decision"]["demonstration"] == where[0]


def test_a_folder_that_is_no_store_or_has_other_views_has_no_pictures(recalled, tmp_path):
    assert RecalledPictures.open(tmp_path, ("wrist",)) is None
    assert RecalledPictures.open(tmp_path / "store", ("overhead",)) is None


def test_a_picture_is_at_most_as_high_as_asked_for():
    image = np.zeros((200, 100, 3), np.uint8)
    small = cv2.imdecode(np.frombuffer(to_jpeg(image, 50), np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    assert small.shape == (50, 25, 3)
