"""The image encoder of visuomotor policies: a ResNet-18 per camera, trained with the policy.

Chi et al. 2023 ("Diffusion Policy", section 4): no pretraining, GroupNorm in the place of
BatchNorm, which an exponential moving average of the weights would contradict, and a spatial
softmax in the place of the global average, so that the features say where things are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from alt_ros.encoders.torchvision_import import import_torchvision
from alt_ros.errors import ConfigurationError
from alt_ros.preprocessing import IMAGENET_MEAN, IMAGENET_STD

CHANNELS_PER_GROUP = 16


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm with 16 channels a group."""
    return nn.GroupNorm(max(1, channels // CHANNELS_PER_GROUP), channels)


class Trunk(nn.Sequential):
    """A ResNet-18 without its head (He et al. 2016), with GroupNorm and of any width.

    Args:
        width: Channels of the first stage; 64 is the ResNet-18, the last stage has 8 times as
            many.
        pool: Keep the stem's max-pooling; small images are better off without.
    """

    def __init__(self, width: int, pool: bool) -> None:
        import_torchvision()
        from torchvision.models.resnet import BasicBlock

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            shortcut = None
            if stride != 1 or inputs != outputs:
                shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), group_norm(outputs)
                )
            return nn.Sequential(
                BasicBlock(inputs, outputs, stride, shortcut, norm_layer=group_norm),
                BasicBlock(outputs, outputs, norm_layer=group_norm),
            )

        super().__init__(
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            group_norm(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1) if pool else nn.Identity(),
            stage(width, width, 1),
            stage(width, 2 * width, 2),
            stage(2 * width, 4 * width, 2),
            stage(4 * width, 8 * width, 2),
        )
        self.channels = 8 * width
        whole: Any = self
        whole.to(memory_format=torch.channels_last)


class SpatialSoftmax(nn.Module):
    """Where each feature is: the expected position under a softmax over the map.

    Levine et al. 2016, "End-to-End Training of Deep Visuomotor Policies", section 5.1.

    Args:
        channels: Of the feature map.
        keypoints: K, positions to give.
    """

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, keypoints, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return positions (N, 2 K), x and y in [-1, 1], for maps (N, C, h, w)."""
        maps = self.reduce(features)
        height, width = maps.shape[-2:]
        if height * width < 2:
            raise ConfigurationError(
                "policy: the images are too small, one place is left of them where a spatial "
                "softmax should find things: take larger ones"
            )
        weights = maps.flatten(2).softmax(dim=-1).unflatten(2, (height, width))
        x = torch.linspace(-1.0, 1.0, width, device=maps.device)
        y = torch.linspace(-1.0, 1.0, height, device=maps.device)
        across = (weights.sum(dim=2) * x).sum(dim=-1)
        down = (weights.sum(dim=3) * y).sum(dim=-1)
        return torch.cat([across, down], dim=1)


def check_crop(share: float) -> None:
    """Require a share of height and width.

    Raises:
        ConfigurationError: It is not above 0 and at most 1.
    """
    if not 0.0 < share <= 1.0:
        raise ConfigurationError(f"policy: crop must be above 0 and at most 1, got {share}")


def normalized_crop(images: Tensor, share: float, random: bool) -> Tensor:
    """Return crops of images, ImageNet-normalised.

    Args:
        images: (N, 3, H, W) uint8.
        share: Height and width of the crop, of the image's.
        random: Draw each image's place from torch's global generator; else the middle.

    Returns:
        (N, 3, h, w) float32, channels last in memory.
    """
    height, width = (max(1, round(share * size)) for size in images.shape[-2:])
    down, right = images.shape[-2] - height, images.shape[-1] - width
    if random and (down or right):
        tops = torch.randint(down + 1, (len(images),)).tolist()
        lefts = torch.randint(right + 1, (len(images),)).tolist()
        crops = torch.stack(
            [
                image[:, top : top + height, left : left + width]
                for image, top, left in zip(images, tops, lefts, strict=True)
            ]
        )
    else:
        top, left = down // 2, right // 2
        crops = images[:, :, top : top + height, left : left + width]
    mean = torch.from_numpy(IMAGENET_MEAN).to(images.device).view(3, 1, 1)
    std = torch.from_numpy(IMAGENET_STD).to(images.device).view(3, 1, 1)
    return ((crops.float() / 255.0 - mean) / std).contiguous(memory_format=torch.channels_last)


class VisuomotorEncoder(nn.Module):
    """Images of several cameras to one feature vector; a trunk for each camera.

    Args:
        views: V, number of cameras.
        width: See ``Trunk``.
        pool: See ``Trunk``.
        keypoints: K of the spatial softmax.
        features: F, values for each camera.
        crop: Share of height and width that is looked at: a random part in training, the middle
            otherwise.
    """

    def __init__(
        self,
        views: int,
        *,
        width: int = 64,
        pool: bool = True,
        keypoints: int = 32,
        features: int = 64,
        crop: float = 0.9,
    ) -> None:
        super().__init__()
        check_crop(crop)
        self.crop = crop
        self.size = views * features
        self.trunks = nn.ModuleList(Trunk(width, pool) for _ in range(views))
        self.heads = nn.ModuleList(
            nn.Sequential(SpatialSoftmax(8 * width, keypoints), nn.Linear(2 * keypoints, features))
            for _ in range(views)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, V * F) of images (N, V, 3, H, W) uint8."""
        parts = [
            head(trunk(normalized_crop(images[:, view], self.crop, self.training)))
            for view, (trunk, head) in enumerate(zip(self.trunks, self.heads, strict=True))
        ]
        return torch.cat(parts, dim=1)
