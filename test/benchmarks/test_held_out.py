"""The held-out check: its division, its figures, and one run with a real encoder."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alt_ros.bench_cli import bench_held_out as held_out_command
from alt_ros.benchmarks.held_out import (
    HeldOutConfig,
    Watched,
    bench_held_out,
    corrupted_figures,
    corruptions,
    divide,
    divided_anew,
    ordinary_figures,
    speckled_image,
)
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import write_store
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.encoders.torchscript import export_encoder
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.lookup.bands import Band
from alt_ros.lookup.calibration import HELD_OUT, Calibration
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.episodes import EpisodeScores
from alt_ros.lookup.monitor import OodMonitor
from alt_ros.types import ActionLayout

sys.path.append(str(Path(__file__).parents[1] / "lookup"))  # tables.py
from tables import table

SPEC = EncoderSpec(("wrist", "front"), 32, 32, embedding_size=16, view_size=8)
FRAMES = 12


def demonstration(number: int) -> Demonstration:
    """A square that walks over the image, from a place and before a wall of its own."""
    rng = np.random.default_rng(number)
    images = np.empty((FRAMES, 40, 40, 3), np.uint8)
    images[:] = rng.integers(100, 200, 3)
    top, left = rng.integers(2, 8, size=2)
    for frame in range(FRAMES):
        images[frame, top : top + 8, left + 2 * frame : left + 2 * frame + 6] = (230, 60, 20)
    return Demonstration(
        name=f"square {number}",
        stamps=50_000_000 * np.arange(FRAMES),
        images={"wrist": images, "front": images[:, ::-1].copy()},
        poses=np.zeros((FRAMES, 0, 7)),
        grippers=np.zeros((FRAMES, 0)),
        state=np.zeros((FRAMES, 0)),
        actions=np.zeros((FRAMES, 2)),
        layout=ActionLayout(arms=0, extra=2),
        success=number != 3,
    )


def write_training(path: Path, validation: list[int]) -> Path:
    """Write a folder as ``alt train`` does, with an encoder that has learnt nothing."""
    path.mkdir()
    torch.manual_seed(0)
    export_encoder(MultiViewEncoder(SPEC), path / "encoder.pt")
    report = {
        "encoder": "encoder.pt",
        "spec": SPEC.to_json(),
        "config": {"validation": validation},
    }
    (path / "training.json").write_text(json.dumps(report))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("held_out") / "squares"
    return write_store(path, [demonstration(number) for number in range(21)]).path


def calibration(per: str) -> Calibration:
    return Calibration(
        2.0, {"cosine": Band((0.0,), (1.0,), 1e-3)}, how=HELD_OUT, per=per, rate=0.05
    )


def watched(levels: list[float], flags: list[int]) -> Watched:
    return Watched(np.array(levels, np.float64), np.array(flags, bool))


def test_what_the_encoder_never_saw_is_held_out_first_and_the_parts_do_not_overlap():
    unseen = set(range(0, 40, 4))
    division = divide(range(40), unseen, HeldOutConfig(seed=1))
    assert division.counts(range(40)) == {"table": 20, "calibration": 10, "test": 10}
    counts = division.counts(unseen)
    assert counts["table"] == 0
    assert min(counts["calibration"], counts["test"]) > 0, "chance alone says which of them test"
    parts = (*division.table, *division.calibration, *division.test)
    assert sorted(parts) == list(range(40))
    assert divide(range(40), unseen, HeldOutConfig(seed=1)) == division
    assert divide(range(40), unseen, HeldOutConfig(seed=2)) != division


def test_a_demonstration_calibrates_as_often_as_it_tests_over_the_seeds():
    unseen = {7}
    parts = [divide(range(12), unseen, HeldOutConfig(seed=seed)) for seed in range(200)]
    tests = sum(7 in part.test for part in parts)
    assert all(7 not in part.table for part in parts)
    assert 70 < tests < 130


def test_too_few_demonstrations_and_shares_that_leave_no_table_are_refused():
    with pytest.raises(ConfigurationError, match="8 demonstrations would give 4 .* 2 to calibr"):
        divide(range(8), (), HeldOutConfig())
    with pytest.raises(ConfigurationError, match=r"leave a part for the table, got 0\.5 and 0\.5"):
        HeldOutConfig(calibration_share=0.5, test_share=0.5)
    with pytest.raises(ConfigurationError, match="rate must be between 0 and 1, got 5"):
        HeldOutConfig(rate=5.0)
    with pytest.raises(ConfigurationError, match="'episode', 'frame' or both"):
        HeldOutConfig(per=("hour",))
    with pytest.raises(ConfigurationError, match="at least 1 corrupted episode"):
        HeldOutConfig(corrupted_episodes=0)


def test_every_corruption_changes_the_first_view_only_but_for_a_swap():
    rng = np.random.default_rng(0)
    first, seen = (
        {view: rng.integers(60, 256, (24, 32, 3), dtype=np.uint8) for view in SPEC.views}
        for _ in range(2)
    )
    found = corruptions(SPEC.views)
    assert "swapped_views" not in corruptions(SPEC.views[:1])
    for name, corruption in found.items():
        given = corruption(seen, first, rng)
        assert list(given) == list(SPEC.views)
        assert given["wrist"].shape == (24, 32, 3)
        assert given["wrist"].dtype == np.uint8
        assert not np.array_equal(given["wrist"], seen["wrist"]), name
        if name != "swapped_views":
            np.testing.assert_array_equal(given["front"], seen["front"])
    np.testing.assert_array_equal(found["frozen"](seen, first, rng)["wrist"], first["wrist"])
    swapped = found["swapped_views"](seen, first, rng)
    np.testing.assert_array_equal(swapped["wrist"], seen["front"])
    np.testing.assert_array_equal(swapped["front"], seen["wrist"])


def test_a_tenth_of_the_pixels_turns_black_or_white():
    grey = np.full((100, 100, 3), 128, np.uint8)
    speckled = speckled_image(grey, np.random.default_rng(0))
    assert (speckled == 0).all(axis=2).mean() == pytest.approx(0.05, abs=0.01)
    assert (speckled == 255).all(axis=2).mean() == pytest.approx(0.05, abs=0.01)
    assert (grey == 128).all()


def test_false_alarms_are_held_against_the_rate_in_what_it_counts():
    quiet = [watched([0.0] * 9 + [3.0], [0] * 10) for _ in range(19)]
    episodes = [*quiet, watched([3.0] * 10, [0, 0] + [1] * 8)]
    figures = ordinary_figures(episodes, calibration("episode"))
    assert (figures["false_alarms"], figures["episodes"]) == (1, 20)
    assert figures["false_alarms_interval_95"] == [0.0089, 0.2361]  # Wilson's
    assert figures["rate_within_interval"]
    assert figures["frames_flagged"] == 0.04
    assert figures["frames_above"] == pytest.approx((19 * 0.1 + 1.0) / 20)
    low, high = figures["frames_above_interval_95"]
    assert 0.1 == low < figures["frames_above"] < high
    assert not ordinary_figures(episodes, calibration("frame"))["rate_within_interval"]


@pytest.mark.parametrize("per", ["episode", "frame"])
def test_the_mean_over_divisions_is_near_the_rate_of_episodes_that_are_alike(per):
    rng = np.random.default_rng(0)
    scored = [
        EpisodeScores(np.exp(rng.normal(size=(30, 1))), np.linspace(0.0, 1.0, 30))
        for _ in range(90)
    ]
    monitor = OodMonitor(table((5, 5)), ("wrist", "front"), calibration(per))
    config = HeldOutConfig(rate=0.1)
    figures = divided_anew(scored, 45, monitor, config)
    assert 0.05 < figures["mean_rate"] <= 0.115
    low, high = figures["rates_95"]
    assert low < figures["mean_rate"] < high
    stranger = [*scored[:45], *(replace(e, values=20.0 * e.values) for e in scored[45:])]
    assert divided_anew(stranger, 45, monitor, config)["mean_rate"] <= 0.115, "exchangeable still"


def test_only_episodes_that_were_quiet_before_the_onset_tell_whether_a_corruption_is_seen():
    monitor = MonitorConfig(raise_count=1, raise_window=1)
    ordinary = [watched([9.0, 9.0, 1.0, 0.0, 0.0, 0.0], [0] * 6) for _ in range(4)]
    episodes = [
        watched([0.0, 0.0, 0.0, 3.0, 3.0, 3.0], [0, 0, 0, 1, 1, 1]),
        watched([0.0, 0.0, 0.0, 0.0, 0.0, 3.0], [0, 0, 0, 0, 0, 1]),
        watched([0.0, 0.0, 0.5, 0.5, 0.5, 0.5], [0] * 6),
        watched([3.0, 3.0, 3.0, 3.0, 3.0, 3.0], [0, 1, 1, 1, 1, 1]),
    ]
    figures = corrupted_figures(episodes, ordinary, monitor)
    assert (figures["false_alarms_before"], figures["quiet_before"]) == (1, 3)
    assert (figures["flagged"], figures["flagged_share"]) == (2, 0.6667)
    assert figures["delay"] == 2.0  # 1 and 3 frames after frame 2
    assert figures["auroc"] == 0.75  # three of four are above what all of the ordinary reach


def test_the_check_runs_on_a_store_and_a_training_without_simulation(store, tmp_path):
    training = write_training(tmp_path / "training", validation=[1, 2, 3, 4, 5])
    config = HeldOutConfig(rate=0.2, corrupted_episodes=2)
    done: list[tuple[int, int]] = []
    values = bench_held_out(
        store, training, config, device="cpu", progress=lambda *now: done.append(now)
    )
    assert values["demonstrations"] == {"table": 10, "calibration": 5, "test": 5}
    assert values["failed_left_out"] == 1
    unseen = values["never_seen"]
    assert unseen["table"] == 0
    assert unseen["calibration"] + unseen["test"] == 4, "one of the five failed"
    damaged = 7 * 2 * (FRAMES - FRAMES // 3)
    assert done[-1] == (20 * FRAMES + damaged, 20 * FRAMES + damaged)
    assert done == sorted(done)
    for per in ("episode", "frame"):
        judged = values["per"][per]
        assert judged["calibration"]["episodes"] == 5
        assert judged["ordinary"]["episodes"] == 5
        assert len(judged["corrupted"]) == 7
        covered = judged["corrupted"]["covered"]
        assert covered["episodes"] == 2
        assert covered["auroc"] == 1.0, "black, where no demonstration was dark"
    again = bench_held_out(store, training, config, device="cpu")
    assert json.loads(json.dumps(again["per"])) == json.loads(json.dumps(values["per"]))


def test_the_command_prints_what_it_writes(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    training = write_training(tmp_path / "training", validation=[1, 2])
    held_out_command(
        store, training, per=("episode",), corrupted_episodes=1, json=tmp_path / "held_out.json"
    )
    values = json.loads((tmp_path / "held_out.json").read_text())
    assert list(values["per"]) == ["episode"]
    alarms = values["per"]["episode"]["ordinary"]["false_alarms"]
    said = capsys.readouterr().out
    assert re.search(rf"flagged\W+{alarms}/5, ", said)
    assert "5.0% per episode" in said
    assert all(name in said for name in ("covered", "salt and pepper", "swapped views"))
    unseen = values["never_seen"]["test"]
    assert f"of 5 that test, the encoder has never seen {unseen}" in said


def test_another_store_than_the_trained_one_and_a_missing_training_are_refused(store, tmp_path):
    training = write_training(tmp_path / "training", validation=[40])
    with pytest.raises(DataError, match="held out demonstration 40, store .* holds 21"):
        bench_held_out(store, training)
    with pytest.raises(DataError, match=r"must hold training\.json as 'alt train' writes it"):
        bench_held_out(store, tmp_path / "absent")


def test_a_view_that_the_store_lacks_is_named(tmp_path):
    training = write_training(tmp_path / "training", validation=[])
    one_view = [
        replace(d, images={"wrist": d.images["wrist"]}, success=None)
        for d in (demonstration(number) for number in range(12))
    ]
    store = write_store(tmp_path / "one_view", one_view)
    with pytest.raises(DataError, match=r"the observation lacks \['front'\]"):
        bench_held_out(store.path, training, device="cpu")
