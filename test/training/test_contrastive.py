import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from alt_ros.encoders.spec import EncoderSpec
from alt_ros.encoders.torchscript import load_encoder
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.training.configuration import TrainingConfig
from alt_ros.training.contrastive import train_encoder

QUICK = TrainingConfig(
    steps=6, batch_size=8, learning_rate=1e-3, schedule="one_cycle", checkpoint_every=2
)


def weights(path):
    return dict(load_encoder_state(path))


def load_encoder_state(path):
    module = torch.load(path / "checkpoint.pt", weights_only=True)
    return module["encoder"].items()


def embedding(result, seed=0):
    module = load_encoder(result.encoder, torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((1, 2, 3, 32, 32), generator=generator)
    with torch.inference_mode():
        for _ in range(3):
            values, _ = module(images, torch.zeros(1, 1, 7))
    return values


@pytest.fixture(scope="module")
def unbroken(store, spec, tmp_path_factory):
    output = tmp_path_factory.mktemp("unbroken")
    torch.set_num_threads(1)
    done = []
    result = train_encoder(
        store, spec, QUICK, output, progress=lambda *now: done.append(now), device="cpu"
    )
    return output, result, done


def test_a_broken_run_goes_on_and_ends_with_the_same_weights(store, spec, unbroken, tmp_path):
    for stop in (1, 3, 5):
        halted = train_encoder(
            store, spec, QUICK, tmp_path, stop_at=stop, tensorboard=False, device="cpu"
        )
        assert halted is None
    result = train_encoder(store, spec, QUICK, tmp_path, tensorboard=False, device="cpu")
    assert result.resumed_at == 5
    whole = weights(unbroken[0])
    for name, value in weights(tmp_path).items():
        assert torch.equal(value, whole[name]), name
    assert torch.equal(embedding(result), embedding(unbroken[1]))
    assert result.loss_last == unbroken[1].loss_last


def test_progress_counts_every_step(unbroken):
    assert unbroken[2] == [(i, 6) for i in range(1, 7)]


def test_the_folder_holds_encoder_checkpoint_result_and_events(unbroken):
    output, result, _ = unbroken
    names = {path.name for path in output.iterdir()}
    assert {"encoder.pt", "checkpoint.pt", "training.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".partial") for name in names)
    written = json.loads((output / "training.json").read_text())
    assert written["encoder_id"] == result.encoder_id
    assert written["config"]["steps"] == 6


def test_training_leaves_the_callers_random_numbers_alone(store, spec, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    short = TrainingConfig(steps=1, batch_size=4)
    train_encoder(store, spec, short, tmp_path, tensorboard=False, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_the_loss_falls_and_a_held_out_demonstration_is_measured(store, spec, tmp_path):
    config = TrainingConfig(
        steps=40, batch_size=8, learning_rate=2e-3, schedule="one_cycle", validation=(3,)
    )
    result = train_encoder(store, spec, config, tmp_path, tensorboard=False, device="cpu")
    assert result.loss_last < 0.8 * result.loss_first
    assert 0.0 <= result.validation < 1.0


def test_a_checkpoint_of_another_run_is_refused(store, spec, unbroken):
    other = TrainingConfig(steps=6, batch_size=8, seed=1)
    with pytest.raises(ConfigurationError, match="another store, network or setting"):
        train_encoder(store, spec, other, unbroken[0], device="cpu")


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_a_damaged_checkpoint_is_refused_with_the_remedy(store, spec, tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(DataError, match="delete it to start again"):
        train_encoder(store, spec, QUICK, tmp_path, device="cpu")


def test_a_view_that_the_store_lacks_is_named(store, tmp_path):
    spec = EncoderSpec(("wrist", "side"), 32, 32)
    with pytest.raises(DataError, match="lacks \\['side'\\]"):
        train_encoder(store, spec, QUICK, tmp_path, device="cpu")


@pytest.mark.parametrize("validation", [(4,), (0, 1, 2, 3)])
def test_demonstrations_that_cannot_be_held_out_are_refused(store, spec, tmp_path, validation):
    config = TrainingConfig(steps=1, validation=validation)
    with pytest.raises(ConfigurationError, match="held-out"):
        train_encoder(store, spec, config, tmp_path, device="cpu")


def test_a_loss_that_is_no_number_stops_the_training(store, spec, tmp_path):
    config = TrainingConfig(steps=20, batch_size=4, learning_rate=1e30)
    with pytest.raises(DataError, match="lower learning_rate"):
        train_encoder(store, spec, config, tmp_path, tensorboard=False, device="cpu")


def test_with_a_task_head_frames_of_like_motion_come_near_and_a_broken_run_goes_on(
    store, spec, tmp_path
):
    config = replace(QUICK, steps=60, contrastive_weight=0.0, task_weight=1.0, checkpoint_every=30)
    train_encoder(store, spec, config, tmp_path / "broken", stop_at=30, tensorboard=False)
    result = train_encoder(store, spec, config, tmp_path / "broken", tensorboard=False)
    whole = train_encoder(store, spec, config, tmp_path / "whole", tensorboard=False)
    assert result is not None
    assert whole is not None
    assert result.resumed_at == 30
    assert result.loss_last == whole.loss_last
    assert whole.loss_last < 0.6 * whole.loss_first


def test_positives_of_a_time_contrastive_run_stay_in_their_demonstration(store, spec, tmp_path):
    far, near = (
        train_encoder(
            store,
            spec,
            replace(QUICK, positive_reach=reach),
            tmp_path / str(reach),
            tensorboard=False,
        )
        for reach in (100, 0)
    )
    assert far is not None
    assert near is not None
    assert np.isfinite(far.loss_last)
    assert far.loss_last > near.loss_last  # the ends of a demonstration are not one frame


@pytest.mark.parametrize(
    "change", [{"contrastive_weight": 0.0}, {"task_weight": -1.0}, {"positive_reach": -1}]
)
def test_weights_that_train_nothing_are_refused(change):
    with pytest.raises(ConfigurationError, match="contrastive_weight and task_weight"):
        replace(QUICK, **change)
