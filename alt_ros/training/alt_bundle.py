"""From a trained encoder and a store to the bundle that is deployed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.bundle import Bundle, write_bundle
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.runtime import EncoderRuntime
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import DataError
from alt_ros.lookup.calibration import (
    Calibration,
    calibrate_held_out,
    calibrate_leave_one_out,
)
from alt_ros.lookup.index import build_index
from alt_ros.lookup.monitor import MonitorConfig
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.lookup.table import Table, make_table
from alt_ros.training.frames import FrameReader

BATCH = 64
PAPER_HORIZON = 30
TRAINING_REPORT = "training.json"
Progress = Callable[[int, int], None]


def embed_store(
    encoder: EncoderRuntime, store: DemonstrationStore, progress: Progress | None = None
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
        if progress is not None:
            progress(int(rows[-1]) + 1, store.frames)
    return np.concatenate(values), np.concatenate(view_values)


def build_table(
    encoder: EncoderRuntime, store: DemonstrationStore, progress: Progress | None = None
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
    false_alarm_rate: float | None = None,
    episode_rate: float | None = None,
    index: str = "hnsw",
    horizon: int = PAPER_HORIZON,
    retrieval: RetrievalConfig | None = None,
    monitor: MonitorConfig | None = None,
    provenance: Mapping[str, Any] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Bundle:
    """Embed the demonstrations, build table and index, calibrate the monitor, write the bundle.

    Args:
        store: The demonstrations that the table will hold.
        encoder: TorchScript file of the encoder.
        spec: What it takes and gives.
        output: The bundle's folder.
        calibration_store: Demonstrations that neither table nor training has seen; without them
            the threshold is calibrated by leaving one demonstration out.
        calibration: A threshold that is given instead.
        false_alarm_rate: Share of ordinary frames that may fall below the threshold; None takes
            the lowest that the frames can vouch for.
        episode_rate: Lower the threshold until at most this share of ordinary episodes is expected
            to fall below; needs ``calibration_store``.
        index: Kind of index, see ``lookup.index.INDEX_KINDS``.
        horizon: Prediction horizon Tp, actions.
        retrieval: How a frame is chosen.
        monitor: When the flag goes up and down; its threshold comes from the calibration.
        provenance: What the manifest should say of the training; JSON values.
        device: See ``EncoderRuntime``.
        progress: Called with (frames embedded, frames in all).

    Returns:
        The bundle, loaded from the disk and verified, with its encoder.

    Raises:
        DataError: A store lacks a view.
        ConfigurationError: The false-alarm rate is too low for so few frames.
        BundleError: The encoder does not fit the spec.
    """
    runtime = EncoderRuntime(encoder, spec, device)
    frames = store.frames + (calibration_store.frames if calibration_store is not None else 0)

    def report(offset: int) -> Progress:
        return lambda done, _: progress(offset + done, frames) if progress is not None else None

    table = build_table(runtime, store, report(0))
    built, index_report = build_index(index, table.embeddings)
    if calibration is None and calibration_store is not None:
        values, view_values = embed_store(runtime, calibration_store, report(store.frames))
        calibration = calibrate_held_out(
            table,
            values,
            view_values,
            calibration_store.episode_ends,
            false_alarm_rate,
            episode_rate,
            neighbours=(retrieval or RetrievalConfig()).neighbours,
            raise_after=(monitor or MonitorConfig()).raise_after,
        )
    elif calibration is None:
        neighbours = (retrieval or RetrievalConfig()).neighbours
        calibration = calibrate_leave_one_out(table, false_alarm_rate, neighbours=neighbours)
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
    )
    return replace(Bundle.load(output, encoder=False), encoder=runtime)


def bundle_from_training(
    store: Path,
    training: Path,
    output: Path,
    *,
    kind: str = "hnsw",
    horizon: int = PAPER_HORIZON,
    calibration_store: Path | None = None,
    false_alarm_rate: float | None = None,
    episode_rate: float | None = None,
    threshold: float | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Bundle:
    """Build a bundle from folders: a store and what ``alt train`` wrote.

    Args:
        store: Folder of the store whose demonstrations the table will hold.
        training: Folder with ``encoder.pt`` and ``training.json``.
        output: The bundle's folder.
        kind: Kind of index.
        horizon: Prediction horizon Tp, actions.
        calibration_store: Folder of a store that was held out.
        false_alarm_rate: See ``build_bundle``.
        episode_rate: See ``build_bundle``.
        threshold: Gamma, given instead of calibrated.
        device: See ``EncoderRuntime``.
        progress: Called with (frames embedded, frames in all).

    Raises:
        DataError: A folder is not what it should be.
    """
    report = training / TRAINING_REPORT
    try:
        result: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        spec = EncoderSpec.from_json(result["spec"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"training folder '{training}' must hold {TRAINING_REPORT} as 'alt train' writes it "
            f"({error}): train first"
        ) from error
    held_out = None if calibration_store is None else DemonstrationStore.open(calibration_store)
    return build_bundle(
        DemonstrationStore.open(store),
        training / str(result["encoder"]),
        spec,
        output,
        calibration_store=held_out,
        calibration=None if threshold is None else Calibration(threshold=threshold),
        false_alarm_rate=false_alarm_rate,
        episode_rate=episode_rate,
        index=kind,
        horizon=horizon,
        provenance=result,
        device=device,
        progress=progress,
    )
