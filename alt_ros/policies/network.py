"""What the trained networks of the policies share: their face, and the range of their values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alt_ros.policies.spec import PolicySpec

SMALLEST_RANGE = 1e-3
"""A column that varies by less is not blown up to [-1, 1]: a millimetre, a milliradian."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows of demonstrations, on the network's device.

    Attributes:
        images: (B, To, V, 3, H, W) uint8.
        state: (B, To, L) float32, see ``spec.low_dimensional``.
        actions: (B, Tp, A) float32; the first belongs to the oldest observation.
    """

    images: Tensor
    state: Tensor
    actions: Tensor


class MinMax(nn.Module):
    """Columns to [-1, 1] by their smallest and largest demonstrated value, and back.

    Chi et al. 2023, section 4: a diffusion sampler clips to [-1, 1], so the range must hold all.

    Args:
        columns: Number of columns.
    """

    centre: Tensor
    extent: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(columns))
        self.register_buffer("extent", torch.ones(columns))

    def fit(self, values: NDArray[np.floating]) -> None:
        """Take the range of values (T, columns)."""
        low, high = values.min(axis=0), values.max(axis=0)
        half = np.maximum(high - low, SMALLEST_RANGE) / 2.0
        self.centre.copy_(torch.from_numpy(np.asarray((low + high) / 2.0, np.float32)))
        self.extent.copy_(torch.from_numpy(np.asarray(half, np.float32)))

    def forward(self, values: Tensor) -> Tensor:
        """Return values (..., columns) in [-1, 1]."""
        return (values - self.centre) / self.extent

    def back(self, values: Tensor) -> Tensor:
        """Return values (..., columns) in their own units."""
        return values * self.extent + self.centre


class PolicyNetwork(nn.Module, ABC):
    """Predicts actions from a window of observations; knows how it is trained.

    Args:
        spec: What it takes and gives.
    """

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        self.spec = spec
        self.actions = MinMax(spec.layout.size)
        self.state = MinMax(spec.state_size)

    def fit_ranges(self, actions: NDArray[np.float64], state: NDArray[np.float32]) -> None:
        """Take the ranges of the demonstrated actions (T, A) and states (T, L)."""
        self.actions.fit(actions)
        self.state.fit(state)

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the scalar loss of a batch; draws from torch's global generator."""

    @abstractmethod
    def predict(self, images: Tensor, state: Tensor, generator: torch.Generator) -> Tensor:
        """Return the actions from the newest observation on, in their own units.

        Args:
            images: (B, To, V, 3, H, W) uint8.
            state: (B, To, L) float32.
            generator: Source of randomness, on the CPU.

        Returns:
            (B, Tp - To + 1, A) float32.
        """


class Conditioning(nn.Module):
    """A window of observations as one vector, or as one for each observation.

    Args:
        spec: What is observed.
        encoder: Images (N, V, 3, H, W) uint8 to features (N, F).
        features: F.
    """

    def __init__(self, spec: PolicySpec, encoder: nn.Module, features: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.size = features + spec.state_size

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Return (B, To, size) for images (B, To, V, 3, H, W) and normalised state (B, To, L)."""
        features = self.encoder(images.flatten(0, 1))
        return torch.cat([features.unflatten(0, images.shape[:2]), state], dim=-1)
