"""Two views of one frame for contrastive training: what may change without a change of meaning.

As released with the ALT paper: ColorJitter(0.2, 0.2, 0.2, 0.05), RandomResizedCrop with scale 0.9
to 1.0, no flip, pose noise of sigma 0.01. Used in training only; the table and the robot see
``preprocessing.network_input``, never this.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from alt_ros.encoders.torchvision_import import import_torchvision
from alt_ros.errors import ConfigurationError
from alt_ros.preprocessing import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class AugmentationConfig:
    """How much a frame is changed.

    Attributes:
        brightness, contrast, saturation: Largest relative change, each.
        hue: Largest shift, turns of the colour circle.
        crop_scale: Smallest share of the image's area that a crop keeps, in (0, 1]; 1 does not
            crop. Cropping teaches the encoder not to care where in the image things are.
        pose_noise: Standard deviation added to each number of a pose.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05
    crop_scale: float = 0.9
    pose_noise: float = 0.01

    def __post_init__(self) -> None:
        changes = (self.brightness, self.contrast, self.saturation, self.pose_noise)
        if min(changes) < 0.0 or not 0.0 <= self.hue <= 0.5 or not 0.0 < self.crop_scale <= 1.0:
            raise ConfigurationError(
                "augmentation: changes must not be negative, hue at most 0.5 and crop_scale in "
                f"(0, 1], got {self}"
            )


class Augmentation:
    """Changes frames at random; draws from torch's global generator, so seed that.

    Args:
        height, width: Size of the network's input, pixels.
        config: How much.
    """

    def __init__(self, height: int, width: int, config: AugmentationConfig | None = None) -> None:
        import_torchvision()
        from torchvision.transforms import v2

        self.config = config or AugmentationConfig()
        steps: list[torch.nn.Module] = []
        if self.config.crop_scale < 1.0:
            steps.append(
                v2.RandomResizedCrop(
                    (height, width),
                    scale=(self.config.crop_scale, 1.0),
                    ratio=(width / height, width / height),
                    antialias=True,
                )
            )
        steps.append(
            v2.ColorJitter(
                self.config.brightness,
                self.config.contrast,
                self.config.saturation,
                self.config.hue,
            )
        )
        self._change = v2.Compose(steps)

    def images(self, images: Tensor) -> Tensor:
        """Return changed images; the views of one frame share the change, frames do not.

        Args:
            images: (B, V, 3, H, W) uint8.

        Returns:
            (B, V, 3, H, W) float32, ImageNet-normalised.
        """
        changed = torch.stack([self._change(frame.float() / 255.0) for frame in images])
        mean = torch.from_numpy(IMAGENET_MEAN).view(1, 1, 3, 1, 1)
        std = torch.from_numpy(IMAGENET_STD).view(1, 1, 3, 1, 1)
        return (changed - mean) / std

    def poses(self, poses: Tensor) -> Tensor:
        """Return poses (B, arms, 7) float32 with noise, quaternions of unit length again."""
        noisy = poses + self.config.pose_noise * torch.randn_like(poses)
        rotation = torch.nn.functional.normalize(noisy[..., 3:], dim=-1)
        return torch.cat([noisy[..., :3], rotation], dim=-1)
