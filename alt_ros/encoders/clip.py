"""CLIP's image tower as the encoder's trunk.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"
(arXiv 2103.00020). Notation, as in OpenAI's released weights (``visual.*``):

- conv1: patches to tokens, without bias
- class_embedding, positional_embedding: learnt; added before ``ln_pre``
- transformer.resblocks: x + attn(ln_1(x)), then x + mlp(ln_2(x)); QuickGELU x * sigmoid(1.702 x)
- ln_post, proj: of the class token alone
"""

from __future__ import annotations

import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from alt_ros.encoders.vision_transformer import HIDDEN_RATIO, TransformerSize, fit_positions
from alt_ros.preprocessing import IMAGENET_MEAN, IMAGENET_STD

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
"""Of the RGB values that the released weights were trained on, in [0, 1]."""
PREFIX = "visual."


class QuickGelu(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape."""
        return values * torch.sigmoid(1.702 * values)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        hidden = HIDDEN_RATIO * width
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, hidden), gelu=QuickGelu(), c_proj=nn.Linear(hidden, width)
            )
        )
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.ln_1(tokens)
        tokens = tokens + self.attn(seen, seen, seen, need_weights=False)[0]
        return tokens + self.mlp(self.ln_2(tokens))


class ClipImageTower(nn.Module):
    """The transformer, with the names of OpenAI's parameters.

    Args:
        patch: Edge of a patch, pixels.
        grid: Rows and columns of patches.
        size: How large it is.
    """

    def __init__(self, patch: int, grid: tuple[int, int], size: TransformerSize) -> None:
        super().__init__()
        width, scale = size.width, size.width**-0.5
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(1 + grid[0] * grid[1], width))
        self.ln_pre = nn.LayerNorm(width)
        blocks = nn.Sequential(*(_Block(width, size.heads) for _ in range(size.layers)))
        self.transformer = nn.Sequential(OrderedDict(resblocks=blocks))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, size.projected))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, P) of images (N, 3, H, W), normalised as CLIP's."""
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (N, rows * columns, W)
        first = self.class_embedding.expand(images.shape[0], 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positional_embedding
        tokens = self.transformer(self.ln_pre(tokens))
        return self.ln_post(tokens[:, 0]) @ self.proj


class ClipTrunk(nn.Module):
    """The image tower, a linear layer behind it and the change of normalisation before it.

    Args:
        patch: Edge of a patch, pixels.
        grid: Rows and columns of patches.
        size: How large it is.
        features: Values that it gives.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, patch: int, grid: tuple[int, int], size: TransformerSize, features: int
    ) -> None:
        super().__init__()
        self.grid = grid
        self.visual = ClipImageTower(patch, grid, size)
        self.head = nn.Linear(size.projected, features)
        scale, shift = IMAGENET_STD / CLIP_STD, (IMAGENET_MEAN - CLIP_MEAN) / CLIP_STD
        for name, values in (("scale", scale), ("shift", shift)):
            self.register_buffer(name, torch.from_numpy(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, F) of images (N, 3, H, W), ImageNet-normalised."""
        return self.head(self.visual(images * self.scale + self.shift))

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Load an image tower's state dictionary.

        Raises:
            KeyError, RuntimeError: It is of something else.
        """
        positions = fit_positions(state["positional_embedding"], self.grid)
        self.visual.load_state_dict({**state, "positional_embedding": positions})


def read_clip_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dictionary of CLIP's image tower.

    Args:
        path: A state dictionary, of the tower or of all of CLIP, or the TorchScript file that
            OpenAI published.
    """
    if _is_torchscript(path):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*`torch\.jit\.")
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    tower = {n[len(PREFIX) :]: v for n, v in state.items() if n.startswith(PREFIX)}
    return tower or dict(state)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
