"""Whether the scene is strange: similarities against their thresholds, with hysteresis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.types import Neighbour, OodDecision


@dataclass(frozen=True)
class MonitorConfig:
    """When the flag goes up and down.

    Attributes:
        threshold: Gamma, cosine similarity in [-1, 1]; a nearest frame less similar is strange.
            The paper's best row has 0.75; calibrate it for one's own encoder.
        raise_after: Strange observations in a row that put the flag up.
        clear_after: Familiar observations in a row that take it down.
        view_thresholds: Per view, the similarity to the most similar of the recalled frames' views
            below which it is strange by itself; empty looks at the whole embedding alone.
    """

    threshold: float = 0.75
    raise_after: int = 3
    clear_after: int = 10
    view_thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "view_thresholds", tuple(self.view_thresholds))
        for value in (self.threshold, *self.view_thresholds):
            if not -1.0 <= value <= 1.0:
                raise ConfigurationError(
                    f"monitor: a threshold is a cosine similarity, -1 to 1, got {value}"
                )
        if self.raise_after < 1 or self.clear_after < 1:
            raise ConfigurationError(
                "monitor: raise_after and clear_after must be at least 1, "
                f"got {self.raise_after} and {self.clear_after}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "view_thresholds": list(self.view_thresholds)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MonitorConfig:
        """Return the config that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is unknown or out of bounds.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigurationError(f"monitor: {error}") from error


class OodMonitor:
    """Flags observations that are out of the demonstrations' distribution.

    Args:
        views: Names of the encoder's views.
        config: When the flag goes up and down.

    Raises:
        ConfigurationError: There are view thresholds, but not one per view.
    """

    def __init__(self, views: Sequence[str], config: MonitorConfig | None = None) -> None:
        self.views = tuple(views)
        self.config = config or MonitorConfig()
        if self.config.view_thresholds and len(self.config.view_thresholds) != len(self.views):
            raise ConfigurationError(
                f"monitor: view_thresholds must be one per view of {list(self.views)}, "
                f"got {list(self.config.view_thresholds)}"
            )
        self._flag = False
        self._against = 0  # observations in a row that contradict the flag

    @property
    def flag(self) -> bool:
        """Whether the flag is up."""
        return self._flag

    def reset(self) -> None:
        """Take the flag down: a new episode begins."""
        self._flag = False
        self._against = 0

    def decide(
        self,
        nearest: Neighbour,
        view_values: NDArray[np.float32],
        recalled_view_values: NDArray[np.float32],
    ) -> OodDecision:
        """Return the decision for one observation.

        Args:
            nearest: The most similar demonstration frame; a similarity that is not a number counts
                as strange.
            view_values: (V, F) view embeddings of the observation.
            recalled_view_values: (k, V, F) view embeddings of the nearest frames.

        Raises:
            DataError: The view embeddings are not one per view.
        """
        shapes = view_values.shape, recalled_view_values.shape[1:]
        if shapes[0] != shapes[1] or len(view_values) not in (0, len(self.views)):
            raise DataError(
                f"monitor: view embeddings must be ({len(self.views)}, F) as in the table, "
                f"got {shapes[0]}, the table's are {shapes[1]}"
            )
        similarities = np.zeros(0)
        if len(view_values):
            similarities = (recalled_view_values * view_values).sum(axis=2).max(axis=0)
        below = similarities - np.asarray(self.config.view_thresholds or 0.0)
        familiar = nearest.similarity >= self.config.threshold  # False for NaN, as the next
        if self.config.view_thresholds and len(similarities):
            familiar &= bool((below >= 0.0).all())
        self._against = self._against + 1 if familiar == self._flag else 0
        if self._against >= (self.config.clear_after if self._flag else self.config.raise_after):
            self._flag = not self._flag
            self._against = 0
        view = ""
        if self._flag and len(similarities):
            view = self.views[int(np.nanargmin(np.nan_to_num(below, nan=-np.inf)))]
        return OodDecision(
            flag=self._flag,
            score=nearest.similarity,
            threshold=self.config.threshold,
            neighbour=nearest,
            view=view,
        )
