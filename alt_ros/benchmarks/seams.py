"""What a change of chunks does to the command: ours beside switching without blending.

Chunks are recalled along demonstrated paths, one every action horizon, and arrive ``DELAY`` after
the frame that they answer. Two ways of recalling are measured:

- ``offset``: always from the demonstration itself, each chunk shifted and turned at random;
- ``neighbour``: alternately from the demonstration and from the one that lies nearest to it, at
  the frame that lies nearest, as a lookup that changes its mind.

Both streams are sampled at 100 Hz. Ours is what ``Executor`` sends to an arm that follows exactly;
the unblended one is the newest chunk's target, interpolated, from its arrival on. With samples
``p_k``, ``v_k = (p_k - p_(k-1)) / h`` and ``a_k = (v_k - v_(k-1)) / h``; rotations likewise from
the rotation vector between two samples. At each change, within ``WINDOW`` from it on:

- velocity step: the largest ``|v_k - v_(k-1)|``;
- acceleration step: the largest ``|a_k - a_(k-1)|``.

The demonstrated path bends at its own actions too, and that is part of both figures.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import DataError
from alt_ros.execution import Executor, Moment
from alt_ros.geometry import (
    arm_action,
    interpolate_pose,
    pose_distance,
    split_arm_action,
)
from alt_ros.lookup.table import Table
from alt_ros.progress import Advance
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.report import machine
from alt_ros.safety import SafetyLimits, State
from alt_ros.types import NANOSECONDS, ActionChunk, Neighbour, OodDecision

Array = NDArray[np.float64]

TICK = NANOSECONDS // 100
DELAY = 4 * TICK
WINDOW = 25 * TICK
PREDICTION_HORIZON = 16
OFFSET = 0.005
"""Standard deviation of a chunk's shift along each axis, metres."""
TURN = 0.03
"""Standard deviation of a chunk's turn about each axis, radians."""
_START = 1000 * NANOSECONDS
_FAMILIAR = OodDecision(False, 1.0, 0.0, Neighbour(0, 0, 1.0))


class _Walk(NamedTuple):
    """Samples along one demonstration: (n, 7) poses each, and where the chunks changed."""

    ours: Array
    unblended: Array
    path: Array
    changes: list[int]
    interrupted: int


def measure_seams(
    table: Table,
    *,
    changes: int = 1000,
    seed: int = 0,
    limits: SafetyLimits | None = None,
    horizon: HorizonConfig | None = None,
    progress: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """Change chunks along demonstrated paths; return the steps and the tracking errors.

    Args:
        table: Demonstrations of one arm; ``Bundle.load(path, encoder=False).table``.
        changes: How many changes of chunks to measure, in each of the two ways.
        seed: Of the demonstrations' order and of the offsets.
        limits: The executor's; None takes the defaults.
        horizon: The executor's; None takes the defaults.
        progress: Called after every demonstration.

    Returns:
        Per way: p50, p99 and max of both steps, in position and in rotation (SI units), and mean
        and max distance to the demonstrated path, of ``ours``, of ``unblended`` and of the
        ``demonstrated`` path itself; the ratios of the first two; periods in which ours did not
        follow chunks (0: no hold).

    Raises:
        DataError: The table does not move one arm, or no demonstration lasts two action horizons.
    """
    horizon = horizon or HorizonConfig()
    if table.layout.arms != 1 or table.layout.extra:
        raise DataError(
            f"seams: the table must move one arm, it moves {table.layout.arms} and "
            f"{table.layout.extra} other axes"
        )
    long_enough = [
        demonstration
        for demonstration in range(table.demonstrations)
        if _length(table, demonstration) > 2 * horizon.action_horizon
    ]
    if not long_enough:
        raise DataError(
            f"seams: a demonstration must be longer than {2 * horizon.action_horizon} frames, "
            "two action horizons; the table has none"
        )
    figures: dict[str, Any] = {
        "seed": seed,
        "rate_hz": NANOSECONDS // TICK,
        "window_ms": WINDOW // 1_000_000,
        "delay_ms": DELAY // 1_000_000,
        "offset_m": OFFSET,
        "turn_rad": TURN,
        "blending": horizon.blending,
        "fade_ms": horizon.fade // 1_000_000,
    }
    for part, way in enumerate(("offset", "neighbour")):
        random = np.random.default_rng([seed, part])
        walks: list[_Walk] = []
        done = 0
        while done < changes:
            demonstration = int(random.choice(long_enough))
            walk = _walk(table, demonstration, way, random, limits or SafetyLimits(), horizon)
            walks.append(walk._replace(changes=walk.changes[: changes - done]))
            done += len(walks[-1].changes)
            progress(part * changes + done, 2 * changes)
        figures[way] = _summarize(walks)
    return figures | {"machine": machine()}


def _length(table: Table, demonstration: int) -> int:
    rows = table.rows(demonstration)
    return rows.stop - rows.start


def _poses(table: Table, demonstration: int) -> Array:
    """Return a demonstration's commanded poses (n, 7)."""
    poses, _ = split_arm_action(table.actions[table.rows(demonstration)], 1)
    return poses[:, 0]


def _neighbour(table: Table, demonstration: int) -> int:
    """Return the demonstration whose path lies nearest, frame by frame."""
    own = _poses(table, demonstration)[:, :3]
    distances = np.full(table.demonstrations, np.inf)
    for other in range(table.demonstrations):
        path = _poses(table, other)[: len(own), :3]
        if other != demonstration and len(path) > len(own) // 2:
            distances[other] = np.linalg.norm(path - own[: len(path)], axis=1).mean()
    return int(np.argmin(distances))


def _nearest_frame(path: Array, pose: Array, frame: int) -> int:
    """Return the frame of a path (n, 7) nearest to a pose, at most ten frames off."""
    near = range(max(frame - 10, 0), min(frame + 11, len(path)))
    return min(near, key=lambda at: pose_distance(path[at], pose), default=len(path) - 1)


def _sample(poses: Array, period: int, elapsed: int) -> Array:
    """Return the pose ``elapsed`` ns after the first of a path (n, 7), interpolated."""
    position = min(elapsed / period, len(poses) - 1.0)
    index = min(int(position), len(poses) - 2)
    return interpolate_pose(poses[index], poses[index + 1], position - index)


def _shifted(chunk: ActionChunk, random: np.random.Generator) -> ActionChunk:
    poses, openings = split_arm_action(chunk.actions, 1)
    turn = Rotation.from_rotvec(random.normal(0.0, TURN, 3))
    positions = poses[:, 0, :3] + random.normal(0.0, OFFSET, 3)
    turned = (turn * Rotation.from_quat(poses[:, 0, 3:])).as_quat()
    moved = np.concatenate([positions, turned], axis=1)
    rows = arm_action(moved[:, None], openings)
    return ActionChunk(chunk.stamp, chunk.period, rows, chunk.layout, chunk.source)


def _chunks(
    table: Table, demonstration: int, way: str, random: np.random.Generator, every: int
) -> list[ActionChunk]:
    """Return the chunks recalled along a demonstration, one every so many frames."""
    path = _poses(table, demonstration)
    other = _neighbour(table, demonstration)
    other_path = _poses(table, other)
    chunks: list[ActionChunk] = []
    for frame in range(0, len(path) - every, every):
        source, at = demonstration, frame
        if way == "neighbour" and len(chunks) % 2:
            source, at = other, _nearest_frame(other_path, path[frame], frame)
        stamp = _START + frame * table.period
        chunk = table.chunk(source, at, PREDICTION_HORIZON, stamp, 1.0)
        chunks.append(_shifted(chunk, random) if way == "offset" else chunk)
    return chunks


def _walk(
    table: Table,
    demonstration: int,
    way: str,
    random: np.random.Generator,
    limits: SafetyLimits,
    horizon: HorizonConfig,
) -> _Walk:
    path = _poses(table, demonstration)
    waiting = _chunks(table, demonstration, way, random, horizon.action_horizon)
    executor = Executor(limits, horizon, control_period=TICK)
    now, end = _START + DELAY, waiting[-1].stamp + DELAY + horizon.action_horizon * table.period
    executor.step(Moment.of(now - TICK))
    pose = _sample(path, table.period, DELAY)
    newest, newest_poses = waiting[0], path
    ours, unblended, shown, changes, interrupted = [], [], [], [], 0
    while now < end:
        at = Moment.of(now)
        executor.observe_pose(pose, now, at)
        executor.observe_gripper(float(table.grippers[table.rows(demonstration).start, 0]))
        executor.observe_observation(at)
        executor.observe_ood(_FAMILIAR, at)
        if waiting and now >= waiting[0].stamp + DELAY:
            newest = waiting.pop(0)
            newest_poses = split_arm_action(newest.actions, 1)[0][:, 0]
            executor.offer_chunk(newest, at)
            if ours:
                changes.append(len(ours))
            else:
                executor.arm(at)
        sent = executor.step(at)
        pose = pose if sent is None else sent.command.pose
        interrupted += executor.state is not State.RUNNING
        ours.append(pose)
        unblended.append(_sample(newest_poses, table.period, now - newest.stamp))
        shown.append(_sample(path, table.period, now - _START))
        now += TICK
    return _Walk(np.array(ours), np.array(unblended), np.array(shown), changes, interrupted)


def _velocities(poses: Array) -> tuple[Array, Array]:
    """Return linear and angular velocities (n - 1, 3) of samples, m/s and rad/s."""
    period = TICK / NANOSECONDS
    rotations = Rotation.from_quat(poses[:, 3:])
    turns = (rotations[1:] * rotations[:-1].inv()).as_rotvec()
    return np.diff(poses[:, :3], axis=0) / period, turns / period


def _steps(velocities: Array, changes: list[int]) -> list[tuple[float, float]]:
    """Return the largest step of velocity and of acceleration after each change."""
    period, window = TICK / NANOSECONDS, WINDOW // TICK
    velocity = np.linalg.norm(np.diff(velocities, axis=0), axis=1)
    acceleration = np.linalg.norm(np.diff(velocities, 2, axis=0), axis=1) / period
    # v[k - 1] leads to sample k, so the steps that sample k brings are k - 2 and k - 3.
    return [
        (
            float(velocity[k - 2 : k - 2 + window].max()),
            float(acceleration[k - 3 : k - 3 + window].max()),
        )
        for k in changes
    ]


def _summarize(walks: list[_Walk]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "changes": sum(len(walk.changes) for walk in walks),
        "interrupted_periods": sum(walk.interrupted for walk in walks),
        "ours": _figures([(walk.ours, walk) for walk in walks]),
        "unblended": _figures([(walk.unblended, walk) for walk in walks]),
        "demonstrated": _figures([(walk.path, walk) for walk in walks]),
    }
    figures["unblended_over_ours"] = {
        key: {
            quantile: round(figures["unblended"][key][quantile] / value, 1)
            for quantile, value in figures["ours"][key].items()
        }
        for key in figures["ours"]
        if key.endswith("_step")
    }
    return figures


def _figures(streams: list[tuple[Array, _Walk]]) -> dict[str, Any]:
    """Return tracking error and steps of one stream of samples per walk."""
    errors = [np.linalg.norm(stream[:, :3] - walk.path[:, :3], axis=1) for stream, walk in streams]
    error = np.concatenate(errors) * 1000.0
    figures: dict[str, Any] = {
        "tracking_mean_mm": round(float(error.mean()), 3),
        "tracking_max_mm": round(float(error.max()), 3),
    }
    moved = [(_velocities(stream), walk.changes) for stream, walk in streams]
    for part, kind in enumerate(("position", "rotation")):
        steps = np.array(
            [step for velocities, changes in moved for step in _steps(velocities[part], changes)]
        )  # (changes, 2)
        figures[f"{kind}_velocity_step"] = _quantiles(steps[:, 0])
        figures[f"{kind}_acceleration_step"] = _quantiles(steps[:, 1])
    return figures


def _quantiles(values: Array) -> dict[str, float]:
    return {
        "p50": float(f"{np.quantile(values, 0.5):.4g}"),
        "p99": float(f"{np.quantile(values, 0.99):.4g}"),
        "max": float(f"{values.max():.4g}"),
    }
