"""Gamma for a stated false-alarm rate, from frames that the table does not hold.

Split conformal prediction with the finite-sample correction (Angelopoulos and Bates 2021, "A
Gentle Introduction to Conformal Prediction", arXiv 2107.07511, section 1): of n held-out
similarities, gamma is the k-th smallest with k = floor(rate * (n + 1)). A new frame exchangeable
with them then falls below gamma with a probability of at most the rate. Frames of one
demonstration resemble each other, so the effective n is between the number of demonstrations and
that of frames: ``Calibration`` states both.

What a person at the robot minds are false alarms per episode, and those few held-out episodes
cannot count. ``episode_bound`` therefore predicts the least similarity of the next episode from
those of the episodes at hand: ln(1 - similarity) taken as normal, the one-sided prediction bound
for one further value (Hahn and Meeker 1991, "Statistical Intervals", section 4.8). The least one
is that of the frames in a row that raise the flag: a single bad frame does not.

The whole embedding and every view have a threshold of their own, each at an equal share of the
rate, so that together they keep it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from alt_ros.errors import BundleError, ConfigurationError, DataError
from alt_ros.lookup.monitor import MonitorConfig
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.lookup.table import Table

NEIGHBOURS, RAISE_AFTER = RetrievalConfig.neighbours, MonitorConfig.raise_after

HELD_OUT = "held_out"
LEAVE_ONE_OUT = "leave_one_demonstration_out"
GIVEN = "given"
_RATES = ("false_alarm_rate", "episode_rate")


@dataclass(frozen=True)
class Calibration:
    """Where gamma came from.

    Attributes:
        threshold: Gamma, cosine similarity.
        false_alarm_rate: Share of ordinary frames of which a similarity may fall below its
            threshold; NaN where gamma was given, or for episodes alone.
        frames: Similarities that it was computed from.
        demonstrations: Demonstrations that those frames came from.
        how: "held_out", "leave_one_demonstration_out" or "given".
        episode_rate: Share of ordinary episodes that may be flagged; NaN where the thresholds are
            the frames' quantiles alone.
        view_thresholds: The same for each view's own similarity; empty: the views are not looked
            at.
    """

    threshold: float
    false_alarm_rate: float = float("nan")
    frames: int = 0
    demonstrations: int = 0
    how: str = GIVEN
    episode_rate: float = float("nan")
    view_thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "view_thresholds", tuple(self.view_thresholds))
        if not -1.0 <= self.threshold <= 1.0:
            raise ConfigurationError(
                f"calibration: the threshold is a cosine similarity, got {self.threshold}"
            )
        if self.how not in (HELD_OUT, LEAVE_ONE_OUT, GIVEN):
            raise ConfigurationError(
                f"calibration: how must be {HELD_OUT}, {LEAVE_ONE_OUT} or {GIVEN}, "
                f"got '{self.how}'"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; a rate that is not known is null."""
        values = {**asdict(self), "view_thresholds": list(self.view_thresholds)}
        return values | {name: None for name in _RATES if np.isnan(values[name])}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """Return the calibration that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is unknown, missing or out of bounds.
        """
        try:
            fields: dict[str, Any] = dict(values)
            unknown = {name: float("nan") for name in _RATES if fields[name] is None}
            fields.update(unknown)
            return cls(**fields)
        except (TypeError, KeyError) as error:
            raise ConfigurationError(f"calibration: fields do not fit: {error}") from error

    def save(self, path: Path) -> None:
        """Write a JSON file; it appears only when it is complete."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a calibration.

        Raises:
            BundleError: The file is missing or damaged.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, ConfigurationError) as error:
            raise BundleError(f"calibration '{path}' cannot be read: {error}") from error


def conformal_threshold(similarities: NDArray[np.floating], false_alarm_rate: float) -> float:
    """Return gamma: the floor(rate * (n + 1))-th smallest similarity.

    Args:
        similarities: (n,) similarities of ordinary frames to their nearest table frame.
        false_alarm_rate: Share of ordinary frames that may fall below gamma, 0 to 1, exclusive.

    Raises:
        ConfigurationError: The rate is out of bounds, or too low for so few frames.
        DataError: A similarity is not finite.
    """
    if not 0.0 < false_alarm_rate < 1.0:
        raise ConfigurationError(
            f"calibration: false_alarm_rate must be between 0 and 1, got {false_alarm_rate}"
        )
    if not np.isfinite(similarities).all():
        raise DataError("calibration: every similarity must be finite")
    count = len(similarities)
    k = int(np.floor(false_alarm_rate * (count + 1) + 1e-9))
    if k < 1:
        raise ConfigurationError(
            f"calibration: a false-alarm rate of {false_alarm_rate:g} needs at least "
            f"{int(np.ceil(1.0 / false_alarm_rate)) - 1} held-out frames, got {count}: "
            "record more, or allow a higher rate"
        )
    gamma = float(np.sort(similarities)[k - 1])
    return float(np.clip(gamma, -1.0, 1.0))


def episode_bound(lowest: NDArray[np.floating], episode_rate: float) -> float:
    """Return gamma: a bound that the least similarity of the next episode stays above.

    Args:
        lowest: (n,) least similarity of each held-out episode.
        episode_rate: Share of ordinary episodes that may fall below, 0 to 1, exclusive.

    Raises:
        ConfigurationError: The rate is out of bounds, or there are fewer than three episodes.
    """
    if not 0.0 < episode_rate < 1.0 or len(lowest) < 3:
        raise ConfigurationError(
            "calibration: a rate per episode must be between 0 and 1 and needs three held-out "
            f"demonstrations at least, got {episode_rate} and {len(lowest)}"
        )
    count = len(lowest)
    logs = np.log(np.maximum(1.0 - np.asarray(lowest, np.float64), 1e-6))
    spread = float(logs.std(ddof=1)) * np.sqrt(1.0 + 1.0 / count)
    quantile = float(student_t.ppf(1.0 - episode_rate, count - 1))
    return float(np.clip(1.0 - np.exp(logs.mean() + quantile * spread), -1.0, 1.0))


def calibrate_held_out(
    table: Table,
    embeddings: NDArray[np.float32],
    view_embeddings: NDArray[np.float32],
    episode_ends: NDArray[np.int64],
    false_alarm_rate: float | None = None,
    episode_rate: float | None = None,
    *,
    neighbours: int = NEIGHBOURS,
    raise_after: int = RAISE_AFTER,
) -> Calibration:
    """Return the thresholds from demonstrations that neither the table nor the encoder has seen.

    Args:
        table: The table.
        embeddings: (n, D) float32 of the held-out frames.
        view_embeddings: (n, V, F) float32 of the same frames.
        episode_ends: (E,) the row after each held-out demonstration's last.
        false_alarm_rate: Share of ordinary frames that may be strange; None takes the lowest that
            so many frames can vouch for, or none at all with an ``episode_rate``.
        episode_rate: Share of ordinary episodes that may be flagged; None asks for none.
        neighbours: See ``RetrievalConfig``.
        raise_after: See ``MonitorConfig``.

    Raises:
        ConfigurationError: A rate is too low for so few frames or episodes.
        DataError: The embeddings are not of the table's dimension.
    """
    values = nearest_similarities(table, embeddings, view_embeddings, neighbours=neighbours)
    if episode_rate is None:
        return _calibration(values, len(episode_ends), false_alarm_rate, HELD_OUT)
    parts = np.split(values, episode_ends[:-1])
    lowest = np.array([lowest_in_a_row(part, raise_after) for part in parts])  # (E, 1 + V)
    share = episode_rate / values.shape[1]
    bounds = [episode_bound(column, share) for column in lowest.T]
    if false_alarm_rate is not None:
        by_frame = _calibration(values, len(episode_ends), false_alarm_rate, HELD_OUT)
        others = (by_frame.threshold, *by_frame.view_thresholds)
        bounds = [min(bound, other) for bound, other in zip(bounds, others, strict=True)]
    return Calibration(
        threshold=bounds[0],
        false_alarm_rate=float("nan") if false_alarm_rate is None else false_alarm_rate,
        frames=len(values),
        demonstrations=len(episode_ends),
        how=HELD_OUT,
        episode_rate=episode_rate,
        view_thresholds=tuple(bounds[1:]),
    )


def lowest_in_a_row(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the lowest level that ``count`` values in a row stayed at or below.

    Args:
        values: (n, S) similarities of an episode.
        count: Frames in a row; an episode of fewer gives its highest value.

    Returns:
        (S,) the least of the running maxima.
    """
    count = min(count, len(values))
    windows = np.lib.stride_tricks.sliding_window_view(values, count, axis=0)  # (m, S, count)
    return windows.max(axis=2).min(axis=0)


def calibrate_leave_one_out(
    table: Table, false_alarm_rate: float | None, *, neighbours: int = NEIGHBOURS
) -> Calibration:
    """Return the thresholds from each demonstration's nearest frames in all the others.

    For a table without further recordings. Where the demonstrations are far from each other this
    is pessimistic about what is familiar: gamma comes out low and strange scenes may pass.

    Args:
        table: The table.
        false_alarm_rate: As for ``calibrate_held_out``.
        neighbours: See ``RetrievalConfig``.

    Raises:
        ConfigurationError: There is one demonstration only, or the rate is too low.
    """
    if table.demonstrations < 2:
        raise ConfigurationError(
            "calibration by leaving one out needs two demonstrations, the table holds "
            f"{table.demonstrations}: record more, or give the threshold"
        )
    parts = []
    for demonstration in range(table.demonstrations):
        rows = table.rows(demonstration)
        parts.append(
            nearest_similarities(
                table,
                table.embeddings[rows],
                table.view_embeddings[rows],
                without=demonstration,
                neighbours=neighbours,
            )
        )
    values = np.concatenate(parts)
    return _calibration(values, table.demonstrations, false_alarm_rate, LEAVE_ONE_OUT)


def nearest_similarities(
    table: Table,
    embeddings: NDArray[np.float32],
    view_embeddings: NDArray[np.float32],
    without: int | None = None,
    neighbours: int = NEIGHBOURS,
) -> NDArray[np.float64]:
    """Return how similar each frame is to the table, over all and view by view.

    Args:
        table: The table.
        embeddings: (n, D) float32.
        view_embeddings: (n, V, F) float32.
        without: A demonstration to leave out of the table.
        neighbours: Among how many nearest rows each view's most similar one is looked for.

    Returns:
        (n, 1 + V) similarity to the nearest row, then each view's.

    Raises:
        DataError: The embeddings are not of the table's dimension.
    """
    if embeddings.shape[1:] != table.embeddings.shape[1:]:
        raise DataError(
            f"calibration: embeddings must have {table.embedding_size} values as in the table, "
            f"got shape {embeddings.shape}"
        )
    similarities = (embeddings @ table.embeddings.T).astype(np.float64)  # (n, T)
    if without is not None:
        similarities[:, table.rows(without)] = -np.inf
        neighbours = min(neighbours, int(np.isfinite(similarities[0]).sum()))
    neighbours = min(neighbours, len(table))
    nearest = np.argpartition(similarities, -neighbours, axis=1)[:, -neighbours:]  # (n, k)
    views = np.einsum("nvf,nkvf->nkv", view_embeddings, table.view_embeddings[nearest])
    return np.column_stack([similarities.max(axis=1), views.max(axis=1).astype(np.float64)])


def _calibration(
    values: NDArray[np.float64], demonstrations: int, false_alarm_rate: float | None, how: str
) -> Calibration:
    count, columns = values.shape
    rate = columns / (count + 1) if false_alarm_rate is None else false_alarm_rate
    share = rate / columns
    if 0.0 < rate < 1.0 and share * (count + 1) < 1.0 - 1e-9:
        raise ConfigurationError(
            f"calibration: a false-alarm rate of {rate:g}, shared by the whole and "
            f"{columns - 1} views, needs at least {int(np.ceil(columns / rate - 1e-9)) - 1} "
            f"held-out frames, got {count}: record more, or allow a higher rate"
        )
    threshold, *per_view = [conformal_threshold(column, share) for column in values.T]
    return Calibration(
        threshold=threshold,
        false_alarm_rate=rate,
        frames=count,
        demonstrations=demonstrations,
        how=how,
        view_thresholds=tuple(per_view),
    )
