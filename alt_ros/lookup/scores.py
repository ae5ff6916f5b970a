"""How strange an observation is: a small class per score, larger is stranger.

A score sees the query and what was recalled for it, and nothing else; what it keeps between two
observations of an episode, ``reset`` forgets. None knows a threshold: calibration makes the
scores comparable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError
from alt_ros.geometry import pose_distance, split_arm_action
from alt_ros.lookup.retrieval import Recall
from alt_ros.lookup.table import Table
from alt_ros.types import Query

METRES_PER_RADIAN = 0.1
"""A turn counts as much as the way of a point at the fingers' length from the wrist."""


class Score(ABC):
    """One way to tell a strange observation."""

    @abstractmethod
    def value(self, query: Query, recall: Recall) -> float:
        """Return how strange the observation is; NaN where nothing can be told."""

    def reset(self) -> None:  # noqa: B027 - most keep nothing
        """Begin a new episode."""


class Cosine(Score):
    """Distance to the nearest frame, 1 - cosine: the ALT paper's (He et al. 2026)."""

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        return 1.0 - recall.nearest.similarity


class NearestDemonstrations(Score):
    """Mean distance to the nearest frames of the k nearest demonstrations, 1 - cosine.

    As the k-nearest-neighbour distance of Sun et al. 2022 ("Out-of-distribution detection with
    deep nearest neighbors"); neighbours in time count once, for they are one recording.
    """

    def __init__(self, table: Table, demonstrations: int = 3) -> None:
        self._table = table
        self._demonstrations = demonstrations

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        best = _best_of_each(self._table, recall)[: self._demonstrations]
        found = recall.similarities[best]
        # A demonstration that is not among the neighbours is at least as far as the last of them.
        missing = min(self._demonstrations, self._table.demonstrations) - len(best)
        total = float(found.sum()) + missing * float(recall.similarities[-1])
        return 1.0 - total / (len(best) + missing)


class LocalDensity(Score):
    """Distance to the nearest frame over that frame's own to the nearest other demonstration.

    As the local outlier factor (Breunig et al. 2000): what is far in a dense region is near in a
    sparse one.
    """

    def __init__(self, table: Table) -> None:
        own = np.empty(len(table))
        for demonstration in range(table.demonstrations):
            rows = table.rows(demonstration)
            similarity = table.embeddings[rows] @ table.embeddings.T
            similarity[:, rows] = -np.inf
            own[rows] = 1.0 - similarity.max(axis=1)
        known = own[np.isfinite(own)]
        floor = float(np.quantile(known, 0.05)) if len(known) else 1.0
        self._own = np.maximum(np.where(np.isfinite(own), own, 1.0), max(floor, 1e-6))

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        return (1.0 - recall.nearest.similarity) / float(self._own[recall.rows[0]])


class Mahalanobis(Score):
    """Mahalanobis distance of the embedding to all frames (Lee et al. 2018).

    The covariance is shrunk to a multiple of the identity by the oracle approximating rule (Chen
    et al. 2010), for there may be fewer frames than dimensions.
    """

    def __init__(self, table: Table) -> None:
        values = table.embeddings.astype(np.float64)
        self._mean = values.mean(axis=0)
        count, size = values.shape
        covariance = np.atleast_2d(np.cov(values.T, bias=True))
        mean_variance = np.trace(covariance) / size
        square = (covariance**2).mean()
        numerator = square + mean_variance**2
        denominator = (count + 1.0) * (square - mean_variance**2 / size)
        shrinkage = 1.0 if denominator <= 0.0 else min(numerator / denominator, 1.0)
        shrunk = (1.0 - shrinkage) * covariance
        shrunk[np.diag_indices(size)] += shrinkage * mean_variance + 1e-12
        self._whiten = np.linalg.cholesky(np.linalg.inv(shrunk))

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        return float(np.linalg.norm((query.embedding - self._mean) @ self._whiten))


class View(Score):
    """Distance of one view to the nearest of the recalled neighbours' views, 1 - cosine.

    Args:
        table: The table.
        view: Number of the view.
    """

    def __init__(self, table: Table, view: int) -> None:
        self._table = table
        self._view = view

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        held = self._table.view_embeddings[recall.rows, self._view]
        return 1.0 - float((held @ query.view_embeddings[self._view]).max())


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

    def __init__(self, table: Table, window: int = 20, slack: int = 6) -> None:
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

    def __init__(self, table: Table, demonstrations: int = 3, ahead: int = 8) -> None:
        self._table = table
        self._demonstrations = demonstrations
        self._ahead = ahead
        self._ends = table.episode_ends[table.demonstration]
        self._positions = split_arm_action(table.actions, table.layout.arms)[0][..., :3]

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        rows = recall.rows[_best_of_each(self._table, recall)[: self._demonstrations]]
        if len(rows) < 2:
            return float("nan")
        after = np.minimum(rows + self._ahead, self._ends[rows] - 1)
        moved = self._positions[after] - self._positions[rows]  # (k, arms, 3)
        return float(np.linalg.norm(moved - moved.mean(axis=0), axis=2).mean())


class PoseResidual(Score):
    """How far the arm is from where the recalled demonstration's arm was.

    Metres, and radians at ``METRES_PER_RADIAN``; the most of all arms.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        if not len(query.poses):
            return float("nan")
        chosen = recall.chosen
        held = self._table.poses[self._table.rows(chosen.demonstration).start + chosen.frame]
        off = [pose_distance(a, b) for a, b in zip(held, query.poses, strict=True)]
        return max(metres + METRES_PER_RADIAN * radians for metres, radians in off)


SCORES: dict[str, Callable[[Table], Score]] = {
    "cosine": lambda table: Cosine(),
    "nearest_demonstrations": NearestDemonstrations,
    "local_density": LocalDensity,
    "mahalanobis": Mahalanobis,
    "jumps": Jumps,
    "disagreement": Disagreement,
    "pose_residual": PoseResidual,
}
"""Name to what makes the score of a table; and ``view:<name>`` for every view."""
_OF_ARMS = {"disagreement", "pose_residual"}


def score_names(table: Table, views: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all scores that a table of these views has."""
    names = [name for name in SCORES if table.layout.arms or name not in _OF_ARMS]
    if table.view_embeddings.shape[1] > 1:
        names += [f"view:{view}" for view in views]
    return tuple(names)


def make_scores(table: Table, views: Sequence[str], names: Sequence[str]) -> dict[str, Score]:
    """Return scores by name.

    Args:
        table: What is ordinary.
        views: Names of the encoder's views.
        names: Which scores.

    Raises:
        ConfigurationError: The table has no such score.
    """
    known = score_names(table, views)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigurationError(
            f"scores of this table are {', '.join(known)}; got {', '.join(unknown)}"
        )
    return {
        name: View(table, list(views).index(name.removeprefix("view:")))
        if name.startswith("view:")
        else SCORES[name](table)
        for name in names
    }


def _best_of_each(table: Table, recall: Recall) -> NDArray[np.int64]:
    """Return which of the recalled rows is its demonstration's best, the best first."""
    _, first = np.unique(table.demonstration[recall.rows], return_index=True)
    return np.sort(first)
