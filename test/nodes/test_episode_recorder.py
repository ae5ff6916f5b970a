"""The recorder, on topics that a test publishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from alt_ros.msg import ActionChunk
from alt_ros.srv import StartRecording, StopRecording
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from alt_ros.bags.reading import read_messages
from alt_ros.messages import stamp_of
from alt_ros.nodes.conversions import to_time
from alt_ros.nodes.graph import Graph
from alt_ros.nodes.node import RELIABLE

CHUNKS = ("/alt/action_chunk", "/alt/return_chunk", "/alt/fallback_chunk")


class Policies:
    """Publishes chunks of every kind and calls the recorder."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("policies", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        create = self.node.create_publisher
        self.publishers = {topic: create(ActionChunk, topic, RELIABLE) for topic in CHUNKS}
        self.start = self.node.create_client(StartRecording, "recorder/start")
        self.stop = self.node.create_client(StopRecording, "recorder/stop")

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def wait(self, seconds: float, until: Callable[[], Any]) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.01)
            if until():
                return True
        return False

    def call(self, client: Any, request: Any) -> Any:
        future = client.call_async(request)
        assert self.wait(10.0, future.done)
        return future.result()


@pytest.fixture
def policies(ros_environment: dict[str, str]) -> Iterator[Policies]:
    built = Policies()
    yield built
    built.close()


def test_chunks_of_every_kind_are_recorded(
    policies: Policies, make_graph: Callable[..., Graph], tmp_path: Path
) -> None:
    graph = make_graph(sim=False)
    parameters = {"folder": tmp_path / "bags", "required_topics": [CHUNKS[0]]}
    graph.start("episode_recorder", parameters)
    assert policies.wait(20.0, policies.start.service_is_ready)
    publishers = policies.publishers
    assert policies.wait(
        10.0, lambda: all(p.get_subscription_count() for p in publishers.values())
    ), "the recorder does not listen to every kind"

    def started() -> bool:
        return policies.call(policies.start, StartRecording.Request(name="one")).success

    assert policies.wait(10.0, started)
    for number, publisher in enumerate(publishers.values(), start=1):
        message = ActionChunk()
        message.header.stamp = to_time(number)
        publisher.publish(message)
    policies.wait(0.5, lambda: False)
    stopped = policies.call(policies.stop, StopRecording.Request(episode_success=True))
    assert stopped.success, stopped.message
    graph.check()
    held = read_messages(tmp_path / "bags" / "one", list(CHUNKS))
    assert {(topic, stamp_of(message)) for topic, _, message in held} == {
        (topic, number) for number, topic in enumerate(CHUNKS, start=1)
    }
