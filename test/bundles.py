"""A small bundle with a real encoder, for tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from alt_ros.bundle import write_bundle
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.runtime import EncoderRuntime
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.encoders.torchscript import export_encoder
from alt_ros.lookup.bands import Band
from alt_ros.lookup.calibration import EXTRAPOLATED, HELD_OUT, Calibration
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.index import build_index
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.types import Observation

sys.path.insert(0, str(Path(__file__).parent / "lookup"))
from tables import table

SPEC = EncoderSpec(("wrist", "third_person"), 32, 32, embedding_size=16, view_size=8)
LENGTHS = (6, 4, 5)
CALIBRATION = Calibration(
    threshold=4.0,
    bands={
        "cosine": Band((-6.0, -5.0), (0.5, 0.6), 1e-3),
        "view:wrist": Band((-5.0,), (0.8,), 1e-3),
        "view:third_person": Band((-5.0,), (0.8,), 1e-3),
    },
    how=HELD_OUT,
    rate=0.05,
    guarantee=EXTRAPOLATED,
    episodes=6,
    frames=400,
    band_episodes=6,
    levels=(0.5, 1.0, 1.5, 2.0, 2.5, 3.0),
)


def observation(row: int, stamp: int | None = None) -> Observation:
    """Return the observation that a row of the small bundle's table was made from."""
    rng = np.random.default_rng(row)
    images = {view: rng.integers(0, 256, (40, 48, 3), dtype=np.uint8) for view in SPEC.views}
    pose = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    stamp = 50_000_000 * row if stamp is None else stamp
    return Observation(stamp, images, pose, np.array([0.08]))


def write_small_bundle(path: Path, **changes: object) -> Path:
    """Write a bundle of 15 frames; ``changes`` replace what ``write_bundle`` is given."""
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder = path.parent / f"{path.name}.encoder.pt"
    export_encoder(MultiViewEncoder(SPEC), encoder)
    runtime = EncoderRuntime(encoder, SPEC, "cpu")
    seen = [runtime.embed(observation(row)) for row in range(sum(LENGTHS))]
    held = table(LENGTHS, embeddings=np.stack([e.values for e in seen]))
    object.__setattr__(held, "view_embeddings", np.stack([e.view_values for e in seen]))
    index, report = build_index("hnsw", held.embeddings)
    arguments: dict = {
        "spec": SPEC,
        "encoder": encoder,
        "table": held,
        "index": index,
        "index_report": report,
        "calibration": CALIBRATION,
        "retrieval": RetrievalConfig(neighbours=4),
        "monitor": MonitorConfig(raise_count=3, raise_window=3, clear_after=4),
        "horizon": 4,
        "provenance": {"store": "cups", "seed": 0},
        **changes,
    }
    return write_bundle(path, **arguments)
