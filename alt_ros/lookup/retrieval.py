"""Which demonstration frame to follow: recall once, then stay with the demonstration.

The nearest frame alone makes a robot jump between demonstrations that look alike. As the ALT
paper does for multimodal data (He et al. 2026, arXiv 2505.05787), the choice is made among the
best frames of *distinct* demonstrations; afterwards the demonstration is kept for as long as it
explains what is seen about as well as the best one does. Its frames are walked at the pace they
were recorded at, unless the images clearly contradict: a robot that goes to the nearest frame at
each observation stands still for ever where an earlier frame looks a little more like the scene
than the present one, because nothing moves there or because the cup stands a little farther off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.index import Index
from alt_ros.lookup.table import Table
from alt_ros.types import NANOSECONDS, Neighbour


@dataclass(frozen=True)
class RetrievalConfig:
    """How a frame is chosen.

    Attributes:
        neighbours: Frames asked of the index for one recall, k.
        distinct_demonstrations: Among how many distinct demonstrations the choice is made; 1 takes
            the nearest, the paper's multimodal setting is 3.
        choice_margin: Similarity that a demonstration may be worse than the nearest and still be
            chosen; only with two distinct demonstrations or more.
        stay_margin: Similarity that the present demonstration may be worse than the nearest frame
            and still be kept; 0 takes the nearest frame anew every time.
        frame_margin: Similarity that the frame due by now may be worse than the present
            demonstration's nearest one and still be followed; beyond it the robot is somewhere
            else, and the nearest frame is gone to. 0 always goes to the nearest.
        reset_gap: A stamp this much after the last one begins a new episode, ns.
        seed: Seed of the choice.
    """

    neighbours: int = 32
    distinct_demonstrations: int = 1
    choice_margin: float = 0.02
    stay_margin: float = 0.05
    frame_margin: float = 0.1
    reset_gap: int = 2 * NANOSECONDS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.distinct_demonstrations < 1:
            raise ConfigurationError(
                "retrieval: neighbours and distinct_demonstrations must be at least 1, "
                f"got {self.neighbours} and {self.distinct_demonstrations}"
            )
        for name in ("choice_margin", "stay_margin", "frame_margin"):
            if not 0.0 <= getattr(self, name) <= 2.0:
                raise ConfigurationError(
                    f"retrieval: {name} must be 0 to 2, got {getattr(self, name)}"
                )
        if self.reset_gap <= 0 or self.seed < 0:
            raise ConfigurationError(
                "retrieval: reset_gap must be positive and seed not negative, "
                f"got {self.reset_gap} ns and {self.seed}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RetrievalConfig:
        """Return the config that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is unknown or out of bounds.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigurationError(f"retrieval: {error}") from error


@dataclass(frozen=True, eq=False)
class Recall:
    """The outcome of one step.

    Attributes:
        nearest: The most similar frame of the whole table: what strangeness is measured by.
        chosen: The frame to follow.
        similarities: (k,) float64 of the k nearest rows, the best first.
        rows: (k,) int64 numbers of those rows of the table.
    """

    nearest: Neighbour
    chosen: Neighbour
    similarities: NDArray[np.float64]
    rows: NDArray[np.int64]


class Retrieval:
    """Chooses a demonstration frame for each observation of a stream.

    The outcome depends on nothing but the embeddings and stamps since the last reset, so that a
    replay gives the same choices. A stamp that goes back, or ahead by more than ``reset_gap``,
    resets.

    Args:
        table: The frames.
        index: Searches the table's embeddings.
        config: How a frame is chosen.

    Raises:
        ConfigurationError: The index holds another number of vectors than the table.
    """

    def __init__(self, table: Table, index: Index, config: RetrievalConfig | None = None) -> None:
        if len(index) != len(table):
            raise ConfigurationError(
                f"retrieval: the index must hold the table's {len(table)} frames, "
                f"it holds {len(index)}: rebuild it with 'alt index build'"
            )
        self.table = table
        self.index = index
        self.config = config or RetrievalConfig()
        self._current: Neighbour | None = None
        self._expected = 0.0  # frame of the present demonstration, fractions kept between calls
        self._stamp: int | None = None

    def reset(self) -> None:
        """Forget the present demonstration: a new episode begins."""
        self._current = None
        self._stamp = None

    def begins_episode(self, stamp: int) -> bool:
        """Return whether a stamp, ns, goes back or leaves a gap to the last one."""
        return self._stamp is not None and not 0 <= stamp - self._stamp <= self.config.reset_gap

    def recall(
        self,
        embedding: NDArray[np.float32],
        stamp: int,
        *,
        strange_below: float = -2.0,
        standing: bool = False,
    ) -> Recall:
        """Return the nearest frame, and the frame to follow.

        Args:
            embedding: (D,) float32 of unit length.
            stamp: Time of the observation, ns.
            strange_below: A nearest similarity below it says nothing about where the robot is: the
                present demonstration goes on in time, whatever resembles the observation more.
            standing: The robot does not follow what is recalled: no progress is expected.

        Raises:
            DataError: The embedding is not of the index's dimension.
        """
        if self.begins_episode(stamp):
            self.reset()
        similarities, rows = self.index.query(embedding, self.config.neighbours)
        nearest = self._neighbour(int(rows[0]), float(similarities[0]))
        familiar = nearest.similarity >= strange_below  # False for NaN
        chosen = self._stay(
            embedding, nearest.similarity, 0.0 if standing else self._elapsed(stamp), familiar
        )
        if chosen is None:
            chosen = self._choose(embedding, similarities, rows, stamp)
        self._current, self._stamp = chosen, stamp
        return Recall(nearest, chosen, similarities, rows)

    def _elapsed(self, stamp: int) -> float:
        """Return the time since the last observation, in frames."""
        return 0.0 if self._stamp is None else (stamp - self._stamp) / self.table.period

    def _neighbour(self, row: int, similarity: float) -> Neighbour:
        return Neighbour(
            int(self.table.demonstration[row]), int(self.table.frame[row]), similarity
        )

    def _stay(
        self, embedding: NDArray[np.float32], best: float, elapsed: float, familiar: bool
    ) -> Neighbour | None:
        """Return the frame of the present demonstration to follow, None if it will not do."""
        config = self.config
        if self._current is None or config.stay_margin <= 0.0:
            return None
        rows = self.table.rows(self._current.demonstration)
        similarities = (self.table.embeddings[rows] @ embedding).astype(np.float64)
        self._expected = min(self._expected + elapsed, len(similarities) - 1.0)
        frame = round(self._expected)
        if familiar:
            nearest = int(similarities.argmax())
            if similarities[nearest] < best - config.stay_margin:
                return None
            if similarities[frame] < similarities[nearest] - config.frame_margin:
                frame = nearest
                self._expected = float(nearest)
        return Neighbour(self._current.demonstration, frame, float(similarities[frame]))

    def _choose(
        self,
        embedding: NDArray[np.float32],
        similarities: NDArray[np.float64],
        rows: NDArray[np.int64],
        stamp: int,
    ) -> Neighbour:
        """Return the best frame of one of the nearest distinct demonstrations."""
        wanted = min(self.config.distinct_demonstrations, self.table.demonstrations)
        _, first = np.unique(self.table.demonstration[rows], return_index=True)
        if len(first) < wanted:  # the neighbours are of too few demonstrations: look at every row
            every = self.table.embeddings @ embedding
            rows = np.lexsort((np.arange(len(every)), -every))
            similarities = every[rows].astype(np.float64)
            _, first = np.unique(self.table.demonstration[rows], return_index=True)
        best = np.sort(first)[:wanted]  # rows come best first, so do their first appearances
        good = best[similarities[best] >= similarities[0] - self.config.choice_margin]
        pick = 0
        if len(good) > 1:
            # Seeded by the stamp: no hidden state, so a replay from any point chooses the same.
            generator = np.random.default_rng([self.config.seed, abs(stamp)])
            pick = int(generator.integers(len(good)))
        at = int(good[pick]) if len(good) else 0
        chosen = self._neighbour(int(rows[at]), float(similarities[at]))
        self._expected = float(chosen.frame)
        return chosen
