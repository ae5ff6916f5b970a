"""Temporal ensembling: an action is the weighted mean of what several chunks say about its time.

Zhao et al. 2023 (ACT), section IV-C: of the predictions for one instant, the i-th oldest has the
weight exp(-m i).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alt_ros.errors import ConfigurationError
from alt_ros.types import ActionChunk


class TemporalEnsemble:
    """Averages each chunk with those of the same episode before it.

    Args:
        decay: m; 0 weighs all predictions alike, more trusts the oldest more.

    Raises:
        ConfigurationError: m is negative.
    """

    def __init__(self, decay: float) -> None:
        if not decay >= 0.0:
            raise ConfigurationError(f"temporal ensemble: decay must be 0 or more, got {decay}")
        self._decay = decay
        self._chunks: list[ActionChunk] = []

    def clear(self) -> None:
        """Begin a new episode."""
        self._chunks.clear()

    def blend(self, chunk: ActionChunk) -> ActionChunk:
        """Return the chunk with each action averaged over all chunks so far that hold its time."""
        self._chunks = [c for c in self._chunks if _shift(c, chunk) < len(c.actions)]
        self._chunks.append(chunk)
        total = np.zeros_like(chunk.actions)
        weights = np.zeros((len(chunk.actions), 1))
        ranks = np.zeros(len(chunk.actions))  # how many older chunks spoke about each instant
        for older in self._chunks:
            shift = _shift(older, chunk)
            count = min(len(older.actions) - shift, len(chunk.actions))
            weight = np.exp(-self._decay * ranks[:count])[:, None]
            total[:count] += weight * older.actions[shift : shift + count]
            weights[:count] += weight
            ranks[:count] += 1
        return replace(chunk, actions=total / weights)


def _shift(older: ActionChunk, newer: ActionChunk) -> int:
    """Return which action of the older chunk is due at the newer one's first."""
    return round((newer.stamp - older.stamp) / newer.period)
