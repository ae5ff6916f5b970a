"""What the scores say along whole episodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alt_ros.lookup.index import Index
from alt_ros.lookup.retrieval import Retrieval, RetrievalConfig
from alt_ros.lookup.score import Score, progress_of
from alt_ros.lookup.scores import make_scores
from alt_ros.lookup.table import Table
from alt_ros.types import Query


@dataclass(frozen=True, eq=False)
class EpisodeScores:
    """What the scores say along one episode of n observations.

    Attributes:
        values: (n, S) float64, NaN where a score says nothing.
        progress: (n,) float64, part of the followed demonstration that has passed, 0 to 1.
    """

    values: NDArray[np.float64]
    progress: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.progress)


def score_episode(
    retrieval: Retrieval, scores: Collection[Score], queries: Iterable[Query]
) -> EpisodeScores:
    """Return what scores say along an episode that the retrieval follows from its start.

    No observation is too strange for the retrieval to go by, as there is no threshold yet.
    """
    retrieval.reset()
    for score in scores:
        score.reset()
    values: list[list[float]] = []
    progress: list[float] = []
    for query in queries:
        recall = retrieval.recall(query.embedding, query.stamp)
        values.append([score.value(query, recall) for score in scores])
        progress.append(progress_of(retrieval.table, recall))
    return EpisodeScores(
        np.array(values, np.float64).reshape(-1, len(scores)), np.array(progress, np.float64)
    )


def score_episodes(
    table: Table,
    index: Index,
    views: Sequence[str],
    names: Sequence[str],
    episodes: Iterable[Iterable[Query]],
    retrieval: RetrievalConfig | None = None,
) -> list[EpisodeScores]:
    """Return what scores say along episodes.

    Args:
        table: What is ordinary.
        index: Searches the table's embeddings.
        views: Names of the encoder's views.
        names: Which scores, in full: the columns of the values.
        episodes: The queries of each, in order of time.
        retrieval: How a frame is chosen.

    Raises:
        ConfigurationError: The table has no such score.
        DataError: An embedding is not of the table's size.
    """
    follow = Retrieval(table, index, retrieval)
    scores = list(make_scores(table, views, names).values())
    return [score_episode(follow, scores, queries) for queries in episodes]
