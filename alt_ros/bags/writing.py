"""Writes an episode's messages into a rosbag2 bag, definitions included, without ROS."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from alt_ros.errors import DataError

BAG_VERSION = 9
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
DISK_ERRORS = (OSError, sqlite3.Error)


class EpisodeWriter:
    """One bag being written.

    Args:
        path: Folder to create.
        definitions: Type name (``alt_ros/msg/Observation``) to .msg text, for types that are not
            part of ROS itself.
        min_free_bytes: Writing stops, bag closed and whole, before the disk has less left.
        storage: "mcap", or "sqlite3" for tools that read nothing else.

    Raises:
        DataError: The folder exists, or cannot be made; a definition does not parse.
    """

    def __init__(
        self,
        path: Path,
        definitions: Mapping[str, str],
        *,
        min_free_bytes: int = 64 << 20,
        storage: Literal["mcap", "sqlite3"] = "mcap",
    ) -> None:
        self.path = path
        self.messages = 0
        self._min_free_bytes = min_free_bytes
        self._until_check = 0
        self._failed = False
        self._connections: dict[str, Any] = {}
        self._store = _typestore(tuple(definitions.items()))
        self._require_space()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(path, version=BAG_VERSION, storage_plugin=STORAGES[storage])
            self._writer.open()
        except (WriterError, OSError) as error:
            raise DataError(f"bag '{path}' cannot be written: {error}") from error

    def write(self, topic: str, type_name: str, time: int, data: bytes) -> None:
        """Append a message.

        Args:
            topic: Topic name.
            type_name: As ROS prints it: ``sensor_msgs/msg/Image``.
            time: Log time, ns.
            data: CDR bytes.

        Raises:
            DataError: The type is not known; or less than ``min_free_bytes`` are free, and the
                bag can still be closed; or the disk itself refuses, the bag ends here, and all
                but its last MiB is readable.
        """
        if self._failed:
            raise DataError(f"bag '{self.path}' ended when the disk refused: start another one")
        if self._until_check <= 0:
            self._require_space()
            self._until_check = 1 << 20
        self._until_check -= len(data)
        try:
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic, type_name, typestore=self._store
                )
            self._writer.write(self._connections[topic], time, data)
        except TypesysError as error:
            raise DataError(
                f"topic '{topic}' cannot be recorded: {error} Pass its definition"
            ) from error
        except DISK_ERRORS as error:
            self._abort()
            raise DataError(f"bag '{self.path}' cannot be written further: {error}") from error
        self.messages += 1

    def close(self, metadata: Mapping[str, str] | None = None) -> None:
        """Finish the bag, with custom metadata; nothing is left to finish after a failed write.

        Raises:
            DataError: The index could not be written; all but the last MiB stays readable.
        """
        if self._failed:
            return
        for key, value in (metadata or {}).items():
            self._writer.set_custom_data(key, value)
        try:
            self._writer.close()
        except DISK_ERRORS as error:
            self._abort()
            raise DataError(f"bag '{self.path}' could not be closed: {error}") from error

    def discard(self) -> None:
        """Throw the bag away."""
        self._abort()
        shutil.rmtree(self.path)

    def _abort(self) -> None:
        self._failed = True
        with suppress(*DISK_ERRORS):
            self._writer.abort()

    def _require_space(self) -> None:
        folder = next(p for p in (self.path, *self.path.parents) if p.exists())
        free = shutil.disk_usage(folder).free
        if free < self._min_free_bytes:
            raise DataError(
                f"disk of '{folder}' has {free >> 20} MiB free, recording needs "
                f"{self._min_free_bytes >> 20} MiB: free some space or choose another folder"
            )


@lru_cache(maxsize=4)
def _typestore(definitions: tuple[tuple[str, str], ...]) -> Typestore:
    """Return ROS's types and these: made once, since a recorder runs for days."""
    store = get_typestore(Stores.LATEST)
    for name, text in definitions:
        try:
            store.register(get_types_from_msg(text, name))
        except TypesysError as error:
            raise DataError(f"definition of '{name}' does not parse: {error}") from error
    return store


def read_definitions(files: Iterable[Path]) -> dict[str, str]:
    """Return type name to text for the .msg files of package alt_ros."""
    return {f"alt_ros/msg/{file.stem}": file.read_text(encoding="utf-8") for file in files}
