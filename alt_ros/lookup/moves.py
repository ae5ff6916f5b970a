"""Scores of what the robot does."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque

import numpy as np
from numpy.typing import NDArray

from alt_ros.geometry import pose_distance
from alt_ros.lookup.consistency import statistical_distance
from alt_ros.lookup.retrieval import Recall
from alt_ros.lookup.score import (
    GUIDES,
    MOVES,
    Score,
    best_of_each,
    evenly_spaced,
    guiding_view,
    motions,
)
from alt_ros.lookup.table import Table
from alt_ros.types import ARM_ACTION_SIZE, NANOSECONDS, Neighbour, Query

METRES_PER_RADIAN = 0.1
"""A turn counts as much as the way of a point at the fingers' length from the wrist."""


class Jumps(Score):
    """How often the nearest frame jumped in the last second or so.

    In a demonstrated motion the nearest frames follow each other in time; in a strange scene they
    jump between demonstrations and back. Counts the steps after which the nearest frame is of
    another demonstration that is better by more than ``margin``, or off its due place.

    Args:
        table: The table.
        window: Observations looked at.
        slack: Frames by which the nearest may be off the due one.
    """

    resolution = 0.05
    weight = MOVES

    def __init__(self, table: Table, window: int = 20, slack: int = 6) -> None:
        super().__init__(table)
        self._period = table.period
        self._slack = slack
        self._jumps: deque[bool] = deque(maxlen=window)
        self._last: tuple[int, int, int] | None = None  # demonstration, frame, stamp

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        nearest = recall.nearest
        if self._last is not None:
            demonstration, frame, stamp = self._last
            due = frame + (query.stamp - stamp) / self._period
            off = abs(nearest.frame - due) > self._slack
            self._jumps.append(nearest.demonstration != demonstration or off)
        self._last = nearest.demonstration, nearest.frame, query.stamp
        return sum(self._jumps) / (self._jumps.maxlen or 1)

    def reset(self) -> None:
        """See ``Score.reset``."""
        self._jumps.clear()
        self._last = None


class Disagreement(Score):
    """How far the recalled motions of the nearest demonstrations differ, metres.

    Motions are compared from where each demonstration's arm stood, so that demonstrations beside
    each other agree.

    Args:
        table: The table; its actions must move arms.
        demonstrations: Distinct demonstrations compared.
        ahead: Actions from the recalled frame to the end of the motion.
    """

    resolution = 1e-3
    weight = MOVES

    def __init__(self, table: Table, demonstrations: int = 3, ahead: int = 8) -> None:
        super().__init__(table)
        self._demonstrations = demonstrations
        self._motions = motions(table, ahead)

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        rows = recall.rows[best_of_each(self._table, recall)[: self._demonstrations]]
        if len(rows) < 2:
            return float("nan")
        moved = self._motions[rows]  # (k, arms, 3)
        return float(np.linalg.norm(moved - moved.mean(axis=0), axis=2).mean())


class ChunkOverlap(Score):
    """How far what is recalled now is from what was recalled an observation ago.

    As STAC (Agia et al. 2024), of the one chunk there is: the root mean square distance of the
    recalled targets over the time that both chunks cover, metres; further action columns count in
    their own unit. The same frame again is the same plan, waiting, and no distance: the retrieval
    stands while the flag is up.

    Args:
        table: The table.
        horizon: Actions of a chunk.
    """

    resolution = 1e-3
    weight = MOVES

    def __init__(self, table: Table, horizon: int = 16) -> None:
        super().__init__(table)
        self._horizon = horizon
        self._targets = _positions_and_extra(table)
        self._last: tuple[Neighbour, int] | None = None  # what was chosen, its stamp

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        last, self._last = self._last, (recall.chosen, query.stamp)
        if last is None or query.stamp < last[1]:
            return float("nan")
        before, now = last[0], recall.chosen
        if (before.demonstration, before.frame) == (now.demonstration, now.frame):
            return 0.0
        shift = (query.stamp - last[1]) / self._table.period
        return statistical_distance(self._chunk(before)[None], self._chunk(now)[None], shift)

    def reset(self) -> None:
        """See ``Score.reset``."""
        self._last = None

    def _chunk(self, at: Neighbour) -> NDArray[np.float64]:
        rows = self._table.rows(at.demonstration)
        first = rows.start + at.frame
        return self._targets[first : min(first + self._horizon, rows.stop)]


class PoseResidual(Score):
    """How far the arm is from where the recalled demonstration's arm was.

    Metres, and radians at ``METRES_PER_RADIAN``; the most of all arms.
    """

    resolution = 1e-3
    weight = MOVES

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        if not len(query.poses):
            return float("nan")
        chosen = recall.chosen
        held = self._table.poses[self._table.rows(chosen.demonstration).start + chosen.frame]
        off = [pose_distance(a, b) for a, b in zip(held, query.poses, strict=True)]
        return max(metres + METRES_PER_RADIAN * radians for metres, radians in off)


class PathResidual(Score):
    """How far the arm is off the path of the recalled demonstration.

    In metres, and radians at ``METRES_PER_RADIAN``; the most of all arms. The path are the poses
    from ``slack`` before the recalled frame to ``slack`` after it, so that an arm that lags is
    not off it. An arm that is elsewhere when the episode begins is given ``grace`` and then the
    time to come at ``approach``: until then only more than that counts.

    Args:
        table: The table.
        slack: Seconds.
        grace: Seconds.
        approach: Metres per second.
    """

    resolution = 2e-2
    weight = MOVES

    def __init__(
        self, table: Table, slack: float = 0.5, grace: float = 0.5, approach: float = 0.1
    ) -> None:
        super().__init__(table)
        self._slack = round(slack * NANOSECONDS / table.period)
        self._grace = grace
        self._approach = approach
        self._start: tuple[int, float] | None = None  # stamp, residual

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        if not len(query.poses):
            return float("nan")
        chosen = recall.chosen
        rows = self._table.rows(chosen.demonstration)
        recalled = rows.start + chosen.frame
        path = self._table.poses[
            max(recalled - self._slack, rows.start) : min(recalled + self._slack + 1, rows.stop)
        ]
        metres = np.linalg.norm(path[..., :3] - query.poses[:, :3], axis=2)  # (n, arms)
        cosines = np.abs(np.sum(path[..., 3:] * query.poses[:, 3:], axis=2)).clip(max=1.0)
        off = metres + METRES_PER_RADIAN * 2.0 * np.arccos(cosines)
        residual = float(off.min(axis=0).max())
        if not np.isfinite(residual):
            return float("nan")
        if self._start is None:
            self._start = query.stamp, residual
        elapsed = (query.stamp - self._start[0]) / NANOSECONDS
        left = self._start[1] - self._approach * max(elapsed - self._grace, 0.0)
        return max(residual - max(left, 0.0), 0.0)

    def reset(self) -> None:
        """See ``Score.reset``."""
        self._start = None


class _Guided(Score):
    """Compares with the frame that the guiding view alone recalls (``guiding_view``).

    What guides the hand still looks like that frame where other things look unusual, and points
    elsewhere where the hand is led wrongly.

    Args:
        table: The table; its actions must move arms.
        rows: Most frames compared, evenly spaced, for the time of a value grows with them.
    """

    resolution = 2e-2
    weight = GUIDES

    def __init__(self, table: Table, rows: int = 5000) -> None:
        super().__init__(table)
        self._view = guiding_view(table)
        self._rows = evenly_spaced(len(table), rows)
        self._views = np.ascontiguousarray(table.view_embeddings[self._rows, self._view])

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        seen = query.view_embeddings[self._view]
        if np.isnan(seen).any():
            return float("nan")
        return self._difference(int(self._rows[(self._views @ seen).argmax()]), query, recall)

    @abstractmethod
    def _difference(self, row: int, query: Query, recall: Recall) -> float:
        """Return how far a row of the table is from what is observed, or recalled, metres."""


class GuidingPose(_Guided):
    """How far the arm is from where it was when the guiding view looked most like this, metres."""

    def _difference(self, row: int, query: Query, recall: Recall) -> float:
        if not len(query.poses):
            return float("nan")
        away = self._table.poses[row, :, :3] - query.poses[:, :3]
        return float(np.linalg.norm(away, axis=1).max())


class GuidingMotion(_Guided):
    """How differently the arm moved when the guiding view looked most like this, metres.

    The ends of the motions are compared, each from where it began: the recalled one and that.

    Args:
        table: The table; its actions must move arms.
        rows: Most frames compared.
        ahead: Actions from a frame to the end of its motion.
    """

    def __init__(self, table: Table, rows: int = 5000, ahead: int = 8) -> None:
        super().__init__(table, rows)
        self._motions = motions(table, ahead)

    def _difference(self, row: int, query: Query, recall: Recall) -> float:
        recalled = self._table.rows(recall.chosen.demonstration).start + recall.chosen.frame
        apart = self._motions[row] - self._motions[recalled]
        return float(np.linalg.norm(apart, axis=1).max())


def _positions_and_extra(table: Table) -> NDArray[np.float64]:
    """Return the arms' target positions, metres, and the further action columns of each row."""
    arms = table.layout.arms
    of_arms = table.actions[:, : arms * ARM_ACTION_SIZE]
    of_arms = of_arms.reshape(len(table), arms, ARM_ACTION_SIZE)
    positions = of_arms[:, :, :3].reshape(len(table), 3 * arms)
    return np.hstack([positions, table.actions[:, arms * ARM_ACTION_SIZE :]])
