from __future__ import annotations

import fcntl
import os
import subprocess
import time

import pytest

from alt_ros.diagnosis import shared_memory
from alt_ros.diagnosis.shared_memory import (
    Stale,
    examine_shared_memory,
    judge_stale,
    stale_segments,
)

HELD, LEFT, YOUNG = (f"fastdds_{digit * 16}" for digit in "0a5")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """/dev/shm with a segment that is held, one that was left and one that is being made."""
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    long_ago = time.time() - 60
    for name in (HELD, LEFT, YOUNG):
        (tmp_path / name).write_bytes(bytes(100_000))
        (tmp_path / f"{name}_el").touch()
        if name != YOUNG:
            os.utime(tmp_path / f"{name}_el", (long_ago, long_ago))
    (tmp_path / "fastdds_port7400_el").touch()
    (tmp_path / "sem.other").touch()
    with (tmp_path / f"{HELD}_el").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield tmp_path


def test_a_segment_is_stale_when_nobody_holds_its_lock(folder):
    stale = stale_segments()
    assert [s.name for s in stale] == [LEFT]
    assert stale[0].size >= 100_000
    assert stale_segments(time.time() + 60) == [*stale, Stale(YOUNG, stale[0].size)][::-1]


def test_the_remedy_clears_what_nobody_holds_and_nothing_else(folder):
    finding = judge_stale(stale_segments())
    assert not finding.ok
    assert LEFT in finding.detail
    subprocess.run(["bash", "-c", finding.remedy], check=False)
    left = {file.name for file in folder.iterdir()}
    assert {HELD, f"{HELD}_el", "fastdds_port7400_el", "sem.other"} == left


def test_only_some_of_many_are_named():
    finding = judge_stale([Stale(f"fastdds_{number:016x}", 1 << 20) for number in range(9)])
    assert "9 that no process holds, 9.0 MiB" in finding.detail
    assert "and 6 more" in finding.detail


def test_too_little_shared_memory_is_told_and_enough_needs_no_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY_MIB", 1 << 40)
    assert not next(examine_shared_memory()).ok
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY_MIB", 0)
    enough = next(examine_shared_memory())
    assert (enough.ok, enough.remedy) == (True, "")
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "absent")
    assert [finding.ok for finding in examine_shared_memory()] == [False]
