"""A graph of node processes with injectors in it, and the drills that are run on it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alt_ros.benchmarks.drill_result import FAILED, PASSED, DrillResult, declared
from alt_ros.benchmarks.fault_catalogue import (
    CHUNK,
    COPES,
    HOLDING,
    RELAY,
    RUNNING,
    SILENT,
    Action,
    After,
    Drill,
    World,
)
from alt_ros.errors import AltError
from alt_ros.messages import stamp_of
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
ATTEMPTS = 3
WARM_UP = 0.7
EPISODE_GAP = 2.5
START_SECONDS = 90.0
ARM_SECONDS = 8.0
RESTART_SECONDS = 40.0
RECOVERY_SECONDS = 6.0
LATCH_SECONDS = 0.5
GRACE_SECONDS = 2.0
GOES_ON_SECONDS = 0.15
# From full speed to rest within the acceleration limit, and the way of a command to the listener.
BRAKE_SECONDS = 0.3
LONGEST_PAUSE = 0.5
FLAG_MARGIN = 1.0
"""The flag goes up this far above the bundle's threshold, in scales of the scores' bands: in a
drill the arm stops and goes on as in no demonstration, and a false alarm there is no answer to the
drill's fault."""


def with_us() -> tuple[str, ...]:
    """Return a command that starts another one, and has it killed when this process ends.

    A node that outlives a killed benchmark would go on moving an arm. The shell looks once more:
    this process may have ended before setpriv could ask to be told.
    """
    ours = '[ "$PPID" = "$0" ] && exec "$@"'
    return ("setpriv", "--pdeathsig", "KILL", "sh", "-c", ours, str(os.getpid()))


@dataclass(frozen=True)
class NodeSpec:
    """How a node of the graph is started.

    Attributes:
        executable: What runs.
        parameters: Its parameters.
        remap: From topic to topic.
    """

    executable: str
    parameters: dict[str, Any]
    remap: dict[str, str]


def node_specs(world: World, bundle: Path, folder: Path) -> dict[str, NodeSpec]:
    """Return the nodes of a graph with injectors in it, in the order of their start.

    Args:
        world: Which graph.
        bundle: Folder of the bundle, absolute.
        folder: Where bags go, absolute.
    """
    parameters: dict[str, dict[str, Any]] = {
        **{name: {"streams": streams} for name, streams in INJECTORS.items()},
        "encoder": {"bundle": bundle},
        "lookup": {"bundle": bundle, "threshold_margin": FLAG_MARGIN},
        "executor": {"controller": RELAY},
        "episode_recorder": {"folder": folder / "bags"},
    }
    parameters["fault_injector"]["restamp"] = world is not World.SIMULATED
    parameters[RELAY] |= {"source": "", "sink": "arm/"}
    clean = {topic: f"clean/{topic}" for topic in MEASURED}
    remap = {
        "sim_bridge": clean | {topic: f"arm/{topic}" for topic in COMMANDS},
        "lookup": {CHUNK: f"clean/{CHUNK}"},
    }
    return {
        node: NodeSpec(
            "fault_injector" if node in INJECTORS else node,
            parameters.get(node, {}),
            remap.get(node, {}),
        )
        for node in NODES
    }


class GraphRig:
    """Runs drills on node processes that it may kill.

    Args:
        graph: The processes: a Graph, or what acts as one.
        world: Which graph.
        bundle: Folder of the bundle.
        folder: Where bags go.
        set_clock: Moves the nodes' system clock by seconds.
        links: Node to its link to the others, for nodes with a network of their own.

    Attributes:
        console: The operator.
    """

    console: Any

    def __init__(
        self,
        graph: Any,
        world: World,
        bundle: Path,
        folder: Path,
        set_clock: Callable[[float], None] | None = None,
        links: dict[str, Any] | None = None,
    ) -> None:
        self._graph = graph
        self._world = world
        self._set_clock = set_clock
        self._links = links or {}
        self._specs = node_specs(world, bundle, folder)

    def start(self, node: str) -> None:
        """Start one of the graph's nodes."""
        spec, link = self._specs[node], self._links.get(node)
        self._graph.start(
            node,
            spec.parameters,
            executable=spec.executable,
            remap=spec.remap,
            wrapper=(*with_us(), *(link.wrapper if link else ())),
            variables=link.variables if link else None,
        )

    def attach(self, console: Any) -> None:
        """Take the operator, and wait until the graph works."""
        self.console = console
        console.wait_for("the first decision", lambda: console.flags, START_SECONDS)

    def run(self, drill: Drill) -> DrillResult:
        """Run a drill; whatever it comes to, the graph is whole again afterwards."""
        values: dict[str, Any] = {}
        undo: list[Callable[[], None]] = []
        trouble = ""
        try:
            values["attempts"] = self._until_running()
            self._drill(drill, values, undo)
        except AltError as error:
            trouble = str(error)
        try:
            self._mend(undo)
        except AltError as error:
            trouble = trouble or f"afterwards: {error}"
        flight = self.console.flight
        violations = dict(flight.audit.counts)
        if violations:
            first = ", ".join(str(violation) for violation in flight.audit.violations[:3])
            trouble = "; ".join(filter(None, (trouble, f"outside the limits: {first}")))
        return DrillResult(
            drill.name,
            drill.what,
            drill.world.value,
            declared(drill),
            FAILED if trouble else PASSED,
            trouble,
            response_limit_ms=drill.limit_ms,
            commands=flight.audit.commands,
            violations=violations,
            **values,
        )

    def _drill(self, drill: Drill, values: dict[str, Any], undo: list[Callable[[], None]]) -> None:
        flight = self.console.flight
        began, clock = time.monotonic(), flight.newest
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
            self._responds(drill, values, began, clock)
        _sleep_until(began + drill.seconds)
        if drill.refusal:
            values["refused_to_arm"] = self._refuses(drill.refusal)
        lifted = time.monotonic()
        last = flight.last_following_command(began, lifted)
        values["last_command_ms"] = _ms(last - began)
        if drill.response == SILENT:
            self._was_silent(drill, values, began, lifted)
        elif drill.seconds:
            at_rest = began + values["response_ms"] / 1e3 + BRAKE_SECONDS
            late = flight.last_command(at_rest, lifted) - at_rest
            if late > 0.0:
                raise AltError(f"commands came {late:.2f} s after the arm had to rest")
        undo.pop()()
        ended = time.monotonic()
        if drill.after is After.LATCHED:
            values["outcome"] = self._is_latched(ended)
            state = self.console.state
            values["seen"] += f"; then {state.state}: {state.reason}"
            ended = time.monotonic()
            arm(self.console, RESTART_SECONDS if _restarts(drill) else ARM_SECONDS)
        self._recovers(drill, values, ended)

    def _recovers(self, drill: Drill, values: dict[str, Any], since: float) -> None:
        limit = RESTART_SECONDS if _restarts(drill) else RECOVERY_SECONDS
        flight = self.console.flight
        try:
            self.console.wait_for("the arm to go on", lambda: self._goes_on(since), limit)
        except AltError as error:
            states = [f"{s.state}: {s.reason}" for s in flight.states if s.arrival > since]
            raise AltError(f"{error}; came: {'; '.join(states) or 'nothing'}") from error
        again = [s.arrival for s in flight.states if s.arrival > since and s.state == RUNNING]
        again += [c.arrival for c in flight.commands if c.arrival > since]
        values["recovery_ms"] = _ms(again[0] - since)
        values.setdefault("outcome", After.RECOVERS.value)

    def _until_running(self) -> int:
        """Begin an episode, arm, and let the arm get on its way; return how often it took.

        Raises:
            AltError: It does not.
        """
        why = ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._new_episode()
                arm(self.console, ARM_SECONDS)
                since = time.monotonic()
                self.console.wait_for("commands", lambda s=since: self._goes_on(s), ARM_SECONDS)
                time.sleep(WARM_UP)
                state = self.console.state
                if state.state == RUNNING:
                    return attempt
                why = f"{state.state}: {state.reason}"
            except AltError as error:
                why = str(error)
        raise AltError(f"before anything was done: {why}")

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
        before = stamp_of(console.flags[-1])
        console.insist("sim/reset", scenario="ind", trial=0)
        time.sleep(EPISODE_GAP)
        for topic in MEASURED:
            self._damage(topic, "")
        await_episode(console, before)

    def _responds(self, drill: Drill, values: dict[str, Any], began: float, clock: int) -> None:
        flight = self.console.flight
        reasons = drill.reason.split("|")

        def entered() -> Any:
            found = [flight.entered(drill.response, reason, began) for reason in reasons]
            return min((seen for seen in found if seen), default=None)

        try:
            seen = self.console.wait_for(
                declared(drill), entered, drill.limit_ms / 1e3 + GRACE_SECONDS
            )
        except AltError as error:
            states = [f"{s.state}: {s.reason}" for s in flight.states if s.arrival >= began]
            values["seen"] = "; ".join(states) or f"nothing new, it is {flight.states[-1].state}"
            raise AltError(f"{error}; came: {values['seen']}") from error
        values["seen"] = f"{seen.state}: {seen.reason}"
        values["response_ms"] = took = _ms(seen.arrival - began)
        if self._world is World.SIMULATED and clock:
            # The executor's watchdogs go by simulated time, which a busy machine slows down.
            took = min(took, _ms((seen.stamp - clock) / NANOSECONDS))
        if took > drill.limit_ms:
            raise AltError(f"response took {took:.0f} ms, declared are {drill.limit_ms} ms")

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
        if not any(word in response.message for word in words.split("|")):
            raise AltError(f"alt/arm was refused for '{response.message}', not for '{words}'")
        return str(response.message)

    def _is_latched(self, ended: float) -> str:
        console = self.console
        time.sleep(LATCH_SECONDS)
        if console.flight.last_command(ended) > ended or console.state.state == RUNNING:
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
        command = [*with_us(), sys.executable, "-I", "-S", "-c", "while True: pass"]
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
    from alt_ros.nodes.flight_recorder import EVERYTHING, IN_TIME

    config = ros_graph.share() / "config"
    files = [config / "alt.yaml"]
    if world is World.SIMULATED:
        files.append(config / "simulation.yaml")
    with ros_graph.Graph(folder, variables, files) as graph:
        rig = GraphRig(graph, world, bundle, folder, set_clock, links)
        for node in NODES:
            rig.start(node)
        commands = IN_TIME if world is World.NETWORK else EVERYTHING
        with DrillConsole(graph.check, commands) as console:
            rig.attach(console)
            yield rig


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 1)


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0.0))
