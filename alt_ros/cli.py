"""The ``alt`` command: every job of the researcher and of the demo.

Each command imports what it needs when it runs, so ``alt --help`` is instant.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.table import Table

from alt_ros.audit_cli import audit
from alt_ros.bench_cli import bench
from alt_ros.doctor_cli import doctor
from alt_ros.errors import AltError
from alt_ros.eval_cli import evaluate_command
from alt_ros.graph_cli import console_command, up
from alt_ros.progress import progress_bar
from alt_ros.replay_cli import replay
from alt_ros.study_cli import study
from alt_ros.terminal import Positional, console, say, write
from alt_ros.train_cli import train

if TYPE_CHECKING:
    from alt_ros.demonstrations.demonstration import Demonstration

app = tyro.extras.SubcommandApp()
data = tyro.extras.SubcommandApp()
app.command(data, name="data", help="Look at demonstrations, or import them into a store.")
app.command(train, name="train", help="Train a policy from a store; what was broken off goes on.")
app.command(bench, name="bench", help="Measure, as ratios in one run.")
app.command(study)
app.command(audit)
app.command(replay)
app.command(up)
app.command(doctor)
app.command(name="console")(console_command)
app.command(name="eval")(evaluate_command)


@app.command
def demo(
    folder: Path = Path("build/demo"),
    demonstrations: int = 31,
    calibration: int = 24,
    trials: int = 10,
    ood_trials: int = 6,
    seed: int = 0,
    fresh: bool = False,
) -> None:
    """A simulated arm learns to grasp a cup, then does it through the ROS 2 graph.

    Records demonstrations through the ROS topics, trains the encoder from the bags, builds the
    bundle and runs it in closed loop. What an earlier run left is taken up.

    Args:
        folder: Where bags, training, bundle, pictures and summary.json go.
        demonstrations: Demonstrations for the table, at most 31.
        calibration: Further ones, held out to calibrate the threshold.
        trials: Closed-loop episodes in distribution.
        ood_trials: Closed-loop episodes whose scene turns strange on the way.
        seed: Of training and trials.
        fresh: Throw away what an earlier run left.
    """
    from alt_ros.demo import DemoOptions, print_summary, run_demo

    options = DemoOptions(folder, demonstrations, calibration, trials, ood_trials, seed, fresh)
    summary = run_demo(options, console)
    print_summary(summary, Console())
    say(f"written: {folder}/summary.json, episode.gif, episode.png, recalled.png")


def _demonstrations(source: Path, rate: float | None) -> Sequence[Demonstration]:
    from alt_ros.demonstrations.formats import open_demonstrations

    return open_demonstrations(source, **({} if rate is None else {"rate": rate}))


@data.command(name="inspect")
def data_inspect(
    source: Positional[Path],
    rate: float | None = None,
    sheet: Path | None = None,
    sheet_episodes: int = 4,
) -> None:
    """Print what a set of demonstrations holds.

    Args:
        source: Bags, a store, a Diffusion-Policy zarr or a LeRobot folder.
        rate: Frames a second, for formats without stamps.
        sheet: Draw a contact sheet into this PNG.
        sheet_episodes: Episodes on the contact sheet.
    """
    from alt_ros.demonstrations.inspection import contact_sheet, summarize
    from alt_ros.pictures.sheets import save_png

    demonstrations = _demonstrations(source, rate)
    total = len(demonstrations)
    with progress_bar(console, "reading") as progress:
        summary = summarize(demonstrations, progress=lambda done: progress(done, total))
    table = Table("episode", "frames", "seconds", "Hz", "views", "action", "success", "gap [s]")
    for episode in summary.episodes:
        table.add_row(
            episode.name,
            str(episode.frames),
            f"{episode.seconds:.1f}",
            f"{episode.rate:.1f}",
            ", ".join(f"{view} {w}x{h}" for view, (h, w) in episode.views.items()),
            str(episode.action_size),
            {True: "yes", False: "no", None: ""}[episode.success],
            f"{episode.largest_gap:.3f}",
        )
    Console().print(table)
    Console().print(f"{total} episodes, {summary.frames} frames, {summary.seconds:.0f} s")
    if sheet is not None:
        save_png(sheet, contact_sheet(demonstrations, range(min(sheet_episodes, total)), 10))
        say(f"written: {sheet}")


@data.command(name="import")
def data_import(
    source: Positional[Path],
    store: Positional[Path],
    rate: float | None = None,
    image_size: tuple[int, int] | None = None,
) -> None:
    """Read demonstrations of any format into a training store.

    Args:
        source: Bags, a Diffusion-Policy zarr or a LeRobot folder.
        store: Folder to write; an older store there is replaced once the new one is whole.
        rate: Frames a second, for formats without stamps.
        image_size: Height and width of the stored images; as recorded by default.
    """
    from alt_ros.demonstrations.store import write_store

    demonstrations = _demonstrations(source, rate)
    total = len(demonstrations)
    with progress_bar(console, f"importing {source.name}") as progress:
        written = write_store(
            store, demonstrations, image_size=image_size, progress=lambda n: progress(n, total)
        )
    say(f"written: {store}, {len(written)} episodes, {written.frames} frames")


@app.command
def index(
    store: Positional[Path],
    training: Positional[Path],
    bundle: Positional[Path],
    kind: Literal["hnsw", "exact"] = "hnsw",
    horizon: int = 30,
    calibration_store: Path | None = None,
    rate: float = 0.05,
    per: Literal["episode", "frame"] = "episode",
    threshold: float | None = None,
    retrieval: Literal["recall", "correct"] = "recall",
    device: str = "auto",
) -> None:
    """Embed the demonstrations, build table and index, calibrate, write the bundle.

    Args:
        store: The store whose demonstrations the table will hold.
        training: Folder that ``alt train`` wrote.
        bundle: Folder to write.
        kind: hnsw, or exact.
        horizon: Prediction horizon Tp, actions of a chunk.
        calibration_store: Demonstrations that were held out; without them the threshold is
            calibrated by leaving one demonstration out.
        rate: Share of ordinary episodes, or frames, that may be strange.
        per: What the rate counts.
        threshold: Gamma, given instead of calibrated: the paper's rule.
        retrieval: recall: the motion as it was, as in the paper; correct: brought to where hand
            and goal are now, for an encoder that was trained with a task head.
        device: auto, cpu or cuda.
    """
    from alt_ros.lookup.correction import CorrectionConfig
    from alt_ros.training.alt_bundle import bundle_from_training

    with progress_bar(console, "embedding the demonstrations") as progress:
        built = bundle_from_training(
            store,
            training,
            bundle,
            kind=kind,
            horizon=horizon,
            calibration_store=calibration_store,
            rate=rate,
            per=per,
            threshold=threshold,
            correction=CorrectionConfig() if retrieval == "correct" else None,
            device=device,
            progress=progress,
        )
    report, calibration = built.index_report, built.calibration
    say(
        f"written: {bundle}; {len(built.table)} frames, recall {report.recall:.3f} at ef "
        f"{report.ef}; threshold {calibration.threshold:.4f} on {', '.join(calibration.bands)} "
        f"({calibration.how}, {calibration.episodes} episodes)"
    )
    say(calibration.explained())


@app.command
def deploy(policy: Positional[Path], bundle: Positional[Path]) -> None:
    """Put a policy into a bundle, beside its table and its monitor.

    Args:
        policy: Folder that ``alt train`` wrote; or one with remote.json, which says where a policy
            is served.
        bundle: Folder of the bundle; a policy of the same kind in it is replaced.
    """
    from alt_ros.policies.registry import deploy as put
    from alt_ros.training.policy import POLICY

    folder = put(policy / POLICY if (policy / POLICY).is_dir() else policy, bundle)
    say(f"written: {folder}; run it with --policy {folder.name}")


@app.command
def calibrate(
    bundle: Positional[Path],
    episodes: Positional[Path | None] = None,
    rate: float = 0.05,
    per: Literal["episode", "frame"] = "episode",
    scores: tuple[str, ...] = (),
    bins: int = 8,
    raise_count: int | None = None,
    raise_window: int | None = None,
    plot: Path | None = None,
    json: Path | None = None,
    device: str = "auto",
) -> None:
    """Learn from ordinary episodes what is usual, and set the threshold of the monitor by it.

    Args:
        bundle: Folder of the bundle; its calibration is replaced.
        episodes: Successful demonstrations that its table does not hold: bags, a store or any
            other format. Without them each demonstration of the table is left out in turn.
        rate: Share of ordinary episodes, or frames, that may be strange.
        per: What the rate counts.
        scores: Which make the level: path_residual@25, guiding_pose@30, guiding_motion@10 and
            cosine unless told otherwise; guiding_pose@30, guiding_motion@20 and cosine where
            motions are corrected; view (every view's), view:<name>, nearest_demonstrations,
            local_density, mahalanobis, density, jumps, chunk_overlap, disagreement,
            pose_residual. With @n: the least of n observations.
        bins: Parts of the motion that have a usual value of their own.
        raise_count: Strange observations that raise the flag; as the bundle has it.
        raise_window: Among so many of the last; as the bundle has it.
        plot: Draw the bands and the levels into this PNG.
        json: Where the figures go.
        device: auto, cpu or cuda.
    """
    from dataclasses import replace

    import numpy as np

    from alt_ros.bundle import Bundle
    from alt_ros.pictures.calibration import draw_calibration
    from alt_ros.training.alt_bundle import calibrate_table, embed_episodes

    loaded = Bundle.load(bundle, encoder=episodes is not None, device=device)
    chosen = {"raise_count": raise_count, "raise_window": raise_window}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    loaded = replace(loaded, monitor=replace(loaded.monitor, **chosen))
    queries = None
    with progress_bar(console, "scoring ordinary episodes") as progress:
        if episodes is not None:
            assert loaded.encoder is not None
            queries = embed_episodes(
                loaded.encoder, _demonstrations(episodes, None), progress=progress
            )
        calibration, scored = calibrate_table(
            loaded.table,
            loaded.index,
            loaded.spec.views,
            queries,
            scores=scores,
            rate=rate,
            per=per,
            bins=bins,
            retrieval=loaded.retrieval,
            monitor=loaded.monitor,
            corrects=loaded.correction is not None,
            progress=progress,
        )
    loaded.recalibrated(calibration)
    table = Table(
        "score", "usual", "strange above", title="at the start, in the middle, at the end"
    )
    for name, band in calibration.bands.items():
        values = [band.value_at(z, np.array([0.0, 0.5, 1.0])) for z in (0, calibration.threshold)]
        table.add_row(name, *(", ".join(f"{v:.4f}" for v in row) for row in values))
    Console().print(table)
    say(
        f"written: {bundle}; threshold {calibration.threshold:.4f} ({calibration.how}, "
        f"{calibration.episodes} episodes for it, {calibration.band_episodes} for the bands)"
    )
    say(calibration.explained())
    if plot is not None:
        draw_calibration(plot, calibration, scored)
        say(f"written: {plot}")
    write(json, calibration.to_json())


def _interrupt(signum: int, frame: object) -> None:
    """Let a termination end the nodes as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the command line; an error that a user can act on is one line and status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app.cli(prog="alt", description=__doc__)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `alt --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except AltError as error:
        print(f"alt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("alt: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
