"""The console's viewers are real, slow, and counted in the spans that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alt_ros.benchmarks.executor import FIGURES
from alt_ros.errors import AltError


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ticks_are_measured_with_and_without_viewers(tmp_path: Path):
    pytest.importorskip("rclpy", reason="CONSOLE NOT MEASURED: rclpy is not installed")
    from alt_ros.benchmarks.console import measure_console

    steps: list[tuple[int, int]] = []

    def measure(folder: Path) -> dict[str, Any]:
        steps.clear()
        return measure_console(
            folder,
            seconds=2.0,
            spans=1,
            viewers=3,
            priority=0,
            progress=lambda *step: steps.append(step),
        )

    try:
        values = measure(tmp_path / "first")
    except AltError as error:  # the watchdog is right where a shared machine stands still
        if "no pose of the arm" not in str(error):
            raise
        values = measure(tmp_path / "second")
    assert steps == [(1, 2), (2, 2)]
    assert values["scheduling"].startswith("ordinary scheduling")
    (alone,), (watched,) = values["alone"], values["watched"]
    for figures in (alone, watched):
        assert 150 <= figures["ticks"] <= 600, "of its own span"
    for name in FIGURES:
        ratio = watched[name] / max(alone[name], 1e-6)
        assert values["ratio"][name]["lowest"] == pytest.approx(ratio, abs=1e-3)
