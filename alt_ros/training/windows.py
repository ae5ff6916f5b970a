"""Windows of demonstrations: To observations and the Tp actions that belong to them.

A window never leaves its demonstration: at its start the first frame is repeated, at its end the
last action.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.policies.network import Batch
from alt_ros.policies.spec import PolicySpec, low_dimensional
from alt_ros.training.frames import ImageReader


class Windows:
    """Reads windows of a store, and shuffles them anew every epoch.

    Args:
        store: The demonstrations.
        spec: What the policy takes and gives.
        left_out: Numbers of demonstrations that training does not see.
        seed: Of the shuffling.

    Raises:
        ConfigurationError: A demonstration that is left out does not exist, or none is left.
        DataError: The store does not fit the spec.
    """

    def __init__(
        self,
        store: DemonstrationStore,
        spec: PolicySpec,
        left_out: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        if store.layout != spec.layout or store.poses.shape[1] != spec.arms:
            raise DataError(
                f"policy '{spec.policy}' moves {spec.arms} arms and {spec.extra} other axes, "
                f"store '{store.path}' has actions of {store.layout}, {store.poses.shape[1]} arms"
            )
        wanted = max(spec.state_columns, default=-1) + 1
        if store.state.shape[1] < wanted:
            raise DataError(
                f"policy '{spec.policy}' looks at the state's columns {list(spec.state_columns)}, "
                f"store '{store.path}' has {store.state.shape[1]} columns"
            )
        count = len(store.episode_ends)
        if any(not 0 <= n < count for n in left_out) or len(set(left_out)) >= count:
            raise ConfigurationError(
                f"training: held-out demonstrations must be among 0 to {count - 1} and leave some "
                f"to train on, got {list(left_out)}"
            )
        self.spec = spec
        self.images = ImageReader(store, spec.views, spec.height, spec.width)
        self.state = low_dimensional(spec, store.poses, store.grippers, store.state)  # (T, L)
        self.actions = np.asarray(store.actions)  # (T, A)
        lengths = np.diff(store.episode_ends, prepend=0)
        self.demonstration = np.repeat(np.arange(count), lengths)
        self._first = np.repeat(store.episode_ends - lengths, lengths)
        self._last = np.repeat(store.episode_ends - 1, lengths)
        held_out = np.isin(self.demonstration, list(left_out))
        self.rows = np.flatnonzero(~held_out)
        self.left_out = np.flatnonzero(held_out)
        self._seed = seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, self.rows)

    @property
    def digest(self) -> str:
        """SHA-256 over the actions, states and demonstrations' lengths."""
        digest = hashlib.sha256(self.demonstration.tobytes())
        for values in (self.actions, self.state):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def draw(self, step: int, size: int) -> NDArray[np.int64]:
        """Return the rows (size,) of a step; every row comes once an epoch."""
        parts: list[NDArray[np.int64]] = []
        place, end = step * size, (step + 1) * size
        while place < end:
            epoch, first = divmod(place, len(self.rows))
            count = min(end - place, len(self.rows) - first)
            parts.append(self._permuted(epoch)[first : first + count])
            place += count
        return np.concatenate(parts)

    def _permuted(self, epoch: int) -> NDArray[np.int64]:
        if self._order[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._order = epoch, generator.permutation(self.rows)
        return self._order[1]

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> Batch:
        """Return the windows whose newest observations are of ``rows`` (B,)."""
        spec = self.spec
        before = np.arange(1 - spec.observation_horizon, 1)
        seen = np.maximum(rows[:, None] + before, self._first[rows, None])  # (B, To)
        ahead = np.arange(spec.prediction_horizon) + 1 - spec.observation_horizon
        done = np.clip(rows[:, None] + ahead, self._first[rows, None], self._last[rows, None])
        images = self.images.raw(seen.ravel()).unflatten(0, seen.shape)
        return Batch(
            images=images.to(device),
            state=torch.from_numpy(self.state[seen]).to(device),
            actions=torch.from_numpy(self.actions[done].astype(np.float32)).to(device),
        )
