"""What an encoder takes and gives: the part of it that is known without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from alt_ros.errors import ConfigurationError

PATCHES = {"vit_b_16": 16, "vit_tiny": 8, "clip_vit_b_32": 32, "clip_tiny": 8}
"""Edge of the patches into which a transformer cuts the image, pixels."""
BACKBONES = ("resnet18", *PATCHES)
SMALLEST_IMAGE = 32
POSE_FEATURES = 32


@dataclass(frozen=True)
class EncoderSpec:
    """Inputs, outputs and shape of a multi-view encoder.

    The defaults are the published ALT encoder without pose (He et al. 2026, arXiv 2505.05787):
    one ResNet-18 shared by the cameras, 128 features for each, a head of 256 hidden units and a
    unit vector of ``embedding_size``.

    Attributes:
        views: Names of the camera views, in the network's order.
        height, width: Size of the network's input, pixels.
        embedding_size: Values of the embedding, D.
        view_size: Features of one view, F.
        shared_trunk: One trunk for all views, as published; else one trunk each.
        use_pose: Add the end-effector poses through an MLP 7-64-32 per arm.
        arms: Number of end effectors whose poses an observation carries.
        backbone: Architecture of the trunk: "resnet18" as published; "vit_b_16" (Dosovitskiy et
            al. 2021) and "clip_vit_b_32" (Radford et al. 2021), of 86 million parameters, to be
            started from published weights; "vit_tiny" and "clip_tiny" of the same architectures
            and 2 million, which train from scratch on a CPU.
    """

    views: tuple[str, ...]
    height: int
    width: int
    embedding_size: int = 128
    view_size: int = 128
    shared_trunk: bool = True
    use_pose: bool = False
    arms: int = 1
    backbone: str = "resnet18"

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(self.views))
        if not self.views or len(set(self.views)) != len(self.views) or "" in self.views:
            raise ConfigurationError(
                f"encoder: views must be distinct names, at least one, got {list(self.views)}"
            )
        if min(self.height, self.width) < SMALLEST_IMAGE:
            raise ConfigurationError(
                f"encoder: images must be at least {SMALLEST_IMAGE} pixels high and wide, "
                f"got {self.width}x{self.height}"
            )
        if self.embedding_size < 1 or self.view_size < 1:
            raise ConfigurationError(
                "encoder: embedding_size and view_size must be positive, "
                f"got {self.embedding_size} and {self.view_size}"
            )
        if self.arms < 0 or (self.use_pose and self.arms == 0):
            raise ConfigurationError(
                f"encoder: use_pose={self.use_pose} with arms={self.arms} is not possible: "
                "give at least one arm, or leave the pose branch out"
            )
        if self.backbone not in BACKBONES:
            raise ConfigurationError(
                f"encoder: backbone must be one of {', '.join(BACKBONES)}, got '{self.backbone}'"
            )
        patch = PATCHES.get(self.backbone, 1)
        if self.height % patch or self.width % patch:
            fitting = "x".join(str(_multiple(size, patch)) for size in (self.width, self.height))
            raise ConfigurationError(
                f"encoder: the sides of the images must be multiples of {patch} pixels for "
                f"{self.backbone}, got {self.width}x{self.height}: take {fitting}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "views": list(self.views)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderSpec:
        """Return the spec that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is missing, unknown, of the wrong type or out of bounds.
        """
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        missing = sorted({"views", "height", "width"} - set(values))
        if unknown or missing:
            raise ConfigurationError(
                f"encoder: fields must be {', '.join(known)}; unknown {unknown}, missing {missing}"
            )
        views = values["views"]
        if not isinstance(views, (list, tuple)) or not all(isinstance(v, str) for v in views):
            raise ConfigurationError(f"encoder: views must be a list of names, got {views!r}")
        for name, value in values.items():
            expected = {"int": int, "bool": bool, "str": str}.get(str(known[name].type))
            if expected is not None and type(value) is not expected:
                raise ConfigurationError(
                    f"encoder: {name} must be of type {expected.__name__}, got {value!r}"
                )
        fitting: dict[str, Any] = dict(values)
        return cls(**fitting)


def _multiple(size: int, patch: int) -> int:
    """Return the multiple of a patch's edge that is nearest to a size and not too small."""
    return max(patch * round(size / patch), -(-SMALLEST_IMAGE // patch) * patch)
