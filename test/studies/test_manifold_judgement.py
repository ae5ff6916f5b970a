"""The verdicts hold on points whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from alt_ros.studies.curves import SHAPES, curve
from alt_ros.studies.manifold_judgement import (
    GENERALISES,
    LAST_NOISE,
    MEMORISES,
    MISSES,
    THRESHOLD,
    _chance_below,
    judge,
    verdict,
)
from alt_ros.studies.manifold_training import noise_schedule


def drawn(shape: str, few: int = 20, seed: int = 0):
    generator = np.random.default_rng(seed)
    return generator, curve(shape), curve(shape).draw(few, generator)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("points", [20, 3000])
def test_fresh_true_points_generalise(shape, points):
    generator, line, training = drawn(shape, points)
    samples = line.draw(1000, generator)
    blurred = samples + generator.normal(0.0, LAST_NOISE / 2, samples.shape)
    for fresh in (samples, blurred):
        judged = judge(fresh, training, line, generator)
        assert judged.verdict == GENERALISES
        assert judged.on_manifold > 0.95
        assert judged.nearness is not None
        assert judged.nearness_error is not None
        assert abs(judged.nearness - 0.5) < 4 * judged.nearness_error
        assert judged.ratio == pytest.approx(1.0, abs=0.2)


def test_dense_training_points_do_not_look_memorised_by_samples_beside_the_curve():
    generator, line, training = drawn("star", 100_000)
    samples = line.draw(1000, generator) + generator.normal(0.0, 0.01, (1000, 2))
    judged = judge(samples, training, line, generator)
    assert judged.verdict == GENERALISES
    assert judged.nearness == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_points_with_a_little_noise_are_memorised(shape):
    generator, line, training = drawn(shape)
    samples = training[generator.integers(20, size=1000)] + generator.normal(0.0, 0.01, (1000, 2))
    judged = judge(samples, training, line, generator)
    assert judged.verdict == MEMORISES
    assert judged.nearness is not None
    assert judged.nearness > 0.85
    assert judged.ratio is not None
    assert judged.ratio < 0.2


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cloud_misses(shape):
    generator, line, training = drawn(shape)
    judged = judge(generator.normal(0.0, 0.5, (1000, 2)), training, line, generator)
    assert judged.verdict == MISSES


def test_samples_of_which_none_lies_on_the_curve_have_no_nearness():
    generator, line, training = drawn("star")
    judged = judge(np.full((10, 2), 5.0), training, line, generator)
    assert (judged.on_manifold, judged.nearness, judged.ratio) == (0.0, None, None)
    assert judged.verdict == MISSES


def test_one_sample_on_the_curve_has_a_finite_error():
    generator, line, training = drawn("star")
    judged = judge(training[:1], training, line, generator)
    assert judged.nearness is not None
    assert judged.nearness > 0.99
    assert judged.nearness_error is not None
    assert math.isfinite(judged.nearness_error)


def test_nearness_is_the_mann_whitney_statistic_with_its_spread():
    generator = np.random.default_rng(0)
    ours, others = generator.exponential(1.0, 60), generator.exponential(2.0, 80)
    chance, error = _chance_below(ours, others)
    reference = mannwhitneyu(others, ours).statistic / (60 * 80)
    assert chance == pytest.approx(reference)
    again = [
        _chance_below(generator.exponential(1.0, 60), generator.exponential(2.0, 80))[0]
        for _ in range(300)
    ]
    assert error == pytest.approx(np.std(again), rel=0.2)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_every_pair_of_numbers_has_one_verdict(on_manifold, nearness):
    said = verdict(on_manifold, nearness)
    assert (said == MISSES) == (on_manifold < THRESHOLD)
    assert (said == MEMORISES) == (on_manifold >= THRESHOLD and nearness > THRESHOLD)


def test_the_tolerance_is_that_of_the_last_denoising_step():
    schedule = noise_schedule()
    assert len(schedule.alphas_cumprod) == 100
    noise = float((1.0 - schedule.alphas_cumprod[0]).sqrt())
    assert pytest.approx(noise, abs=5e-5) == LAST_NOISE
    generator = np.random.default_rng(0)
    line = curve("rectangle")
    true = line.draw(4000, generator)
    judged = judge(true + generator.normal(0.0, noise, true.shape), true, line, generator)
    assert judged.on_manifold == pytest.approx(0.95, abs=0.015)
