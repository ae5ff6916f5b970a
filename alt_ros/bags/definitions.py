"""Types by the definitions that a bag holds, each parsed when it is first needed."""

from __future__ import annotations

from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore


class Definitions:
    """What a damaged bag says of its types; of others what today's ROS says."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._own = get_typestore(Stores.EMPTY)
        self._usual = get_typestore(Stores.LATEST)

    def add(self, kind: str, text: str) -> None:
        """Take a type's definition, with those of the types in it."""
        if kind not in self._own.types:
            self._texts[kind] = text

    def deserialize(self, data: bytes, kind: str) -> Any:
        """Return a message; raises what rosbags raises."""
        if kind in self._texts:
            self._own.register(get_types_from_msg(self._texts.pop(kind), kind))
        store = self._own if kind in self._own.types else self._usual
        return store.deserialize_cdr(data, kind)
