"""Pairs and poses of the synchroniser against known true ones, beside what ROS offers.

Two 30 Hz cameras and a 100 Hz pose stream of an arm on a smooth trajectory, one scenario after the
other, message by message in the order of arrival. What is said of a scenario below is all that is
wrong in it; stamps are exact otherwise, and the pose is measured without noise.

- ``phase_8ms``: the second camera captures 8 ms after the first.
- ``loss_0.5%``, ``loss_5%``: as before, and that share of each camera's frames is lost.
- ``transport_skew_30ms``: 8 ms phase, 0.5 % loss, and the second camera's messages arrive 30 ms
  later than they would.
- ``jitter_10ms``: the cameras capture together, each stamp is late by U(0, 10) ms, and the
  transport takes up to 20 ms longer.
- ``clock_jump``: 8 ms phase; all clocks go back 2 s after a third of the time and forward again
  after two.
- ``drift``: the second camera's period is longer by 100 ppm, so that the phase passes through
  everything within an hour.

Frames arrive 25 to 30 ms after their stamp, poses 1 to 2 ms, each stream in order.

What is counted, per scenario and method:

- ``pairs_that_exist``: both frames were delivered, each one's capture is, of all captures of its
  camera, the nearest to the other's, and the stamps lie at most half a period apart.
- ``wrong_pairs``: the partner's capture is more than half a period off the capture that is the
  nearest one to the primary frame's; ``worst_error_ms`` is the largest such distance.
- ``found``: share of the pairs that exist which were made.
- ``added_latency_ms``: from the arrival of the later one of the two frames to the output.
- ``pose_error``: of our pose at the image's stamp to the true pose at that instant, and to the
  true pose at the image's capture, which differs where the stamp is late; beside the pose that
  arrived last when the image arrived, and the ratio of the means. Only made pairs are compared.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.benchmarks.approximate_time import Pairing, approximate_time
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.synchronization import MILLISECOND, SynchronizationConfig, Synchronizer
from alt_ros.types import NANOSECONDS

Array = NDArray[np.float64]
Times = NDArray[np.int64]

VIEWS = ("first", "second")
FRAME_PERIOD = 33_333_333
POSE_PERIOD = 10 * MILLISECOND
FRAME_TRANSPORT = (25 * MILLISECOND, 30 * MILLISECOND)
POSE_TRANSPORT = (1 * MILLISECOND, 2 * MILLISECOND)
SLOPS = (10 * MILLISECOND, 50 * MILLISECOND, 100 * MILLISECOND)
QUEUE_SIZE = 10
START = 1_700_000_000 * NANOSECONDS
JUMP = 2 * NANOSECONDS

POSE_SUMMARY = {"p99": 99.0, "max": 100.0}

FOUND_AT_LEAST = 0.995
POSE_RATIO_AT_MOST = 0.1


@dataclass(frozen=True)
class Scenario:
    """What goes wrong; times in ns.

    Attributes:
        phase: Of the second camera's captures after the first one's.
        loss: Share of each camera's frames.
        transport_skew: By which the second camera's messages arrive later.
        stamp_jitter: Largest delay of a stamp after its capture.
        transport_jitter: Largest extra transport time of a frame.
        clocks_jump: Whether all clocks jump back and forward again.
        drift: By which the second camera's period is longer, relative.
    """

    phase: int = 8 * MILLISECOND
    loss: float = 0.0
    transport_skew: int = 0
    stamp_jitter: int = 0
    transport_jitter: int = 0
    clocks_jump: bool = False
    drift: float = 0.0


SCENARIOS = {
    "phase_8ms": Scenario(),
    "loss_0.5%": Scenario(loss=0.005),
    "loss_5%": Scenario(loss=0.05),
    "transport_skew_30ms": Scenario(loss=0.005, transport_skew=30 * MILLISECOND),
    "jitter_10ms": Scenario(
        phase=0, stamp_jitter=10 * MILLISECOND, transport_jitter=20 * MILLISECOND
    ),
    "clock_jump": Scenario(clocks_jump=True),
    "drift": Scenario(phase=0, drift=100e-6),
}


@dataclass(frozen=True, eq=False)
class _Stream:
    """Messages of one sensor in order, (n,) int64 ns each, and which were delivered, (n,) bool.

    ``stamped_at`` is the true time of the stamp, ``stamps`` is what the clock said then.
    """

    captures: Times
    stamped_at: Times
    stamps: Times
    arrivals: Times
    delivered: NDArray[np.bool_]


@dataclass
class _Pairs:
    """What a method made: frame numbers, the instant of output in ns, and our poses."""

    first: list[int] = field(default_factory=list)
    second: list[int] = field(default_factory=list)
    made_at: list[int] = field(default_factory=list)
    poses: list[Array] = field(default_factory=list)


def measure_synchronization(
    hours: float = 1.0, seed: int = 0, *, progress: Advance
) -> dict[str, Any]:
    """Run every scenario through our synchroniser and through ROS's at three slops.

    Args:
        hours: Stream time of each scenario.
        seed: Of losses and delays.
        progress: Called after every method of every scenario.

    Returns:
        Figures as the module says, and ``passed``: no wrong pair, at least 99.5 % found and at
        most a tenth of the latest pose's error in every scenario.
    """
    begun = time.perf_counter()
    _, source = approximate_time(len(VIEWS), QUEUE_SIZE, SLOPS[0])
    methods = 2 + len(SLOPS)
    total = len(SCENARIOS) * methods
    results: dict[str, dict[str, Any]] = {}
    for number, (name, scenario) in enumerate(SCENARIOS.items()):
        random = np.random.default_rng([seed, number])
        cameras, pose = _streams(scenario, round(hours * 3600 * NANOSECONDS), random)
        result: dict[str, Any] = {"pairs_that_exist": int(_existing(cameras).sum())}
        ours = _synchronize(cameras, pose)
        result["alt"] = _score(cameras, ours) | {"pose_error": _pose_error(cameras[0], pose, ours)}
        progress(number * methods + 1, total)
        result["alt_without_pose"] = _score(cameras, _synchronize(cameras, None))
        progress(number * methods + 2, total)
        for count, slop in enumerate(SLOPS, start=3):
            pairing, _ = approximate_time(len(VIEWS), QUEUE_SIZE, slop)
            made = _pair(cameras, pairing)
            result[f"approximate_time_{slop // MILLISECOND}ms"] = _score(cameras, made)
            progress(number * methods + count, total)
        results[name] = result
    return {
        "hours": hours,
        "seed": seed,
        "frame_period_ms": FRAME_PERIOD / 1e6,
        "max_skew_ms": (FRAME_PERIOD // 2) / 1e6,
        "approximate_time": {"source": source, "queue_size": QUEUE_SIZE},
        "scenarios": results,
        "passed": all(_passes(result["alt"]) for result in results.values()),
        "seconds": round(time.perf_counter() - begun, 1),
        "machine": machine(),
    }


def _passes(ours: dict[str, Any]) -> bool:
    error = ours["pose_error"]["at_stamp"]
    return (
        ours["wrong_pairs"] == 0
        and ours["found"] >= FOUND_AT_LEAST
        and error["ratio_mm"] <= POSE_RATIO_AT_MOST
        and error["ratio_degrees"] <= POSE_RATIO_AT_MOST
    )


def _streams(
    scenario: Scenario, duration: int, random: np.random.Generator
) -> tuple[list[_Stream], _Stream]:
    """Return both cameras' streams and the pose's."""

    def clock(times: Times) -> Times:
        jumped = (times >= START + duration // 3) & (times < START + 2 * duration // 3)
        return times - JUMP * (jumped & scenario.clocks_jump)

    def stream(captures: Times, late: int, loss: float, transport: tuple[int, int]) -> _Stream:
        count = len(captures)
        stamped_at = captures + random.integers(0, late + 1, count)
        arrivals = stamped_at + random.integers(*transport, count)
        delivered = random.random(count) >= loss
        return _Stream(
            captures, stamped_at, clock(stamped_at), np.maximum.accumulate(arrivals), delivered
        )

    cameras: list[_Stream] = []
    second = (scenario.phase, scenario.drift, scenario.transport_skew)
    for phase, drift, skew in ((0, 0.0, 0), second):
        steps = np.arange(duration // FRAME_PERIOD, dtype=np.int64)
        captures = START + phase + np.rint(steps * (FRAME_PERIOD * (1 + drift))).astype(np.int64)
        low, high = FRAME_TRANSPORT
        transport = (low + skew, high + skew + scenario.transport_jitter)
        cameras.append(stream(captures, scenario.stamp_jitter, scenario.loss, transport))
    steps = np.arange(-10, duration // POSE_PERIOD + 10, dtype=np.int64)
    return cameras, stream(START - 3 * MILLISECOND + steps * POSE_PERIOD, 0, 0.0, POSE_TRANSPORT)


def _in_order_of_arrival(streams: Sequence[_Stream]) -> tuple[list[int], list[int], list[int]]:
    """Return stream number, message number and arrival of every delivered message."""
    numbers = [np.flatnonzero(s.delivered) for s in streams]
    arrivals = np.concatenate([s.arrivals[n] for s, n in zip(streams, numbers, strict=True)])
    order = np.argsort(arrivals, kind="stable")
    which = np.repeat(np.arange(len(streams)), [len(n) for n in numbers])[order]
    return which.tolist(), np.concatenate(numbers)[order].tolist(), arrivals[order].tolist()


def _synchronize(cameras: Sequence[_Stream], pose: _Stream | None) -> _Pairs:
    """Pair with our synchroniser, with the arm where a pose is given."""
    config = SynchronizationConfig(
        VIEWS,
        arms=0 if pose is None else 1,
        frame_period=FRAME_PERIOD,
        max_skew=FRAME_PERIOD // 2,
    )
    synchronizer: Synchronizer[int] = Synchronizer(config)
    streams = [*cameras] if pose is None else [*cameras, pose]
    stamps = [s.stamps.tolist() for s in streams]
    poses = np.zeros((0, 7)) if pose is None else _trajectory(pose.captures)
    pairs = _Pairs()
    for which, number, arrival in zip(*_in_order_of_arrival(streams), strict=True):
        stamp = stamps[which][number]
        if which < len(cameras):
            matches = synchronizer.add_frame(VIEWS[which], stamp, number)
        else:
            matches = synchronizer.add_gripper(stamp, 0.04)
            matches += synchronizer.add_pose(stamp, poses[number])
        for match in matches:
            pairs.first.append(match.frames[VIEWS[0]])
            pairs.second.append(match.frames[VIEWS[1]])
            pairs.made_at.append(arrival)
            pairs.poses.extend(match.poses)
    return pairs


def _pair(cameras: Sequence[_Stream], pairing: Pairing) -> _Pairs:
    """Pair with ROS's synchroniser."""
    stamps = [s.stamps.tolist() for s in cameras]
    pairs = _Pairs()
    for which, number, arrival in zip(*_in_order_of_arrival(cameras), strict=True):
        made = pairing(which, stamps[which][number], number)
        if made is not None:
            pairs.first.append(made[0])
            pairs.second.append(made[1])
            pairs.made_at.append(arrival)
    return pairs


def _nearest(times: Times, others: Times) -> NDArray[np.intp]:
    """Return the index in ``others``, which ascends, nearest to each of ``times``."""
    after = np.clip(np.searchsorted(others, times), 1, len(others) - 1)
    return after - (times - others[after - 1] <= others[after] - times)


def _existing(cameras: Sequence[_Stream]) -> NDArray[np.bool_]:
    """Return (n,), whether the pair of a frame of the first camera exists."""
    first, second = cameras
    partner = _nearest(first.captures, second.captures)
    is_mutual = _nearest(second.captures, first.captures)[partner] == np.arange(len(partner))
    apart = np.abs(first.stamps - second.stamps[partner])
    delivered = first.delivered & second.delivered[partner]
    return delivered & is_mutual & (2 * apart <= FRAME_PERIOD)


def _score(cameras: Sequence[_Stream], pairs: _Pairs) -> dict[str, Any]:
    first, second = cameras
    left, right = np.array(pairs.first, np.intp), np.array(pairs.second, np.intp)
    partner = _nearest(first.captures, second.captures)
    existing = _existing(cameras)
    error = np.abs(second.captures[right] - second.captures[partner[left]])
    found = np.zeros(len(partner), np.bool_)
    found[left] = right == partner[left]
    complete = np.maximum(first.arrivals[left], second.arrivals[right])
    added = (np.array(pairs.made_at, np.int64) - complete) / 1e6
    return {
        "pairs_made": len(left),
        "wrong_pairs": int((2 * error > FRAME_PERIOD).sum()),
        "found": round(float((found & existing).sum() / existing.sum()), 5),
        "worst_error_ms": round(float(error.max(initial=0)) / 1e6, 3),
        "added_latency_ms": _summary(added, {"p50": 50, "p99": 99}),
    }


def _pose_error(camera: _Stream, pose: _Stream, pairs: _Pairs) -> dict[str, Any]:
    frames = np.array(pairs.first, np.intp)
    ours = np.array(pairs.poses)
    newest = np.searchsorted(pose.arrivals, camera.arrivals[frames], "right") - 1
    latest = _trajectory(pose.captures[newest])
    result: dict[str, Any] = {}
    for instant, times in (("at_stamp", camera.stamped_at), ("at_capture", camera.captures)):
        truth = _trajectory(times[frames])
        errors = {"alt": _distances(ours, truth), "latest": _distances(latest, truth)}
        result[instant] = {
            name: {unit: _summary(values, POSE_SUMMARY) for unit, values in distances.items()}
            for name, distances in errors.items()
        }
        for unit, values in errors["alt"].items():
            ratio = float(values.mean() / errors["latest"][unit].mean())
            result[instant][f"ratio_{unit}"] = round(ratio, 5)
    return result


def _distances(poses: Array, truth: Array) -> dict[str, Array]:
    turns = Rotation.from_quat(truth[:, 3:]).inv() * Rotation.from_quat(poses[:, 3:])
    return {
        "mm": 1e3 * np.linalg.norm(poses[:, :3] - truth[:, :3], axis=1),
        "degrees": np.rad2deg(turns.magnitude()),
    }


def _trajectory(times: Times) -> Array:
    """Return the arm's true poses (n, 7): 0.27 m/s and 66 degrees/s on average."""
    seconds = ((times - START) / 1e9)[:, None]
    angle = 2 * np.pi * seconds * np.array([0.23, 0.17, 0.31])  # (n, 3)
    position = np.array([0.4, 0.0, 0.3]) + 0.02 * np.sin(3.1 * angle)
    position += np.array([0.15, 0.2, 0.1]) * np.sin(angle + np.array([0.0, 0.5, 2.0]))
    turn = np.array([0.3, 0.4, 0.6]) * np.sin(1.3 * angle + np.array([1.0, 0.0, 0.7]))
    return np.hstack([position, Rotation.from_euler("xyz", turn).as_quat()])


def _summary(values: Array, percentiles: Mapping[str, float]) -> dict[str, float]:
    summary = {"mean": float(values.mean())}
    for name, percentile in percentiles.items():
        summary[name] = float(np.percentile(values, percentile))
    return {name: round(value, 5) for name, value in summary.items()}
