"""Fault drills on the real graph: do what the catalogue says, measure what follows.

Every drill begins with a new episode and a running arm. The nodes are real processes; what they
do is judged from outside, by the states and commands that arrive on the topics.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from alt_ros.benchmarks.drill_result import FAILED, DrillResult, failed, not_run, totals
from alt_ros.benchmarks.drill_rig import local_rig, with_us
from alt_ros.benchmarks.fake_clock import FakeClock
from alt_ros.benchmarks.fault_catalogue import DRILLS, Drill, World
from alt_ros.benchmarks.network import open_remote_rig
from alt_ros.errors import AltError, ConfigurationError, DependencyError
from alt_ros.progress import Advance
from alt_ros.report import machine


class Rig(Protocol):
    """A running graph that drills are run on."""

    def run(self, drill: Drill) -> DrillResult:
        """Run a drill."""
        ...


def run_faults(
    bundle: Path, log_folder: Path, *, only: Sequence[str] = (), progress: Advance
) -> dict[str, Any]:
    """Run the drills, world after world.

    Args:
        bundle: Folder of the bundle.
        log_folder: Where the nodes' logs go.
        only: Words of the names of the drills to run; empty runs all.
        progress: Called after every drill.

    Returns:
        ``drills``: a DrillResult each; ``totals`` and ``machine``.

    Raises:
        ConfigurationError: No drill has such a name.
    """
    from alt_ros.nodes import graph as ros_graph

    chosen = [d for d in DRILLS if not only or any(word in d.name for word in only)]
    if not chosen:
        raise ConfigurationError(
            f"drills are {', '.join(d.name for d in DRILLS)}; none holds {' or '.join(only)}"
        )
    variables = ros_graph.environment(local_domain=20 + os.getpid() % 80)
    os.environ.update(variables)
    results: list[DrillResult] = []

    def advance(done: int) -> None:
        progress(len(results) + done, len(chosen))

    advance(0)
    for world in World:
        drills = [d for d in chosen if d.world is world]
        if drills:
            results += _run_world(world, drills, bundle, log_folder, variables, advance)
    return {
        "drills": [asdict(result) for result in results],
        "totals": totals(results),
        "machine": machine(),
    }


def _run_world(
    world: World,
    drills: Sequence[Drill],
    bundle: Path,
    log_folder: Path,
    variables: dict[str, str],
    advance: Callable[[int], None],
) -> list[DrillResult]:
    results: list[DrillResult] = []
    try:
        with open_rig(world, bundle.resolve(), log_folder.resolve(), variables) as rig:
            for drill in drills:
                results.append(run_drill(rig, drill))
                advance(len(results))
    except DependencyError as error:
        results += [not_run(drill, str(error)) for drill in drills[len(results) :]]
    except AltError as error:
        results += [failed(drill, str(error)) for drill in drills[len(results) :]]
    advance(len(results))
    return results


def run_drill(rig: Rig, drill: Drill) -> DrillResult:
    """Run a drill, and once more where it failed and all commands were within the limits.

    For up to a second after a SIGKILL the other processes were seen to stand still; what a drill
    then sees is not its own fault. The first trouble stays in the result.
    """
    result = rig.run(drill)
    if result.verdict != FAILED or result.violations:
        return result
    again = rig.run(drill)
    return replace(again, first_trouble=result.trouble)


@contextlib.contextmanager
def open_rig(
    world: World, bundle: Path, log_folder: Path, variables: dict[str, str]
) -> Generator[Rig]:
    """Start a graph and yield it; whatever happens, nothing of it is left.

    Args:
        world: Which graph.
        bundle: Folder of the bundle, absolute.
        log_folder: Where the nodes' logs go, absolute.
        variables: Environment of the nodes; the caller's must agree with it.

    Raises:
        DependencyError: This machine cannot run it.
    """
    if shutil.which(with_us()[0]) is None:
        raise DependencyError("drills need setpriv, of util-linux")
    folder = log_folder / world.name.lower()
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
    folder.mkdir(parents=True)
    if world is World.NETWORK:
        with open_remote_rig(bundle, log_folder) as rig:
            yield rig
        return
    clock = None
    if world is World.SYSTEM:
        clock = FakeClock(folder)
        variables = variables | clock.variables
    with local_rig(world, bundle, folder, variables, set_clock=clock) as rig:
        yield rig
