import numpy as np
import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.training.sampling import BatchSampler

LENGTHS = np.array([50, 80, 60])
STARTS = np.array([0, 100, 200])  # rows 50 to 99 and 180 to 199 belong to others


def sampler(**changes):
    settings = {"batch_size": 6, "phases": 2, "start_share": 0.0, "seed": 0, **changes}
    return BatchSampler(STARTS, LENGTHS, **settings)


def frames_of(rows):
    return rows - STARTS[np.searchsorted(STARTS, rows, side="right") - 1]


def drawn(held, steps=300):
    return np.concatenate([held.draw(step) for step in range(steps)])


@pytest.mark.parametrize("phases", [0, 1, 2, 6])
def test_only_rows_of_the_given_demonstrations_are_drawn_and_all_of_them(phases):
    rows = drawn(sampler(phases=phases), 600)
    own = {s + i for s, n in zip(STARTS, LENGTHS, strict=True) for i in range(n)}
    assert set(rows) <= own
    assert len(set(rows)) > 0.95 * len(own)


def test_a_batch_holds_all_demonstrations_at_a_common_phase():
    for step in range(50):
        rows = sampler(batch_size=3, phases=1).draw(step)
        demonstrations = np.searchsorted(STARTS, rows, side="right") - 1
        assert sorted(demonstrations) == [0, 1, 2]
        phases = (rows - STARTS[demonstrations]) / (LENGTHS[demonstrations] - 1)
        assert np.ptp(phases) < 0.08


def test_the_start_is_drawn_as_often_as_asked():
    rows = drawn(sampler(start_share=1.0))
    assert frames_of(rows).max() < 4
    shares = [np.mean(frames_of(drawn(sampler(start_share=s))) < 4) for s in (0.0, 0.5)]
    assert 0.4 < shares[1] - shares[0] < 0.6


def test_a_batch_depends_on_seed_and_step_alone():
    assert np.array_equal(sampler().draw(7), sampler().draw(7))
    assert not np.array_equal(sampler().draw(7), sampler().draw(8))
    assert not np.array_equal(sampler().draw(7), sampler(seed=1).draw(7))


@pytest.mark.parametrize(
    "changes", [{"batch_size": 1}, {"phases": -1}, {"phases": 7}, {"start_share": 1.5}]
)
def test_settings_out_of_bounds_are_refused(changes):
    with pytest.raises(ConfigurationError, match="training"):
        sampler(**changes)
