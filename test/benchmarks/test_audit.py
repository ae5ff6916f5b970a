"""A bag made long by repetition is the run again and again, and its audit is measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "demonstrations"))
from bundles import write_small_bundle
from test_rosbag import messages, record

from alt_ros.bags.contents import read_contents
from alt_ros.bags.reading import read_raw
from alt_ros.benchmarks.audit import GAP, measure_audit, repeat_bag
from alt_ros.errors import DataError
from alt_ros.messages import raw_stamp
from alt_ros.types import NANOSECONDS

torch.set_num_threads(1)
FRAMES = 30


def test_every_message_comes_again_later_and_so_does_its_stamp(tmp_path):
    steps: list[tuple[int, int]] = []
    source = record(tmp_path / "run", messages(FRAMES))
    seconds = repeat_bag(source, tmp_path / "long", 10.0, lambda *step: steps.append(step))
    short, long = read_contents(source), read_contents(tmp_path / "long")
    times = long.messages // short.messages
    assert steps == [(n, times) for n in range(1, times + 1)]
    assert long.counts == {topic: times * count for topic, count in short.counts.items()}
    assert seconds == pytest.approx((long.last - long.first) / NANOSECONDS)
    assert seconds >= 10.0 - GAP / NANOSECONDS
    period = short.last - short.first + GAP
    first, again = list(read_raw(source)), list(read_raw(tmp_path / "long"))
    last = again[-len(first) :]
    later = (times - 1) * period
    assert [(m.topic, m.time + later) for m in first] == [(m.topic, m.time) for m in last]
    stamped = next(k for k, message in enumerate(first) if message.topic == "/eef_pose")
    assert raw_stamp(last[stamped].data) - raw_stamp(first[stamped].data) == later


def test_the_audit_of_the_long_bag_is_measured_and_the_bag_is_kept(tmp_path):
    source = record(tmp_path / "run", messages(FRAMES))
    bundle = write_small_bundle(tmp_path / "bundle")
    steps: list[tuple[int, int]] = []

    def measure(encoder: bool):
        return measure_audit(
            source,
            bundle,
            tmp_path / "longs",
            seconds=8.0,
            encoder=encoder,
            progress=lambda *step: steps.append(step),
        )

    values = measure(True)
    assert 0.0 < values["encoder_share"] < 1.0
    assert values["times_real_time"] == pytest.approx(
        values["bag_seconds"] / values["audit_seconds"], rel=0.01
    )
    assert values["peak_memory_mb"] > 100
    assert values["page_mb"] > 0.0
    assert steps[-1][0] == steps[-1][1] > 1000, "milliseconds of the bag"
    kept = next((tmp_path / "longs").iterdir())
    written = kept.stat().st_mtime_ns
    assert measure(False)["encoder_share"] is None
    assert kept.stat().st_mtime_ns == written


def test_a_bag_of_one_instant_cannot_be_repeated(tmp_path):
    one = [message for message in messages(FRAMES) if message[2] == messages(FRAMES)[0][2]]
    source = record(tmp_path / "run", one)
    with pytest.raises(DataError, match="must last for a while"):
        repeat_bag(source, tmp_path / "long", 10.0, lambda done, total: None)
