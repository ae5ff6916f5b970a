"""How far two trajectories are from each other: in step, warped in time, or at the worst moment.

The distance of two points, one sample of each trajectory, is metres of position plus
``rotation_weight`` (metres per radian) times the geodesic angle, averaged over the end effectors.
Three distances of trajectories a (n samples) and b (m samples) are made of it, d(i, j):

- ``pointwise``: both are resampled to max(n, m) samples, uniformly in time; the mean of d(k, k).
- ``dtw``: the warping that makes the weighted mean of d along it smallest. Sakoe and Chiba 1978,
  "Dynamic programming algorithm optimization for spoken word recognition", symmetric form without
  slope constraint: a step in one trajectory weighs 1, a step in both weighs 2, so every warping
  weighs n + m and the smallest sum is the smallest mean. It is no metric: the triangle
  inequality may fail.
- ``frechet``: the largest d along the warping that makes it smallest, the shortest leash. Eiter
  and Mannila 1994, "Computing discrete Fréchet distance".

The first punishes another speed, the second forgives it and averages, the third forgives it and
tells of the worst moment alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import split_arm_action
from alt_ros.types import POSE_SIZE, ActionLayout, check_poses

Array = NDArray[np.float64]

POINTWISE, DTW, FRECHET = "pointwise", "dtw", "frechet"
KINDS = (POINTWISE, DTW, FRECHET)

BLOCK = 32
"""Trajectories compared with one at once: 32 of 400 samples with 400 take 160 MB."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A path of n samples, of end effectors or of plain columns.

    Attributes:
        positions: (n, parts, D) metres, one part per end effector and D = 3; plain columns are
            one part of D columns in the data set's own unit (pixels, joint angles).
        rotations: (n, parts, 4) quaternions x, y, z, w; None where the parts have no rotation.
    """

    positions: Array
    rotations: Array | None = None

    def __post_init__(self) -> None:
        shape = self.positions.shape
        if len(shape) != 3 or 0 in shape:
            raise DataError(
                "trajectory: positions must be (n, parts, D), none of them 0, got "
                f"{shape}: give at least one sample of one end effector or column"
            )
        if not np.isfinite(self.positions).all():
            sample = int(np.argwhere(~np.isfinite(self.positions))[0][0])
            raise DataError(f"trajectory: a position is not finite at sample {sample}")
        if self.rotations is None:
            return
        if shape[2] != 3 or self.rotations.shape != (*shape[:2], 4):
            raise DataError(
                "trajectory: with rotations, positions must be (n, parts, 3) and rotations "
                f"(n, parts, 4), got {shape} and {self.rotations.shape}"
            )
        check_poses(np.concatenate([self.positions, self.rotations], axis=2), "trajectory")

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def of_poses(cls, poses: Array) -> Trajectory:
        """Return the trajectory of poses (n, arms, 7), metres and quaternion x, y, z, w."""
        poses = np.asarray(poses, np.float64)
        if poses.ndim != 3 or poses.shape[2] != POSE_SIZE:
            raise DataError(f"trajectory: poses must be (n, arms, 7), got shape {poses.shape}")
        return cls(poses[..., :3], poses[..., 3:])

    @classmethod
    def of_columns(cls, columns: Array) -> Trajectory:
        """Return the trajectory of plain columns (n, C), all in one unit."""
        columns = np.asarray(columns, np.float64)
        if columns.ndim != 2:
            raise DataError(f"trajectory: columns must be (n, C), got shape {columns.shape}")
        return cls(columns[:, None])

    @classmethod
    def of_actions(cls, actions: Array, layout: ActionLayout) -> Trajectory:
        """Return the trajectory of action rows.

        Args:
            actions: (n, layout.size).
            layout: Meaning of the columns. With end effectors their target poses count; openings
                of the gripper and extra columns, which are of other units, do not. Without, all
                columns do.
        """
        actions = np.asarray(actions, np.float64)
        if actions.ndim != 2 or actions.shape[1] != layout.size:
            raise DataError(
                f"trajectory: actions must be (n, {layout.size}), got shape {actions.shape}"
            )
        if layout.arms == 0:
            return cls.of_columns(actions)
        return cls.of_poses(split_arm_action(actions, layout.arms)[0])


@dataclass(frozen=True)
class TrajectoryDistance:
    """A distance s(a, b) of trajectories; zero to itself, symmetric.

    Attributes:
        kind: "pointwise", "dtw" or "frechet".
        rotation_weight: Metres that one radian counts as; 0 compares positions only.
    """

    kind: str = DTW
    rotation_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(
                f"trajectory distance: kind must be one of {', '.join(KINDS)}, got '{self.kind}'"
            )
        if not (math.isfinite(self.rotation_weight) and self.rotation_weight >= 0.0):
            raise ConfigurationError(
                "trajectory distance: rotation_weight must be finite and at least 0 m/rad, got "
                f"{self.rotation_weight}"
            )

    def between(self, first: Trajectory, second: Trajectory) -> float:
        """Return s(first, second), metres or the columns' unit.

        Raises:
            DataError: One has other parts or columns than the other, or no rotations.
        """
        return float(self.to_each(first, [second])[0])

    def to_each(self, trajectory: Trajectory, others: Sequence[Trajectory]) -> Array:
        """Return s(trajectory, other) for each of N others: (N,).

        Raises:
            DataError: As ``between``.
        """
        if self.kind == POINTWISE:
            return np.array([self._pointwise(trajectory, other) for other in others])
        parts = [
            self._warped(trajectory, others[start : start + BLOCK])
            for start in range(0, len(others), BLOCK)
        ]
        return np.concatenate([np.zeros(0), *parts])

    def pairwise(self, trajectories: Sequence[Trajectory]) -> Array:
        """Return s of every pair of N trajectories: (N, N), symmetric, zeros on the diagonal.

        Raises:
            DataError: As ``between``.
        """
        distances = np.zeros((len(trajectories), len(trajectories)))
        for row, trajectory in enumerate(trajectories[:-1]):
            distances[row, row + 1 :] = self.to_each(trajectory, trajectories[row + 1 :])
        return distances + distances.T

    def of_samples(self, first: Trajectory, second: Trajectory) -> Array:
        """Return the distance of every sample of one (n) to every sample of the other (m): (n, m).

        Raises:
            DataError: As ``between``.
        """
        _check_comparable(first, second)
        turned = None if first.rotations is None else first.rotations[:, None]
        return self._ground(first.positions[:, None], turned, second.positions, second.rotations)

    def _ground(
        self, here: Array, turned: Array | None, there: Array, turned_there: Array | None
    ) -> Array:
        """Return distances of points (..., parts, D) with (..., parts, 4): (...)."""
        distances = np.linalg.norm(here - there, axis=-1)
        if turned is not None and turned_there is not None and self.rotation_weight > 0.0:
            distances += self.rotation_weight * _angles(turned, turned_there)
        return distances.mean(axis=-1)

    def _pointwise(self, first: Trajectory, second: Trajectory) -> float:
        _check_comparable(first, second)
        samples = max(len(first), len(second))
        one, two = _resampled(first, samples), _resampled(second, samples)
        steps = self._ground(one.positions, one.rotations, two.positions, two.rotations)
        return float(steps.mean())

    def _warped(self, trajectory: Trajectory, others: Sequence[Trajectory]) -> Array:
        """Return the DTW or Fréchet distance to each of B others: (B,).

        The recursion runs over anti-diagonals of all B tables at once: the cells (i, k - i) of
        diagonal k need only those of the two diagonals before it.
        """
        n, lengths = len(trajectory), np.array([len(other) for other in others])
        costs = np.full((n + int(lengths.max()) - 1, len(others), n), np.inf)
        rows = np.arange(n)[:, None]
        for number, other in enumerate(others):
            cost = self.of_samples(trajectory, other)  # (n, m)
            costs[rows + np.arange(len(other)), number, rows] = cost
        # Cell i of a diagonal lies at i + 1, and infinity in front of it.
        before = np.full((len(others), n + 1), np.inf)  # diagonal k - 1
        twice_before = before.copy()  # diagonal k - 2
        twice_before[:, 0] = 0.0  # whence the first cell is reached
        results = np.empty(len(others))
        for diagonal, cost in enumerate(costs):
            current = np.full_like(before, np.inf)
            along = np.minimum(before[:, :-1], before[:, 1:])
            if self.kind == DTW:
                current[:, 1:] = np.minimum(along + cost, twice_before[:, :-1] + 2.0 * cost)
            else:
                current[:, 1:] = np.maximum(np.minimum(along, twice_before[:, :-1]), cost)
            done = lengths == diagonal - n + 2
            results[done] = current[done, n]
            before, twice_before = current, before
        return results / (n + lengths) if self.kind == DTW else results


def _check_comparable(first: Trajectory, second: Trajectory) -> None:
    if first.positions.shape[1:] != second.positions.shape[1:]:
        raise DataError(
            "trajectories must have the same parts and columns, got "
            f"{first.positions.shape[1:]} and {second.positions.shape[1:]}: compare one robot's"
        )
    if (first.rotations is None) != (second.rotations is None):
        raise DataError(
            "trajectories must both have rotations or neither, got one that has: make both from "
            "poses, or both from columns"
        )


def _angles(first: Array, second: Array) -> Array:
    """Return geodesic angles of unit quaternions (..., 4): (...), radians in [0, pi].

    From the chord, which is exact for small angles where the arc cosine is not.
    """
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    chords = np.minimum(
        np.linalg.norm(first - second, axis=-1), np.linalg.norm(first + second, axis=-1)
    )
    return 4.0 * np.arcsin(chords / 2.0)


def _resampled(trajectory: Trajectory, samples: int) -> Trajectory:
    """Return a trajectory of evenly spaced samples: linear in position, slerp in rotation."""
    n = len(trajectory)
    if samples == n:
        return trajectory
    if n == 1:
        rows = np.zeros(samples, np.int64)
        turned = None if trajectory.rotations is None else trajectory.rotations[rows]
        return Trajectory(trajectory.positions[rows], turned)
    at = np.linspace(0.0, n - 1.0, samples)
    start = np.minimum(at.astype(np.int64), n - 2)
    share = (at - start)[:, None, None]
    positions = trajectory.positions
    positions = (1.0 - share) * positions[start] + share * positions[start + 1]
    if trajectory.rotations is None:
        return Trajectory(positions)
    rotations = [
        Slerp(np.arange(n), Rotation.from_quat(trajectory.rotations[:, part]))(at).as_quat()
        for part in range(positions.shape[1])
    ]
    return Trajectory(positions, np.stack(rotations, axis=1))
