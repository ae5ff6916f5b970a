"""From a trained encoder and a store to the bundle that is deployed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alt_ros.bundle import Bundle, write_bundle
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.runtime import EncoderRuntime
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.lookup.bands import BINS
from alt_ros.lookup.calibration import (
    EPISODE,
    HELD_OUT,
    LEAVE_ONE_OUT,
    RATE,
    Calibration,
    calibrate,
    score_left_out,
)
from alt_ros.lookup.correction import CorrectionConfig
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.episodes import EpisodeScores, score_episodes
from alt_ros.lookup.index import Index, build_index
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.lookup.scores import chosen_scores
from alt_ros.lookup.table import Table, make_table
from alt_ros.progress import Advance
from alt_ros.training.frames import FrameReader
from alt_ros.types import Query

BATCH = 64
PAPER_HORIZON = 30
TRAINING_REPORT = "training.json"
SAME = 1e-5
"""An episode all of whose frames are this near to frames of the table is one of the table's."""


def embed_store(
    encoder: EncoderRuntime,
    store: DemonstrationStore,
    progress: Advance = lambda done, total: None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return embeddings (T, D) and view embeddings (T, V, F) of every frame, not augmented.

    Args:
        encoder: The encoder as it is deployed.
        store: The demonstrations.
        progress: Called after each batch with (frames done, frames in all).

    Raises:
        DataError: The store lacks a view.
    """
    frames = FrameReader(store, encoder.spec)
    values: list[NDArray[np.float32]] = []
    view_values: list[NDArray[np.float32]] = []
    for start in range(0, store.frames, BATCH):
        rows = np.arange(start, min(start + BATCH, store.frames))
        batch_values, batch_view_values = encoder.forward(frames.clean(rows))
        values.append(batch_values)
        view_values.append(batch_view_values)
        progress(int(rows[-1]) + 1, store.frames)
    return np.concatenate(values), np.concatenate(view_values)


def embed_episodes(
    encoder: EncoderRuntime,
    demonstrations: Sequence[Demonstration],
    progress: Advance = lambda done, total: None,
) -> list[list[Query]]:
    """Return the queries of demonstrations, as a policy would have put them.

    Args:
        encoder: The encoder as it is deployed.
        demonstrations: Successful ones, of any format.
        progress: Called after each with (demonstrations done, demonstrations in all).

    Raises:
        DataError: A demonstration lacks a view, or failed.
    """
    episodes: list[list[Query]] = []
    for number, demonstration in enumerate(demonstrations):
        if demonstration.success is False:
            raise DataError(
                f"calibration must be with successful episodes, '{demonstration.name}' failed: "
                "leave it out"
            )
        episodes.append(_embed_episode(encoder, demonstration))
        progress(number + 1, len(demonstrations))
    return episodes


def _embed_episode(encoder: EncoderRuntime, demonstration: Demonstration) -> list[Query]:
    queries: list[Query] = []
    for start in range(0, len(demonstration), BATCH):
        frames = range(start, min(start + BATCH, len(demonstration)))
        observations = [demonstration.observation(frame) for frame in frames]
        inputs = [encoder.preprocess(observation) for observation in observations]
        values, view_values = encoder.forward(
            (
                torch.cat([images for images, _ in inputs]),
                torch.cat([poses for _, poses in inputs]),
            )
        )
        queries += [
            Query(seen.stamp, value, encoder.seen(seen, view_value), seen.poses)
            for seen, value, view_value in zip(observations, values, view_values, strict=True)
        ]
    return queries


def calibrate_table(
    table: Table,
    index: Index,
    views: Sequence[str],
    episodes: Sequence[Sequence[Query]] | None = None,
    *,
    scores: Sequence[str] = (),
    rate: float = RATE,
    per: str = EPISODE,
    bins: int = BINS,
    retrieval: RetrievalConfig | None = None,
    monitor: MonitorConfig | None = None,
    corrects: bool = False,
    progress: Advance = lambda done, total: None,
) -> tuple[Calibration, list[EpisodeScores]]:
    """Return the calibration of a table, and what the scores say along each ordinary episode.

    Args:
        table: The demonstration frames.
        index: Searches the table's embeddings.
        views: Names of the encoder's views.
        episodes: Queries of ordinary episodes that the table does not hold; None leaves out each
            demonstration of the table in turn.
        scores: Which make the level, see ``chosen_scores``.
        rate: See ``calibrate``.
        per: See ``calibrate``.
        bins: See ``calibrate``.
        retrieval: How a frame is chosen.
        monitor: When the flag goes up.
        corrects: Whether recalled motions are corrected, see ``shipped_scores``.
        progress: Called after each demonstration that was left out.

    Raises:
        ConfigurationError: See ``calibrate``; an unknown score; or the table holds an episode.
        DataError: An embedding is not of the table's size.
    """
    names = chosen_scores(table, views, scores, corrects)
    if episodes is None:
        scored = score_left_out(table, views, names, retrieval, progress)
    else:
        _check_held_out(index, episodes)
        scored = score_episodes(table, index, views, names, episodes, retrieval)
    calibration = calibrate(
        scored,
        names,
        monitor=monitor,
        how=LEAVE_ONE_OUT if episodes is None else HELD_OUT,
        rate=rate,
        per=per,
        bins=bins,
    )
    return calibration, scored


def _check_held_out(index: Index, episodes: Sequence[Sequence[Query]]) -> None:
    for number, queries in enumerate(episodes):
        if all(index.query(query.embedding, 1)[0][0] > 1.0 - SAME for query in queries):
            raise ConfigurationError(
                "calibration must be with episodes that the table does not hold, it holds episode "
                f"{number}: name others, or none to leave out each demonstration in turn"
            )


def build_table(
    encoder: EncoderRuntime,
    store: DemonstrationStore,
    progress: Advance = lambda done, total: None,
) -> Table:
    """Return the table of a store; see ``embed_store``."""
    embeddings, view_embeddings = embed_store(encoder, store, progress)
    return make_table(
        embeddings=embeddings,
        view_embeddings=view_embeddings,
        actions=store.actions,
        poses=store.poses,
        grippers=store.grippers,
        episode_ends=store.episode_ends,
        names=tuple(store.names),
        period=store.period,
        layout=store.layout,
    )


def build_bundle(
    store: DemonstrationStore,
    encoder: Path,
    spec: EncoderSpec,
    output: Path,
    *,
    calibration_store: DemonstrationStore | None = None,
    calibration: Calibration | None = None,
    rate: float = RATE,
    per: str = EPISODE,
    index: str = "hnsw",
    horizon: int = PAPER_HORIZON,
    retrieval: RetrievalConfig | None = None,
    monitor: MonitorConfig | None = None,
    provenance: Mapping[str, Any] | None = None,
    correction: CorrectionConfig | None = None,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> Bundle:
    """Embed the demonstrations, build table and index, calibrate the monitor, write the bundle.

    Args:
        store: The demonstrations that the table will hold.
        encoder: TorchScript file of the encoder.
        spec: What it takes and gives.
        output: The bundle's folder.
        calibration_store: Demonstrations that neither table nor training has seen; without them
            the threshold is calibrated by leaving one demonstration out.
        calibration: A calibration that is given instead.
        rate: Share of ordinary episodes, or frames, that may be strange.
        per: What the rate counts, "episode" or "frame".
        index: Kind of index, see ``lookup.index.INDEX_KINDS``.
        horizon: Prediction horizon Tp, actions.
        retrieval: How a frame is chosen.
        monitor: When the flag goes up and down.
        provenance: What the manifest should say of the training; JSON values.
        correction: How recalled motions are corrected; None recalls them as they were.
        device: See ``EncoderRuntime``.
        progress: Called with (frames embedded, frames in all).

    Returns:
        The bundle, loaded from the disk and verified, with its encoder.

    Raises:
        DataError: A store lacks a view.
        ConfigurationError: There are too few episodes to calibrate with, see ``calibrate``.
        BundleError: The encoder does not fit the spec.
    """
    runtime = EncoderRuntime(encoder, spec, device)
    frames = store.frames + (calibration_store.frames if calibration_store is not None else 0)

    table = build_table(runtime, store, lambda done, _: progress(done, frames))
    built, index_report = build_index(index, table.embeddings)
    if calibration is None:
        episodes = None
        if calibration_store is not None:
            ends = store.frames + calibration_store.episode_ends
            episodes = embed_episodes(
                runtime, calibration_store, lambda done, _: progress(int(ends[done - 1]), frames)
            )
        calibration, _ = calibrate_table(
            table,
            built,
            spec.views,
            episodes,
            rate=rate,
            per=per,
            retrieval=retrieval,
            monitor=monitor,
            corrects=correction is not None,
        )
    write_bundle(
        output,
        spec=spec,
        encoder=encoder,
        table=table,
        index=built,
        index_report=index_report,
        calibration=calibration,
        retrieval=retrieval or RetrievalConfig(),
        monitor=monitor or MonitorConfig(),
        horizon=horizon,
        provenance={"store": store.path.name, **(provenance or {})},
        correction=correction,
    )
    return replace(Bundle.load(output, encoder=False), encoder=runtime)


def read_training(training: Path) -> tuple[dict[str, Any], EncoderSpec]:
    """Return what ``alt train`` reported in a folder, and the spec of its encoder.

    Raises:
        DataError: The report is missing or damaged.
    """
    report = training / TRAINING_REPORT
    try:
        result: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return result, EncoderSpec.from_json(result["spec"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"training folder '{training}' must hold {TRAINING_REPORT} as 'alt train' writes it "
            f"({error}): train first"
        ) from error


def bundle_from_training(
    store: Path,
    training: Path,
    output: Path,
    *,
    kind: str = "hnsw",
    horizon: int = PAPER_HORIZON,
    calibration_store: Path | None = None,
    rate: float = RATE,
    per: str = EPISODE,
    threshold: float | None = None,
    correction: CorrectionConfig | None = None,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> Bundle:
    """Build a bundle from folders: a store and what ``alt train`` wrote.

    Args:
        store: Folder of the store whose demonstrations the table will hold.
        training: Folder with ``encoder.pt`` and ``training.json``.
        output: The bundle's folder.
        kind: Kind of index.
        horizon: Prediction horizon Tp, actions.
        calibration_store: Folder of a store that was held out.
        rate: See ``build_bundle``.
        per: See ``build_bundle``.
        threshold: Gamma, given instead of calibrated.
        correction: See ``build_bundle``.
        device: See ``EncoderRuntime``.
        progress: Called with (frames embedded, frames in all).

    Raises:
        DataError: A folder is not what it should be.
    """
    result, spec = read_training(training)
    held_out = None if calibration_store is None else DemonstrationStore.open(calibration_store)
    return build_bundle(
        DemonstrationStore.open(store),
        training / str(result["encoder"]),
        spec,
        output,
        calibration_store=held_out,
        calibration=None if threshold is None else Calibration.given(threshold),
        rate=rate,
        per=per,
        index=kind,
        horizon=horizon,
        provenance=result,
        correction=correction,
        device=device,
        progress=progress,
    )
