"""How an encoder is trained, and what came of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alt_ros.encoders.augmentation import AugmentationConfig
from alt_ros.encoders.contrastive import PAPER_TEMPERATURE
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import ConfigurationError


@dataclass(frozen=True)
class TrainingConfig:
    """How an encoder is trained; the defaults are the paper's where it states one.

    Attributes:
        steps: Optimiser steps; the paper's 40 epochs of 5,775 frames in batches of 32 are 7,219.
        batch_size: Frames of a batch, B; each is embedded twice.
        learning_rate: Adam's largest rate.
        schedule: "constant" as in the paper, or "one_cycle": a linear rise over the first fifth,
            then half a cosine to nothing; for short runs.
        temperature: Of NT-Xent.
        temporal_exclusion: Frames of one demonstration no farther apart are not negatives.
        phases: Common phases of a batch, see ``BatchSampler``; 0 draws frames uniformly.
        start_share: Probability that a phase is the demonstrations' start.
        validation: Demonstrations, by number, that are held out and measured at the end.
        checkpoint_every: Steps from one checkpoint to the next.
        statistics_batches: Batches of clean frames from which the batch norms' statistics are
            taken at the end (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3);
            0 keeps the running averages, which see augmented frames at many rates of learning.
        seed: Of weights, batches and augmentation.
        augmentation: What changes from one copy of a frame to the other.
        contrastive_weight: Of NT-Xent in the loss; 0 leaves it out.
        task_weight: Of the task head's error in the loss, see ``training.task``; 0 has no head.
        task_ahead: Which frames ahead the task head predicts the motion to.
        positive_reach: The second copy is of a frame up to this many away in time from the first
            one's (time-contrastive, Sermanet et al. 2018); 0 takes the same frame, as the paper.
    """

    steps: int = 7200
    batch_size: int = 32
    learning_rate: float = 1e-4
    schedule: str = "constant"
    temperature: float = PAPER_TEMPERATURE
    temporal_exclusion: int = 5
    phases: int = 2
    start_share: float = 0.25
    validation: tuple[int, ...] = ()
    checkpoint_every: int = 200
    statistics_batches: int = 8
    seed: int = 0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    contrastive_weight: float = 1.0
    task_weight: float = 0.0
    task_ahead: tuple[int, ...] = (4, 10, 20, 30)
    positive_reach: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "validation", tuple(self.validation))
        object.__setattr__(self, "task_ahead", tuple(self.task_ahead))
        if self.steps < 1 or self.checkpoint_every < 1 or self.statistics_batches < 0:
            raise ConfigurationError(
                "training: steps and checkpoint_every must be at least 1 and statistics_batches "
                f"not negative, got {self.steps}, {self.checkpoint_every}, "
                f"{self.statistics_batches}"
            )
        if not self.learning_rate > 0.0 or self.schedule not in ("constant", "one_cycle"):
            raise ConfigurationError(
                "training: learning_rate must be positive and schedule constant or one_cycle, "
                f"got {self.learning_rate} and '{self.schedule}'"
            )
        if self.seed < 0 or self.temperature <= 0.0 or self.temporal_exclusion < 0:
            raise ConfigurationError(
                "training: temperature must be positive, seed and temporal_exclusion not "
                f"negative, got {self.temperature}, {self.seed}, {self.temporal_exclusion}"
            )

        weights = self.contrastive_weight, self.task_weight
        if min(weights) < 0.0 or not sum(weights) > 0.0 or self.positive_reach < 0:
            raise ConfigurationError(
                "training: contrastive_weight and task_weight must not be negative, one of them "
                f"positive, and positive_reach not negative, got {weights[0]}, {weights[1]} and "
                f"{self.positive_reach}"
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        rise = max(1, self.steps // 5)
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        done = (step - rise) / max(1, self.steps - rise)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        lists = {"validation": list(self.validation), "task_ahead": list(self.task_ahead)}
        return {**asdict(self), **lists}


def cup_training(
    views: tuple[str, ...], seed: int, steps: int = 80
) -> tuple[EncoderSpec, TrainingConfig]:
    """Return the encoder and the training that fit the cup scene and a minute of two cores.

    Small images, few steps of two frames per demonstration and a one-cycle learning rate in place
    of the paper's 240x320, 7,200 steps and constant rate; architecture and loss are the paper's.
    Crops are milder and the temperature is lower: where the cup stands must be told apart.
    """
    spec = EncoderSpec(views=views, height=48, width=48)
    config = TrainingConfig(
        steps=steps,
        batch_size=62,
        learning_rate=1e-3,
        schedule="one_cycle",
        temperature=0.1,
        augmentation=AugmentationConfig(crop_scale=0.95),
        checkpoint_every=10,
        seed=seed,
    )
    return spec, config


@dataclass(frozen=True)
class TrainingResult:
    """What a training run gave.

    Attributes:
        encoder: TorchScript file.
        encoder_id: Which encoder it is.
        spec: What it takes and gives.
        config: How it was trained.
        loss_first, loss_last: Mean loss over the first and the last tenth of the steps.
        seconds: Time that the steps of this process took.
        resumed_at: Step that this process started from; 0 for a whole run.
        validation: See ``validate_encoder``; NaN where nothing was held out.
    """

    encoder: Path
    encoder_id: str
    spec: EncoderSpec
    config: TrainingConfig
    loss_first: float
    loss_last: float
    seconds: float
    resumed_at: int
    validation: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            **asdict(self),
            "encoder": self.encoder.name,
            "spec": self.spec.to_json(),
            "config": self.config.to_json(),
            "validation": None if math.isnan(self.validation) else self.validation,
        }
