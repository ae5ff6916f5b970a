"""How strange an observation is: a small class per score, larger is stranger.

A score sees the query and what was recalled for it, and nothing else; what it keeps between two
observations of an episode, ``reset`` forgets. None knows a threshold: bands over ordinary
episodes make the scores comparable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from alt_ros.errors import ConfigurationError
from alt_ros.geometry import pose_distance, split_arm_action
from alt_ros.lookup.consistency import statistical_distance
from alt_ros.lookup.index import Index
from alt_ros.lookup.retrieval import Recall, Retrieval, RetrievalConfig
from alt_ros.lookup.table import Table
from alt_ros.types import ARM_ACTION_SIZE, NANOSECONDS, Neighbour, Query

LOOKS, MOVES = 0.18, 1.0
"""Weights of scores of how the scene looks, and of what the robot does."""
METRES_PER_RADIAN = 0.1
"""A turn counts as much as the way of a point at the fingers' length from the wrist."""


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


class GuidingView(View):
    """Distance of the view that tells best how to move, 1 - cosine; see ``guiding_view``.

    A policy fails where what guides the hand looks otherwise, often not where other things do.
    """

    weight = 0.5 * LOOKS

    def __init__(self, table: Table) -> None:
        super().__init__(table, guiding_view(table))


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
        self._motions = _motions(table, ahead)

    def value(self, query: Query, recall: Recall) -> float:
        """See ``Score.value``."""
        rows = recall.rows[_best_of_each(self._table, recall)[: self._demonstrations]]
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


SCORES: dict[str, type[Score]] = {
    "cosine": Cosine,
    "nearest_demonstrations": NearestDemonstrations,
    "local_density": LocalDensity,
    "mahalanobis": Mahalanobis,
    "density": Density,
    "jumps": Jumps,
    "chunk_overlap": ChunkOverlap,
    "disagreement": Disagreement,
    "pose_residual": PoseResidual,
    "path_residual": PathResidual,
    "guiding_view": GuidingView,
}
"""Name to score; and ``view:<name>`` for every view. ``<name>@<n>`` is ``Lasting`` of n."""
_VIEW, _LASTING = "view:", "@"
_OF_ARMS = {"disagreement", "pose_residual", "path_residual", "guiding_view"}
_MOST_LASTING = 1000


def score_names(table: Table, views: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all scores that a table of these views has, but for lasting ones."""
    names = [name for name in SCORES if table.layout.arms or name not in _OF_ARMS]
    if table.view_embeddings.shape[1] > 1:
        return (*names, *view_scores(views))
    return tuple(name for name in names if name != "guiding_view")


def shipped_scores(table: Table, views: Sequence[str], corrects: bool = False) -> tuple[str, ...]:
    """Return what the monitor combines unless told otherwise.

    None lasts for longer than half of the median demonstration.

    Args:
        table: The table.
        views: Names of the encoder's views.
        corrects: Recalled motions are corrected: the arm need not be where the demonstration's
            was, nor does the hand's view look the same.
    """
    half = max(int(np.median(np.diff(table.episode_ends, prepend=0))) // 2, 2)
    known = score_names(table, views)
    names = ["cosine"]
    if "guiding_view" in known and not corrects:
        names.insert(0, f"guiding_view@{min(30, half)}")
    else:
        names.insert(0, f"cosine@{min(20, half)}")
    if "path_residual" in known and not corrects:
        names.insert(0, f"path_residual@{min(3, half)}")
    return tuple(names)


def view_scores(views: Sequence[str]) -> tuple[str, ...]:
    """Return the name of every view's score."""
    return tuple(_VIEW + view for view in views)


def chosen_scores(
    table: Table, views: Sequence[str], names: Sequence[str] = (), corrects: bool = False
) -> tuple[str, ...]:
    """Return the names with ``view`` in full: every view's score, none where there is one view.

    No names: ``shipped_scores``.

    Raises:
        ConfigurationError: The table has no such score.
    """
    names = names or shipped_scores(table, views, corrects)
    known = score_names(table, views)
    every_view = [name for name in known if name.startswith(_VIEW)]
    chosen: list[str] = []
    for name in names:
        base, at, lasting = name.partition(_LASTING)
        chosen += [view + at + lasting for view in every_view] if base == "view" else [name]
    _check_known(chosen, known)
    return tuple(dict.fromkeys(chosen))


def make_scores(table: Table, views: Sequence[str], names: Collection[str]) -> dict[str, Score]:
    """Return scores by name.

    Args:
        table: What is ordinary.
        views: Names of the encoder's views.
        names: Which scores, in full.

    Raises:
        ConfigurationError: The table has no such score.
    """
    held = view_scores(views[: table.view_embeddings.shape[1]])
    if names:
        _check_known(names, tuple(dict.fromkeys((*score_names(table, views), *held))))
    scores: dict[str, Score] = {}
    for name in names:
        base, _, lasting = name.partition(_LASTING)
        score = View(table, held.index(base)) if base in held else SCORES[base](table)
        scores[name] = Lasting(table, score, int(lasting)) if lasting else score
    return scores


def _check_known(names: Collection[str], known: Sequence[str]) -> None:
    unknown: list[str] = []
    for name in names:
        base, at, lasting = name.partition(_LASTING)
        lasts = lasting.isascii() and lasting.isdigit() and 1 < int(lasting) <= _MOST_LASTING
        if base not in known or (at and not lasts):
            unknown.append(name)
    if unknown or not names:
        raise ConfigurationError(
            f"scores of this table are {', '.join(known)}, each also with @<n>, the least of the "
            f"last n observations, 2 to {_MOST_LASTING}; got {', '.join(unknown) or 'none'}"
        )


def score_class(name: str) -> type[Score]:
    """Return the class of a score by its name; of a lasting one, that of what lasts."""
    base = name.partition(_LASTING)[0]
    return View if base.startswith(_VIEW) else SCORES[base]


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
    frames = np.unique(np.linspace(0, len(table) - 1, rows).round().astype(np.int64))
    motions = _motions(table, ahead)[frames]
    same = table.demonstration[frames, None] == table.demonstration[frames]
    errors: list[float] = []
    for view in range(table.view_embeddings.shape[1]):
        values = table.view_embeddings[frames, view]
        nearest = np.where(same, -np.inf, values @ values.T).argmax(axis=1)
        errors.append(float(np.linalg.norm(motions - motions[nearest], axis=2).mean()))
    return int(np.argmin(errors))


def _motions(table: Table, ahead: int) -> NDArray[np.float64]:
    """Return how each frame's arms were commanded to move in the actions after it.

    (T, arms, 3) metres; shorter at the end of a demonstration.
    """
    positions = split_arm_action(table.actions, table.layout.arms)[0][..., :3]
    rows = np.arange(len(table))
    after = np.minimum(rows + ahead, table.episode_ends[table.demonstration] - 1)
    return np.asarray(positions[after] - positions)


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


def progress_of(table: Table, recall: Recall) -> float:
    """Return what part of the followed demonstration has passed, 0 to 1."""
    rows = table.rows(recall.chosen.demonstration)
    return recall.chosen.frame / max(rows.stop - rows.start - 1, 1)


def _positions_and_extra(table: Table) -> NDArray[np.float64]:
    """Return the arms' target positions, metres, and the further action columns of each row."""
    arms = table.layout.arms
    of_arms = table.actions[:, : arms * ARM_ACTION_SIZE]
    of_arms = of_arms.reshape(len(table), arms, ARM_ACTION_SIZE)
    positions = of_arms[:, :, :3].reshape(len(table), 3 * arms)
    return np.hstack([positions, table.actions[:, arms * ARM_ACTION_SIZE :]])


def _best_of_each(table: Table, recall: Recall) -> NDArray[np.int64]:
    """Return which of the recalled rows is its demonstration's best, the best first."""
    _, first = np.unique(table.demonstration[recall.rows], return_index=True)
    return np.sort(first)
