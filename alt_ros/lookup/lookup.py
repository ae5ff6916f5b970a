"""The policy's step from an embedding to a chunk and a decision.

The lookup node and ``AltPolicy`` both call this.
"""

from __future__ import annotations

from collections.abc import Sequence

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.calibration import Calibration
from alt_ros.lookup.correction import Correction, CorrectionConfig
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.index import Index
from alt_ros.lookup.monitor import OodMonitor
from alt_ros.lookup.retrieval import Retrieval, RetrievalConfig
from alt_ros.lookup.table import Table
from alt_ros.types import ActionChunk, Neighbour, OodDecision, Query


class Lookup:
    """Recalls a chunk for each embedding of a stream and watches for strangeness.

    Args:
        table: The demonstration frames.
        index: Searches the table's embeddings.
        views: Names of the encoder's views.
        horizon: Prediction horizon Tp: the most actions of a chunk.
        calibration: What is usual, and the threshold.
        retrieval: How a frame is chosen.
        monitor: When the out-of-distribution flag goes up and down.
        correction: How recalled motions are corrected; None recalls them as they were, as in the
            paper.

    Raises:
        ConfigurationError: The horizon is not positive, or the parts do not fit each other.
    """

    def __init__(
        self,
        table: Table,
        index: Index,
        views: Sequence[str],
        horizon: int,
        calibration: Calibration,
        retrieval: RetrievalConfig | None = None,
        monitor: MonitorConfig | None = None,
        correction: CorrectionConfig | None = None,
    ) -> None:
        if horizon < 1:
            raise ConfigurationError(f"lookup: horizon must be at least 1 action, got {horizon}")
        self.table = table
        self.horizon = horizon
        self.retrieval = Retrieval(table, index, retrieval)
        self.monitor = OodMonitor(table, views, calibration, monitor)
        self.correction = None if correction is None else Correction(table, correction)
        self._followed: Neighbour | None = None  # what the last chunk without a flag began with

    def reset(self) -> None:
        """Forget the present demonstration and take the flag down: a new episode begins."""
        self.retrieval.reset()
        self.monitor.reset()
        if self.correction is not None:
            self.correction.reset()
        self._followed = None

    def step(self, query: Query) -> tuple[ActionChunk, OodDecision]:
        """Return the recalled chunk and the decision for one observation.

        The chunk is given also while the flag is up: whether to follow it, the executor says.

        Raises:
            DataError: The embedding or the view embeddings are of the wrong shape, or there is no
                pose to correct the motion by.
        """
        if self.retrieval.begins_episode(query.stamp):
            self.reset()
        standing = self.monitor.flag
        recall = self.retrieval.recall(
            query.embedding,
            query.stamp,
            strange_below=self.monitor.strange_below,
            standing=standing,
        )
        decision = self.monitor.decide(query, recall)
        if self.correction is None:
            chosen = recall.chosen
            chunk = self.table.chunk(
                chosen.demonstration, chosen.frame, self.horizon, query.stamp, chosen.similarity
            )
        else:
            chunk = self.correction.chunk(query, recall, self.horizon, standing=standing)
        if not decision.flag:
            self._followed = chunk.source
        return chunk, decision

    def way_back(self, stamp: int, slowdown: float) -> ActionChunk | None:
        """Return the recorded actions from the frame last followed back to the first.

        The gripper's too: it is the demonstration backwards. None where nothing has been followed
        in this episode.

        Args:
            stamp: Time of the observation that it answers, ns.
            slowdown: How many times as long as in the demonstration it takes, at least 1.

        Raises:
            ConfigurationError: The slowdown is below 1.
        """
        if slowdown < 1.0:
            raise ConfigurationError(f"way back: slowdown must be at least 1, got {slowdown}")
        if self._followed is None:
            return None
        start = self.table.rows(self._followed.demonstration).start
        return ActionChunk(
            stamp=stamp,
            period=round(slowdown * self.table.period),
            actions=self.table.actions[start : start + self._followed.frame + 1][::-1].copy(),
            layout=self.table.layout,
            source=self._followed,
        )
