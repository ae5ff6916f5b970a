"""The demo: a simulated arm learns to grasp a cup, and does it through the real ROS graph.

Every stage keeps what it made in the demo's folder; a second run takes up what is there.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from alt_ros.benchmarks.closed_loop import TrialResult, run_trial, start_recording, started
from alt_ros.bundle import Bundle
from alt_ros.demonstrations.rosbag import open_bags
from alt_ros.errors import AltError, BundleError
from alt_ros.messages import stamp_of
from alt_ros.nodes import graph as ros_graph
from alt_ros.progress import progress_bar
from alt_ros.report import write_json

if TYPE_CHECKING:
    from alt_ros.nodes.operator import Operator

OOD_SCENARIOS = ("covered_camera", "unrelated_image", "swapped_views")
CALIBRATION_SEED = 1000
RECORDING_SPEED = 4.0
RECORDING_ATTEMPTS = 5
PREDICTION_HORIZON = 30
FALSE_ALARM_RATE = 0.05
RECORDED_TOPICS = (
    "/wrist/image_raw",
    "/third_person/image_raw",
    "/eef_pose",
    "/gripper_state",
    "/target_pose",
    "/target_gripper",
)


@dataclass(frozen=True)
class DemoOptions:
    """What the demo does.

    Attributes:
        folder: Where everything goes.
        demonstrations: Demonstrations recorded for the table.
        calibration: Further ones, held out to calibrate the threshold.
        trials: Closed-loop episodes in distribution.
        ood_trials: Closed-loop episodes that turn strange on the way.
        seed: Of training and of the trials.
        fresh: Throw away what an earlier run left.
    """

    folder: Path = Path("build/demo")
    demonstrations: int = 31
    calibration: int = 24
    trials: int = 10
    ood_trials: int = 6
    seed: int = 0
    fresh: bool = False


def run_demo(options: DemoOptions, console: Console) -> dict[str, Any]:
    """Run every stage and return the summary that ``summary.json`` holds."""
    start = time.monotonic()
    folder = options.folder.resolve()
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    variables = ros_graph.environment(local_domain=20 + os.getpid() % 80)
    os.environ.update(variables)
    record_stage(options, folder, variables, console)
    training = train_stage(options, folder, console)
    summary = closed_loop_stage(options, folder, variables, console)
    summary["train"] = training
    summary["wall_s"] = round(time.monotonic() - start, 1)
    order = ("episodes", "latency_ms", "train", "wall_s")
    summary = {key: summary[key] for key in order} | summary
    write_json(folder / "summary.json", summary)
    return summary


def record_stage(
    options: DemoOptions, folder: Path, variables: dict[str, str], console: Console
) -> None:
    """Record demonstrations through the ROS topics into MCAP bags."""
    wanted = [("bags", "training", n, 0) for n in range(options.demonstrations)]
    wanted += [
        ("calibration_bags", "ind", n * 31 // options.calibration, CALIBRATION_SEED)
        for n in range(options.calibration)
    ]
    missing = []
    for group, scenario, trial, seed in wanted:
        bag = folder / group / f"demonstration_{trial:02d}"
        if not (bag / "metadata.yaml").is_file():
            shutil.rmtree(bag, ignore_errors=True)  # cut off by a kill
            missing.append((bag, scenario, trial, seed))
    if not missing:
        console.print(f"demonstrations: {len(wanted)} recorded before")
        return
    from alt_ros.nodes.operator import Operator

    files = ros_graph.simulation_config()
    with (
        ros_graph.Graph(folder / "logs" / "record", variables, files) as graph,
        Operator(graph.check) as operator,
        progress_bar(console, "recording demonstrations (bags)") as progress,
    ):
        progress(0, len(missing))
        graph.start("sim_bridge", {"speed": RECORDING_SPEED})
        graph.start("scripted_expert")
        # Without the commands, frames would be left out as not yet commanded.
        graph.start("episode_recorder", {"folder": folder, "required_topics": RECORDED_TOPICS})
        for done, (bag, scenario, trial, seed) in enumerate(missing):
            record_demonstration(operator, folder, bag, scenario, trial, seed)
            progress(done + 1, len(missing))


def record_demonstration(
    operator: Operator, folder: Path, bag: Path, scenario: str, trial: int, seed: int
) -> None:
    """Record one successful demonstration without a gap in its frames.

    Raises:
        AltError: The expert failed, or frames were lost, RECORDING_ATTEMPTS times in a row.
    """
    name = bag.relative_to(folder)
    for _ in range(RECORDING_ATTEMPTS):
        operator.require("sim/reset", scenario=scenario, trial=trial, seed=seed)
        operator.wait_for(
            "the recorder", lambda: start_recording(operator, str(name)), timeout=30.0
        )
        operator.expert_done = False
        operator.wait_for(
            "the expert", lambda: operator.call("sim/demonstrate").success, timeout=30.0
        )
        operator.wait_for("the demonstration", lambda: operator.expert_done, timeout=60.0)
        success, end = operator.success, stamp_of(operator.commands[-1][1])
        operator.require("recorder/stop", episode_success=success, discard=not success)
        if success and is_whole(bag, end):
            return
        shutil.rmtree(bag, ignore_errors=True)
    raise AltError(
        f"{scenario} trial {trial} was recorded {RECORDING_ATTEMPTS} times, and each time the "
        "expert failed or frames were lost: is the machine busy with something else?"
    )


def is_whole(bag: Path, end: int) -> bool:
    """Return whether no frame of a bag is missing up to an instant, ns."""
    (demonstration,) = open_bags(bag)
    steps = np.diff(demonstration.stamps, append=end)
    return len(steps) > 1 and int(steps.max()) < 1.5 * int(np.median(steps))


def train_stage(options: DemoOptions, folder: Path, console: Console) -> dict[str, Any]:
    """Read the bags, train the encoder, build the bundle; return frames and seconds."""
    from alt_ros.demonstrations.formats import open_demonstrations
    from alt_ros.demonstrations.store import DemonstrationStore, is_store, write_store
    from alt_ros.training.alt_bundle import build_bundle
    from alt_ros.training.configuration import cup_training
    from alt_ros.training.contrastive import train_encoder

    report = folder / "training.json"
    recorded = {
        folder / group.replace("bags", "store"): open_demonstrations(folder / group)
        for group in ("bags", "calibration_bags")
    }
    old = [
        store
        for store, demonstrations in recorded.items()
        if not is_store(store) or len(DemonstrationStore.open(store)) != len(demonstrations)
    ]
    if not old and report.is_file() and _is_readable(folder / "bundle", console):
        console.print("bundle: trained before")
        return json.loads(report.read_text(encoding="utf-8"))
    for store in old:
        total = len(recorded[store])
        with progress_bar(console, f"reading {total} bags") as progress:
            write_store(store, recorded[store], progress=partial(progress, total=total))
    if folder / "store" in old:
        shutil.rmtree(folder / "training", ignore_errors=True)  # of other demonstrations
    store = DemonstrationStore.open(folder / "store")
    calibration = DemonstrationStore.open(folder / "calibration_store")
    spec, config = cup_training(store.views, options.seed)
    start = time.monotonic()
    with progress_bar(console, "training the encoder") as progress:
        result = train_encoder(store, spec, config, folder / "training", progress=progress)
    assert result is not None
    with progress_bar(console, "building the bundle") as progress:
        build_bundle(
            store,
            result.encoder,
            spec,
            folder / "bundle",
            calibration_store=calibration,
            rate=FALSE_ALARM_RATE,
            horizon=PREDICTION_HORIZON,
            provenance=result.to_json(),
            progress=progress,
        )
    values = {"frames": store.frames, "seconds": round(time.monotonic() - start, 1)}
    write_json(report, values)
    return values


def _is_readable(bundle: Path, console: Console) -> bool:
    try:
        Bundle.load(bundle, encoder=False)
    except BundleError as error:
        console.print(f"bundle: built again ({error})")
        return False
    return True


def closed_loop_stage(
    options: DemoOptions, folder: Path, variables: dict[str, str], console: Console
) -> dict[str, Any]:
    """Run the graph in closed loop; return the episodes' and the latencies' figures."""
    from alt_ros.pictures.sheets import save_episode_pictures

    runs = folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    plan = [("ind", n * 31 // options.trials) for n in range(options.trials)]
    plan += [
        (OOD_SCENARIOS[n % len(OOD_SCENARIOS)], n * 31 // max(options.ood_trials, 1))
        for n in range(options.ood_trials)
    ]
    results: list[TrialResult] = []
    chunks: list[Any] = []
    logs = folder / "logs" / "closed_loop"
    with (
        started("alt", folder / "bundle", runs, logs, variables) as operator,
        progress_bar(console, "closed loop through ROS 2") as progress,
    ):
        progress(0, len(plan))
        for scenario, trial in plan:
            operator.chunks.clear()
            results.append(run_trial(operator, scenario, trial, options.seed))
            chunks += operator.chunks
            progress(len(results), len(plan))
        state = operator.state
    save_episode_pictures(folder)
    ind = [r for r in results if r.scenario == "ind"]
    ood = [r for r in results if r.scenario != "ind"]
    return {
        "episodes": {
            "ind": {"trials": len(ind), "success": sum(r.success for r in ind)},
            "ood": {
                "trials": len(ood),
                "flagged": sum(r.flagged for r in ood),
                "commands_after_flag": sum(r.commands_after_flag for r in ood),
                "deceleration_commands": [r.deceleration_commands for r in ood],
                "flag_seconds": [r.flag_seconds for r in ood],
            },
        },
        "latency_ms": {
            "observation_to_command": {
                "p50": round(state.latency_p50_ms, 2),
                "p99": round(state.latency_p99_ms, 2),
            },
            "encoder": {"p50": _median_ms([c.encode_seconds for c in chunks])},
            "lookup": {"p50": _median_ms([c.policy_seconds for c in chunks])},
        },
        "trials": [asdict(r) for r in results],
    }


def _median_ms(seconds: list[float]) -> float:
    return round(1e3 * float(np.median(seconds)), 3) if seconds else math.nan


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print the summary as a person reads it."""
    from rich.table import Table

    ind, ood = summary["episodes"]["ind"], summary["episodes"]["ood"]
    latency = summary["latency_ms"]
    table = Table(title="alt demo", show_header=False)
    table.add_row("in distribution: cup grasped", f"{ind['success']} of {ind['trials']}")
    table.add_row("scene turned strange: flagged", f"{ood['flagged']} of {ood['trials']}")
    table.add_row("commands after the flag, braking aside", str(ood["commands_after_flag"]))
    end_to_end = latency["observation_to_command"]
    table.add_row(
        "observation to command", f"p50 {end_to_end['p50']} ms, p99 {end_to_end['p99']} ms"
    )
    table.add_row(
        "encoder, lookup", f"p50 {latency['encoder']['p50']} ms, {latency['lookup']['p50']} ms"
    )
    train = summary["train"]
    table.add_row("training", f"{train['frames']} frames in {train['seconds']} s")
    table.add_row("all of it", f"{summary['wall_s']} s")
    console.print(table)
