"""The Push-T study: recall by the state, its training, and the whole study on three seconds."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import DemonstrationStore, write_store
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.simulation.push_t import LAYOUT, PERIOD, VIEW, PushTSimulation
from alt_ros.studies import push_t
from alt_ros.studies.parallel import side_by_side
from alt_ros.studies.push_t import QUICK, PushTSettings, read_demonstrations, run_push_t
from alt_ros.studies.push_t_recall import REPEATED, SIDE, StateRecall, moved, train_pose
from alt_ros.studies.push_t_report import (
    ALT,
    CORRECTED,
    DIFFUSION,
    NEAR,
    ORDER,
    PUBLISHED,
    TRUE_CORRECTED,
    TRUE_NEAR,
    score_table,
    summarized,
)
from alt_ros.studies.report import write_report
from alt_ros.training.policy import PolicyTrainingConfig
from alt_ros.types import Observation

torch.set_num_threads(1)
needs_push_t = pytest.mark.skipif(
    importlib.util.find_spec("gym_pusht") is None,
    reason="PUSH-T NOT TESTED: pip install --no-deps gym-pusht",
)
FRAMES = 40
TINY = PushTSettings(2, 1, 10, 8, 2, 2, 32, 2, 2)
CONFIG = PolicyTrainingConfig(
    steps=4, batch_size=8, warm_up=0, learning_rate=1e-3, checkpoint_every=2
)


def demonstration(number: int) -> Demonstration:
    """Return one in which the T's blob stands somewhere else in every frame."""
    random = np.random.default_rng(number)
    states = np.column_stack(
        [random.uniform(100, 400, (FRAMES, 4)), random.uniform(0, 2 * np.pi, FRAMES)]
    )
    images = np.full((FRAMES, 96, 96, 3), 255, np.uint8)
    for image, state in zip(images, states, strict=True):
        x, y = (state[2:4] * 96 / 512).astype(int)
        image[y - 8 : y + 8, x - 8 : x + 8] = (119, 136, 153)
    return Demonstration(
        name=f"demonstration_{number}",
        stamps=np.arange(FRAMES) * PERIOD,
        images={VIEW: images},
        poses=np.zeros((FRAMES, 0, 7)),
        grippers=np.zeros((FRAMES, 0)),
        state=states,
        actions=random.uniform(0, 512, (FRAMES, 2)),
        layout=LAYOUT,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> DemonstrationStore:
    path = tmp_path_factory.mktemp("push_t") / "store"
    return write_store(path, map(demonstration, range(3)))


def seen(state: np.ndarray, stamp: int = 0) -> Observation:
    return Observation(stamp, {VIEW: np.zeros((96, 96, 3), np.uint8)}, state=state)


def recall(store: DemonstrationStore, correct: bool) -> StateRecall:
    return StateRecall(store, lambda observation: observation.state, correct=correct)


def test_the_nearest_frames_actions_are_recalled_and_never_the_next_demonstrations(store):
    policy = recall(store, False)
    for row in (0, FRAMES - 3, FRAMES, 3 * FRAMES - 1):
        chunk = policy.act(seen(store.state[row])).chunk
        assert chunk is not None
        length = min(policy.horizon, FRAMES - row % FRAMES)
        assert np.array_equal(chunk.actions, store.actions[row : row + length])


def test_an_angle_past_a_whole_turn_is_the_same_angle(store):
    state = store.state[7].copy()
    state[4] += 2.0 * np.pi
    chunk = recall(store, True).act(seen(state)).chunk
    np.testing.assert_allclose(chunk.actions[0], store.actions[7], atol=1e-9)


def test_corrected_actions_keep_their_places_on_the_t(store):
    state = store.state[11].copy()
    state[2:] += (3.0, -2.0, 0.05)
    chunk = recall(store, True).act(seen(state)).chunk

    def on_the_t(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
        cosine, sine = np.cos(-pose[4]), np.sin(-pose[4])
        return (points - pose[2:4]) @ np.array([[cosine, -sine], [sine, cosine]]).T

    recorded = store.actions[11 : 11 + len(chunk.actions)]
    np.testing.assert_allclose(
        on_the_t(chunk.actions, state), on_the_t(recorded, store.state[11]), atol=1e-9
    )
    assert np.abs(chunk.actions - recorded).max() > 1.0


def test_what_was_recalled_often_gives_way_until_the_next_episode(store):
    policy, state = recall(store, True), store.state[20]
    chunks = [policy.act(seen(state, PERIOD * i)).chunk.actions for i in range(30)]
    assert np.allclose(chunks[0][0], store.actions[20])
    assert any(not np.allclose(chunk[0], store.actions[20], atol=30.0) for chunk in chunks)
    policy.reset()
    assert np.array_equal(policy.act(seen(state)).chunk.actions, chunks[0])
    plain = recall(store, False)
    for i in range(30):
        assert np.array_equal(
            plain.act(seen(state, PERIOD * i)).chunk.actions[0], store.actions[20]
        )
    assert REPEATED < FRAMES


def test_a_training_that_was_broken_off_ends_with_the_same_weights(store, tmp_path):
    whole = train_pose(store, CONFIG, tmp_path / "whole", device="cpu")
    assert train_pose(store, CONFIG, tmp_path / "parts", device="cpu", stop_at=2) is None
    parts = train_pose(store, CONFIG, tmp_path / "parts", device="cpu")
    assert whole is not None
    assert parts is not None
    for one, other in zip(
        whole[0].state_dict().values(), parts[0].state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    with pytest.raises(ConfigurationError, match="another store, network or setting"):
        train_pose(store, replace(CONFIG, seed=1), tmp_path / "parts", device="cpu")


def test_the_network_learns_where_the_t_is_and_is_not_told(store, tmp_path):
    config = replace(CONFIG, steps=120, batch_size=32, learning_rate=2e-3, checkpoint_every=120)
    trained = train_pose(store, config, tmp_path, device="cpu")
    assert trained is not None
    network, rows = trained[0], range(0, store.frames, 5)
    images = store.images(VIEW)

    def located(row: int, state: np.ndarray) -> np.ndarray:
        return network.locate(Observation(0, {VIEW: images[row]}, state=state))

    found = np.array([located(row, store.state[row]) for row in rows])
    off = np.linalg.norm(found[:, 2:4] - store.state[rows, 2:4], axis=1).mean()
    usual = np.linalg.norm(store.state[:, 2:4] - store.state[:, 2:4].mean(axis=0), axis=1).mean()
    assert off < 0.5 * usual
    assert np.array_equal(found[:, :2], store.state[rows, :2])
    blind = np.array([located(row, store.state[row, :2]) for row in rows])
    assert np.array_equal(found, blind)


def test_a_moved_picture_tells_where_the_t_is_in_it():
    """A dark foot and a darker head: their places in the moved picture are those that are told."""
    images = torch.full((64, 3, SIDE, SIDE), 255.0)
    images[:, 0, 26:29, 20:23], images[:, 1, 17:20, 20:23] = 0.0, 0.0  # foot below head
    middle = (SIDE - 1) / 2
    foot, head = np.array([21.0, 27.0]), np.array([21.0, 18.0])
    place = torch.tensor((foot - middle) / (SIDE / 2)).float()
    direction = torch.tensor((head - foot) / np.linalg.norm(head - foot)).float()
    told = torch.cat([place, direction]).expand(64, 4)
    shown, wanted = moved(images, told, np.random.default_rng(0))
    still = (wanted == told).all(dim=1)
    assert 8 < still.sum() < 32, "a share of them stays as it was"
    assert torch.equal(shown[still], images[still])
    axis = np.arange(SIDE)
    for image, (x, y, cosine, sine) in zip(shown.numpy(), wanted.numpy(), strict=True):
        dark = 255.0 - image[:2]
        found = [
            np.array([(channel.sum(0) * axis).sum(), (channel.sum(1) * axis).sum()])
            / channel.sum()
            for channel in dark
        ]
        assert found[0] == pytest.approx(np.array([x, y]) * SIDE / 2 + middle, abs=0.4)
        assert found[1] - found[0] == pytest.approx(9.0 * np.array([cosine, sine]), abs=0.4)


def test_a_store_of_another_robot_is_refused(store, tmp_path):
    other = write_store(
        tmp_path / "store", [replace(demonstration(0), state=np.zeros((FRAMES, 4)))]
    )
    with pytest.raises(DataError, match="states of 5"):
        recall(other, True)
    with pytest.raises(DataError, match="states of 5"):
        train_pose(other, CONFIG, tmp_path / "training", device="cpu")


@pytest.mark.parametrize("name", [None, "absent.zarr.zip"])
def test_without_the_demonstrations_it_says_where_to_get_them(tmp_path, name):
    data = None if name is None else tmp_path / name
    with pytest.raises(DataError, match=r"pusht\.zip.*--data"):
        run_push_t(tmp_path, quick=True, seed=0, device="cpu", data=data)


def figures(**scores: float) -> dict[str, dict]:
    def one(score: float) -> dict:
        return {
            "trials": 50,
            "success": 1,
            "mean_score": score,
            "mean_score_interval_95": [score - 0.01, score + 0.01],
            "best_score": 1.0,
            "answer_ms": {"median": 1.0, "p95": 2.0},
            "training_s": 60.0,
            "action_horizon": 8,
        }

    return {name: one(scores.get(name, 0.5)) for name in ORDER}


def test_the_sentences_follow_the_figures():
    strong = {CORRECTED: 0.82, NEAR: 0.6, TRUE_CORRECTED: 0.98, TRUE_NEAR: 0.7, ALT: 0.3}
    said = " ".join(summarized(figures(**strong), 206, 4_000))
    assert f"{CORRECTED}, 0.820 (0.810 to 0.830)" in said
    assert "published mean of 1 of 2 methods, with the whole interval above 1" in said
    assert "more is telling from the image" in said
    assert "+0.220 with images and by +0.280" in said
    assert "barely trained" not in said
    weak = " ".join(summarized(figures(**{**strong, TRUE_CORRECTED: 0.83}), 206, 60))
    assert "more is what is recalled: the image costs 0.010" in weak
    even = " ".join(summarized(figures(**{**strong, TRUE_CORRECTED: 0.80}), 206, 60))
    assert "with images it scores no less (+0.020)" in even
    assert "60 steps: it is barely trained" in weak


def test_nobodys_true_state_is_called_the_best():
    assert CORRECTED in summarized(figures(**{CORRECTED: 0.6, TRUE_CORRECTED: 0.9}), 206, 60)[0]


def test_published_figures_stand_apart_in_the_table():
    table = score_table(figures())
    assert [row[0] for row in table.rows[: len(ORDER)]] == list(ORDER)
    rows = table.rows[len(ORDER) :]
    assert [(row[0], row[1], row[-1]) for row in rows] == list(PUBLISHED)
    assert all(str(row[0]).startswith("published") for row in rows)


def write_replay_buffer(path, demonstrations):
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    data = root.create_group("data")
    for key, values in {
        "img": np.concatenate([d[0] for d in demonstrations]).astype(np.float32),
        "state": np.concatenate([d[1] for d in demonstrations]),
        "action": np.concatenate([d[2] for d in demonstrations]),
    }.items():
        data.create_array(key, data=values, chunks=(16, *values.shape[1:]))
    ends = np.cumsum([len(d[1]) for d in demonstrations])
    root.create_group("meta").create_array("episode_ends", data=ends)
    return path


def recorded(seed: int, frames: int = 20):
    """Return images, states and actions of a finger that goes to the T."""
    simulation = PushTSimulation()
    simulation.reset(seed)
    parts = []
    for _ in range(frames):
        observation = simulation.observation()
        action = 0.5 * (observation.state[:2] + observation.state[2:4])
        parts.append((observation.images[VIEW], observation.state, action))
        simulation.step(action)
    return [np.array(column) for column in zip(*parts, strict=True)]


@needs_push_t
def test_the_whole_study_is_made_once_and_taken_up_again(tmp_path, monkeypatch):
    data = write_replay_buffer(tmp_path / "set.zarr", [recorded(seed) for seed in range(3)])
    monkeypatch.setattr(push_t, "QUICK", TINY)
    monkeypatch.setattr(push_t, "side_by_side", _alone)
    report = run_push_t(tmp_path, quick=True, seed=0, device="cpu", data=data)
    assert tuple(report.values["policies"]) == ORDER
    assert report.values["demonstrations"] == TINY.demonstrations
    for name, of in report.values["policies"].items():
        assert 0.0 <= of["mean_score"] <= 1.0
        assert ("pose_error" in of) == (name in (CORRECTED, NEAR))
    assert "nothing here is comparable" in " ".join(report.summary)
    assert any(DIFFUSION in plot.title for plot in report.plots)
    assert write_report(tmp_path / "page", report).is_file()
    files = sorted((tmp_path / "quick" / "evaluations").glob("*.json"))
    assert len(files) == len(ORDER)
    before = [file.stat().st_mtime_ns for file in files]
    again = run_push_t(tmp_path, quick=True, seed=0, device="cpu", data=data)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert again.values == report.values


def _alone(parts, progress, workers):
    del workers
    return side_by_side(parts, progress, 1)


@needs_push_t
def test_the_store_is_written_anew_for_more_demonstrations(tmp_path):
    data = write_replay_buffer(tmp_path / "set.zarr", [recorded(seed, 4) for seed in range(2)])
    folder = tmp_path / "store"
    assert len(read_demonstrations(data, folder, 1)) == 1
    assert len(read_demonstrations(data, folder, QUICK.demonstrations)) == 2
    assert len(read_demonstrations(None, folder, 1)) == 2
