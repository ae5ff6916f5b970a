"""The CNN of the Diffusion Policy: a one-dimensional U-Net over time, conditioned by FiLM.

Chi et al. 2023, "Diffusion Policy", section 3.1, after Janner et al. 2022; feature-wise linear
modulation (FiLM) is Perez et al. 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from alt_ros.errors import ConfigurationError

GROUPS = 8


class StepEmbedding(nn.Module):
    """The denoising step as a vector: sines and cosines (Vaswani et al. 2017).

    Args:
        size: Values of the vector, even.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, steps: Tensor) -> Tensor:
        """Return (B, size) for steps (B,)."""
        half = self.size // 2
        rates = torch.exp(
            torch.arange(half, device=steps.device) * (-math.log(10_000.0) / (half - 1))
        )
        angles = steps.float()[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class _Convolution(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
            nn.GroupNorm(GROUPS, outputs),
            nn.Mish(),
        )


class _Residual(nn.Module):
    """Two convolutions; between them the condition scales and shifts each channel (FiLM)."""

    def __init__(self, inputs: int, outputs: int, condition: int, kernel: int) -> None:
        super().__init__()
        self.first = _Convolution(inputs, outputs, kernel)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * outputs))
        self.second = _Convolution(outputs, outputs, kernel)
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (B, outputs, T) for (B, inputs, T) and (B, condition)."""
        scale, shift = self.film(condition)[..., None].chunk(2, dim=1)
        return self.second(scale * self.first(x) + shift) + self.shortcut(x)


class TemporalUnet(nn.Module):
    """Predicts the noise in a sequence of actions.

    Args:
        actions: A, columns of an action.
        condition: Values of the condition.
        channels: Of each level; the time axis is halved from one to the next.
        kernel: Of the convolutions, odd.
        step_embedding: Values of the step's embedding.

    Raises:
        ConfigurationError: A number of channels cannot be normalised in 8 groups.
    """

    def __init__(
        self,
        actions: int,
        condition: int,
        channels: Sequence[int] = (256, 512, 1024),
        kernel: int = 5,
        step_embedding: int = 128,
    ) -> None:
        super().__init__()
        if len(channels) < 2 or any(width % GROUPS for width in channels) or kernel % 2 == 0:
            raise ConfigurationError(
                f"temporal U-Net: two levels or more, channels that are multiples of {GROUPS} "
                f"and an odd kernel are needed, got {list(channels)} and kernel {kernel}"
            )
        self.shrink = 2 ** (len(channels) - 1)
        self.step = nn.Sequential(
            StepEmbedding(step_embedding),
            nn.Linear(step_embedding, 4 * step_embedding),
            nn.Mish(),
            nn.Linear(4 * step_embedding, step_embedding),
        )
        size = condition + step_embedding

        def pair(inputs: int, outputs: int) -> nn.ModuleList:
            blocks = (
                _Residual(inputs, outputs, size, kernel),
                _Residual(outputs, outputs, size, kernel),
            )
            return nn.ModuleList(blocks)

        widths = [actions, *channels]
        self.down = nn.ModuleList(
            pair(*neighbours) for neighbours in zip(widths, channels, strict=False)
        )
        self.halve = nn.ModuleList(nn.Conv1d(c, c, 3, 2, 1) for c in channels[:-1])
        self.middle = pair(channels[-1], channels[-1])
        # Each level on the way up is given the level's own output on the way down as well.
        outputs = channels[-2::-1]
        inputs = channels[:0:-1]
        self.up = nn.ModuleList(pair(2 * a, b) for a, b in zip(inputs, outputs, strict=True))
        self.lengthen = nn.ModuleList(nn.ConvTranspose1d(c, c, 4, 2, 1) for c in outputs)
        self.out = nn.Sequential(
            _Convolution(channels[0], channels[0], kernel), nn.Conv1d(channels[0], actions, 1)
        )

    def forward(self, noisy: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
        """Return the noise (B, T, A).

        Args:
            noisy: (B, T, A) noisy actions; T is a multiple of ``shrink``.
            steps: (B,) denoising steps.
            condition: (B, To, C) the observations.
        """
        given = torch.cat([condition.flatten(1), self.step(steps)], dim=-1)
        x = noisy.transpose(1, 2)  # (B, A, T)
        skipped: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            x = _through(blocks, x, given)
            skipped.append(x)
            if level < len(self.halve):
                x = self.halve[level](x)
        x = _through(self.middle, x, given)
        for blocks, lengthen in zip(self.up, self.lengthen, strict=True):
            x = lengthen(_through(blocks, torch.cat([x, skipped.pop()], dim=1), given))
        return self.out(x).transpose(1, 2)


def _through(blocks: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    for block in blocks.children():
        x = block(x, condition)
    return x
