"""The Push-T benchmark: a nearest-neighbour policy of some demonstrations, run for real."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alt_ros.benchmarks.push_t import SEEDS, draw_push_t, evaluate_push_t, summarize_push_t
from alt_ros.demonstrations.zarr_replay_buffer import ZarrReplayBuffer
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.policies.kdtree import KdTreePolicy, fit_kdtree
from alt_ros.policies.spec import PolicySpec
from alt_ros.simulation.push_t import LAYOUT, PERIOD, VIEW, PushTEpisode

needs_push_t = pytest.mark.skipif(
    importlib.util.find_spec("gym_pusht") is None,
    reason="PUSH-T NOT TESTED: pip install --no-deps gym-pusht",
)
DEMONSTRATIONS = 20


@pytest.fixture(scope="module")
def policy() -> KdTreePolicy:
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    path = Path(os.environ.get("ALT_ROS_SHARED_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: '{path}' is absent, set ALT_ROS_SHARED_DATA")
    buffer = ZarrReplayBuffer(path / "pusht_human" / "pusht_cchi_v7_replay.zarr.zip")
    spec = PolicySpec(
        policy="kdtree",
        size="small",
        views=buffer.views,
        height=96,
        width=96,
        arms=LAYOUT.arms,
        extra=LAYOUT.extra,
        period=PERIOD,
        state_columns=(0, 1),
        observation_horizon=1,
        prediction_horizon=16,
        settings={"components": 16},
    )
    shown = [buffer[number] for number in range(DEMONSTRATIONS)]
    images = np.concatenate([np.asarray(d.images[VIEW]) for d in shown])
    return KdTreePolicy(
        fit_kdtree(
            spec,
            lambda rows: images[rows].transpose(0, 3, 1, 2)[:, None],
            np.concatenate([d.state[:, :2] for d in shown]).astype(np.float32),
            np.concatenate([d.actions for d in shown]),
            np.cumsum([len(d.stamps) for d in shown]),
            {},
        )
    )


def episode(score: float = 0.5, seed: int = 0, *, success: bool = False) -> PushTEpisode:
    return PushTEpisode(
        seed=seed,
        score=score,
        coverage=score / 2,
        success=success,
        actions=np.zeros((3, 2)),
        states=np.zeros((4, 5)),
        answer_ms=np.array([2.0]),
        picture=np.full((256, 256, 3), 255, np.uint8),
    )


@needs_push_t
def test_a_table_of_demonstrations_redoes_one_from_its_start_and_less_elsewhere(policy, tmp_path):
    done: list[tuple[int, int]] = []
    picture = tmp_path / "ends.png"
    own = evaluate_push_t(
        policy, (0, 3), picture=picture, progress=lambda *now: done.append(now), max_steps=170
    )
    assert done == [(1, 2), (2, 2)]
    assert [e["seed"] for e in own["episodes"]] == [0, 3]
    assert own["mean_score"] > 0.7, "the demonstrations of these very starts are in the table"
    assert own["answer_ms"]["median"] > 0.0
    assert own["max_steps"] == 170
    strange = evaluate_push_t(policy, SEEDS[:2], max_steps=100)
    assert 0.0 <= strange["mean_score"] < own["mean_score"]
    drawn = cv2.imread(str(picture))
    assert drawn.shape == (214, 2 * 192 + 4, 3)
    for tile in (drawn[:192, :192], drawn[:192, 196:]):
        grey = np.abs(tile.astype(int) - (184, 163, 143)).max(axis=2) < 4
        assert grey.sum() > 500, "the T, blue first"


def test_the_figures_are_those_of_the_episodes():
    episodes = [episode(0.2, 1), episode(1.0, 2, success=True), episode(0.6, 3)]
    values = summarize_push_t(episodes)
    assert values["mean_score"] == 0.6
    assert values["best_score"] == 1.0
    assert (values["success"], values["trials"]) == (1, 3)
    assert values["mean_final_coverage"] == 0.3
    assert values["answer_ms"] == {"median": 2.0, "p95": 2.0}
    low, high = values["mean_score_interval_95"]
    assert 0.2 <= low < 0.6 < high <= 1.0
    assert values["episodes"][1] == {
        "seed": 2,
        "score": 1.0,
        "final_coverage": 0.5,
        "success": True,
        "steps": 3,
    }


def test_the_interval_narrows_as_the_episodes_grow():
    few = summarize_push_t([episode(score) for score in (0.0, 1.0)] * 5)
    many = summarize_push_t([episode(score) for score in (0.0, 1.0)] * 50)
    widths = [np.diff(values["mean_score_interval_95"])[0] for values in (few, many)]
    assert widths[0] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(10), rel=0.1)
    assert widths[1] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(100), rel=0.1)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_the_interval_holds_the_mean_and_lies_within_the_scores(scores):
    values = summarize_push_t([episode(score) for score in scores])
    low, high = values["mean_score_interval_95"]
    assert min(scores) - 1e-4 <= low <= high <= max(scores) + 1e-4
    assert low - 1e-4 <= values["mean_score"] <= high + 1e-4 or len(set(scores)) > 1


def test_the_sheet_has_ten_tiles_a_row_and_fills_the_last(tmp_path):
    path = tmp_path / "sheet.png"
    draw_push_t(path, [episode(seed=seed) for seed in range(12)])
    assert cv2.imread(str(path)).shape == (2 * 214 + 4, 10 * 192 + 9 * 4, 3)
    draw_push_t(path, [replace(episode(), seed=4)])
    assert cv2.imread(str(path)).shape == (214, 192, 3)


def test_what_cannot_be_done_is_refused(tmp_path):
    unused: KdTreePolicy = None
    for seeds in ((), (1, 1)):
        with pytest.raises(ConfigurationError, match="seeds must be distinct, at least one"):
            evaluate_push_t(unused, seeds)
    for function in (summarize_push_t, lambda none: draw_push_t(tmp_path / "a.png", none)):
        with pytest.raises(ConfigurationError, match="at least one episode is needed"):
            function([])
    with pytest.raises(DataError, match="cannot be written"):
        draw_push_t(tmp_path / "sheet", [episode()])
