"""The action lookup table: what was seen at every demonstration frame, and what was done there."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import BundleError, DataError
from alt_ros.types import ActionChunk, ActionLayout, Neighbour, check_poses

UNIT_NORM_TOLERANCE = 1e-3
_ARRAYS = (
    "embeddings",
    "view_embeddings",
    "demonstration",
    "frame",
    "actions",
    "poses",
    "grippers",
    "episode_ends",
    "names",
)


@dataclass(frozen=True, eq=False)
class Table:
    """T frames of E demonstrations, one after the other.

    Attributes:
        embeddings: (T, D) float32, rows of unit length.
        view_embeddings: (T, V, F) float32, rows of unit length; V may be 0.
        demonstration: (T,) int32 number of the demonstration of each row, ascending from 0.
        frame: (T,) int32 number of the frame inside its demonstration.
        actions: (T, layout.size) float64, the action commanded at each frame.
        poses: (T, arms, 7) float64, metres and quaternion x, y, z, w.
        grippers: (T, arms) float64 openings, metres.
        episode_ends: (E,) int64, the row after each demonstration's last.
        names: Names of the demonstrations.
        period: Time from one action to the next, ns.
        layout: Meaning of the action columns.
    """

    embeddings: NDArray[np.float32]
    view_embeddings: NDArray[np.float32]
    demonstration: NDArray[np.int32]
    frame: NDArray[np.int32]
    actions: NDArray[np.float64]
    poses: NDArray[np.float64]
    grippers: NDArray[np.float64]
    episode_ends: NDArray[np.int64]
    names: tuple[str, ...]
    period: int
    layout: ActionLayout

    def __post_init__(self) -> None:
        rows = len(self.embeddings)
        if self.embeddings.ndim != 2 or rows == 0 or self.embeddings.dtype != np.float32:
            raise DataError(
                "table: embeddings must be (T >= 1, D) float32, "
                f"got {self.embeddings.shape} {self.embeddings.dtype}"
            )
        ends = self.episode_ends
        if ends.ndim != 1 or len(ends) == 0 or (np.diff(ends, prepend=0) < 1).any():
            raise DataError(f"table: episode_ends must increase from 1 on, got {ends.tolist()}")
        if int(ends[-1]) != rows or len(self.names) != len(ends):
            raise DataError(
                f"table: episode_ends must end at the {rows} rows, with a name for each of the "
                f"{len(ends)} demonstrations; got an end of {int(ends[-1])} and "
                f"{len(self.names)} names"
            )
        lengths = np.diff(ends, prepend=0)
        arms = self.poses.shape[1] if self.poses.ndim == 3 else -1
        expected = {
            "view_embeddings": (rows, *self.view_embeddings.shape[1:3]),
            "actions": (rows, self.layout.size),
            "poses": (rows, arms, 7),
            "grippers": (rows, arms),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise DataError(f"table: {name} must be {shape}, got {getattr(self, name).shape}")
        if not (
            np.array_equal(self.demonstration, np.repeat(np.arange(len(ends)), lengths))
            and np.array_equal(self.frame, np.concatenate([np.arange(n) for n in lengths]))
        ):
            raise DataError("table: demonstration and frame numbers must follow episode_ends")
        if self.period <= 0:
            raise DataError(f"table: period must be positive, got {self.period} ns")
        for name in ("embeddings", "view_embeddings"):
            norms = np.linalg.norm(getattr(self, name), axis=-1)
            # Written so that NaN fails as well.
            if not (np.abs(norms - 1.0) <= UNIT_NORM_TOLERANCE).all():
                raise DataError(f"table: rows of {name} must have length 1 within 1e-3")
        if not np.isfinite(self.actions).all() or not np.isfinite(self.grippers).all():
            raise DataError("table: actions and grippers must be finite")
        check_poses(self.poses, "table")

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def demonstrations(self) -> int:
        """Number of demonstrations, E."""
        return len(self.episode_ends)

    @property
    def embedding_size(self) -> int:
        """Values of one embedding, D."""
        return self.embeddings.shape[1]

    def rows(self, demonstration: int) -> slice:
        """Return the rows of one demonstration.

        Raises:
            DataError: There is no such demonstration.
        """
        if not 0 <= demonstration < self.demonstrations:
            raise DataError(
                f"table: demonstration must be 0 to {self.demonstrations - 1}, got {demonstration}"
            )
        start = int(self.episode_ends[demonstration - 1]) if demonstration else 0
        return slice(start, int(self.episode_ends[demonstration]))

    def without(self, demonstration: int) -> Table:
        """Return the table of all the other demonstrations, numbered anew.

        Raises:
            DataError: There is no such demonstration, or it is the only one.
        """
        rows = self.rows(demonstration)
        if self.demonstrations == 1:
            raise DataError("table: the only demonstration cannot be left out")
        kept = np.delete(np.arange(len(self)), rows)
        lengths = np.delete(np.diff(self.episode_ends, prepend=0), demonstration)
        names = self.names[:demonstration] + self.names[demonstration + 1 :]
        return make_table(
            embeddings=self.embeddings[kept],
            view_embeddings=self.view_embeddings[kept],
            actions=self.actions[kept],
            poses=self.poses[kept],
            grippers=self.grippers[kept],
            episode_ends=np.cumsum(lengths),
            names=names,
            period=self.period,
            layout=self.layout,
        )

    def chunk(
        self, demonstration: int, frame: int, horizon: int, stamp: int, similarity: float
    ) -> ActionChunk:
        """Return the actions that followed a frame; they never run into the next demonstration.

        Args:
            demonstration: Number of the recalled frame's demonstration.
            frame: Number of the frame in it.
            horizon: Prediction horizon Tp: the most actions to give.
            stamp: Time of the observation that the chunk answers, ns.
            similarity: Cosine similarity of the observation to the frame.

        Returns:
            1 to ``horizon`` actions, the first the one commanded at the frame itself.

        Raises:
            DataError: There is no such frame, or the horizon is not positive.
        """
        rows = self.rows(demonstration)
        row = rows.start + frame
        if frame < 0 or row >= rows.stop or horizon < 1:
            raise DataError(
                f"table: demonstration {demonstration} has frames 0 to "
                f"{rows.stop - rows.start - 1} and a horizon is at least 1, "
                f"got frame {frame}, horizon {horizon}"
            )
        return ActionChunk(
            stamp=stamp,
            period=self.period,
            actions=self.actions[row : min(row + horizon, rows.stop)].copy(),
            layout=self.layout,
            source=Neighbour(demonstration, frame, similarity),
        )

    def save(self, path: Path) -> None:
        """Write the table as one npz file; it appears only when it is complete."""
        partial = path.with_name(path.name + ".partial")
        arrays = {name: getattr(self, name) for name in _ARRAYS if name != "names"}
        arrays["names"] = np.array(self.names, dtype=np.str_)
        arrays["period"] = np.int64(self.period)
        arrays["layout"] = np.array([self.layout.arms, self.layout.extra], dtype=np.int64)
        try:
            with partial.open("wb") as file:
                np.savez(file, **arrays)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read a table; nothing is unpickled.

        Raises:
            BundleError: The file is missing, damaged or not a table.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in (*_ARRAYS, "period", "layout")}
            names = tuple(str(name) for name in arrays.pop("names"))
            arms, extra = (int(value) for value in arrays.pop("layout"))
            period = int(arrays.pop("period"))
            return cls(**arrays, names=names, period=period, layout=ActionLayout(arms, extra))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, DataError) as error:
            raise BundleError(
                f"table '{path}' must be an npz file of alt_ros, it is not: {error}"
            ) from error


def make_table(
    *,
    embeddings: NDArray[np.float32],
    view_embeddings: NDArray[np.float32],
    actions: NDArray[np.float64],
    poses: NDArray[np.float64],
    grippers: NDArray[np.float64],
    episode_ends: NDArray[np.int64],
    names: tuple[str, ...],
    period: int,
    layout: ActionLayout,
) -> Table:
    """Return a table with its demonstration and frame numbers counted from ``episode_ends``.

    Raises:
        DataError: The arrays contradict each other.
    """
    ends = np.asarray(episode_ends, dtype=np.int64)
    lengths = np.diff(ends, prepend=0)
    if (lengths < 1).any() or len(ends) == 0:
        raise DataError(f"table: episode_ends must increase from 1 on, got {ends.tolist()}")
    return Table(
        embeddings=np.ascontiguousarray(embeddings, dtype=np.float32),
        view_embeddings=np.ascontiguousarray(view_embeddings, dtype=np.float32),
        demonstration=np.repeat(np.arange(len(ends), dtype=np.int32), lengths),
        frame=np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        actions=np.array(actions, dtype=np.float64),
        poses=np.array(poses, dtype=np.float64),
        grippers=np.array(grippers, dtype=np.float64),
        episode_ends=ends,
        names=names,
        period=period,
        layout=layout,
    )
