"""One encoder of the ablation: trained, put into a bundle, rolled out and measured."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.benchmarks.evaluation import roll_out
from alt_ros.benchmarks.ood_traces import roll_out_code
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.identity import encoder_id
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.lookup.calibration import Calibration
from alt_ros.policies.alt import AltPolicy
from alt_ros.progress import Advance
from alt_ros.report import write_json
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.rollout import wilson_interval
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.studies.report import Interval
from alt_ros.studies.trained import IMAGE_SIZE
from alt_ros.training.alt_bundle import PAPER_HORIZON, build_bundle
from alt_ros.training.configuration import TrainingConfig
from alt_ros.training.contrastive import train_encoder
from alt_ros.training.leave_one_out import leave_one_out

SCENARIO = "ind"
ACTION_HORIZON = 8
NO_FLAG = Calibration.given(-1.0)
RESULT = "result.json"


@dataclass(frozen=True)
class Family:
    """One architecture of the ablation.

    Attributes:
        title: As in the tables.
        small: Backbone that is trained from scratch.
        published: Backbone whose weights may be given.
        paper: Embedding size to the paper's recall in distribution, %.
    """

    title: str
    small: str
    published: str
    paper: Mapping[int, str]


FAMILIES = (
    Family("ResNet-18", "resnet18", "resnet18", {64: "100"}),
    Family("ViT", "vit_tiny", "vit_b_16", dict.fromkeys((64, 128, 256), "12.9 to 16.1")),
    Family("CLIP", "clip_tiny", "clip_vit_b_32", {128: "100"}),
)
PUBLISHED = tuple(family.published for family in FAMILIES)


@dataclass(frozen=True)
class Training:
    """One encoder that is trained and tried.

    Attributes:
        spec: What it takes and gives.
        config: How it is trained; its seed is that of the placements too.
        weights: What its trunk starts from; None is from scratch.
        trials: Episodes.
    """

    spec: EncoderSpec
    config: TrainingConfig
    weights: Path | None
    trials: int

    def folder(self, root: Path, store: DemonstrationStore) -> Path:
        """Return where it is kept; the name holds all that it depends on."""
        key = (
            self.spec.to_json(),
            self.config.to_json(),
            None if self.weights is None else encoder_id(self.weights),
            self.trials,
            list(store.names),
            roll_out_code(),
        )
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
        spec = self.spec
        return root / f"{spec.backbone}_{spec.embedding_size}_{self.config.seed}_{digest}"


@dataclass(frozen=True)
class Measured:
    """What one training is worth.

    Attributes:
        recalled: Episodes in which most commands came from the right demonstration.
        succeeded: Episodes in which the cup was lifted.
        trials: Episodes.
        distance: Leave-one-out action distance, median, low and high, metres.
        chance: That of chunks drawn at random.
        loss: Mean loss over the last tenth of the training.
        train_seconds: Time that the training took; of its last part, where it was broken off.
    """

    recalled: int
    succeeded: int
    trials: int
    distance: tuple[float, float, float]
    chance: float
    loss: float
    train_seconds: float


def measure(
    training: Training, store_path: Path, root: Path, device: str, *, progress: Advance
) -> Measured:
    """Train an encoder, build its bundle and try it; taken up where it was broken off.

    Args:
        training: Which.
        store_path: Folder of the demonstrations.
        root: Folder of all trainings.
        device: See ``compute_device``.
        progress: Called with (steps and episodes done, in all).
    """
    store = DemonstrationStore.open(store_path)
    folder = training.folder(root, store)
    kept = _kept(folder / RESULT)
    if kept is not None:
        return kept
    steps, of = training.config.steps, training.config.steps + training.trials
    trained = train_encoder(
        store,
        training.spec,
        training.config,
        folder / "training",
        progress=lambda done, _: progress(done, of),
        weights=training.weights,
        device=device,
        tensorboard=False,
    )
    assert trained is not None
    bundle = build_bundle(
        store,
        trained.encoder,
        training.spec,
        folder / "bundle",
        calibration=NO_FLAG,
        provenance=trained.to_json(),
        device=device,
    )
    with CupGraspSimulation(IMAGE_SIZE) as simulation:
        episodes = roll_out(
            simulation,
            AltPolicy(bundle),
            SCENARIO,
            trials_of(len(store), training.trials),
            seed=training.config.seed,
            action_horizon=ACTION_HORIZON,
            watched=False,
            progress=lambda done, _: progress(steps + done, of),
        )
    held_out = leave_one_out(bundle.table, PAPER_HORIZON, stride=2, seed=training.config.seed)
    recalled = held_out.recalled
    measured = Measured(
        recalled=sum(episode.recalled == episode.expected for episode in episodes),
        succeeded=sum(episode.success for episode in episodes),
        trials=len(episodes),
        distance=(recalled.value, recalled.low, recalled.high),
        chance=held_out.random.value,
        loss=trained.loss_last,
        train_seconds=trained.seconds,
    )
    write_json(folder / RESULT, asdict(measured))
    shutil.rmtree(folder / "training")  # the optimiser's state is large, the encoder in the bundle
    return measured


def trials_of(demonstrations: int, count: int) -> list[int]:
    """Return numbers of trials that put the cup back where the first demonstrations had it."""
    every = len(TRAINING_PLACEMENTS)
    return [n // demonstrations * every + n % demonstrations for n in range(count)]


def _kept(file: Path) -> Measured | None:
    """Return what a file holds; None where it is missing or damaged."""
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        value, low, high = values.pop("distance")
        return Measured(distance=(value, low, high), **values)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Cell:
    """A backbone with an embedding size: all its seeds.

    Attributes:
        family: Its architecture.
        trainings: One a seed.
        measured: The same.
        milliseconds: Time of an answer.
        parameters: Of the encoder.
        memory: Bytes of the encoder's weights in single precision, the table and its index.
    """

    family: Family
    trainings: Sequence[Training]
    measured: Sequence[Measured]
    milliseconds: float
    parameters: int
    memory: int

    @property
    def spec(self) -> EncoderSpec:
        """What the encoder takes and gives."""
        return self.trainings[0].spec

    @property
    def start(self) -> str:
        """What its weights were before the training."""
        return "scratch" if self.trainings[0].weights is None else "pretrained"

    @property
    def trials(self) -> int:
        """Episodes of all seeds."""
        return sum(m.trials for m in self.measured)

    @property
    def recall(self) -> Interval:
        """Share of all episodes, %, with its Wilson interval."""
        return percent(sum(m.recalled for m in self.measured), self.trials)

    @property
    def success(self) -> Interval:
        """As ``recall``, of the episodes in which the cup was lifted."""
        return percent(sum(m.succeeded for m in self.measured), self.trials)

    @property
    def distance(self) -> Interval:
        """Mean of the seeds' medians and of their bounds, mm."""
        value, low, high = np.mean([m.distance for m in self.measured], axis=0) * 1e3
        return Interval(
            float(value), min(float(low), float(value)), max(float(high), float(value))
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures for other programs."""
        return {
            "family": self.family.title,
            "backbone": self.spec.backbone,
            "start": self.start,
            "embedding_size": self.spec.embedding_size,
            "image_size": [self.spec.height, self.spec.width],
            "recall": self.recall.to_json(),
            "success": self.success.to_json(),
            "trials": self.trials,
            "action_distance_mm": self.distance.to_json(),
            "random_distance_mm": 1e3 * float(np.mean([m.chance for m in self.measured])),
            "inference_ms": self.milliseconds,
            "parameters": self.parameters,
            "memory_bytes": self.memory,
            "loss": float(np.mean([m.loss for m in self.measured])),
            "seeds": [asdict(m) for m in self.measured],
        }


def percent(count: int, trials: int) -> Interval:
    """Return a share in % with its 95 % Wilson interval."""
    low, high = wilson_interval(count, trials)
    share = count / trials
    return Interval(100.0 * share, 100.0 * min(low, share), 100.0 * max(high, share))
