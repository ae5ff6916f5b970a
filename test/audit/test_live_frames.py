"""However long a run is, a bounded number of its pictures is kept, and those that matter."""

from __future__ import annotations

import cv2
import numpy as np

from alt_ros.audit.live_frames import LiveFrames
from alt_ros.types import Observation

PERIOD = 50_000_000
VIEWS = ("wrist", "third_person")


def observation(number: int, views: tuple[str, ...] = VIEWS) -> Observation:
    return Observation(
        stamp=number * PERIOD,
        images={view: np.full((4, 4, 3), number % 250, np.uint8) for view in views},
        poses=np.array([[0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0]]),
        grippers=np.array([0.05]),
        skew=0,
    )


def test_a_short_run_is_kept_whole():
    frames = LiveFrames(VIEWS, most=12)
    for number in range(11):
        frames.add(observation(number), number * PERIOD + 3)
    assert frames.at == [number * PERIOD + 3 for number in range(11)]
    jpeg = frames.pictures[7][1]
    assert abs(int(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)[0, 0, 0]) - 7) <= 2


def test_of_a_long_run_evenly_spaced_frames_are_kept():
    frames = LiveFrames(VIEWS, most=12)
    for number in range(1000):
        frames.add(observation(number), number * PERIOD)
    assert 6 <= len(frames.at) <= 12
    assert len(set(np.diff(frames.at))) == 1
    assert frames.at[-1] > 800 * PERIOD


def test_where_something_happened_the_frame_stays_and_comes_once():
    frames = LiveFrames(VIEWS, most=12)
    for number in range(1000):
        seen = observation(number)
        frames.add(seen, number * PERIOD)
        if number in (0, 333, 777):
            frames.keep(seen, number * PERIOD + 9)
    assert {0 * PERIOD + 9, 333 * PERIOD + 9, 777 * PERIOD + 9} <= set(frames.at)
    assert 0 not in frames.at, "kept already"
    assert frames.at == sorted(frames.at)
    for number in range(1000):
        frames.keep(observation(number), number * PERIOD)
    assert len(frames.at) <= 12 + 12 // 3


def test_a_view_that_is_missing_is_empty():
    frames = LiveFrames(VIEWS)
    frames.add(observation(1, ("third_person",)), PERIOD)
    assert frames.pictures[0][0] == b""
    assert frames.pictures[0][1]
