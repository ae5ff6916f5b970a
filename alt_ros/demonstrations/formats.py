"""Recognises what a path holds and opens it: store, zarr, LeRobot, bags, a folder of those."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from alt_ros.demonstrations import store
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.sequence import Concatenation
from alt_ros.errors import ConfigurationError, DataError, DependencyError

_log = logging.getLogger(__name__)

ACCEPTED = (
    "a training store, a zarr replay buffer (folder or .zip), a LeRobot folder, a rosbag2 folder, "
    "an .mcap or .db3 file, or a folder of those"
)
_BAG_SUFFIXES = (".mcap", ".db3")


@dataclass(frozen=True)
class Format:
    """A format that demonstrations come in.

    Attributes:
        name: Name for a person.
        module, reader: Where its reader is; imported when it is needed, with its libraries.
    """

    name: str
    module: str
    reader: str


STORE = Format("training store", "alt_ros.demonstrations.store", "DemonstrationStore.open")
ZARR = Format(
    "zarr replay buffer", "alt_ros.demonstrations.zarr_replay_buffer", "ZarrReplayBuffer"
)
LEROBOT = Format("LeRobot data set", "alt_ros.demonstrations.lerobot", "LeRobotDataset")
BAG = Format("rosbag2", "alt_ros.demonstrations.rosbag", "open_bags")


def recognize(path: str | Path) -> Format | None:
    """Return the format of a file or folder; None where it is none that can be read.

    Raises:
        DataError: The path is missing, or may not be looked at.
    """
    path = Path(path)
    try:
        path.stat()
        if not path.is_dir():
            if path.suffix in _BAG_SUFFIXES:
                return BAG
            return ZARR if path.suffix == ".zip" else None
        entries = {entry.name: entry.is_dir() for entry in path.iterdir()}
        if store.is_store(path):
            return STORE
        if ".zgroup" in entries or "zarr.json" in entries:
            return ZARR
        if (path / "meta" / "info.json").is_file():
            return LEROBOT
        bag_files = [name for name in entries if name.endswith(_BAG_SUFFIXES)]
        # Without metadata.yaml, one file is a bag that was cut off, several are bags each.
        cut_off = len(bag_files) == 1 and not any(entries.values())
        if bag_files and ("metadata.yaml" in entries or cut_off):
            return BAG
    except PermissionError as error:
        raise DataError(
            f"'{error.filename or path}' may not be read by this user: chmod or chown it"
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist: name {ACCEPTED}") from error
    except OSError as error:
        raise DataError(f"'{path}' is not readable: {error}") from error
    return None


def open_demonstrations(path: str | Path, **options: Any) -> Sequence[Demonstration]:
    """Open what a path holds; an episode is read when it is asked for.

    Args:
        path: A training store, a zarr replay buffer (folder or ``.zip``), a LeRobot folder, a
            rosbag2 folder or file, or a folder of those. In a folder, what is none of them is
            named in the log and left out, and a demonstration's name gets its part's before it.
        **options: Passed to the format's reader, to each of them for a folder.

    Returns:
        The demonstrations, at least one.

    Raises:
        DataError: The path is missing, unreadable, empty or holds nothing that is accepted.
        DependencyError: The format's library is not installed.
        ConfigurationError: The format's reader has no such option.
    """
    path = Path(path).expanduser()
    found = recognize(path)
    if found is not None:
        return _open(found, path, options)
    if not path.is_dir():
        raise DataError(f"'{path}' is not a demonstration file: name {ACCEPTED}")
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if not entries:
        raise DataError(f"folder '{path}' is empty: name {ACCEPTED}")
    formats = {entry: recognize(entry) for entry in entries}
    parts = {entry: each for entry, each in formats.items() if each is not None}
    if not parts:
        raise DataError(
            f"folder '{path}' holds no demonstrations, only {_names(entries)}: name {ACCEPTED}"
        )
    others = [entry for entry in entries if entry not in parts]
    if others:
        # A folder may be a recording that went wrong; a read-me or a licence is not.
        level = logging.WARNING if any(entry.is_dir() for entry in others) else logging.INFO
        _log.log(level, "folder '%s': left out %s: no demonstrations", path, _names(others))
    opened = [(_part_name(part), _open(each, part, options)) for part, each in parts.items()]
    return opened[0][1] if len(opened) == 1 else Concatenation(opened)


def _open(found: Format, path: Path, options: dict[str, Any]) -> Sequence[Demonstration]:
    try:
        reader: Any = importlib.import_module(found.module)
    except ImportError as error:
        raise DependencyError(
            f"'{path}' is a {found.name}, to read it needs the Python package '{error.name}': "
            f"pip install {(error.name or '').split('.')[0]}"
        ) from error
    for name in found.reader.split("."):
        reader = getattr(reader, name)
    reader = cast(Callable[..., Sequence[Demonstration]], reader)
    accepted = list(inspect.signature(reader).parameters)[1:]
    unknown = [name for name in options if name not in accepted]
    if unknown:
        raise ConfigurationError(
            f"'{path}' is a {found.name}, its options are {accepted or 'none'}, got {unknown}"
        )
    demonstrations = reader(path, **options)
    if len(demonstrations) == 0:
        raise DataError(f"{found.name} '{path}' holds no episodes: name {ACCEPTED}")
    return demonstrations


def _part_name(path: Path) -> str:
    # A bag folder may have a dot in its name; only what is a suffix of a format goes.
    name = path.name.removesuffix(".zip").removesuffix(".zarr")
    return Path(name).stem if path.suffix in _BAG_SUFFIXES else name


def _names(entries: Sequence[Path]) -> str:
    shown = ", ".join(f"'{entry.name}'" for entry in entries[:5])
    return shown if len(entries) <= 5 else f"{shown} and {len(entries) - 5} more"
