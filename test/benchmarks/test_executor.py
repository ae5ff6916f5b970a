from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from alt_ros.benchmarks.executor import FIGURES, bare_loop, busy_cores, measure_executor
from alt_ros.errors import AltError


def test_a_bare_loop_is_never_early():
    figures = bare_loop(200.0, 0.2, 0)
    assert list(figures) == list(FIGURES)
    assert 0.0 <= figures["p50"] <= figures["p99"] <= figures["worst"]


def test_busy_cores_are_busy_and_are_left_free_again():
    def children() -> str:
        task = Path(f"/proc/self/task/{os.getpid()}/children")
        return "\n".join(
            Path(f"/proc/{child}/cmdline").read_text() for child in task.read_text().split()
        )

    with busy_cores(2):
        deadline = time.monotonic() + 10.0
        while children().count("while True: pass") < 2:  # a new process has its name a bit later
            assert time.monotonic() < deadline, children()
            time.sleep(0.01)
    assert "while True" not in children()


@pytest.mark.ros
@pytest.mark.timeout(120)
def test_the_executor_streams_while_its_ticks_are_measured(tmp_path: Path):
    pytest.importorskip("rclpy", reason="EXECUTOR NOT MEASURED: rclpy is not installed")
    steps: list[tuple[int, int]] = []

    def measure(folder: Path) -> dict[str, Any]:
        steps.clear()
        return measure_executor(
            folder,
            seconds=2.0,
            runs=1,
            rate=100.0,
            priority=0,
            progress=lambda done, total: steps.append((done, total)),
        )

    try:
        values = measure(tmp_path / "first")
    except AltError as error:  # the watchdog is right where a shared machine stands still
        if "no pose of the arm" not in str(error):
            raise
        values = measure(tmp_path / "second")
    assert steps == [(1, 2), (2, 2)]
    assert values["scheduling"].startswith("ordinary scheduling")
    for condition in ("idle", "busy"):
        (run,) = values[condition]
        assert run["executor_ms"]["ticks"] >= 200
        assert all(run["ratio"][name] > 0.0 for name in FIGURES)
        assert values["median_ratio"][condition]["p99"] == run["ratio"]["p99"]
