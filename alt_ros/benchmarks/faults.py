"""Fault drills on the real graph: do what the catalogue says, measure what follows.

Every drill begins with a new episode and a running arm. The nodes are real processes; what they
do is judged from outside, by the states and commands that arrive on the topics.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from alt_ros.benchmarks.fake_clock import FakeClock
from alt_ros.benchmarks.fault_catalogue import (
    CHUNK,
    COPES,
    DRILLS,
    HOLDING,
    RELAY,
    RUNNING,
    SILENT,
    Action,
    After,
    Drill,
    World,
)
from alt_ros.errors import AltError, ConfigurationError, DependencyError
from alt_ros.messages import stamp_of
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.types import NANOSECONDS

MEASURED = ("wrist/image_raw", "third_person/image_raw", "eef_pose", "gripper_state")
COMMANDS = ("target_pose", "target_gripper")
# One process each: what damages chunks must not hold up poses.
INJECTORS = {"fault_injector": MEASURED, "policy_injector": (CHUNK,), RELAY: COMMANDS}
NODES = (
    "sim_bridge",
    *INJECTORS,
    "camera_sync",
    "encoder",
    "lookup",
    "executor",
    "episode_recorder",
)
# A process that outlives a killed benchmark would go on moving an arm.
WITH_US = ("setpriv", "--pdeathsig", "KILL")

WARM_UP = 0.7
EPISODE_GAP = 2.5
START_SECONDS = 90.0
ARM_SECONDS = 8.0
RESTART_SECONDS = 40.0
RECOVERY_SECONDS = 6.0
LATCH_SECONDS = 0.5
GRACE_SECONDS = 2.0
GOES_ON_SECONDS = 0.15
LONGEST_PAUSE = 0.5

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class DrillResult:
    """What came of a drill.

    Attributes:
        name: Of the drill.
        what: What was done.
        world: Which graph.
        declared: State and reason that were declared.
        verdict: passed, failed or not run.
        trouble: Why it did not pass.
        response_ms: From the cause to the declared state or silence; None for none.
        response_limit_ms: What was declared; 0 for none.
        last_command_ms: From the cause to the last command that does not brake, before the
            cause was gone; None where the arm runs on.
        seen: State and reason that came.
        refused_to_arm: Why arming was refused while the cause stood; empty: not tried.
        outcome: never stopped, recovered or latched.
        recovery_ms: From the end of the cause, or from the arming that ended a latch, until the
            arm runs again.
        commands: Commands in the drill.
        violations: Commands outside the limits, by kind.
    """

    name: str
    what: str
    world: str
    declared: str
    verdict: str = FAILED
    trouble: str = ""
    response_ms: float | None = None
    response_limit_ms: int = 0
    last_command_ms: float | None = None
    seen: str = ""
    refused_to_arm: str = ""
    outcome: str = ""
    recovery_ms: float | None = None
    commands: int = 0
    violations: dict[str, int] | None = None


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
    for world in World:
        drills = [d for d in chosen if d.world is world]
        if not drills:
            continue
        try:
            with open_rig(world, bundle.resolve(), log_folder.resolve(), variables) as rig:
                for drill in drills:
                    results.append(rig.run(drill))
                    progress(len(results), len(chosen))
        except DependencyError as error:
            results += [not_run(drill, str(error)) for drill in drills]
            progress(len(results), len(chosen))
    return {
        "drills": [asdict(result) for result in results],
        "totals": totals(results),
        "machine": machine(),
    }


def totals(results: Sequence[DrillResult]) -> dict[str, int]:
    """Return how many drills passed, failed, were not run, and what was sent."""
    counts = {
        verdict.replace(" ", "_"): sum(r.verdict == verdict for r in results)
        for verdict in (PASSED, FAILED, NOT_RUN)
    }
    return {
        "drills": len(results),
        **counts,
        "commands": sum(r.commands for r in results),
        "commands_outside_limits": sum(sum((r.violations or {}).values()) for r in results),
    }


def not_run(drill: Drill, why: str) -> DrillResult:
    """Return the result of a drill that cannot be run here."""
    return DrillResult(
        drill.name, drill.what, drill.world.value, _declared(drill), NOT_RUN, f"NOT RUN: {why}"
    )


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
    if shutil.which(WITH_US[0]) is None:
        raise DependencyError("drills need setpriv, of util-linux")
    folder = log_folder / world.name.lower()
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
    folder.mkdir(parents=True)
    if world is World.NETWORK:
        from alt_ros.benchmarks.network import open_remote_rig

        with open_remote_rig(bundle, log_folder) as rig:
            yield rig
        return
    clock = None
    if world is World.SYSTEM:
        clock = FakeClock(folder)
        variables = variables | clock.variables
    with local_rig(world, bundle, folder, variables, set_clock=clock) as rig:
        yield rig


@contextlib.contextmanager
def local_rig(
    world: World,
    bundle: Path,
    folder: Path,
    variables: dict[str, str],
    *,
    set_clock: Callable[[float], None] | None = None,
    links: dict[str, Any] | None = None,
) -> Generator[GraphRig]:
    """Start a graph whose processes are this process's own.

    Args:
        world: Which graph.
        bundle: Folder of the bundle.
        folder: Where logs and bags go.
        variables: Environment of the nodes.
        set_clock: Moves the nodes' system clock by seconds.
        links: Node to its link to the others, for nodes with a network of their own.
    """
    from alt_ros.nodes import graph as ros_graph
    from alt_ros.nodes.drill_console import DrillConsole

    config = ros_graph.share() / "config"
    files = [config / "alt.yaml"]
    if world is World.SIMULATED:
        files.append(config / "simulation.yaml")
    with ros_graph.Graph(folder, variables, files) as graph:
        rig = GraphRig(graph, world, bundle, folder, set_clock, links or {})
        for node in NODES:
            rig.start(node)
        with DrillConsole(graph.check) as console:
            rig.console = console
            console.wait_for("the first decision", lambda: console.flags, START_SECONDS)
            yield rig


class GraphRig:
    """Runs drills on node processes that it may kill.

    Attributes:
        console: The operator; set once the nodes run.
    """

    console: Any

    def __init__(
        self,
        graph: Any,
        world: World,
        bundle: Path,
        folder: Path,
        set_clock: Callable[[float], None] | None,
        links: dict[str, Any],
    ) -> None:
        self._graph = graph
        self._world = world
        self._set_clock = set_clock
        self._links = links
        clean = {topic: f"clean/{topic}" for topic in MEASURED}
        arm = {topic: f"arm/{topic}" for topic in COMMANDS}
        restamp = world is not World.SIMULATED
        self._parameters: dict[str, dict[str, Any]] = {
            **{name: {"streams": streams} for name, streams in INJECTORS.items()},
            "encoder": {"bundle": bundle},
            "lookup": {"bundle": bundle},
            "executor": {"controller": RELAY},
            "episode_recorder": {"folder": folder / "bags"},
        }
        self._parameters["fault_injector"]["restamp"] = restamp
        self._parameters[RELAY] |= {"source": "", "sink": "arm/"}
        self._remap = {
            "sim_bridge": clean | arm,
            "lookup": {"alt/action_chunk": "clean/alt/action_chunk"},
        }

    def start(self, node: str) -> None:
        """Start one of the graph's nodes."""
        link = self._links.get(node)
        self._graph.start(
            node,
            self._parameters.get(node),
            executable="fault_injector" if node in INJECTORS else "",
            remap=self._remap.get(node),
            wrapper=(*WITH_US, *(link.wrapper if link else ())),
            variables=link.variables if link else None,
        )

    def run(self, drill: Drill) -> DrillResult:
        """Run a drill; whatever it comes to, the graph is whole again afterwards."""
        values: dict[str, Any] = {}
        undo: list[Callable[[], None]] = []
        trouble = ""
        try:
            self._until_running()
            self._drill(drill, values, undo)
        except AltError as error:
            trouble = str(error)
        try:
            self._mend(undo)
        except AltError as error:
            trouble = trouble or f"afterwards: {error}"
        flight = self.console.flight
        violations = dict(flight.audit.counts)
        if violations and not trouble:
            trouble = f"commands outside the limits: {violations}"
        return DrillResult(
            drill.name,
            drill.what,
            drill.world.value,
            _declared(drill),
            FAILED if trouble else PASSED,
            trouble,
            response_limit_ms=drill.limit_ms,
            commands=flight.audit.commands,
            violations=violations,
            **values,
        )

    def _drill(self, drill: Drill, values: dict[str, Any], undo: list[Callable[[], None]]) -> None:
        flight = self.console.flight
        began = time.monotonic()
        undo.append(self._cause(drill))
        if drill.response in (RUNNING, COPES):
            self._runs_on(drill, values, began)
            undo.pop()()
            if values["seen"] == RUNNING:
                values["outcome"] = After.RUNS_ON.value
                return
            self._recovers(drill, values, time.monotonic())
            return
        if drill.response != SILENT:
            self._responds(drill, values, began)
        _sleep_until(began + drill.seconds)
        if drill.refusal:
            values["refused_to_arm"] = self._refuses(drill.refusal)
        lifted = time.monotonic()
        last = flight.last_following_command(began, lifted)
        values["last_command_ms"] = _ms(last - began)
        if drill.response == SILENT:
            self._was_silent(drill, values, began, lifted)
        undo.pop()()
        ended = time.monotonic()
        if drill.after is After.LATCHED:
            values["outcome"] = self._is_latched(drill, ended)
            state = self.console.state
            values["seen"] += f"; then {state.state}: {state.reason}"
            ended = time.monotonic()
            arm(self.console, RESTART_SECONDS if _restarts(drill) else ARM_SECONDS)
        self._recovers(drill, values, ended)

    def _recovers(self, drill: Drill, values: dict[str, Any], since: float) -> None:
        limit = RESTART_SECONDS if _restarts(drill) else RECOVERY_SECONDS
        self.console.wait_for("the arm to go on", lambda: self._goes_on(since), limit)
        flight = self.console.flight
        again = [s.arrival for s in flight.states if s.arrival > since and s.state == RUNNING]
        again += [c.arrival for c in flight.commands if c.arrival > since]
        values["recovery_ms"] = _ms(again[0] - since)
        values.setdefault("outcome", After.RECOVERS.value)

    def _until_running(self) -> None:
        """Begin an episode, arm, and let the arm get on its way.

        Raises:
            AltError: It does not.
        """
        for left in reversed(range(3)):
            self._new_episode()
            arm(self.console, ARM_SECONDS)
            since = time.monotonic()
            self.console.wait_for("commands", lambda s=since: self._goes_on(s), ARM_SECONDS)
            time.sleep(WARM_UP)
            state = self.console.state
            if state.state == RUNNING:
                return
            if not left:
                raise AltError(f"before anything was done: {state.state}: {state.reason}")

    def _new_episode(self) -> None:
        console = self.console
        disarm(console)
        console.flight.begin()
        if self._world is World.SIMULATED:
            reset(console)
            return
        # Nobody sees the scene while the cup is put back: the same gap in the stamps.
        for topic in MEASURED:
            self._damage(topic, "stop")
        with_gap = stamp_of(console.flags[-1])
        console.insist("sim/reset", scenario="ind", trial=0)
        time.sleep(EPISODE_GAP)
        for topic in MEASURED:
            self._damage(topic, "")
        await_episode(console, with_gap)

    def _responds(self, drill: Drill, values: dict[str, Any], began: float) -> None:
        flight = self.console.flight
        reasons = drill.reason.split("|")

        def entered() -> Any:
            found = [flight.entered(drill.response, reason, began) for reason in reasons]
            return min((seen for seen in found if seen), default=None)

        try:
            seen = self.console.wait_for(
                _declared(drill), entered, drill.limit_ms / 1e3 + GRACE_SECONDS
            )
        except AltError as error:
            states = [f"{s.state}: {s.reason}" for s in flight.states if s.arrival >= began]
            values["seen"] = "; ".join(states) or f"nothing new, it is {flight.states[-1].state}"
            raise AltError(f"{error}; came: {values['seen']}") from error
        values["seen"] = f"{seen.state}: {seen.reason}"
        values["response_ms"] = _ms(seen.arrival - began)
        if values["response_ms"] > drill.limit_ms:
            raise AltError(
                f"response took {values['response_ms']:.0f} ms, declared are {drill.limit_ms} ms"
            )

    def _runs_on(self, drill: Drill, values: dict[str, Any], began: float) -> None:
        flight = self.console.flight
        _sleep_until(began + drill.seconds)
        left = [s for s in flight.states if s.arrival >= began]
        values["seen"] = "; ".join(f"{s.state}: {s.reason}" for s in left) or RUNNING
        if drill.response == COPES and all(s.state in (RUNNING, HOLDING) for s in left):
            return
        if left:
            raise AltError(f"the arm was to run on; came: {values['seen']}")
        times = [began, *(c.arrival for c in flight.commands if c.arrival >= began)]
        times.append(time.monotonic())
        pause = max(b - a for a, b in itertools.pairwise(times))
        if pause > LONGEST_PAUSE:
            raise AltError(f"the arm was to run on; no command came for {pause:.2f} s")

    def _was_silent(
        self, drill: Drill, values: dict[str, Any], began: float, until: float
    ) -> None:
        response = _ms(self.console.flight.last_command(began, until) - began)
        values["response_ms"] = response
        values["seen"] = "nothing is sent"
        if response > drill.limit_ms:
            raise AltError(
                f"commands came for {response:.0f} ms, declared are {drill.limit_ms} ms"
            )

    def _refuses(self, words: str) -> str:
        response = self.console.call("alt/arm", 5.0)
        if response.success:
            raise AltError("alt/arm was accepted while the cause stood")
        if words not in response.message:
            raise AltError(f"alt/arm was refused for '{response.message}', not for '{words}'")
        return str(response.message)

    def _is_latched(self, drill: Drill, ended: float) -> str:
        console = self.console
        time.sleep(LATCH_SECONDS)
        sent = console.flight.last_command(ended) - ended
        if sent > drill.limit_ms / 1e3 or console.state.state == RUNNING:
            raise AltError(
                f"the arm went on by itself: {console.state.state}: {console.state.reason}"
            )
        return After.LATCHED.value

    def _goes_on(self, since: float) -> bool:
        flight = self.console.flight
        running = bool(flight.states) and flight.states[-1].state == RUNNING
        return running and flight.last_command(since) > since + GOES_ON_SECONDS

    def _mend(self, undo: list[Callable[[], None]]) -> None:
        """Take back what a drill that ended early left, and start what has died."""
        while undo:
            undo.pop()()
        dead = [n for n in NODES if self._graph.has_ended(n)]
        for node in dead:
            self._graph.stop(node)
            self.start(node)
        if dead:
            raise AltError(f"{', '.join(dead)} had died and was started anew")

    def _damage(self, stream: str, kind: str, amount: float = 0.0) -> None:
        injector = next(name for name, streams in INJECTORS.items() if stream in streams)
        self.console.damage(injector, stream, kind, amount)

    def _start_anew(self, node: str) -> None:
        """Start a node that was ended, and wait for it where the graph cannot tell."""
        console, began = self.console, time.monotonic()
        self.start(node)
        if node in INJECTORS:
            for stream in INJECTORS[node]:
                self._damage(stream, "")
        elif node == "executor":
            console.flight.forget_halves()
            console.wait_for("idle", lambda: console.state.state == "idle", START_SECONDS)
        elif node == "sim_bridge":
            console.wait_for(
                "a decision", lambda: console.flags_at[-1][0] > began + 0.1, START_SECONDS
            )

    def _cause(self, drill: Drill) -> Callable[[], None]:
        """Do what a drill is about; return what takes it back."""
        graph, console, node = self._graph, self.console, drill.on
        if drill.action is Action.DAMAGE:
            self._damage(node, drill.kind, drill.amount)
            return lambda: self._damage(node, "")
        if drill.action is Action.KILL:
            graph.kill(node)
            return lambda: self._start_anew(node)
        if drill.action is Action.END:
            graph.stop(node)
            return lambda: self._start_anew(node)
        if drill.action is Action.FREEZE:
            process = graph.process(node)
            process.send_signal(signal.SIGSTOP)
            return lambda: process.send_signal(signal.SIGCONT)
        if drill.action is Action.DEACTIVATE:
            console.set_active(node, False)
            return lambda: console.set_active(node, True)
        if drill.action is Action.PAUSE:
            console.insist("sim/pause", data=True)
            return lambda: console.insist("sim/pause", data=False)
        if drill.action is Action.CUT:
            link = self._links[node]
            link.cut()
            return link.join
        if drill.action is Action.CLOCK:
            assert self._set_clock is not None
            self._set_clock(drill.amount)
            return lambda: None
        return self._load()

    def _load(self) -> Callable[[], None]:
        command = [*WITH_US, sys.executable, "-I", "-S", "-c", "while True: pass"]
        busy = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]

        def end() -> None:
            for process in busy:
                process.kill()
                process.wait()

        return end


def disarm(console: Any) -> None:
    """Disarm, and wait until what was sent before it has come."""
    console.insist("alt/disarm")
    console.wait_for("idle", lambda: console.state.state == "idle", 5.0)
    time.sleep(0.1)
    console.flight.forget_halves()


def reset(console: Any, trial: int = 0) -> None:
    """Put the simulated scene to the start of a trial, and wait until the graph has seen it."""
    before = stamp_of(console.flags[-1])
    console.insist("sim/reset", scenario="ind", trial=trial)
    await_episode(console, before)


def await_episode(console: Any, before: int) -> None:
    """Wait for a decision of a new episode: its stamp is not soon after this one (ns)."""
    since = time.monotonic()

    def seen() -> bool:
        arrival, flag = console.flags_at[-1]
        return arrival > since and not before <= stamp_of(flag) <= before + NANOSECONDS

    console.wait_for("a decision after the reset", seen, 20.0)


def arm(console: Any, within: float) -> None:
    """Arm, as soon as nothing speaks against it.

    Raises:
        AltError: With the last reason, after ``within`` seconds.
    """
    deadline = time.monotonic() + within
    why = "no answer"
    while time.monotonic() < deadline:
        try:
            response = console.call("alt/arm", 2.0)
        except AltError as error:
            why = str(error)
            continue
        if response.success:
            return
        why = response.message
        time.sleep(0.05)
    raise AltError(f"arming was refused for {within:g} s: {why}")


def _restarts(drill: Drill) -> bool:
    return drill.action in (Action.KILL, Action.END)


def _declared(drill: Drill) -> str:
    return f"{drill.response}: {drill.reason}" if drill.reason else drill.response


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 1)


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0.0))


def read_result(line: str) -> DrillResult:
    """Return a DrillResult of a line of JSON."""
    return DrillResult(**json.loads(line))
