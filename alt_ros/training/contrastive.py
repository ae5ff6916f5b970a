"""Training of the encoder: two augmented copies of a frame belong together, other frames apart.

He et al. 2026 (arXiv 2505.05787), with the faults of the released code mended: neighbours in time
are no negatives (``encoders.contrastive``), the table is embedded without augmentation
(``training.alt_bundle``). A run that was killed goes on at its last checkpoint and ends with the
same weights as an unbroken one: everything random depends on the seed and the step alone. Beside
the contrastive loss, or in its place, a task head may teach what to do next (``training.task``).
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.augmentation import Augmentation
from alt_ros.encoders.contrastive import nt_xent
from alt_ros.encoders.identity import encoder_id
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.runtime import compute_device
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.encoders.torchscript import export_encoder
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.progress import Advance
from alt_ros.training.configuration import TrainingConfig, TrainingResult
from alt_ros.training.frames import FrameReader
from alt_ros.training.sampling import BatchSampler
from alt_ros.training.steps import load_state, save_state, take_steps, write_scalar
from alt_ros.training.task import TaskHead, task_targets
from alt_ros.training.validation import validate_encoder

CHECKPOINT = "checkpoint.pt"
ENCODER = "encoder.pt"
RESULT = "training.json"
STATISTICS_BATCH = 64


def train_encoder(
    store: DemonstrationStore,
    spec: EncoderSpec,
    config: TrainingConfig,
    output: Path,
    *,
    progress: Advance = lambda done, total: None,
    weights: Path | None = None,
    device: str = "auto",
    tensorboard: bool = True,
    stop_at: int | None = None,
) -> TrainingResult | None:
    """Train an encoder, or go on with a run that was broken off.

    Args:
        store: The demonstrations.
        spec: What the encoder takes and gives; its views must be in the store.
        config: How to train.
        output: Folder for the checkpoint, the encoder, its result and the TensorBoard events.
        progress: Called after each step with (steps done, steps in all).
        weights: State dictionary to start the trunk from, see ``MultiViewEncoder``.
        device: "auto", "cpu" or "cuda".
        tensorboard: Write scalars for TensorBoard.
        stop_at: Break off, with a checkpoint, after this step; None trains to the end.

    Returns:
        The result; None where the run was broken off by ``stop_at``.

    Raises:
        ConfigurationError: The output folder holds the checkpoint of another run, or a held-out
            demonstration does not exist.
        DataError: The store lacks a view, or the loss is no number.
        DependencyError: TensorBoard is asked for and not installed.
    """
    output.mkdir(parents=True, exist_ok=True)
    run = _Run(store, spec, config, weights, compute_device(device))
    taken = take_steps(
        run,
        output / CHECKPOINT,
        config.steps,
        rate=config.rate,
        checkpoint_every=config.checkpoint_every,
        progress=progress,
        tensorboard=tensorboard,
        stop_at=stop_at,
    )
    if taken is None:
        return None
    encoder = run.finished_encoder()
    identity = export_encoder(encoder, output / ENCODER)
    validation = validate_encoder(encoder, store, config.validation)
    if tensorboard and not math.isnan(validation):
        write_scalar(output, "validation/action_distance", validation, config.steps)
    tenth = max(1, config.steps // 10)
    result = TrainingResult(
        encoder=output / ENCODER,
        encoder_id=identity,
        spec=spec,
        config=config,
        loss_first=float(np.mean(run.losses[:tenth])),
        loss_last=float(np.mean(run.losses[-tenth:])),
        seconds=taken.seconds,
        resumed_at=taken.first,
        validation=validation,
    )
    (output / RESULT).write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
    return result


class _Run:
    """Network, optimiser and losses of one training, and the file that they survive in."""

    def __init__(
        self,
        store: DemonstrationStore,
        spec: EncoderSpec,
        config: TrainingConfig,
        weights: Path | None,
        device: torch.device,
    ) -> None:
        self._config = config
        self._device = device
        self._frames = FrameReader(store, spec)
        self._sampler = _sampler(store, config)
        self._augmentation = Augmentation(spec.height, spec.width, config.augmentation)
        ends = store.episode_ends
        lengths = np.diff(ends, prepend=0)
        self._demonstration = torch.from_numpy(np.repeat(np.arange(len(ends)), lengths))
        self._frame = torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]))
        self._first, self._last = ends - lengths, ends - 1
        # Everything that the weights depend on; a checkpoint of another run is refused.
        self._identity = json.dumps(
            {
                "spec": spec.to_json(),
                "config": {**config.to_json(), "checkpoint_every": 0},
                "store": [list(store.names), [int(end) for end in ends]],
                "weights": encoder_id(weights) if weights is not None else "",
            },
            sort_keys=True,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.encoder = MultiViewEncoder(spec, weights).to(device).train()
            self._targets, self._head = torch.zeros((store.frames, 0)), nn.Identity()
            if config.task_weight:
                self._targets = torch.from_numpy(task_targets(store, config.task_ahead))
                self._head = TaskHead(spec.embedding_size, self._targets.shape[1]).to(device)
        parameters = [*self.encoder.parameters(), *self._head.parameters()]
        self._optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
        self.losses: list[float] = []

    def step(self, step: int) -> float:
        """Take one optimiser step and return its loss."""
        rows = self._sampler.draw(step)
        seed = np.random.SeedSequence([self._config.seed, step, 1]).generate_state(1)
        torch.manual_seed(int(seed[0]))
        copies = [rows]
        if self._config.contrastive_weight:
            copies.append(self._positives(rows, step))
        parts = [self._frames.raw(of) for of in copies]
        embeddings, _ = self.encoder(
            torch.cat([self._augmentation.images(image) for image, _ in parts]).to(self._device),
            torch.cat([self._poses(pose) for _, pose in parts]).to(self._device),
        )
        loss = self._loss(embeddings, rows, np.concatenate(copies))
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.rate(step)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"training: the loss is {value} at step {step}: lower learning_rate, it is "
                f"{self._config.learning_rate}"
            )
        self.losses.append(value)
        return value

    def _positives(self, rows: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Return the rows whose copies belong to those of ``rows``."""
        reach = self._config.positive_reach
        if not reach:
            return rows
        offsets = np.random.default_rng([self._config.seed, step, 2]).integers(
            -reach, reach + 1, len(rows)
        )
        demonstration = self._demonstration[rows].numpy()
        return np.clip(rows + offsets, self._first[demonstration], self._last[demonstration])

    def _loss(
        self, embeddings: Tensor, rows: NDArray[np.int64], copies: NDArray[np.int64]
    ) -> Tensor:
        """Return the weighted sum for the embeddings of ``copies``, whose first are ``rows``."""
        config = self._config
        loss = embeddings.new_zeros(())
        if config.contrastive_weight:
            first, second = embeddings.chunk(2)
            loss = loss + config.contrastive_weight * nt_xent(
                first,
                second,
                self._demonstration[rows].to(self._device),
                self._frame[rows].to(self._device),
                temperature=config.temperature,
                temporal_exclusion=config.temporal_exclusion + config.positive_reach,
            )
        if config.task_weight:
            targets = self._targets[copies].to(self._device)
            error = functional.smooth_l1_loss(self._head(embeddings), targets)
            loss = loss + config.task_weight * error
        return loss

    def _poses(self, poses: Tensor) -> Tensor:
        return self._augmentation.poses(poses) if self.encoder.spec.use_pose else poses

    def save(self, path: Path, done: int) -> None:
        """Write the checkpoint; the older one stays until the new one is complete."""
        state = {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "encoder": self.encoder.state_dict(),
            "head": self._head.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        save_state(path, self._identity, done, state)

    def resume(self, path: Path) -> int:
        """Read the checkpoint, if there is one, and return the number of steps done."""
        state = load_state(path, self._identity, self._device)
        if state is None:
            return 0
        self.encoder.load_state_dict(state["encoder"])
        self._head.load_state_dict(state["head"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.losses = [float(loss) for loss in state["losses"]]
        return int(state["done"])

    def finished_encoder(self) -> MultiViewEncoder:
        """Return a copy, on the CPU, with the batch norms' statistics of clean frames."""
        encoder = copy.deepcopy(self.encoder)
        if self._config.statistics_batches:
            for module in encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()
                    module.momentum = None  # an even average over the batches
            generator = np.random.default_rng([self._config.seed, self._config.steps])
            rows = np.concatenate(
                [
                    np.arange(start, start + length)
                    for start, length in zip(
                        self._sampler.starts, self._sampler.lengths, strict=True
                    )
                ]
            )
            with torch.no_grad():
                for _ in range(self._config.statistics_batches):
                    size = min(STATISTICS_BATCH, len(rows))
                    images, poses = self._frames.clean(generator.choice(rows, size, False))
                    encoder(images.to(self._device), poses.to(self._device))
        return encoder.cpu().eval()


def _sampler(store: DemonstrationStore, config: TrainingConfig) -> BatchSampler:
    count = len(store.episode_ends)
    unknown = [i for i in config.validation if not 0 <= i < count]
    if unknown or len(set(config.validation)) >= count:
        raise ConfigurationError(
            f"training: held-out demonstrations must be among 0 to {count - 1} and leave some to "
            f"train on, got {list(config.validation)}"
        )
    kept = np.array([i for i in range(count) if i not in config.validation])
    lengths = np.diff(store.episode_ends, prepend=0)
    starts = store.episode_ends - lengths
    return BatchSampler(
        starts=starts[kept],
        lengths=lengths[kept],
        batch_size=config.batch_size,
        phases=config.phases,
        start_share=config.start_share,
        seed=config.seed,
    )
