"""The executor's chunks: a topic for each role, and what is looked at before one is used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rclpy.node import Node
from rclpy.serialization import deserialize_message

from alt_ros.errors import DataError
from alt_ros.messages import chunk_of, nanoseconds
from alt_ros.msg import ActionChunk
from alt_ros.nodes.node import RELIABLE
from alt_ros.safety import AfterOod, Role
from alt_ros.types import ActionChunk as Chunk

MAX_BYTES = 1_000_000
"""A longer chunk is not even made a message of, which would take the ticks' time."""


def subscribe_chunks(
    node: Node, after_ood: AfterOod, on_chunk: Callable[[Role, bytes], None]
) -> None:
    """Subscribe to the topics whose chunks can be followed; each gives its chunks a role."""
    node.create_subscription(
        ActionChunk, "alt/action_chunk", partial(on_chunk, Role.POLICY), RELIABLE, raw=True
    )
    if after_ood is AfterOod.RETURN:
        node.create_subscription(
            ActionChunk, "alt/return_chunk", partial(on_chunk, Role.RETURN), RELIABLE, raw=True
        )
    if after_ood is AfterOod.FALLBACK:
        node.create_subscription(
            ActionChunk, "alt/fallback_chunk", partial(on_chunk, Role.FALLBACK), RELIABLE, raw=True
        )


def read_chunk(raw: bytes, frame_id: str) -> tuple[Chunk, int]:
    """Return a chunk, and when its observation was published (host time, ns).

    Args:
        raw: The message as it came.
        frame_id: Frame of the arm's pose; empty: not known.

    Raises:
        DataError: The chunk is too long, in another frame or damaged; what stands before the
            colon is the reason to count.
    """
    if len(raw) > MAX_BYTES:
        raise DataError(f"chunk is too long: {len(raw)} bytes, allowed are {MAX_BYTES}")
    message = deserialize_message(raw, ActionChunk)
    frame = message.header.frame_id
    if frame and frame_id and frame != frame_id:
        raise DataError(f"chunk is in frame '{frame}' and the arm's pose in '{frame_id}'")
    try:
        return chunk_of(message), nanoseconds(message.observation_published)
    except DataError as error:
        raise DataError(f"chunk is damaged: {error}") from error
