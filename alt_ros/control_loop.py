"""A thread that ticks at a fixed rate on the monotonic clock, as punctually as the system permits.

Deadlines are absolute: a late tick does not shift those after it, and deadlines that have passed
are skipped, not caught up with. Real-time scheduling and locked memory are asked for and what was
got is said; without the permission the loop runs as an ordinary thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alt_ros.errors import ConfigurationError
from alt_ros.types import NANOSECONDS

# Linux: what has been touched stays in memory; without ONFAULT every thread's stack is filled.
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
# The loop wakes this much early, for the time that other threads may keep the interpreter's lock,
# and waits for the deadline with the lock in hand, ns; never more than a tenth of the period.
_EARLY = 800_000
# A thread that is asked for the lock gives it up after this time, seconds.
_SWITCH_INTERVAL = 0.00001


@dataclass(frozen=True)
class Lateness:
    """How late the last ticks were, milliseconds."""

    p50: float
    p99: float
    p999: float
    worst: float
    ticks: int
    missed: int


def enter_realtime(priority: int) -> str:
    """Ask for SCHED_FIFO and locked memory for this process; return what was got.

    All threads that there are get it, and later ones inherit it. The interpreter's lock is why: a
    thread that holds it and is kept off the processor would keep the control loop waiting.

    Args:
        priority: 1 (lowest) to 98; the control loop takes the one above. 0 asks for nothing.
    """
    if priority == 0:
        return "ordinary scheduling: not asked for more"
    got: list[str] = []
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(priority))
        got.append(f"SCHED_FIFO {priority}")
    except (AttributeError, OSError) as error:  # another system, or no permission
        got.append(f"ordinary scheduling ({_why(error)}; needs rtprio in limits.conf)")
    got.append(_lock_memory())
    return ", ".join(got)


def _lock_memory() -> str:
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        if limit != resource.RLIM_INFINITY and os.geteuid() != 0:
            # It could succeed now and fail at a later allocation, in the middle of a motion.
            return f"memory not locked (limit {limit // 1024} kB; needs memlock in limits.conf)"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
            return f"memory not locked ({os.strerror(ctypes.get_errno())})"
    except (ImportError, AttributeError, OSError) as error:
        return f"memory not locked ({_why(error)})"
    return "memory locked"


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _sleep_until(deadline: int, early: int) -> None:
    wait = deadline - early - time.monotonic_ns()
    if wait > 0:
        time.sleep(wait / NANOSECONDS)
    while time.monotonic_ns() < deadline:
        pass


class ControlLoop:
    """Calls a function once per period from a thread of its own.

    Args:
        period: ns.
        tick: Called with the deadline that it stands for, ns of ``time.monotonic_ns``. What it
            raises ends the loop and is given to ``failed``.
        failed: Called from the loop's thread with the error that ended it.
        priority: SCHED_FIFO priority of the thread, where the process was permitted any; 0 for
            none.
        samples: How many latenesses are kept.

    Raises:
        ConfigurationError: The period is not positive.
    """

    def __init__(
        self,
        period: int,
        tick: Callable[[int], None],
        failed: Callable[[BaseException], None],
        *,
        priority: int = 0,
        samples: int = 6_000,
    ) -> None:
        if period <= 0:
            raise ConfigurationError(f"control period must be positive, got {period} ns")
        self._period = period
        self._tick = tick
        self._failed = failed
        self._priority = priority
        self._late = np.zeros(samples, np.int64)  # a ring: reading it must not delay a tick
        self._ticks = 0
        self._missed = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin to tick; the interpreter's threads take turns more often from here on."""
        sys.setswitchinterval(_SWITCH_INTERVAL)
        gc.collect()
        gc.freeze()  # what is loaded by now stays: later collections need not look at it
        self._thread.start()

    def stop(self) -> None:
        """End after the tick in progress; returns when it has ended."""
        self._stopping.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join()

    def lateness(self) -> Lateness:
        """Return how late the last ticks began, NaN before there is one."""
        late = self._late[: self._ticks] / 1e6
        if not len(late):
            nan = float("nan")
            return Lateness(nan, nan, nan, nan, 0, 0)
        p50, p99, p999 = np.percentile(late, [50.0, 99.0, 99.9])
        worst = float(late.max())
        return Lateness(float(p50), float(p99), float(p999), worst, len(late), self._missed)

    def _run(self) -> None:
        if self._priority:
            with contextlib.suppress(AttributeError, OSError):  # enter_realtime has said it
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(self._priority))
        try:
            self._loop()
        except BaseException as error:
            self._failed(error)

    def _loop(self) -> None:
        early = min(_EARLY, self._period // 10)
        deadline = time.monotonic_ns() + self._period
        while not self._stopping.is_set():
            _sleep_until(deadline, early)
            late = time.monotonic_ns() - deadline
            if late >= self._period:
                skipped = late // self._period
                self._missed += skipped
                deadline += skipped * self._period
            if self._stopping.is_set():
                break
            self._late[self._ticks % len(self._late)] = late
            self._ticks += 1
            self._tick(deadline)
            deadline += self._period
