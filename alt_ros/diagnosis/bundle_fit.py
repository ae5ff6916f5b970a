"""Holds what a bundle was made of against what a live graph sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from alt_ros.bundle import Bundle
from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.timing import Timing
from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.topic_record import StreamRecord

GROUP = "bundle"
ASPECT_TOLERANCE = 0.02
RATE_TOLERANCE = 0.25
NEAR = 0.15
"""An arm further from all demonstrated positions than this is told, m."""
NEAR_OPENING = 0.01
"""The same of the gripper, m."""


@dataclass(frozen=True)
class BundleExpectation:
    """What a bundle was made of.

    Attributes:
        views: The encoder's.
        size: (height, width) of the encoder's input, pixels.
        period: Time from one demonstrated frame to the next, ns.
        arms: Arms whose actions it recalls.
        demonstrated: View to (height, width) of the demonstrations' images, where their store is
            at hand.
        low, high: Corners of the demonstrated positions, m; empty where there are none.
        openings: Smallest and largest demonstrated opening, m; empty where there are none.
    """

    views: tuple[str, ...]
    size: tuple[int, int]
    period: int
    arms: int = 1
    demonstrated: Mapping[str, tuple[int, int]] = field(
        default_factory=dict[str, "tuple[int, int]"]
    )
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    openings: tuple[float, ...] = ()


def expectation_of(bundle: Bundle) -> BundleExpectation:
    """Return what a bundle was made of."""
    poses, grippers = bundle.table.poses, bundle.table.grippers
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    openings: tuple[float, ...] = ()
    if poses.shape[1]:
        low = tuple(poses[:, 0, :3].min(axis=0).tolist())
        high = tuple(poses[:, 0, :3].max(axis=0).tolist())
        openings = (float(grippers[:, 0].min()), float(grippers[:, 0].max()))
    return BundleExpectation(
        views=bundle.spec.views,
        size=(bundle.spec.height, bundle.spec.width),
        period=bundle.period,
        arms=bundle.layout.arms,
        demonstrated=_demonstrated(bundle),
        low=low,
        high=high,
        openings=openings,
    )


def _demonstrated(bundle: Bundle) -> dict[str, tuple[int, int]]:
    """Return the sizes of the demonstrations' images, where their store lies beside the bundle."""
    from alt_ros.demonstrations.store import DemonstrationStore, is_store
    from alt_ros.errors import DataError
    from alt_ros.pictures.recalled import store_beside

    store = store_beside(bundle.path, bundle.provenance)
    if not is_store(store):
        return {}
    try:
        opened = DemonstrationStore.open(store)
        shapes = {view: opened.images(view).shape for view in opened.views}
    except DataError:
        return {}
    return {view: (shape[1], shape[2]) for view, shape in shapes.items()}


def judge_bundle(
    expected: BundleExpectation,
    streams: Mapping[str, StreamRecord],
    timings: Mapping[str, Timing],
    sensors: CameraSyncParameters,
) -> Iterator[Finding]:
    """Yield where a live graph differs from what the bundle was made of.

    Args:
        expected: The bundle's.
        streams: By role, from a survey.
        timings: Of the same.
        sensors: How camera_sync takes them.
    """
    yield _views(expected, sensors)
    yield _arms(expected)
    for view in expected.views:
        stream = streams.get(view)
        if stream is not None and stream.sizes:
            yield judge_size(view, stream.sizes.most_common(1)[0][0], expected)
    first = timings.get(sensors.views[0])
    if first is not None and np.isfinite(first.rate):
        yield _rate(expected, first.rate)
    pose, gripper = streams.get("pose"), streams.get("gripper")
    if pose is not None and pose.values and expected.low:
        yield _place(expected, pose)
    if gripper is not None and gripper.values and expected.openings:
        yield _opening(expected, [value[0] for value in gripper.values])


def _views(expected: BundleExpectation, sensors: CameraSyncParameters) -> Finding:
    wanted, given = ", ".join(expected.views), ", ".join(sensors.views)
    missing = [view for view in expected.views if view not in sensors.views]
    if missing:
        detail = f"it wants {wanted}; camera_sync pairs {given}"
        remedy = f"set camera_sync's views to [{wanted}]"
        return Finding("views", False, detail, remedy, group=GROUP)
    if set(sensors.views) - set(expected.views):
        detail = f"it wants {wanted}; camera_sync waits for {given}"
        remedy = f"set camera_sync's views to [{wanted}]: others only cost time"
        return Finding("views", False, detail, remedy, required=False, group=GROUP)
    return Finding("views", True, wanted, group=GROUP)


def _arms(expected: BundleExpectation) -> Finding:
    if expected.arms == 1:
        return Finding("arms", True, "one", group=GROUP)
    detail = f"it moves {expected.arms} arms, camera_sync and executor serve one"
    remedy = "train and index a bundle of one arm, or run it in process with alt eval"
    return Finding("arms", False, detail, remedy, group=GROUP)


def judge_size(view: str, size: tuple[int, int], expected: BundleExpectation) -> Finding:
    """Judge a view's image size, (height, width) in pixels."""
    subject = f"size of {view}"
    made_of = expected.demonstrated.get(view)
    what = "demonstrations" if made_of else "encoder's input"
    height, width = made_of or expected.size
    detail = f"{size[1]}x{size[0]}; {what} {width}x{height}"
    ratio = (size[1] / size[0]) / (width / height)
    if abs(ratio - 1.0) > ASPECT_TOLERANCE:
        if made_of is None:
            # The encoder squeezes images; whether it learned from such ones is not known here.
            remedy = "put the store beside the bundle, or compare with the demonstrations yourself"
            return Finding(subject, False, f"{detail}: another aspect ratio", remedy, False, GROUP)
        remedy = f"set the camera to {width}x{height}, or crop to {width}:{height} in the driver"
        return Finding(subject, False, f"{detail}: another aspect ratio", remedy, group=GROUP)
    if size[0] < expected.size[0] or size[1] < expected.size[1]:
        remedy = f"set the camera to {width}x{height}"
        scaled = f"{detail}: it is scaled up to {expected.size[1]}x{expected.size[0]}"
        return Finding(subject, False, scaled, remedy, required=False, group=GROUP)
    return Finding(subject, True, detail, group=GROUP)


def _rate(expected: BundleExpectation, rate: float) -> Finding:
    demonstrated = 1e9 / expected.period
    detail = f"images {rate:.1f} Hz; demonstrations and actions {demonstrated:.1f} Hz"
    if abs(rate / demonstrated - 1.0) <= RATE_TOLERANCE:
        return Finding("rate", True, detail, group=GROUP)
    remedy = (
        f"set the cameras to {demonstrated:.0f} Hz: the monitor counts observations; or index "
        "demonstrations of the cameras' rate"
    )
    return Finding("rate", False, detail, remedy, required=False, group=GROUP)


def _place(expected: BundleExpectation, pose: StreamRecord) -> Finding:
    subject = "arm's place"
    position = np.array(pose.values[-1][:3])
    low, high = np.array(expected.low), np.array(expected.high)
    away = float(np.linalg.norm(np.maximum(0.0, np.maximum(low - position, position - high))))
    at = ", ".join(f"{v:.3f}" for v in position)
    detail = f"({at}) m, {away:.2f} m from the box of the demonstrated positions"
    if np.isfinite(away) and away <= NEAR:
        return Finding(subject, True, detail, group=GROUP)
    remedy = "move it to where the demonstrations begin; else: is eef_pose in their frame?"
    if np.isfinite(away) and away > 10.0:
        remedy = "eef_pose must be in metres; these look like millimetres"
    return Finding(subject, False, detail, remedy, required=away > 10.0, group=GROUP)


def _opening(expected: BundleExpectation, openings: list[float]) -> Finding:
    low, high = expected.openings
    detail = f"{openings[-1]:.3f}; demonstrated {low:.3f} to {high:.3f} m"
    subject = "gripper's opening"
    if low - NEAR_OPENING <= openings[-1] <= high + NEAR_OPENING:
        return Finding(subject, True, detail, group=GROUP)
    remedy = "open it as the demonstrations begin; else: metres, no percent? which gripper_joint?"
    return Finding(subject, False, detail, remedy, required=False, group=GROUP)
