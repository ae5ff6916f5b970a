"""lookup as a node: the monitor alone, beside another policy's node, and its parameters."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from alt_ros.msg import ActionChunk, OodFlag
from alt_ros.msg import Observation as ObservationMessage
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from alt_ros.bundle import Bundle
from alt_ros.lookup.calibration import Calibration
from alt_ros.messages import decision_of, stamp_of
from alt_ros.nodes.conversions import to_chunk, to_observation
from alt_ros.nodes.graph import Graph
from alt_ros.nodes.node import NEWEST, RELIABLE
from alt_ros.types import NANOSECONDS, ActionLayout, Observation
from alt_ros.types import ActionChunk as Chunk

sys.path.append(str(Path(__file__).parents[1]))
from bundles import observation, write_small_bundle

PERIOD = 50_000_000
STRANGE_FROM, FRAMES = 6, 12


class Robot:
    """Sends observations, and a chunk of another policy for each; hears the decisions."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        create, subscribe = self.node.create_publisher, self.node.create_subscription
        self.observations = create(ObservationMessage, "alt/observation", NEWEST)
        self.policy = create(ActionChunk, "alt/action_chunk", RELIABLE)
        self.flags: list[Any] = []
        self.chunks: list[Any] = []
        subscribe(OodFlag, "alt/ood", self.flags.append, RELIABLE)
        subscribe(ActionChunk, "alt/action_chunk", self.chunks.append, RELIABLE)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def listen(self, seconds: float, until: Callable[[], Any]) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.01)
            if until():
                return True
        return False

    def decided(self, seen: Observation) -> Any:
        """Send an observation and return the message of its decision."""
        stamps = dict.fromkeys(seen.images, seen.stamp)
        message = to_observation(seen, stamps, seen.stamp, "base")

        def answered() -> bool:
            return bool(self.flags) and stamp_of(self.flags[-1]) == seen.stamp

        for _ in range(20):  # the first ones are lost while the topics are discovered
            self.observations.publish(message)
            if self.listen(1.0, answered):
                return self.flags[-1]
        raise AssertionError(f"no decision about the observation of {seen.stamp} ns")

    def other_chunk(self, stamp: int) -> None:
        actions = np.zeros((4, 10))
        actions[:, 3] = actions[:, 7] = 1.0
        chunk = Chunk(stamp, PERIOD, actions, ActionLayout())
        self.policy.publish(to_chunk(chunk, "base", "other"))


@pytest.fixture
def robot(ros_environment: dict[str, str]) -> Iterator[Robot]:
    built = Robot()
    yield built
    built.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("lookup") / "cup")


def episode() -> list[Observation]:
    """Return frames of the first demonstration, then half white images."""
    frames = []
    for number in range(FRAMES):
        seen = observation(min(number, 5), stamp=NANOSECONDS + PERIOD * number)
        if number >= STRANGE_FROM:
            white = {view: image.copy() for view, image in seen.images.items()}
            for image in white.values():
                image[:, : image.shape[1] // 2] = 255
            seen = replace(seen, images=white)
        frames.append(seen)
    return frames


def expected(bundle: Path, calibration: Calibration) -> list[Any]:
    """Return the core's decisions about the episode, sent once more at its start."""
    loaded = Bundle.load(bundle, device="cpu", threads=1)
    lookup = loaded.lookup(calibration=calibration)
    assert loaded.encoder is not None
    return [lookup.step(loaded.encoder.embed(seen).query(seen))[1] for seen in episode()]


@pytest.mark.timeout(120)
def test_the_monitor_runs_alone_beside_another_policy(
    robot: Robot, make_graph: Callable[..., Graph], bundle: Path
) -> None:
    margin = -1.5
    calibration = Bundle.load(bundle, encoder=False).calibration
    calibration = replace(calibration, threshold=calibration.threshold + margin)
    decisions = expected(bundle, calibration)
    assert not any(decision.flag for decision in decisions[:STRANGE_FROM])
    assert decisions[-1].flag

    graph = make_graph(sim=False)
    graph.start("encoder", {"bundle": bundle, "device": "cpu"})
    graph.start("lookup", {"bundle": bundle, "publish_chunks": False, "threshold_margin": margin})
    for seen, decision in zip(episode(), decisions, strict=True):
        robot.other_chunk(seen.stamp)
        message = robot.decided(seen)
        assert message.header.frame_id == "base"
        np.testing.assert_equal(asdict(decision_of(message)), asdict(decision))  # NaN are equal
        assert message.cause in message.scores
        assert message.view == decision.view
    assert robot.listen(5.0, lambda: len(robot.chunks) >= FRAMES)
    assert {chunk.policy for chunk in robot.chunks} == {"other"}
    assert robot.node.count_publishers("alt/action_chunk") == 1
    assert robot.node.count_publishers("alt/return_chunk") == 0
    graph.check()


@pytest.mark.timeout(120)
def test_a_gamma_that_is_given_takes_the_place_of_the_calibration(
    robot: Robot, make_graph: Callable[..., Graph], bundle: Path
) -> None:
    graph = make_graph(sim=False)
    graph.start("encoder", {"bundle": bundle, "device": "cpu"})
    graph.start("lookup", {"bundle": bundle, "threshold": 0.5})
    seen = episode()[0]
    message = robot.decided(seen)
    assert list(message.scores) == ["cosine"]
    assert message.threshold == 0.5
    assert message.score == pytest.approx(1.0 - message.similarity)
    assert np.isnan(message.quantile)
    assert not message.flag
    assert robot.listen(5.0, lambda: robot.chunks)
    assert robot.chunks[-1].policy == "alt"
