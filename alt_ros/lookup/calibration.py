"""Gamma for a stated false-alarm rate, from frames that the table does not hold.

Split conformal prediction with the finite-sample correction (Angelopoulos and Bates 2021, "A
Gentle Introduction to Conformal Prediction", arXiv 2107.07511, section 1): of n held-out
similarities, gamma is the k-th smallest with k = floor(rate * (n + 1)). A new frame exchangeable
with them then falls below gamma with a probability of at most the rate. Frames of one
demonstration resemble each other, so the effective n is between the number of demonstrations and
that of frames: ``Calibration`` states both. Strange frames of an ordinary episode come together
too; the monitor's ``raise_after`` asks for several in a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import BundleError, ConfigurationError, DataError
from alt_ros.lookup.table import Table

HELD_OUT = "held_out"
LEAVE_ONE_OUT = "leave_one_demonstration_out"
GIVEN = "given"


@dataclass(frozen=True)
class Calibration:
    """Where gamma came from.

    Attributes:
        threshold: Gamma, cosine similarity.
        false_alarm_rate: Share of ordinary frames that it flags at most; NaN where it was given.
        frames: Similarities that it was computed from.
        demonstrations: Demonstrations that those frames came from.
        how: "held_out", "leave_one_demonstration_out" or "given".
        view_thresholds: The same quantile of each view's own similarity; may be empty.
    """

    threshold: float
    false_alarm_rate: float = float("nan")
    frames: int = 0
    demonstrations: int = 0
    how: str = GIVEN
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
        rate = None if np.isnan(self.false_alarm_rate) else self.false_alarm_rate
        return {
            **asdict(self),
            "false_alarm_rate": rate,
            "view_thresholds": list(self.view_thresholds),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """Return the calibration that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is unknown, missing or out of bounds.
        """
        try:
            fields: dict[str, Any] = dict(values)
            if fields["false_alarm_rate"] is None:
                fields["false_alarm_rate"] = float("nan")
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


def calibrate_held_out(
    table: Table,
    embeddings: NDArray[np.float32],
    view_embeddings: NDArray[np.float32],
    demonstrations: int,
    false_alarm_rate: float | None,
) -> Calibration:
    """Return gamma from demonstrations that neither the table nor the encoder has seen.

    Args:
        table: The table.
        embeddings: (n, D) float32 of the held-out frames.
        view_embeddings: (n, V, F) float32 of the same frames.
        demonstrations: Demonstrations that they come from.
        false_alarm_rate: Share of ordinary frames that may be flagged; None takes the lowest
            that so many frames can vouch for, 1 / (n + 1), which is their least similarity.

    Raises:
        ConfigurationError: The rate is too low for so few frames.
        DataError: The embeddings are not of the table's dimension.
    """
    similarities, views = nearest_similarities(table, embeddings, view_embeddings)
    return _calibration(similarities, views, demonstrations, false_alarm_rate, HELD_OUT)


def calibrate_leave_one_out(table: Table, false_alarm_rate: float | None) -> Calibration:
    """Return gamma from each demonstration's nearest frames in all the others.

    For a table without further recordings. Where the demonstrations are far from each other this
    is pessimistic about what is familiar: gamma comes out low and strange scenes may pass.

    Args:
        table: The table.
        false_alarm_rate: As for ``calibrate_held_out``.

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
                table, table.embeddings[rows], table.view_embeddings[rows], without=demonstration
            )
        )
    similarities = np.concatenate([similarity for similarity, _ in parts])
    views = np.concatenate([view for _, view in parts])
    return _calibration(similarities, views, table.demonstrations, false_alarm_rate, LEAVE_ONE_OUT)


def nearest_similarities(
    table: Table,
    embeddings: NDArray[np.float32],
    view_embeddings: NDArray[np.float32],
    without: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each frame's similarity to its nearest table frame, over all and view by view.

    Args:
        table: The table.
        embeddings: (n, D) float32.
        view_embeddings: (n, V, F) float32.
        without: A demonstration to leave out of the table.

    Returns:
        (n,) similarities and (n, V) similarities of the views to those of the same table frame.

    Raises:
        DataError: The embeddings are not of the table's dimension.
    """
    if embeddings.shape[1:] != table.embeddings.shape[1:]:
        raise DataError(
            f"calibration: embeddings must have {table.embedding_size} values as in the table, "
            f"got shape {embeddings.shape}"
        )
    all_similarities = (embeddings @ table.embeddings.T).astype(np.float64)  # (n, T)
    if without is not None:
        all_similarities[:, table.rows(without)] = -np.inf
    nearest = all_similarities.argmax(axis=1)
    views = (view_embeddings * table.view_embeddings[nearest]).sum(axis=2)
    return all_similarities[np.arange(len(nearest)), nearest], views.astype(np.float64)


def _calibration(
    similarities: NDArray[np.float64],
    views: NDArray[np.float64],
    demonstrations: int,
    false_alarm_rate: float | None,
    how: str,
) -> Calibration:
    if false_alarm_rate is None:
        false_alarm_rate = 1.0 / (len(similarities) + 1)
    per_view: Sequence[float] = [
        conformal_threshold(views[:, view], false_alarm_rate) for view in range(views.shape[1])
    ]
    return Calibration(
        threshold=conformal_threshold(similarities, false_alarm_rate),
        false_alarm_rate=false_alarm_rate,
        frames=len(similarities),
        demonstrations=demonstrations,
        how=how,
        view_thresholds=tuple(per_view),
    )
