import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from alt_ros.demonstrations.store import write_store
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.registry import NETWORKS, InferenceConfig, load_policy
from alt_ros.training.policy import (
    CHECKPOINT,
    EMA_POWER,
    POLICY,
    RESULT,
    PolicyTrainingConfig,
    train_policy,
)
from alt_ros.training.policy_defaults import policy_spec
from alt_ros.types import Observation

QUICK = PolicyTrainingConfig(
    steps=5, batch_size=3, learning_rate=1e-3, warm_up=2, checkpoint_every=2
)
CPU = InferenceConfig("cpu", 1)


def spec_of(policy, store, **changes):
    horizon = 8 if policy in ("diffusion", "bc") else 4
    given = {"image_size": (32, 32), "prediction_horizon": horizon, **changes}
    return policy_spec(policy, store, **given)


def train(store, spec, config, output, **options):
    return train_policy(store, spec, config, output, tensorboard=False, device="cpu", **options)


def same(one, other):
    return set(one) == set(other) and all(one[n].tobytes() == other[n].tobytes() for n in one)


@pytest.fixture(scope="module", params=NETWORKS)
def unbroken(request, store, tmp_path_factory):
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp(request.param)
    done = []
    spec = spec_of(request.param, store)
    result = train(store, spec, QUICK, output, progress=lambda *now: done.append(now))
    return spec, output, result, done


@pytest.fixture(scope="module")
def halted_once(store, tmp_path_factory):
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("halted")
    train(store, spec_of("bc", store), QUICK, output, stop_at=1)
    return output / CHECKPOINT


@pytest.fixture
def halted(halted_once, tmp_path):
    """A folder with the checkpoint of a training of behaviour cloning that was broken off."""
    shutil.copy(halted_once, tmp_path)
    return tmp_path


def test_a_broken_run_goes_on_and_ends_with_the_same_weights(store, unbroken, tmp_path):
    spec, _, whole, _ = unbroken
    assert train(store, spec, QUICK, tmp_path, stop_at=2) is None
    assert not (tmp_path / POLICY).exists()
    assert train(store, spec, QUICK, tmp_path, stop_at=3) is None
    result = train(store, spec, QUICK, tmp_path)
    assert result.resumed_at == 3
    assert same(result.checkpoint.arrays, whole.checkpoint.arrays)
    assert (result.loss_first, result.loss_last) == (whole.loss_first, whole.loss_last)
    one, other = (load_file(path / CHECKPOINT) for path in (tmp_path, unbroken[1]))
    assert same(one, other), "the optimiser's state and the last weights too"


def test_a_finished_run_returns_at_once_with_the_same_weights(store, unbroken):
    spec, output, whole, _ = unbroken
    again = train(store, spec, QUICK, output)
    assert again.resumed_at == QUICK.steps
    assert again.loss_last == whole.loss_last
    assert same(again.checkpoint.arrays, whole.checkpoint.arrays)


def test_the_seed_reproduces_a_run_bit_for_bit_and_another_seed_does_not(
    store, unbroken, tmp_path
):
    spec, output, _, _ = unbroken
    first = {}
    for seed in (0, 1):
        train(store, spec, replace(QUICK, seed=seed), tmp_path / str(seed), stop_at=2)
        first[seed] = load_file(tmp_path / str(seed) / CHECKPOINT)
    losses = load_file(output / CHECKPOINT)["losses"]
    assert first[0]["losses"].tobytes() == losses[:2].tobytes()
    assert not np.isclose(first[1]["losses"], losses[:2], rtol=1e-6).any()
    weights = [n for n, a in first[0].items() if n.startswith("network/") and a.ndim > 1]
    moved = [n for n in weights if not np.array_equal(first[0][n], first[1][n])]
    assert len(moved) > 0.8 * len([n for n in weights if first[0][n].any()])


def test_what_is_deployed_is_the_average_and_not_the_last(unbroken):
    _, output, result, _ = unbroken
    saved = load_file(output / CHECKPOINT)
    part = {"average": {}, "network": {}}
    for name, array in saved.items():
        kind, _, rest = name.partition("/")
        part.get(kind, {})[rest.removeprefix("module.")] = array
    deployed = PolicyCheckpoint.load(result.folder).arrays
    tables = {"embeddings", "table", "last", "scale"}  # VINN's, filled at the end
    differ = 0
    for name in set(deployed) - tables:
        assert deployed[name].tobytes() == part["average"][name].tobytes(), name
        differ += not np.array_equal(deployed[name], part["network"][name])
    assert differ > 20


def test_progress_and_losses_count_every_step(unbroken):
    _, output, _, done = unbroken
    assert done == [(i, 5) for i in range(1, 6)]
    assert load_file(output / CHECKPOINT)["losses"].shape == (5,)


def test_the_folder_holds_checkpoint_policy_and_result(unbroken):
    spec, output, result, _ = unbroken
    assert {path.name for path in output.iterdir()} == {CHECKPOINT, POLICY, RESULT}
    read = PolicyCheckpoint.load(output / POLICY)
    assert read.spec == result.checkpoint.spec
    assert replace(read.spec, settings={}) == replace(spec, settings={})
    assert same(read.arrays, result.checkpoint.arrays)
    written = json.loads((output / RESULT).read_text())
    assert written["provenance"] == {
        "store": "cups",
        "demonstrations": 4,
        "frames": 32,
        "training": json.loads(json.dumps(QUICK.to_json())),
    }
    assert written["parameters"] == read.parameters
    assert written["spec"]["policy"] == spec.policy
    assert written["validation"] is None
    assert written["loss_last"] == pytest.approx(result.loss_last)
    assert written["seconds"] >= 0.0


def test_the_trained_policy_answers(store, unbroken):
    spec, output, _, _ = unbroken
    policy = load_policy(spec.policy, output / POLICY, CPU)
    episode = store[1]
    for frame in range(2):
        seen = Observation(
            int(episode.stamps[frame]),
            {view: images[frame] for view, images in episode.images.items()},
            episode.poses[frame],
            episode.grippers[frame],
            episode.state[frame],
        )
        chunk = policy.act(seen).chunk
        assert chunk.actions.shape == (policy.horizon, 10)


def test_the_average_is_the_published_one(store, tmp_path):
    # Chi et al. 2023: after step k the decay is 1 - (1 + k)^-0.75.
    spec = spec_of("bc", store)
    expected = None
    for done in range(1, QUICK.steps + 1):
        train(store, spec, QUICK, tmp_path, stop_at=done)
        saved = load_file(tmp_path / CHECKPOINT)
        now = {n[8:]: a.astype(np.float64) for n, a in saved.items() if n.startswith("network/")}
        decay = 1.0 - float(done) ** -EMA_POWER
        expected = now if expected is None else expected
        expected = {n: decay * expected[n] + (1.0 - decay) * a for n, a in now.items()}
        for name, array in expected.items():
            np.testing.assert_allclose(saved[f"average/module.{name}"], array, atol=1e-6)


def test_ranges_are_taken_from_what_is_trained_on_alone(store, tmp_path):
    config = replace(QUICK, steps=1, validation=(0, 3))
    result = train(store, spec_of("bc", store), config, tmp_path)
    # Column 1 of the actions is a tenth of the demonstration's number: here 0.1 to 0.2.
    assert result.checkpoint.arrays["actions.centre"][1] == pytest.approx(0.15)
    assert result.checkpoint.arrays["actions.extent"][1] == pytest.approx(0.05)


@pytest.mark.parametrize("policy", ["vinn", "kdtree"])
def test_no_table_holds_what_was_held_out(store, tmp_path, policy):
    own = {"components": 4} if policy == "kdtree" else {}
    config = replace(QUICK, steps=1, validation=(3,))
    result = train(store, spec_of(policy, store, settings=own), config, tmp_path)
    table = result.checkpoint.arrays["table" if policy == "vinn" else "actions"]
    assert len(table) > 0
    assert not np.isclose(table[:, 1], 0.3).any(), "a tenth of the demonstration's number"


def test_the_loss_falls_and_what_is_held_out_is_measured(store, tmp_path):
    config = replace(QUICK, steps=30, batch_size=8, learning_rate=2e-3, validation=(3,))
    result = train(store, spec_of("bc", store), config, tmp_path)
    assert result.loss_last < 0.5 * result.loss_first
    assert 0.0 < result.validation < math.inf
    assert json.loads((tmp_path / RESULT).read_text())["validation"] == result.validation


def test_measuring_what_is_held_out_does_not_change_the_policy(store, tmp_path):
    config = replace(QUICK, validation=(3,))
    result = train(store, spec_of("vinn", store), config, tmp_path)
    saved = load_file(tmp_path / CHECKPOINT)
    for name, array in result.checkpoint.arrays.items():
        if name.startswith("slow."):
            assert array.tobytes() == saved[f"average/module.{name}"].tobytes(), name


def test_half_precision_trains_and_keeps_whole_weights(store, unbroken, tmp_path):
    spec, output, _, _ = unbroken
    train(store, spec, replace(QUICK, precision="bf16"), tmp_path, stop_at=2)
    half, single = (load_file(path / CHECKPOINT) for path in (tmp_path, output))
    np.testing.assert_allclose(half["losses"], single["losses"][:2], rtol=0.2)
    assert not np.array_equal(half["losses"], single["losses"][:2])
    assert {n: a.dtype for n, a in half.items()} == {n: a.dtype for n, a in single.items()}


def test_training_leaves_the_callers_random_numbers_alone(store, unbroken, tmp_path):
    config = replace(QUICK, steps=1, validation=(3,))
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train(store, unbroken[0], config, tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_scalars_are_written_for_tensorboard(store, tmp_path):
    spec, config = spec_of("bc", store), replace(QUICK, steps=3, validation=(3,))
    train_policy(store, spec, config, tmp_path, device="cpu", stop_at=1)
    train_policy(store, spec, config, tmp_path, device="cpu")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "train/loss",
        "train/learning_rate",
        "validation/loss",
    }
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    saved = load_file(tmp_path / CHECKPOINT)["losses"]
    assert list(losses) == [0, 1, 2]
    np.testing.assert_allclose(list(losses.values()), saved, rtol=1e-6)


def test_a_kdtree_is_fitted_and_recalls_what_was_done(store, tmp_path):
    done = []
    spec = spec_of("kdtree", store, settings={"components": 8})
    train(store, spec, QUICK, tmp_path, progress=lambda *now: done.append(now))
    assert done == [(32, 32)]
    assert {path.name for path in tmp_path.iterdir()} == {POLICY, RESULT}
    written = json.loads((tmp_path / RESULT).read_text())
    assert (written["loss_first"], written["loss_last"], written["validation"]) == (None,) * 3
    policy, episode = load_policy("kdtree", tmp_path / POLICY, CPU), store[2]
    seen = Observation(
        0,
        {view: images[5] for view, images in episode.images.items()},
        episode.poses[5],
        episode.grippers[5],
    )
    chunk = policy.act(seen).chunk
    assert (chunk.source.demonstration, chunk.source.frame) == (2, 5)
    assert np.array_equal(chunk.actions, episode.actions[5:8]), "it ends with its demonstration"


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"batch_size": 5}, {"steps": 6}, {"validation": (1,)}]
)
def test_a_checkpoint_of_another_setting_is_refused(store, halted, change):
    spec = spec_of("bc", store)
    with pytest.raises(ConfigurationError, match="another store, policy or setting: choose"):
        train(store, spec, replace(QUICK, **change), halted)


def test_a_checkpoint_of_another_policy_or_store_is_refused(store, halted):
    with pytest.raises(ConfigurationError, match="another store, policy or setting"):
        train(store, spec_of("diffusion", store), QUICK, halted)
    fewer = write_store(halted / "fewer", [store[0], store[1]])
    with pytest.raises(ConfigurationError, match="another store, policy or setting"):
        train(fewer, spec_of("bc", fewer), QUICK, halted)


def test_a_checkpoint_of_a_store_with_other_actions_is_refused(store, halted):
    moved = [replace(store[i], actions=store[i].actions + 0.5) for i in range(4)]
    other = write_store(halted / "moved", moved)
    with pytest.raises(ConfigurationError, match="another store, policy or setting"):
        train(other, spec_of("bc", other), QUICK, halted)


def test_checkpoints_may_be_written_at_another_pace(store, halted):
    spec = spec_of("bc", store)
    assert train(store, spec, replace(QUICK, checkpoint_every=1), halted).resumed_at == 1


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_checkpoint_that_was_cut_off_is_refused_in_one_line(store, halted, share):
    spec = spec_of("bc", store)
    data = (halted / CHECKPOINT).read_bytes()
    (halted / CHECKPOINT).write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match="cannot be read: delete it to start again") as refused:
        train(store, spec, QUICK, halted)
    assert "\n" not in str(refused.value)


def test_a_safetensors_file_of_another_program_is_refused_in_one_line(store, tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / CHECKPOINT)
    with pytest.raises((ConfigurationError, DataError), match="checkpoint.safetensors"):
        train(store, spec_of("bc", store), QUICK, tmp_path)


def test_a_loss_that_is_no_number_stops_the_training(store, tmp_path):
    config = replace(QUICK, steps=20, learning_rate=1e30, warm_up=0)
    with pytest.raises(DataError, match="lower learning_rate, it is 1e\\+30"):
        train(store, spec_of("bc", store), config, tmp_path)


def test_a_policy_that_is_not_trained_here_is_refused(store, tmp_path):
    spec = replace(spec_of("bc", store), policy="remote")
    with pytest.raises(ConfigurationError, match="'remote' is not trained here: choose one of"):
        train(store, spec, QUICK, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_view_that_the_store_lacks_is_named_and_nothing_is_written(store, tmp_path):
    spec = replace(spec_of("bc", store), views=("wrist", "side"))
    with pytest.raises(DataError, match="lacks \\['side'\\]"):
        train(store, spec, QUICK, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("policy", "settings", "config", "message"),
    [
        ("vinn", {"neighbours": 0}, {}, "neighbours"),
        ("vinn", {}, {"batch_size": 1}, "batch_size"),
        ("bc", {"crop": 1.5}, {}, "crop"),
        ("act", {"crop": 0.0}, {}, "crop"),
    ],
)
def test_a_setting_that_no_network_can_be_trained_with_is_refused(
    store, tmp_path, policy, settings, config, message
):
    spec = spec_of(policy, store, settings=settings)
    with pytest.raises(ConfigurationError, match=message):
        train(store, spec, replace(QUICK, steps=1, **config), tmp_path)


@pytest.mark.parametrize("settings", [{}, {"frames": 7}])
def test_a_table_is_as_long_as_what_is_trained_on(store, tmp_path, settings):
    spec = replace(spec_of("vinn", store), settings=settings)
    result = train(store, spec, replace(QUICK, steps=1), tmp_path)
    assert result.checkpoint.spec.settings["frames"] == store.frames
    assert len(result.checkpoint.arrays["table"]) == store.frames


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps, batch_size and checkpoint_every must be at least 1"),
        ({"batch_size": 0}, "steps, batch_size and checkpoint_every must be at least 1"),
        ({"checkpoint_every": 0}, "steps, batch_size and checkpoint_every must be at least 1"),
        ({"warm_up": -1}, "warm_up not negative"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": math.nan}, "learning_rate must be positive"),
        ({"weight_decay": -1e-6}, "weight_decay and seed not negative"),
        ({"seed": -1}, "weight_decay and seed not negative"),
        ({"precision": "fp16"}, "precision must be one of fp32, bf16, got 'fp16'"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(change, message):
    with pytest.raises(ConfigurationError, match=message):
        replace(QUICK, **change)


def test_the_rate_rises_linearly_and_falls_as_half_a_cosine():
    config = PolicyTrainingConfig(steps=110, warm_up=10, learning_rate=2.0)
    rates = [config.rate(step) for step in range(110)]
    np.testing.assert_allclose(rates[:10], 2.0 * np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[10:], 1.0 + np.cos(np.pi * np.arange(100) / 100))
    assert min(rates) > 0.0
    short = PolicyTrainingConfig(steps=5, warm_up=10, learning_rate=2.0)
    assert short.rate(4) == pytest.approx(1.0)
    assert PolicyTrainingConfig(steps=5, warm_up=0, learning_rate=2.0).rate(0) == 2.0
