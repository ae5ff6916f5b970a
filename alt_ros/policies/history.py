"""The last observations of an episode, which a policy with a history looks at."""

from __future__ import annotations

from collections import deque

from alt_ros.errors import ConfigurationError
from alt_ros.types import NANOSECONDS, Observation

RESET_GAP = 2 * NANOSECONDS
"""A stamp this much after the last one, or before it, begins a new episode, ns."""


class History:
    """Keeps the last To observations; a gap in the stamps empties it.

    Args:
        horizon: To.

    Raises:
        ConfigurationError: To is below 1.
    """

    def __init__(self, horizon: int) -> None:
        if horizon < 1:
            raise ConfigurationError(f"history: To must be at least 1, got {horizon}")
        self._kept: deque[Observation] = deque(maxlen=horizon)
        self._horizon = horizon

    def clear(self) -> None:
        """Begin a new episode."""
        self._kept.clear()

    def begins_episode(self, stamp: int) -> bool:
        """Return whether an observation of this stamp (ns) belongs to a new episode."""
        if not self._kept:
            return True
        return not 0 <= stamp - self._kept[-1].stamp <= RESET_GAP

    def add(self, observation: Observation) -> None:
        """Take the newest observation."""
        if self.begins_episode(observation.stamp):
            self.clear()
        self._kept.append(observation)

    def window(self) -> list[Observation]:
        """Return the last To, the oldest first; the first is repeated while there are fewer."""
        kept = list(self._kept)
        return [kept[0]] * (self._horizon - len(kept)) + kept
