"""How well recalled frames say what to do next: the measure of a training run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.training.frames import FrameReader

ROWS = 1024  # frames of the table and of the held-out demonstrations that are looked at, at most
BATCH = 64


def validate_encoder(
    encoder: MultiViewEncoder, store: DemonstrationStore, held_out: Sequence[int]
) -> float:
    """Return how far recalled actions are from the right ones, relative to chance.

    For each frame of the held-out demonstrations the nearest frame of the others is recalled, and
    the action commanded there is compared with the one commanded here.

    Args:
        encoder: The trained network, on the CPU.
        store: The demonstrations.
        held_out: Numbers of the demonstrations that were not trained on.

    Returns:
        Mean Euclidean distance of the actions over the mean distance to all actions of the table:
        0 is perfect, 1 is chance; NaN where nothing was held out.
    """
    if not held_out:
        return float("nan")
    lengths = np.diff(store.episode_ends, prepend=0)
    demonstration = np.repeat(np.arange(len(lengths)), lengths)
    out = np.isin(demonstration, list(held_out))
    table, queries = _spread(np.flatnonzero(~out)), _spread(np.flatnonzero(out))
    frames = FrameReader(store, encoder.spec)
    known, asked = _embed(encoder, frames, table), _embed(encoder, frames, queries)
    nearest = table[(asked @ known.T).argmax(axis=1)]
    actions = store.actions
    recalled = np.linalg.norm(actions[queries] - actions[nearest], axis=1).mean()
    chance = np.mean([np.linalg.norm(actions[table] - actions[q], axis=1).mean() for q in queries])
    return float(recalled / max(float(chance), 1e-12))


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), ROWS)).astype(np.int64))]


def _embed(
    encoder: MultiViewEncoder, frames: FrameReader, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    parts: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            embeddings, _ = encoder.eval()(*frames.clean(rows[start : start + BATCH]))
            parts.append(embeddings.numpy())
    return np.concatenate(parts)
