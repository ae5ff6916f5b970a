"""Judges one stream of a live graph: who sends it, how often, when stamped, what is in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.timing import Timing
from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.topic_record import COMPRESSED, IMAGE, StreamRecord
from alt_ros.preprocessing import ENCODINGS

RATE_AT_LEAST, RATE_AT_MOST = 0.8, 1.25
GAP_AT_MOST = 3.0
"""A longer gap, in frame periods, is told."""
OLD_MS, AHEAD_MS, SPREAD_MS = 200.0, 20.0, 60.0
DRIFT_MS = 10.0
"""A larger change of the stamps' age, ms a second, is no clock that merely drifts."""
CLOCK_TICK_MS = 60.0
"""/clock may come so much after the stamps that were made by it."""
SAME_PLACE = 0.5
"""So much of a difference makes the driver or the way responsible."""
BLANK = 2.0
"""An image whose pixels deviate by less shows nothing, of 255."""
CHRONY = "sudo apt install chrony there and here, one as the other's server; or PTP"


def judge_stream(
    stream: StreamRecord,
    timing: Timing,
    sensors: CameraSyncParameters,
    max_age: float,
    same_type: Iterable[str] = (),
) -> Iterator[Finding]:
    """Yield what is to be said about one stream.

    Args:
        stream: What came.
        timing: Its times.
        sensors: How camera_sync takes it.
        max_age: Age from which on it cannot be used, s.
        same_type: Other topics of its type.
    """
    group = f"{stream.role}: {stream.topic or stream.wanted}"
    for finding in _findings(stream, timing, sensors, max_age, list(same_type)):
        yield replace(finding, group=group)


def _findings(
    stream: StreamRecord,
    timing: Timing,
    sensors: CameraSyncParameters,
    max_age: float,
    same_type: list[str],
) -> Iterator[Finding]:
    yield _publisher(stream, same_type)
    if stream.ends.mismatches:
        yield _quality(stream)
    if not stream.count:
        if stream.ends.publishers or stream.trouble:
            yield _silent(stream)
        return
    is_image = stream.kind in (IMAGE, COMPRESSED)
    yield _image_rate(timing, sensors) if is_image else _sample_rate(timing, sensors)
    yield _order(timing, is_image)
    yield judge_age(timing, max_age)
    yield _image(stream) if is_image else _frame(stream)


def _publisher(stream: StreamRecord, same_type: list[str]) -> Finding:
    publishers = stream.ends.publishers
    if not publishers:
        others = [t for t in same_type if t != stream.wanted][:4]
        remedy = stream.remedy or "start its driver; or remap the topic it has"
        if others and not stream.remedy:
            remedy = (
                f"remap the right one of {', '.join(others)}: --ros-args "
                f"-r {stream.wanted[1:]}:={others[0]}; or start the driver"
            )
        return Finding("publisher", False, f"nobody publishes {stream.wanted}", remedy)
    said = ", ".join(f"{end.node} ({end.quality})" for end in publishers)
    if stream.found:
        detail = f"{stream.wanted} is not there; {stream.topic} is taken ({stream.found}): {said}"
        if not stream.remedy:
            return Finding("publisher", True, detail)
        return Finding("publisher", False, detail, f"camera_sync --ros-args {stream.remedy}")
    if len(publishers) > 1 and not stream.topic.startswith("/tf"):
        remedy = "end all but one: their messages mix"
        return Finding("publisher", False, f"{len(publishers)} publish it: {said}", remedy)
    return Finding("publisher", True, said)


def _quality(stream: StreamRecord) -> Finding:
    ours = any("camera_sync" in name for name in stream.ends.unheard)
    detail = "; ".join(stream.ends.mismatches[:3])
    remedy = (
        "give publisher and subscriber the same reliability and durability in the driver's or "
        "the listener's settings: a reliable publisher is heard by both kinds"
    )
    return Finding("quality of service", False, detail, remedy, required=ours)


def _silent(stream: StreamRecord) -> Finding:
    remedy = "look whether the driver is paused or in error; two computers: firewall, UDP buffers"
    if stream.kind == IMAGE:
        remedy += ", DDS profile on both (the first rows of this report)"
    if stream.trouble:
        remedy = "give camera_sync base_frame and eef_frame of /tf's tree; install tf2_msgs"
    detail = stream.trouble or "it is published, no message came"
    return Finding("messages", False, detail, remedy)


def _image_rate(timing: Timing, sensors: CameraSyncParameters) -> Finding:
    nominal = 1.0 / sensors.frame_period
    detail = _rate_said(timing, f"{nominal:.1f}")
    if math.isnan(timing.rate):
        return Finding("rate", False, f"{timing.count} messages came", "listen longer: --live 20")
    if timing.rate < RATE_AT_LEAST * nominal:
        remedy = (
            f"set the camera to {nominal:.0f} Hz (long exposure slows it too), or camera_sync's "
            f"frame_period to {1 / timing.rate:.3f}; frames lost on the way: DDS profile"
        )
        return Finding("rate", False, detail, remedy)
    if timing.rate > RATE_AT_MOST * nominal:
        remedy = f"set camera_sync's frame_period to {1 / timing.rate:.3f}, or the camera slower"
        return Finding("rate", False, detail, remedy, required=False)
    if timing.worst_gap > GAP_AT_MOST * 1e3 * sensors.frame_period:
        remedy = (
            "frames are lost or late: DDS profile, UDP buffers, USB bandwidth, a busy processor"
        )
        return Finding("rate", False, detail, remedy, required=False)
    return Finding("rate", True, detail)


def _sample_rate(timing: Timing, sensors: CameraSyncParameters) -> Finding:
    detail = _rate_said(timing, "")
    bracket = sensors.max_bracket * 1e3
    if math.isnan(timing.rate):
        return Finding("rate", False, f"{timing.count} messages came", "listen longer: --live 20")
    if timing.interval > bracket:
        remedy = (
            f"publish it every {bracket / 2:.0f} ms or faster, or raise camera_sync's max_bracket"
        )
        return Finding("rate", False, detail, remedy)
    if timing.worst_gap > bracket:
        remedy = (
            f"images in gaps longer than {bracket:.0f} ms are dropped: is the driver's host busy?"
        )
        return Finding("rate", False, detail, remedy, required=False)
    return Finding("rate", True, detail)


def _rate_said(timing: Timing, nominal: str) -> str:
    said = f"{timing.rate:.1f} Hz" + (f" of {nominal}" if nominal else "")
    return f"{said}, median interval {timing.interval:.1f} ms, worst gap {timing.worst_gap:.0f} ms"


def _order(timing: Timing, is_image: bool) -> Finding:
    """Judge stamps that are not set, stand still or run backwards."""
    subject = "stamps rise"
    if timing.zeros:
        remedy = "set header.stamp in the driver, to the time of exposure or measurement"
        detail = f"{timing.zeros} of {timing.count} stamps are zero"
        return Finding(subject, False, detail, remedy)
    if timing.backwards:
        detail = f"{timing.backwards} of {timing.count} stamps lie before the one before"
        remedy = "one publisher only, in the order of the stamps; a clock that is set in steps?"
        return Finding(subject, False, detail, remedy, required=timing.backwards > 1)
    if timing.repeats:
        detail = f"{timing.repeats} of {timing.count} stamps repeat the one before"
        what = "frame" if is_image else "sample"
        remedy = f"let the driver publish each {what} once: repeated stamps are dropped"
        many = timing.repeats > (1 - RATE_AT_LEAST) * timing.count
        return Finding(subject, False, detail, remedy, required=is_image and many)
    return Finding(subject, True, f"all {timing.count}")


def judge_age(timing: Timing, max_age: float) -> Finding:
    """Judge the stamps against this host's clock, or /clock.

    Args:
        timing: Of the stream.
        max_age: Age from which on its messages cannot be used, s.
    """
    subject = "stamps to clock"
    if timing.zeros or math.isnan(timing.age):
        reason = "stamps are zero" if timing.zeros else "no /clock came with them"
        remedy = "see the stamps" if timing.zeros else "is what publishes /clock paused?"
        return Finding(subject, False, reason, remedy, required=False)
    clock = "/clock" if timing.on_clock else "this host's clock"
    way = "behind" if timing.age >= 0 else "ahead of"
    detail = f"{_duration(abs(timing.age))} {way} {clock}, spread {timing.spread:.1f} ms"
    if abs(timing.drift) > DRIFT_MS:
        detail += f", drifting {timing.drift:+.1f} ms a second"
    ahead = CLOCK_TICK_MS if timing.on_clock else AHEAD_MS
    if timing.age > max_age * 1e3 or timing.age < -max(ahead, max_age * 1e3):
        return Finding(subject, False, f"{detail}{_where(timing)}", _age_remedy(timing))
    if abs(timing.drift) > DRIFT_MS:
        remedy = "the driver makes stamps of a nominal rate or of a clock that nothing keeps"
        return Finding(subject, False, detail, remedy, required=False)
    if timing.age > OLD_MS or timing.age < -ahead:
        remedy = _age_remedy(timing)
        return Finding(subject, False, f"{detail}{_where(timing)}", remedy, required=False)
    if timing.spread > SPREAD_MS:
        remedy = "stamp at exposure or measurement, not at arrival; a busy host or network?"
        return Finding(subject, False, detail, remedy, required=False)
    return Finding(subject, True, detail)


def _where(timing: Timing) -> str:
    """Say where the age arises, where the middleware tells."""
    if math.isnan(timing.way):
        return ""
    if abs(timing.way) > SAME_PLACE * abs(timing.age):
        return f"; the sender's own clock is {_duration(abs(timing.way))} off, or the way is slow"
    return f"; already {_duration(abs(timing.driver))} when it was sent"


def _age_remedy(timing: Timing) -> str:
    if timing.on_clock:
        return "set use_sim_time: true in the driver too, or stop what publishes /clock"
    if timing.age > 1e3 * 86_400 * 365:
        return "the driver stamps with the device's uptime: let it take the host's clock"
    if not math.isnan(timing.way) and abs(timing.way) <= SAME_PLACE * abs(timing.age):
        return (
            "sender and this host agree: let the driver stamp with the host's clock, or measure "
            f"the delay into latencies_views, latency_pose or latency_gripper; else {CHRONY}"
        )
    return f"set up clock synchronisation on the sender's computer: {CHRONY}"


def _duration(milliseconds: float) -> str:
    return f"{milliseconds / 1e3:.1f} s" if milliseconds >= 1e3 else f"{milliseconds:.1f} ms"


def _image(stream: StreamRecord) -> Finding:
    encodings, sizes = (
        _counted(stream.encodings),
        ", ".join(f"{w}x{h}" for (h, w), _ in stream.sizes.most_common(3)),
    )
    frame = _counted(stream.frame_ids)
    detail = f"{sizes} {encodings}, frame_id '{frame}'"
    if stream.trouble:
        remedy = "set the driver to rgb8 or bgr8"
        if any(e in ENCODINGS for e in stream.encodings) or stream.kind == COMPRESSED:
            remedy = "mend the driver: sizes and bytes contradict each other"
        return Finding("image", False, f"{detail}: {stream.trouble}", remedy)
    if len(stream.sizes) > 1 or len(stream.encodings) > 1:
        remedy = "fix size and encoding in the driver: camera_sync keeps to the first"
        return Finding("image", False, f"{detail}: it changes", remedy)
    if stream.contrast is not None and stream.contrast < BLANK:
        remedy = "take off the cap, switch on the light, look at the exposure"
        return Finding("image", False, f"{detail}: it shows nothing", remedy)
    return Finding("image", True, detail)


def _frame(stream: StreamRecord) -> Finding:
    subject = "content"
    values = ""
    if stream.values:
        values = ", ".join(f"{v:.3f}" for v in stream.values[-1][:3])
    frame = _counted(stream.frame_ids)
    detail = f"frame_id '{frame}', {values}" if values else f"frame_id '{frame}'"
    if stream.trouble:
        remedy = "mend the driver, or set gripper_joint, base_frame or eef_frame of camera_sync"
        return Finding(subject, False, stream.trouble, remedy)
    if len(stream.frame_ids) > 1:
        remedy = "give all poses in one frame, the arm's base"
        return Finding(subject, False, detail, remedy)
    if stream.role == "pose":
        broken = sum(not _is_pose(pose) for pose in stream.values)
        if broken:
            remedy = "normalise the quaternion (x, y, z, w) in the driver; no NaN"
            return Finding(subject, False, f"{detail}: {broken} are no poses", remedy)
        if not frame:
            remedy = "set header.frame_id to the arm's base frame: commands carry it back"
            return Finding(subject, False, detail, remedy, required=False)
    elif not all(math.isfinite(v) for value in stream.values for v in value):
        return Finding(subject, False, detail, "send the opening in metres, no NaN")
    return Finding(subject, True, detail)


def _is_pose(pose: tuple[float, ...]) -> bool:
    from alt_ros.types import QUATERNION_NORM_TOLERANCE

    norm = math.sqrt(sum(v * v for v in pose[3:]))
    finite = all(math.isfinite(v) for v in pose)
    return finite and abs(norm - 1.0) <= QUATERNION_NORM_TOLERANCE


def _counted(counter: Counter[str]) -> str:
    return ", ".join(name for name, _ in counter.most_common(3))
