"""The store's frames at the network's size: raw for augmentation, clean for the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import DataError
from alt_ros.preprocessing import network_input, resize_image


class ImageReader:
    """Reads the images of a store at a network's input size.

    Args:
        store: The demonstrations.
        views: Names of the views, in the network's order.
        height, width: Size of the network's input, pixels.

    Raises:
        DataError: The store lacks a view.
    """

    def __init__(
        self, store: DemonstrationStore, views: Sequence[str], height: int, width: int
    ) -> None:
        missing = [view for view in views if view not in store.views]
        if missing:
            raise DataError(
                f"training needs the views {list(views)}, store '{store.path}' lacks "
                f"{missing}: it holds {list(store.views)}"
            )
        self._views = tuple(views)
        self._size = height, width
        self._images = {view: store.images(view) for view in views}

    def raw(self, rows: NDArray[np.int64]) -> Tensor:
        """Return images (B, V, 3, H, W) uint8."""
        images = np.stack(
            [
                [resize_image(self._images[v][row], *self._size) for v in self._views]
                for row in rows
            ]
        )
        return torch.from_numpy(images.transpose(0, 1, 4, 2, 3).copy())

    def clean(self, rows: NDArray[np.int64]) -> Tensor:
        """Return images (B, V, 3, H, W) float32.

        They pass through ``preprocessing.network_input``, as the robot's do.
        """
        inputs = [
            network_input(
                {view: self._images[view][row] for view in self._views}, self._views, *self._size
            )
            for row in rows
        ]
        return torch.from_numpy(np.stack(inputs))


class FrameReader:
    """Reads rows of a store as the ALT encoder takes them.

    Args:
        store: The demonstrations.
        spec: What the encoder takes.

    Raises:
        DataError: The store lacks a view, or its poses are of another number of arms.
    """

    def __init__(self, store: DemonstrationStore, spec: EncoderSpec) -> None:
        self._images = ImageReader(store, spec.views, spec.height, spec.width)
        if spec.use_pose and store.poses.shape[1] != spec.arms:
            raise DataError(
                f"encoder needs the poses of {spec.arms} arms, store '{store.path}' holds "
                f"{store.poses.shape[1]}"
            )
        self._spec = spec
        self._poses = store.poses

    def raw(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return images (B, V, 3, H, W) uint8 and poses (B, arms, 7) float32."""
        return self._images.raw(rows), self.poses(rows)

    def clean(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return images (B, V, 3, H, W) float32 and poses (B, arms, 7) float32."""
        return self._images.clean(rows), self.poses(rows)

    def poses(self, rows: NDArray[np.int64]) -> Tensor:
        """Return poses (B, arms, 7) float32; zeros where the encoder does not look at them."""
        if not self._spec.use_pose:
            return torch.zeros((len(rows), self._spec.arms, 7))
        return torch.from_numpy(self._poses[rows].astype(np.float32))
