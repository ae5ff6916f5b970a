"""A bounded number of pictures of a run of any length: evenly spaced, and where things change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from alt_ros.pictures.jpeg import to_jpeg
from alt_ros.types import Observation

MOST = 1_200


class _Frame(NamedTuple):
    """Log time and stamp (ns), and a JPEG of each view."""

    at: int
    stamp: int
    pictures: list[bytes]


class LiveFrames:
    """Keeps every n-th observation's pictures; n doubles whenever they are too many.

    Args:
        views: Names of the views, in order.
        most: Observations kept of those, and besides a third as many that ``keep`` was told of.
    """

    def __init__(self, views: Sequence[str], most: int = MOST) -> None:
        self._views, self._most = tuple(views), most
        self._regular: list[_Frame] = []
        self._kept: list[_Frame] = []
        self._every, self._seen = 1, 0

    @property
    def at(self) -> list[int]:
        """Log times in order, ns."""
        return [frame.at for frame in self._frames]

    @property
    def pictures(self) -> list[list[bytes]]:
        """A JPEG of each view for each of them; empty bytes where a view is missing."""
        return [frame.pictures for frame in self._frames]

    def add(self, observation: Observation, at: int) -> None:
        """Take an observation, logged at a time in ns."""
        if self._seen % self._every == 0:
            self._regular.append(self._frame(observation, at))
            if len(self._regular) >= self._most:
                del self._regular[1::2]
                self._every *= 2
        self._seen += 1

    def keep(self, observation: Observation, at: int) -> None:
        """Keep an observation for good: something happened there."""
        if len(self._kept) < self._most // 3:
            self._kept.append(self._frame(observation, at))

    @property
    def _frames(self) -> list[_Frame]:
        kept = {frame.stamp for frame in self._kept}
        others = (frame for frame in self._regular if frame.stamp not in kept)
        return sorted([*self._kept, *others], key=lambda frame: frame.at)

    def _frame(self, observation: Observation, at: int) -> _Frame:
        images = observation.images
        pictures = [to_jpeg(images[view]) if view in images else b"" for view in self._views]
        return _Frame(at, observation.stamp, pictures)
