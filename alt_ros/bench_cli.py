"""``alt bench``: measurements, as ratios in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Column, Table

from alt_ros.errors import AltError
from alt_ros.progress import progress_bar
from alt_ros.terminal import DEMO_BUNDLE, Positional, console, say, write

bench = tyro.extras.SubcommandApp()
SHIPPED = "shipped"


def _faults_table(values: dict[str, Any]) -> Table:
    table = Table("fault", "declared", "seen", "ms", "at most", "ended", "outside", "verdict")
    for drill in values["drills"]:
        response = drill["response_ms"]
        table.add_row(
            drill["name"],
            drill["declared"],
            drill["seen"],
            "" if response is None else f"{response:.0f}",
            str(drill["response_limit_ms"] or ""),
            drill["outcome"],
            str(sum((drill["violations"] or {}).values())),
            _verdict(drill),
        )
    return table


def _verdict(drill: dict[str, Any]) -> str:
    parts = [drill["verdict"], drill["trouble"]]
    if drill["first_trouble"]:
        parts.append(f"run twice, at first {drill['first_trouble']}")
    return ": ".join(part for part in parts if part)


def _soak_table(values: dict[str, Any]) -> Table:
    table = Table("of", "figure")
    for name in ("trials", "successes", "observations", "chunks", "commands"):
        table.add_row(name, str(values[name]))
    table.add_row("commands outside the limits", str(values["commands_outside_limits"]))
    for name, lost in values["lost"].items():
        table.add_row(f"lost {name}", str(lost))
    for node, memory in values["memory"].items():
        growth = f"{memory['late_mb']:.1f} MB, {memory['growth_percent']:+.2f} %"
        table.add_row(f"memory of {node}", growth)
    return table


def _seams_table(values: dict[str, Any]) -> Table:
    table = Table("at seams", "way", "ours p99", "ours max", "unblended max", "ratio of max")
    for way in ("offset", "neighbour"):
        figures = values[way]
        for step, ratio in figures["unblended_over_ours"].items():
            ours, unblended = figures["ours"][step], figures["unblended"][step]
            table.add_row(
                step.replace("_", " "),
                way,
                f"{ours['p99']:.4g}",
                f"{ours['max']:.4g}",
                f"{unblended['max']:.4g}",
                f"{ratio['max']:.1f}",
            )
        for name in ("tracking_mean_mm", "tracking_max_mm"):
            ours, unblended = figures["ours"][name], figures["unblended"][name]
            table.add_row(name.replace("_", " "), way, "", f"{ours:.3f}", f"{unblended:.3f}", "")
    return table


def _held_out_tables(values: dict[str, Any]) -> tuple[Table, Table]:
    ordinary = Table(
        "ordinary episodes", *(f"{values['rate']:.1%} per {p}" for p in values["per"])
    )
    rows = [_ordinary_rows(judged) for judged in values["per"].values()]
    for name in rows[0]:
        ordinary.add_row(name, *(figures[name] for figures in rows))
    corrupted = Table("corrupted", "rate per", "before", "flagged", "delay [frames]", "AUROC")
    for per, judged in values["per"].items():
        for name, seen in judged["corrupted"].items():
            corrupted.add_row(
                name.replace("_", " "),
                per,
                f"{seen['false_alarms_before']}/{seen['episodes']}",
                f"{seen['flagged']}/{seen['quiet_before']}",
                "" if seen["delay"] is None else f"{seen['delay']:g}",
                f"{seen['auroc']:.3f}",
            )
    return ordinary, corrupted


def _ordinary_rows(judged: dict[str, Any]) -> dict[str, str]:
    figures, anew = judged["ordinary"], judged["divided_anew"]
    alarms = f"{figures['false_alarms']}/{figures['episodes']}"
    return {
        "flagged": f"{alarms}, {_percent(*figures['false_alarms_interval_95'])}",
        "frames above the threshold": f"{_percent(figures['frames_above'])}, "
        + _percent(*figures["frames_above_interval_95"]),
        "frames with the flag up": _percent(figures["frames_flagged"]),
        "rate within the interval": "yes" if figures["rate_within_interval"] else "no",
        f"mean rate of {anew['divisions']} divisions": f"{_percent(anew['mean_rate'])}, "
        + _percent(*anew["rates_95"]),
    }


def _percent(*shares: float) -> str:
    return " to ".join(f"{share:.1%}" for share in shares)


@bench.command(name="pipeline")
def bench_pipeline(
    bundle: Path = DEMO_BUNDLE, observations: int = 300, json: Path | None = None
) -> None:
    """Time the ROS graph from observation to chunk, beside the bare functions in the same run.

    Args:
        bundle: Folder of the bundle.
        observations: How many to time.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.pipeline import measure_pipeline

    with progress_bar(console, "observations through the graph") as progress:
        values = measure_pipeline(
            bundle, Path("build/logs/pipeline"), observations=observations, progress=progress
        )
    table = Table("part", "p50 [ms]", "p99 [ms]")
    for name, figures in values.items():
        if name.endswith("_ms") and isinstance(figures, dict):
            title = name.removesuffix("_ms").replace("_", " ")
            table.add_row(title, str(figures["p50"]), str(figures["p99"]))
    Console().print(table)
    Console().print(f"the graph adds {values['added_p50_ms']} ms at p50")
    write(json, values)


@bench.command(name="ood")
def bench_ood(
    bundle: Path = DEMO_BUNDLE,
    scenarios: tuple[str, ...] = (),
    trials: int = 24,
    ordinary_trials: int = 100,
    calibration_trials: int = 40,
    seed: int = 3000,
    plot: Path | None = None,
    json: Path | None = None,
) -> None:
    """Roll out strange and ordinary episodes without the monitor, and judge every score by them.

    Args:
        bundle: Folder of the bundle.
        scenarios: Which; none takes all.
        trials: Episodes of each scenario.
        ordinary_trials: Ordinary episodes on which false alarms are counted.
        calibration_trials: Ordinary episodes from which the scores' thresholds come, 19 or more.
        seed: Of the placements.
        plot: Draw what the monitor does and the AUROC of every score into this PNG.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.ood import bench_ood as run
    from alt_ros.pictures.monitor import draw_monitor

    with progress_bar(console, "episodes without the monitor") as progress:
        values = run(
            bundle,
            Path("build/ood"),
            scenarios=scenarios,
            trials=trials,
            ordinary_trials=ordinary_trials,
            calibration_trials=calibration_trials,
            seed=seed,
            progress=progress,
        )
    Console().print(_shipped_table(values))
    totals = Table(
        Column("score", no_wrap=True),
        "lowest AUROC",
        "false alarms (95 % expected)",
        "failures flagged in time",
        "successes stopped",
    )
    strange = {k: v["scores"] for k, v in values["scenarios"].items() if k != "ind"}
    for name, figures in values["scores"].items():
        aurocs = ((scores[name]["auroc"], key) for key, scores in strange.items())
        lowest, where = min(aurocs, default=(0.5, "ind"))
        expected = figures.get("expected_false_alarms_95")
        totals.add_row(
            name,
            f"{lowest:.3f} {where}",
            f"{figures['false_alarms']} of {figures['ordinary_episodes']}"
            + (" ({} to {})".format(*expected) if expected else ""),
            f"{figures.get('failures_flagged', 0)} of {figures['failures']}",
            f"{figures.get('successes_stopped', 0)} of {figures['successes']}",
        )
    Console().print(totals)
    missed: dict[str, list[str]] = {}
    for episode in values["missed"]:
        missed.setdefault(episode["scenario"], []).append(str(episode["trial"]))
    for name, numbers in missed.items():
        Console().print(f"failed and not flagged in time: {name}, trials {', '.join(numbers)}")
    Console().print(f"a decision takes the monitor {values['ms_per_decision']} ms")
    if plot is not None:
        draw_monitor(plot, values)
        say(f"written: {plot}")
    write(json, values)


def _shipped_table(values: dict[str, Any]) -> Table:
    table = Table(
        Column("scenario", no_wrap=True),
        "success",
        "AUROC",
        "bal. acc.",
        "flagged",
        "delay",
        "failed, flagged",
        "good, stopped",
        title="the bundle's monitor; delay in observations",
        padding=(0, 0),
    )
    for name, figures in values["scenarios"].items():
        shipped = figures["scores"][SHIPPED]
        table.add_row(
            name,
            f"{figures['success']}/{figures['episodes']}",
            f"{shipped['auroc']:.3f}",
            f"{shipped['balanced_accuracy']:.3f}",
            f"{shipped['flagged']}/{figures['episodes']}",
            "" if shipped["delay"] is None else f"{shipped['delay']:.0f}",
            f"{shipped['failures_flagged']}/{shipped['failures']}",
            f"{shipped['successes_stopped']}/{figures['success']}",
        )
    return table


@bench.command(name="held-out")
def bench_held_out(
    store: Positional[Path],
    training: Positional[Path],
    calibration_share: float = 0.25,
    test_share: float = 0.25,
    rate: float = 0.05,
    per: tuple[Literal["episode", "frame"], ...] = ("episode", "frame"),
    scores: tuple[str, ...] = (),
    corrupted_episodes: int = 12,
    device: str = "auto",
    seed: int = 0,
    json: Path | None = None,
) -> None:
    """Calibrate the monitor with some demonstrations, count false alarms on others.

    Those are also played with one camera covered, blurred, dimmed, noisy, frozen or showing a
    photograph from a third of the episode on. Nothing is simulated.

    Args:
        store: The store that the encoder was trained on.
        training: Folder that ``alt train`` wrote; what it held out calibrates and tests first.
        calibration_share: Part of the demonstrations that calibrates.
        test_share: Part that is played to the monitor; the rest makes the table.
        rate: False-alarm rate that is calibrated for.
        per: What the rate counts.
        scores: Which make the level, as in alt calibrate; the monitor's own unless told.
        corrupted_episodes: Test episodes that every corruption is tried on.
        device: auto, cpu or cuda.
        seed: Of the division and of the noise.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.held_out import HeldOutConfig
    from alt_ros.benchmarks.held_out import bench_held_out as run

    config = HeldOutConfig(
        calibration_share=calibration_share,
        test_share=test_share,
        rate=rate,
        per=per,
        scores=scores,
        corrupted_episodes=corrupted_episodes,
        seed=seed,
    )
    with progress_bar(console, "frames through the encoder") as progress:
        values = run(store, training, config, device=device, progress=progress)
    for table in _held_out_tables(values):
        Console().print(table)
    parts, unseen = values["demonstrations"], values["never_seen"]
    Console().print(
        f"table of {parts['table']} demonstrations, {parts['calibration']} calibrate; of "
        f"{parts['test']} that test, the encoder has never seen {unseen['test']}"
    )
    write(json, values)


@bench.command(name="retrieval")
def bench_retrieval(
    bundles: Positional[tuple[Path, ...]],
    variants: tuple[str, ...] = (),
    scenarios: tuple[str, ...] = ("ind", "interpolate", "anywhere"),
    trials: int = 50,
    seed: int = 3000,
    json: Path | None = None,
) -> None:
    """Roll out every way to correct a recalled motion, beside plain recall, without the monitor.

    Args:
        bundles: Folders of one or more bundles.
        variants: recall, correct, nearest demonstration, no anchor, anchor base, attraction 0.3,
            few and alike; none takes all.
        scenarios: Which.
        trials: Episodes of each.
        seed: Of the placements.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.retrieval import compare_retrieval

    with progress_bar(console, "episodes without the monitor") as progress:
        values = compare_retrieval(
            bundles,
            Path("build/ood"),
            variants=variants,
            scenarios=scenarios,
            trials=trials,
            seed=seed,
            progress=progress,
        )
    table = Table("bundle", "retrieval", *(f"{name}: success, 95 %" for name in scenarios))
    for bundle, rows in values["bundles"].items():
        for name, row in rows.items():
            cells = [
                "{}/{}, {:.2f} to {:.2f}".format(
                    row[s]["success"], trials, *row[s]["success_interval_95"]
                )
                for s in scenarios
            ]
            table.add_row(bundle, name, *cells)
    Console().print(table)
    write(json, values)


@bench.command(name="recall")
def bench_recall(
    bundle: Positional[Path], horizon: int = 16, stride: int = 1, json: Path | None = None
) -> None:
    """Leave one demonstration out: is what is recalled what the person did next?

    Beside it stand a chunk drawn at random and the best chunk that the other demonstrations hold.

    Args:
        bundle: Folder of the bundle whose demonstrations are held out in turn.
        horizon: Actions compared.
        stride: Every how many frames the table is asked.
        json: Where the figures go.
    """
    from alt_ros.bundle import Bundle
    from alt_ros.report import machine
    from alt_ros.training.leave_one_out import leave_one_out

    loaded = Bundle.load(bundle, encoder=False)
    with progress_bar(console, "holding out demonstrations") as progress:
        result = leave_one_out(loaded.table, horizon, stride=stride, progress=progress)
    table = Table("chunk", "median distance", "95 %")
    for name in ("oracle", "recalled", "random"):
        median = getattr(result, name)
        table.add_row(name, f"{median.value:.4g}", f"{median.low:.4g} to {median.high:.4g}")
    Console().print(table)
    Console().print(f"{result.frames} frames of {result.demonstrations} demonstrations")
    write(json, result.to_json() | {"machine": machine()})


@bench.command(name="sync")
def bench_sync(hours: float = 1.0, seed: int = 0, json: Path | None = None) -> None:
    """Pair two 30 Hz cameras and a 100 Hz pose under seven faults, beside ROS's synchroniser.

    ROS's is the ApproximateTimeSynchronizer of message_filters, at slop 10, 50 and 100 ms.

    Args:
        hours: Stream time per scenario.
        seed: Of losses and jitter.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.synchronization import measure_synchronization

    with progress_bar(console, "pairing") as progress:
        values = measure_synchronization(hours, seed, progress=progress)
    table = Table("scenario", "pairs", "by", "wrong", "found", "added p99 [ms]", "pose")
    for name, scenario in values["scenarios"].items():
        pairs = str(scenario["pairs_that_exist"])
        for method in ("alt", *(m for m in scenario if m.startswith("approximate"))):
            figures = scenario[method]
            pose = figures.get("pose_error", {}).get("at_stamp", {}).get("ratio_mm")
            table.add_row(
                name,
                pairs,
                method.replace("approximate_time_", "slop "),
                str(figures["wrong_pairs"]),
                f"{100 * figures['found']:.2f} %",
                f"{figures['added_latency_ms']['p99']:.1f}",
                "" if pose is None else f"{pose:.4f}",
            )
            name = pairs = ""
    Console().print(table)
    write(json, values)


@bench.command(name="executor")
def bench_executor(
    bundle: Path = DEMO_BUNDLE,
    seconds: float = 60.0,
    runs: int = 3,
    rate: float = 100.0,
    priority: int = 40,
    changes: int = 1000,
    seed: int = 0,
    json: Path | None = None,
) -> None:
    """Tick lateness beside a bare loop, idle and busy; motion at seams beside none blended.

    Args:
        bundle: Folder of the bundle whose demonstrated paths are followed.
        seconds: Length of a run.
        runs: Runs idle, and as many with every core busy.
        rate: Commands a second.
        priority: SCHED_FIFO priority asked for by both loops; 0 asks for none.
        changes: Chunk changes.
        seed: Of the chunks' offsets.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.executor import FIGURES, measure_executor
    from alt_ros.benchmarks.seams import measure_seams
    from alt_ros.bundle import Bundle

    loaded = Bundle.load(bundle, encoder=False)
    with progress_bar(console, "changing chunks") as progress:
        seams = measure_seams(loaded.table, changes=changes, seed=seed, progress=progress)
    with progress_bar(console, "runs of the executor") as progress:
        lateness = measure_executor(
            Path("build/logs/executor"),
            seconds=seconds,
            runs=runs,
            rate=rate,
            priority=priority,
            progress=progress,
        )
    table = Table("lateness of ticks [ms]", "run", *FIGURES)
    for condition in ("idle", "busy"):
        for run, figures in enumerate(lateness[condition]):
            for part in ("executor_ms", "bare_ms", "ratio"):
                title = f"{condition}: {part.removesuffix('_ms')}"
                values = [f"{figures[part][name]:.3f}" for name in FIGURES]
                table.add_row(title, str(run + 1), *values)
    Console().print(table)
    Console().print(f"scheduling: {lateness['scheduling']}")
    Console().print(_seams_table(seams))
    write(json, {"lateness": lateness, "seams": seams})


@bench.command(name="console")
def bench_console(
    seconds: float = 20.0,
    spans: int = 5,
    viewers: int = 20,
    priority: int = 40,
    json: Path | None = None,
) -> None:
    """Tick lateness of the executor with slow viewers of the console, beside none.

    Args:
        seconds: Length of a span.
        spans: Spans with nobody watching, and as many with the viewers, in turn.
        viewers: How many.
        priority: SCHED_FIFO priority that the executor asks for; 0 asks for none.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.console import measure_console
    from alt_ros.benchmarks.executor import FIGURES

    with progress_bar(console, "spans of running") as progress:
        values = measure_console(
            Path("build/logs/console"),
            seconds=seconds,
            spans=spans,
            viewers=viewers,
            priority=priority,
            progress=progress,
        )
    table = Table("lateness of ticks [ms]", "span", *FIGURES)
    for title, kind in (("nobody watches", "alone"), (f"{viewers} slow viewers", "watched")):
        for span, figures in enumerate(values[kind]):
            table.add_row(title, str(span + 1), *(f"{figures[name]:.3f}" for name in FIGURES))
    ratios = values["ratio"]
    table.add_row("ratio of medians", "", *(f"{ratios[name]['median']:.2f}" for name in FIGURES))
    Console().print(table)
    Console().print(f"scheduling: {values['scheduling']}")
    write(json, values)


@bench.command(name="audit")
def bench_audit(
    bag: Positional[Path],
    bundle: Path = DEMO_BUNDLE,
    minutes: float = 60.0,
    encoder: bool = False,
    folder: Path = Path("build/long_bags"),
    json: Path | None = None,
) -> None:
    """Audit a bag that was made long by repetition: speed against real time, peak memory.

    Args:
        bag: A bag of the graph; the run in it is repeated.
        bundle: Folder of the bundle.
        minutes: Length of the long bag.
        encoder: Run the encoder too.
        folder: Where the long bag goes, for a second run to take up; an hour of the demo is 8 GB.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.audit import measure_audit

    with progress_bar(console, "repeating, then auditing") as progress:
        values = measure_audit(
            bag, bundle, folder, seconds=60.0 * minutes, encoder=encoder, progress=progress
        )
    table = Table("of", "figure")
    table.add_row("bag", f"{values['bag_seconds']:.0f} s")
    table.add_row("audit", f"{values['audit_seconds']:.0f} s")
    table.add_row("times as fast as real time", f"{values['times_real_time']:.2f}")
    if encoder:
        table.add_row("of that the encoder", f"{100 * values['encoder_share']:.0f} %")
    table.add_row("peak memory", f"{values['peak_memory_mb']} MB")
    table.add_row("page", f"{values['page_mb']:.1f} MB")
    for row in values["parity"]:
        table.add_row(row["what"], f"{row['equal']:,} of {row['logged']:,} equal")
    Console().print(table)
    write(json, values)


@bench.command(name="faults")
def bench_faults(
    bundle: Path = DEMO_BUNDLE, only: tuple[str, ...] = (), json: Path | None = None
) -> None:
    """Break the running graph in every declared way; hold the responses against docs/safety.md.

    Exits with 1 where a drill does not meet what is declared.

    Args:
        bundle: Folder of the bundle.
        only: Words in the names of the drills to run; all by default.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.faults import run_faults

    with progress_bar(console, "drills") as progress:
        values = run_faults(bundle, Path("build/logs/faults"), only=only, progress=progress)
    Console().print(_faults_table(values))
    totals = values["totals"]
    Console().print(
        f"{totals['passed']} of {totals['drills']} drills as declared, {totals['not_run']} not "
        f"run; {totals['commands_outside_limits']} of {totals['commands']} commands outside the "
        "limits"
    )
    write(json, values)
    failed = [drill["name"] for drill in values["drills"] if drill["verdict"] == "failed"]
    if failed:
        raise AltError(f"drills that did not go as declared: {', '.join(failed)}")


@bench.command(name="soak")
def bench_soak(
    bundle: Path = DEMO_BUNDLE, minutes: float = 10.0, json: Path | None = None
) -> None:
    """Run the whole graph on the simulation without a pause: lost chunks, growth of memory.

    Args:
        bundle: Folder of the bundle.
        minutes: How long.
        json: Where the figures go.
    """
    from alt_ros.benchmarks.soak import run_soak

    with progress_bar(console, "seconds of running") as progress:
        values = run_soak(bundle, Path("build/logs/soak"), minutes=minutes, progress=progress)
    Console().print(_soak_table(values))
    write(json, values)
