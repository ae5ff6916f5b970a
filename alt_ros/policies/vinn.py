"""VINN: the average of what the nearest demonstration frames did, weighted by a softmin.

Pari, Shafiullah, Arunachalam, Pinto 2021, "The Surprising Effectiveness of Representation
Learning for Visual Imitation". Notation:

- y = f(o): representation, learned without actions by BYOL (Grill et al. 2020) on the frames
- (y_i, a_i), i = 1..k: the k nearest demonstration frames by Euclidean distance d_i = |y - y_i|
- a = sum_i exp(-d_i) a_i / sum_i exp(-d_i)

1. BYOL: two augmented copies of a frame; the online network (trunk, projector, predictor) predicts
   what a slow average of itself (trunk, projector) makes of the other copy.
2. After training every frame is embedded once, without augmentation.

Other than published: here a_i are the Tp actions that followed, averaged instant by instant, and
distances are in units of the median distance of a frame to its nearest neighbour in another
demonstration, so that a softmin means the same whatever the scale of the representation.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.encoders.augmentation import Augmentation
from alt_ros.encoders.visuomotor import Trunk, normalized_crop
from alt_ros.errors import ConfigurationError
from alt_ros.policies.network import Batch, PolicyNetwork
from alt_ros.policies.spec import PolicySpec

NEIGHBOURS = 16
MOMENTUM = 0.99
TRUNKS: dict[str, dict[str, Any]] = {
    "small": {"width": 16, "pool": False},
    "paper": {"width": 64, "pool": True},
    "large": {"width": 64, "pool": True},
}
HIDDEN = 256
_ROWS_AT_ONCE = 512


class _Representation(nn.Module):
    """A trunk for each camera, its features averaged over the image."""

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(Trunk(**TRUNKS[spec.size]) for _ in spec.views)
        self.size = len(spec.views) * 8 * TRUNKS[spec.size]["width"]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (N, size) for normalised images (N, V, 3, H, W)."""
        features = [
            trunk(pixels[:, view].contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))
            for view, trunk in enumerate(self.trunks)
        ]
        return torch.cat(features, dim=1)


def _projector(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN)
    )


class VinnNetwork(PolicyNetwork):
    """BYOL's two networks, and after training the table of embedded frames.

    Args:
        spec: What it takes and gives; To must be 1. ``settings``: ``frames``, the size of the
            table; ``neighbours``, k.

    Raises:
        ConfigurationError: To is not 1, or the table or k is empty.
    """

    embeddings: Tensor
    table: Tensor
    last: Tensor
    scale: Tensor

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__(spec)
        frames = int(spec.settings.get("frames", 0))
        self.neighbours = int(spec.settings.get("neighbours", NEIGHBOURS))
        if min(frames, self.neighbours) < 1 or spec.observation_horizon != 1:
            raise ConfigurationError(
                "vinn: frames of the table and neighbours must be at least 1 and To 1, got "
                f"{frames}, {self.neighbours} and {spec.observation_horizon}"
            )
        self.online = _Representation(spec)
        self.project = _projector(self.online.size)
        self.guess = _projector(HIDDEN)
        self.slow = nn.ModuleList([copy.deepcopy(self.online), copy.deepcopy(self.project)])
        self.slow.requires_grad_(False)
        self.register_buffer("embeddings", torch.zeros(frames, self.online.size))
        self.register_buffer("table", torch.zeros(frames, spec.layout.size))
        self.register_buffer("last", torch.zeros(frames, dtype=torch.int64))
        self.register_buffer("scale", torch.ones(()))
        self._augmentation = Augmentation(spec.height, spec.width)

    def loss(self, batch: Batch) -> Tensor:
        """See ``PolicyNetwork.loss``: BYOL, eq. 2, both ways round."""
        if len(batch.images) < 2:
            raise ConfigurationError("vinn: batch_size must be at least 2, got 1: BYOL needs them")
        if self.training:
            self._follow()
        frames = batch.images[:, -1].cpu()
        copies = [self._augmentation.images(frames).to(batch.images.device) for _ in range(2)]
        guesses = [self.guess(self.project(self.online(pixels))) for pixels in copies]
        with torch.no_grad():
            targets = [self.slow[1](self.slow[0](pixels)) for pixels in copies]
        return sum(
            (
                1.0 - functional.cosine_similarity(guess, target, dim=-1).mean()
                for guess, target in zip(guesses, targets[::-1], strict=True)
            ),
            start=frames.new_zeros((), dtype=torch.float32, device=batch.images.device),
        )

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the slow networks a little towards the online ones."""
        for slow, fast in zip(self.slow, (self.online, self.project), strict=True):
            for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                old.lerp_(new, 1.0 - MOMENTUM)

    def _embed(self, images: Tensor) -> Tensor:
        """Return representations (N, size) of images (N, V, 3, H, W) uint8."""
        pixels = normalized_crop(images.flatten(0, 1), 1.0, random=False)
        return self.online(pixels.unflatten(0, images.shape[:2]))

    @torch.no_grad()
    def fill(self, images: Tensor, rows: Tensor) -> None:
        """Embed some frames of the table.

        Args:
            images: (N, V, 3, H, W) uint8.
            rows: (N,) their rows.
        """
        self.embeddings[rows] = self._embed(images)

    @torch.no_grad()
    def finish(self, actions: Tensor, demonstration: Tensor) -> None:
        """Take the table's actions once all of its frames are embedded.

        Args:
            actions: (T, A), in their own units.
            demonstration: (T,) which demonstration each frame is of, ascending.
        """
        self.table.copy_(actions)
        demonstration = demonstration.to(self.embeddings.device)
        ends = torch.searchsorted(demonstration, demonstration, right=True)
        self.last.copy_(ends - 1)
        nearest = [
            torch.cdist(embeddings, self.embeddings)
            .masked_fill(of[:, None] == demonstration[None], torch.inf)
            .amin(dim=1)
            for embeddings, of in zip(
                self.embeddings.split(_ROWS_AT_ONCE),
                demonstration.split(_ROWS_AT_ONCE),
                strict=True,
            )
        ]
        distances = torch.cat(nearest)
        known = distances[distances.isfinite()]
        if len(known):
            self.scale.copy_(known.median().clamp(min=1e-6))

    def predict(self, images: Tensor, state: Tensor, generator: torch.Generator) -> Tensor:
        """See ``PolicyNetwork.predict``; nothing is drawn."""
        del state, generator
        distances = torch.cdist(self._embed(images[:, -1]), self.embeddings) / self.scale
        count = min(self.neighbours, len(self.embeddings))
        near, rows = distances.topk(count, largest=False)  # (B, k)
        weights = (-near).softmax(dim=1)
        ahead = rows[..., None] + torch.arange(self.spec.chunk_size, device=rows.device)
        chunks = self.table[torch.minimum(ahead, self.last[rows][..., None])]  # (B, k, Tp, A)
        return (weights[..., None, None] * chunks).sum(dim=1)
