"""What is looked at before a chunk is used."""

from __future__ import annotations

import array

import numpy as np
import pytest
from rclpy.serialization import serialize_message

from alt_ros.errors import DataError
from alt_ros.geometry import arm_action
from alt_ros.nodes.conversions import to_chunk, to_time
from alt_ros.nodes.executor_chunks import MAX_BYTES, read_chunk
from alt_ros.types import ActionChunk, ActionLayout

HOME = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])


def message(rows: int = 4):
    actions = arm_action(np.tile(HOME, (rows, 1, 1)), np.full((rows, 1), 0.05))
    made = to_chunk(ActionChunk(123, 50_000_000, actions, ActionLayout()), "base", "test")
    made.observation_published = to_time(456)
    return made


@pytest.mark.parametrize("frame_id", ["base", ""])
def test_a_good_chunk_is_read_with_the_time_of_its_observations_publication(frame_id):
    chunk, published = read_chunk(serialize_message(message()), frame_id)
    assert (chunk.stamp, chunk.period, len(chunk.actions), published) == (123, 50_000_000, 4, 456)


@pytest.mark.parametrize(
    ("frame_id", "rows", "values", "reason"),
    [
        ("base", MAX_BYTES // 80 + 1, None, "chunk is too long"),
        ("world", 4, None, "chunk is in frame 'base' and the arm's pose in 'world'"),
        ("base", 4, [0.0] * 7, "chunk is damaged"),
        ("base", 4, [float("nan")] * 10, "chunk is damaged"),
    ],
)
def test_a_chunk_that_cannot_be_used_has_a_reason_to_count(frame_id, rows, values, reason):
    made = message(rows)
    if values is not None:
        made.actions = array.array("d", values)
    with pytest.raises(DataError) as error:
        read_chunk(serialize_message(made), frame_id)
    assert str(error.value).split(":")[0] == reason
