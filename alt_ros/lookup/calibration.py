"""One threshold on how strange ordinary episodes get, for a stated false-alarm rate.

The level of an observation is its strangest score, in units of that score's band; that of an
episode is the highest that raised, or would have raised, the flag. From n levels of ordinary
episodes the threshold is the ceil((1 - rate)(n + 1))-th smallest (split conformal prediction;
Angelopoulos and Bates 2021, "A Gentle Introduction to Conformal Prediction", arXiv 2107.07511,
section 1): a further episode, exchangeable with them, is above it with a probability of at most
the rate. That is the mean over calibrations. The rate that one calibration realises is
Beta(n + 1 - k, k) distributed, k the rank (section 3.2); its 95 % range is stated. The bands come
from other episodes than the levels, else the guarantee would not hold.

Per frame, the threshold is the quantile of all single levels, where each episode weighs the same
and a further one, infinitely strange, is counted in: observations of one episode resemble each
other, whole episodes are exchangeable (hierarchical conformal prediction; Lee, Barber and Willett
2023, "Distribution-free inference with hierarchical data", arXiv 2306.06342).

Too few episodes cannot show a low rate. Then every episode's level is taken in bands from all the
others, and the levels as normal: the one-sided prediction bound for one further value (Hahn and
Meeker 1991, "Statistical Intervals", section 4.8). That extrapolates, and the calibration says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, betabinom
from scipy.stats import t as student_t

from alt_ros.errors import BundleError, ConfigurationError, DataError
from alt_ros.lookup.bands import BINS, Band, combined, fit_band, strangeness
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.episodes import EpisodeScores, score_episodes
from alt_ros.lookup.index import ExactIndex
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.lookup.scores import score_class
from alt_ros.lookup.table import Table
from alt_ros.progress import Advance
from alt_ros.types import Query

HELD_OUT = "held_out"
LEAVE_ONE_OUT = "leave_one_demonstration_out"
GIVEN = "given"
EPISODE = "episode"
FRAME = "frame"

SPLIT = "split conformal"
APPROXIMATE = "approximate, leave one out"
EXTRAPOLATED = "none, extrapolated"
INDEPENDENT = "none, frames taken as independent"
UNKNOWN = "none, threshold given"
GUARANTEES = (SPLIT, APPROXIMATE, EXTRAPOLATED, INDEPENDENT, UNKNOWN)

RATE = 0.05
MIN_BAND_EPISODES = 4
MIN_EPISODES = 3
KEPT_LEVELS = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What is usual, and from where on an observation is strange.

    Attributes:
        threshold: A level above it is strange; levels are in scales of the bands.
        bands: Score to what is usual for it; these scores make the level.
        how: "held_out" episodes, "leave_one_demonstration_out", or "given".
        per: What the rate counts: "episode" or "frame".
        rate: Share of ordinary episodes, or frames, that may be above; None where the threshold
            was given.
        guarantee: What vouches for the rate: one of ``GUARANTEES``.
        episodes: Episodes that the threshold came from.
        frames: Their observations.
        band_episodes: Episodes that the bands came from.
        levels: Levels that the threshold is a quantile of, ascending; evenly spaced quantiles of
            them where there were more than ``KEPT_LEVELS``.
        realised: 95 % range of the rate that such a calibration realises; None where there is no
            guarantee.
    """

    threshold: float
    bands: Mapping[str, Band]
    how: str = GIVEN
    per: str = EPISODE
    rate: float | None = None
    guarantee: str = UNKNOWN
    episodes: int = 0
    frames: int = 0
    band_episodes: int = 0
    levels: tuple[float, ...] = ()
    realised: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", MappingProxyType(dict(self.bands)))
        object.__setattr__(self, "levels", tuple(self.levels))
        if self.realised is not None:
            object.__setattr__(self, "realised", tuple(self.realised))
        if not self.bands or not np.isfinite(self.threshold):
            raise ConfigurationError(
                "calibration: a finite threshold and the band of at least one score are needed, "
                f"got {self.threshold} and {len(self.bands)} bands"
            )
        for name, allowed in (
            ("how", (HELD_OUT, LEAVE_ONE_OUT, GIVEN)),
            ("per", (EPISODE, FRAME)),
            ("guarantee", GUARANTEES),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigurationError(
                    f"calibration: {name} must be one of {', '.join(allowed)}, "
                    f"got '{getattr(self, name)}'"
                )

    @classmethod
    def given(cls, gamma: float) -> Calibration:
        """Return the ALT paper's rule: similarity to the nearest frame below gamma is strange.

        The level is 1 - cosine, the threshold 1 - gamma.

        Raises:
            ConfigurationError: Gamma is no cosine similarity.
        """
        if not -1.0 <= gamma <= 1.0:
            raise ConfigurationError(
                f"calibration: gamma is a cosine similarity, -1 to 1, got {gamma}"
            )
        return cls(1.0 - gamma, {"cosine": Band((0.0,), (1.0,), 0.0)})

    def quantile(self, level: float) -> float:
        """Return the share of the levels at or below one, 0 to 1; NaN where there are none."""
        if not self.levels:
            return math.nan
        return float(np.searchsorted(self.levels, level, side="right")) / len(self.levels)

    def explained(self) -> str:
        """Return in words what the rate is worth."""
        if self.rate is None:
            return "the threshold was given: nothing is known of the rate of false alarms"
        unit = "episode" if self.per == EPISODE else "observation"
        wanted = f"at most {self.rate:.2%} of ordinary {unit}s above the threshold"
        if self.guarantee == SPLIT:
            assert self.realised is not None
            low, high = self.realised
            words = (
                f"{wanted}, in the mean over calibrations with {self.episodes} episodes like "
                f"those to come; what one calibration realises lies between {low:.2%} and "
                f"{high:.2%} in 95 % of them"
            )
        elif self.guarantee == APPROXIMATE:
            words = (
                f"about {wanted.removeprefix('at most ')}, by leaving out each of "
                f"{self.episodes} demonstrations in turn; not guaranteed: the encoder was "
                "trained on them, and even with fresh ones (jackknife+) the worst case is "
                f"{2.0 * self.rate:.2%}; where no two demonstrations are alike the threshold is "
                "so high that strange scenes pass: record held-out episodes"
            )
        elif self.guarantee == INDEPENDENT:
            words = (
                f"{wanted}, if observations of one episode were independent; they are not: "
                f"what they are worth lies between {self.episodes} and {self.frames} samples"
            )
        else:
            words = (
                f"{wanted}, if levels of episodes are normal; {self.episodes} episodes cannot "
                f"show it, {needed_episodes(self.rate) + MIN_BAND_EPISODES} held-out ones could"
            )
        return f"guarantee: {self.guarantee}. {words[0].upper()}{words[1:]}."

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "bands": {name: band.to_json() for name, band in self.bands.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """Return the calibration that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is unknown, missing or out of bounds.
        """
        try:
            bands = {name: Band.from_json(band) for name, band in values["bands"].items()}
            known: dict[str, Any] = {**values, "bands": bands}
            return cls(**known)
        except (AttributeError, KeyError, TypeError) as error:
            raise ConfigurationError(f"calibration: fields do not fit: {error}") from error

    def save(self, path: Path) -> None:
        """Write a JSON file; it appears only when it is complete."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a calibration.

        Raises:
            BundleError: The file is missing or damaged.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, ConfigurationError) as error:
            raise BundleError(f"calibration '{path}' cannot be read: {error}") from error


def calibrate(
    episodes: Sequence[EpisodeScores],
    names: Sequence[str],
    *,
    monitor: MonitorConfig | None = None,
    how: str = HELD_OUT,
    rate: float = RATE,
    per: str = EPISODE,
    bins: int = BINS,
) -> Calibration:
    """Return bands and threshold from ordinary episodes that the table does not hold.

    Args:
        episodes: At least three; what the scores say along each.
        names: The scores, a column of the values each.
        monitor: When the flag goes up.
        how: Where the episodes come from.
        rate: Share of ordinary episodes, or frames, that may be strange, between 0 and 1.
        per: What the rate counts: "episode", as the flag sees it, or single observations, "frame".
        bins: Parts of the progress that have a centre and a scale of their own; 1 where progress
            is not known.

    Raises:
        ConfigurationError: The rate is out of bounds, too low for so few frames, there are fewer
            than three episodes, or a score says nothing about any of them.
    """
    _check(episodes, names, rate, per)
    needed = needed_episodes(rate)
    fit = partial(_fit, names=names, bins=bins)
    split = how == HELD_OUT and len(episodes) >= needed + MIN_BAND_EPISODES
    if split:
        for_bands = _evenly_picked(len(episodes), needed)
        bands = fit([episodes[n] for n in for_bands])
        rest = [episode for n, episode in enumerate(episodes) if n not in for_bands]
        levels = [_levels(bands, episode) for episode in rest]
    else:
        bands = fit(episodes)
        levels = [
            _levels(fit([*episodes[:n], *episodes[n + 1 :]]), episode)
            for n, episode in enumerate(episodes)
        ]
    enough = split or (how == LEAVE_ONE_OUT and len(levels) >= needed)
    if per == EPISODE:
        config = monitor or MonitorConfig()
        taken = np.array([config.episode_level(part) for part in levels])
        threshold = conformal_threshold(taken, rate) if enough else episode_bound(taken, rate)
    else:
        taken = np.concatenate(levels)
        threshold = frame_threshold(levels, rate) if enough else conformal_threshold(taken, rate)
    without = EXTRAPOLATED if per == EPISODE else INDEPENDENT
    return Calibration(
        threshold=threshold,
        bands=bands,
        how=how,
        per=per,
        rate=rate,
        guarantee=SPLIT if split else APPROXIMATE if enough else without,
        episodes=len(levels),
        frames=sum(len(part) for part in levels),
        band_episodes=len(episodes) - len(levels) if split else len(episodes),
        levels=_kept(taken),
        realised=realised_range(len(levels), rate) if split else None,
    )


def needed_episodes(rate: float) -> int:
    """Return the fewest levels whose largest vouches for a rate."""
    return int(np.ceil(1.0 / rate - 1e-9)) - 1


def conformal_threshold(levels: Array, rate: float) -> float:
    """Return the ceil((1 - rate)(n + 1))-th smallest of n levels.

    Raises:
        ConfigurationError: The rate is too low for so few levels.
    """
    rank = _rank(len(levels), rate)
    if rank > len(levels):
        raise ConfigurationError(
            f"calibration: a false-alarm rate of {rate:g} needs at least {needed_episodes(rate)} "
            f"levels of ordinary episodes or frames, got {len(levels)}: record more, or allow a "
            "higher rate"
        )
    return float(np.sort(levels)[rank - 1])


def frame_threshold(levels: Sequence[Array], rate: float) -> float:
    """Return what a random observation of a further episode exceeds with at most this rate.

    Args:
        levels: Of each of E episodes, E at least ``needed_episodes``.
        rate: Between 0 and 1.
    """
    weights = np.concatenate([np.full(len(part), 1.0 / len(part)) for part in levels])
    values = np.concatenate(levels)
    order = np.argsort(values)
    mass = np.cumsum(weights[order]) / (len(levels) + 1)
    at = int(np.searchsorted(mass, 1.0 - rate - 1e-9))
    return float(values[order][min(at, len(values) - 1)])


def episode_bound(levels: Array, rate: float) -> float:
    """Return what the next level of normal ones exceeds with this rate.

    Args:
        levels: (n,) levels of at least three ordinary episodes.
        rate: Between 0 and 1.
    """
    count = len(levels)
    spread = float(levels.std(ddof=1)) * np.sqrt(1.0 + 1.0 / count)
    return float(levels.mean() + student_t.ppf(1.0 - rate, count - 1) * spread)


def realised_range(count: int, rate: float) -> tuple[float, float]:
    """Return the 95 % range of the rate that a threshold from ``count`` levels realises.

    Per frame it is that of the worst case, in which an episode's observations are all alike.
    """
    rank = _rank(count, rate)
    low, high = beta.ppf([0.025, 0.975], count + 1 - rank, rank)
    return float(low), float(high)


def expected_alarms(count: int, rate: float, episodes: int) -> tuple[int, int]:
    """Return the 95 % range of false alarms in further episodes, given ``count`` calibrated.

    Beta-binomial: the calibration has its own rate, see ``realised_range``, and so many of the
    further episodes are above its threshold.
    """
    rank = _rank(count, rate)
    low, high = betabinom.ppf([0.025, 0.975], episodes, count + 1 - rank, rank)
    return int(low), int(high)


def score_left_out(
    table: Table,
    views: Sequence[str],
    names: Sequence[str],
    retrieval: RetrievalConfig | None = None,
    progress: Advance = lambda done, total: None,
) -> list[EpisodeScores]:
    """Return what the scores say along each demonstration against the table without it.

    Args:
        table: The table.
        views: Names of the encoder's views.
        names: Which scores, in full.
        retrieval: How a frame is chosen.
        progress: Called after each demonstration.

    Raises:
        ConfigurationError: There are fewer than three demonstrations.
    """
    if table.demonstrations < MIN_EPISODES:
        raise ConfigurationError(
            f"calibration by leaving one out needs {MIN_EPISODES} demonstrations, the table holds "
            f"{table.demonstrations}: record more, or give the threshold"
        )
    episodes: list[EpisodeScores] = []
    for number in range(table.demonstrations):
        rest = table.without(number)
        index = ExactIndex.build(rest.embeddings)
        queries = demonstrated_queries(table, number)
        episodes += score_episodes(rest, index, views, names, [queries], retrieval)
        progress(number + 1, table.demonstrations)
    return episodes


def demonstrated_queries(table: Table, demonstration: int) -> list[Query]:
    """Return a demonstration of the table as the queries of an episode."""
    rows = table.rows(demonstration)
    return [
        Query(
            (row - rows.start) * table.period,
            table.embeddings[row],
            table.view_embeddings[row],
            table.poses[row],
        )
        for row in range(rows.start, rows.stop)
    ]


def _check(episodes: Sequence[EpisodeScores], names: Sequence[str], rate: float, per: str) -> None:
    if not 0.0 < rate < 1.0 or per not in (EPISODE, FRAME):
        raise ConfigurationError(
            "calibration: the rate must be between 0 and 1, per episode or frame, "
            f"got {rate} per {per}"
        )
    if len(episodes) < MIN_EPISODES:
        raise ConfigurationError(
            f"calibration needs at least {MIN_EPISODES} ordinary episodes, got {len(episodes)}: "
            "record more, leave out each demonstration in turn, or give the threshold"
        )
    for number, episode in enumerate(episodes):
        if len(episode) == 0 or episode.values.shape != (len(episode), len(names)):
            raise DataError(
                f"calibration: the scores of episode {number} must be (n >= 1, {len(names)}), "
                f"got {episode.values.shape}"
            )
        if not np.isfinite(episode.values).any():
            raise DataError(
                f"calibration: no score of {', '.join(names)} says anything about episode "
                f"{number}: choose others"
            )


def _fit(episodes: Sequence[EpisodeScores], names: Sequence[str], bins: int) -> dict[str, Band]:
    values = np.concatenate([episode.values for episode in episodes])
    progress = np.concatenate([episode.progress for episode in episodes])
    silent = [n for n, v in zip(names, values.T, strict=True) if not np.isfinite(v).any()]
    if silent:
        raise ConfigurationError(
            f"calibration: the scores {', '.join(silent)} say nothing about these episodes: "
            "leave them out"
        )
    return {
        name: fit_band(column, progress, kind.resolution, bins, kind.weight)
        for name, kind, column in zip(names, map(score_class, names), values.T, strict=True)
    }


def _levels(bands: Mapping[str, Band], episode: EpisodeScores) -> Array:
    return combined(strangeness(tuple(bands.values()), episode.values, episode.progress))


def _evenly_picked(count: int, needed: int) -> set[int]:
    """Return which of so many episodes the bands come from: a third, but ``needed`` are left."""
    size = max(min(count // 3, count - needed), MIN_BAND_EPISODES)
    return {int(n) for n in (np.arange(size) + 0.5) * count / size}


def _rank(count: int, rate: float) -> int:
    return int(np.ceil((1.0 - rate) * (count + 1) - 1e-9))


def _kept(levels: Array) -> tuple[float, ...]:
    ordered = np.sort(levels)
    at = np.linspace(0, len(ordered) - 1, min(len(ordered), KEPT_LEVELS)).round().astype(int)
    return tuple(ordered[at].tolist())
