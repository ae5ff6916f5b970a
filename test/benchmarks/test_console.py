"""The console's viewers are real, slow, and counted in the spans that they belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from alt_ros.benchmarks.executor import FIGURES


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ticks_are_measured_with_and_without_viewers(tmp_path: Path):
    pytest.importorskip("rclpy", reason="CONSOLE NOT MEASURED: rclpy is not installed")
    from alt_ros.benchmarks.console import measure_console

    steps: list[tuple[int, int]] = []
    values = measure_console(
        tmp_path,
        seconds=2.0,
        spans=1,
        viewers=3,
        priority=0,
        progress=lambda *step: steps.append(step),
    )
    assert steps == [(1, 2), (2, 2)]
    assert values["scheduling"].startswith("ordinary scheduling")
    (alone,), (watched,) = values["alone"], values["watched"]
    for figures in (alone, watched):
        assert 150 <= figures["ticks"] <= 600, "of its own span"
    for name in FIGURES:
        ratio = watched[name] / max(alone[name], 1e-6)
        assert values["ratio"][name]["lowest"] == pytest.approx(ratio, abs=1e-3)
