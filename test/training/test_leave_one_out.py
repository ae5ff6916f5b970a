import dataclasses

import numpy as np
import pytest
from tables import table, unit

from alt_ros.errors import ConfigurationError
from alt_ros.training.leave_one_out import leave_one_out


def circle(count):
    angles = np.linspace(0, np.pi, count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def repeated(demonstrations=4, frames=12):
    """Demonstrations that look alike and do alike: the frame of the same number is right."""
    embeddings = unit(np.tile(circle(frames), (demonstrations, 1)))
    held = table((frames,) * demonstrations, embeddings=embeddings)
    actions = held.actions.copy()
    actions[:, 0] = np.tile(np.arange(frames), demonstrations)
    return dataclasses.replace(held, actions=actions)


def test_a_table_of_repetitions_recalls_as_well_as_the_oracle():
    result = leave_one_out(repeated(), horizon=4)
    assert result.recalled.value == result.oracle.value == 0.0
    assert result.random.value > 1.0
    assert result.random.low <= result.random.value <= result.random.high
    assert (result.frames, result.demonstrations) == (48, 4)


def test_embeddings_without_meaning_recall_no_better_than_chance():
    held = repeated(demonstrations=8, frames=20)
    rng = np.random.default_rng(0)
    blind = dataclasses.replace(held, embeddings=unit(rng.normal(size=(160, 8))))
    result = leave_one_out(blind, horizon=4)
    assert result.oracle.value == 0.0
    assert result.recalled.value > 0.6 * result.random.value


def test_the_end_of_a_demonstration_is_compared_over_what_is_left_of_it():
    held = repeated(demonstrations=2, frames=3)
    result = leave_one_out(held, horizon=50)
    assert result.recalled.value == 0.0


def test_a_stride_asks_fewer_frames_and_progress_is_told():
    told = []
    result = leave_one_out(repeated(), horizon=4, stride=5, progress=lambda *now: told.append(now))
    assert result.frames == 4 * 3
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_seed_decides_the_random_chunks():
    rng = np.random.default_rng(0)
    held = repeated()
    held = dataclasses.replace(held, actions=held.actions + rng.normal(size=held.actions.shape))
    results = [leave_one_out(held, horizon=4, seed=seed) for seed in (0, 0, 1)]
    assert results[0] == results[1]
    assert results[0].random != results[2].random


@pytest.mark.parametrize("settings", [{"horizon": 0}, {"horizon": 1, "stride": 0}])
def test_numbers_out_of_bounds_are_refused(settings):
    with pytest.raises(ConfigurationError, match="leave one out"):
        leave_one_out(repeated(), **settings)


def test_one_demonstration_cannot_be_left_out():
    with pytest.raises(ConfigurationError, match="two demonstrations"):
        leave_one_out(repeated(demonstrations=1), horizon=2)
