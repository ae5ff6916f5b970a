import subprocess
import sys

import numpy as np
import pytest
from tables import table, unit

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.lookup.calibration import Calibration
from alt_ros.lookup.correction import CorrectionConfig
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.index import ExactIndex, HnswIndex
from alt_ros.lookup.lookup import Lookup
from alt_ros.types import Query

VIEWS = ("wrist", "third_person")
STEP = 50_000_000


def lookup(held, kind=ExactIndex, horizon=4):
    monitor = MonitorConfig(raise_count=1, raise_window=1, clear_after=1)
    index = kind.build(held.embeddings)
    return Lookup(held, index, VIEWS, horizon, Calibration.given(0.9), monitor=monitor)


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
    assert decision.score == pytest.approx(0.0, abs=1e-6)


def test_a_strange_embedding_raises_the_flag_and_names_the_view():
    held = table()
    views = held.view_embeddings[0].copy()
    views[1] *= -1.0
    stranger = unit(held.embeddings[0] + held.embeddings[9])
    step = lookup(held)
    chunk, decision = step.step(Query(0, stranger, views))
    assert decision.flag
    assert decision.score > decision.threshold == pytest.approx(0.1)
    assert decision.neighbour.similarity == pytest.approx(1.0 - decision.score)
    assert decision.view == "third_person"
    assert chunk is not None
    step.reset()
    assert not step.step(row(held, 0, 0))[1].flag


def test_a_gap_in_the_stamps_takes_the_flag_down_because_a_new_episode_begins():
    held = table()
    views = held.view_embeddings[0]
    monitor = MonitorConfig(raise_count=1, raise_window=1, clear_after=10)
    index = ExactIndex.build(held.embeddings)
    step = Lookup(held, index, VIEWS, 4, Calibration.given(0.9), monitor=monitor)
    assert step.step(Query(0, unit(-held.embeddings[0]), views))[1].flag
    assert step.step(Query(STEP, held.embeddings[0], views))[1].flag
    assert not step.step(Query(100 * STEP, held.embeddings[0], views))[1].flag


@pytest.mark.parametrize("kind", [ExactIndex, HnswIndex])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_embedding_that_is_no_number_is_strange(kind, bad):
    held = table()
    step = lookup(held, kind)
    assert not step.step(row(held, 0, 0))[1].flag
    values = held.embeddings[1].copy()
    values[3] = bad
    with np.errstate(invalid="ignore"):
        _, decision = step.step(Query(STEP, values, held.view_embeddings[1]))
    assert decision.flag
    assert decision.cause == "not_finite"


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


def test_the_way_back_is_the_demonstration_backwards_from_the_frame_last_followed():
    held = table()
    step = lookup(held)
    assert step.way_back(0, 2.0) is None, "nothing has been followed"
    assert not step.step(row(held, 8, 0))[1].flag
    stranger = Query(0, unit(-held.embeddings[0]), held.view_embeddings[0])
    assert any(step.step(stranger)[1].flag for _ in range(20))
    back = step.way_back(STEP, 2.0)
    np.testing.assert_array_equal(back.actions, held.actions[[8, 7, 6]])
    assert (back.stamp, back.period) == (STEP, 2 * held.period)
    assert (back.source.demonstration, back.source.frame) == (1, 2)
    with pytest.raises(ConfigurationError, match=r"slowdown must be at least 1, got 0\.5"):
        step.way_back(STEP, 0.5)
    step.reset()
    assert step.way_back(STEP, 2.0) is None


def test_a_horizon_must_be_positive():
    with pytest.raises(ConfigurationError, match="horizon"):
        lookup(table(), horizon=0)


def test_the_lookup_room_and_the_bundle_import_without_torch():
    code = (
        "import sys, alt_ros.bundle, alt_ros.lookup.lookup, alt_ros.encoders.spec, "
        "alt_ros.policies.policy; sys.exit('torch' in sys.modules or 'rclpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_with_a_correction_the_chunk_is_the_corrected_one_and_the_way_back_its_leaders():
    held = table()
    monitor = MonitorConfig(raise_count=1, raise_window=1, clear_after=1)
    step = Lookup(
        held,
        ExactIndex.build(held.embeddings),
        VIEWS,
        4,
        Calibration.given(0.9),
        monitor=monitor,
        correction=CorrectionConfig(demonstrations=1),
    )
    moved = held.poses[7].copy()
    moved[0, 1] += 0.02
    asked = Query(0, held.embeddings[7], held.view_embeddings[7], moved)
    chunk, decision = step.step(asked)
    assert not decision.flag
    assert (chunk.source.demonstration, chunk.source.frame) == (1, 1)
    assert chunk.actions[:, 1] == pytest.approx([0.02] * 3)
    assert len(step.way_back(0, 1.0).actions) == 2
    with pytest.raises(DataError, match="needs the measured poses"):
        step.step(row(held, 8, STEP))
