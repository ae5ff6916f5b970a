"""This computer's clock: whether the kernel has it kept by another one, and by what."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from alt_ros.diagnosis.finding import Finding

GROUP = "host"
# timex(7): status bit of a clock that nothing keeps, and of offsets given in ns instead of us.
STA_UNSYNC, STA_NANO = 0x0040, 0x2000
MAX_ERROR_MS = 20.0
"""A larger bound on the error lets cameras and arm of two computers lie a frame apart."""
KEEPERS = {
    "chronyd": "chrony",
    "ntpd": "ntpd",
    "systemd-timesyn": "systemd-timesyncd",  # the kernel keeps 15 characters of a name
    "phc2sys": "PTP (phc2sys)",
    "ptp4l": "PTP (ptp4l)",
}


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>; what follows ``tick`` is not read."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    ]


@dataclass(frozen=True)
class KernelClock:
    """What the kernel says about its clock.

    Attributes:
        kept: Something corrects it.
        offset: From the clock that it is kept by, ms.
        max_error: Bound on its error, ms.
    """

    kept: bool
    offset: float
    max_error: float


def kernel_clock() -> KernelClock | None:
    """Return what the kernel says; None where it cannot be asked."""
    if sys.platform != "linux":
        return None
    timex = _Timex(modes=0)  # 0 changes nothing
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    unit = 1e6 if timex.status & STA_NANO else 1e3
    kept = not timex.status & STA_UNSYNC
    return KernelClock(kept, timex.offset / unit, timex.maxerror / 1e3)


def clock_keepers() -> list[str]:
    """Return the services that run and keep clocks."""
    names: set[str] = set()
    for file in Path("/proc").glob("[0-9]*/comm"):
        try:
            names.add(file.read_text(encoding="utf-8", errors="replace").strip())
        except OSError:  # ended meanwhile
            continue
    return sorted(KEEPERS[name] for name in names & set(KEEPERS))


def judge_clock(clock: KernelClock | None, keepers: Collection[str]) -> Finding:
    """Judge whether stamps of this computer can be compared with another's."""
    subject = "clock synchronisation"
    by = ", ".join(keepers)
    remedy = (
        "sudo apt install chrony, here and on the computers of camera and arm, one of them as "
        "server; or PTP: ptp4l and phc2sys. Not needed where all drivers run here"
    )
    if clock is None:
        detail = f"the kernel cannot be asked; {by} runs" if by else "the kernel cannot be asked"
        return Finding(subject, bool(by), detail, "" if by else remedy, False, GROUP)
    if not clock.kept:
        detail = f"nothing keeps this clock{f', though {by} runs' if by else ''}"
        hint = "chronyc sources; chronyc waitsync 10 0.01" if by == "chrony" else remedy
        return Finding(subject, False, detail, hint, False, GROUP)
    detail = (
        f"kept by {by or 'what is not seen from here'}, error at most {clock.max_error:.0f} ms"
    )
    if clock.max_error > MAX_ERROR_MS and abs(clock.offset) > MAX_ERROR_MS:
        detail += f", off by {clock.offset:.0f} ms"
        return Finding(subject, False, detail, "wait until it has settled", False, GROUP)
    return Finding(subject, True, detail, required=False, group=GROUP)
