import numpy as np
import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.geometry import arm_action, split_arm_action
from alt_ros.lookup.table import Table, make_table
from alt_ros.studies.resampling import (
    fitted_noise,
    fresh_demonstrations,
    joined,
    nearest_distances,
    next_demonstration,
    part_of,
    resample,
)
from alt_ros.types import ActionLayout

FRAMES = 20


def table_of(sides: np.ndarray, roughness: float = 0.0, first: int = 0) -> Table:
    """Demonstrations that end ``sides`` metres to the left, and look like where they end."""
    rng = np.random.default_rng(first)
    t = np.linspace(0.0, 1.0, FRAMES)
    embeddings, poses, openings = [], [], []
    for side in sides:
        look = np.stack([np.cos(t), np.sin(t), side * (1 + t), *np.zeros((5, FRAMES))], axis=1)
        embeddings.append(look + roughness * rng.standard_normal(look.shape))
        position = np.stack([0.5 * t, side * t, 0.3 - 0.2 * t], axis=1)
        poses.append(np.hstack([position, np.tile([0.0, 0.0, 0.0, 1.0], (FRAMES, 1))]))
        openings.append(np.where(t < 0.7, 0.08, 0.0))
    look = np.concatenate(embeddings)
    look = (look / np.linalg.norm(look, axis=1, keepdims=True)).astype(np.float32)
    pose, opening = np.concatenate(poses)[:, None], np.concatenate(openings)[:, None]
    return make_table(
        embeddings=look,
        view_embeddings=np.stack([look, look[:, ::-1]], axis=1),
        actions=arm_action(pose, opening),
        poses=pose,
        grippers=opening,
        episode_ends=FRAMES * np.arange(1, len(sides) + 1),
        names=tuple(f"demonstration_{first + n}" for n in range(len(sides))),
        period=50_000_000,
        layout=ActionLayout(1),
    )


RECORDED = table_of(np.linspace(-0.3, 0.3, 6))


def test_the_recorded_demonstrations_come_first_and_untouched():
    made = resample(RECORDED, 15, noise=0.5, seed=0)
    kept = part_of(made.table, 0, 6)
    assert np.array_equal(kept.embeddings, RECORDED.embeddings)
    assert np.array_equal(kept.actions, RECORDED.actions)
    assert kept.names == RECORDED.names
    assert made.weights[:6].tolist() == [0.0] * 6
    assert made.parents[:6].tolist() == [[n, n] for n in range(6)]
    assert len(set(made.table.names)) == 15


def test_no_more_than_recorded_is_a_part_of_what_was_recorded():
    made = resample(RECORDED, 4, noise=0.5, seed=0)
    assert made.table.names == RECORDED.names[:4]
    assert np.array_equal(made.table.embeddings, RECORDED.embeddings[: 4 * FRAMES])


def test_a_larger_table_holds_the_smaller_one():
    small = resample(RECORDED, 10, noise=0.5, seed=3).table
    large = part_of(resample(RECORDED, 40, noise=0.5, seed=3).table, 0, 10)
    assert np.allclose(small.embeddings, large.embeddings, atol=1e-6)
    assert np.allclose(small.actions, large.actions)
    other = part_of(resample(RECORDED, 40, noise=0.5, seed=4).table, 0, 10)
    assert not np.allclose(small.embeddings, other.embeddings, atol=1e-3)


def test_motions_lie_between_those_of_their_parents_and_grasp_when_they_do():
    made = resample(RECORDED, 30, noise=0.5, seed=0)
    positions, openings = split_arm_action(made.table.actions, 1)
    for number in range(6, 30):
        rows, (a, b), w = made.table.rows(number), made.parents[number], made.weights[number]
        own, other = (positions[made.table.rows(parent)][:, 0, :3] for parent in (a, b))
        assert a != b
        assert 0.0 < w < 0.5
        assert np.allclose(positions[rows][:, 0, :3], (1 - w) * own + w * other, atol=1e-9)
        assert np.array_equal(openings[rows], openings[made.table.rows(a)])


def test_without_noise_embeddings_are_those_of_the_place_between():
    made = resample(RECORDED, 30, noise=0.0, seed=0)
    sides = np.linspace(-0.3, 0.3, 6)
    first, second = sides[made.parents.T]
    between = table_of(first + made.weights * (second - first))
    # Not quite the same: the recorded ones that are interpolated have unit length already.
    assert nearest_distances(made.table.embeddings, between.embeddings).max() < 2e-3
    similarity = np.sum(made.table.embeddings * between.embeddings, axis=1)
    assert similarity.min() > 0.998


def test_the_noise_makes_resampled_frames_as_far_off_as_held_out_ones():
    recorded = table_of(np.linspace(-0.3, 0.3, 8), roughness=0.05)
    held_out = table_of(np.linspace(-0.25, 0.25, 4), roughness=0.05, first=8)
    noise = fitted_noise(recorded, held_out, seed=0)
    fresh = fresh_demonstrations(recorded, noise, seed=1)
    plain = fresh_demonstrations(recorded, 0.0, seed=1)
    wanted, got, without = (
        np.median(nearest_distances(table.embeddings, recorded.embeddings))
        for table in (held_out, fresh, plain)
    )
    assert noise > 0.0
    assert got == pytest.approx(wanted, rel=0.25)
    assert without < 0.75 * wanted


def test_distances_are_to_the_nearest_of_another_demonstration():
    both = joined([RECORDED, RECORDED])
    frames = np.arange(0, len(both), 7)
    assert next_demonstration(both, frames).max() < 1e-6
    apart = next_demonstration(RECORDED, np.arange(len(RECORDED)))
    similarity = RECORDED.embeddings @ RECORDED.embeddings.T
    same = RECORDED.demonstration[:, None] == RECORDED.demonstration
    assert np.allclose(apart, 1.0 - np.where(same, -1.0, similarity).max(axis=1), atol=1e-6)


def test_one_demonstration_is_not_enough():
    with pytest.raises(ConfigurationError, match="two demonstrations"):
        resample(part_of(RECORDED, 0, 1), 2, noise=0.0, seed=0)
