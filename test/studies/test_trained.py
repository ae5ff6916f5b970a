import numpy as np
import pytest
import torch

from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.studies.trained import alt_bundle, cup_store, trained_checkpoint
from alt_ros.training.policy import PolicyTrainingConfig

torch.set_num_threads(1)
CONFIG = PolicyTrainingConfig(steps=1, batch_size=2, warm_up=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return cup_store(tmp_path_factory.mktemp("trained") / "store", TRAINING_PLACEMENTS[:3])


def test_demonstrations_are_recorded_once(store, monkeypatch):
    assert len(store) == 3
    monkeypatch.setattr("alt_ros.studies.trained.CupGraspSimulation", None)  # not started again
    assert cup_store(store.path, TRAINING_PLACEMENTS[:3]).frames == store.frames


def test_other_placements_are_recorded_anew(store, tmp_path):
    path = cup_store(tmp_path / "store", TRAINING_PLACEMENTS[3:4]).path
    assert list(cup_store(path, TRAINING_PLACEMENTS[4:5]).names) != list(store.names)[:1]


def test_a_bundle_and_a_policy_are_made_of_them_once(store, tmp_path):
    bundle = alt_bundle(tmp_path / "alt", store, seed=0, steps=2, device="cpu")
    made = (bundle.path / "manifest.json").read_bytes()
    again = alt_bundle(tmp_path / "alt", store, seed=0, steps=2, device="cpu")
    assert (again.path / "manifest.json").read_bytes() == made
    assert np.array_equal(again.table.actions, store.actions)
    for policy in ("bc", "kdtree"):
        one = trained_checkpoint(tmp_path / policy, store, policy, CONFIG, device="cpu")
        other = trained_checkpoint(tmp_path / policy, store, policy, CONFIG, device="cpu")
        assert one.digest == other.digest
        assert one.spec.state_columns == ()
