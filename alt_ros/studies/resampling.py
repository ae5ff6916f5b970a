"""More demonstrations than were recorded: the rest is resampled from the recorded ones.

A resampled demonstration is a recorded one a, moved towards a neighbour b of it. At each point of
the motion its embedding is

    x = normalise(x_a + w d_b + s sum_k g_k d_k / sqrt(K)),    d_k = x_k - x_a

- K: the demonstrations whose paths are nearest to a's, at the same point of their motion; b is one
  of the nearest ``NEIGHBOURS`` of them
- w: uniform from 0 to ``MOST_WEIGHT``; actions and poses are interpolated by it as well
- g: standard normal and smooth along the motion, so that the last term is noise of the covariance
  that is measured around a at that point
- s: the noise. ``fitted_noise`` chooses it so that resampled demonstrations are as far from the
  nearest recorded frame as recorded ones that were held out are

The embeddings of the views get the same w and g. Nothing is rendered: what a camera would have
seen where no cup stood is not known, only assumed to lie between what was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError
from alt_ros.geometry import arm_action, split_arm_action
from alt_ros.lookup.table import Table, make_table

PARTNERS = 8
NEIGHBOURS = 4
MOST_WEIGHT = 0.5
KNOTS = 5
"""Independent values of the noise along a motion."""
MOST_NOISE = 4.0
PATH_POINTS = 16
BLOCK = 50_000
"""Rows that are compared at once."""
_ARRAYS = ("embeddings", "view_embeddings", "actions", "poses", "grippers")
Array = NDArray[np.float64]
Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Resampled:
    """A table of E demonstrations, the recorded ones first.

    Attributes:
        table: The table.
        parents: (E, 2) int64, the recorded demonstrations a and b that each comes from; a recorded
            one comes from itself.
        weights: (E,) w, 0 for a recorded one.
    """

    table: Table
    parents: Rows
    weights: Array


def part_of(table: Table, start: int, stop: int) -> Table:
    """Return the demonstrations from ``start`` to before ``stop``."""
    rows = slice(table.rows(start).start, table.rows(stop - 1).stop)
    return make_table(
        **{name: getattr(table, name)[rows] for name in _ARRAYS},
        episode_ends=table.episode_ends[start:stop] - rows.start,
        names=table.names[start:stop],
        period=table.period,
        layout=table.layout,
    )


def joined(tables: Sequence[Table]) -> Table:
    """Return the demonstrations of all tables, which are of one period and layout."""
    lengths = [np.diff(table.episode_ends, prepend=0) for table in tables]
    return make_table(
        **{name: np.concatenate([getattr(table, name) for table in tables]) for name in _ARRAYS},
        episode_ends=np.cumsum(np.concatenate(lengths)),
        names=tuple(name for table in tables for name in table.names),
        period=tables[0].period,
        layout=tables[0].layout,
    )


def resample(recorded: Table, size: int, *, noise: float, seed: int) -> Resampled:
    """Return a table of so many demonstrations; those beyond the recorded ones are resampled.

    The larger of two tables of one seed holds the smaller one.

    Args:
        recorded: At least two demonstrations of one or more arms, where any are to be resampled.
        size: Demonstrations, E.
        noise: s, not negative.
        seed: Of everything drawn.

    Raises:
        ConfigurationError: There is nothing to resample from, or the noise is negative.
    """
    count = recorded.demonstrations
    own = np.repeat(np.arange(min(size, count))[:, None], 2, axis=1)
    if size <= count:
        return Resampled(part_of(recorded, 0, size), own, np.zeros(size))
    if count < 2 or recorded.layout.arms == 0 or recorded.layout.extra or noise < 0.0:
        raise ConfigurationError(
            "resampling needs two demonstrations of arms alone and a noise of 0 or more, got "
            f"{count} demonstrations, {recorded.layout} and {noise}: record more"
        )
    partners = _partners(recorded)
    parent = np.arange(size - count) % count
    lengths = np.diff(recorded.episode_ends, prepend=0)
    ends = np.cumsum(np.concatenate([lengths, lengths[parent]]))
    arrays: dict[str, NDArray[Any]] = {}
    for name in _ARRAYS:
        like: NDArray[Any] = getattr(recorded, name)
        arrays[name] = np.empty((int(ends[-1]), *like.shape[1:]), like.dtype)
    for name, array in arrays.items():
        array[: len(recorded)] = getattr(recorded, name)
    draws = [_draw(partners.shape[1], seed, number) for number in range(size - count)]
    for a in range(min(count, size - count)):
        children = np.flatnonzero(parent == a)
        rows = (ends[count + children] - lengths[a])[:, None] + np.arange(lengths[a])
        moved = _children(recorded, a, partners[a], [draws[child] for child in children], noise)
        for name, array in arrays.items():
            array[rows] = moved[name]
    chosen = partners[parent, [draw.partner for draw in draws]]
    table = make_table(
        **arrays,
        episode_ends=ends,
        names=(*recorded.names, *(f"resampled_{n:05d}" for n in range(size - count))),
        period=recorded.period,
        layout=recorded.layout,
    )
    return Resampled(
        table,
        np.concatenate([own, np.stack([parent, chosen], axis=1)]),
        np.concatenate([np.zeros(count), [draw.weight for draw in draws]]),
    )


@dataclass(frozen=True, eq=False)
class _Draw:
    """What is drawn for one resampled demonstration.

    Attributes:
        partner: Which of the partners is b.
        weight: w.
        knots: (K, KNOTS) of g.
    """

    partner: int
    weight: float
    knots: Array


def _draw(partners: int, seed: int, number: int) -> _Draw:
    rng = np.random.default_rng((seed, number))
    return _Draw(
        int(rng.integers(min(partners, NEIGHBOURS))),
        float(rng.uniform(0.0, MOST_WEIGHT)),
        rng.standard_normal((partners, KNOTS)),
    )


def _children(
    table: Table, a: int, partners: Rows, draws: Sequence[_Draw], noise: float
) -> dict[str, NDArray[Any]]:
    """Return the arrays (n, L, ...) of n demonstrations resampled from one of L frames."""
    rows = table.rows(a)
    at = [_aligned(table, a, int(b)) for b in partners]  # K of (L,) rows, with fractions
    partner = np.array([draw.partner for draw in draws])
    weight = np.array([draw.weight for draw in draws])
    knots = np.stack([draw.knots for draw in draws])  # (n, K, KNOTS)
    shares = noise / np.sqrt(len(partners)) * knots @ _smooth(rows.stop - rows.start).T
    shares[np.arange(len(draws)), partner] += weight[:, None]
    shares = shares.transpose(2, 0, 1).astype(np.float32)  # (L, n, K)
    result: dict[str, NDArray[Any]] = {}
    for name in ("embeddings", "view_embeddings"):
        values: Vectors = getattr(table, name)
        own = values[rows].reshape(len(shares), -1)
        away = np.stack([_between(values, where).reshape(own.shape) - own for where in at], axis=1)
        moved = (own[:, None] + shares @ away).transpose(1, 0, 2)  # (n, L, ...)
        moved = moved.reshape(len(draws), len(own), *values.shape[1:])
        result[name] = moved / np.linalg.norm(moved, axis=-1, keepdims=True)
    commanded, openings = split_arm_action(table.actions, table.layout.arms)
    for name, poses in (("actions", commanded), ("poses", table.poses)):
        there = np.stack([_between(poses, where, poses[rows]) for where in at])[partner]
        w = weight[:, None, None, None]
        result[name] = _unit_quaternions((1.0 - w) * poses[rows] + w * there)
    opening = np.broadcast_to(openings[rows], (*result["actions"].shape[:-1],))
    result["actions"] = arm_action(result["actions"], opening)
    result["grippers"] = np.broadcast_to(table.grippers[rows], opening.shape)
    return result


def _smooth(length: int) -> Array:
    """Return (length, KNOTS) shares of the knots, the squares of which add up to 1."""
    progress = np.linspace(0.0, 1.0, length)[:, None]
    shares = np.exp(-0.5 * ((progress - np.linspace(0.0, 1.0, KNOTS)) * (KNOTS - 1)) ** 2)
    return shares / np.linalg.norm(shares, axis=1, keepdims=True)


def _between(values: NDArray[Any], at: Array, like: Array | None = None) -> NDArray[Any]:
    """Return values at rows with fractions; poses with quaternions on the side of ``like``'s."""
    low = np.floor(at).astype(np.int64)
    high = np.ceil(at).astype(np.int64)
    share = (at - low).reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    first, second = values[low], values[high]
    if like is not None:
        first, second = _same_side(first, like), _same_side(second, like)
    return (1.0 - share) * first + share * second


def _same_side(poses: Array, like: Array) -> Array:
    """Return poses whose quaternions, of the same rotations, are on the side of the others'."""
    turned = np.sum(poses[..., 3:] * like[..., 3:], axis=-1, keepdims=True) < 0.0
    quaternions = np.where(turned, -poses[..., 3:], poses[..., 3:])
    return np.concatenate([poses[..., :3], quaternions], axis=-1)


def _unit_quaternions(poses: Array) -> Array:
    norms = np.linalg.norm(poses[..., 3:], axis=-1, keepdims=True)
    return np.concatenate([poses[..., :3], poses[..., 3:] / norms], axis=-1)


def _aligned(table: Table, a: int, b: int) -> Array:
    """Return (L,) rows of b, with fractions, at the points of a's motion.

    Start, grasp and end are at one another; between them time is stretched.
    """
    of_a, of_b = table.rows(a), table.rows(b)
    known = [0, _grasp(table, a), of_a.stop - of_a.start - 1]
    there = [0, _grasp(table, b), of_b.stop - of_b.start - 1]
    return of_b.start + np.interp(np.arange(known[-1] + 1), known, there)


def _grasp(table: Table, demonstration: int) -> int:
    """Return the first frame at which the grippers are told to be more closed than open."""
    actions = table.actions[table.rows(demonstration)]
    opening = split_arm_action(actions, table.layout.arms)[1].sum(axis=-1)
    return int((opening < 0.5 * (opening.min() + opening.max())).argmax())


def _partners(table: Table) -> Rows:
    """Return the (E, K) demonstrations whose commanded paths are nearest to each one's."""
    positions = split_arm_action(table.actions, table.layout.arms)[0][..., :3]
    paths = np.stack(
        [
            positions[np.linspace(rows.start, rows.stop - 1, PATH_POINTS).round().astype(int)]
            for rows in map(table.rows, range(table.demonstrations))
        ]
    )  # (E, PATH_POINTS, arms, 3)
    apart = np.linalg.norm(paths[:, None] - paths, axis=-1).mean(axis=(2, 3))
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, axis=1, kind="stable")[:, : min(PARTNERS, len(apart) - 1)]


def nearest_distances(
    queries: Vectors, values: Vectors, own: NDArray[np.bool_] | None = None
) -> Array:
    """Return (n,) distances 1 - cosine of (n, D) unit vectors to the nearest of (T, D).

    Args:
        queries: Unit vectors.
        values: What they are compared with.
        own: (n, T) which are not counted.
    """
    best = np.full(len(queries), -np.inf, np.float32)
    for start in range(0, len(values), BLOCK):
        similarity = queries @ values[start : start + BLOCK].T
        if own is not None:
            similarity[own[:, start : start + BLOCK]] = -np.inf
        np.maximum(best, similarity.max(axis=1), out=best)
    return 1.0 - best.astype(np.float64)


def next_demonstration(table: Table, frames: Rows) -> Array:
    """Return how far rows of a table are from the nearest of another demonstration, 1 - cosine."""
    own = table.demonstration[frames][:, None] == table.demonstration
    return nearest_distances(table.embeddings[frames], table.embeddings, own)


def fitted_noise(recorded: Table, held_out: Table, *, seed: int) -> float:
    """Return the noise with which resampled demonstrations lie as far off as recorded ones.

    By the median distance of a frame to the nearest frame of the recorded demonstrations; 0 where
    interpolation alone is farther off.

    Args:
        recorded: What is resampled from.
        held_out: Other recorded demonstrations.
        seed: Of the resampling.
    """
    wanted = np.median(nearest_distances(held_out.embeddings, recorded.embeddings))
    low, high = 0.0, MOST_NOISE
    for _ in range(10):
        middle = 0.5 * (low + high)
        fresh = fresh_demonstrations(recorded, middle, seed=seed)
        if np.median(nearest_distances(fresh.embeddings, recorded.embeddings)) < wanted:
            low = middle
        else:
            high = middle
    return low


def fresh_demonstrations(recorded: Table, noise: float, *, seed: int) -> Table:
    """Return one resampled demonstration of each recorded one."""
    count = recorded.demonstrations
    table = resample(recorded, 2 * count, noise=noise, seed=seed).table
    return part_of(table, count, 2 * count)


def likeness(recorded: Table, parents: int, held_out: int, *, seed: int) -> dict[str, Any]:
    """Fit the noise, and compare what is resampled with what was held out.

    Args:
        recorded: Everything that was recorded.
        parents: How many, from the first on, are resampled from; fewer where they were held out.
        held_out: The last of them.
        seed: Of the resampling.

    Returns:
        ``noise``, ``from`` (demonstrations compared with), ``held_out``, and for ``recorded`` and
        ``resampled`` ones the distance of each frame to the nearest of those, 1 - cosine;
        ``<name>_of`` the demonstration of the frame, ``<name>_views`` the same of each view.
    """
    rest = recorded.demonstrations - held_out
    fresh_from = part_of(recorded, 0, min(parents, rest))
    held = part_of(recorded, rest, recorded.demonstrations)
    noise = fitted_noise(fresh_from, held, seed=seed)
    fresh = fresh_demonstrations(fresh_from, noise, seed=seed + 1)
    figures: dict[str, Any] = {
        "noise": noise,
        "held_out": held_out,
        "from": fresh_from.demonstrations,
    }
    for name, table in (("recorded", held), ("resampled", fresh)):
        figures[name] = nearest_distances(table.embeddings, fresh_from.embeddings).tolist()
        figures[f"{name}_of"] = table.demonstration.tolist()
        figures[f"{name}_views"] = [
            nearest_distances(
                np.ascontiguousarray(table.view_embeddings[:, view]),
                np.ascontiguousarray(fresh_from.view_embeddings[:, view]),
            ).tolist()
            for view in range(table.view_embeddings.shape[1])
        ]
    return figures
