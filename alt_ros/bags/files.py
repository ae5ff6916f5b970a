"""Which files a bag has, in which order, and which of them lack their end."""

from __future__ import annotations

import os
from pathlib import Path

MCAP_MAGIC = b"\x89MCAP0\r\n"
SQLITE_MAGIC = b"SQLite format 3\x00"
_SQLITE_HEADER = 100


def is_bag(path: Path) -> bool:
    """Return whether the path is a rosbag2 folder or file."""
    if path.is_file():
        return path.suffix in (".mcap", ".db3")
    return path.is_dir() and ((path / "metadata.yaml").is_file() or bool(bag_files(path)))


def find_bags(path: Path) -> list[Path]:
    """Return the bags at a path: itself, or those in the folder, by name."""
    if is_bag(path):
        return [path]
    return sorted(entry for entry in path.iterdir() if is_bag(entry)) if path.is_dir() else []


def bag_files(path: Path) -> list[Path]:
    """Return a bag's files in the order in which they were recorded."""
    if not path.is_dir():
        return [path]
    found = (*path.glob("*.mcap"), *path.glob("*.db3"))
    return sorted((file for file in found if file.is_file()), key=lambda f: (len(f.name), f))


def bag_parts(path: Path) -> list[Path]:
    """Return what to read one after the other: the bag, or its files where it was not closed."""
    if not path.is_dir():
        return [path]
    files = bag_files(path)
    closed = (path / "metadata.yaml").is_file() and not any(map(is_cut_off, files))
    return [path] if closed or not files else files


def is_cut_off(path: Path) -> bool:
    """Return whether a file lacks its end: its recorder or its copy was broken off."""
    return is_cut_mcap(path) or is_cut_sqlite(path)


def is_cut_mcap(path: Path) -> bool:
    """Return whether a file is an MCAP without its end: its recorder was killed, or is at work."""
    if path.suffix != ".mcap" or not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(len(MCAP_MAGIC))
        if path.stat().st_size <= len(MCAP_MAGIC):
            return MCAP_MAGIC.startswith(start)
        stream.seek(-len(MCAP_MAGIC), os.SEEK_END)
        return start == MCAP_MAGIC != stream.read()


def is_cut_sqlite(path: Path) -> bool:
    """Return whether a file is an SQLite database that is shorter than its header says."""
    if path.suffix != ".db3" or not is_sqlite(path):
        return False
    with path.open("rb") as stream:
        header = stream.read(_SQLITE_HEADER)
    if len(header) < _SQLITE_HEADER:
        return True
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    if header[24:28] != header[92:96]:  # an old writer did not keep the count
        return False
    return path.stat().st_size < pages * (65_536 if page == 1 else page)


def is_sqlite(path: Path) -> bool:
    """Return whether a file begins as an SQLite database does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
