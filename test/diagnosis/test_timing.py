from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from recorded import MS, START, messages

from alt_ros.diagnosis.timing import covered, nearest_distances, timing_of
from alt_ros.nodes.topic_record import Message


def test_a_steady_stream_is_measured():
    timing = timing_of(messages(50.0, 61, age=7.0, way=2.0))
    assert timing.count == 61
    assert timing.rate == pytest.approx(20.0)
    assert timing.interval == timing.worst_gap == pytest.approx(50.0)
    assert timing.age == pytest.approx(7.0)
    assert timing.way == pytest.approx(2.0)
    assert timing.driver == pytest.approx(5.0)
    assert timing.spread == timing.drift == pytest.approx(0.0)
    assert (timing.zeros, timing.repeats, timing.backwards) == (0, 0, 0)


def test_a_lost_frame_is_the_worst_gap_and_no_median():
    made = messages(50.0, 60)
    del made[30:33]
    timing = timing_of(made)
    assert timing.worst_gap == pytest.approx(200.0)
    assert timing.interval == pytest.approx(50.0)
    assert timing.rate == pytest.approx(56 / 2.95)


def test_stamps_of_a_fast_clock_drift():
    made = [replace(m, stamp=m.stamp + i * MS) for i, m in enumerate(messages(50.0, 80))]
    assert timing_of(made).drift == pytest.approx(-20.0, rel=0.01)


def test_jitter_is_the_spread():
    spread = timing_of(messages(10.0, 1000, jitter=2.0)).spread
    assert spread == pytest.approx(2 * 1.645 * 2.0, rel=0.1)


def test_zero_repeated_and_backward_stamps_are_counted():
    stamps = [0, 0, 5, 4, 5, 9, 9]
    timing = timing_of([Message(START + i * MS, s) for i, s in enumerate(stamps)])
    assert (timing.zeros, timing.repeats, timing.backwards) == (2, 2, 1)
    assert math.isnan(timing.way), "this middleware does not tell when a message was sent"


def test_simulated_time_is_compared_with_the_clock_topic():
    made = [replace(m, clock=3 * MS + i * 100 * MS) for i, m in enumerate(messages(50.0, 20))]
    made = [replace(m, stamp=m.clock - 3 * MS) for m in made]
    timing = timing_of([replace(made[0], clock=0), *made], on_clock=True)
    assert timing.count == 20, "what came before /clock cannot be compared"
    assert timing.rate == pytest.approx(10.0), "simulated seconds"
    assert timing.age == pytest.approx(3.0)


@pytest.mark.parametrize("made", [[], messages(50.0, 1)])
def test_too_few_messages_give_no_rate(made):
    timing = timing_of(made)
    assert timing.count == len(made)
    assert math.isnan(timing.rate)


def test_distances_are_to_the_nearest_and_only_where_both_were_heard():
    first = [0, 50, 100, 150, 200]
    other = [48, 97, 155]
    np.testing.assert_allclose(
        nearest_distances([s * MS for s in first], [s * MS for s in other]), [2.0, 3.0, 5.0]
    )
    assert len(nearest_distances(first, [])) == 0


@pytest.mark.parametrize(
    ("images", "samples", "share"),
    [
        ([10, 60], [0, 20, 40, 60, 80], 1.0),
        ([10, 50, 90], [0, 20, 80, 100], 2 / 3),
        ([10, 85], [0, 20, 40, 60, 80], 1.0),  # the next sample is to come
        ([510, 560], [0, 20, 40, 60, 80], 0.0),
        ([10], [], 0.0),
    ],
)
def test_images_are_covered_between_two_near_samples(images, samples, share):
    assert covered(images, samples, 30) == pytest.approx(share)
