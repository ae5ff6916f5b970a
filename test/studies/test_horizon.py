import json

import numpy as np
import pytest
import torch

from alt_ros.studies import horizon
from alt_ros.studies.horizon import FULL, HorizonSettings, chunk_size, run_horizon
from alt_ros.studies.horizon_report import Sweep, best_horizon, jumps, spread
from alt_ros.studies.report import PNG, write_report
from alt_ros.studies.rollouts import Rollouts
from alt_ros.training.policy import PolicyTrainingConfig

torch.set_num_threads(1)


def line(length: int) -> np.ndarray:
    """Action rows (length, 10) that move 1 cm along x from one to the next."""
    actions = np.zeros((length, 10))
    actions[:, 0] = 0.01 * np.arange(length)
    return actions


def sweep(action_horizon: int, success: list[int], seconds: float = 3.0) -> Sweep:
    done = np.array(success, np.bool_)
    times = np.full(int(done.sum()), seconds)
    return Sweep(action_horizon, done, times, np.zeros(0), np.ones(len(done)))


def test_even_motion_has_no_jump_whatever_the_chunks():
    assert jumps(line(12), np.arange(12) // 4) == pytest.approx([0.0, 0.0])
    assert jumps(line(12), np.arange(12)) == pytest.approx(np.zeros(10))
    assert len(jumps(line(12), np.zeros(12, np.int64))) == 0
    assert len(jumps(np.zeros((0, 10)), np.zeros(0, np.int64))) == 0


def test_a_target_set_aside_at_a_change_of_chunks_is_the_jump():
    actions = line(12)
    actions[4:, 1] = 0.03
    actions[6, 2] = 0.5  # within a chunk: no seam
    assert jumps(actions, np.arange(12) // 4)[0] == pytest.approx(0.03)


def test_time_counts_for_successes_and_inferences_for_all():
    rollouts = Rollouts(
        np.array([True, False]),
        np.array([0, 1]),
        [line(20), line(40)],
        [np.arange(20) // 10, np.arange(40) // 10],
    )
    one = Sweep.of(10, rollouts)
    assert one.seconds.tolist() == [1.0]
    assert one.inferences.tolist() == [2.0, 4.0]
    assert one.jump == pytest.approx([0.0, 0.0])
    assert one.rate.value == 0.5
    assert one.to_json()["success"] == 1


def test_an_episode_in_which_nothing_was_followed_has_no_jump():
    nothing = Rollouts(
        np.array([False]), np.array([0]), [np.zeros((0, 10))], [np.zeros(0, np.int64)]
    )
    one = Sweep.of(8, nothing)
    assert one.to_json() == {
        "action_horizon": 8,
        "success": 0,
        "trials": 1,
        "seconds": None,
        "jump_mm": None,
        "inferences": 0.0,
    }


def test_the_best_has_most_successes_and_is_the_quicker_of_equals():
    best, alike = best_horizon(
        [sweep(1, [1, 1, 0]), sweep(8, [1, 1, 1], 3.0), sweep(16, [1, 1, 1], 2.5)]
    )
    assert best.action_horizon == 16
    assert alike == [1, 8]


def test_a_horizon_that_fails_in_the_same_trials_far_more_often_is_told_apart():
    best, alike = best_horizon(
        [sweep(1, [0] * 12 + [1] * 4), sweep(8, [1] * 16), sweep(16, [0] + [1] * 15)]
    )
    assert best.action_horizon == 8
    assert alike == [16]


def test_a_policy_is_swept_up_to_what_it_predicts():
    assert FULL.of("alt") == (1, 2, 4, 8, 12, 16, 24, 30)
    assert FULL.of("diffusion") == (1, 2, 4, 8, 12, 15)
    assert chunk_size("act") == 30


def test_an_interval_holds_its_value():
    assert spread(np.zeros(0), np.mean, 0) is None
    interval = spread(np.array([1.0, 2.0, 6.0]), np.median, 0, scale=10.0)
    assert interval is not None
    assert interval.value == 20.0
    assert 10.0 <= interval.low <= interval.high <= 60.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_study_runs_from_nothing_and_takes_up_what_is_there(tmp_path, monkeypatch):
    settings = HorizonSettings(
        demonstrations=3,
        trials=1,
        action_horizons=(8,),
        alt_steps=2,
        training={"kdtree": PolicyTrainingConfig(steps=1, batch_size=2, warm_up=0)},
    )
    monkeypatch.setattr(horizon, "QUICK", settings)
    monkeypatch.setattr(horizon, "SCENARIOS", ("ind",))
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    report = run_horizon(tmp_path, quick=True, seed=0, device="cpu", progress=progress)
    write_report(tmp_path, report)
    figures = json.loads((tmp_path / "tables.json").read_text())
    for name in ("alt", "kdtree"):
        cells = figures["sweeps"][name]["ind"]
        assert [cell["action_horizon"] for cell in cells] == [8, 30]
        assert figures["best"][name]["ind"] in (8, 30)
        # Nothing is asked more often where more is followed of every answer.
        assert cells[0]["inferences"] > cells[1]["inferences"]
    assert figures["demonstrated_jump_mm"] < 5.0
    assert report.plots[0].png.startswith(PNG)
    assert told[-1][0] == told[-1][1]

    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "roll-outs").iterdir()}
    assert len(kept) == 4
    again = run_horizon(tmp_path, quick=True, seed=0, device="cpu")
    assert again.values["sweeps"] == report.values["sweeps"]
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "roll-outs").iterdir()} == kept
