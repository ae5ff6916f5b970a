"""The KD-tree baseline: recall the nearest frame by principal components and pose.

The simplest table of the ALT paper's comparison (He et al. 2026, arXiv 2505.05787): no training.
Images are projected onto the principal components of the demonstrations' images, the arm's pose
is appended, every part in units of its spread; Bentley's k-d tree (1975; scipy) finds the nearest
frame, and what followed it there is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import svds
from scipy.spatial import KDTree

from alt_ros.errors import BundleError, ConfigurationError
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.policy import PolicyOutput
from alt_ros.policies.spec import PolicySpec, check_observation, window_inputs
from alt_ros.policies.trained import TrainedPolicy
from alt_ros.types import ActionChunk, Neighbour, Observation

THUMBNAIL = 24
"""Height and width of what the components are taken of, pixels."""
COMPONENTS = 32
_SMALL = 500
"""A matrix with a side of at most this is decomposed as a whole."""

ARRAYS = ("mean", "components", "state_mean", "state_scale", "points", "actions", "ends")


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return small copies (N, V * 3 * 24 * 24), 0 to 1, of images (N, V, 3, H, W) uint8."""
    size = THUMBNAIL, THUMBNAIL
    small = [
        [cv2.resize(view.transpose(1, 2, 0), size, interpolation=cv2.INTER_AREA) for view in frame]
        for frame in images
    ]
    flat = np.asarray(small, np.float32).reshape(len(images), -1)
    return np.asarray(flat / 255.0, np.float32)


def fit_kdtree(
    spec: PolicySpec,
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    state: NDArray[np.float32],
    actions: NDArray[np.float64],
    ends: NDArray[np.int64],
    provenance: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PolicyCheckpoint:
    """Return the policy of demonstrations.

    Args:
        spec: What it takes and gives; ``settings``: ``components``, at most the frames.
        read: Rows (N,) to images (N, V, 3, H, W) uint8.
        state: (T, L), see ``low_dimensional``.
        actions: (T, A).
        ends: (E,) the row after each demonstration's last.
        provenance: What the checkpoint should say of the training.
        progress: Called with (frames read, frames in all).

    Raises:
        ConfigurationError: There are fewer frames than components.
    """
    count = int(spec.settings.get("components", COMPONENTS))
    frames = len(actions)
    if not 1 <= count <= frames:
        raise ConfigurationError(
            f"kdtree: components must be 1 to the {frames} frames that there are, got {count}"
        )
    parts: list[NDArray[np.float32]] = []
    for rows in np.array_split(np.arange(frames), max(1, frames // 256)):
        parts.append(thumbnails(read(rows)))
        progress(int(rows[-1]) + 1, frames)
    pixels = np.concatenate(parts)
    mean = pixels.mean(axis=0)
    components = _principal_components(pixels - mean, count)
    scale = np.maximum(state.std(axis=0), 1e-3).astype(np.float32)
    arrays: dict[str, NDArray[Any]] = {
        "mean": mean,
        "components": components,
        "state_mean": state.mean(axis=0).astype(np.float32),
        "state_scale": scale,
        "actions": np.asarray(actions, np.float64),
        "ends": np.asarray(ends, np.int64),
    }
    # Images together weigh as much as the state, however many columns that has.
    projected = (pixels - mean) @ components
    spread = float(np.sqrt((projected**2).sum(axis=1).mean())) or 1.0
    arrays["components"] = components / np.float32(spread)
    arrays["points"] = _features(arrays, pixels, state)
    return PolicyCheckpoint(spec, arrays, provenance)


def _principal_components(centred: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return the directions (D, count) of the largest variance of (T, D), the largest first."""
    if min(centred.shape) <= _SMALL or 2 * count > min(centred.shape):
        directions = np.linalg.svd(centred, full_matrices=False)[2][:count].T
    else:
        start = np.ones(min(centred.shape)) / np.sqrt(min(centred.shape))
        _, _, found = cast(Any, svds)(centred, count, v0=start)
        directions = found[::-1].T
    return np.ascontiguousarray(directions, np.float32)


def _features(
    arrays: Mapping[str, NDArray[Any]], pixels: NDArray[np.float32], state: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return what the tree is asked (N, components + L)."""
    projected = (pixels - arrays["mean"]) @ arrays["components"]
    columns = max(state.shape[1], 1)
    scaled = (state - arrays["state_mean"]) / arrays["state_scale"] / np.sqrt(columns)
    return np.concatenate([projected, scaled], axis=1).astype(np.float32)


class KdTreePolicy(TrainedPolicy):
    """Recalls the nearest frame.

    Args:
        checkpoint: What ``fit_kdtree`` gave.

    Raises:
        BundleError: An array is missing.
    """

    def __init__(self, checkpoint: PolicyCheckpoint) -> None:
        missing = [name for name in ARRAYS if name not in checkpoint.arrays]
        if missing:
            raise BundleError(f"policy 'kdtree': its weights lack {missing}: train it again")
        super().__init__(checkpoint.spec)
        self._arrays = checkpoint.arrays
        self._tree = KDTree(checkpoint.arrays["points"])

    def reset(self) -> None:
        """See ``Policy.reset``; it remembers nothing."""

    def observe(self, observation: Observation) -> None:
        """See ``Policy.observe``."""
        check_observation(self.spec, observation)

    def act(self, observation: Observation) -> PolicyOutput:
        """See ``Policy.act``."""
        self.observe(observation)
        images, state = window_inputs(self.spec, [observation])
        asked = _features(self._arrays, thumbnails(images), state)[0]
        _, row = self._tree.query(asked)
        ends = self._arrays["ends"]
        demonstration = int(np.searchsorted(ends, row, side="right"))
        start = int(ends[demonstration - 1]) if demonstration else 0
        actions = self._arrays["actions"][row : min(row + self.horizon, int(ends[demonstration]))]
        source = Neighbour(
            demonstration, int(row) - start, _cosine(asked, self._arrays["points"][row])
        )
        chunk = ActionChunk(
            observation.stamp, self.period, actions.copy(), self.layout, source=source
        )
        return PolicyOutput(chunk, None)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.clip(float(a @ b) / lengths, -1.0, 1.0)) if lengths else 1.0
