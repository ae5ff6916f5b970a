"""The task head: an embedding in which near means near in what to do next.

A contrastive loss alone makes an embedding that tells frames apart; that frames of two
demonstrations ask for the same motion, it does not know. A small head that predicts the motion to
come from the embedding, trained together with it, teaches that (Li et al. 2025, "Geometry-aware
Policy Imitation", found the same for retrieval: invariance alone 67, with a task-related head
87 on Push-T). The head is thrown away after the training: the table answers, not the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.errors import ConfigurationError
from alt_ros.geometry import split_arm_action
from alt_ros.types import ARM_ACTION_SIZE

HIDDEN = 128
_SMALLEST_DEVIATION = 1e-6


def task_targets(store: DemonstrationStore, ahead: Sequence[int]) -> NDArray[np.float32]:
    """Return what each frame's demonstration does next, every column of zero mean and unit spread.

    Args:
        store: The demonstrations.
        ahead: How many frames ahead one looks; past the end it is the last action.

    Returns:
        (T, len(ahead) * C) float32; per arm the motion from the measured pose to the commanded one
        in the hand's own frame (3 metres, 3 radians) and the opening (1), then any further action
        columns relative to the present action.

    Raises:
        ConfigurationError: No frame or a frame before the present one is asked for.
    """
    if not ahead or min(ahead) < 1:
        raise ConfigurationError(f"task head: ahead must be 1 frame or more, got {list(ahead)}")
    ends = np.asarray(store.episode_ends)
    last = np.repeat(ends - 1, np.diff(ends, prepend=0))
    rows = np.arange(store.frames)
    targets = np.concatenate(
        [_motion(store, np.minimum(rows + count, last)) for count in ahead], axis=1
    )
    deviation = np.maximum(targets.std(axis=0), _SMALLEST_DEVIATION)
    return ((targets - targets.mean(axis=0)) / deviation).astype(np.float32)


def _motion(store: DemonstrationStore, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the motion (T, C) from every frame to the action of the frame of ``rows``."""
    arms = store.layout.arms
    columns: list[NDArray[np.float64]] = []
    goals, openings = split_arm_action(store.actions, arms)
    for arm in range(arms):
        hand = Rotation.from_quat(store.poses[:, arm, 3:]).inv()
        goal = goals[rows, arm]
        columns += [
            hand.apply(goal[:, :3] - store.poses[:, arm, :3]),
            (hand * Rotation.from_quat(goal[:, 3:])).as_rotvec(),
            openings[rows, arm, None],
        ]
    others = store.actions[:, arms * ARM_ACTION_SIZE :]
    columns.append(others[rows] - others)
    return np.concatenate(columns, axis=1)


class TaskHead(nn.Module):
    """Predicts ``task_targets`` from embeddings of unit length.

    Args:
        embedding_size: D.
        outputs: Columns of the targets.
    """

    def __init__(self, embedding_size: int, outputs: int) -> None:
        super().__init__()
        self._scale = embedding_size**0.5  # so that the layer's inputs are of order one
        self.layers = nn.Sequential(
            nn.Linear(embedding_size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return (B, outputs) for (B, D)."""
        return self.layers(self._scale * embeddings)
