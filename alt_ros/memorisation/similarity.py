"""Whether a policy recalls: how near an executed trajectory is to one demonstration alone.

Notation (He et al. 2026, "Demystifying Robot Diffusion Policies", arXiv 2505.05787):

- tau_r: the executed trajectory
- s: a distance of trajectories, ``TrajectoryDistance``
- tau_1, tau_2: the training trajectories nearest and second nearest to tau_r
- S = 1 - s(tau_r, tau_1) / s(tau_1, tau_2): 1 is a copy; about 0.5 or less is midway between two
  demonstrations; 0 is as far from tau_1 as tau_2 is; there is no lower bound

Chosen here, since the paper's text leaves it open and its released code does not compute it:

- s is DTW over position and rotation unless another is asked for; S of different s differ.
- tau_2 is the second nearest to tau_r, not the nearest to tau_1, which would give the same S or a
  lower one.
- The similarity to each demonstration is S_i = 1 - s(tau_r, tau_i) / m, where m is the mean of s
  over the pairs of training trajectories: 1 is a copy of demonstration i, 0 is as far from it as
  demonstrations are from each other on average.
- Training trajectories with a distance of zero are refused, as S would divide by it.

The paper reports the largest S of a policy's roll-outs; a mean or median says more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.memorisation.trajectory_distance import Trajectory, TrajectoryDistance

Array = NDArray[np.float64]

MIN_SAMPLES = 2
"""A trajectory of fewer does not move."""
DRAWS = 10_000
"""Drawn sets of roll-outs that say what chance gives."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """How near one executed trajectory is to the N demonstrations; distances in the unit of s.

    Attributes:
        distances: (N,) s(tau_r, tau_i).
        nearest: Number of tau_1.
        second: Number of tau_2.
        apart: s(tau_1, tau_2).
        mean_apart: Mean of s over the pairs of training trajectories.
    """

    distances: Array
    nearest: int
    second: int
    apart: float
    mean_apart: float

    @property
    def value(self) -> float:
        """S, at most 1."""
        return 1.0 - float(self.distances[self.nearest]) / self.apart

    @property
    def per_demonstration(self) -> Array:
        """(N,) S_i, at most 1."""
        return 1.0 - self.distances / self.mean_apart


@dataclass(frozen=True, eq=False)
class TrainingTrajectories:
    """What a policy was trained on, with the distances that every roll-out is judged by.

    Attributes:
        trajectories: N >= 2, in the order of the demonstrations.
        distance: The distance s.
        distances: (N, N) s of every pair.
    """

    trajectories: Sequence[Trajectory]
    distance: TrajectoryDistance = field(default_factory=TrajectoryDistance)
    distances: Array = field(init=False)

    def __post_init__(self) -> None:
        trajectories = tuple(self.trajectories)
        if len(trajectories) < 2:
            raise DataError(
                "similarity needs two training demonstrations, the nearest and the second "
                f"nearest, got {len(trajectories)}: record another"
            )
        for number, trajectory in enumerate(trajectories):
            _check_length(trajectory, f"training trajectory {number}")
        distances = self.distance.pairwise(trajectories)
        same = np.argwhere(np.triu(distances == 0.0, k=1))
        if len(same):
            raise DataError(
                f"similarity needs training trajectories that differ, {same[0][0]} and "
                f"{same[0][1]} have a distance of 0: leave one of them out"
            )
        object.__setattr__(self, "trajectories", trajectories)
        object.__setattr__(self, "distances", distances)

    @property
    def mean_distance(self) -> float:
        """Mean of s over the pairs."""
        pairs = np.triu_indices(len(self.trajectories), k=1)
        return float(self.distances[pairs].mean())

    def judge(self, executed: Trajectory) -> Similarity:
        """Return how near a whole executed trajectory is to each demonstration.

        A roll-out that was cut short is a part of a demonstration at best, and S is low for it.

        Raises:
            DataError: It has one sample only, or other parts or columns than the demonstrations.
        """
        _check_length(executed, "executed trajectory")
        distances = self.distance.to_each(executed, self.trajectories)
        nearest, second = np.argsort(distances, kind="stable")[:2].tolist()
        apart = float(self.distances[nearest, second])
        return Similarity(distances, nearest, second, apart, self.mean_distance)


@dataclass(frozen=True)
class Copy:
    """The training chunk that an executed chunk is nearest to.

    Attributes:
        distance: Mean distance of the samples, step by step, metres or the columns' unit; 0 is a
            copy.
        demonstration: Number of the demonstration.
        frame: Its frame where the training chunk begins.
    """

    distance: float
    demonstration: int
    frame: int


def copy_score(
    chunk: Trajectory,
    training: Sequence[Trajectory],
    distance: TrajectoryDistance | None = None,
) -> Copy:
    """Return the training chunk nearest to an executed one, step by step.

    S tells a copied trajectory from others. A policy that joins copied chunks of several
    demonstrations has a low S, as one that interpolates does; here the first is at zero, the
    second is not.

    Args:
        chunk: H samples.
        training: The demonstrations; every H samples in a row of one of them are a chunk.
        distance: What two samples are compared by; its kind has no say, time is not warped.

    Raises:
        DataError: No demonstration has H samples, or the parts or columns differ.
    """
    distance = distance or TrajectoryDistance()
    horizon, lengths = len(chunk), np.array([len(trajectory) for trajectory in training])
    if lengths.max(initial=0) < horizon:
        raise DataError(
            f"copy score: the chunk has {horizon} samples, the longest of {len(lengths)} "
            f"demonstrations {lengths.max(initial=0)}: give a shorter chunk"
        )
    parts = [distance.of_samples(chunk, trajectory) for trajectory in training]
    costs = np.concatenate(parts, axis=1)  # (H, T)
    ends = np.cumsum(lengths)
    starts = np.arange(ends[-1] - horizon + 1)
    demonstrations = np.searchsorted(ends, starts, side="right")
    sums = sum(costs[step, step : step + len(starts)] for step in range(horizon))
    sums = np.where(starts + horizon <= ends[demonstrations], sums, np.inf)
    best = int(sums.argmin())
    demonstration = int(demonstrations[best])
    frame = best - int(ends[demonstration] - lengths[demonstration])
    return Copy(float(sums[best]) / horizon, demonstration, frame)


@dataclass(frozen=True)
class AgainstChance:
    """A figure, and what it is where every roll-out takes any demonstration alike.

    Attributes:
        value: The figure.
        chance: Its mean by chance.
        low: 2.5 % quantile by chance.
        high: 97.5 % quantile by chance.
    """

    value: float
    chance: float
    low: float
    high: float


@dataclass(frozen=True)
class Concentration:
    """How much of what a policy does goes to few demonstrations.

    Attributes:
        rollouts: Number of roll-outs.
        demonstrations: Number of demonstrations.
        most_frequent: The demonstration that is nearest most often, the first of equals.
        top: Share of the roll-outs that it is nearest to.
        top_two: Share of the two most frequent.
        entropy: Of the shares, divided by log(demonstrations): 0 is one demonstration only, 1
            all alike. Fewer roll-outs than demonstrations cannot reach 1; chance says what they
            reach.
    """

    rollouts: int
    demonstrations: int
    most_frequent: int
    top: AgainstChance
    top_two: AgainstChance
    entropy: AgainstChance


def fall_back_concentration(
    nearest: Sequence[int], demonstrations: int, *, seed: int = 0
) -> Concentration:
    """Return whether roll-outs fall back on one or two demonstrations, against chance.

    The paper sees it out of distribution. What chance gives is ``DRAWS`` sets of as many
    roll-outs, each on a demonstration drawn uniformly.

    Args:
        nearest: The nearest demonstration of each roll-out.
        demonstrations: Number of demonstrations, at least 2.
        seed: Of the draws.

    Raises:
        ConfigurationError: There are fewer than two demonstrations, or the seed is negative.
        DataError: There is no roll-out, or a number is no demonstration's.
    """
    if demonstrations < 2 or seed < 0:
        raise ConfigurationError(
            "concentration: two demonstrations and a seed of at least 0 are needed, got "
            f"{demonstrations} and {seed}"
        )
    numbers = np.asarray(nearest, np.int64)
    if len(numbers) == 0 or numbers.min() < 0 or numbers.max() >= demonstrations:
        raise DataError(
            f"concentration: one number of 0 to {demonstrations - 1} per roll-out is needed, at "
            f"least one, got {numbers.tolist()}"[:300]
        )
    counts = np.bincount(numbers, minlength=demonstrations)
    uniform = np.full(demonstrations, 1.0 / demonstrations)
    drawn = np.random.default_rng(seed).multinomial(len(numbers), uniform, size=DRAWS)
    seen, by_chance = _shares(counts[None])[:, 0], _shares(drawn)  # (3,), (3, DRAWS)
    lows, highs = np.quantile(by_chance, (0.025, 0.975), axis=1)
    top, top_two, entropy = (
        AgainstChance(*map(float, row))
        for row in zip(seen, by_chance.mean(axis=1), lows, highs, strict=True)
    )
    return Concentration(len(numbers), demonstrations, int(counts.argmax()), top, top_two, entropy)


def _shares(counts: NDArray[np.int64]) -> Array:
    """Return of counts (n, N) the largest share, that of the two largest, and the entropy."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    largest = np.sort(shares, axis=1)[:, -2:]
    logs = np.log(shares, where=shares > 0.0, out=np.zeros_like(shares))
    entropy = -(shares * logs).sum(axis=1) / math.log(shares.shape[1])
    return np.stack([largest[:, 1], largest.sum(axis=1), np.abs(entropy)])


def _check_length(trajectory: Trajectory, subject: str) -> None:
    if len(trajectory) < MIN_SAMPLES:
        raise DataError(
            f"{subject} needs at least {MIN_SAMPLES} samples, got {len(trajectory)}: give the "
            "whole episode"
        )
