"""A set of demonstrations that are read one at a time, when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

from alt_ros.demonstrations.demonstration import Demonstration


class DemonstrationSequence(Sequence[Demonstration]):
    """A sequence whose items are read on access and not kept; a slice reads nothing either."""

    @abstractmethod
    def _load(self, index: int) -> Demonstration:
        """Read the demonstration at ``index``, 0 <= index < len(self)."""

    @overload
    def __getitem__(self, index: int) -> Demonstration: ...
    @overload
    def __getitem__(self, index: slice) -> DemonstrationSequence: ...
    def __getitem__(self, index: int | slice) -> Demonstration | DemonstrationSequence:
        if isinstance(index, slice):
            return Selection(self, range(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"demonstration {index} of {len(self)}")
        return self._load(index % len(self))

    def __iter__(self) -> Iterator[Demonstration]:
        # The inherited iterator holds on to one demonstration while it reads the next.
        for index in range(len(self)):
            yield self._load(index)


class Selection(DemonstrationSequence):
    """Some demonstrations of another sequence, in the order given."""

    def __init__(self, whole: Sequence[Demonstration], indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, indices

    def __len__(self) -> int:
        return len(self._indices)

    def _load(self, index: int) -> Demonstration:
        return self._whole[self._indices[index]]


class Concatenation(DemonstrationSequence):
    """Several sequences one after the other; a name gets its part's name before it.

    Args:
        parts: Name of each part and its demonstrations, in order. A demonstration that is named
            like its part keeps its name, any other becomes ``part/name``.
    """

    def __init__(self, parts: Sequence[tuple[str, Sequence[Demonstration]]]) -> None:
        self._parts = list(parts)
        self._places = [(p, i) for p, (_, part) in enumerate(parts) for i in range(len(part))]

    def __len__(self) -> int:
        return len(self._places)

    def _load(self, index: int) -> Demonstration:
        part, inner = self._places[index]
        name, demonstrations = self._parts[part]
        demonstration = demonstrations[inner]
        if demonstration.name == name:
            return demonstration
        return replace(demonstration, name=f"{name}/{demonstration.name}")
