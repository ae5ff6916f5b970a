"""The training store: a directory of plain arrays that training memory-maps.

Rows of all demonstrations lie one after the other, as in the replay buffers of the field:

- ``images_<view>.npy`` (T, H, W, 3) uint8 RGB, one file per view
- ``stamps.npy`` (T,) int64 ns; ``poses.npy`` (T, arms, 7); ``grippers.npy`` (T, arms);
  ``state.npy`` (T, S); ``actions.npy`` (T, layout.size); all float64
- ``episode_ends.npy`` (N,) int64: the row after each demonstration's last
- ``manifest.json``: format version, names, sources, success, layout, views, sizes, period, and
  the sha256 of every array but the images

A store is written beside its place under another name and renamed when it is complete, so what
bears the name is always a whole store.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, cast
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.sequence import DemonstrationSequence
from alt_ros.errors import ConfigurationError, DataError, DependencyError, in_one_line
from alt_ros.preprocessing import resize_image
from alt_ros.types import POSE_SIZE, ActionLayout

FORMAT = "alt_ros demonstration store"
VERSION = 1
MANIFEST = "manifest.json"
PERIOD_TOLERANCE = 0.25

Array = NDArray[Any]
Floats = NDArray[np.float64]


def is_store(path: str | Path) -> bool:
    """Return whether the path is a directory that was written as a store, whole or damaged."""
    manifest = Path(path) / MANIFEST
    if not manifest.is_file():
        return False
    try:
        content = json.loads(manifest.read_text("utf-8"))
    except ValueError:
        return (manifest.parent / _file_name("episode_ends")).is_file()
    return isinstance(content, dict) and cast(dict[str, Any], content).get("format") == FORMAT


def write_store(
    path: str | Path,
    demonstrations: Iterable[Demonstration],
    *,
    image_size: tuple[int, int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> DemonstrationStore:
    """Write a store, one demonstration in memory at a time, and return it opened.

    Args:
        path: Directory to write; a store that is there is replaced when the new one is complete.
        demonstrations: What to store; all with the same layout, views, sizes and rate.
        image_size: (height, width) that every view is resized to; None keeps the sizes.
        progress: Called after each demonstration with the number written so far.

    Raises:
        DataError: There is nothing to store, two demonstrations do not fit together, the
            directory cannot be written, or it exists and is not a store.
        DependencyError: The disk is full. What was there before is unchanged.
        ConfigurationError: ``image_size`` is not positive.
    """
    if image_size is not None and min(image_size) <= 0:
        raise ConfigurationError(f"image_size must be positive, got {image_size}")
    target = Path(path).expanduser().resolve()
    _check_replaceable(target)
    written = 0
    with _temporary_sibling(target) as temporary:
        writer = _StoreWriter(temporary, target, image_size)
        try:
            for demonstration in demonstrations:
                with _write_errors(target, written):
                    writer.append(demonstration)
                del demonstration  # before the next one is read
                written += 1
                if progress is not None:
                    progress(written)
            with _write_errors(target, written):
                writer.finish()
        finally:
            writer.close()
        with _write_errors(target, written):
            _rename_into_place(temporary, target)
    return DemonstrationStore.open(target)


class DemonstrationStore(DemonstrationSequence):
    """A store, opened: arrays are memory-mapped and read-only.

    Attributes:
        path: The directory.
        names: (N) name of each demonstration.
        layout: Meaning of the action columns.
        views: View names, in order.
        sizes: View name to (height, width), pixels.
        period: Median time from one frame to the next, ns; 0 where no demonstration has two.
        episode_ends: (N,) int64, the row after each demonstration's last.
        stamps: (T,) int64 ns.
        poses: (T, arms, 7). grippers: (T, arms). state: (T, S). actions: (T, layout.size).
    """

    def __init__(self, path: Path, manifest: _Manifest) -> None:
        """Map the arrays; use ``open``."""
        self.path = path
        self.names, self.layout, self.period = manifest.names, manifest.layout, manifest.period
        self.views = tuple(manifest.sizes)
        self.sizes = MappingProxyType(dict(manifest.sizes))
        self._sources, self._success = manifest.sources, manifest.success
        n, frames, arms = len(manifest.names), manifest.frames, manifest.arms
        small = {
            "episode_ends": ((n,), np.int64),
            "stamps": ((frames,), np.int64),
            "poses": ((frames, arms, POSE_SIZE), np.float64),
            "grippers": ((frames, arms), np.float64),
            "state": ((frames, manifest.state_size), np.float64),
            "actions": ((frames, manifest.layout.size), np.float64),
        }
        arrays = {key: self._map(key, shape, dtype) for key, (shape, dtype) in small.items()}
        for key in small:
            if _sha256(path / _file_name(key)) != manifest.sha256.get(key):
                raise DataError(
                    f"store '{path}': '{_file_name(key)}' differs from its sha256 in {MANIFEST}: "
                    "it was changed or damaged, write the store again"
                )
        self.episode_ends: NDArray[np.int64] = arrays["episode_ends"]
        self.stamps: NDArray[np.int64] = arrays["stamps"]
        self.poses: Floats = arrays["poses"]
        self.grippers: Floats = arrays["grippers"]
        self.state: Floats = arrays["state"]
        self.actions: Floats = arrays["actions"]
        lengths = np.diff(self.episode_ends, prepend=0)
        if int(self.episode_ends[-1]) != frames or int(lengths.min()) < 1:
            raise DataError(
                f"store '{path}': episode_ends must rise to {frames}, it ends at "
                f"{int(self.episode_ends[-1])}: write the store again"
            )
        self._images: dict[str, NDArray[np.uint8]] = {
            view: self._map(_image_key(view), (frames, *size, 3), np.uint8)
            for view, size in manifest.sizes.items()
        }

    @classmethod
    def open(cls, path: str | Path) -> DemonstrationStore:
        """Open a store and verify it; the images are checked for their size only.

        Raises:
            DataError: There is no store, or it is damaged or of another version.
        """
        directory = Path(path).expanduser().resolve()
        return cls(directory, _Manifest.read(directory))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def frames(self) -> int:
        """Number of frames of all demonstrations together, T."""
        return len(self.stamps)

    def images(self, view: str) -> NDArray[np.uint8]:
        """Return all images of a view, (T, H, W, 3) uint8, memory-mapped.

        Raises:
            DataError: The store has no such view.
        """
        if view not in self._images:
            raise DataError(
                f"store '{self.path}' has no view '{view}', it has {', '.join(self.views)}"
            )
        return self._images[view]

    def locate(self, row: int) -> tuple[int, int]:
        """Return the demonstration that a row belongs to, and the frame in it.

        Raises:
            DataError: The row is not in 0 .. frames - 1.
        """
        if not 0 <= row < self.frames:
            raise DataError(f"store '{self.path}': row must be in 0..{self.frames - 1}, got {row}")
        index = int(np.searchsorted(self.episode_ends, row, side="right"))
        return index, row - self.start(index)

    def start(self, index: int) -> int:
        """Return the first row of a demonstration."""
        return int(self.episode_ends[index - 1]) if index else 0

    def _load(self, index: int) -> Demonstration:
        rows = slice(self.start(index), int(self.episode_ends[index]))
        return Demonstration(
            name=self.names[index],
            stamps=self.stamps[rows],
            images={view: images[rows] for view, images in self._images.items()},
            poses=self.poses[rows],
            grippers=self.grippers[rows],
            state=self.state[rows],
            actions=self.actions[rows],
            layout=self.layout,
            success=self._success[index],
            source=self._sources[index],
        )

    def _map(self, key: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
        file = self.path / _file_name(key)
        try:
            # An array without values cannot be mapped.
            mode = "r" if math.prod(shape) else None
            array = np.load(file, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"store '{self.path}': '{file.name}' is absent, cut off or not readable "
                f"({in_one_line(error)}): write the store again"
            ) from error
        if array.shape != shape or array.dtype != dtype:
            raise DataError(
                f"store '{self.path}': '{file.name}' must be {shape} {np.dtype(dtype)}, got "
                f"{array.shape} {array.dtype}: write the store again"
            )
        # A plain array over the map: slicing an np.memmap costs several times as much.
        plain = np.asarray(array)
        plain.flags.writeable = False
        return plain


@dataclass(frozen=True)
class _Manifest:
    """What ``manifest.json`` says."""

    names: tuple[str, ...]
    sources: tuple[str, ...]
    success: tuple[bool | None, ...]
    layout: ActionLayout
    sizes: Mapping[str, tuple[int, int]]
    arms: int
    state_size: int
    period: int
    frames: int
    sha256: Mapping[str, str]

    def write(self, directory: Path) -> None:
        content = {
            "format": FORMAT,
            "version": VERSION,
            "demonstrations": len(self.names),
            "frames": self.frames,
            "period_ns": self.period,
            "layout": {"arms": self.layout.arms, "extra": self.layout.extra},
            "arms": self.arms,
            "state_size": self.state_size,
            "views": list(self.sizes),
            "sizes": {view: list(size) for view, size in self.sizes.items()},
            "names": self.names,
            "sources": self.sources,
            "success": self.success,
            "sha256": self.sha256,
        }
        with (directory / MANIFEST).open("x", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, directory: Path) -> _Manifest:
        file = directory / MANIFEST
        try:
            content = json.loads(file.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            kept = sorted(directory.parent.glob(f".{directory.name}.replaced-*"))
            hint = f": the store before the last write is '{kept[-1]}'" if kept else ""
            raise DataError(
                f"'{directory}' is not a store, it has no {MANIFEST}{hint or ': check the path'}"
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(
                f"store '{directory}': {MANIFEST} is damaged or not readable "
                f"({in_one_line(error)}): write the store again"
            ) from error
        if not isinstance(content, dict) or cast(dict[str, Any], content).get("format") != FORMAT:
            raise DataError(f"'{directory}' is not a store: its {MANIFEST} is of something else")
        content = cast(dict[str, Any], content)
        if content.get("version") != VERSION:
            raise DataError(
                f"store '{directory}' has version {content.get('version')}, this alt_ros reads "
                f"{VERSION}: write the store again"
            )
        try:
            manifest = cls(
                names=tuple(str(name) for name in content["names"]),
                sources=tuple(str(source) for source in content["sources"]),
                success=tuple(None if s is None else bool(s) for s in content["success"]),
                layout=ActionLayout(
                    arms=int(content["layout"]["arms"]), extra=int(content["layout"]["extra"])
                ),
                sizes={
                    str(view): (int(content["sizes"][view][0]), int(content["sizes"][view][1]))
                    for view in content["views"]
                },
                arms=int(content["arms"]),
                state_size=int(content["state_size"]),
                period=int(content["period_ns"]),
                frames=int(content["frames"]),
                sha256={str(key): str(value) for key, value in content["sha256"].items()},
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, DataError) as error:
            raise DataError(
                f"store '{directory}': {MANIFEST} is damaged ({type(error).__name__}: "
                f"{in_one_line(error)}): write the store again"
            ) from error
        counts = {len(manifest.names), len(manifest.sources), len(manifest.success)}
        if counts != {len(manifest.names)} or 0 in counts or not manifest.sizes:
            raise DataError(
                f"store '{directory}': {MANIFEST} must list one name, source and success per "
                f"demonstration and a view, it lists {sorted(counts)}: write the store again"
            )
        return manifest


class _ArrayWriter:
    """A .npy file that grows along its first axis."""

    def __init__(self, file: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
        self.path, self._dtype, self._shape = file, np.dtype(dtype), shape
        self.rows = 0
        self._file: BinaryIO = file.open("xb")
        self._write_header()
        self._data = self._file.tell()

    def append(self, rows: Array) -> None:
        """Append rows (n, ...) of the file's shape."""
        if rows.shape[1:] != self._shape:
            raise ValueError(f"{self.path.name} takes rows of {self._shape}, got {rows.shape[1:]}")
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self.rows += len(rows)

    def finish(self) -> None:
        """Write the final shape into the header and everything to the disk."""
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._data:  # numpy leaves room for the first axis to grow
            raise ValueError(f"{self.path.name}: header grew")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Close the file, complete or not."""
        with suppress(OSError):  # of a full disk, which whoever wrote was told
            self._file.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.rows, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


class _StoreWriter:
    """Appends demonstrations to the arrays of a store."""

    def __init__(self, directory: Path, target: Path, image_size: tuple[int, int] | None) -> None:
        self._directory, self._target, self._image_size = directory, target, image_size
        self._arrays: dict[str, _ArrayWriter] = {}
        self._first: Demonstration | None = None
        self._first_sizes: Mapping[str, tuple[int, int]] = {}
        self._first_period = 0
        self._names: dict[str, int] = {}
        self._sources: list[str] = []
        self._success: list[bool | None] = []
        self._ends: list[int] = []
        self._steps: list[NDArray[np.int64]] = []

    def append(self, demonstration: Demonstration) -> None:
        """Write one demonstration."""
        sizes = self._sizes(demonstration)
        if demonstration.name in self._names:
            raise DataError(
                f"store '{self._target}': demonstrations {self._names[demonstration.name]} and "
                f"{len(self._names)} are both named '{demonstration.name}': names must differ"
            )
        if self._first is None:
            self._create(demonstration, sizes)
            self._first = _without_frames(demonstration)
            self._first_sizes, self._first_period = sizes, demonstration.period
        else:
            self._check_fit(self._first, demonstration, sizes)
        rows = {
            "stamps": demonstration.stamps,
            "poses": demonstration.poses,
            "grippers": demonstration.grippers,
            "state": demonstration.state,
            "actions": demonstration.actions,
        }
        for key, values in rows.items():
            self._arrays[key].append(np.asarray(values))
        for view, frames in demonstration.images.items():
            array = self._arrays[_image_key(view)]
            for frame in frames:
                array.append(resize_image(np.asarray(frame), *sizes[view])[None])
        self._names[demonstration.name] = len(self._names)
        self._sources.append(demonstration.source)
        self._success.append(demonstration.success)
        self._ends.append(self._arrays["stamps"].rows)
        self._steps.append(np.diff(demonstration.stamps))

    def finish(self) -> None:
        """Complete the files and write the manifest, last."""
        if self._first is None:
            raise DataError(f"store '{self._target}' needs at least one demonstration, got none")
        ends = _ArrayWriter(self._directory / _file_name("episode_ends"), np.int64, ())
        self._arrays["episode_ends"] = ends
        ends.append(np.asarray(self._ends, dtype=np.int64))
        for array in self._arrays.values():
            array.finish()
        steps = np.concatenate(self._steps)
        images = {_image_key(view) for view in self._first_sizes}
        _Manifest(
            names=tuple(self._names),
            sources=tuple(self._sources),
            success=tuple(self._success),
            layout=self._first.layout,
            sizes=self._first_sizes,
            arms=self._first.poses.shape[1],
            state_size=self._first.state.shape[1],
            period=int(np.median(steps)) if len(steps) else 0,
            frames=self._ends[-1],
            sha256={k: _sha256(a.path) for k, a in self._arrays.items() if k not in images},
        ).write(self._directory)

    def close(self) -> None:
        """Close every file, complete or not."""
        for array in self._arrays.values():
            array.close()

    def _sizes(self, demonstration: Demonstration) -> dict[str, tuple[int, int]]:
        return {
            view: self._image_size or (frames.shape[1], frames.shape[2])
            for view, frames in demonstration.images.items()
        }

    def _create(self, first: Demonstration, sizes: Mapping[str, tuple[int, int]]) -> None:
        arms = first.poses.shape[1]
        shapes: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
            "stamps": (np.int64, ()),
            "poses": (np.float64, (arms, POSE_SIZE)),
            "grippers": (np.float64, (arms,)),
            "state": (np.float64, (first.state.shape[1],)),
            "actions": (np.float64, (first.layout.size,)),
            **{_image_key(view): (np.uint8, (*size, 3)) for view, size in sizes.items()},
        }
        for key, (dtype, shape) in shapes.items():
            file = self._directory / _file_name(key)
            self._arrays[key] = _ArrayWriter(file, dtype, shape)

    def _check_fit(
        self,
        first: Demonstration,
        other: Demonstration,
        sizes: Mapping[str, tuple[int, int]],
    ) -> None:
        same: list[tuple[str, object, object, str]] = [
            ("views", sorted(self._first_sizes), sorted(sizes), "choose the views when reading"),
            ("image sizes", self._first_sizes, sizes, "pass an image size"),
            ("action layouts", _columns(first.layout), _columns(other.layout), ""),
            ("numbers of arms", first.poses.shape[1], other.poses.shape[1], ""),
            ("state sizes", first.state.shape[1], other.state.shape[1], ""),
        ]
        for what, wanted, got, remedy in same:
            if got != wanted:
                raise DataError(
                    f"store '{self._target}': {what} must be the same, '{first.name}' has "
                    f"{wanted}, '{other.name}' has {got}: {remedy or 'write them into two stores'}"
                )
        # A demonstration of a single frame has no period.
        expected, period = self._first_period, other.period
        if expected and period and abs(period - expected) > PERIOD_TOLERANCE * expected:
            raise DataError(
                f"store '{self._target}': periods must agree within {PERIOD_TOLERANCE:.0%}, "
                f"'{first.name}' has {expected / 1e6:.1f} ms, '{other.name}' has "
                f"{period / 1e6:.1f} ms: write them into two stores"
            )


def _without_frames(demonstration: Demonstration) -> Demonstration:
    """Return the first frame only, as a copy, so that the images can be freed."""
    return Demonstration(
        name=demonstration.name,
        stamps=demonstration.stamps[:1].copy(),
        images={view: frames[:1].copy() for view, frames in demonstration.images.items()},
        poses=demonstration.poses[:1].copy(),
        grippers=demonstration.grippers[:1].copy(),
        state=demonstration.state[:1].copy(),
        actions=demonstration.actions[:1].copy(),
        layout=demonstration.layout,
    )


def _columns(layout: ActionLayout) -> str:
    return f"{layout.size} columns (arms={layout.arms}, extra={layout.extra})"


def _image_key(view: str) -> str:
    # A view may be named after a topic; a file name holds no slash.
    return f"images_{quote(view, safe='')}"


def _file_name(key: str) -> str:
    return f"{key}.npy"


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_replaceable(target: Path) -> None:
    """Require that nothing but a store, or an empty directory, would be replaced."""
    try:
        if not target.exists() or is_store(target):
            return
        if target.is_dir() and not any(target.iterdir()):
            return
    except OSError as error:
        raise DataError(f"store '{target}' cannot be looked at: {in_one_line(error)}") from error
    raise DataError(
        f"'{target}' exists and is not a store, it is left as it is: "
        "choose another path or move it away"
    )


@contextmanager
def _temporary_sibling(target: Path) -> Generator[Path, None, None]:
    """Give a new, locked directory beside the target; remove it unless it was renamed.

    The lock tells a directory being written from one whose writer was killed: those are removed.
    """
    temporary = target.parent / f".{target.name}.writing-{uuid.uuid4().hex[:8]}"
    lock = -1
    try:
        with _write_errors(target, 0):
            target.parent.mkdir(parents=True, exist_ok=True)
            for stale in target.parent.glob(f".{target.name}.writing-*"):
                _remove_if_abandoned(stale)
            temporary.mkdir()
            lock = os.open(temporary, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def _remove_if_abandoned(directory: Path) -> None:
    lock = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(lock)


def _rename_into_place(temporary: Path, target: Path) -> None:
    """Rename the complete store to its name; the one that was there goes afterwards."""
    # Someone may have put something else there while the store was being written.
    _check_replaceable(target)
    if not target.exists():
        temporary.rename(target)
        return
    replaced = target.parent / f".{target.name}.replaced-{uuid.uuid4().hex[:8]}"
    target.rename(replaced)
    try:
        temporary.rename(target)
    except OSError:
        replaced.rename(target)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def _write_errors(target: Path, written: int) -> Generator[None, None, None]:
    """Turn an operating system's error while writing into one that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DependencyError(
                f"store '{target}': the disk is full after {written} demonstrations, "
                f"{_free_megabytes(target):.0f} MB are free: free some, write elsewhere or pass "
                "a smaller image size"
            ) from error
        raise DataError(f"store '{target}' cannot be written: {in_one_line(error)}") from error


def _free_megabytes(target: Path) -> float:
    existing = next(p for p in (target, *target.parents) if p.exists())
    return shutil.disk_usage(existing).free / 1e6
