"""How punctual the executor is: its ticks beside a bare loop on absolute deadlines, in one run.

The executor node runs as on a robot, on the system's clock, and streams commands for poses, flags
and chunks that come at a robot's rates. The bare loop is another process with the same rate and
the same scheduling that does nothing but sleep; both see the same load at the same time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.control_loop import enter_realtime
from alt_ros.errors import AltError
from alt_ros.progress import Advance
from alt_ros.report import machine

FIGURES = ("p50", "p99", "p999", "worst")
_BARE = """
import json, sys
from alt_ros.benchmarks.executor import bare_loop
print(json.dumps(bare_loop(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))))
"""
HOME = np.array([0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])


def measure_executor(
    log_folder: Path,
    *,
    seconds: float,
    runs: int,
    rate: float,
    priority: int,
    progress: Advance,
) -> dict[str, Any]:
    """Measure tick lateness, idle and with every core busy.

    Args:
        log_folder: Where the node's logs go.
        seconds: Length of a run; the node reports its last 6,000 ticks.
        runs: How many of either kind.
        rate: Commands a second.
        priority: SCHED_FIFO priority asked for, by both; 0 asks for none.
        progress: Called after every run.

    Returns:
        Per condition and run milliseconds p50, p99, p99.9 and worst of both loops, and the ratios;
        the medians of the ratios over the runs.

    Raises:
        AltError: The node died or did not start to send.
    """
    conditions: dict[str, list[dict[str, Any]]] = {"idle": [], "busy": []}
    done, scheduling = 0, ""
    for name, results in conditions.items():
        for run in range(runs):
            with busy_cores(os.cpu_count() or 1 if name == "busy" else 0):
                folder = log_folder / f"{name}_{run}"
                executor, bare, scheduling = _run(folder, seconds, rate, priority)
            ratios = {f: round(executor[f] / max(bare[f], 1e-6), 3) for f in FIGURES}
            results.append({"executor_ms": executor, "bare_ms": bare, "ratio": ratios})
            done += 1
            progress(done, 2 * runs)
    return {
        "rate_hz": rate,
        "seconds": seconds,
        "scheduling": scheduling,
        **conditions,
        "median_ratio": {
            name: {f: float(np.median([r["ratio"][f] for r in results])) for f in FIGURES}
            for name, results in conditions.items()
        },
        "machine": machine(),
    }


@contextmanager
def busy_cores(count: int) -> Generator[None]:
    """Keep ``count`` processes computing at ordinary priority."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
            )
            stack.callback(process.kill)
        yield


def _run(
    folder: Path, seconds: float, rate: float, priority: int
) -> tuple[dict[str, float], dict[str, float], str]:
    from alt_ros.nodes import graph as ros_graph

    variables = ros_graph.environment(local_domain=20 + os.getpid() % 80)
    os.environ.update(variables)
    from alt_ros.nodes.executor_probe import ExecutorProbe
    from alt_ros.nodes.operator import Operator

    parameters = {"control_rate": rate, "realtime_priority": priority}
    with (
        ros_graph.Graph(folder, variables, [ros_graph.share() / "config" / "alt.yaml"]) as graph,
        Operator(graph.check) as operator,
    ):
        ExecutorProbe(operator.node, HOME)
        graph.start("executor", parameters)
        operator.wait_for("arming", lambda: operator.call("alt/arm").success, 20.0)
        bare = subprocess.Popen(
            [sys.executable, "-c", _BARE, str(rate), str(seconds), str(priority)],
            stdout=subprocess.PIPE,
        )
        try:
            output, _ = bare.communicate(timeout=seconds + 60.0)
        finally:
            bare.kill()
        if bare.returncode != 0:
            raise AltError(f"bare loop ended with status {bare.returncode}")
        if operator.state.state != "running":
            raise AltError(f"executor is {operator.state.state}: {operator.state.reason}")
        asked = time.monotonic()
        values = operator.wait_for(
            "diagnostics of the executor",
            lambda: operator.diagnostics_since("alt: executor", asked) or {},
            10.0,
        )
    executor = {f: float(values[f"tick lateness {f} [ms]"]) for f in FIGURES}
    executor["ticks"], executor["missed"] = int(values["ticks"]), int(values["ticks missed"])
    return executor, json.loads(output), str(values["scheduling"])


def bare_loop(rate: float, seconds: float, priority: int) -> dict[str, float]:
    """Sleep until one absolute deadline after the other; return how late it woke, ms."""
    enter_realtime(priority + 1 if priority else 0)  # that of the executor's control thread
    period = round(1e9 / rate)
    late: list[int] = []
    deadline = time.monotonic_ns() + period
    for _ in range(round(rate * seconds)):
        time.sleep(max(deadline - time.monotonic_ns(), 0) / 1e9)
        late.append(time.monotonic_ns() - deadline)
        deadline += period
    return lateness_figures(late)


def lateness_figures(late: Sequence[int]) -> dict[str, float]:
    """Return p50, p99, p99.9 and worst of latenesses in ns, as milliseconds."""
    values = np.array(late, dtype=np.float64) / 1e6
    percentiles = np.percentile(values, [50.0, 99.0, 99.9, 100.0])
    return {name: round(float(v), 4) for name, v in zip(FIGURES, percentiles, strict=True)}
