"""Roll-outs in process: policy, executor and simulation on one clock, without ROS.

The executor is the very class that the node runs; inference takes no simulated time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alt_ros.execution import Executor, Moment
from alt_ros.policies.policy import Policy, PolicyOutput
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.safety import SafetyLimits
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.scenarios import Scenario
from alt_ros.types import ARM_ACTION_SIZE, NANOSECONDS, ActionChunk, Observation

FRAME_PERIOD = 50_000_000
"""Time between camera frames, ns: 20 Hz."""
SETTLED = NANOSECONDS // 4
"""How long the cup must stay lifted and held for a success, ns."""


@dataclass(frozen=True, eq=False)
class Episode:
    """What one roll-out did.

    Attributes:
        scenario: Name of the scenario.
        trial: Number of the trial.
        success: Whether the cup was lifted and stayed held.
        flagged: Whether the out-of-distribution flag went up.
        flag_delay: Seconds from the first observation to the flag; NaN where it stayed down.
        expected: The demonstration whose cup stood nearest.
        recalled: The demonstration that most commands came from; -1 without a command.
        commands: Commands sent.
        seconds: Simulated length.
        poses: (n, 7) measured, one per observation, metres and quaternion x, y, z, w.
        cup: (n, 7) poses of the cup, one per observation.
        actions: (m, 10) the action that was due at each observation, while one was followed.
        chunks: (m,) stamp of the chunk that each is of, ns.
        reason: State and reason of the executor at the end.
    """

    scenario: str
    trial: int
    success: bool
    flagged: bool
    flag_delay: float
    expected: int
    recalled: int
    commands: int
    seconds: float
    poses: NDArray[np.float64]
    cup: NDArray[np.float64]
    actions: NDArray[np.float64]
    chunks: NDArray[np.int64]
    reason: str


def run_episode(
    simulation: CupGraspSimulation,
    policy: Policy,
    scenario: Scenario,
    trial: int,
    *,
    seed: int = 0,
    limits: SafetyLimits | None = None,
    horizon: HorizonConfig | None = None,
    monitor: Policy | None = None,
    act_every: int = 1,
    watched: bool = True,
    max_seconds: float = 7.0,
) -> Episode:
    """Run one trial of a scenario.

    Args:
        simulation: Stepped from here on; its time goes on.
        policy: Reset first.
        scenario: What stands where, and what is wrong.
        trial: Number of the trial.
        seed: Of the evaluation.
        limits: The executor's; None takes the defaults.
        horizon: The executor's; None takes the defaults.
        monitor: Watches beside a policy that does not: its decisions count, not its chunks.
        act_every: Observations from one that the policy answers to the next; with Ta a slow
            policy answers just those whose chunks would be followed.
        watched: Whether flags count; else the policy goes on whatever it or the monitor says.
        max_seconds: Simulated time after which the episode ends without success.
    """
    setup = scenario.trial(trial, seed)
    simulation.reset(setup.placement, setup.disturbance, setup.seed, start=setup.start)
    policy.reset()
    if monitor is not None:
        monitor.reset()
    executor = Executor(limits or SafetyLimits(), horizon or HorizonConfig())
    start = simulation.time
    pose, gripper = simulation.pose(), simulation.gripper()
    target_pose, target_gripper = pose, gripper
    recalled: Counter[int] = Counter()
    sources: dict[int, int] = {}
    offered: dict[int, ActionChunk] = {}
    actions: list[NDArray[np.float64]] = []
    chunks: list[int] = []
    poses: list[NDArray[np.float64]] = []
    cup: list[NDArray[np.float64]] = []
    flag_delay, commands, lifted_since = float("nan"), 0, 0
    success = False
    while simulation.time - start < max_seconds * NANOSECONDS and not success:
        now = simulation.time
        at = Moment.of(now)
        executor.observe_pose(simulation.pose(), now, at)
        executor.observe_gripper(simulation.gripper())
        if (now - start) % FRAME_PERIOD == 0:
            seen, output = _observation(simulation), PolicyOutput(None, None)
            if len(poses) % act_every == 0:
                output = policy.act(seen)
            else:
                policy.observe(seen)
            poses.append(simulation.pose())
            cup.append(simulation.cup_pose())
            ood = output.ood if monitor is None else monitor.act(seen).ood
            executor.observe_observation(at)
            if ood is not None and watched:
                executor.observe_ood(ood, at)
            flag = watched and ood is not None and ood.flag
            if flag and np.isnan(flag_delay):
                flag_delay = (now - start) / NANOSECONDS
            if output.chunk is not None and not flag:
                executor.offer_chunk(output.chunk, at)
                source = output.chunk.source
                sources[output.chunk.stamp] = -1 if source is None else source.demonstration
                offered[output.chunk.stamp] = output.chunk
            if now == start:
                executor.arm(at)
        sent = executor.step(at)
        if sent is not None:
            commands += 1
            recalled[sources.get(sent.chunk_stamp, -1)] += 1
            chunk = offered.get(sent.chunk_stamp)
            if chunk is not None and (now - start) % FRAME_PERIOD == 0:
                row = min((now - chunk.stamp) // chunk.period, len(chunk.actions) - 1)
                actions.append(chunk.actions[row])
                chunks.append(chunk.stamp)
            target_pose, target_gripper = sent.command.pose, sent.command.gripper
        simulation.step(target_pose, target_gripper)
        lifted_since = (lifted_since or simulation.time) if simulation.success() else 0
        success = bool(lifted_since) and simulation.time - lifted_since >= SETTLED
    return Episode(
        scenario=scenario.name,
        trial=trial,
        success=success,
        flagged=not np.isnan(flag_delay),
        flag_delay=flag_delay,
        expected=setup.nearest,
        recalled=recalled.most_common(1)[0][0] if recalled else -1,
        commands=commands,
        seconds=(simulation.time - start) / NANOSECONDS,
        poses=np.array(poses),
        cup=np.array(cup),
        actions=np.array(actions).reshape(-1, ARM_ACTION_SIZE),
        chunks=np.array(chunks, np.int64),
        reason=f"{executor.state.value}: {executor.reason}",
    )


def _observation(simulation: CupGraspSimulation) -> Observation:
    return Observation(
        stamp=simulation.time,
        images=simulation.render(),
        poses=simulation.pose()[None],
        grippers=np.array([simulation.gripper()]),
    )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a success rate."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
