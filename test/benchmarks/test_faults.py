from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from alt_ros.benchmarks import fake_clock
from alt_ros.benchmarks.drill_result import (
    FAILED,
    NOT_RUN,
    PASSED,
    DrillResult,
    not_run,
    read_result,
    totals,
)
from alt_ros.benchmarks.drill_rig import INJECTORS, NODES
from alt_ros.benchmarks.fake_clock import FakeClock
from alt_ros.benchmarks.fault_catalogue import (
    COPES,
    DRILLS,
    FAULT,
    HOLDING,
    RUNNING,
    SILENT,
    STOPPED,
    Action,
    After,
)
from alt_ros.benchmarks.faults import run_drill, run_faults
from alt_ros.benchmarks.soak import growth, resident_kb, run_soak
from alt_ros.errors import AltError, ConfigurationError, DependencyError


def nothing(done: int, total: int) -> None:
    return


def test_the_catalogue_holds_enough_drills_of_different_names():
    assert len(DRILLS) >= 25
    assert len({drill.name for drill in DRILLS}) == len(DRILLS)


class Told:
    """A rig whose drills come out as told, in turn."""

    def __init__(self, *results: DrillResult) -> None:
        self.results = list(results)

    def run(self, drill: object) -> DrillResult:
        return self.results.pop(0)


GOOD = replace(not_run(DRILLS[0], ""), verdict=PASSED, trouble="")
BAD = replace(GOOD, verdict=FAILED, trouble="nothing came")
UNSAFE = replace(BAD, violations={"workspace": 1})


@pytest.mark.parametrize(
    ("outcomes", "verdict", "first", "ended"),
    [
        ([GOOD], PASSED, "", 0),
        ([BAD, GOOD], PASSED, "nothing came", 1),
        ([BAD, BAD], FAILED, "nothing came", 2),
        ([UNSAFE], FAILED, "", 1),
    ],
)
def test_a_drill_that_failed_is_run_once_more_on_a_graph_started_anew(
    outcomes, verdict, first, ended
):
    graphs = [Told(result) for result in outcomes]
    ends: list[Told] = []
    result = run_drill(lambda: graphs[0], DRILLS[0], lambda: ends.append(graphs.pop(0)))
    assert (result.verdict, result.first_trouble, len(ends)) == (verdict, first, ended)


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_every_drill_declares_what_can_be_measured(drill):
    assert drill.what
    assert drill.response in (RUNNING, HOLDING, STOPPED, FAULT, SILENT, COPES)
    if drill.response in (RUNNING, COPES):
        assert drill.limit_ms == 0
        assert drill.seconds > 0
    else:
        assert 0 < drill.limit_ms <= 1500
    if drill.response == RUNNING:
        assert drill.after is After.RUNS_ON
    if drill.response in (STOPPED, FAULT):
        assert drill.after is After.LATCHED
        assert drill.reason


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_every_drill_names_a_stream_or_a_node_that_is_there(drill):
    if drill.action is Action.DAMAGE:
        assert drill.on in {stream for streams in INJECTORS.values() for stream in streams}
        assert drill.kind
    elif drill.action in (Action.LOAD, Action.CLOCK):
        assert not drill.on
    else:
        assert drill.on in NODES


def test_every_node_is_killed_once():
    killed = {drill.on for drill in DRILLS if drill.action is Action.KILL}
    assert killed == set(NODES) - {"fault_injector", "policy_injector"}


def test_unknown_drill_is_refused_with_those_that_exist(tmp_path):
    with pytest.raises(ConfigurationError, match="drills are wrist camera freezes"):
        run_faults(tmp_path, tmp_path, only=["nonsense"], progress=nothing)


def test_totals_count_verdicts_and_commands_outside_the_limits():
    drill = DRILLS[0]
    good = DrillResult(drill.name, "", "", "", PASSED, commands=100, violations={})
    bad = DrillResult(drill.name, "", "", "", commands=50, violations={"linear speed": 3})
    assert totals([good, bad, not_run(drill, "no namespaces here")]) == {
        "drills": 3,
        "passed": 1,
        "failed": 1,
        "not_run": 1,
        "commands": 150,
        "commands_outside_limits": 3,
    }


def test_a_drill_that_cannot_run_says_so_aloud():
    result = not_run(DRILLS[0], "no namespaces here")
    assert result.verdict == NOT_RUN
    assert result.trouble == "NOT RUN: no namespaces here"


def test_results_pass_through_json_unchanged():
    result = DrillResult("a", "b", "c", "d", response_ms=1.5, violations={"workspace": 1})
    assert read_result(json.dumps(asdict(result))) == result


def test_memory_growth_is_the_last_minute_against_the_second():
    samples = [500 * 1024] * 60 + [100 * 1024] * 480 + [102 * 1024] * 60
    assert growth(samples) == {"early_mb": 100.0, "late_mb": 102.0, "growth_percent": 2.0}


def test_one_peak_is_no_growth():
    assert growth([1000] * 599 + [9000])["growth_percent"] == 0.0


def test_resident_memory_is_that_of_the_process():
    own = resident_kb(os.getpid())
    with mmap.mmap(-1, 50_000_000) as held:  # not from memory that was freed before
        held.write(b"x" * 50_000_000)
        assert resident_kb(os.getpid()) - own > 40_000
    with pytest.raises((AltError, OSError)):
        resident_kb(2**22 + 1)


def test_a_soak_of_no_time_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"0\.5 minutes or more, got 0\.1"):
        run_soak(tmp_path, tmp_path, 0.1, progress=nothing)


CLOCKS = """
import sys, threading, time
def clocks():
    print(time.time_ns(), time.monotonic_ns(), flush=True)
clocks()
sys.stdin.readline()
clocks()
start = time.monotonic()
event = threading.Event()
event.wait(0.2)
time.sleep(0.2)
print(time.monotonic() - start, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: the loader is Linux's")
@pytest.mark.parametrize("seconds", [-2.0, 2.0])
def test_the_system_clock_is_set_and_the_monotonic_one_and_waits_are_not(
    tmp_path: Path, seconds: float
):
    clock = FakeClock(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", CLOCKS],
        env=os.environ | clock.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        system, steady = map(int, process.stdout.readline().split())
        clock(seconds)
        process.stdin.write("\n")
        process.stdin.flush()
        system_after, steady_after = map(int, process.stdout.readline().split())
        step = (system_after - system) - (steady_after - steady)
        assert abs(step / 1e9 - seconds) < 0.01
        assert 0.35 < float(process.stdout.readline()) < 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: the loader is Linux's")
def test_a_wait_on_the_system_clock_lasts_as_long_as_before(tmp_path: Path):
    clock = FakeClock(tmp_path)
    clock(-2.0)
    waits = """
import ctypes, time
class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]
libc = ctypes.CDLL(None)
semaphore = ctypes.create_string_buffer(64)
libc.sem_init(semaphore, 0, 0)
until = time.time_ns() + 300_000_000
start = time.monotonic()
libc.sem_timedwait(semaphore, ctypes.byref(Timespec(*divmod(until, 1_000_000_000))))
print(time.monotonic() - start)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", waits],
        env=os.environ | clock.variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.25 < float(done.stdout) < 1.0


def test_without_a_compiler_the_clock_cannot_be_set(tmp_path, monkeypatch):
    monkeypatch.setattr(fake_clock.shutil, "which", lambda _: None)
    with pytest.raises(DependencyError, match="needs a C compiler 'cc'"):
        FakeClock(tmp_path)
