"""``alt eval``: a policy in closed loop in simulation, in process or through the ROS graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Column, Table

from alt_ros.errors import ConfigurationError
from alt_ros.progress import progress_bar
from alt_ros.terminal import DEMO_BUNDLE, Flag, Policy, console, say, write


def evaluate_command(
    policy: Policy = "alt",
    scenario: tuple[str, ...] = ("ind",),
    bundle: Path = DEMO_BUNDLE,
    trials: int = 31,
    seed: int = 1,
    action_horizon: int = 8,
    retrieval: Literal["bundle", "recall", "correct"] = "bundle",
    monitor: bool = True,
    folder: Path = Path("build/ood"),
    sampler: Literal["ddim", "ddpm"] = "ddim",
    denoising_steps: int = 10,
    ensemble_decay: float | None = None,
    device: str = "auto",
    graph: Flag = False,
    speed: float = 1.0,
    rerun: Path | None = None,
    json: Path | None = None,
) -> None:
    """Roll a policy out in simulation: in process, without ROS, or through the ROS graph.

    Args:
        policy: Which policy; any but alt must have been deployed into the bundle, answers every
            Ta observations, and is watched by the bundle's monitor.
        scenario: One or more of training, ind, interpolate, anywhere, extrapolate_side,
            extrapolate_back, wrong_start, distractors, changed_cup, changed_light, moved_camera,
            blurred_camera, dimmed_camera, frozen_camera, covered_camera, swapped_views and
            unrelated_image; or all.
        bundle: Folder of the bundle.
        trials: Episodes of each scenario.
        seed: Of the placements.
        action_horizon: Ta, actions executed before a newer chunk takes over; 8 without monitor.
        retrieval: alt: as the bundle says; or recall, the motion as it was; or correct.
        monitor: Stop at the flag; without it, count what the flag would have stopped.
        folder: Where alt's roll-outs without the monitor are kept, for a second run to take up;
            and the graph's bags and logs.
        sampler: diffusion: how it denoises.
        denoising_steps: diffusion: in how many steps, 1 to 100.
        ensemble_decay: m of temporal ensembling, 0.01 for ACT as published; none unless given.
        device: auto, cpu or cuda.
        graph: Through the nodes and DDS, in real time, with the bundle's retrieval and monitor.
        speed: With --graph: simulated seconds a second, below 1 where this computer is slower than
            the robot's.
        rerun: Roll the first trial of each scenario out once more and write it as a Rerun
            recording into this .rrd; needs rerun-sdk.
        json: Where the figures go.
    """
    from alt_ros.audit.recorded_trial import record_trial
    from alt_ros.audit.rerun_log import Run, require_rerun, write_recording
    from alt_ros.benchmarks.closed_loop import evaluate_in_graph
    from alt_ros.benchmarks.evaluation import evaluate, evaluate_unwatched, with_retrieval
    from alt_ros.bundle import Bundle
    from alt_ros.pictures.recalled import RecalledPictures, store_beside
    from alt_ros.policies.registry import InferenceConfig
    from alt_ros.simulation.scenarios import SCENARIOS
    from alt_ros.simulation.scenarios import scenario as find_scenario

    inference = InferenceConfig(
        device=device,
        sampler=sampler,
        denoising_steps=denoising_steps,
        ensemble_decay=ensemble_decay,
    )
    if graph and (not monitor or retrieval != "bundle"):
        raise ConfigurationError(
            "eval: with --graph the monitor and the retrieval are the bundle's: leave "
            "--no-monitor and --retrieval out"
        )
    if speed != 1.0 and not graph:
        raise ConfigurationError("eval: --speed is of the graph's simulation: add --graph")
    if graph and rerun is not None:
        raise ConfigurationError(
            f"eval: with --graph every episode is a bag in '{folder}': give --rerun to "
            "'alt audit BAG', not here"
        )
    if rerun is not None:
        require_rerun()  # told before the work
    watched = monitor or policy != "alt"
    names = tuple(SCENARIOS) if scenario == ("all",) else scenario
    for name in names:
        find_scenario(name)
    last = "sent after flag" if graph else "right recall" if watched else "good, flagged"
    table = Table(Column("scenario", no_wrap=True), "success", "95 %", "flagged", last)
    results: list[dict[str, Any]] = []
    for name in names:
        with progress_bar(console, f"{policy}, {name}") as progress:
            if graph:
                values = evaluate_in_graph(
                    bundle,
                    name,
                    trials,
                    seed=seed,
                    policy=policy,
                    inference=inference,
                    folder=folder / "graph" / name,
                    speed=speed,
                    progress=progress,
                )
            elif watched:
                values = evaluate(
                    bundle,
                    name,
                    trials,
                    seed=seed,
                    action_horizon=action_horizon,
                    policy=policy,
                    inference=inference,
                    watched=monitor,
                    retrieval=retrieval,
                    progress=progress,
                )
            else:
                loaded = with_retrieval(Bundle.load(bundle, device=device, threads=1), retrieval)
                values = evaluate_unwatched(
                    loaded, name, trials, seed=seed, folder=folder, progress=progress
                )
        low, high = values["success_interval_95"]
        table.add_row(
            name,
            f"{values['success']} of {trials}",
            f"{low:.2f} to {high:.2f}",
            f"{values['flagged']} of {trials}",
            str(values["commands_after_flag"])
            if graph
            else f"{values['stopped']} of {values['success']}"
            if not watched
            else "-"
            if values["recall"] is None
            else f"{values['recall']} of {trials}",
        )
        results.append(values)
    Console().print(table)
    write(json, results[0] if len(results) == 1 else {"scenarios": results})
    if rerun is None:
        return
    loaded = with_retrieval(Bundle.load(bundle, device=device, threads=1), retrieval)
    store = RecalledPictures.open(store_beside(bundle, loaded.provenance), loaded.spec.views)
    runs: list[Run] = []
    with progress_bar(console, "recording the first trials") as progress:
        for name in names:
            runs.append(
                record_trial(
                    loaded,
                    name,
                    seed=seed,
                    action_horizon=action_horizon,
                    policy=policy,
                    inference=inference,
                    watched=monitor,
                    store=store,
                )
            )
            progress(len(runs), len(names))
    write_recording(rerun, runs)
    say(f"written: {rerun}")
