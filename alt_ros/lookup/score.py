"""What a score of strangeness is: its interface, and what scores share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alt_ros.geometry import split_arm_action
from alt_ros.lookup.retrieval import Recall
from alt_ros.lookup.table import Table
from alt_ros.types import Query

LOOKS, GUIDES, MOVES = 0.17, 0.23, 1.0
"""Weights of scores of how the scene looks, what guides the hand, and what the robot does."""


class Score(ABC):
    """One way to tell a strange observation.

    Attributes:
        resolution: Differences below it mean nothing; in the score's unit.
        weight: What a scale of its band counts beside other scores, above 0. That a scene looks
            unusual counts less than that the arm is not where it would be: a policy often
            succeeds in a scene that looks unusual.

    Args:
        table: What is ordinary.
    """

    resolution: ClassVar[float]
    weight: ClassVar[float] = LOOKS

    def __init__(self, table: Table) -> None:
        self._table = table

    @abstractmethod
    def value(self, query: Query, recall: Recall) -> float:
        """Return how strange the observation is; NaN where nothing can be told."""

    def reset(self) -> None:  # noqa: B027 - most keep nothing
        """Begin a new episode."""


class Lasting(Score):
    """The least of a score over the last observations: that strange it was all the time.

    Args:
        table: The table.
        score: The score.
        observations: How many; before there are so many it says nothing.
    """

    def __init__(self, table: Table, score: Score, observations: int) -> None:
        super().__init__(table)
        self._score = score
        self._values: deque[float] = deque(maxlen=observations)

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        self._values.append(self._score.value(query, recall))
        full = len(self._values) == self._values.maxlen
        return float(np.min(self._values)) if full else float("nan")

    def reset(self) -> None:
        """See ``Score.reset``."""
        self._score.reset()
        self._values.clear()


def motions(table: Table, ahead: int) -> NDArray[np.float64]:
    """Return how each frame's arms were commanded to move in the actions after it.

    (T, arms, 3) metres; shorter at the end of a demonstration.
    """
    positions = split_arm_action(table.actions, table.layout.arms)[0][..., :3]
    rows = np.arange(len(table))
    after = np.minimum(rows + ahead, table.episode_ends[table.demonstration] - 1)
    return np.asarray(positions[after] - positions)


def best_of_each(table: Table, recall: Recall) -> NDArray[np.int64]:
    """Return which of the recalled rows is its demonstration's best, the best first."""
    _, first = np.unique(table.demonstration[recall.rows], return_index=True)
    return np.sort(first)


def progress_of(table: Table, recall: Recall) -> float:
    """Return what part of the followed demonstration has passed, 0 to 1."""
    rows = table.rows(recall.chosen.demonstration)
    return recall.chosen.frame / max(rows.stop - rows.start - 1, 1)


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of the numbers from 0 to ``count`` - 1, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def guiding_view(table: Table, ahead: int = 8, rows: int = 2000) -> int:
    """Return the number of the view that tells best how to move.

    For each frame the nearest of the other demonstrations is looked up by one view alone, and the
    motions that followed both are compared, as by ``Disagreement``: the view whose neighbours
    moved most alike, in the mean, is the guiding one.

    Args:
        table: The table; its actions must move arms.
        ahead: Actions from a frame to the end of its motion.
        rows: Most frames compared, evenly spaced.
    """
    if table.demonstrations < 2:
        return 0
    frames = evenly_spaced(len(table), rows)
    moved = motions(table, ahead)[frames]
    same = table.demonstration[frames, None] == table.demonstration[frames]
    errors: list[float] = []
    for view in range(table.view_embeddings.shape[1]):
        values = table.view_embeddings[frames, view]
        nearest = np.where(same, -np.inf, values @ values.T).argmax(axis=1)
        errors.append(float(np.linalg.norm(moved - moved[nearest], axis=2).mean()))
    return int(np.argmin(errors))
