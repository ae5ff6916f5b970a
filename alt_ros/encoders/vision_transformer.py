"""A vision transformer as the encoder's trunk.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words" (arXiv 2010.11929), the architecture as
torchvision has it. Inputs need not be square; positions that were learnt on another grid of
patches are interpolated to the input's, as in the paper (section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.encoders.torchvision_import import import_torchvision


@dataclass(frozen=True)
class TransformerSize:
    """How large a transformer is.

    Attributes:
        width: Features of a token.
        layers: Blocks.
        heads: Attention heads of a block.
        projected: Features after CLIP's projection.
    """

    width: int
    layers: int
    heads: int
    projected: int


BASE = TransformerSize(width=768, layers=12, heads=12, projected=512)
"""As published: 86 million parameters."""
TINY = TransformerSize(width=192, layers=4, heads=4, projected=128)
"""A third of DeiT-Ti's depth (Touvron et al. 2021), 2 million parameters. torch's fused attention
needs an even number of heads."""
HIDDEN_RATIO = 4
"""Width of a block's hidden layer, of the token's."""


class VisionTransformerTrunk(nn.Module):
    """torchvision's VisionTransformer with a linear layer in the classifier's place.

    Args:
        patch: Edge of a patch, pixels.
        grid: Rows and columns of patches.
        size: How large it is.
        features: Values that it gives.
    """

    def __init__(
        self, patch: int, grid: tuple[int, int], size: TransformerSize, features: int
    ) -> None:
        super().__init__()
        self.grid = grid
        self.network = import_torchvision().models.VisionTransformer(
            image_size=patch,  # square ones only; the positions are made below
            patch_size=patch,
            num_layers=size.layers,
            num_heads=size.heads,
            hidden_dim=size.width,
            mlp_dim=HIDDEN_RATIO * size.width,
        )
        positions = torch.empty(1, 1 + grid[0] * grid[1], size.width)
        self.network.encoder.pos_embedding = nn.Parameter(nn.init.normal_(positions, std=0.02))
        self.network.heads = nn.Linear(size.width, features)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, F) of images (N, 3, H, W), ImageNet-normalised."""
        network = self.network
        patches = network.conv_proj(images).flatten(2).transpose(1, 2)  # (N, rows * columns, W)
        tokens = torch.cat([network.class_token.expand(images.shape[0], -1, -1), patches], dim=1)
        return network.heads(network.encoder(tokens)[:, 0])

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Load a state dictionary of torchvision's; the classifier in it is left out.

        Raises:
            KeyError, RuntimeError: It is of something else.
        """
        own = {f"heads.{name}": value for name, value in self.network.heads.state_dict().items()}
        kept = {name: v for name, v in state.items() if not name.startswith("heads.")}
        positions = fit_positions(kept["encoder.pos_embedding"][0], self.grid)[None]
        self.network.load_state_dict({**kept, **own, "encoder.pos_embedding": positions})


def fit_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the positions of another grid of patches.

    Args:
        positions: (1 + n * n, W) of the class token and of a square grid, row by row. Those of a
            grid that is not square are returned as they are.
        grid: Rows and columns wanted.

    Returns:
        (1 + rows * columns, W), bicubic.
    """
    side = math.isqrt(len(positions) - 1)
    if side * side != len(positions) - 1 or (side, side) == grid:
        return positions
    square = positions[1:].float().T.reshape(1, -1, side, side)
    fitted = functional.interpolate(square, grid, mode="bicubic", antialias=True)
    return torch.cat([positions[:1].float(), fitted[0].flatten(1).T])
