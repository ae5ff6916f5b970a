import json

import numpy as np
import pytest
import torch

from alt_ros.geometry import arm_action
from alt_ros.simulation.expert import ScriptedExpert
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.simulation.scene import HOME_POSE, MAX_OPENING
from alt_ros.studies import multimodal, parallel
from alt_ros.studies.multimodal import MultimodalSettings, forked_store, forks, run_multimodal
from alt_ros.studies.multimodal_report import (
    Findings,
    Fork,
    Start,
    Taken,
    multimodal_report,
    share,
    taken,
)
from alt_ros.studies.report import PNG, write_report
from alt_ros.training.policy import PolicyTrainingConfig

torch.set_num_threads(1)
PLACEMENT = TRAINING_PLACEMENTS[7]
FRAME = 50_000_000
CHUNK = 8


def demonstrated(detour: float) -> np.ndarray:
    """Action rows (n, 10) of the expert at 20 Hz."""
    expert, poses, openings = ScriptedExpert(PLACEMENT, detour=detour), [], []
    while not expert.done:
        pose, opening = expert.command(len(poses) * FRAME, HOME_POSE, MAX_OPENING)
        poses.append(pose)
        openings.append(opening)
    return arm_action(np.array(poses)[:, None], np.array(openings)[:, None])


LEFT, RIGHT, STRAIGHT = demonstrated(0.08), demonstrated(-0.08), demonstrated(0.0)
FORK = Fork(PLACEMENT, LEFT[:, :3], RIGHT[:, :3])


def way(actions: np.ndarray) -> Taken:
    return taken(FORK, actions, np.arange(len(actions), dtype=np.int64) // CHUNK)


@pytest.mark.parametrize(("actions", "mode"), [(LEFT, "left"), (RIGHT, "right")])
def test_a_demonstration_played_back_keeps_to_its_side(actions, mode):
    found = way(actions)
    assert (found.mode, found.committed, found.switches) == (mode, True, 0)
    assert found.offset == pytest.approx(1.0 if mode == "left" else -1.0)
    assert found.away == 0.0


def test_the_mean_of_the_ways_goes_between_and_far_from_both():
    found = way(STRAIGHT)
    assert (found.mode, found.committed) == ("between", False)
    assert abs(found.offset) < 0.2
    assert found.away > 0.04


def test_a_change_of_sides_is_a_switch_and_no_commitment():
    # The right way's rows from where it is as far on as the left way was left.
    changed = np.concatenate([LEFT[: 2 * CHUNK], RIGHT[2 * CHUNK :]])
    found = way(changed)
    assert (found.committed, found.switches) == (False, 1)
    back = np.concatenate([changed[: 3 * CHUNK], LEFT[3 * CHUNK :]])
    assert way(back).switches == 2


def test_an_arm_that_stays_where_it_is_takes_no_way():
    assert way(np.repeat(LEFT[:1], 20, axis=0)).mode == "none"
    nothing = way(LEFT[:0])
    assert (nothing.mode, nothing.offset, nothing.away) == ("none", None, None)


def episode(mode: str) -> Taken:
    return way({"left": LEFT, "right": RIGHT, "between": STRAIGHT}[mode])


def findings(**modes: list[str]) -> Findings:
    return Findings(
        quick=True,
        seed=0,
        cups=2,
        taken={name: [episode(mode) for mode in of] for name, of in modes.items()},
        success={name: [mode != "between" for mode in of] for name, of in modes.items()},
        demonstrated=[FORK.left, FORK.right],
        start=Start(0.9999, 0.8, 0.02, 0.1),
    )


def test_both_ways_count_at_the_same_cup_alone():
    found = findings(
        a=["left", "right", "right", "right"],  # cups 0, 1, 0, 1
        b=["left", "right", "left", "right"],
        c=["between"] * 4,
    )
    assert [found.both_ways(name) for name in "abc"] == [1, 0, 0]
    assert found.balance("a") == share(1, 4)
    assert found.balance("b") == share(2, 4)
    assert found.balance("c") is None
    assert [found.committed(name) for name in "abc"] == [4, 4, 0]


def test_the_report_tells_every_policy(tmp_path):
    report = multimodal_report(findings(alt=["left"] * 4, bc=["between"] * 4), 0.0)
    write_report(tmp_path, report)
    figures = json.loads((tmp_path / "tables.json").read_text())
    assert figures["policies"]["alt"]["modes"] == {"left": 4, "between": 0, "right": 0, "none": 0}
    assert figures["policies"]["bc"]["success"] == 0
    assert figures["policies"]["bc"]["away_mm"] > 40.0
    assert all(plot.png.startswith(PNG) for plot in report.plots)
    assert any("bc: 0 left, 4 between, 0 right of 4" in said for said in report.summary)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_study_runs_from_nothing_and_takes_up_what_is_there(tmp_path, monkeypatch):
    config = PolicyTrainingConfig(steps=1, batch_size=2, warm_up=0)
    settings = MultimodalSettings(
        cups=2, rounds=1, alt_steps=4, training={"kdtree": config, "bc": config}
    )
    monkeypatch.setattr(multimodal, "QUICK", settings)
    monkeypatch.setattr(parallel, "_cores", lambda: 1)  # for so little, processes cost more
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    report = run_multimodal(tmp_path, quick=True, seed=0, device="cpu", progress=progress)
    policies = report.values["policies"]
    assert set(policies) == {"alt", "alt_top_3", "kdtree", "bc"}
    assert all(sum(found["modes"].values()) == 2 for found in policies.values())
    assert report.values["start"]["cosine_same_cup"] > 0.999  # the images are the same
    assert report.values["start"]["split_mm"] > 50.0
    assert told[-1][0] == told[-1][1]

    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "roll-outs").iterdir()}
    assert len(kept) == 4
    monkeypatch.setattr(multimodal, "CupGraspSimulation", None)  # nothing is recorded again
    again = run_multimodal(tmp_path, quick=True, seed=0, device="cpu")
    assert again.values == report.values
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "roll-outs").iterdir()} == kept
    fork, _ = forks(forked_store(tmp_path / "store", 2))
    assert len(fork.left) == len(fork.right)
    assert np.abs(fork.left - fork.right).max() > 0.1
