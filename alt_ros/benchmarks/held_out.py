"""Does the monitor's calibration hold on demonstrations that it has not seen? No simulation.

The demonstrations of a store are divided at random: some make the table, some calibrate, the
others are played to the monitor as it runs live. First as they were recorded: every flag is a
false alarm. Then with one camera corrupted from a third of the episode on: every flag is earned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, mannwhitneyu

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.sequence import Selection
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.runtime import EncoderRuntime
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.lookup.bands import combined, strangeness
from alt_ros.lookup.calibration import (
    EPISODE,
    FRAME,
    MIN_EPISODES,
    RATE,
    Calibration,
    calibrate,
)
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.episodes import EpisodeScores, score_episodes
from alt_ros.lookup.index import build_index
from alt_ros.lookup.lookup import Lookup
from alt_ros.lookup.monitor import OodMonitor
from alt_ros.lookup.table import Table, make_table
from alt_ros.progress import Advance
from alt_ros.report import machine
from alt_ros.simulation.disturbances import (
    EXPOSURE,
    Photograph,
    blurred_image,
    covered_image,
    exposed_image,
)
from alt_ros.training.alt_bundle import BATCH, calibrate_table, embed_episodes, read_training
from alt_ros.types import Query

SPECKS = 0.1
"""Share of pixels that salt-and-pepper noise makes black or white."""
RESAMPLES = 1000
DIVISIONS = 200
"""How often the held-out demonstrations are divided anew into those that calibrate and test."""
Image = NDArray[np.uint8]
Corruption = Callable[
    [Mapping[str, Image], Mapping[str, Image], np.random.Generator], Mapping[str, Image]
]
"""From the views (H, W, 3) of a frame, and of the first one corrupted, to what is seen."""


@dataclass(frozen=True)
class HeldOutConfig:
    """How demonstrations are divided and the monitor is judged.

    Attributes:
        calibration_share: Part of the demonstrations that calibrates.
        test_share: Part that is played to the monitor; the rest makes the table.
        rate: False-alarm rate that is calibrated for, between 0 and 1.
        per: What the rate counts, "episode", "frame" or one after the other.
        scores: Which make the level, see ``chosen_scores``.
        corrupted_episodes: Test episodes that every corruption is tried on, at most.
        seed: Of the division and of the noise.
    """

    calibration_share: float = 0.25
    test_share: float = 0.25
    rate: float = RATE
    per: tuple[str, ...] = (EPISODE, FRAME)
    scores: tuple[str, ...] = ()
    corrupted_episodes: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        shares = self.calibration_share, self.test_share
        if not (min(shares) > 0.0 and sum(shares) < 1.0):
            raise ConfigurationError(
                "held-out check: the shares that calibrate and test must be above 0 and leave a "
                f"part for the table, got {shares[0]} and {shares[1]}"
            )
        if not 0.0 < self.rate < 1.0:
            raise ConfigurationError(
                f"held-out check: the rate must be between 0 and 1, got {self.rate}"
            )
        if not self.per or not set(self.per) <= {EPISODE, FRAME}:
            raise ConfigurationError(
                f"held-out check: the rate counts '{EPISODE}', '{FRAME}' or both, got {self.per}"
            )
        if self.corrupted_episodes < 1 or self.seed < 0:
            raise ConfigurationError(
                "held-out check: at least 1 corrupted episode and a seed of 0 or more are needed, "
                f"got {self.corrupted_episodes} and {self.seed}"
            )


@dataclass(frozen=True)
class Division:
    """Numbers of the demonstrations that make the table, calibrate and test."""

    table: tuple[int, ...]
    calibration: tuple[int, ...]
    test: tuple[int, ...]

    def counts(self, among: Collection[int]) -> dict[str, int]:
        """Return for every part how many of its demonstrations are among these."""
        parts = {"table": self.table, "calibration": self.calibration, "test": self.test}
        return {name: sum(n in among for n in part) for name, part in parts.items()}


@dataclass(frozen=True, eq=False)
class Watched:
    """What the monitor said along an episode of n frames.

    Attributes:
        levels: (n,) float64.
        flags: (n,) bool.
    """

    levels: NDArray[np.float64]
    flags: NDArray[np.bool_]


def bench_held_out(
    store: Path,
    training: Path,
    config: HeldOutConfig | None = None,
    *,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """Divide the demonstrations, calibrate with some and judge the monitor by others.

    Args:
        store: Folder of the store that the encoder was trained on.
        training: Folder with ``encoder.pt`` and ``training.json``, as ``alt train`` writes it.
        config: How.
        device: See ``EncoderRuntime``.
        progress: Called with (frames embedded, frames in all).

    Returns:
        ``demonstrations`` and, of these, ``never_seen`` by the encoder, for every part; ``per``:
        what the rate counts to ``calibration``, ``ordinary``, ``divided_anew`` and ``corrupted``
        figures. Delays are in frames.

    Raises:
        DataError: A folder is not what it should be.
        ConfigurationError: There are too few demonstrations, or a score is unknown.
        DependencyError: The unrelated image's matplotlib is not installed.
    """
    config = config or HeldOutConfig()
    opened = DemonstrationStore.open(store)
    report, spec = read_training(training)
    unseen = _unseen(report, opened)
    division = divide(_usable(opened), unseen, config)
    known = corruptions(spec.views)
    runtime = EncoderRuntime(training / str(report["encoder"]), spec, device)

    chosen = division.test[: config.corrupted_episodes]
    parts = (*division.table, *division.calibration, *division.test)
    ends = np.cumsum([len(opened[number]) for number in parts]).tolist()
    corrupted_frames = sum(len(opened[n]) - onset_of(len(opened[n])) for n in chosen)
    total = ends[-1] + len(known) * corrupted_frames
    embedded = embed_episodes(
        runtime, Selection(opened, parts), lambda n, _: progress(ends[n - 1], total)
    )
    queries = dict(zip(parts, embedded, strict=True))
    lookups = _calibrated(opened, spec.views, division, queries, config)
    scored = _scored(lookups[config.per[0]], spec.views, division, queries)
    ordinary = {
        per: [watch(lookup, queries[number]) for number in division.test]
        for per, lookup in lookups.items()
    }
    corrupted = _watch_corrupted(
        runtime,
        [(opened[number], queries[number]) for number in chosen],
        known,
        lookups,
        np.random.default_rng(config.seed),
        lambda done: progress(ends[-1] + done, total),
    )
    return {
        "store": opened.path.name,
        "encoder_id": runtime.encoder_id,
        "demonstrations": division.counts(range(len(opened))),
        "never_seen": division.counts(unseen),
        "failed_left_out": len(opened) - len(parts),
        "test_frames": sum(len(queries[number]) for number in division.test),
        "rate": config.rate,
        "per": {
            per: {
                "calibration": _calibration_figures(lookup.monitor.calibration),
                "ordinary": ordinary_figures(ordinary[per], lookup.monitor.calibration),
                "divided_anew": divided_anew(
                    scored, len(division.calibration), lookup.monitor, config
                ),
                "corrupted": {
                    name: corrupted_figures(watched, ordinary[per], lookup.monitor.config)
                    for name, watched in corrupted[per].items()
                },
            }
            for per, lookup in lookups.items()
        },
        "seed": config.seed,
        "machine": machine(),
    }


def divide(numbers: Sequence[int], unseen: Collection[int], config: HeldOutConfig) -> Division:
    """Divide demonstrations at random; those the encoder never saw calibrate and test first.

    Which of the held-out ones calibrate and which test is chance alone, else the test's were not
    exchangeable with the calibration's.

    Args:
        numbers: The demonstrations.
        unseen: Those that the encoder was not trained on.
        config: Shares and seed.

    Raises:
        ConfigurationError: A part would have too few demonstrations.
    """
    rng = np.random.default_rng(config.seed)
    calibration = int(config.calibration_share * len(numbers))
    test = int(config.test_share * len(numbers))
    table = len(numbers) - calibration - test
    if calibration < MIN_EPISODES or min(test, table) < 1:
        raise ConfigurationError(
            f"held-out check: {len(numbers)} demonstrations would give {table} for the table, "
            f"{calibration} to calibrate and {test} to test; at least 1, {MIN_EPISODES} and 1 are "
            "needed: record more, or change the shares"
        )
    shuffled = [int(number) for number in rng.permutation(numbers)]
    preferred = sorted(shuffled, key=lambda number: number not in unseen)
    held_out = [int(number) for number in rng.permutation(preferred[: calibration + test])]
    return Division(
        table=tuple(sorted(preferred[calibration + test :])),
        calibration=tuple(held_out[:calibration]),
        test=tuple(held_out[calibration:]),
    )


def corruptions(views: Sequence[str]) -> dict[str, Corruption]:
    """Return by name what may be wrong with the first view; swapping two needs two.

    Raises:
        DependencyError: The unrelated image's matplotlib is not installed.
    """
    photograph, damaged = Photograph(), views[0]

    def one_view(change: Callable[[Image, Image, np.random.Generator], Image]) -> Corruption:
        return lambda images, first, rng: {
            **images,
            damaged: change(images[damaged], first[damaged], rng),
        }

    found = {
        "covered": one_view(lambda image, first, rng: covered_image(_size(image), rng)),
        "blurred": one_view(lambda image, first, rng: blurred_image(image)),
        "dimmed": one_view(lambda image, first, rng: exposed_image(image, EXPOSURE)),
        "salt_and_pepper": one_view(lambda image, first, rng: speckled_image(image, rng)),
        "unrelated_image": one_view(lambda image, first, rng: photograph.crop(_size(image), 0.15)),
        "frozen": one_view(lambda image, first, rng: first),
    }
    if len(views) > 1:
        found["swapped_views"] = lambda images, first, rng: {
            **images,
            views[0]: images[views[1]],
            views[1]: images[views[0]],
        }
    return found


def speckled_image(image: Image, rng: np.random.Generator) -> Image:
    """Return an image (H, W, 3) uint8 of which a share of pixels is black or white."""
    chance = rng.random(image.shape[:2])
    speckled = image.copy()
    speckled[chance < SPECKS] = 0
    speckled[chance < SPECKS / 2] = 255
    return speckled


def onset_of(frames: int) -> int:
    """Return the first frame that is corrupted: a third of the episode has passed."""
    return frames // 3


def watch(lookup: Lookup, queries: Sequence[Query]) -> Watched:
    """Return what the monitor says along an episode, as it runs live."""
    lookup.reset()
    decisions = [lookup.step(query)[1] for query in queries]
    return Watched(np.array([d.score for d in decisions]), np.array([d.flag for d in decisions]))


def ordinary_figures(watched: Sequence[Watched], calibration: Calibration) -> dict[str, Any]:
    """Return how often ordinary episodes were taken for strange ones.

    The interval of the share of episodes is Wilson's; that of the share of frames above the
    threshold, where every episode weighs the same, is bootstrapped over episodes.
    """
    alarms = sum(bool(episode.flags.any()) for episode in watched)
    wilson = binomtest(alarms, len(watched)).proportion_ci(method="wilson")
    above = np.array([(e.levels > calibration.threshold).mean() for e in watched])
    resampled = np.random.default_rng(0).integers(len(above), size=(RESAMPLES, len(above)))
    low, high = np.quantile(above[resampled].mean(axis=1), [0.025, 0.975])
    intervals = {EPISODE: (wilson.low, wilson.high), FRAME: (low, high)}
    within = intervals[calibration.per]
    return {
        "episodes": len(watched),
        "false_alarms": alarms,
        "false_alarms_share": _rounded(alarms / len(watched)),
        "false_alarms_interval_95": [_rounded(value) for value in intervals[EPISODE]],
        "frames_above": _rounded(above.mean()),
        "frames_above_interval_95": [_rounded(value) for value in intervals[FRAME]],
        "frames_flagged": _rounded(np.concatenate([e.flags for e in watched]).mean()),
        "rate_within_interval": bool(within[0] <= (calibration.rate or 0.0) <= within[1]),
    }


def divided_anew(
    scored: Sequence[EpisodeScores], calibrating: int, monitor: OodMonitor, config: HeldOutConfig
) -> dict[str, Any]:
    """Return what rates many calibrations realise, for the guarantee is about their mean.

    The held-out episodes are divided ``DIVISIONS`` times into those that calibrate and test
    (Angelopoulos and Bates 2021, arXiv 2107.07511, section 4.3). The retrieval follows every
    observation here, as in the calibration.

    Args:
        scored: What the scores say along each held-out episode.
        calibrating: How many of them calibrate.
        monitor: Whose scores and calibration they are of.
        config: The rate and the seed.
    """
    names, per = tuple(monitor.calibration.bands), monitor.calibration.per
    rng = np.random.default_rng(config.seed)
    rates: list[float] = []
    for _ in range(DIVISIONS):
        order = rng.permutation(len(scored))
        calibration = calibrate(
            [scored[i] for i in order[:calibrating]],
            names,
            monitor=monitor.config,
            rate=config.rate,
            per=per,
        )
        bands = tuple(calibration.bands.values())
        levels = [
            combined(strangeness(bands, scored[i].values, scored[i].progress))
            for i in order[calibrating:]
        ]
        above = (
            [monitor.config.episode_level(part) > calibration.threshold for part in levels]
            if per == EPISODE
            else [(part > calibration.threshold).mean() for part in levels]
        )
        rates.append(float(np.mean(above)))
    return {
        "divisions": DIVISIONS,
        "mean_rate": _rounded(float(np.mean(rates))),
        "rates_95": [_rounded(value) for value in np.quantile(rates, [0.025, 0.975])],
    }


def corrupted_figures(
    watched: Sequence[Watched], ordinary: Sequence[Watched], monitor: MonitorConfig
) -> dict[str, Any]:
    """Return how well a corruption is seen.

    An episode that was flagged before the onset counts as a false alarm and nowhere else. The
    AUROC is of the level that raises the flag, from the onset on, against the ordinary episodes
    from the same part on.
    """
    onsets = [onset_of(len(episode.flags)) for episode in watched]
    pairs = list(zip(watched, onsets, strict=True))
    quiet = [e.flags[onset:] for e, onset in pairs if not e.flags[:onset].any()]
    delays = [int(flags.argmax()) for flags in quiet if flags.any()]
    strange, usual = (
        [monitor.episode_level(e.levels[onset_of(len(e.levels)) :]) for e in episodes]
        for episodes in (watched, ordinary)
    )
    auroc = float(mannwhitneyu(strange, usual).statistic) / (len(strange) * len(usual))
    return {
        "episodes": len(watched),
        "false_alarms_before": len(watched) - len(quiet),
        "quiet_before": len(quiet),
        "flagged": len(delays),
        "flagged_share": _rounded(len(delays) / len(quiet)) if quiet else None,
        "delay": float(np.median(delays)) if delays else None,
        "auroc": _rounded(auroc),
    }


def _calibration_figures(calibration: Calibration) -> dict[str, Any]:
    names = ("threshold", "guarantee", "episodes", "band_episodes", "frames", "realised")
    return {name: getattr(calibration, name) for name in names}


def _usable(store: DemonstrationStore) -> list[int]:
    """Return the demonstrations that did not fail: a failed one is not ordinary."""
    return [n for n, demonstration in enumerate(store) if demonstration.success is not False]


def _unseen(report: Mapping[str, Any], store: DemonstrationStore) -> set[int]:
    """Return the demonstrations that the training held out."""
    unseen = {int(number) for number in report.get("config", {}).get("validation", ())}
    beyond = sorted(number for number in unseen if not 0 <= number < len(store))
    if beyond:
        raise DataError(
            f"training held out demonstration {beyond[0]}, store '{store.path}' holds "
            f"{len(store)}: name the store that the encoder was trained on"
        )
    return unseen


def _calibrated(
    store: DemonstrationStore,
    views: Sequence[str],
    division: Division,
    queries: Mapping[int, Sequence[Query]],
    config: HeldOutConfig,
) -> dict[str, Lookup]:
    """Return the policy's step, calibrated for what the rate is to count."""
    table = _table(store, division.table, queries)
    index, _ = build_index("hnsw", table.embeddings)
    episodes = [queries[number] for number in division.calibration]
    lookups: dict[str, Lookup] = {}
    for per in config.per:
        calibration, _ = calibrate_table(
            table, index, views, episodes, scores=config.scores, rate=config.rate, per=per
        )
        lookups[per] = Lookup(table, index, views, 1, calibration)
    return lookups


def _scored(
    lookup: Lookup,
    views: Sequence[str],
    division: Division,
    queries: Mapping[int, Sequence[Query]],
) -> list[EpisodeScores]:
    """Return what the scores of a lookup's monitor say along every held-out episode."""
    return score_episodes(
        lookup.table,
        lookup.retrieval.index,
        views,
        tuple(lookup.monitor.calibration.bands),
        [queries[number] for number in (*division.calibration, *division.test)],
    )


def _table(
    store: DemonstrationStore, numbers: Sequence[int], queries: Mapping[int, Sequence[Query]]
) -> Table:
    """Return the table of some demonstrations that were embedded."""
    rows = np.concatenate([np.arange(store.start(n), store.episode_ends[n]) for n in numbers])
    held = [query for number in numbers for query in queries[number]]
    return make_table(
        embeddings=np.stack([query.embedding for query in held]),
        view_embeddings=np.stack([query.view_embeddings for query in held]),
        actions=store.actions[rows],
        poses=store.poses[rows],
        grippers=store.grippers[rows],
        episode_ends=np.cumsum([len(queries[number]) for number in numbers]),
        names=tuple(store.names[number] for number in numbers),
        period=store.period,
        layout=store.layout,
    )


def _watch_corrupted(
    encoder: EncoderRuntime,
    episodes: Sequence[tuple[Demonstration, Sequence[Query]]],
    known: Mapping[str, Corruption],
    lookups: Mapping[str, Lookup],
    rng: np.random.Generator,
    progress: Callable[[int], None],
) -> dict[str, dict[str, list[Watched]]]:
    """Return for each lookup and corruption what the monitor says along corrupted episodes.

    Args:
        encoder: The encoder as it is deployed.
        episodes: Demonstrations, and their queries as they were recorded.
        known: The corruptions.
        lookups: The policy's step, by what the rate counts.
        rng: Of the noise.
        progress: Called with the number of corrupted frames embedded.
    """
    watched: dict[str, dict[str, list[Watched]]] = {
        per: {name: [] for name in known} for per in lookups
    }
    done = 0
    for name, corruption in known.items():
        for demonstration, recorded in episodes:
            onset = onset_of(len(demonstration))
            rest = _embed_corrupted(encoder, demonstration, onset, corruption, rng)
            for per, lookup in lookups.items():
                watched[per][name].append(watch(lookup, [*recorded[:onset], *rest]))
            done += len(rest)
            progress(done)
    return watched


def _embed_corrupted(
    encoder: EncoderRuntime,
    demonstration: Demonstration,
    onset: int,
    corruption: Corruption,
    rng: np.random.Generator,
) -> list[Query]:
    """Return the queries from the onset on; a batch of corrupted images in memory at a time."""
    first = _views(demonstration, onset, encoder.spec.views)
    queries: list[Query] = []
    for start in range(onset, len(demonstration), BATCH):
        rows = slice(start, min(start + BATCH, len(demonstration)))
        images = [
            corruption(_views(demonstration, frame, encoder.spec.views), first, rng)
            for frame in range(rows.start, rows.stop)
        ]
        part = replace(
            demonstration,
            stamps=demonstration.stamps[rows],
            images={view: np.stack([i[view] for i in images]) for view in encoder.spec.views},
            poses=demonstration.poses[rows],
            grippers=demonstration.grippers[rows],
            state=demonstration.state[rows],
            actions=demonstration.actions[rows],
        )
        queries += embed_episodes(encoder, [part])[0]
    return queries


def _views(demonstration: Demonstration, frame: int, views: Sequence[str]) -> dict[str, Image]:
    return {view: demonstration.images[view][frame] for view in views}


def _size(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _rounded(value: float) -> float:
    return round(float(value), 4)
