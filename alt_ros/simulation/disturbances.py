"""What may be wrong with the scene or with a camera, to be switched on at any moment."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError, DependencyError
from alt_ros.simulation.scene import DISTRACTORS, VIEWS

KINDS = ("distractors", "changed_cup", "covered_camera", "unrelated_image")
DISTRACTOR_CLEARANCE = 0.13
"""Smallest distance from the cup's axis to a distractor's centre, metres."""
_DISTRACTOR_SPACING = 0.10
_PHOTOGRAPH = "grace_hopper.jpg"


@dataclass(frozen=True)
class Disturbance:
    """One thing that no demonstration shows.

    Attributes:
        kind: ``distractors`` (coloured objects on the table), ``changed_cup`` (another shape and
            colour), ``covered_camera`` (one view near black) or ``unrelated_image`` (every view
            shows a photograph that has nothing to do with the task).
        view: The view that ``covered_camera`` covers; the other kinds ignore it.
    """

    kind: str
    view: str = "wrist"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(
                f"disturbance '{self.kind}' does not exist: choose one of {', '.join(KINDS)}"
            )
        if self.view not in VIEWS:
            raise ConfigurationError(
                f"disturbance: view '{self.view}' does not exist: choose one of {', '.join(VIEWS)}"
            )


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


def disturbed_images(
    images: Mapping[str, NDArray[np.uint8]],
    disturbance: Disturbance,
    photograph: Photograph | None,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.uint8]]:
    """Return the views as a disturbed camera gives them.

    Args:
        images: View name to (H, W, 3) uint8 RGB.
        disturbance: What is wrong; kinds that change the scene leave the images alone.
        photograph: The photograph, where the kind is ``unrelated_image``.
        rng: Source of the sensor's noise.
    """
    result = dict(images)
    if disturbance.kind == "covered_camera":
        result[disturbance.view] = covered_image(images[disturbance.view].shape[:2], rng)
    elif disturbance.kind == "unrelated_image" and photograph is not None:
        for position, (view, image) in zip((0.15, 0.85), images.items(), strict=True):
            result[view] = photograph.crop(image.shape[:2], position)
    return result
