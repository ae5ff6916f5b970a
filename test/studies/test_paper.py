import json

import numpy as np
import pytest
import torch

from alt_ros.geometry import arm_action
from alt_ros.memorisation.similarity import TrainingTrajectories
from alt_ros.memorisation.trajectory_distance import Trajectory
from alt_ros.studies import costs, paper
from alt_ros.studies.judged import judge
from alt_ros.studies.paper import PaperSettings, run_paper
from alt_ros.studies.report import write_report
from alt_ros.studies.rollouts import Rollouts
from alt_ros.training.policy import PolicyTrainingConfig
from alt_ros.types import ActionLayout

torch.set_num_threads(1)
LAYOUT = ActionLayout(1)
FRAMES = 24


def demonstration(side: float) -> np.ndarray:
    """Action rows of a curve that ends ``side`` metres to the left."""
    t = np.linspace(0.0, 1.0, FRAMES)
    positions = np.stack([0.5 * t, side * t**2, 0.3 - 0.2 * t], axis=1)
    poses = np.concatenate([positions, np.tile([0.0, 0.0, 0.0, 1.0], (FRAMES, 1))], axis=1)
    return arm_action(poses[:, None], np.full((FRAMES, 1), 0.08))


DEMONSTRATIONS = [demonstration(side) for side in (-0.1, 0.0, 0.12)]
TRAINING = TrainingTrajectories([Trajectory.of_actions(d, LAYOUT) for d in DEMONSTRATIONS])


def rollouts(actions: np.ndarray, expected: int) -> Rollouts:
    chunks = np.repeat(np.arange(len(actions) // 8), 8).astype(np.int64)
    return Rollouts(np.array([True]), np.array([expected]), [actions], [chunks])


def test_a_demonstration_played_back_is_a_copy():
    judged = judge(rollouts(DEMONSTRATIONS[1], 1), TRAINING, LAYOUT)
    assert judged.similarity.tolist() == [1.0]
    assert judged.copies == 1.0
    assert judged.recalled == 1


def test_pieces_of_several_demonstrations_are_copies_but_no_demonstration():
    pieces = np.concatenate([DEMONSTRATIONS[0][:8], DEMONSTRATIONS[2][8:]])
    judged = judge(rollouts(pieces, 0), TRAINING, LAYOUT)
    assert judged.copies == 1.0
    assert judged.similarity[0] < 0.999
    assert judged.recalled == 0


def test_the_mean_of_two_demonstrations_is_no_copy():
    judged = judge(rollouts(demonstration(0.06), 1), TRAINING, LAYOUT)
    assert judged.copies < 0.7
    assert judged.similarity[0] < 0.7


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_study_runs_from_nothing_and_takes_up_what_is_there(tmp_path, monkeypatch):
    config = PolicyTrainingConfig(steps=2, batch_size=2, warm_up=0)
    settings = PaperSettings(
        demonstrations=3,
        trials=1,
        alt_steps=4,
        ddim_trials=1,
        training={"diffusion": config, "act": config, "kdtree": config},
    )
    monkeypatch.setattr(paper, "QUICK", settings)
    monkeypatch.setattr(costs, "INFERENCES", 1)
    monkeypatch.setattr(paper, "SCENARIOS", ("ind", "distractors"))
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    report = run_paper(tmp_path, quick=True, seed=0, device="cpu", progress=progress)
    write_report(tmp_path, report)
    figures = json.loads((tmp_path / "tables.json").read_text())
    assert set(figures["similarity"]) == {"alt", "diffusion", "act", "kdtree"}
    assert set(figures["similarity"]["act"]) == {"ind", "distractors"}
    assert figures["copies"]["alt"]["ind"] == pytest.approx(1.0, abs=1e-9)
    wanted = {"recall", "success", "trials", "inference_ms", "memory_bytes", "parameters"}
    for name in ("alt", "diffusion_ddpm_100", "diffusion_ddim_10", "act", "kdtree"):
        assert set(figures["methods"][name]) == wanted
        assert 0 <= figures["methods"][name]["success"] <= figures["methods"][name]["trials"] == 1
    slow = figures["methods"]["diffusion_paper_ddpm_100"]
    assert slow["inference_ms"] > figures["methods"]["diffusion_paper_ddim_10"]["inference_ms"]
    assert slow["memory_bytes"] > figures["methods"]["alt"]["memory_bytes"]
    assert told[-1][0] <= told[-1][1]

    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "roll-outs").iterdir()}
    assert len(kept) == 9  # four policies, two scenarios, and DDIM once
    again = run_paper(tmp_path, quick=True, seed=0, device="cpu")
    assert again.values["similarity"] == report.values["similarity"]
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "roll-outs").iterdir()} == kept


def test_an_episode_in_which_nothing_was_followed_has_no_similarity():
    still = Rollouts(
        np.zeros(2, np.bool_),
        np.array([1, 1]),
        [np.zeros((0, 10)), DEMONSTRATIONS[1]],
        [np.zeros(0, np.int64), np.zeros(FRAMES, np.int64)],
    )
    judged = judge(still, TRAINING, LAYOUT)
    assert judged.similarity.tolist() == [1.0]
    assert judged.recalled == 1
    nothing = Rollouts(still.success[:1], still.expected[:1], still.actions[:1], still.chunks[:1])
    judged = judge(nothing, TRAINING, LAYOUT)
    assert (judged.median, judged.largest, judged.copies) == (None, None, None)
