import json
import shutil
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from trained_conformance import TrainedPolicyConformance, checkpoint, seen

sys.path.insert(0, str(Path(__file__).parents[1]))
from bundles import CALIBRATION, observation, write_small_bundle

from alt_ros.bundle import Bundle
from alt_ros.errors import BundleError, ConfigurationError
from alt_ros.lookup.calibration import Calibration
from alt_ros.nodes.graph import policy_nodes
from alt_ros.policies.alt import AltPolicy
from alt_ros.policies.checkpoint import WEIGHTS, PolicyCheckpoint
from alt_ros.policies.network_policy import NetworkPolicy
from alt_ros.policies.registry import (
    COMPARED,
    NETWORKS,
    POLICIES,
    TRAINED,
    InferenceConfig,
    build_network,
    deploy,
    load_policy,
    trained_policy,
    verify,
)

CPU = InferenceConfig("cpu", 1)
REMOTE = {
    "protocol": "openpi",
    "host": "127.0.0.1",
    "port": 8000,
    "views": {"wrist": "image"},
    "image_size": [16, 24],
    "image_fit": "stretch",
    "prompt": "go",
    "prompt_key": "prompt",
    "state": [],
    "actions": [{"key": "actions", "columns": ["position", "rotation_vector", "gripper"]}],
    "motion": "absolute",
    "period": 50_000_000,
    "horizon": 8,
}


class Shape(TrainedPolicyConformance):
    """Makes specs; none of its tests are collected, as its name does not begin with Test."""

    HORIZONS: ClassVar = {"diffusion": (2, 8), "bc": (2, 8)}
    OWN: ClassVar = {"vinn": {"frames": 16}, "kdtree": {"components": 4}}

    def of(self, policy, **changes):
        to, tp = self.HORIZONS.get(policy, (1, 8))
        values = {"policy": policy, "observation_horizon": to, "prediction_horizon": tp}
        values |= {"settings": self.OWN.get(policy, {})}
        self.policy_name = policy
        return self.spec(**values | changes)


spec = Shape().of


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_small_bundle(tmp_path_factory.mktemp("registry") / "cup")


@pytest.fixture
def bundle(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "cup"))


@pytest.fixture
def folder(tmp_path):
    return checkpoint(spec("bc")).save(tmp_path / "trained")


def write_remote(folder, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "remote.json").write_text(json.dumps({**REMOTE, **changes}))
    return folder


@pytest.mark.parametrize("name", TRAINED)
def test_a_deployed_policy_is_loaded_from_the_bundle_and_answers_as_it_was_trained(
    name, bundle, tmp_path
):
    made = checkpoint(spec(name))
    placed = deploy(made.save(tmp_path / "trained"), bundle)
    assert placed == bundle / "policies" / name
    verify(name, bundle)
    loaded, trained = load_policy(name, bundle, CPU), trained_policy(made, CPU)
    for frame in range(2):
        observation = seen(made.spec, frame, frame * made.spec.period)
        one, other = loaded.act(observation).chunk, trained.act(observation).chunk
        assert one.actions.tobytes() == other.actions.tobytes()


def test_deploying_leaves_alt_and_the_monitor_as_they_were(bundle, folder):
    before = load_policy("alt", bundle, CPU).act(observation(12))
    deploy(folder, bundle)
    policy = load_policy("alt", bundle, CPU)
    assert isinstance(policy, AltPolicy)
    after = policy.act(observation(12))
    assert np.array_equal(before.chunk.actions, after.chunk.actions)
    assert before.ood == after.ood
    assert Bundle.load(bundle, encoder=False).calibration == CALIBRATION


def test_a_policy_of_the_same_kind_is_replaced_and_others_stay(bundle, tmp_path):
    deploy(checkpoint(spec("kdtree")).save(tmp_path / "tree"), bundle)
    deploy(checkpoint(spec("bc")).save(tmp_path / "old"), bundle)
    deploy(checkpoint(spec("bc", prediction_horizon=4)).save(tmp_path / "new"), bundle)
    assert load_policy("bc", bundle, CPU).horizon == 3
    assert load_policy("kdtree", bundle, CPU).horizon == 8
    assert sorted(path.name for path in (bundle / "policies").iterdir()) == ["bc", "kdtree"]


def test_a_recalibrated_bundle_keeps_what_was_deployed(bundle, folder, tmp_path):
    deploy(folder, bundle)
    deploy(write_remote(tmp_path / "served"), bundle)
    expected = PolicyCheckpoint.load(folder)
    Bundle.load(bundle, encoder=False).recalibrated(Calibration.given(0.6))
    assert Bundle.load(bundle, encoder=False).calibration == Calibration.given(0.6)
    kept = PolicyCheckpoint.load(bundle / "policies" / "bc")
    assert kept.spec == expected.spec
    assert all(np.array_equal(kept.arrays[n], a) for n, a in expected.arrays.items())
    assert json.loads((bundle / "policies" / "remote" / "remote.json").read_text()) == REMOTE


def test_a_served_policy_is_deployed_and_replaced(bundle, tmp_path):
    placed = deploy(write_remote(tmp_path / "served"), bundle)
    assert placed == bundle / "policies" / "remote"
    verify("remote", bundle)
    deploy(write_remote(tmp_path / "served", port=9000), bundle)
    assert json.loads((placed / "remote.json").read_text())["port"] == 9000


def test_a_damaged_description_of_a_served_policy_is_not_deployed(bundle, tmp_path):
    with pytest.raises(ConfigurationError, match="port must be 1 to 65535"):
        deploy(write_remote(tmp_path / "served", port=0), bundle)
    assert not (bundle / "policies").exists()


def test_a_damaged_policy_is_not_deployed(bundle, folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(BundleError, match="differs from its SHA-256"):
        deploy(folder, bundle)
    assert not (bundle / "policies").exists()


def test_a_policy_is_deployed_into_bundles_alone(folder, tmp_path):
    with pytest.raises(BundleError, match="must be a bundle as 'alt index' writes it"):
        deploy(folder, tmp_path)
    assert not (tmp_path / "policies").exists()


def test_a_policy_of_another_robot_is_not_deployed(bundle, tmp_path):
    # The executor follows its chunks, the bundle's monitor watches its observations.
    two_arms = checkpoint(spec("bc", arms=2)).save(tmp_path / "two_arms")
    with pytest.raises(BundleError, match="arms"):
        deploy(two_arms, bundle)


@pytest.mark.parametrize("name", TRAINED)
def test_a_policy_that_was_not_deployed_is_told_with_the_remedy(name, bundle):
    message = f"'{bundle}' holds no policy '{name}': train one with 'alt train {name}', then"
    for ask in (load_policy, verify):
        with pytest.raises(BundleError) as refused:
            ask(name, bundle)
        assert message in str(refused.value)


def test_a_served_policy_that_was_not_deployed_asks_for_its_description(bundle):
    with pytest.raises(BundleError, match="holds no policy 'remote': write remote.json, then"):
        load_policy("remote", bundle)


@pytest.mark.parametrize("ask", [load_policy, verify])
def test_a_name_that_is_none_is_answered_with_those_that_exist(bundle, ask):
    with pytest.raises(ConfigurationError) as refused:
        ask("gpt", bundle)
    assert "policy 'gpt' does not exist: choose one of alt, diffusion, act" in str(refused.value)


@pytest.mark.parametrize("ask", [load_policy, verify])
def test_a_folder_of_another_kind_is_told(folder, ask):
    with pytest.raises(BundleError, match="is 'bc', asked for is 'act': name the other"):
        ask("act", folder)


def test_names_are_grouped_without_a_gap():
    assert set(NETWORKS) < set(TRAINED) < set(COMPARED) < set(POLICIES)
    assert len(POLICIES) == len(set(POLICIES))


@pytest.mark.parametrize("name", ["kdtree", "alt", "remote", "gpt"])
def test_a_policy_without_a_network_is_told(name):
    with pytest.raises(ConfigurationError, match=f"policy '{name}' has no network: choose one of"):
        build_network(spec(name))


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_that_are_none_are_refused(threads):
    before = torch.get_num_threads()
    with pytest.raises(ConfigurationError, match=f"threads at least 1, got 0 and {threads}"):
        trained_policy(checkpoint(spec("bc")), InferenceConfig("cpu", threads))
    assert torch.get_num_threads() == before


def test_a_seed_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="seed"):
        trained_policy(checkpoint(spec("bc")), InferenceConfig("cpu", 1, seed=-1))


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigurationError, match="device"):
        trained_policy(checkpoint(spec("bc")), InferenceConfig("abacus", 1))


def test_weights_that_do_not_fit_their_spec_are_told_in_one_line():
    made = checkpoint(spec("bc"))
    other = PolicyCheckpoint(spec("bc", state_columns=(0,)), made.arrays, {})
    with pytest.raises(BundleError, match="do not fit its spec .* train it again") as refused:
        trained_policy(other, CPU)
    assert "\n" not in str(refused.value)
    fewer = dict(made.arrays)
    del fewer["actions.centre"]
    with pytest.raises(BundleError, match="actions.centre"):
        trained_policy(PolicyCheckpoint(made.spec, fewer, {}), CPU)


def test_sampler_and_ensemble_are_handed_on():
    made = checkpoint(spec("diffusion"))
    policy = trained_policy(made, InferenceConfig("cpu", 1, sampler="ddpm", denoising_steps=3))
    assert isinstance(policy, NetworkPolicy)
    config = policy.network.diffusion.config
    assert (config.sampler, config.steps) == ("ddpm", 3)
    with pytest.raises(ConfigurationError, match="decay must be 0 or more"):
        trained_policy(made, InferenceConfig("cpu", 1, ensemble_decay=-1.0))


def test_alt_needs_the_encoder_and_the_lookup_alone(bundle):
    folder = {"bundle": str(bundle)}
    assert policy_nodes("alt", bundle) == {"encoder": folder, "lookup": folder}


def test_another_policy_is_watched_by_the_bundles_monitor_that_sends_no_chunks(bundle, folder):
    deploy(folder, bundle)
    nodes = policy_nodes("bc", bundle)
    assert nodes == {
        "encoder": {"bundle": str(bundle)},
        "lookup": {"bundle": str(bundle), "publish_chunks": False},
        "policy": {"bundle": str(bundle), "policy": "bc"},
    }


def test_nodes_are_not_started_for_what_the_bundle_lacks(bundle, tmp_path):
    with pytest.raises(BundleError, match="holds no policy 'act'"):
        policy_nodes("act", bundle)
    with pytest.raises(BundleError, match="must hold manifest.json"):
        policy_nodes("alt", tmp_path / "absent")
    with pytest.raises(ConfigurationError, match="does not exist"):
        policy_nodes("gpt", bundle)


def test_nodes_are_given_an_absolute_path(bundle, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    assert policy_nodes("alt", Path("cup"))["encoder"] == {"bundle": str(bundle.resolve())}
