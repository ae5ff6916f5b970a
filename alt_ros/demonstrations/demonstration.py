"""One recorded episode, whatever format it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError
from alt_ros.types import ActionLayout, Observation, check_poses


@dataclass(frozen=True, eq=False)
class Demonstration:
    """One episode of N frames; arrays may be memory-mapped.

    Attributes:
        name: Name that a person recognises, unique in its set.
        stamps: (N,) int64 ns, strictly increasing: the sensors' own stamps where they exist.
        images: View name to (N, H, W, 3) uint8 RGB.
        poses: (N, arms, 7) end-effector poses; arms may be 0.
        grippers: (N, arms) openings in metres.
        state: (N, S) further low-dimensional state; S may be 0.
        actions: (N, layout.size) the action commanded at each frame.
        layout: Meaning of the action columns.
        success: Whether the episode reached its goal, where known.
        source: Where it was read from.
    """

    name: str
    stamps: NDArray[np.int64]
    images: Mapping[str, NDArray[np.uint8]]
    poses: NDArray[np.float64]
    grippers: NDArray[np.float64]
    state: NDArray[np.float64]
    actions: NDArray[np.float64]
    layout: ActionLayout
    success: bool | None = None
    source: str = ""

    def __post_init__(self) -> None:
        subject = f"demonstration '{self.name}'"
        n = len(self.stamps)
        if n == 0:
            raise DataError(f"{subject} has no frames: record it again or leave it out")
        if n > 1 and int(np.diff(self.stamps).min()) <= 0:
            at = int(np.argmin(np.diff(self.stamps))) + 1
            raise DataError(f"{subject}: stamps must increase, they do not at frame {at}")
        if not self.images:
            raise DataError(f"{subject} has no camera view: name the image topics or keys to read")
        arms = self.poses.shape[1] if self.poses.ndim == 3 else -1
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
            "poses": (self.poses.shape, (n, arms, 7)),
            "grippers": (self.grippers.shape, (n, arms)),
            "state": (self.state.shape, (n, self.state.shape[-1])),
            "actions": (self.actions.shape, (n, self.layout.size)),
        }
        for view, frames in self.images.items():
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
                raise DataError(
                    f"{subject}, view '{view}': images must be (N, H, W, 3) uint8, "
                    f"got {frames.shape} {frames.dtype}"
                )
            shapes[f"view '{view}'"] = (frames.shape[:1], (n,))
        for what, (got, expected) in shapes.items():
            if tuple(got) != tuple(expected):
                raise DataError(f"{subject}, {what}: shape must be {expected}, got {got}")
        for what, values in (
            ("grippers", self.grippers),
            ("state", self.state),
            ("actions", self.actions),
        ):
            if not np.isfinite(values).all():
                frame = int(np.argwhere(~np.isfinite(values))[0][0])
                raise DataError(f"{subject}, {what}: a value is not finite at frame {frame}")
        check_poses(self.poses, subject)

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def period(self) -> int:
        """Median time from one frame to the next, ns; 0 for a single frame."""
        return int(np.median(np.diff(self.stamps))) if len(self) > 1 else 0

    def observation(self, frame: int) -> Observation:
        """Return one frame as the observation that a policy would have been given."""
        return Observation(
            stamp=int(self.stamps[frame]),
            images={view: np.asarray(frames[frame]) for view, frames in self.images.items()},
            poses=np.asarray(self.poses[frame]),
            grippers=np.asarray(self.grippers[frame]),
            state=np.asarray(self.state[frame]),
        )
