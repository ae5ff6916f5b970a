"""The multi-view encoder: images (and poses) to a unit vector.

As in the code released with the ALT paper (He et al. 2026, arXiv 2505.05787): a ResNet-18, shared
by the cameras, with a linear layer to ``view_size`` features per view; the views concatenated;
Linear 256, ReLU, Linear ``embedding_size``, L2 norm. The pose branch is an MLP 7-64-32. The
paper's ablation puts transformers in the ResNet's place: see ``EncoderSpec.backbone``.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.encoders.clip import ClipTrunk, read_clip_weights
from alt_ros.encoders.spec import PATCHES, POSE_FEATURES, EncoderSpec
from alt_ros.encoders.torchvision_import import import_torchvision
from alt_ros.encoders.vision_transformer import BASE, TINY, VisionTransformerTrunk
from alt_ros.errors import ConfigurationError
from alt_ros.types import POSE_SIZE

HIDDEN_SIZE = 256
POSE_HIDDEN_SIZE = 64


class MultiViewEncoder(nn.Module):
    """Embeds one observation of several views.

    Args:
        spec: Inputs, outputs and shape.
        weights: File of a state dictionary to start the trunk from: of torchvision's model of the
            backbone's name, or of CLIP's image tower (see ``read_clip_weights``). None starts from
            random weights.

    Raises:
        ConfigurationError: The weights file is missing or does not fit the trunk.
    """

    def __init__(self, spec: EncoderSpec, weights: Path | None = None) -> None:
        super().__init__()
        self.spec = spec
        trunks = 1 if spec.shared_trunk else len(spec.views)
        self.trunks = nn.ModuleList(_trunk(spec, weights) for _ in range(trunks))
        fused = len(spec.views) * spec.view_size
        if spec.use_pose:
            self.pose = nn.Sequential(
                nn.Linear(POSE_SIZE, POSE_HIDDEN_SIZE),
                nn.ReLU(),
                nn.Linear(POSE_HIDDEN_SIZE, POSE_FEATURES),
            )
            fused += spec.arms * POSE_FEATURES
        # Batches train a third faster in channels_last, a single observation runs slower.
        self.channels_last = True
        self.head = nn.Sequential(
            nn.Linear(fused, HIDDEN_SIZE), nn.ReLU(), nn.Linear(HIDDEN_SIZE, spec.embedding_size)
        )

    def forward(self, images: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding and the embeddings of the single views.

        Args:
            images: (B, V, 3, H, W) float, ImageNet-normalised.
            poses: (B, arms, 7) float, metres and quaternion x, y, z, w; read by the
                pose branch only.

        Returns:
            (B, D) float32 and (B, V, F) float32, both of unit length along the last axis.
        """
        memory = torch.channels_last if self.channels_last else torch.contiguous_format
        if self.spec.shared_trunk:
            pixels = images.flatten(0, 1).contiguous(memory_format=memory)  # (B * V, 3, H, W)
            features = self.trunks[0](pixels)
            features = features.reshape(-1, len(self.spec.views), self.spec.view_size)
        else:
            views = [images[:, i].contiguous(memory_format=memory) for i in range(images.shape[1])]
            features = torch.stack([t(v) for t, v in zip(self.trunks, views, strict=True)], dim=1)
        fused = features.flatten(1)  # (B, V * F)
        if self.spec.use_pose:
            fused = torch.cat([fused, self.pose(poses).flatten(1)], dim=1)
        # Norms are taken in single precision, also where the network runs in half.
        embedding = functional.normalize(self.head(fused).float(), dim=-1)
        return embedding, functional.normalize(features.float(), dim=-1)


def _trunk(spec: EncoderSpec, weights: Path | None) -> nn.Module:
    trunk: Any
    if spec.backbone in PATCHES:
        patch = PATCHES[spec.backbone]
        grid = spec.height // patch, spec.width // patch
        kind = ClipTrunk if spec.backbone.startswith("clip") else VisionTransformerTrunk
        size = TINY if spec.backbone.endswith("tiny") else BASE
        trunk = kind(patch, grid, size, spec.view_size)
        if weights is not None:
            _start(trunk, spec.backbone, weights)
    else:
        trunk = import_torchvision().models.resnet18(weights=None)
        if weights is not None:
            _start(trunk, spec.backbone, weights)
        trunk.fc = nn.Linear(trunk.fc.in_features, spec.view_size)
    return trunk.to(memory_format=torch.channels_last)


def _start(trunk: nn.Module, backbone: str, weights: Path) -> None:
    """Load the weights of a file into a trunk."""
    if not weights.is_file():
        raise ConfigurationError(f"encoder weights '{weights}' must be a file, none is there")
    try:
        if isinstance(trunk, ClipTrunk):
            trunk.start_from(read_clip_weights(weights))
            return
        state = torch.load(weights, map_location="cpu", weights_only=True)
        if isinstance(trunk, VisionTransformerTrunk):
            trunk.start_from(state)
        else:
            trunk.load_state_dict(state)
    except Exception as error:
        reason = shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
        origin = "OpenAI's" if isinstance(trunk, ClipTrunk) else "torchvision's"
        raise ConfigurationError(
            f"encoder weights '{weights}' must be a state dictionary for {backbone} with {origin} "
            f"names, got: {reason}"
        ) from error
