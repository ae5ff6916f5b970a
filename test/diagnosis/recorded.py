"""Streams of a live graph as a survey would have recorded them, for tests."""

from __future__ import annotations

from collections import Counter

import numpy as np

from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.topic_record import (
    IMAGE,
    Endpoint,
    Ends,
    Message,
    StreamRecord,
    Survey,
    wanted_streams,
)

MS = 1_000_000
START = 1_790_000_000_000 * MS
DRIVER = Endpoint("/driver", "best effort, volatile")
SENSORS = CameraSyncParameters()
POSE = (0.4, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0)


def messages(
    period: float = 50.0,
    count: int = 60,
    *,
    age: float = 5.0,
    way: float = 1.0,
    offset: float = 0.0,
    jitter: float = 0.0,
    clock: bool = False,
) -> list[Message]:
    """Return messages at a steady rate; times in ms.

    Args:
        period: From one to the next.
        count: How many.
        age: Of the stamps at arrival.
        way: From sending to arrival.
        offset: Of the first.
        jitter: Standard deviation of the age.
        clock: /clock is what the arrival is.
    """
    rng = np.random.default_rng(0)
    made: list[Message] = []
    for number in range(count):
        arrival = START + round((offset + number * period) * MS)
        stamp = arrival - round((age + jitter * rng.standard_normal()) * MS)
        source = arrival - round(way * MS)
        made.append(Message(arrival, stamp, source, arrival if clock else 0))
    return made


def healthy() -> dict[str, StreamRecord]:
    """Return two cameras at 20 Hz, pose and gripper at 100 Hz."""
    streams = wanted_streams(SENSORS)
    for role, stream in streams.items():
        stream.topic = stream.wanted
        stream.ends = Ends(publishers=(DRIVER,))
        stream.frame_ids = Counter({"base": 1})
        if stream.kind == IMAGE:
            fill(stream, messages(offset=2.0 if role == "wrist" else 5.0))
            stream.encodings, stream.sizes = Counter({"rgb8": 60}), Counter({(480, 640): 60})
            stream.contrast = 40.0
        else:
            fill(stream, messages(10.0, 300, age=1.0))
            stream.values.append(POSE if role == "pose" else (0.08,))
    return streams


def fill(stream: StreamRecord, made: list[Message]) -> StreamRecord:
    """Put messages into a record in place of those in it."""
    stream.messages.clear()
    stream.messages.extend(made)
    stream.count = len(made)
    return stream


def survey(streams: dict[str, StreamRecord]) -> Survey:
    """Return a survey of a graph whose arm has a controller."""
    ends = Ends(subscribers=(Endpoint("/arm", "reliable, volatile"),))
    return Survey(
        seconds=3.0,
        domain=0,
        streams=streams,
        commands={"/target_pose": ends, "/target_gripper": ends},
        nodes=("/driver", "/arm"),
        topics={stream.wanted: (stream.kind,) for stream in streams.values()},
    )
