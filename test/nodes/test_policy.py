"""The policy node in the graph: another policy under the same executor and the same monitor."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from alt_ros.bags.reading import read_messages
from alt_ros.benchmarks.closed_loop import evaluate_in_graph, reset_trial, run_trial
from alt_ros.bundle import Bundle
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.messages import chunk_of, observation_of, stamp_of
from alt_ros.nodes.graph import Graph, policy_nodes
from alt_ros.nodes.operator import Operator
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.registry import InferenceConfig, build_network, deploy, load_policy
from alt_ros.training.policy import PolicyTrainingConfig, train_policy
from alt_ros.training.policy_defaults import policy_spec


@pytest.fixture(scope="module")
def policies(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with a k-d tree of its demonstrations, and a slow diffusion policy."""
    folder = tmp_path_factory.mktemp("policies")
    bundle = shutil.copytree(small_bundle, folder / "bundle")
    store = DemonstrationStore.open(small_bundle.parent / "store")
    tree = train_policy(
        store,
        policy_spec("kdtree", store, state_columns=()),
        PolicyTrainingConfig(),
        folder / "kdtree",
    )
    assert tree is not None
    deploy(tree.folder, bundle)
    spec = policy_spec(
        "diffusion",
        store,
        size="paper",
        state_columns=(),
        settings={"architecture": "transformer"},
    )
    network = build_network(spec)
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    PolicyCheckpoint(spec, arrays, {}).save(folder / "diffusion")
    deploy(folder / "diffusion", bundle)
    return bundle


def start(graph: Graph, policy: str, bundle: Path, folder: Path, **parameters: object) -> None:
    graph.start("sim_bridge")
    graph.start("camera_sync")
    for node, values in policy_nodes(policy, bundle).items():
        graph.start(node, values | (parameters if node == "policy" else {}))
    graph.start("executor", {"require_monitor": True})
    graph.start("episode_recorder", {"folder": folder / "bags"})


@pytest.mark.timeout(180)
def test_another_policy_grasps_the_cup_under_the_same_executor_and_monitor(
    policies: Path, make_graph: Callable[..., Graph], tmp_path: Path
) -> None:
    with make_graph() as graph, Operator(graph.check) as operator:
        start(graph, "kdtree", policies, tmp_path)
        result = run_trial(operator, "ind", 0, seed=0)
        assert result.success, result
        assert not result.flagged, result
        assert len(operator.flags) > 40, "the monitor decides beside it"
        assert {chunk.policy for chunk in operator.chunks} == {"kdtree"}
    bag = tmp_path / "bags" / "ind_00"
    seen = {stamp_of(m): m for _, _, m in read_messages(bag, ["/alt/observation"])}
    policy = load_policy("kdtree", policies, InferenceConfig("cpu", 1))
    compared = 0
    for _, _, message in read_messages(bag, ["/alt/action_chunk"]):
        logged = chunk_of(message)
        if logged.stamp in seen:
            again = policy.act(observation_of(seen[logged.stamp])).chunk
            assert again is not None
            assert np.array_equal(again.actions, logged.actions)
            compared += 1
    assert compared > 20


@pytest.mark.timeout(180)
def test_the_monitor_stops_another_policy(
    policies: Path, make_graph: Callable[..., Graph], tmp_path: Path
) -> None:
    with make_graph() as graph, Operator(graph.check) as operator:
        start(graph, "kdtree", policies, tmp_path)
        result = run_trial(operator, "covered_camera", 0, seed=0)
        assert result.flagged, result
        assert result.commands_after_flag == 0, result
        assert result.state.startswith("holding: scene is out of distribution"), result


@pytest.mark.timeout(180)
def test_inference_that_takes_too_long_sends_nothing_stale_and_stalls_nobody(
    policies: Path, make_graph: Callable[..., Graph], tmp_path: Path
) -> None:
    late = "answers after their last action was due"
    with make_graph() as graph, Operator(graph.check) as operator:
        start(graph, "diffusion", policies, tmp_path, sampler="ddpm", denoising_steps=100)

        def answered_late(since: float, before: int = 0) -> int:
            values = operator.diagnostics_since("alt: policy", since)
            return int(values[late]) if values and int(values[late]) > before else 0

        before = operator.wait_for("a late answer", lambda: answered_late(0.0), timeout=90.0)
        reset_trial(operator, "ind", 0, seed=0)
        operator.commands.clear()
        operator.flags.clear()
        began = time.monotonic()
        armed = operator.call("alt/arm")
        assert armed.success or "chunk" in armed.message
        operator.wait_for("more", lambda: answered_late(began, before + 1), timeout=60.0)
        seconds = time.monotonic() - began
        assert not operator.commands, "an old chunk moved the arm"
        # Decisions, and so observations and the encoder, came at their rate all the time.
        assert len(operator.flags) > 10.0 * seconds
        assert operator.diagnostics_since("alt: executor", began)
        began = time.monotonic()
        operator.require("alt/stop")
        assert time.monotonic() - began < 1.0


def test_a_bundle_without_the_policy_is_told_before_anything_starts(small_bundle: Path) -> None:
    from alt_ros.errors import BundleError

    with pytest.raises(BundleError, match="holds no policy 'act': train one with 'alt train act'"):
        policy_nodes("act", small_bundle)
    assert Bundle.load(small_bundle, encoder=False)


@pytest.mark.timeout(180)
@patch.dict(os.environ)  # the domain is of this test alone
def test_episodes_through_the_graph_are_counted(policies: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(2):  # again, over the bags of the first
        figures = evaluate_in_graph(
            policies,
            "ind",
            1,
            seed=0,
            policy="kdtree",
            inference=InferenceConfig("cpu", 1),
            folder=tmp_path,
            speed=0.5,
            progress=lambda done, total: told.append((done, total)),
        )
        assert figures["success"] == figures["trials"] == 1, figures
        assert 0.0 < figures["answer_ms"]["p50"] < figures["answer_ms"]["p95"]
        assert (tmp_path / "bags" / "ind_00" / "metadata.yaml").is_file()
    assert told == [(1, 1), (1, 1)]
