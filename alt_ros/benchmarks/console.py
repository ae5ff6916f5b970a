"""What viewers of the console cost the control loop: lateness of its ticks with and without them.

The executor runs as on a robot, on the system's clock; beside it run two cameras and the console.
Spans without viewers and with slow ones take turns in one run of the same processes. A slow viewer
reads a message, waits, and only then says that it has seen it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.benchmarks.executor import FIGURES, HOME
from alt_ros.errors import AltError
from alt_ros.progress import Advance
from alt_ros.report import machine

PAUSE_SECONDS = 0.5
CONNECT_SECONDS = 20.0
ATTEMPTS = 3
_VIEWERS = """
import sys
from alt_ros.benchmarks.console import watch_slowly
watch_slowly(sys.argv[1], int(sys.argv[2]))
"""
_CAMERAS = """
from alt_ros.nodes.camera_probe import publish_cameras
publish_cameras()
"""


def measure_console(
    log_folder: Path,
    *,
    seconds: float,
    spans: int,
    viewers: int,
    priority: int,
    progress: Advance,
) -> dict[str, Any]:
    """Measure tick lateness with nobody watching and with slow viewers, in turn.

    Args:
        log_folder: Where the nodes' logs go.
        seconds: Length of a span.
        spans: How many of either kind.
        viewers: How many slow viewers.
        priority: SCHED_FIFO priority that the executor asks for; 0 asks for none.
        progress: Called after every span.

    Returns:
        Per condition and span milliseconds p50, p99, p99.9 and worst; for each figure the ratio
        of the medians over the spans, and the lowest and highest ratio of neighbouring spans.

    Raises:
        AltError: A node died, or the executor did not keep running.
    """
    from alt_ros.nodes import graph as ros_graph

    variables = ros_graph.environment(local_domain=20 + os.getpid() % 80)
    os.environ.update(variables)
    from alt_ros.nodes.drill_console import DrillConsole
    from alt_ros.nodes.executor_probe import ExecutorProbe

    files = [ros_graph.share() / "config" / "alt.yaml"]
    alone: list[dict[str, float]] = []
    watched: list[dict[str, float]] = []
    with (
        ros_graph.Graph(log_folder, variables, files) as graph,
        DrillConsole(graph.check) as operator,
        _process(log_folder, _CAMERAS) as cameras,
    ):
        ExecutorProbe(operator.node, HOME)
        graph.start("executor", {"realtime_priority": priority})
        graph.start("console", {"port": 0})
        address = graph.said("console", "console: ").split()[1].split("#")[0]
        feed = address.replace("http", "ws") + "live"
        for span in range(spans):
            # Neither kind always comes first, so that a drift of the machine falls on both.
            for kind in ("alone", "watched") if span % 2 == 0 else ("watched", "alone"):
                count = viewers if kind == "watched" else 0
                with _process(log_folder, _VIEWERS, feed, str(count)):
                    _await_viewers(operator, count)
                    figures = _span(operator, seconds)
                (watched if kind == "watched" else alone).append(figures)
                progress(len(alone) + len(watched), 2 * spans)
        if cameras.poll() is not None:
            raise AltError(f"the cameras ended with status {cameras.returncode}")
        scheduling = _diagnostics(operator, "alt: executor").get("scheduling", "")
    return {
        "seconds": seconds,
        "viewers": viewers,
        "scheduling": scheduling,
        "alone": alone,
        "watched": watched,
        "ratio": {name: _ratio(name, alone, watched) for name in FIGURES},
        "machine": machine(),
    }


def watch_slowly(address: str, count: int) -> None:
    """Watch a console with so many slow viewers until this process is ended."""
    from websockets.asyncio.client import connect
    from websockets.typing import Subprotocol

    async def watch() -> None:
        async with connect(
            address, subprotocols=[Subprotocol("alt")], max_queue=1, compression=None
        ) as viewer:
            while True:
                message = await viewer.recv()
                await asyncio.sleep(PAUSE_SECONDS)
                if isinstance(message, str):
                    await viewer.send("seen")

    async def watch_all() -> None:
        await asyncio.gather(*(watch() for _ in range(count)))

    if count:
        asyncio.run(watch_all())
    else:
        signal.pause()


def _span(operator: Any, seconds: float) -> dict[str, float]:
    """Return the lateness over a span; activation begins to count anew.

    Once more where the executor did not run through it: the watchdog is right where a shared
    machine stands still.
    """
    for left in reversed(range(ATTEMPTS)):
        operator.set_active("executor", False)
        operator.set_active("executor", True)
        operator.wait_for("arming", lambda: operator.call("alt/arm").success, CONNECT_SECONDS)
        time.sleep(seconds)
        if operator.state.state == "running":
            break
        if not left:
            raise AltError(f"executor is {operator.state.state}: {operator.state.reason}")
    values = _diagnostics(operator, "alt: executor")
    return {
        **{name: float(values[f"tick lateness {name} [ms]"]) for name in FIGURES},
        "ticks": int(values["ticks"]),
        "missed": int(values["ticks missed"]),
    }


def _diagnostics(operator: Any, name: str) -> dict[str, str]:
    asked = time.monotonic()

    def said() -> dict[str, str] | None:
        return operator.diagnostics_since(name, asked)

    found: dict[str, str] = operator.wait_for(f"diagnostics of '{name}'", said, 10.0)
    return found


def _await_viewers(operator: Any, count: int) -> None:
    def seen() -> bool:
        values = operator.diagnostics_since("alt: console", asked) or {}
        return values.get("viewers") == str(count)

    asked = time.monotonic()
    operator.wait_for(f"{count} viewers", seen, CONNECT_SECONDS)


def _ratio(
    name: str, alone: list[dict[str, float]], watched: list[dict[str, float]]
) -> dict[str, float]:
    pairs = [w[name] / max(a[name], 1e-6) for a, w in zip(alone, watched, strict=True)]
    median = float(np.median([w[name] for w in watched])) / max(
        float(np.median([a[name] for a in alone])), 1e-6
    )
    return {
        "median": round(median, 3),
        "lowest": round(min(pairs), 3),
        "highest": round(max(pairs), 3),
    }


@contextlib.contextmanager
def _process(folder: Path, code: str, *arguments: str) -> Generator[subprocess.Popen[bytes]]:
    """Run code in a process; in a folder where no checkout hides the package."""
    with subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()
