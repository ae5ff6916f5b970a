"""Every drill of the catalogue on the running graph: `pytest -k "camera freezes"` runs some."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alt_ros.benchmarks.drill_result import FAILED, PASSED
from alt_ros.benchmarks.drill_rig import NODES
from alt_ros.benchmarks.fault_catalogue import DRILLS, FAULT, After, Drill, World
from alt_ros.benchmarks.faults import Rigs, run_drill
from alt_ros.errors import AltError, DependencyError


@pytest.fixture(scope="module")
def rigs(
    ros_environment: dict[str, str],
    small_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Rigs]:
    with Rigs(small_bundle, tmp_path_factory.mktemp("drills"), ros_environment) as rigs:
        yield rigs


@pytest.mark.timeout(120)
def test_an_unknown_stream_or_kind_is_refused_with_those_that_exist(
    rigs: Rigs,
) -> None:
    console = rigs.of(World.SIMULATED).console
    with pytest.raises(AltError, match="streams are .*eef_pose"):
        console.damage("fault_injector", "nonsense", "stop")
    with pytest.raises(AltError, match="kinds are .*freeze"):
        console.damage("fault_injector", "eef_pose", "nonsense")


@pytest.mark.timeout(120)
def test_a_drill_that_comes_out_otherwise_than_declared_fails(
    rigs: Rigs,
) -> None:
    drill = next(drill for drill in DRILLS if drill.name == "wrist camera unplugged")
    rig = rigs.of(World.SIMULATED)
    result = rig.run(replace(drill, response=FAULT, refusal=""))
    assert result.verdict == FAILED
    assert "holding: no observation" in result.trouble
    result = rig.run(replace(drill, limit_ms=100))
    assert result.verdict == FAILED
    assert "declared are 100 ms" in result.trouble
    result = rig.run(replace(drill, after=After.LATCHED, seconds=0.6))
    assert result.verdict == FAILED
    assert "went on by itself" in result.trouble


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_the_graph_answers_as_declared(rigs: Rigs, drill: Drill) -> None:
    try:
        result = run_drill(lambda: rigs.of(drill.world), drill, rigs.close)
    except DependencyError as error:
        pytest.skip(f"DRILL NOT RUN: {error}")
    assert result.verdict == PASSED, result.trouble  # pytest would shorten the whole
    assert result.commands > 0
    assert result.violations == {}


RUN = """
import sys
from pathlib import Path
from alt_ros.benchmarks.faults import run_faults
bundle, folder = map(Path, sys.argv[1:])
run_faults(bundle, folder, only=["executor starved"], progress=lambda done, total: None)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="NOT TESTED: needs /proc")
@pytest.mark.timeout(120)
def test_a_killed_run_leaves_no_process(
    ros_environment: dict[str, str], small_bundle: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", RUN, str(small_bundle), str(tmp_path)]
    run = subprocess.Popen(command, cwd=tmp_path, env=ros_environment)
    listed = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    deadline = time.monotonic() + 60.0
    while len(children := listed.read_text(encoding="ascii").split()) < len(NODES):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.kill()
    run.wait()
    deadline = time.monotonic() + 10.0
    while left := [c for c in children if Path(f"/proc/{c}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
