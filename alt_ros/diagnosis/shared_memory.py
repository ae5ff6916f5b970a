"""/dev/shm: room for images, and segments that dead processes left in it.

A Fast DDS participant holds an exclusive ``flock`` on ``fastdds_ID_el`` while it lives; the kernel
drops the lock with the process. A segment whose lock file nobody holds belongs to nobody.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alt_ros.diagnosis.finding import Finding

GROUP = "DDS"
FOLDER = Path("/dev/shm")
SHARED_MEMORY_MIB = 512
# A participant that is being born has made its lock file and not locked it yet.
YOUNG_SECONDS = 10.0
SEGMENT = re.compile(r"(?P<name>fastdds_[0-9a-f]{16})(?P<lock>_el)?")
TOLD = 3


@dataclass(frozen=True)
class Stale:
    """A segment that no process holds.

    Attributes:
        name: File in /dev/shm.
        size: Memory that it takes, bytes.
    """

    name: str
    size: int


def examine_shared_memory() -> Iterator[Finding]:
    """Yield the room in shared memory and what was left in it."""
    if not FOLDER.is_dir():
        remedy = "mount a tmpfs there (docker: --shm-size 1g)"
        yield Finding("shared memory", False, f"{FOLDER} is not there", remedy, False, GROUP)
        return
    free = shutil.disk_usage(FOLDER).free >> 20
    enough = free >= SHARED_MEMORY_MIB
    remedy = f"give {FOLDER} {SHARED_MEMORY_MIB} MiB (docker: --shm-size 1g)"
    detail = f"{free} MiB free"
    yield Finding("shared memory", enough, detail, "" if enough else remedy, False, GROUP)
    yield judge_stale(stale_segments())


def stale_segments(now: float | None = None) -> list[Stale]:
    """Return the segments that no process holds, largest first.

    Args:
        now: Seconds of ``time.time``.
    """
    now = time.time() if now is None else now
    found: list[Stale] = []
    locks: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    for file in FOLDER.iterdir():
        match = SEGMENT.fullmatch(file.name)
        if match is None:
            continue
        try:
            status = file.stat()
        except OSError:  # gone meanwhile
            continue
        if match["lock"]:
            if now - status.st_mtime > YOUNG_SECONDS:
                locks[match["name"]] = file
        else:
            sizes[match["name"]] = status.st_blocks * 512
    for name, lock in locks.items():
        if _is_free(lock):
            found.append(Stale(name, sizes.get(name, 0)))
    return sorted(found, key=lambda stale: (-stale.size, stale.name))


def _is_free(lock: Path) -> bool:
    """Return whether nobody holds the lock; false where that cannot be told."""
    try:
        import fcntl

        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def judge_stale(stale: list[Stale]) -> Finding:
    """Name the segments that were left, and how to clear them."""
    subject = "stale segments"
    if not stale:
        return Finding(subject, True, "none", required=False, group=GROUP)
    names = ", ".join(s.name for s in stale[:TOLD])
    more = f" and {len(stale) - TOLD} more" if len(stale) > TOLD else ""
    size = sum(s.size for s in stale) / (1 << 20)
    detail = f"{len(stale)} that no process holds, {size:.1f} MiB: {names}{more}"
    # flock takes only a lock that nobody holds, so what lives is left alone.
    remedy = f'for f in {FOLDER}/fastdds_[0-9a-f]*_el; do flock -n "$f" rm "$f" "${{f%_el}}"; done'
    return Finding(subject, False, detail, remedy, False, GROUP)
