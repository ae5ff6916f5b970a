"""The distance of two sets of sampled chunks, on sets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from alt_ros.errors import DataError
from alt_ros.lookup.consistency import statistical_distance

STEPS = 8


def ways(sides: np.ndarray, steps: int = STEPS, start: int = 0) -> np.ndarray:
    """Return chunks (B, steps, 2) that go forward and to a side (B,), metres."""
    time = np.arange(start, start + steps, dtype=np.float64)
    chunks = np.zeros((len(sides), steps, 2))
    chunks[..., 0] = 0.01 * time
    chunks[..., 1] = sides[:, None] * time
    return chunks


def test_one_chunk_each_is_the_plain_distance():
    rng = np.random.default_rng(0)
    previous, present = rng.normal(size=(1, 8, 3)), rng.normal(size=(1, 6, 3))
    off = np.linalg.norm(previous[0, 3:] - present[0, :5], axis=1)
    expected = np.sqrt((off**2).mean())
    assert statistical_distance(previous, present, 3) == pytest.approx(expected)


def test_the_same_plan_later_has_no_distance():
    previous = ways(np.linspace(-0.1, 0.1, 5))
    for shift in (0, 1, 7):
        present = ways(np.linspace(-0.1, 0.1, 5), start=shift)
        assert statistical_distance(previous, present, shift) == pytest.approx(0.0, abs=1e-12)


def test_between_two_steps_the_previous_plan_is_a_line():
    plan = ways(np.zeros(1))
    ahead = plan + np.array([0.005, 0.0])  # by half a step
    assert statistical_distance(plan, ahead, 0.5) == pytest.approx(0.0, abs=1e-12)
    assert statistical_distance(plan, ahead, 0) == pytest.approx(0.005)
    assert statistical_distance(plan, ahead, 1) == pytest.approx(0.005)


def test_samples_of_one_distribution_come_near_zero_as_they_become_more():
    rng = np.random.default_rng(1)

    def plans(count: int) -> np.ndarray:
        return ways(rng.choice([-0.1, 0.1], count) + rng.normal(scale=0.01, size=count))

    def apart(count: int) -> float:
        """Return the mean distance of two sets that go left or right at random."""
        return float(
            np.mean([statistical_distance(plans(count), plans(count), 0) for _ in range(50)])
        )

    one, few, many = apart(1), apart(8), apart(64)
    assert few < one / 4
    assert many < one / 32


def test_modes_that_swap_are_far_apart_and_both_kept_are_not():
    rng = np.random.default_rng(2)
    left = ways(-0.1 + rng.normal(scale=0.005, size=32))
    right = ways(0.1 + rng.normal(scale=0.005, size=32))
    both, again = np.concatenate([left[::2], right[::2]]), np.concatenate([left, right])[1::2]
    swapped = statistical_distance(left, right, 0)
    centres = statistical_distance(left.mean(axis=0)[None], right.mean(axis=0)[None], 0)
    assert swapped == pytest.approx(centres, rel=0.1)
    assert statistical_distance(both, again, 0) < 0.01 * swapped
    # One mode of two given up: in between.
    assert 0.1 * swapped < statistical_distance(both, left, 0) < 0.5 * swapped


def test_it_does_not_matter_which_set_is_larger_or_how_long_the_overlap_is():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(5, STEPS, 2)), rng.normal(size=(9, STEPS, 2))
    assert statistical_distance(a, b, 0) == pytest.approx(statistical_distance(b, a, 0))
    near, off = np.zeros((1, 20, 2)), np.full((1, 20, 2), 0.03)
    for steps in (1, 20):
        value = statistical_distance(near[:, :steps], off[:, :steps], 0)
        assert value == pytest.approx(0.03 * np.sqrt(2.0))


def test_chunks_that_share_no_step_have_no_distance():
    chunk = ways(np.zeros(2))
    assert np.isnan(statistical_distance(chunk, chunk, STEPS))
    assert np.isnan(statistical_distance(chunk, chunk, STEPS - 0.5))
    assert np.isfinite(statistical_distance(chunk, chunk, STEPS - 1))


@pytest.mark.parametrize(
    ("previous", "present", "shift", "message"),
    [
        (np.zeros((8, 2)), np.zeros((1, 8, 2)), 0, r"got \(8, 2\) and"),
        (np.zeros((1, 8, 2)), np.zeros((1, 8, 3)), 0, r"and \(1, 8, 3\)"),
        (np.zeros((0, 8, 2)), np.zeros((1, 8, 2)), 0, r"got \(0, 8, 2\)"),
        (np.zeros((1, 8, 2)), np.zeros((1, 8, 2)), -1, "shift must be 0 or more steps, got -1"),
        (np.zeros((1, 8, 2)), np.zeros((1, 8, 2)), np.nan, "got nan"),
    ],
)
def test_sets_that_do_not_fit_are_refused(previous, present, shift, message):
    with pytest.raises(DataError, match=message):
        statistical_distance(previous, present, shift)
