"""What may be wrong with the scene or with a camera, to be switched on at any moment."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DependencyError
from alt_ros.simulation.scene import DISTRACTORS, VIEWS

KINDS = (
    "distractors",
    "changed_cup",
    "covered_camera",
    "unrelated_image",
    "changed_light",
    "moved_camera",
    "blurred_camera",
    "dimmed_camera",
    "frozen_camera",
    "swapped_views",
)
DISTRACTOR_CLEARANCE = 0.13
"""Smallest distance from the cup's axis to a distractor's centre, metres."""
BLUR = 0.03
"""Standard deviation of a blurred camera's circle of confusion, in heights of the image."""
EXPOSURE = 0.35
"""Share of its pixel values that a dimmed camera still gives."""
KNOCKS = {
    "wrist": (0.008, float(np.radians(6.0))),
    "third_person": (0.06, float(np.radians(8.0))),
}
"""How far and by what angle a moved camera was knocked: metres and radians."""
_DISTRACTOR_SPACING = 0.10
_PHOTOGRAPH = "grace_hopper.jpg"


@dataclass(frozen=True)
class Light:
    """How the scene is lit, in shares of the usual red, green and blue.

    Attributes:
        lamp: Of the lamp.
        room: Of the light that comes from everywhere.
        exposure: Share of the usual pixel values; the renderer shows no surface brighter than its
            texture, so this is what overexposes the picture.
    """

    lamp: tuple[float, float, float]
    room: tuple[float, float, float]
    exposure: float = 1.0

    def __post_init__(self) -> None:
        if not all(0.0 <= share < np.inf for share in (*self.lamp, *self.room, self.exposure)):
            raise ConfigurationError(f"light: shares must be finite and 0 or more, got {self}")


LIGHTS = {
    "lamp off": Light((0.0, 0.0, 0.0), (0.85, 0.85, 0.85)),
    "sun": Light((1.5, 1.4, 1.15), (1.0, 1.0, 1.0), exposure=1.3),
    "warm bulb": Light((1.0, 0.75, 0.45), (1.0, 0.82, 0.6)),
}
"""What ``changed_light`` changes the light to, in turn."""


@dataclass(frozen=True)
class Disturbance:
    """One thing that no demonstration shows.

    Attributes:
        kind: ``distractors`` (coloured objects on the table), ``changed_cup`` (another shape and
            colour), ``covered_camera`` (one view near black), ``unrelated_image`` (every view
            shows a photograph that has nothing to do with the task), ``changed_light`` (one of
            ``LIGHTS``), ``moved_camera`` (one camera knocked aside), ``blurred_camera`` (one view
            out of focus), ``dimmed_camera`` (one view underexposed), ``frozen_camera`` (one view
            repeats its first picture) or ``swapped_views`` (the views' pictures under each
            other's names).
        view: The view that the kinds about one camera are about; the other kinds ignore it.
        variant: Number of the light, or of the direction of a knock, from 0; the other kinds
            ignore it.
    """

    kind: str
    view: str = "wrist"
    variant: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(
                f"disturbance '{self.kind}' does not exist: choose one of {', '.join(KINDS)}"
            )
        if self.view not in VIEWS:
            raise ConfigurationError(
                f"disturbance: view '{self.view}' does not exist: choose one of {', '.join(VIEWS)}"
            )
        if self.variant < 0:
            raise ConfigurationError(
                f"disturbance '{self.kind}': variant must be 0 or more, got {self.variant}"
            )

    @property
    def light(self) -> Light | None:
        """How the scene is lit; None where the light is as usual."""
        if self.kind != "changed_light":
            return None
        return tuple(LIGHTS.values())[self.variant % len(LIGHTS)]


def distractor_positions(
    cup: NDArray[np.float64], rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Return where the distractors stand: on the mat, clear of the cup and of one another.

    Args:
        cup: (2,) x, y of the cup, metres.
        rng: Source of the layout.

    Returns:
        Name to (2,) x, y, metres.
    """
    placed: dict[str, NDArray[np.float64]] = {}
    for name in DISTRACTORS:
        best, best_margin = np.zeros(2), -np.inf
        for _ in range(200):
            candidate = rng.uniform((0.34, -0.26), (0.74, 0.26))
            others = [np.linalg.norm(candidate - xy) for xy in placed.values()]
            margin = min(
                float(np.linalg.norm(candidate - cup)) - DISTRACTOR_CLEARANCE,
                float(min(others, default=np.inf)) - _DISTRACTOR_SPACING,
            )
            if margin > best_margin:
                best, best_margin = candidate, margin
            if margin >= 0:
                break
        placed[name] = best
    return placed


def knocked_camera(
    position: NDArray[np.float64],
    quaternion: NDArray[np.float64],
    view: str,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where a camera is after a knock from a random direction.

    Args:
        position: (3,) in its parent's frame, metres.
        quaternion: (4,) w, x, y, z, as MuJoCo has it.
        view: Whose camera it is; says how far it goes, see ``KNOCKS``.
        rng: Source of the direction and of the axis.

    Returns:
        Position and quaternion, as given.
    """
    distance, angle = KNOCKS[view]
    direction, axis = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
    turned = Rotation.from_quat(np.roll(quaternion, -1)) * Rotation.from_rotvec(angle * axis)
    return position + distance * direction, np.roll(turned.as_quat(), 1)


class Photograph:
    """A real photograph that ships with matplotlib, cut to the size of a camera's image."""

    def __init__(self) -> None:
        try:
            cbook = importlib.import_module("matplotlib.cbook")
        except ImportError as error:
            raise DependencyError(
                "disturbance 'unrelated_image' takes its photograph from matplotlib, which is not "
                "installed: pip install matplotlib"
            ) from error
        with cbook.get_sample_data(_PHOTOGRAPH) as file:
            encoded = np.frombuffer(file.read(), dtype=np.uint8)
        photograph = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        if photograph is None:
            raise DependencyError(
                f"matplotlib's sample photograph '{_PHOTOGRAPH}' cannot be decoded: reinstall it"
            )
        self._photograph = cv2.cvtColor(photograph, cv2.COLOR_BGR2RGB)

    def crop(self, image_size: tuple[int, int], position: float) -> NDArray[np.uint8]:
        """Return the largest cut of the asked aspect ratio.

        Args:
            image_size: (height, width), pixels.
            position: 0 cuts at the top or left, 1 at the bottom or right.

        Returns:
            (height, width, 3) uint8 RGB.
        """
        height, width = image_size
        full_height, full_width = self._photograph.shape[:2]
        scale = min(full_height / height, full_width / width)
        rows, columns = int(height * scale), int(width * scale)
        top = int(position * (full_height - rows))
        left = int(position * (full_width - columns))
        cut = self._photograph[top : top + rows, left : left + columns]
        return np.asarray(
            cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8
        )


def covered_image(image_size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return what a covered camera gives: black, with the sensor's noise, (H, W, 3) uint8."""
    noise = np.abs(rng.normal(0.0, 2.5, (*image_size, 3)))
    return np.minimum(noise, 12.0).astype(np.uint8)


def exposed_image(image: NDArray[np.uint8], exposure: float) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) uint8 with its pixel values multiplied, and clipped at white."""
    return np.minimum(image * exposure, 255.0).astype(np.uint8)


def blurred_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) uint8 as a camera out of focus gives it."""
    blurred = cv2.GaussianBlur(image, (0, 0), BLUR * image.shape[0])
    return np.asarray(blurred, dtype=np.uint8)


def disturbed_images(
    images: Mapping[str, NDArray[np.uint8]],
    disturbance: Disturbance,
    first: Mapping[str, NDArray[np.uint8]],
    photograph: Photograph | None,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.uint8]]:
    """Return the views as a disturbed camera gives them.

    Args:
        images: View name to (H, W, 3) uint8 RGB.
        disturbance: What is wrong; kinds that change the scene leave the images alone.
        first: The images that were rendered first after the disturbance had begun.
        photograph: The photograph, where the kind is ``unrelated_image``.
        rng: Source of the sensor's noise.
    """
    result = dict(images)
    kind, view = disturbance.kind, disturbance.view
    if disturbance.light is not None:
        exposure = disturbance.light.exposure
        result = {name: exposed_image(image, exposure) for name, image in images.items()}
    elif kind == "covered_camera":
        result[view] = covered_image(images[view].shape[:2], rng)
    elif kind == "blurred_camera":
        result[view] = blurred_image(images[view])
    elif kind == "dimmed_camera":
        result[view] = exposed_image(images[view], EXPOSURE)
    elif kind == "frozen_camera":
        result[view] = first[view].copy()
    elif kind == "swapped_views":
        result = dict(zip(images, list(images.values())[::-1], strict=True))
    elif kind == "unrelated_image" and photograph is not None:
        for position, (name, image) in zip((0.15, 0.85), images.items(), strict=True):
            result[name] = photograph.crop(image.shape[:2], position)
    return result
