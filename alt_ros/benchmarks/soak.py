"""The whole graph in simulation, trial after trial: does it lose anything, does it grow."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.benchmarks.drill_rig import START_SECONDS, arm, disarm, reset
from alt_ros.errors import AltError, ConfigurationError
from alt_ros.progress import Advance
from alt_ros.report import machine

NODES = ("sim_bridge", "camera_sync", "encoder", "lookup", "executor", "episode_recorder")
TRIALS = 31
EPISODE_SECONDS = 8.0
ARM_SECONDS = 10.0
CONNECT_SECONDS = 30.0
# Diagnostics come once a second.
SETTLE_SECONDS = 2.5
LEAST_MINUTES = 0.5


def run_soak(
    bundle: Path, log_folder: Path, minutes: float = 10.0, *, progress: Advance
) -> dict[str, Any]:
    """Run trials for some minutes; every trial is recorded and its bag thrown away.

    Args:
        bundle: Folder of the bundle.
        log_folder: Where logs and bags go.
        minutes: How long, at least half a minute.
        progress: Called once a second with the seconds.

    Returns:
        What was lost between the nodes, the nodes' resident memory and how it grew, the commands
        and those outside the limits, and how the trials went.

    Raises:
        ConfigurationError: Too short to see anything.
        AltError: A node died.
    """
    if minutes < LEAST_MINUTES:
        raise ConfigurationError(f"soak must last {LEAST_MINUTES} minutes or more, got {minutes}")
    from alt_ros.nodes import graph as ros_graph

    variables = ros_graph.environment(local_domain=20 + os.getpid() % 80)
    os.environ.update(variables)
    from alt_ros.nodes.drill_console import DrillConsole

    files = ros_graph.simulation_config()
    parameters = ros_graph.policy_nodes("alt", bundle)
    parameters["episode_recorder"] = {"folder": log_folder.resolve() / "bags"}
    with ros_graph.Graph(log_folder, variables, files) as graph:
        for node in NODES:
            graph.start(node, parameters.get(node, {}))
        with DrillConsole(graph.check) as console:
            console.wait_for("the first decision", lambda: bool(console.flags), START_SECONDS)
            return _soak(graph, console, 60.0 * minutes, progress)


def _soak(graph: Any, console: Any, seconds: float, progress: Advance) -> dict[str, Any]:
    memory: dict[str, list[int]] = {node: [] for node in NODES}
    outcomes: list[str] = []
    successes = 0
    first = _chunks_taken(console)
    console.flight.begin()
    console.set_active("camera_sync", True)
    start = time.monotonic()
    next_sample = start

    def watch(until: float) -> None:
        nonlocal next_sample
        while time.monotonic() < until:
            graph.check()
            if time.monotonic() >= next_sample:
                next_sample += 1.0
                for node in NODES:
                    memory[node].append(resident_kb(graph.process(node).pid))
                progress(min(round(time.monotonic() - start), round(seconds)), round(seconds))
            time.sleep(0.05)

    while time.monotonic() - start < seconds:
        disarm(console)
        reset(console, len(outcomes) % TRIALS)
        name = f"soak_{len(outcomes):04d}"
        console.wait_for(
            "the recorder",
            lambda name=name: console.call("recorder/start", name=name).success,
            CONNECT_SECONDS,
        )
        console.success = False
        try:
            arm(console, ARM_SECONDS)
        except AltError as error:
            outcomes.append(f"not armed: {error}")
        else:
            watch(time.monotonic() + EPISODE_SECONDS)
            successes += bool(console.success)
            outcomes.append(f"{console.state.state}: {console.state.reason}")
        console.insist("alt/stop")
        console.insist("recorder/stop", discard=True)
    last = _chunks_taken(console)
    flight = console.flight
    taken = {key: count - first.get(key, 0) for key, count in last.items()}
    return {
        "seconds": round(time.monotonic() - start, 1),
        "trials": len(outcomes),
        "successes": successes,
        "ends": {end: outcomes.count(end) for end in sorted(set(outcomes))},
        "observations": len(flight.observed),
        "chunks": len(flight.recalled),
        "lost": {
            "observations": len(flight.observed - flight.embedded),
            "embeddings": len(flight.embedded - flight.decided),
            "chunks": len(flight.recalled) - sum(taken.values()),
        },
        "chunks_at_executor": taken,
        "commands": flight.audit.commands,
        "commands_outside_limits": len(flight.audit.violations),
        "violations": dict(flight.audit.counts),
        "memory": {node: growth(samples) for node, samples in memory.items()},
        "machine": machine(),
    }


def _chunks_taken(console: Any) -> dict[str, int]:
    """Have no observations made until the executor has told its counters; return them."""
    console.set_active("camera_sync", False)
    time.sleep(SETTLE_SECONDS)
    counters = console.flight.executor_counters
    refused = {k: int(v) for k, v in counters.items() if k.startswith("refused: chunk")}
    return {"accepted": int(counters["chunks"]), **refused}


def resident_kb(process: int) -> int:
    """Return a process's resident memory in kB."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AltError(f"process {process} has ended")


def growth(samples: Sequence[int]) -> dict[str, float]:
    """Return how memory grew after the first minute, or the first fifth of a shorter run.

    Args:
        samples: kB, once a second.

    Returns:
        Medians in MB of the second minute (fifth) and of the last, and the growth in percent.
    """
    window = max(min(60, len(samples) // 5), 1)
    early = float(np.median(samples[window : 2 * window]))
    late = float(np.median(samples[-window:]))
    return {
        "early_mb": round(early / 1024, 2),
        "late_mb": round(late / 1024, 2),
        "growth_percent": round(100.0 * (late / early - 1.0), 3),
    }
