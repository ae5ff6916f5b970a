"""What is passed between the rooms: frozen, validated at construction, shapes and units stated.

Time is an ``int`` of nanoseconds everywhere. A pose is seven numbers: position x, y, z in metres,
then a unit quaternion x, y, z, w. An action row holds, per arm, position (3, metres), the first
two columns of the rotation matrix (6) and the gripper opening (1, metres), then any columns of a
robot whose actions are not end-effector poses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError

POSE_SIZE = 7
ARM_ACTION_SIZE = 10
NANOSECONDS = 1_000_000_000
QUATERNION_NORM_TOLERANCE = 1e-3


def check_poses(poses: NDArray[np.float64], subject: str) -> None:
    """Require finite positions and unit quaternions.

    Args:
        poses: (..., 7) positions in metres and quaternions x, y, z, w.
        subject: What the poses belong to, for the message.

    Raises:
        DataError: A value is not finite, or a quaternion's norm is off 1 by more than 1e-3.
    """
    if poses.shape[-1:] != (POSE_SIZE,):
        raise DataError(
            f"{subject}: a pose has 7 values (x y z qx qy qz qw), got shape {poses.shape}"
        )
    if not np.isfinite(poses).all():
        raise DataError(f"{subject}: pose must be finite, got {poses[..., :].tolist()}"[:300])
    norms = np.linalg.norm(poses[..., 3:], axis=-1)
    worst = float(np.abs(norms - 1.0).max(initial=0.0))
    if worst > QUATERNION_NORM_TOLERANCE:
        raise DataError(
            f"{subject}: quaternion must have norm 1 within {QUATERNION_NORM_TOLERANCE}, it is "
            f"off by {worst:.4g}: check the driver's order (x, y, z, w) and normalise there"
        )


def check_image(image: NDArray[np.uint8], subject: str) -> None:
    """Require an RGB image.

    Raises:
        DataError: The array is not (H, W, 3) uint8 with at least one pixel.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise DataError(
            f"{subject}: image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}"
        )


@dataclass(frozen=True)
class ActionLayout:
    """What the columns of an action mean.

    Attributes:
        arms: Number of end effectors, 10 columns each: position 3, rot6d 6, gripper 1.
        extra: Columns after those, in the data set's own units (joint angles, pixels).
    """

    arms: int = 1
    extra: int = 0

    def __post_init__(self) -> None:
        if self.arms < 0 or self.extra < 0 or self.size == 0:
            raise DataError(
                f"action layout needs at least one column, got arms={self.arms} extra={self.extra}"
            )

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.arms * ARM_ACTION_SIZE + self.extra


@dataclass(frozen=True, eq=False)
class Observation:
    """What the robot saw and where it was at one instant.

    Attributes:
        stamp: Time of the primary camera's image, ns.
        images: View name to (H, W, 3) uint8 RGB, in a fixed order.
        poses: (arms, 7) end-effector poses at the stamp; metres, quaternion x, y, z, w.
        grippers: (arms,) openings at the stamp, metres.
        state: (S,) further low-dimensional state in the data set's own units.
        skew: Largest distance of a paired image's stamp from ``stamp``, ns.
    """

    stamp: int
    images: Mapping[str, NDArray[np.uint8]]
    poses: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, POSE_SIZE)))
    grippers: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    state: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    skew: int = 0

    def __post_init__(self) -> None:
        if not self.images:
            raise DataError("observation must hold at least one image, got none")
        for view, image in self.images.items():
            check_image(image, f"observation, view '{view}'")
        check_poses(self.poses, "observation")
        if self.poses.ndim != 2 or self.grippers.shape != (len(self.poses),):
            raise DataError(
                f"observation needs one pose and one gripper opening per arm, got poses of shape "
                f"{self.poses.shape} and grippers of shape {self.grippers.shape}"
            )
        if not (np.isfinite(self.grippers).all() and np.isfinite(self.state).all()):
            raise DataError("observation: gripper openings and state must be finite")
        object.__setattr__(self, "images", MappingProxyType(dict(self.images)))


@dataclass(frozen=True, eq=False)
class Query:
    """An observation as the table is asked for it: embedded.

    Attributes:
        stamp: Time of the observation, ns.
        embedding: (D,) float32 of unit length.
        view_embeddings: (V, F) float32, rows of unit length.
        poses: (arms, 7) measured, metres and quaternion x, y, z, w; (0, 7) where nobody knows.
    """

    stamp: int
    embedding: NDArray[np.float32]
    view_embeddings: NDArray[np.float32]
    poses: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, POSE_SIZE)))


@dataclass(frozen=True)
class Neighbour:
    """One demonstration frame that was recalled.

    Attributes:
        demonstration: Number of the demonstration in the table.
        frame: Frame number inside that demonstration.
        similarity: Cosine similarity to the query, in [-1, 1].
    """

    demonstration: int
    frame: int
    similarity: float


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """Actions that belong together in time; action i is due at ``stamp + i * period``.

    Attributes:
        stamp: Time of the observation that the chunk answers, ns.
        period: Time from one action to the next, ns.
        actions: (n, layout.size) float64, 1 <= n <= prediction horizon Tp.
        layout: Meaning of the columns.
        source: The demonstration frame that the actions followed; None for generated actions.
    """

    stamp: int
    period: int
    actions: NDArray[np.float64]
    layout: ActionLayout
    source: Neighbour | None = None

    def __post_init__(self) -> None:
        if self.period <= 0:
            raise DataError(f"action chunk: period must be positive, got {self.period} ns")
        shape = self.actions.shape
        if len(shape) != 2 or shape[0] < 1 or shape[1] != self.layout.size:
            raise DataError(
                f"action chunk: actions must be (n >= 1, {self.layout.size}), got {shape}"
            )
        if not np.isfinite(self.actions).all():
            raise DataError("action chunk: every action must be finite")


@dataclass(frozen=True)
class OodDecision:
    """Whether an observation is out of the demonstrations' distribution.

    Attributes:
        flag: True while the scene counts as strange.
        score: Level of the observation: how strange its strangest score is, in scales of that
            score's band; 1 - cosine similarity where gamma was given. Infinite for an observation
            with a value that is not finite.
        threshold: A level above it is strange.
        neighbour: The nearest demonstration frame.
        view: The strangest view, where the flag is up; else empty.
        quantile: Share of the calibration's levels at or below the score, 0 to 1; NaN where the
            threshold was given.
        cause: Name of the strangest score; "not_finite" where a value was not finite, as for a
            view that shows nothing.
        scores: Names of the S scores that make the level.
        values: (S) their values, each in its own unit; NaN where one says nothing.
        strangeness: (S) the same in scales of their bands.
    """

    flag: bool
    score: float
    threshold: float
    neighbour: Neighbour
    view: str = ""
    quantile: float = math.nan
    cause: str = ""
    scores: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    strangeness: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.scores) == len(self.values) == len(self.strangeness):
            raise DataError(
                "decision: a value and a strangeness for each score are needed, got "
                f"{len(self.scores)} names, {len(self.values)} and {len(self.strangeness)}"
            )
