"""Whether the scene is strange: scores in their bands, k of the last n, with hysteresis."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError
from alt_ros.lookup.bands import combined
from alt_ros.lookup.calibration import Calibration
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.retrieval import Recall
from alt_ros.lookup.score import progress_of
from alt_ros.lookup.scores import make_scores, view_scores
from alt_ros.lookup.table import Table
from alt_ros.types import OodDecision, Query

NOT_FINITE = "not_finite"
"""Cause of a decision about a query with a value that is no finite number, as of a blank view."""
NEVER = -2.0
"""A similarity that nothing is below."""
SURELY_STRANGE = 4.0
"""Scales of "cosine" above its centre that no ordinary observation reaches."""


class OodMonitor:
    """Flags observations that are out of the demonstrations' distribution.

    Args:
        table: The demonstration frames.
        views: Names of the encoder's views.
        calibration: What is usual, and the threshold.
        config: When the flag goes up and down.

    Raises:
        ConfigurationError: The table has no such score as the calibration names.
    """

    def __init__(
        self,
        table: Table,
        views: Sequence[str],
        calibration: Calibration,
        config: MonitorConfig | None = None,
    ) -> None:
        self.calibration = calibration
        self.config = config or MonitorConfig()
        self._table = table
        self._views = tuple(views)[: table.view_embeddings.shape[1]]
        self._scores = make_scores(table, views, calibration.bands)
        self._view_scores = make_scores(table, views, view_scores(self._views))
        self._levels: deque[float] = deque(maxlen=self.config.raise_window)
        self._familiar = 0  # in a row, while the flag is up
        self._bridged = 0  # observations in a row that were surely strange
        self._flag = False
        self._progress = 0.0

    @property
    def flag(self) -> bool:
        """Whether the flag is up."""
        return self._flag

    @property
    def strange_below(self) -> float:
        """Similarity to the nearest frame below which the next observation is surely strange.

        By the band of "cosine" at the present progress; -2 where it is not among the scores. What
        is recalled goes on in time at such observations, but at fewer in a row than raise the
        flag, or at one: from then on either the flag is up, or the arm is not led on blindly.
        """
        blind = not self._flag and self._bridged >= max(self.config.raise_count - 1, 1)
        return NEVER if blind else self._surely_strange_below()

    def reset(self) -> None:
        """Take the flag down: a new episode begins."""
        for score in self._scores.values():
            score.reset()
        self._levels.clear()
        self._familiar = 0
        self._bridged = 0
        self._flag = False
        self._progress = 0.0

    def decide(self, query: Query, recall: Recall) -> OodDecision:
        """Return the decision for one observation.

        Args:
            query: The observation; a value that is not finite makes it strange.
            recall: What the retrieval found for it.

        Raises:
            DataError: The view embeddings are not of the table's shape.
        """
        expected = self._table.view_embeddings.shape[1:]
        if query.view_embeddings.shape != expected:
            raise DataError(
                f"monitor: view embeddings must be {expected} as in the table, "
                f"got {query.view_embeddings.shape}"
            )
        strange = recall.nearest.similarity < self._surely_strange_below()
        self._bridged = self._bridged + 1 if strange else 0
        self._progress = progress_of(self._table, recall)
        values = np.array([score.value(query, recall) for score in self._scores.values()])
        bands = self.calibration.bands.values()
        strangeness = np.array(
            [
                float(band.strangeness(value, self._progress))
                for band, value in zip(bands, values.tolist(), strict=True)
            ]
        )
        finite = _is_finite(query)
        level = float(combined(strangeness)) if finite else float("inf")
        self._follow(level)
        names = tuple(self._scores)
        strangest = int(np.where(np.isnan(strangeness), -np.inf, strangeness).argmax())
        return OodDecision(
            flag=self._flag,
            score=level,
            threshold=self.calibration.threshold,
            neighbour=recall.nearest,
            view=self._strangest_view(query, recall) if self._flag else "",
            quantile=self.calibration.quantile(level),
            cause=names[strangest] if finite else NOT_FINITE,
            scores=names,
            values=tuple(values.tolist()),
            strangeness=tuple(strangeness.tolist()),
        )

    def _surely_strange_below(self) -> float:
        band = self.calibration.bands.get("cosine")
        if band is None:
            return NEVER
        strange = min(self.calibration.threshold, SURELY_STRANGE * band.weight)
        return 1.0 - float(band.value_at(strange, self._progress))

    def _follow(self, level: float) -> None:
        """Put the flag up or down."""
        config, threshold = self.config, self.calibration.threshold
        if self._flag:
            familiar = level <= threshold - config.clear_margin
            self._familiar = self._familiar + 1 if familiar else 0
            self._flag = self._familiar < config.clear_after
        else:
            self._levels.append(level)
            self._flag = float(config.decided(np.array(self._levels))[-1]) > threshold
            self._familiar = 0
        if self._flag:
            self._levels.clear()

    def _strangest_view(self, query: Query, recall: Recall) -> str:
        """Return the view that is strangest for what is usual for it, or else by its distance.

        A view whose embedding is no number is the strangest.
        """
        if not self._views:
            return ""
        bands = [self.calibration.bands.get(name) for name in self._view_scores]
        values = [score.value(query, recall) for score in self._view_scores.values()]
        if all(band is not None for band in bands):
            values = [
                float(band.strangeness(value, self._progress))
                for band, value in zip(bands, values, strict=True)
                if band is not None
            ]
        return self._views[int(np.nan_to_num(values, nan=np.inf).argmax())]


def _is_finite(query: Query) -> bool:
    arrays: tuple[NDArray[Any], ...] = (query.embedding, query.view_embeddings, query.poses)
    return all(bool(np.isfinite(array).all()) for array in arrays)
