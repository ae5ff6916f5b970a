"""Which frames make a training batch.

The hard question of an action lookup table is which demonstration this is, asked where all
demonstrations look alike: at their starts, and at the same phase. A batch of uniformly drawn
frames seldom asks it, so a batch here holds frames of many demonstrations at a few common phases;
a share of those phases is the very start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError

PHASE_JITTER = 4  # frames by which demonstrations of one phase are shifted against each other


@dataclass(frozen=True, eq=False)
class BatchSampler:
    """Draws batches; the draw for a step depends on seed and step alone.

    Attributes:
        starts: (E,) first row of each demonstration that may be drawn.
        lengths: (E,) their numbers of frames.
        batch_size: Frames of a batch.
        phases: Common phases of a batch; 0 draws uniformly.
        start_share: Probability that a phase is the start.
        seed: Seed.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    batch_size: int
    phases: int
    start_share: float
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size < 2 or not 0 <= self.phases <= self.batch_size:
            raise ConfigurationError(
                "training: batch_size must be at least 2 and phases 0 to batch_size, "
                f"got {self.batch_size} and {self.phases}"
            )
        if not 0.0 <= self.start_share <= 1.0:
            raise ConfigurationError(
                f"training: start_share must be 0 to 1, got {self.start_share}"
            )

    def draw(self, step: int) -> NDArray[np.int64]:
        """Return the rows (batch_size,) of one step."""
        generator = np.random.default_rng([self.seed, step])
        if self.phases == 0:
            rows = np.concatenate(
                [np.arange(s, s + n) for s, n in zip(self.starts, self.lengths, strict=True)]
            )
            return generator.choice(rows, self.batch_size, replace=len(rows) < self.batch_size)
        parts: list[NDArray[np.int64]] = []
        sizes = np.diff(np.linspace(0, self.batch_size, self.phases + 1).astype(np.int64))
        for size in sizes:
            phase = 0.0 if generator.random() < self.start_share else generator.random()
            count = len(self.starts)
            chosen = generator.choice(count, int(size), replace=int(size) > count)
            last = self.lengths[chosen] - 1
            frames = np.rint(phase * last).astype(np.int64)
            frames += generator.integers(PHASE_JITTER, size=len(chosen))
            parts.append(self.starts[chosen] + np.clip(frames, 0, last))
        return np.concatenate(parts)
