"""Episodes through the ROS graph: real nodes, a simulated arm, an operator who resets and arms."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alt_ros.errors import ConfigurationError
from alt_ros.messages import pose_of, stamp_of
from alt_ros.nodes import graph as ros_graph
from alt_ros.policies.registry import InferenceConfig
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.safety import SafetyLimits
from alt_ros.simulation.rollout import wilson_interval
from alt_ros.simulation.scenarios import scenario as find_scenario

if TYPE_CHECKING:
    from alt_ros.nodes.operator import Operator

EPISODE_SECONDS = 9.0
DISTURB_AFTER = 0.8
WATCH_AFTER_FLAG = 1.0
SLOWEST = 0.05


@dataclass(frozen=True)
class TrialResult:
    """What one closed-loop episode through the graph did.

    Attributes:
        scenario: Name of the scenario.
        trial: Number of the trial.
        success: Whether the cup was lifted and held.
        flagged: Whether the flag went up.
        flag_seconds: From the disturbance to the flag; None without either.
        deceleration_commands: Commands of the declared deceleration after the flag.
        commands_after_flag: Other commands after the flag; must be 0.
        state: The executor's state and reason at the end.
    """

    scenario: str
    trial: int
    success: bool
    flagged: bool
    flag_seconds: float | None
    deceleration_commands: int
    commands_after_flag: int
    state: str


@contextmanager
def started(
    policy: str,
    bundle: Path,
    bags: Path,
    logs: Path,
    variables: Mapping[str, str],
    parameters: Mapping[str, Any] | None = None,
    speed: float = 1.0,
) -> Generator[Operator, None, None]:
    """Yield the operator of a graph with a simulated arm, which lives as long.

    Args:
        policy: One of ``POLICIES``.
        bundle: Folder of the bundle.
        bags: Where episodes are recorded.
        logs: Where the nodes' logs go.
        variables: Environment of the nodes, see ``graph.environment``.
        parameters: Further ones of the node ``policy``.
        speed: Simulated seconds a second.
    """
    from alt_ros.nodes.operator import Operator

    with (
        ros_graph.Graph(logs, dict(variables), ros_graph.simulation_config()) as graph,
        Operator(graph.check) as operator,
    ):
        graph.start("sim_bridge", {"speed": speed})
        graph.start("camera_sync")
        for node, values in ros_graph.policy_nodes(policy, bundle).items():
            graph.start(node, values | (dict(parameters or {}) if node == "policy" else {}))
        graph.start("executor")
        graph.start("episode_recorder", {"folder": bags})
        yield operator


def evaluate_in_graph(
    bundle: Path,
    scenario: str,
    trials: int,
    *,
    seed: int,
    policy: str,
    inference: InferenceConfig,
    folder: Path,
    speed: float = 1.0,
    progress: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """Run the trials through the graph and return the figures.

    Args:
        bundle: Folder of the bundle.
        scenario: Name of the scenario; all but ``ind`` start undisturbed.
        trials: Number of episodes, spread over the 31 placements.
        seed: Of the placements.
        policy: Which policy.
        inference: How one that is compared answers.
        folder: For bags and logs; older ones are thrown away.
        speed: Simulated seconds a second: below 1 on a computer that is slower than the robot's.
        progress: Called after every episode.

    Returns:
        ``success``, ``trials``, the success rate's 95 % interval, ``flagged``,
        ``commands_after_flag``, median and 95th percentile of the policy's ``answer_ms``, and each
        episode.

    Raises:
        ConfigurationError: The scenario does not exist, or the speed is out of bounds.
        BundleError: The bundle cannot be loaded, or holds no such policy.
        DependencyError: The nodes are not installed.
    """
    find_scenario(scenario)
    if not SLOWEST <= speed <= 1.0:
        raise ConfigurationError(f"eval: speed must be {SLOWEST} to 1, got {speed}")
    bags, logs = folder / "bags", folder / "logs"
    shutil.rmtree(bags, ignore_errors=True)
    asked: dict[str, Any] = {
        "device": inference.device,
        "sampler": inference.sampler,
        "denoising_steps": inference.denoising_steps,
    }
    if inference.ensemble_decay is not None:
        asked["ensemble_decay"] = inference.ensemble_decay
    results: list[TrialResult] = []
    seconds: list[float] = []
    variables = ros_graph.environment(local_domain=20 + os.getpid() % 80)
    os.environ.update(variables)
    with started(policy, bundle, bags, logs, variables, asked, speed) as operator:
        for number in range(trials):
            operator.chunks.clear()
            trial = number * 31 // trials
            results.append(run_trial(operator, scenario, trial, seed, speed=speed))
            seconds += [chunk.policy_seconds for chunk in operator.chunks]
            progress(len(results), trials)
    success = sum(result.success for result in results)
    low, high = wilson_interval(success, trials)
    answers = np.quantile(seconds, [0.5, 0.95]) if seconds else None
    return {
        "policy": policy,
        "scenario": scenario,
        "graph": True,
        "speed": speed,
        "success": success,
        "trials": trials,
        "success_interval_95": [round(low, 4), round(high, 4)],
        "flagged": sum(result.flagged for result in results),
        "commands_after_flag": sum(result.commands_after_flag for result in results),
        "answer_ms": None
        if answers is None
        else {"p50": round(1e3 * float(answers[0]), 1), "p95": round(1e3 * float(answers[1]), 1)},
        "episodes": [asdict(result) for result in results],
        "seed": seed,
        "machine": machine(),
    }


def start_recording(operator: Operator, name: str) -> bool:
    """Ask the recorder to start; False while topics are still being discovered."""
    return bool(operator.call("recorder/start", name=name).success)


def reset_trial(
    operator: Operator,
    scenario: str,
    trial: int,
    seed: int,
    *,
    record: str = "",
    without_disturbance: bool = False,
) -> None:
    """Disarm, put the scene to the start of a trial, wait until the graph has seen it.

    A bag that is recorded holds the reset's gap in the stamps: from there on its decisions can be
    taken again.
    """
    operator.require("alt/disarm")
    operator.wait_for("the first decision", lambda: operator.flags, timeout=90.0)
    before = stamp_of(operator.flags[-1])
    if record:
        operator.wait_for("the recorder", lambda: start_recording(operator, record), timeout=30.0)
    operator.require(
        "sim/reset",
        scenario=scenario,
        trial=trial,
        seed=seed,
        without_disturbance=without_disturbance,
    )
    operator.wait_for(
        "the first decision after the reset",
        lambda: stamp_of(operator.flags[-1]) > before + 1_000_000_000,
        timeout=60.0,
    )


def run_trial(
    operator: Operator, scenario: str, trial: int, seed: int, *, speed: float = 1.0
) -> TrialResult:
    """Run one episode: reset, record, arm, watch.

    A strange scenario starts undisturbed; what is wrong appears while the arm moves.
    """
    disturbed = scenario != "ind"
    reset_trial(
        operator,
        scenario,
        trial,
        seed,
        record=f"{scenario}_{trial:02d}",
        without_disturbance=disturbed,
    )
    operator.states.clear()
    operator.flags.clear()
    operator.commands.clear()
    operator.success = False
    armed = False
    for _ in range(20):
        armed = operator.call("alt/arm").success
        if armed:
            break
        time.sleep(0.1)
    flag_seconds: float | None = None
    if armed and disturbed:
        flag_seconds = _disturb(operator, scenario, trial)
    seconds = WATCH_AFTER_FLAG if disturbed else EPISODE_SECONDS
    success = armed and _watch(operator, seconds / speed)
    state = f"{operator.state.state}: {operator.state.reason}"
    operator.require("recorder/stop", episode_success=success)
    decelerating, other = commands_after_hold(operator)
    operator.require("alt/stop")
    return TrialResult(
        scenario,
        trial,
        success,
        any(flag.flag for flag in operator.flags),
        flag_seconds,
        decelerating,
        other,
        state,
    )


def _disturb(operator: Operator, scenario: str, trial: int) -> float | None:
    time.sleep(DISTURB_AFTER)
    at = time.monotonic()
    operator.require("sim/set_disturbance", scenario=scenario, trial=trial)
    deadline = at + EPISODE_SECONDS
    while time.monotonic() < deadline:
        for arrival, flag in list(operator.flags_at):
            if flag.flag and arrival >= at:
                return round(arrival - at, 3)
        time.sleep(0.01)
    return None


def _watch(operator: Operator, seconds: float) -> bool:
    """Return whether the cup is lifted and stays held for a quarter of a second."""
    deadline = time.monotonic() + seconds
    held_since = math.inf
    while time.monotonic() < deadline:
        held_since = min(held_since, time.monotonic()) if operator.success else math.inf
        if time.monotonic() - held_since > 0.25:
            return True
        time.sleep(0.01)
    return False


def commands_after_hold(operator: Operator) -> tuple[int, int]:
    """Return how many commands after the flag belong to the declared deceleration, and others.

    From the moment that the executor holds, its speed may only fall, and it rests after
    speed / acceleration at the latest; any other command counts as one that must not be.
    """
    held = [s for s in operator.states if s.state == "holding" and "distribution" in s.reason]
    if not held:
        return 0, 0
    since = stamp_of(held[0])
    limits = SafetyLimits()
    longest = max(
        limits.linear_speed / limits.linear_acceleration,
        limits.angular_speed / limits.angular_acceleration,
    )
    commands = [command for _, command in operator.commands]
    stamps = np.array([stamp_of(c) for c in commands]) / 1e9
    positions = np.array([pose_of(c.pose)[:3] for c in commands]).reshape(-1, 3)
    speeds = np.linalg.norm(np.diff(positions, axis=0), axis=1) / np.maximum(np.diff(stamps), 1e-9)
    decelerating = other = 0
    for n in np.flatnonzero(stamps >= since / 1e9):
        late = stamps[n] - since / 1e9 > longest + 0.02
        faster = n >= 2 and speeds[n - 1] > speeds[n - 2] + 1e-3
        if late or faster:
            other += 1
        else:
            decelerating += 1
    return decelerating, other
