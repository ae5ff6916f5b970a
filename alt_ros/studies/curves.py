"""Closed curves in the plane, to draw points from and to hold points against."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Points = NDArray[np.float64]

CURVE = 1 << 16
"""Points that stand for the curve."""


def _angles() -> Points:
    return np.linspace(0.0, 2.0 * np.pi, 4096, endpoint=False)


def _star() -> Points:
    corner = np.arange(10)
    radius, angle = np.where(corner % 2 == 0, 1.0, 0.45), np.pi / 2 + corner * np.pi / 5
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def _ellipse() -> Points:
    return np.column_stack([np.cos(_angles()), 0.6 * np.sin(_angles())])


def _heart() -> Points:
    angle = _angles()
    x = 16.0 * np.sin(angle) ** 3
    y = sum(c * np.cos(k * angle) for k, c in enumerate((13.0, -5.0, -2.0, -1.0), start=1))
    return np.column_stack([x, y + 2.5]) / 16.0


def _rectangle() -> Points:
    return np.array([[-1.0, -0.6], [1.0, -0.6], [1.0, 0.6], [-1.0, 0.6]])


SHAPES = {"star": _star, "ellipse": _ellipse, "heart": _heart, "rectangle": _rectangle}
"""Closed curves, two units wide: the corners of a polygon, in order."""


class Curve:
    """A closed curve of uniform density."""

    def __init__(self, corners: Points) -> None:
        self._corners = np.concatenate([corners, corners[:1]])
        sides = np.linalg.norm(np.diff(self._corners, axis=0), axis=1)
        self._along = np.concatenate([[0.0], np.cumsum(sides)])
        self.points = self.at(np.arange(CURVE) / CURVE)  # (CURVE, 2)
        self._tree = KDTree(self.points)

    @property
    def length(self) -> float:
        """The way around."""
        return float(self._along[-1])

    def at(self, share: Points) -> Points:
        """Return the points (n, 2) at shares (n,) of the way around."""
        way = share * self._along[-1]
        return np.column_stack([np.interp(way, self._along, c) for c in self._corners.T])

    def draw(self, count: int, generator: np.random.Generator) -> Points:
        """Return points (count, 2) drawn uniformly along the curve."""
        return self.at(generator.random(count))

    def project(self, points: Points) -> tuple[Points, Points]:
        """Return the distances (n,) of points (n, 2), and the nearest points of the curve."""
        distances, nearest = self._tree.query(points)
        return np.asarray(distances), self.points[nearest]


@lru_cache(maxsize=len(SHAPES))
def curve(shape: str) -> Curve:
    """Return the curve of a shape out of ``SHAPES``."""
    return Curve(SHAPES[shape]())
