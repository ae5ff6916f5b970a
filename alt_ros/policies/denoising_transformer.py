"""The transformer of the Diffusion Policy: actions attend to observations, causally.

Chi et al. 2023, "Diffusion Policy", section 3.1: a minGPT-like decoder whose tokens are the noisy
actions; step and observations are what it cross-attends to. An action sees those before it and
the observations up to its own time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alt_ros.policies.temporal_unet import StepEmbedding

_INITIAL_DEVIATION = 0.02


class DenoisingTransformer(nn.Module):
    """Predicts the noise in a sequence of actions.

    Args:
        actions: A, columns of an action.
        condition: Values of the condition for each observation.
        horizon: Tp, actions of a sequence.
        observations: To.
        layers: Of the decoder.
        heads: Of the attention.
        width: Values of a token.
        dropout: Of the attention.
    """

    def __init__(
        self,
        actions: int,
        condition: int,
        horizon: int,
        observations: int,
        *,
        layers: int = 8,
        heads: int = 4,
        width: int = 256,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(actions, width)
        self.step = StepEmbedding(width)
        self.observe = nn.Linear(condition, width)
        self.positions = nn.Parameter(torch.zeros(1, horizon, width))
        self.seen_positions = nn.Parameter(torch.zeros(1, 1 + observations, width))
        self.remember = nn.Sequential(
            nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width)
        )
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, actions))
        time = torch.arange(horizon)
        # True hides. The memory is the step, then the observations at times 0 to To - 1.
        hidden = torch.arange(-1, observations)[None] > time[:, None]
        self.register_buffer("later", time[None] > time[:, None], persistent=False)
        self.register_buffer("unseen", hidden, persistent=False)
        self.apply(_initialize)
        for positions in (self.positions, self.seen_positions):
            nn.init.normal_(positions, std=_INITIAL_DEVIATION)

    def forward(self, noisy: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
        """Return the noise (B, Tp, A) for noisy actions, steps (B,) and (B, To, C)."""
        memory = torch.cat([self.step(steps)[:, None], self.observe(condition)], dim=1)
        memory = self.remember(memory + self.seen_positions)
        tokens = self.enter(noisy) + self.positions
        decoded = self.decoder(tokens, memory, tgt_mask=self.later, memory_mask=self.unseen)
        return self.out(decoded)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=_INITIAL_DEVIATION)
        nn.init.zeros_(module.bias)
