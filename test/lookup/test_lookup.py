import subprocess
import sys

import numpy as np
import pytest
from tables import table, unit

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.index import ExactIndex, HnswIndex
from alt_ros.lookup.lookup import Lookup
from alt_ros.lookup.monitor import MonitorConfig
from alt_ros.types import Query

VIEWS = ("wrist", "third_person")
STEP = 50_000_000


def lookup(held, kind=ExactIndex, horizon=4):
    monitor = MonitorConfig(threshold=0.9, raise_after=1, clear_after=1)
    return Lookup(held, kind.build(held.embeddings), VIEWS, horizon, monitor=monitor)


def row(held, number, stamp):
    return Query(stamp, held.embeddings[number], held.view_embeddings[number])


def test_a_step_gives_the_chunk_of_the_recalled_frame_and_a_decision():
    held = table()
    chunk, decision = lookup(held).step(row(held, 7, 123))
    assert (chunk.source.demonstration, chunk.source.frame) == (1, 1)
    assert chunk.actions[:, 0].tolist() == [7.0, 8.0, 9.0]
    assert chunk.stamp == 123
    assert not decision.flag
    assert decision.neighbour == chunk.source
    assert decision.score == pytest.approx(1.0, abs=1e-6)


def test_a_strange_embedding_raises_the_flag_and_names_the_view():
    held = table()
    views = held.view_embeddings[0].copy()
    views[1] *= -1.0
    stranger = unit(held.embeddings[0] + held.embeddings[9])
    step = lookup(held)
    chunk, decision = step.step(Query(0, stranger, views))
    assert decision.flag
    assert decision.score < decision.threshold == 0.9
    assert chunk is not None
    step.reset()
    assert not step.step(row(held, 0, 0))[1].flag


def test_a_gap_in_the_stamps_takes_the_flag_down_because_a_new_episode_begins():
    held = table()
    views = held.view_embeddings[0]
    monitor = MonitorConfig(threshold=0.9, raise_after=1, clear_after=10)
    index = ExactIndex.build(held.embeddings)
    step = Lookup(held, index, VIEWS, 4, monitor=monitor)
    assert step.step(Query(0, unit(-held.embeddings[0]), views))[1].flag
    assert step.step(Query(STEP, held.embeddings[0], views))[1].flag
    assert not step.step(Query(100 * STEP, held.embeddings[0], views))[1].flag


def test_both_indexes_lead_to_the_same_steps():
    held = table((40, 40, 40), seed=2)
    rng = np.random.default_rng(1)
    stream = unit(held.embeddings[:60] + 0.3 * rng.normal(size=(60, 16)))
    exact, approximate = lookup(held), lookup(held, HnswIndex)
    for i, embedding in enumerate(stream):
        query = Query(i * STEP, embedding, held.view_embeddings[i])
        one, other = exact.step(query), approximate.step(query)
        assert one[0].source.frame == other[0].source.frame
        assert one[0].source.demonstration == other[0].source.demonstration
        assert one[1].flag == other[1].flag


def test_a_horizon_must_be_positive():
    with pytest.raises(ConfigurationError, match="horizon"):
        lookup(table(), horizon=0)


def test_the_lookup_room_and_the_bundle_import_without_torch():
    code = (
        "import sys, alt_ros.bundle, alt_ros.lookup.lookup, alt_ros.encoders.spec, "
        "alt_ros.policies.policy; sys.exit('torch' in sys.modules or 'rclpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
