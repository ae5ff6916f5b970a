"""Judges whether a live graph's streams fit each other, by running the synchroniser on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.timing import Timing, covered, nearest_distances
from alt_ros.errors import ConfigurationError
from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.topic_record import StreamRecord
from alt_ros.synchronization import SynchronizationConfig, Synchronizer

GROUP = "pairing"
SHARE_AT_LEAST = 0.9
POSE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def judge_pairing(
    streams: Mapping[str, StreamRecord],
    timings: Mapping[str, Timing],
    sensors: CameraSyncParameters,
) -> Iterator[Finding]:
    """Yield how clocks, views, poses and openings fit each other.

    Args:
        streams: By role, from a survey.
        timings: Of the same.
        sensors: How camera_sync pairs them.
    """
    try:
        config = sensors.synchronization()
    except ConfigurationError as error:
        yield Finding("camera_sync", False, str(error), "correct its parameters", group=GROUP)
        return
    heard = {role: stream for role, stream in streams.items() if stream.count}
    if len(heard) > 1:
        yield _agreement({role: timings[role] for role in heard}, sensors)
    primary = heard.get(sensors.views[0])
    if primary is None:
        return
    stamps = {role: _stamps(stream, config) for role, stream in heard.items()}
    for view in sensors.views[1:]:
        if view in heard:
            yield _skew(view, stamps[sensors.views[0]], stamps[view], sensors)
    for role in ("pose", "gripper"):
        if role in heard:
            yield _coverage(role, stamps[sensors.views[0]], stamps[role], config)
    if all(role in heard for role in (*sensors.views, "pose", "gripper")):
        yield judge_matches(*paired(heard, config))


def _stamps(stream: StreamRecord, config: SynchronizationConfig) -> list[int]:
    delay = config.latencies.get(stream.role, 0)
    return [message.stamp - delay for message in stream.messages]


def _agreement(timings: Mapping[str, Timing], sensors: CameraSyncParameters) -> Finding:
    """Judge whether cameras and arm are stamped by one clock."""
    subject = "clocks of cameras and arm"
    ages = {role: t.age for role, t in timings.items() if np.isfinite(t.age) and not t.zeros}
    if len(ages) < 2:
        return Finding(subject, False, "stamps tell nothing", "see the stamps", False, GROUP)
    oldest, newest = max(ages, key=ages.__getitem__), min(ages, key=ages.__getitem__)
    apart = ages[oldest] - ages[newest]
    detail = f"their ages at arrival differ by {apart:.1f} ms at most ('{oldest}', '{newest}')"
    limit = 1e3 * sensors.max_wait
    if apart <= limit / 2:
        return Finding(subject, True, detail, group=GROUP)
    remedy = (
        f"keep the clocks of their computers by one (chrony, PTP), or measure the delay of "
        f"'{oldest}' into camera_sync's latencies"
    )
    return Finding(subject, False, detail, remedy, apart > limit, GROUP)


def _skew(view: str, first: list[int], other: list[int], sensors: CameraSyncParameters) -> Finding:
    subject = f"{sensors.views[0]} and {view}"
    distances = nearest_distances(first, other)
    limit = 1e3 * sensors.max_skew
    if not len(distances):
        remedy = "their stamps do not overlap: see the stamps of both"
        return Finding(subject, False, "no frames at the same time", remedy, group=GROUP)
    median, high = (float(v) for v in np.percentile(distances, (50, 95)))
    detail = f"skew median {median:.1f} ms, p95 {high:.1f} ms; max_skew {limit:.0f} ms"
    share = float(np.mean(distances <= limit))
    if share >= SHARE_AT_LEAST:
        return Finding(subject, True, detail, group=GROUP)
    remedy = (
        "trigger the cameras together, or run them at one rate; max_skew may be up to half the "
        f"frame period, {500 * sensors.frame_period:.0f} ms; a constant delay: latencies_views"
    )
    detail = f"{detail}: {share:.0%} within it"
    return Finding(subject, False, detail, remedy, share < 0.5, GROUP)


def _coverage(
    role: str, images: list[int], samples: list[int], config: SynchronizationConfig
) -> Finding:
    subject = f"{role} around images"
    share = covered(images, samples, config.max_bracket)
    bracket = config.max_bracket / 1e6
    detail = f"{share:.0%} of the images lie between two samples within {bracket:.0f} ms"
    if share >= SHARE_AT_LEAST:
        return Finding(subject, True, detail, group=GROUP)
    remedy = f"publish {role} faster and without gaps, on the cameras' clock"
    return Finding(subject, False, detail, remedy, share < 0.5, GROUP)


def paired(
    streams: Mapping[str, StreamRecord], config: SynchronizationConfig
) -> tuple[int, int, Counter[str]]:
    """Run the synchroniser on what came, in the order of arrival.

    Returns:
        How many became observations of the first view's frames that had the time to, how many
        of these there were, drops by reason.
    """
    synchronizer = Synchronizer[None](config)
    events = sorted(
        (message.arrival, role, message.stamp)
        for role, stream in streams.items()
        for message in stream.messages
    )
    begun = max(next(iter(stream.messages)).arrival for stream in streams.values())
    ended = min(stream.messages[-1].arrival for stream in streams.values())
    due: set[int] = set()
    matched: set[int] = set()
    delay = config.latencies.get(config.views[0], 0)
    for arrival, role, stamp in events:
        if role == "pose":
            found = synchronizer.add_pose(stamp, np.array(POSE))
        elif role == "gripper":
            found = synchronizer.add_gripper(stamp, 0.0)
        else:
            found = synchronizer.add_frame(role, stamp, None)
        matched.update(match.stamp for match in found)
        in_time = begun + config.max_wait < arrival <= ended - config.max_wait
        if role == config.views[0] and in_time:
            due.add(stamp - delay)
    return len(due & matched), len(due), synchronizer.drops


def judge_matches(matches: int, frames: int, drops: Counter[str]) -> Finding:
    """Judge how many frames became observations.

    Args:
        matches: Observations.
        frames: Frames of the first view that had the time to become one.
        drops: Reason to the number of messages that were dropped.
    """
    subject = "observations"
    if not frames:
        remedy = "listen longer: --live 20"
        return Finding(subject, False, "too few frames to tell", remedy, False, GROUP)
    share = matches / frames
    reasons = ", ".join(f"{reason} {count}" for reason, count in drops.most_common(3))
    detail = f"camera_sync makes one of {share:.0%} of {frames} frames"
    if share >= SHARE_AT_LEAST:
        return Finding(subject, True, detail, group=GROUP)
    detail += f"; dropped: {reasons}" if reasons else ""
    remedy = "mend what is wrong above; then see /diagnostics of camera_sync"
    return Finding(subject, False, detail, remedy, share < 0.5, GROUP)
