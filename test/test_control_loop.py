"""The control loop on the real clock: what it promises without saying how fast the machine is."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from alt_ros.control_loop import ControlLoop, enter_realtime
from alt_ros.errors import ConfigurationError

PERIOD = 5_000_000


class Ticks:
    """What a loop did."""

    def __init__(self, action=lambda deadline: None) -> None:
        self.deadlines: list[int] = []
        self.began: list[int] = []
        self.threads: set[str] = set()
        self.errors: list[BaseException] = []
        self._action = action

    def tick(self, deadline: int) -> None:
        self.began.append(time.monotonic_ns())
        self.deadlines.append(deadline)
        self.threads.add(threading.current_thread().name)
        self._action(deadline)

    def run(self, seconds: float) -> ControlLoop:
        loop = ControlLoop(PERIOD, self.tick, self.errors.append)
        loop.start()
        time.sleep(seconds)
        loop.stop()
        return loop


def test_deadlines_lie_on_one_grid_and_no_tick_is_early():
    ticks = Ticks()
    loop = ticks.run(0.3)
    steps = np.diff(ticks.deadlines)
    assert len(steps) > 5
    assert (steps % PERIOD == 0).all()
    assert (steps > 0).all()
    assert all(
        began >= deadline for began, deadline in zip(ticks.began, ticks.deadlines, strict=True)
    )
    assert ticks.threads == {"control"}
    assert loop.lateness().ticks == len(ticks.deadlines)
    assert ticks.errors == []


def test_a_long_tick_skips_deadlines_and_does_not_shift_the_later_ones():
    slept: list[int] = []

    def once(deadline: int) -> None:
        if not slept:
            slept.append(deadline)
            time.sleep(0.05)

    ticks = Ticks(once)
    loop = ticks.run(0.3)
    steps = np.diff(ticks.deadlines)
    assert (steps % PERIOD == 0).all()
    assert steps[0] >= 10 * PERIOD - PERIOD
    assert loop.lateness().missed >= 9
    assert loop.lateness().missed == (steps // PERIOD - 1).sum()


def test_nothing_ticks_after_stop_has_returned():
    ticks = Ticks(lambda deadline: time.sleep(0.02))
    ticks.run(0.1)
    count = len(ticks.began)
    time.sleep(0.1)
    assert len(ticks.began) == count > 0


def test_an_error_ends_the_loop_and_is_handed_over():
    def breaks(deadline: int) -> None:
        raise RuntimeError("broken")

    ticks = Ticks(breaks)
    ticks.run(0.1)
    assert [str(error) for error in ticks.errors] == ["broken"]
    assert len(ticks.began) == 1


def test_a_loop_can_be_stopped_from_its_own_tick():
    loops: list[ControlLoop] = []
    ticks = Ticks(lambda deadline: loops[0].stop())
    loops.append(ControlLoop(PERIOD, ticks.tick, ticks.errors.append))
    loops[0].start()
    time.sleep(0.1)
    assert len(ticks.began) == 1
    assert ticks.errors == []


def test_without_a_tick_there_is_no_lateness():
    late = ControlLoop(PERIOD, lambda deadline: None, print).lateness()
    assert math.isnan(late.p99)
    assert (late.ticks, late.missed) == (0, 0)


@pytest.mark.parametrize("period", [0, -1])
def test_a_period_that_is_none_is_refused(period):
    with pytest.raises(ConfigurationError, match="positive"):
        ControlLoop(period, lambda deadline: None, print)


def said_by(statements: str, **options) -> str:
    """Run in a process of its own: real-time scheduling would outlive the test."""
    code = f"from alt_ros.control_loop import enter_realtime\n{statements}"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **options
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_priority_zero_asks_for_nothing():
    before = sys.getswitchinterval()
    try:
        assert enter_realtime(0) == "ordinary scheduling: not asked for more"
    finally:
        sys.setswitchinterval(before)


def test_what_it_says_is_what_the_kernel_says():
    code = (
        "import os, threading\n"
        "stay = threading.Event()\n"
        "threading.Thread(target=stay.wait, daemon=True).start()\n"
        "print(enter_realtime(10))\n"
        "print({os.sched_getscheduler(int(t)) for t in os.listdir('/proc/self/task')})\n"
        "print(open('/proc/self/status').read())\n"
    )
    said, policies, *status = said_by(code).splitlines()
    fifo = policies == str({os.SCHED_FIFO})
    assert ("SCHED_FIFO 10" in said) == fifo
    assert ("ordinary scheduling" in said) != fifo
    locked = next(int(line.split()[1]) for line in status if line.startswith("VmLck"))
    assert said.endswith("memory locked") == (locked > 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root can take a right away")
def test_without_permission_it_runs_as_an_ordinary_process_and_says_so():
    code = (
        "import os, resource\n"
        "resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "print(enter_realtime(10))\n"
    )
    said = said_by(code, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert said.startswith("ordinary scheduling (Operation not permitted")
    assert "memory not locked (limit 64 kB" in said
