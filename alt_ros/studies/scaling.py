"""How the Action Lookup Table scales: 31, 200, 2,000 and 20,000 demonstrations.

What the reviewers of the memorisation paper asked for (He et al. 2026, "Demystifying Robot
Diffusion Policies", arXiv 2505.05787): time, memory, detection and success as the table grows.

One encoder, trained on the 31 demonstrations, serves every table: what grows is the table alone.
As many demonstrations as can be recorded are recorded; larger tables are filled up with resampled
ones (``resampling``), and one of 200 is made both ways, to see what resampling is worth.

- time: of one search by HNSW and by comparing with every row; and of one answer, images in and
  chunk out. One thread, with nothing of this study beside it.
- detection: every table judges the same observations, of roll-outs of the table of 31 without a
  monitor, with a threshold that is calibrated anew for it on the same ordinary roll-outs.
- success: without a monitor, ``ind`` and ``anywhere``: the cup at a place that was demonstrated to
  the table of 31, and anywhere in the region.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.benchmarks.evaluation import roll_out
from alt_ros.benchmarks.ood_traces import Trace, recorded, roll_out_code
from alt_ros.bundle import Bundle
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.runtime import compute_device
from alt_ros.errors import BundleError
from alt_ros.lookup.index import (
    ExactIndex,
    HnswIndex,
    Vectors,
)
from alt_ros.lookup.score import evenly_spaced
from alt_ros.lookup.table import Table
from alt_ros.policies.alt import AltPolicy
from alt_ros.progress import Advance
from alt_ros.report import write_json
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.simulation.scenarios import scenario as find_scenario
from alt_ros.simulation.scene import CupPlacement
from alt_ros.studies import resampling
from alt_ros.studies.costs import diffusion_parameters
from alt_ros.studies.parallel import Part, side_by_side
from alt_ros.studies.report import Report
from alt_ros.studies.resampling import (
    Resampled,
    joined,
    likeness,
    nearest_distances,
    next_demonstration,
    part_of,
    resample,
)
from alt_ros.studies.scaling_measures import PROBES, built_graph, detection, hits, timed, tune
from alt_ros.studies.scaling_report import DRIVEN, ORDINARY, Findings, Size, scaling_report
from alt_ros.studies.trained import ALT_STEPS, IMAGE_SIZE, alt_bundle, cup_store
from alt_ros.training.alt_bundle import build_table

OOD_SCENARIOS = ("distractors", "changed_cup", "extrapolate_side", "extrapolate_back")
ACTION_HORIZON = 8
PLACEMENT_SEED, CALIBRATION_SEED = 5000, 2000
"""Added to the study's seed: where more cups are demonstrated, and where calibration puts them."""
STORE_SIZE = 43
"""Most demonstrations recorded by one process."""
THREADED = 100_000
"""Rows from which on the graph is built with every core."""


@dataclass(frozen=True)
class ScalingSettings:
    """How much is done.

    Attributes:
        sizes: The tables, in the order of the report.
        trained: Demonstrations that the encoder is trained on, of the 31 placements; the table
            of so many is the one whose roll-outs every table judges.
        recorded: Demonstrations recorded in all; those after ``trained`` stand anywhere.
        held_out: The last of them, to fit and judge the resampling by.
        trials: Episodes of each scenario.
        calibration_trials: Ordinary episodes that thresholds come from.
        alt_steps: Of the encoder's training.
    """

    sizes: tuple[Size, ...]
    trained: int
    recorded: int
    held_out: int
    trials: int
    calibration_trials: int
    alt_steps: int = ALT_STEPS


QUICK = ScalingSettings(
    sizes=(Size(8, 8), Size(31, 31), Size(200, 31), Size(2_000, 31)),
    trained=31,
    recorded=39,
    held_out=8,
    trials=8,
    calibration_trials=12,
)
FULL = ScalingSettings(
    sizes=(Size(31, 31), Size(200, 200), Size(200, 31), Size(2_000, 200), Size(20_000, 200)),
    trained=31,
    recorded=200,
    held_out=40,
    trials=31,
    calibration_trials=40,
)


@dataclass(frozen=True)
class _Setting:
    """What every part of the study is told.

    Attributes:
        folder: Where everything is kept.
        settings: How much is done.
        seed: Of training, placements and resampling.
        device: See ``compute_device``.
    """

    folder: Path
    settings: ScalingSettings
    seed: int
    device: str

    @property
    def placements(self) -> list[CupPlacement]:
        """Where the cup stands in the recorded demonstrations."""
        anywhere, seed = find_scenario("anywhere"), PLACEMENT_SEED + self.seed
        more = self.settings.recorded - self.settings.trained
        return [
            *TRAINING_PLACEMENTS[: self.settings.trained],
            *(anywhere.trial(number, seed).placement for number in range(more)),
        ]

    @property
    def starts(self) -> list[int]:
        """The first demonstration of each store: the encoder's, and what else is recorded."""
        return [0, *range(self.settings.trained, self.settings.recorded, STORE_SIZE)]

    def store(
        self, start: int, progress: Advance = lambda done, total: None
    ) -> DemonstrationStore:
        """Return a store by its first demonstration; recorded unless the folder holds it."""
        stop = min(start + STORE_SIZE, self.settings.recorded) if start else self.settings.trained
        name = f"more_{start}" if start else "store"
        return cup_store(self.folder / name, self.placements[start:stop], progress)

    def bundle(self, progress: Advance = lambda done, total: None) -> Bundle:
        """Return the bundle of the encoder's demonstrations; trained unless the folder holds it.

        From here on this process computes with one thread.
        """
        made = alt_bundle(
            self.folder / "alt",
            self.store(0),
            seed=self.seed,
            steps=self.settings.alt_steps,
            device=self.device,
            progress=progress,
        )
        return replace(made, encoder=made.load_encoder(self.device, threads=1))

    def recorded(self, bundle: Bundle) -> Table:
        """Return the table of all recorded demonstrations; embedded unless the folder holds it."""
        file = self.folder / f"recorded_{bundle.encoder_id}.npz"
        stores = [self.store(start) for start in self.starts]
        try:
            table = Table.load(file)
            if table.names == tuple(name for store in stores for name in store.names):
                return table
        except BundleError:
            pass  # not made yet
        assert bundle.encoder is not None
        more = [build_table(bundle.encoder, store) for store in stores[1:]]
        table = joined([bundle.table, *more])
        table.save(file)
        return table

    def resampled(self, recorded: Table, size: Size, noise: float) -> Resampled:
        """Return one table of the study."""
        parents = part_of(recorded, 0, size.parents)
        return resample(parents, size.demonstrations, noise=noise, seed=self.seed)

    def kept(self, name: str, make: Callable[[], dict[str, Any]], *depends: Any) -> dict[str, Any]:
        """Return figures from their file, or make them and keep them there."""
        code = Path(resampling.__file__).read_text(encoding="utf-8")
        key = [code, roll_out_code(), self.seed, *depends]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        file = self.folder / "figures" / f"{name}.json"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["digest"] == digest:
                return found["figures"]
        except (OSError, ValueError, KeyError):
            pass  # not made yet, or damaged
        figures = make()
        write_json(file, {"digest": digest, "figures": figures})
        return figures

    def index_file(self, size: Size) -> Path:
        """Return where a table's graph is kept."""
        return self.folder / "indexes" / f"{size.name}.hnsw"


def _record(setting: _Setting, start: int, *, progress: Advance) -> None:
    setting.store(start, progress)


def _trace(
    setting: _Setting, scenario: str, trials: int, seed: int, *, progress: Advance
) -> Trace:
    """Return roll-outs of the encoder's own table without a monitor."""
    folder, seed = setting.folder / "traces", setting.seed + seed
    return recorded(folder, setting.bundle(), scenario, trials, seed=seed, progress=progress)


def _costs(
    setting: _Setting,
    bundle: Bundle,
    recorded: Table,
    size: Size,
    noise: float,
    queries: Vectors,
    progress: Advance,
) -> dict[str, Any]:
    """Build a table's graph and keep it; time it, with nothing of this study beside it."""
    table = setting.resampled(recorded, size, noise).table
    threads = 1 if len(table) < THREADED else os.cpu_count() or 1
    started = time.perf_counter()
    index = built_graph(table.embeddings, threads, progress)
    build_seconds = time.perf_counter() - started
    own = tune(index, table.embeddings)
    file = setting.index_file(size)
    file.parent.mkdir(parents=True, exist_ok=True)
    index.save(file)
    neighbours = bundle.retrieval.neighbours
    exact = ExactIndex.build(table.embeddings)
    policy = AltPolicy(replace(bundle, table=table, index=index))
    demonstration = setting.store(0)[0]
    seen = [demonstration.observation(frame) for frame in range(len(demonstration))]
    sample = table.demonstration[frames := evenly_spaced(len(table), PROBES)]
    arrays = (table.embeddings, table.view_embeddings, table.demonstration, table.frame)
    arrays += (table.actions, table.poses, table.grippers, table.episode_ends)
    return {
        "rows": len(table),
        "table_bytes": sum(array.nbytes for array in arrays),
        "index_bytes": file.stat().st_size,
        "build_seconds": build_seconds,
        "build_threads": threads,
        "ef": index.ef,
        "own_rows_found": own,
        "found": hits(
            index, table.embeddings, queries, 1.0 - nearest_distances(queries, table.embeddings)
        ),
        "asked": len(queries),
        "hnsw_ms": timed(lambda query: index.query(query, neighbours), queries),
        "exact_ms": timed(lambda query: exact.query(query, neighbours), queries),
        "answer_ms": timed(policy.act, seen),
        "next_demonstration": (
            next_demonstration(table, frames).tolist() if sample.min() < sample.max() else []
        ),
    }


def _loaded(
    setting: _Setting, bundle: Bundle, size: Size, noise: float, ef: int
) -> tuple[Bundle, Resampled]:
    """Return the bundle with another table, and how that was made."""
    made = setting.resampled(setting.recorded(bundle), size, noise)
    index = HnswIndex.load(setting.index_file(size), made.table.embedding_size)
    index.ef = ef
    return replace(bundle, table=made.table, index=index), made


def _driven(
    setting: _Setting, bundle: Bundle, made: Resampled, scenario: str, progress: Advance
) -> dict[str, Any]:
    """Roll a table out without a monitor; say what was recalled."""
    trials = evenly_spaced(len(TRAINING_PLACEMENTS), setting.settings.trials).tolist()
    policy = AltPolicy.unwatched(bundle)
    with CupGraspSimulation(IMAGE_SIZE) as simulation:
        episodes = roll_out(
            simulation,
            policy,
            scenario,
            trials,
            seed=setting.seed,
            action_horizon=ACTION_HORIZON,
            watched=False,
            progress=progress,
        )
    recorded = np.array([(p.x, p.y) for p in setting.placements])
    first, second = recorded[made.parents.T]
    stood = first + made.weights[:, None] * (second - first)
    cups = [find_scenario(scenario).trial(trial, setting.seed).placement for trial in trials]
    apart = [np.linalg.norm(stood - (cup.x, cup.y), axis=1) for cup in cups]
    followed = [(e.recalled, off) for e, off in zip(episodes, apart, strict=True) if e.commands]
    return {
        "success": [episode.success for episode in episodes],
        "nearest": [int(off.argmin()) == recalled for recalled, off in followed],
        "recalled_m": [float(off[recalled]) for recalled, off in followed],
        "nearest_m": [float(off.min()) for off in apart],
    }


def _worth(
    setting: _Setting, size: Size, noise: float, ef: int, *, progress: Advance
) -> dict[str, Any]:
    """Return what a table detects, and how often it succeeds."""
    bundle, settings = setting.bundle(), setting.settings

    def make() -> dict[str, Any]:
        loaded, made = _loaded(setting, bundle, size, noise, ef)
        traces = {
            name: _trace(setting, *wanted, progress=lambda done, total: None)
            for name, wanted in _wanted(settings).items()
        }
        found = {"detection": detection(loaded, traces)}
        for number, scenario in enumerate(DRIVEN):

            def report(done: int, total: int, number: int = number) -> None:
                progress(number * total + done, len(DRIVEN) * total)

            found[scenario] = _driven(setting, loaded, made, scenario, report)
        return found

    trials = settings.trials, settings.calibration_trials
    return setting.kept(f"worth_{size.name}", make, bundle.encoder_id, noise, ef, *trials)


def _wanted(settings: ScalingSettings) -> dict[str, tuple[str, int, int]]:
    """Return scenario, episodes and seed of each trace, by its name."""
    return {
        "calibration": (ORDINARY, settings.calibration_trials, CALIBRATION_SEED),
        **{name: (name, settings.trials, 0) for name in (ORDINARY, *OOD_SCENARIOS)},
    }


def run_scaling(
    folder: Path,
    *,
    quick: bool,
    seed: int,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> Report:
    """Run the study.

    Args:
        folder: Where demonstrations, training, graphs, roll-outs and figures are kept, to be taken
            up again.
        quick: To 2,000 demonstrations, all above 31 resampled, and few trials.
        seed: Of training, placements and resampling.
        device: See ``compute_device``.
        progress: Called with (seconds' worth of work done, in all), estimated.
    """
    settings, started = QUICK if quick else FULL, time.monotonic()
    setting = _Setting(folder, settings, seed, device)
    workers = 1 if compute_device(device).type == "cuda" else None
    recordings = [
        Part(partial(_record, setting, start), STORE_SIZE if start else settings.trained)
        for start in setting.starts
    ]
    traces = {
        name: Part(partial(_trace, setting, *wanted), 2 * wanted[1])
        for name, wanted in _wanted(settings).items()
    }
    costs_sizes = [20 + size.demonstrations // 20 for size in settings.sizes]
    worth_size = 4 * settings.trials
    lengths = [
        sum(part.size for part in recordings),
        settings.alt_steps + settings.recorded,
        sum(part.size for part in traces.values()),
        sum(costs_sizes),
        worth_size * len(settings.sizes),
    ]

    def stage(number: int, before: int = 0) -> Advance:
        before += sum(lengths[:number])
        return lambda done, of: progress(before + lengths[number] * done // of, sum(lengths))

    side_by_side(recordings, stage(0), workers)
    bundle = setting.bundle(stage(1))
    table = setting.recorded(bundle)
    recorded = dict(zip(traces, side_by_side([*traces.values()], stage(2), workers), strict=True))
    fitted: dict[int, dict[str, Any]] = {}
    for parents in sorted({size.parents for size in settings.sizes if size.resampled}):
        fitted[parents] = setting.kept(
            f"resampling_{parents}",
            partial(likeness, table, parents, settings.held_out, seed=seed),
            *(bundle.encoder_id, settings.recorded, settings.held_out),
        )
    noises = [fitted[s.parents]["noise"] if s.resampled else 0.0 for s in settings.sizes]
    asked = np.concatenate([trace.embeddings for trace in recorded.values()])
    asked = asked[evenly_spaced(len(asked), PROBES)]
    costs: list[dict[str, Any]] = []
    for number, (size, noise) in enumerate(zip(settings.sizes, noises, strict=True)):
        before = sum(costs_sizes[:number])

        def report(done: int, total: int, before: int = before, number: int = number) -> None:
            stage(3)(before + costs_sizes[number] * done // total, sum(costs_sizes))

        name = f"costs_{size.name}"
        if not setting.index_file(size).is_file():
            (folder / "figures" / f"{name}.json").unlink(missing_ok=True)
        make = partial(_costs, setting, bundle, table, size, noise, asked, report)
        costs.append(setting.kept(name, make, bundle.encoder_id, noise, len(asked)))
    parts = [
        Part(partial(_worth, setting, size, noise, cost["ef"]), worth_size)
        for size, noise, cost in zip(settings.sizes, noises, costs, strict=True)
    ]
    return scaling_report(
        Findings(
            quick=quick,
            seed=seed,
            sizes=settings.sizes,
            trained=settings.trained,
            costs=costs,
            worth=side_by_side(parts, stage(4), workers),
            likeness=fitted,
            encoder_bytes=4 * sum(p.numel() for p in MultiViewEncoder(bundle.spec).parameters()),
            diffusion_bytes=4 * diffusion_parameters(setting.store(0), "paper"),
        ),
        started,
    )
