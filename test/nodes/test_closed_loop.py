from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from alt_ros.audit.bag_audit import audit_bag
from alt_ros.bags.reading import read_messages
from alt_ros.benchmarks.closed_loop import reset_trial, run_trial, start_recording
from alt_ros.bundle import Bundle
from alt_ros.demonstrations.rosbag import BagTopics, replay_observations
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.messages import (
    decision_of,
    observation_digest,
    observation_of,
    query_of,
    stamp_of,
)
from alt_ros.nodes.graph import Graph
from alt_ros.nodes.operator import Operator
from alt_ros.synchronization import SynchronizationConfig

NODES = ("camera_sync", "encoder", "lookup", "executor")


@pytest.fixture(scope="module")
def running(
    ros_environment: dict[str, str],
    small_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Graph, Operator, Path]]:
    """The whole graph on the simulation, and where it records."""
    from alt_ros.nodes import graph as ros_graph

    folder = tmp_path_factory.mktemp("closed_loop")
    config = ros_graph.share() / "config"
    files = [config / "alt.yaml", config / "simulation.yaml"]
    with (
        Graph(folder / "logs", ros_environment, files) as graph,
        Operator(graph.check) as operator,
    ):
        graph.start("sim_bridge")
        for node in NODES:
            bundle = {"bundle": small_bundle} if node in ("encoder", "lookup") else {}
            graph.start(node, bundle)
        graph.start("episode_recorder", {"folder": folder / "bags"})
        yield graph, operator, folder / "bags"


@pytest.mark.timeout(180)
def test_the_graph_grasps_the_cup_and_its_bag_replays_bit_for_bit(
    running: tuple[Graph, Operator, Path], small_bundle: Path
) -> None:
    _, operator, bags = running
    result = run_trial(operator, "ind", 0, seed=0)
    assert result.success, result
    assert not result.flagged, result
    assert operator.state.latency_p50_ms > 0.0

    bag = bags / "ind_00"
    logged = {
        stamp_of(m): observation_digest(observation_of(m))
        for _, _, m in read_messages(bag, ["/alt/observation"])
    }
    config = SynchronizationConfig(("wrist", "third_person"))
    replayed = {o.stamp: o for o in replay_observations(bag, BagTopics(), config)}
    # The bag's first and last frames may lack what came before it was opened or after.
    both = sorted(logged.keys() & replayed.keys())
    assert len(both) >= 0.95 * len(logged) > 40
    assert {s: observation_digest(replayed[s]) for s in both} == {s: logged[s] for s in both}

    bundle = Bundle.load(small_bundle, threads=1)
    assert bundle.encoder is not None
    embedded = {
        stamp_of(m): np.array(m.values, np.float32)
        for _, _, m in read_messages(bag, ["/alt/embedding"])
    }
    both = [s for s in both if s in embedded]
    assert len(both) > 40
    for stamp in both:
        values = bundle.encoder.embed(replayed[stamp]).values
        assert values.tobytes() == embedded[stamp].tobytes(), stamp


def test_the_logged_decisions_are_those_that_the_core_takes_again(
    running: tuple[Graph, Operator, Path], small_bundle: Path
) -> None:
    _, operator, bags = running
    bag = bags / "ind_00"
    if not bag.exists():
        assert run_trial(operator, "ind", 0, seed=0).success
    lookup = Bundle.load(small_bundle, encoder=False).lookup()
    flags, chunks = {}, {}
    for topic, _, message in read_messages(bag, ["/alt/ood", "/alt/action_chunk"]):
        (flags if topic == "/alt/ood" else chunks)[stamp_of(message)] = message
    embeddings = [m for _, _, m in read_messages(bag, ["/alt/embedding"])]
    stamps = np.array([stamp_of(m) for m in embeddings])
    gaps = np.flatnonzero(np.diff(stamps) > RetrievalConfig.reset_gap)
    assert len(gaps), "the bag must hold the reset, from which on decisions are reproducible"
    reset = int(gaps[-1]) + 1
    compared = 0
    for message in embeddings[reset:]:
        chunk, decision = lookup.step(query_of(message))
        flag, logged = flags.get(chunk.stamp), chunks.get(chunk.stamp)
        if flag is None or logged is None:
            continue
        compared += 1
        np.testing.assert_equal(asdict(decision_of(flag)), asdict(decision))  # NaN are equal
        assert np.array_equal(np.array(logged.actions), chunk.actions.ravel())
    assert compared >= 0.95 * len(embeddings[reset:]) > 40


@pytest.mark.timeout(120)
def test_a_covered_camera_is_flagged_and_only_the_braking_is_sent(
    running: tuple[Graph, Operator, Path],
) -> None:
    _, operator, _ = running
    result = run_trial(operator, "covered_camera", 0, seed=0)
    assert result.flagged, result
    assert result.commands_after_flag == 0, result
    assert result.state.startswith("holding: scene is out of distribution"), result


@pytest.mark.timeout(120)
def test_stop_latches_and_arm_ends_it(running: tuple[Graph, Operator, Path]) -> None:
    _, operator, _ = running
    reset_trial(operator, "ind", 1, seed=0)
    operator.wait_for("arming", lambda: operator.call("alt/arm").success, timeout=20.0)
    operator.wait_for("commands", lambda: operator.state.state == "running", timeout=10.0)
    operator.require("alt/stop")
    operator.wait_for("the stop", lambda: operator.state.state == "stopped", timeout=2.0)
    time.sleep(0.2)  # what was on its way has come
    sent = operator.state.commands
    operator.commands.clear()
    time.sleep(1.0)
    assert not operator.commands
    assert operator.state.state == "stopped"
    operator.wait_for("arming", lambda: operator.call("alt/arm").success, timeout=5.0)
    operator.wait_for("commands", lambda: operator.state.commands > sent, timeout=10.0)
    operator.require("alt/stop")


@pytest.mark.timeout(120)
def test_a_killed_encoder_makes_the_executor_hold_and_a_new_one_lets_it_go_on(
    running: tuple[Graph, Operator, Path], small_bundle: Path
) -> None:
    graph, operator, _ = running
    reset_trial(operator, "ind", 2, seed=0)
    operator.wait_for("arming", lambda: operator.call("alt/arm").success, timeout=20.0)
    operator.wait_for("commands", lambda: operator.state.state == "running", timeout=10.0)
    graph.process("encoder").kill()
    graph.process("encoder").wait()
    graph.stop("encoder")
    operator.wait_for("the hold", lambda: operator.state.state == "holding", timeout=5.0)
    # Chunks and decisions stop at once; which of the two watchdogs is first, is chance.
    assert operator.state.reason.startswith(("no action chunk", "no decision of the monitor"))
    time.sleep(0.3)
    operator.commands.clear()
    time.sleep(0.5)
    assert not operator.commands
    graph.start("encoder", {"bundle": small_bundle})
    # By itself, or armed anew where the encoder took longer to start than a hold may last.
    operator.wait_for("recovery", lambda: operator.call("alt/arm").success, timeout=30.0)
    operator.wait_for("commands", lambda: operator.state.state == "running", timeout=10.0)
    operator.require("alt/stop")


def test_the_recorder_refuses_a_second_start_and_a_taken_name(
    running: tuple[Graph, Operator, Path],
) -> None:
    _, operator, _ = running
    operator.wait_for("recorder", lambda: start_recording(operator, "twice"), timeout=20.0)
    assert "already recording" in operator.call("recorder/start", name="other").message
    operator.require("recorder/stop")
    assert "exists" in operator.call("recorder/start", name="twice").message
    assert "not recording" in operator.call("recorder/stop").message


def test_an_unknown_scenario_is_refused_with_those_that_exist(
    running: tuple[Graph, Operator, Path],
) -> None:
    _, operator, _ = running
    response = operator.call("sim/reset", scenario="nonsense")
    assert not response.success
    assert "covered_camera" in response.message


@pytest.mark.timeout(240)
def test_the_audit_of_a_bag_finds_what_was_logged_and_what_went_wrong(
    running: tuple[Graph, Operator, Path], small_bundle: Path
) -> None:
    _, operator, bags = running
    bag = bags / "covered_camera_00"
    if not bag.exists():
        assert run_trial(operator, "covered_camera", 0, seed=0).flagged
    audit = audit_bag(bag, Bundle.load(small_bundle, threads=1))
    parity = {row["what"]: row for row in audit.values["parity"]}
    for what in ("observations", "embeddings", "decisions", "chunks"):
        assert parity[what]["first_difference"] is None, parity
        assert parity[what]["equal"] > 0, parity
    assert parity["observations"]["equal"] >= 0.9 * parity["observations"]["logged"]
    assert parity["commands"]["logged"] > 0
    blank = [finding for finding in audit.findings if "shows nothing" in finding.text]
    assert blank, audit.findings
    states = [state["state"] for state in audit.values["states"]]
    assert "holding" in states
    assert all(copied for copied in audit.values["chunks"]["copied"])
