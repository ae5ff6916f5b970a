"""The policy's step from an embedding to a chunk and a decision.

The lookup node and ``AltPolicy`` both call this.
"""

from __future__ import annotations

from collections.abc import Sequence

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.index import Index
from alt_ros.lookup.monitor import MonitorConfig, OodMonitor
from alt_ros.lookup.retrieval import Retrieval, RetrievalConfig
from alt_ros.lookup.table import Table
from alt_ros.types import ActionChunk, OodDecision, Query


class Lookup:
    """Recalls a chunk for each embedding of a stream and watches for strangeness.

    Args:
        table: The demonstration frames.
        index: Searches the table's embeddings.
        views: Names of the encoder's views.
        horizon: Prediction horizon Tp: the most actions of a chunk.
        retrieval: How a frame is chosen.
        monitor: When the out-of-distribution flag goes up and down.

    Raises:
        ConfigurationError: The horizon is not positive, or the parts do not fit each other.
    """

    def __init__(
        self,
        table: Table,
        index: Index,
        views: Sequence[str],
        horizon: int,
        retrieval: RetrievalConfig | None = None,
        monitor: MonitorConfig | None = None,
    ) -> None:
        if horizon < 1:
            raise ConfigurationError(f"lookup: horizon must be at least 1 action, got {horizon}")
        self.table = table
        self.horizon = horizon
        self.retrieval = Retrieval(table, index, retrieval)
        self.monitor = OodMonitor(views, monitor)

    def reset(self) -> None:
        """Forget the present demonstration and take the flag down: a new episode begins."""
        self.retrieval.reset()
        self.monitor.reset()

    def step(self, query: Query) -> tuple[ActionChunk, OodDecision]:
        """Return the recalled chunk and the decision for one observation.

        The chunk is given also while the flag is up: whether to follow it, the executor says.

        Raises:
            DataError: The embedding or the view embeddings are of the wrong shape.
        """
        if self.retrieval.begins_episode(query.stamp):
            self.reset()
        recall = self.retrieval.recall(
            query.embedding,
            query.stamp,
            strange_below=self.monitor.config.threshold,
            standing=self.monitor.flag,
        )
        chosen = recall.chosen
        held = self.table.view_embeddings[recall.rows]
        decision = self.monitor.decide(recall.nearest, query.view_embeddings, held)
        chunk = self.table.chunk(
            chosen.demonstration, chosen.frame, self.horizon, query.stamp, chosen.similarity
        )
        return chunk, decision
