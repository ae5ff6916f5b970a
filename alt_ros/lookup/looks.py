"""Scores of how the scene looks to the encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.retrieval import Recall
from alt_ros.lookup.score import Score, best_of_each
from alt_ros.lookup.table import Table
from alt_ros.types import Query


class Cosine(Score):
    """Distance to the nearest frame, 1 - cosine: the ALT paper's (He et al. 2026)."""

    resolution = 1e-3

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        return 1.0 - recall.nearest.similarity


class NearestDemonstrations(Score):
    """Mean distance to the nearest frames of the k nearest demonstrations, 1 - cosine.

    As the k-nearest-neighbour distance of Sun et al. 2022 ("Out-of-distribution detection with
    deep nearest neighbors"); neighbours in time count once, for they are one recording.
    """

    resolution = 1e-3

    def __init__(self, table: Table, demonstrations: int = 3) -> None:
        super().__init__(table)
        self._demonstrations = demonstrations

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        best = best_of_each(self._table, recall)[: self._demonstrations]
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

    resolution = 0.05

    def __init__(self, table: Table) -> None:
        super().__init__(table)
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

    resolution = 0.1

    def __init__(self, table: Table) -> None:
        super().__init__(table)
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


class Density(Score):
    """How much less dense the embeddings are here than at their densest, in nats.

    A kernel density estimate (Parzen 1962, "On estimation of a probability density function and
    mode"; learned densities are among the scores of FAIL-Detect, Xu et al. 2025): the negative
    log density, shifted so that the densest of the rows has 0, and floored there. The estimate is
    of the first principal components, each in units of its deviation, with Gaussian kernels of
    Scott's bandwidth; what is strange in all other directions it does not see. At most ``rows``
    of the table are kernels, for the time of a value grows with them.

    Args:
        table: The table.
        components: Most principal components.
        rows: Most rows, drawn with a fixed seed.

    Raises:
        ConfigurationError: The table's embeddings are all equal.
    """

    resolution = 1.0

    def __init__(self, table: Table, components: int = 16, rows: int = 2000) -> None:
        super().__init__(table)
        values = table.embeddings.astype(np.float64)
        self._mean = values.mean(axis=0)
        centred = values - self._mean
        covariance = centred.T @ centred / max(len(values) - 1, 1)
        axes, variances, _ = np.linalg.svd(covariance, hermitian=True)
        # A deviation a thousand times smaller than the largest is rounding.
        size = min(components, int((variances > max(1e-6 * variances[0], 1e-12)).sum()))
        if not size:
            raise ConfigurationError(
                f"density: the table's embeddings must differ, all {len(values)} are equal: "
                "leave this score out"
            )
        drawn = values
        if len(values) > rows:
            drawn = np.random.default_rng(0).choice(values, rows, replace=False)
        bandwidth = len(drawn) ** (-1.0 / (size + 4))
        self._axes = axes[:, :size] / (np.sqrt(variances[:size]) * bandwidth)  # (D, size)
        self._kernels = (drawn - self._mean) @ self._axes
        self._densest = float(self._log_density(drawn).max())

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        return max(self._densest - float(self._log_density(query.embedding[None])[0]), 0.0)

    def _log_density(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the log densities (n,) of embeddings (n, D), but for a constant."""
        points = (embeddings - self._mean) @ self._axes
        squared = cdist(points, self._kernels, "sqeuclidean")
        return np.asarray(logsumexp(-0.5 * squared, axis=1), np.float64)


class View(Score):
    """Distance of one view to the nearest of the recalled neighbours' views, 1 - cosine.

    Infinite for a view without an embedding: it shows nothing.

    Args:
        table: The table.
        view: Number of the view.
    """

    resolution = 1e-3

    def __init__(self, table: Table, view: int = 0) -> None:
        super().__init__(table)
        self._view = view

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        seen = query.view_embeddings[self._view]
        if np.isnan(seen).any():
            return float("inf")
        held = self._table.view_embeddings[recall.rows, self._view]
        return 1.0 - float((held @ seen).max())
