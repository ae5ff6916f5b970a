"""Small tables with a known geometry."""

from __future__ import annotations

import numpy as np

from alt_ros.lookup.table import Table, make_table
from alt_ros.types import ActionLayout

PERIOD = 50_000_000
LAYOUT = ActionLayout(arms=1)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def actions(count: int, start: float = 0.0) -> np.ndarray:
    rows = np.zeros((count, LAYOUT.size))
    rows[:, 0] = start + np.arange(count)
    rows[:, 3] = rows[:, 7] = 1.0
    return rows


def table(
    lengths: tuple[int, ...] = (6, 4, 5),
    dimension: int = 16,
    views: int = 2,
    seed: int = 0,
    embeddings: np.ndarray | None = None,
) -> Table:
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    poses = np.zeros((count, 1, 7))
    poses[:, :, 6] = 1.0
    return make_table(
        embeddings=unit(rng.normal(size=(count, dimension))) if embeddings is None else embeddings,
        view_embeddings=unit(rng.normal(size=(count, views, 8))),
        actions=actions(count),
        poses=poses,
        grippers=np.full((count, 1), 0.08),
        episode_ends=np.cumsum(lengths),
        names=tuple(f"demo {i}" for i in range(len(lengths))),
        period=PERIOD,
        layout=LAYOUT,
    )
