"""``alt audit BAG``: what was decided and done in a run, again through the live code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from alt_ros.progress import progress_bar
from alt_ros.report import write_json
from alt_ros.terminal import DEMO_BUNDLE, Positional, console, say

if TYPE_CHECKING:
    from alt_ros.audit.bag_audit import AuditConfig

Failure = Literal["ood", "camera", "limits", "latency", "executor", "parity", "bag"]


def audit(
    bag: Positional[Path],
    bundle: Path = DEMO_BUNDLE,
    out: Path | None = None,
    store: Path | None = None,
    config: Path | None = None,
    image: dict[str, str] | None = None,
    pose: str | None = None,
    gripper: str | None = None,
    target_pose: str | None = None,
    target_gripper: str | None = None,
    encoder: bool = True,
    threshold: float | None = None,
    latency_limit: float = 0.5,
    fail_on: tuple[Failure, ...] = (),
    rerun: Path | None = None,
    device: str = "auto",
) -> None:
    """Replay a bag through the live code; write one page, audit.html, and audit.json.

    Args:
        bag: Folder or file of a rosbag2, MCAP or SQLite.
        bundle: The policy's.
        out: Folder for the page; beside the bag, NAME_audit, unless given.
        store: The demonstrations, for pictures of what was recalled; unless given, the one that
            the bundle was made of, beside it.
        config: Parameter file of the run, for camera_sync and executor.
        image: View to topic, where the bag has other names.
        pose: Topic of the arm's pose.
        gripper: Topic of the gripper's state.
        target_pose: Topic of the commanded poses.
        target_gripper: Topic of the commanded openings.
        encoder: Run it; without, the bag's embeddings are taken as they are.
        threshold: Gamma, where the lookup node was given one.
        latency_limit: Longest time from the sensor's stamp to the chunk, s.
        fail_on: Kinds of findings that make the exit code 1: ood, camera, limits, latency,
            executor, parity, bag.
        rerun: Write the run as a Rerun recording too, into this .rrd; needs rerun-sdk.
        device: auto, cpu or cuda.
    """
    from alt_ros.audit.bag_audit import audit_bag, frames_shown
    from alt_ros.audit.page import Frames, write_page
    from alt_ros.audit.rerun_log import paths_in_bag, require_rerun, run_of_audit, write_recording
    from alt_ros.bundle import Bundle
    from alt_ros.pictures.recalled import store_beside
    from alt_ros.types import NANOSECONDS

    if rerun is not None:
        require_rerun()  # told before the work
    loaded = Bundle.load(bundle, encoder=encoder, device=device, threads=1)
    named = {
        "images": image,
        "pose": pose,
        "gripper": gripper,
        "target_pose": target_pose,
        "target_gripper": target_gripper,
    }
    named = {what: topic for what, topic in named.items() if topic}
    settings = _settings(config, loaded.spec.views, named, threshold, latency_limit)
    with progress_bar(console, f"auditing {bag.name} (ms)") as progress:
        result = audit_bag(bag, loaded, settings, command=_command(bag, bundle), progress=progress)
    folder = bag.parent / f"{bag.stem}_audit" if out is None else out
    first = result.first
    live_t = [(at - first) / NANOSECONDS for at in result.live.at]
    store = store_beside(bundle, loaded.provenance) if store is None else store
    recalled = _recalled(store, loaded.spec.views, frames_shown(result.values))
    if not recalled:
        say(f"no pictures of the demonstrations: '{store}' is no store, name it with --store")
    frames = Frames(live_t, result.live.pictures, recalled)
    write_page(folder / "audit.html", result.values, frames)
    write_json(folder / "audit.json", result.values)
    _print(result.values)
    say(f"written: {folder / 'audit.html'}, audit.json beside it")
    if rerun is not None:
        paths = paths_in_bag(bag, settings, first)
        write_recording(rerun, [run_of_audit(result.values, frames, paths)])
        say(f"written: {rerun}")
    failing = [f for f in result.findings if f.kind in fail_on and f.severity != "note"]
    if failing:
        say(f"alt: audit of '{bag}' fails on {', '.join(sorted({f.kind for f in failing}))}")
        sys.exit(1)


def _command(bag: Path, bundle: Path) -> str:
    return f"alt audit {bag} --bundle {bundle}"


def _settings(
    config: Path | None,
    views: tuple[str, ...],
    named: Mapping[str, Any],
    threshold: float | None,
    latency_limit: float,
) -> AuditConfig:
    """Return how the bag is read, from the run's parameter file and the topics that were named."""
    from alt_ros.audit.bag_audit import AuditConfig
    from alt_ros.demonstrations.rosbag import BagTopics
    from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
    from alt_ros.nodes.executor_parameters import ExecutorParameters
    from alt_ros.nodes.parameter_file import read_parameters

    sync = read_parameters(config, "camera_sync", CameraSyncParameters)
    executor = read_parameters(config, "executor", ExecutorParameters)
    ending = "/image_raw/compressed" if sync.compressed else "/image_raw"
    images = {view: f"/{view}{ending}" for view in sync.views if view in views}
    topics_named: dict[str, Any] = {"images": images, **named}
    topics = BagTopics(
        **topics_named,
        gripper_joint=sync.gripper_joint,
        pose_source=sync.pose_source,
        base_frame=sync.base_frame,
        eef_frame=sync.eef_frame,
    )
    return AuditConfig(
        topics=topics,
        synchronization=sync.synchronization(),
        limits=executor.limits(),
        horizon=executor.horizon(),
        control_period=round(1e9 / executor.control_rate),
        threshold=threshold,
        latency_limit=latency_limit,
    )


def _recalled(
    store: Path, views: tuple[str, ...], shown: set[tuple[int, int]]
) -> dict[tuple[int, int], list[bytes]]:
    """Return pictures of demonstration frames; empty where there is no store with these views."""
    from alt_ros.audit.live_frames import MOST
    from alt_ros.pictures.recalled import RecalledPictures

    pictures = RecalledPictures.open(store, views)
    if pictures is None:
        return {}
    wanted = sorted(shown)
    wanted = wanted[:: max(1, -(-len(wanted) // MOST))]
    found = {(number, frame): pictures.at(number, frame) for number, frame in wanted}
    return {where: views for where, views in found.items() if views}


def _print(values: Mapping[str, Any]) -> None:
    out = Console()
    for sentence in values["summary"]:
        out.print(sentence, markup=False, soft_wrap=True)
    table = Table("what", "logged", "equal", "not replayed", title="again through the live code")
    for row in values["parity"]:
        numbers = (row["logged"], row["equal"], row["not_replayed"])
        table.add_row(row["what"], *(f"{number:,}" for number in numbers))
    out.print(table)
    for finding in values["findings"][:20]:
        out.print(
            f"{finding['start']:9.2f} s  {finding['severity']}: {finding['text']}",
            markup=False,
            soft_wrap=True,
        )
    if not values["findings"]:
        out.print("nothing went wrong")
