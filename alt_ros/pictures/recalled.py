"""Pictures of demonstration frames, from the store that a bundle was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alt_ros.demonstrations.store import DemonstrationStore, is_store
from alt_ros.pictures.jpeg import HEIGHT, to_jpeg


def store_beside(bundle: Path, provenance: Mapping[str, Any]) -> Path:
    """Return where the store of a bundle lies, if it was left beside it."""
    return bundle.parent / str(provenance.get("store", ""))


class RecalledPictures:
    """Looks demonstration frames up.

    Args:
        store: The demonstrations.
        views: Names of the views, in order.
        height: Pictures are at most this high, pixels.

    Raises:
        DataError: The store has no such view.
    """

    def __init__(
        self, store: DemonstrationStore, views: Sequence[str], height: int = HEIGHT
    ) -> None:
        self.names, self.views = store.names, tuple(views)
        self._images = [store.images(view) for view in views]
        self._ends = [0, *(int(end) for end in store.episode_ends)]
        self._height = height

    @classmethod
    def open(
        cls, path: Path, views: Sequence[str], height: int = HEIGHT
    ) -> RecalledPictures | None:
        """Open a store; None where there is none, or not one with these views."""
        if not is_store(path):
            return None
        store = DemonstrationStore.open(path)
        return None if set(views) - set(store.views) else cls(store, views, height)

    def frames(self, demonstration: int) -> int:
        """Return how many frames a demonstration has; 0 for one that is not in the store."""
        if not 0 <= demonstration < len(self._ends) - 1:
            return 0
        return self._ends[demonstration + 1] - self._ends[demonstration]

    def at(self, demonstration: int, frame: int) -> list[bytes]:
        """Return a JPEG for each view; none for a frame that is not in the store."""
        if not 0 <= frame < self.frames(demonstration):
            return []
        row = self._ends[demonstration] + frame
        return [to_jpeg(images[row], self._height) for images in self._images]
