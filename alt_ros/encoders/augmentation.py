"""Two views of one frame for contrastive training: what may change without a change of meaning.

As released with the ALT paper: ColorJitter(0.2, 0.2, 0.2, 0.05), RandomResizedCrop with scale 0.9
to 1.0, no flip, pose noise of sigma 0.01. ``STRONG`` changes more, each view by itself, and pastes
things into the image: light, focus and what else lies on the table then matter less. Used in
training only; the table and the robot see ``preprocessing.network_input``, never this.
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
        blur: Probability that a view is out of focus.
        patches: Most things that are pasted into a view: rectangles of one colour, each a tenth of
            the image wide at most.
        views_apart: Every view of a frame is changed by itself, not all in the same way.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05
    crop_scale: float = 0.9
    pose_noise: float = 0.01
    blur: float = 0.0
    patches: int = 0
    views_apart: bool = False

    def __post_init__(self) -> None:
        changes = (self.brightness, self.contrast, self.saturation, self.pose_noise)
        if min(changes) < 0.0 or not 0.0 <= self.hue <= 0.5 or not 0.0 < self.crop_scale <= 1.0:
            raise ConfigurationError(
                "augmentation: changes must not be negative, hue at most 0.5 and crop_scale in "
                f"(0, 1], got {self}"
            )
        if not 0.0 <= self.blur <= 1.0 or self.patches < 0:
            raise ConfigurationError(
                "augmentation: blur is a probability and patches must not be negative, "
                f"got {self.blur} and {self.patches}"
            )


STRONG = AugmentationConfig(
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    crop_scale=0.95,
    blur=0.25,
    patches=3,
    views_apart=True,
)
AUGMENTATIONS = {"paper": AugmentationConfig(), "strong": STRONG}
_LARGEST_PATCH = 0.1  # of the image's width and height
_BLUR = 5, (0.5, 1.5)  # kernel, sigma; pixels of the network's input


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
        if self.config.blur:
            steps.append(v2.RandomApply([v2.GaussianBlur(*_BLUR)], self.config.blur))
        self._change = v2.Compose(steps)

    def images(self, images: Tensor) -> Tensor:
        """Return changed images; frames do not share a change, views by ``views_apart``.

        Args:
            images: (B, V, 3, H, W) uint8.

        Returns:
            (B, V, 3, H, W) float32, ImageNet-normalised.
        """
        apart = self.config.views_apart
        frames = images.flatten(0, 1) if apart else images
        changed = torch.stack([self._change(frame.float() / 255.0) for frame in frames])
        changed = changed.reshape(*images.shape[:3], *changed.shape[-2:])
        for _ in range(self.config.patches):
            _paste(changed)
        mean = torch.from_numpy(IMAGENET_MEAN).view(1, 1, 3, 1, 1)
        std = torch.from_numpy(IMAGENET_STD).view(1, 1, 3, 1, 1)
        return (changed - mean) / std

    def poses(self, poses: Tensor) -> Tensor:
        """Return poses (B, arms, 7) float32 with noise, quaternions of unit length again."""
        noisy = poses + self.config.pose_noise * torch.randn_like(poses)
        rotation = torch.nn.functional.normalize(noisy[..., 3:], dim=-1)
        return torch.cat([noisy[..., :3], rotation], dim=-1)


def _paste(images: Tensor) -> None:
    """Paste a rectangle of a random place, size and colour into every second view or so."""
    height, width = images.shape[-2:]
    for view in images.flatten(0, 1):
        paste, y, x, tall, wide, *colour = torch.rand(8).tolist()
        if paste < 0.5:
            continue
        top, left = int(y * height), int(x * width)
        bottom = top + 1 + int(tall * _LARGEST_PATCH * height)
        right = left + 1 + int(wide * _LARGEST_PATCH * width)
        view[:, top:bottom, left:right] = torch.tensor(colour).view(3, 1, 1)
