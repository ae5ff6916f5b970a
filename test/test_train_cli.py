"""``alt train`` and ``alt deploy`` as a person types them, in this process: torch loads once."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parent))
from bundles import write_small_bundle

from alt_ros.bundle import Bundle
from alt_ros.cli import main
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import DemonstrationStore, write_store
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.registry import InferenceConfig, load_policy
from alt_ros.types import ActionLayout, Observation

torch.set_num_threads(1)
VIEWS = ("wrist", "third_person")
QUICK = (
    *("--steps", "2", "--batch-size", "4", "--image-size", "32", "32"),
    *("--prediction-horizon", "8", "--device", "cpu"),
)


def demonstration(number: int, frames: int = 8) -> Demonstration:
    rng = np.random.default_rng(number)
    actions = rng.normal(size=(frames, 10))
    poses = np.zeros((frames, 1, 7))
    poses[..., 6] = 1.0
    return Demonstration(
        name=f"cup {number}",
        stamps=50_000_000 * np.arange(1, frames + 1),
        images={v: rng.integers(0, 256, (frames, 40, 48, 3), dtype=np.uint8) for v in VIEWS},
        poses=poses,
        grippers=np.full((frames, 1), 0.08),
        state=rng.normal(size=(frames, 3)),
        actions=actions,
        layout=ActionLayout(arms=1),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("train_cli") / "cups"
    write_store(path, [demonstration(number) for number in range(3)])
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("train_cli") / "bundle")


@pytest.fixture
def alt(monkeypatch, capsys):
    """Run the command; return what it said."""

    def run(*arguments: str | Path, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["alt", *map(str, arguments)])
        capsys.readouterr()
        assert main() == status
        said = capsys.readouterr()
        return said.out + said.err

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


def first_frame(store: Path) -> Observation:
    episode = DemonstrationStore.open(store)[0]
    return Observation(
        0,
        {view: images[0] for view, images in episode.images.items()},
        episode.poses[0],
        episode.grippers[0],
        episode.state[0],
    )


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("bc", QUICK),
        ("diffusion", (*QUICK, "--architecture", "transformer", "--crop", "0.8")),
        ("act", QUICK),
        ("vinn", (*QUICK, "--neighbours", "3")),
        ("kdtree", ("--components", "4", "--prediction-horizon", "8")),
    ],
)
def test_from_store_to_bundle_to_an_answer(tmp_path, store, bundle, alt, policy, options):
    output = tmp_path / policy
    said = alt("train", policy, store, output, *options)
    assert f"written: {output}/policy; " in said
    assert "nan" not in said
    written = json.loads((output / "training.json").read_text())
    made = PolicyCheckpoint.load(output / "policy")
    assert f"{made.parameters:,} values" in said
    assert written["spec"]["policy"] == policy
    assert made.spec.views == VIEWS
    assert made.spec.prediction_horizon == 8
    assert made.spec.state_columns == (), "images and poses unless columns are named"
    assert ("loss" in said) == (policy != "kdtree")

    said = alt("deploy", output, bundle)
    assert f"written: {bundle}/policies/{policy}; run it with --policy {policy}" in said
    answer = load_policy(policy, bundle, InferenceConfig("cpu", 1)).act(first_frame(store))
    assert answer.chunk.actions.shape[1] == 10
    assert Bundle.load(bundle, encoder=False).horizon == 4


def test_options_reach_the_network_and_the_training(tmp_path, store, alt):
    options = ("--size", "small", "--state-columns", "2", "0", "--validation", "1")
    options += ("--learning-rate", "0.01", "--seed", "4", "--precision", "bf16")
    options += ("--observation-horizon", "3", "--crop", "0.8")
    said = alt("train", "bc", store, tmp_path / "bc", *QUICK, *options)
    assert "; on held-out " in said
    made = PolicyCheckpoint.load(tmp_path / "bc" / "policy")
    spec, training = made.spec, made.provenance["training"]
    assert (spec.state_columns, spec.observation_horizon) == ((2, 0), 3)
    assert (spec.height, spec.width, spec.settings["crop"]) == (32, 32, 0.8)
    assert training["validation"] == [1]
    assert (training["steps"], training["batch_size"], training["seed"]) == (2, 4, 4)
    assert (training["learning_rate"], training["precision"]) == (0.01, "bf16")


def test_a_finished_training_returns_at_once_and_another_setting_is_refused(tmp_path, store, alt):
    train = ("train", "bc", store, tmp_path / "bc", *QUICK)
    alt(*train)
    first = PolicyCheckpoint.load(tmp_path / "bc" / "policy").arrays
    alt(*train)
    assert json.loads((tmp_path / "bc" / "training.json").read_text())["resumed_at"] == 2
    again = PolicyCheckpoint.load(tmp_path / "bc" / "policy").arrays
    assert all(np.array_equal(first[name], again[name]) for name in first)
    line = alt(*train, "--seed", "1", status=2)
    assert "is of a training with another store, policy or setting" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("policy", ["alt", "bc", "diffusion", "act", "vinn", "kdtree"])
def test_a_missing_store_ends_training_in_one_line(tmp_path, alt, policy):
    line = alt("train", policy, tmp_path / "absent", tmp_path / "out", status=2)
    assert line.startswith(f"alt: '{tmp_path}/absent' is not a store")
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bc", "--observation-horizon", "0"), "To must be at least 1"),
        (("bc", "--steps", "0"), "steps, batch_size and checkpoint_every must be at least 1"),
        (("bc", "--image-size", "8", "8"), "images must be at least 32 pixels"),
        (("bc", "--state-columns", "3"), "looks at the state's columns [3]"),
        (("bc", "--validation", "9"), "held-out demonstrations must be among 0 to 2"),
        (("bc", "--crop", "1.5"), "crop"),
        (("act", "--observation-horizon", "2"), "To must be 1"),
        (("act", "--size", "large"), "act: size must be one of small, paper"),
        (("diffusion", "--prediction-horizon", "10"), "Tp must be a multiple of 4"),
        (("vinn", "--neighbours", "0"), "neighbours"),
        (("kdtree", "--components", "99"), "components must be 1 to the 24 frames"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(tmp_path, store, alt, arguments, message):
    policy, *options = arguments
    quick = () if policy == "kdtree" else ("--steps", "1", "--batch-size", "2")
    line = alt("train", policy, store, tmp_path / "out", *quick, *options, status=2)
    assert line.startswith("alt: ")
    assert message in line
    assert line.count("\n") == 1


def test_deploying_what_is_no_policy_or_into_what_is_no_bundle_is_refused(
    tmp_path, store, bundle, alt
):
    line = alt("deploy", tmp_path, bundle, status=2)
    assert f"policy '{tmp_path}' must hold policy.json, it is missing" in line
    alt("train", "kdtree", store, tmp_path / "tree", "--components", "4")
    line = alt("deploy", tmp_path / "tree", tmp_path, status=2)
    assert "must be a bundle as 'alt index' writes it" in line
    assert line.count("\n") == 1
