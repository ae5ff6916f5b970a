"""How well a table answers for demonstrations that it does not hold: the evaluation of real data.

Each demonstration in turn plays the robot; its frames recall from all the others. What is recalled
is held against what the person did next, and against two bounds: a chunk drawn at random, and the
best chunk that the others hold. The encoder may have seen the held-out images; their actions it
has never seen, and nothing is fitted to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.table import Table
from alt_ros.types import ARM_ACTION_SIZE

RESAMPLES = 1000
Progress = Callable[[int, int], None]
Distances = NDArray[np.float64]


@dataclass(frozen=True)
class Median:
    """A median over frames with its 95 % interval, bootstrapped over demonstrations.

    Attributes:
        value: Median distance.
        low: 2.5 % quantile of the resampled medians.
        high: 97.5 % quantile.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LeaveOneOut:
    """What came of it; distances are mean Euclidean distances along a chunk, in action units.

    Attributes:
        recalled: Chunk of the most similar frame.
        random: Chunk of a frame drawn at random.
        oracle: Nearest chunk of all the others.
        frames: Frames that were asked about.
        demonstrations: Demonstrations held out in turn.
        horizon: Actions of a chunk; shorter at the end of a demonstration.
    """

    recalled: Median
    random: Median
    oracle: Median
    frames: int
    demonstrations: int
    horizon: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def leave_one_out(
    table: Table,
    horizon: int,
    *,
    stride: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> LeaveOneOut:
    """Hold out each demonstration in turn.

    Compared are the positions of the end effectors, or the extra columns of a robot whose actions
    are not end-effector poses.

    Args:
        table: Embedded demonstrations.
        horizon: Actions of a chunk.
        stride: Every how many frames the table is asked.
        seed: Of the random chunks and the bootstrap.
        progress: Called with (demonstrations done, demonstrations in all).

    Raises:
        ConfigurationError: There is one demonstration only, or a number is not positive.
    """
    if table.demonstrations < 2 or horizon < 1 or stride < 1 or seed < 0:
        raise ConfigurationError(
            "leave one out: two demonstrations, a horizon and a stride of at least 1 and a seed "
            f"of at least 0 are needed, got {table.demonstrations}, {horizon}, {stride}, {seed}"
        )
    generator = np.random.default_rng(seed)
    chunks = _chunks(table, horizon)  # (T, horizon, C)
    parts: list[Distances] = []
    for demonstration in range(table.demonstrations):
        rows = table.rows(demonstration)
        others = np.flatnonzero(table.demonstration != demonstration)
        asked = np.arange(rows.start, rows.stop, stride)
        nearest = (table.embeddings[asked] @ table.embeddings[others].T).argmax(axis=1)
        drawn = generator.integers(len(others), size=len(asked))
        part = np.empty((len(asked), 3))
        for i, row in enumerate(asked):
            length = min(horizon, rows.stop - int(row))
            distances = _distances(chunks[row], chunks[others], length)
            part[i] = distances[nearest[i]], distances[drawn[i]], distances.min()
        parts.append(part)
        if progress is not None:
            progress(demonstration + 1, table.demonstrations)
    recalled, random, oracle = _medians(parts, generator)
    return LeaveOneOut(
        recalled=recalled,
        random=random,
        oracle=oracle,
        frames=sum(len(part) for part in parts),
        demonstrations=table.demonstrations,
        horizon=horizon,
    )


def _chunks(table: Table, horizon: int) -> NDArray[np.float32]:
    """Return the compared columns of every frame's chunk; its last action fills it up."""
    arms = table.layout.arms
    columns = [ARM_ACTION_SIZE * arm + axis for arm in range(arms) for axis in range(3)]
    if not columns:
        columns = list(range(table.layout.size))
    last = table.episode_ends[table.demonstration] - 1  # (T,)
    rows = np.minimum(np.arange(len(table))[:, None] + np.arange(horizon), last[:, None])
    return table.actions[:, columns].astype(np.float32)[rows]


def _distances(
    chunk: NDArray[np.float32], others: NDArray[np.float32], length: int
) -> NDArray[np.float64]:
    """Return the mean distance of (horizon, C) to each of (n, horizon, C), first steps only."""
    steps = np.linalg.norm(others[:, :length] - chunk[:length], axis=2)  # (n, length)
    return steps.mean(axis=1).astype(np.float64)


def _medians(parts: list[Distances], generator: np.random.Generator) -> list[Median]:
    whole = np.median(np.concatenate(parts), axis=0)
    resampled = np.empty((RESAMPLES, 3))
    for i in range(RESAMPLES):
        chosen = generator.integers(len(parts), size=len(parts))
        resampled[i] = np.median(np.concatenate([parts[c] for c in chosen]), axis=0)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return [Median(float(whole[k]), float(low[k]), float(high[k])) for k in range(3)]
