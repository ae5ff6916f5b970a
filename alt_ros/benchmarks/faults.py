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
    progress(0, len(chosen))
    with Rigs(bundle.resolve(), log_folder.resolve(), variables) as rigs:
        broken: dict[World, AltError] = {}
        for drill in sorted(chosen, key=lambda drill: list(World).index(drill.world)):
            results.append(_result(rigs, drill, broken))
            progress(len(results), len(chosen))
    return {
        "drills": [asdict(result) for result in results],
        "totals": totals(results),
        "machine": machine(),
    }


def _result(rigs: Rigs, drill: Drill, broken: dict[World, AltError]) -> DrillResult:
    """Return what a drill comes to; a world that could not be started once is not tried again."""
    if drill.world not in broken:
        try:
            return run_drill(lambda: rigs.of(drill.world), drill, rigs.close)
        except AltError as error:
            rigs.close()
            broken[drill.world] = error
    error = broken[drill.world]
    return (not_run if isinstance(error, DependencyError) else failed)(drill, str(error))


def run_drill(
    rig: Callable[[], Rig], drill: Drill, end: Callable[[], None] = lambda: None
) -> DrillResult:
    """Run a drill, and once more where it failed and all commands were within the limits.

    For up to a second after a SIGKILL the other processes were seen to stand still, and once a
    node that was started anew never got what another one published: what a drill then sees is not
    its own fault. The first trouble stays in the result.

    Args:
        rig: Gives the running graph.
        drill: What is done.
        end: Ends a graph on which a drill has failed, so that ``rig`` starts it anew.

    Raises:
        AltError: The graph cannot be started.
    """
    result = rig().run(drill)
    if result.verdict != FAILED:
        return result
    end()
    if result.violations:
        return result
    again = rig().run(drill)
    if again.verdict == FAILED:
        end()
    return replace(again, first_trouble=result.trouble)


class Rigs:
    """The running graph of one world after the other; as a context, none is left at its end.

    Args:
        bundle: Folder of the bundle, absolute.
        log_folder: Where the nodes' logs go, absolute.
        variables: Environment of the nodes; the caller's must agree with it.
    """

    def __init__(self, bundle: Path, log_folder: Path, variables: dict[str, str]) -> None:
        self._bundle = bundle
        self._log_folder = log_folder
        self._variables = variables
        self._stack = contextlib.ExitStack()
        self._running: tuple[World, Rig] | None = None

    def of(self, world: World) -> Rig:
        """Return the running graph of a world; it is started, and any other ended, if need be.

        Raises:
            DependencyError: This machine cannot run it.
            AltError: It does not start.
        """
        if self._running is None or self._running[0] is not world:
            self.close()
            rig = open_rig(world, self._bundle, self._log_folder, self._variables)
            self._running = world, self._stack.enter_context(rig)
        return self._running[1]

    def close(self) -> None:
        """End what runs."""
        self._running = None
        self._stack.close()

    def __enter__(self) -> Rigs:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


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
