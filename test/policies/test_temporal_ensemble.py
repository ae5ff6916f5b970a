import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alt_ros.errors import ConfigurationError
from alt_ros.policies.temporal_ensemble import TemporalEnsemble
from alt_ros.types import ActionChunk, ActionLayout

PERIOD = 50_000_000
LAYOUT = ActionLayout(arms=0, extra=2)


def chunk(start: int, length: int, seed: int = 0) -> ActionChunk:
    """A chunk whose first action is due ``start`` periods after an odd stamp."""
    actions = np.random.default_rng([seed, start]).normal(size=(length, 2))
    return ActionChunk(12_345 + start * PERIOD, PERIOD, actions, LAYOUT)


def paper(chunks: list[ActionChunk], decay: float) -> np.ndarray:
    """Section IV-C, instant by instant: w_i = exp(-m i), w_0 for the oldest prediction."""
    newest, rows = chunks[-1], []
    for due in range(len(newest.actions)):
        instant = newest.stamp + due * PERIOD
        said = [
            c.actions[(instant - c.stamp) // PERIOD]
            for c in chunks
            if (instant - c.stamp) // PERIOD < len(c.actions)
        ]
        weights = [math.exp(-decay * i) for i in range(len(said))]
        rows.append(sum(w * a for w, a in zip(weights, said, strict=True)) / sum(weights))
    return np.array(rows)


@given(
    decay=st.sampled_from([0.0, 0.01, 0.5, 3.0]),
    horizon=st.integers(1, 8),
    steps=st.lists(st.integers(1, 4), max_size=12),
    data=st.data(),
)
def test_each_action_is_the_weighted_mean_of_what_was_said_about_its_time(
    decay, horizon, steps, data
):
    ensemble = TemporalEnsemble(decay)
    given_chunks: list[ActionChunk] = []
    for start in np.cumsum([0, *steps]).tolist():
        given_chunks.append(chunk(start, data.draw(st.integers(1, horizon))))
        blended = ensemble.blend(given_chunks[-1])
        np.testing.assert_allclose(blended.actions, paper(given_chunks, decay), atol=1e-12)
        assert (blended.stamp, blended.period) == (given_chunks[-1].stamp, PERIOD)


@given(decay=st.sampled_from([0.0, 0.1]), per_period=st.integers(2, 3))
def test_observations_that_come_faster_than_actions_all_count(decay, per_period):
    horizon, chunks = 4, []
    ensemble = TemporalEnsemble(decay)
    for i in range(20):
        made = chunk(i // per_period, horizon, seed=i)
        chunks.append(made)
        blended = ensemble.blend(made)
    np.testing.assert_allclose(blended.actions, paper(chunks, decay), atol=1e-12)


@given(jitter=st.lists(st.integers(-12_000_000, 12_000_000), min_size=2, max_size=6))
def test_stamps_that_jitter_by_less_than_half_a_period_are_the_nearest_instants(jitter):
    exact, shaken = TemporalEnsemble(0.1), TemporalEnsemble(0.1)
    whole = [chunk(i, 8) for i in range(len(jitter))]
    for one, by in zip(whole, jitter, strict=True):
        moved = replace(one, stamp=one.stamp + by)
        assert np.array_equal(exact.blend(one).actions, shaken.blend(moved).actions)


def test_the_oldest_is_trusted_most():
    ensemble = TemporalEnsemble(50.0)
    first = ensemble.blend(chunk(0, 4))
    second = ensemble.blend(chunk(1, 4))
    np.testing.assert_allclose(second.actions[:3], first.actions[1:])


def test_one_chunk_alone_is_left_as_it_is_and_not_changed():
    made = chunk(0, 5)
    before = made.actions.copy()
    blended = TemporalEnsemble(0.01).blend(made)
    np.testing.assert_allclose(blended.actions, before)
    blended.actions[:] = np.nan
    assert np.array_equal(made.actions, before)


def test_after_clearing_the_next_chunk_stands_alone():
    ensemble = TemporalEnsemble(0.01)
    ensemble.blend(chunk(0, 4))
    ensemble.clear()
    np.testing.assert_allclose(ensemble.blend(chunk(1, 4)).actions, chunk(1, 4).actions)


@pytest.mark.parametrize("decay", [-0.01, math.nan])
def test_a_decay_below_nothing_is_refused(decay):
    with pytest.raises(ConfigurationError, match="decay must be 0 or more, got"):
        TemporalEnsemble(decay)
