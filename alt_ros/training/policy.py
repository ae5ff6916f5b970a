"""Training of the policies that are compared with the Action Lookup Table.

AdamW, a linear rise of the rate and then half a cosine, an exponential moving average of the
weights that is what gets deployed (Chi et al. 2023, section 4 and appendix A). A run that was
killed goes on at its last checkpoint and ends with the same weights as an unbroken one:
everything random depends on the seed and the step alone. Checkpoints are safetensors.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.runtime import compute_device
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.kdtree import fit_kdtree
from alt_ros.policies.network import PolicyNetwork
from alt_ros.policies.registry import TRAINED, build_network
from alt_ros.policies.spec import PolicySpec
from alt_ros.policies.vinn import VinnNetwork
from alt_ros.progress import Advance
from alt_ros.report import write_json
from alt_ros.training.steps import take_steps, write_scalar
from alt_ros.training.windows import Windows

CHECKPOINT = "checkpoint.safetensors"
POLICY = "policy"
RESULT = "training.json"
PRECISIONS = ("fp32", "bf16")
EMA_POWER = 0.75
_VALIDATION_BATCHES = 8
_EMBEDDED_AT_ONCE = 128


@dataclass(frozen=True)
class PolicyTrainingConfig:
    """How a policy is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Windows of a batch.
        learning_rate: AdamW's largest.
        warm_up: Steps of the linear rise.
        weight_decay: AdamW's.
        validation: Demonstrations, by number, that are held out and measured at the end.
        checkpoint_every: Steps from one checkpoint to the next.
        precision: "fp32", or "bf16" where the processor is quicker with it.
        seed: Of weights, batches and noise.
    """

    steps: int = 20_000
    batch_size: int = 64
    learning_rate: float = 1e-4
    warm_up: int = 500
    weight_decay: float = 1e-6
    validation: tuple[int, ...] = ()
    checkpoint_every: int = 200
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "validation", tuple(self.validation))
        if min(self.steps, self.batch_size, self.checkpoint_every) < 1 or self.warm_up < 0:
            raise ConfigurationError(
                "training: steps, batch_size and checkpoint_every must be at least 1 and warm_up "
                f"not negative, got {self.steps}, {self.batch_size}, {self.checkpoint_every} and "
                f"{self.warm_up}"
            )
        if not self.learning_rate > 0.0 or not self.weight_decay >= 0.0 or self.seed < 0:
            raise ConfigurationError(
                "training: learning_rate must be positive, weight_decay and seed not negative, "
                f"got {self.learning_rate}, {self.weight_decay} and {self.seed}"
            )
        if self.precision not in PRECISIONS:
            raise ConfigurationError(
                f"training: precision must be one of {', '.join(PRECISIONS)}, got "
                f"'{self.precision}'"
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "validation": list(self.validation)}


@dataclass(frozen=True, eq=False)
class PolicyTrainingResult:
    """What a training run gave.

    Attributes:
        checkpoint: The policy.
        folder: Where it was written.
        loss_first, loss_last: Mean loss over the first and the last tenth of the steps; NaN where
            nothing is trained.
        validation: Mean loss on what was held out; NaN where nothing was.
        seconds: Time that the steps of this process took.
        resumed_at: Step that this process started from; 0 for a whole run.
    """

    checkpoint: PolicyCheckpoint
    folder: Path
    loss_first: float
    loss_last: float
    validation: float
    seconds: float
    resumed_at: int

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        numbers = {
            "loss_first": self.loss_first,
            "loss_last": self.loss_last,
            "validation": self.validation,
        }
        return {
            "spec": self.checkpoint.spec.to_json(),
            "provenance": dict(self.checkpoint.provenance),
            "parameters": self.checkpoint.parameters,
            "seconds": self.seconds,
            "resumed_at": self.resumed_at,
            **{name: None if math.isnan(v) else v for name, v in numbers.items()},
        }


def train_policy(
    store: DemonstrationStore,
    spec: PolicySpec,
    config: PolicyTrainingConfig,
    output: Path,
    *,
    progress: Advance = lambda done, total: None,
    device: str = "auto",
    tensorboard: bool = True,
    stop_at: int | None = None,
) -> PolicyTrainingResult | None:
    """Train a policy, or go on with a run that was broken off.

    Args:
        store: The demonstrations.
        spec: What the policy takes and gives; VINN's ``frames`` is set here.
        config: How to train.
        output: Folder for the checkpoint, ``policy/``, ``training.json`` and TensorBoard's events.
        progress: Called after each step with (steps done, steps in all).
        device: "auto", "cpu" or "cuda".
        tensorboard: Write scalars for TensorBoard.
        stop_at: Break off, with a checkpoint, after this step; None trains to the end.

    Returns:
        The result; None where the run was broken off by ``stop_at``.

    Raises:
        ConfigurationError: The policy is not trained, the spec does not fit it, or the output
            folder holds the checkpoint of another run.
        DataError: The store does not fit the spec, or the loss is no number.
        DependencyError: TensorBoard is asked for and not installed.
    """
    if spec.policy not in TRAINED:
        raise ConfigurationError(
            f"policy '{spec.policy}' is not trained here: choose one of {', '.join(TRAINED)}"
        )
    windows = Windows(store, spec, config.validation, config.seed)
    if spec.policy == "vinn":
        spec = replace(spec, settings={**spec.settings, "frames": len(windows.rows)})
    provenance = {
        "store": store.path.name,
        "demonstrations": len(store),
        "frames": store.frames,
        "training": config.to_json(),
    }
    output.mkdir(parents=True, exist_ok=True)
    if spec.policy == "kdtree":
        return _fit_kdtree(spec, windows, output, provenance, progress)
    run = _Run(store, spec, config, windows, compute_device(device))
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
    validation = run.validation()
    if tensorboard and not math.isnan(validation):
        write_scalar(output, "validation/loss", validation, config.steps)
    tenth = max(1, config.steps // 10)
    return _written(
        PolicyTrainingResult(
            checkpoint=PolicyCheckpoint(spec, run.finished(), provenance),
            folder=output / POLICY,
            loss_first=float(np.mean(run.losses[:tenth])),
            loss_last=float(np.mean(run.losses[-tenth:])),
            validation=validation,
            seconds=taken.seconds,
            resumed_at=taken.first,
        ),
        output,
    )


def _written(result: PolicyTrainingResult, output: Path) -> PolicyTrainingResult:
    result.checkpoint.save(result.folder)
    write_json(output / RESULT, result.to_json())
    return result


def _fit_kdtree(
    spec: PolicySpec,
    windows: Windows,
    output: Path,
    provenance: dict[str, Any],
    progress: Advance,
) -> PolicyTrainingResult:
    started, kept = time.monotonic(), windows.rows
    _, lengths = np.unique(windows.demonstration[kept], return_counts=True)
    checkpoint = fit_kdtree(
        spec,
        lambda rows: windows.images.raw(kept[rows]).numpy(),
        windows.state[kept],
        windows.actions[kept],
        np.cumsum(lengths),
        provenance,
        progress,
    )
    nothing = float("nan")
    seconds = time.monotonic() - started
    result = PolicyTrainingResult(
        checkpoint, output / POLICY, nothing, nothing, nothing, seconds, 0
    )
    return _written(result, output)


def native_precision(device: torch.device) -> str:
    """Return "bf16" where a processor computes with it natively, else "fp32"."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch has no public question
    return "bf16" if asked is not None and asked() else "fp32"


def moving_average(averaged: Tensor, present: Tensor, count: Tensor | int) -> Tensor:
    """Return the exponential moving average; its decay nears 1 with the steps (power 0.75)."""
    decay = 1.0 - (1.0 + float(count)) ** -EMA_POWER
    return torch.lerp(averaged, present, 1.0 - decay) if averaged.is_floating_point() else present


class _Run:
    """Network, average, optimiser and losses of one training, and the file they survive in."""

    def __init__(
        self,
        store: DemonstrationStore,
        spec: PolicySpec,
        config: PolicyTrainingConfig,
        windows: Windows,
        device: torch.device,
    ) -> None:
        self._config = config
        self._device = device
        self._windows = windows
        # Everything that the weights depend on; a checkpoint of another run is refused.
        self._identity = json.dumps(
            {
                "spec": spec.to_json(),
                "config": {**config.to_json(), "checkpoint_every": 0},
                "store": [list(store.names), windows.digest],
            },
            sort_keys=True,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = build_network(spec).to(device).train()
        self.network.fit_ranges(windows.actions[windows.rows], windows.state[windows.rows])
        self._average = AveragedModel(self.network, avg_fn=moving_average, use_buffers=True)
        self._optimiser = torch.optim.AdamW(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=config.learning_rate,
            betas=(0.95, 0.999),
            weight_decay=config.weight_decay,
        )
        self.losses: list[float] = []

    def _loss(self, network: PolicyNetwork, rows: np.ndarray) -> Tensor:
        batch = self._windows.batch(rows, self._device)
        half = self._config.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            return network.loss(batch).float()

    def step(self, step: int) -> float:
        """Take one optimiser step and return its loss."""
        rows = self._windows.draw(step, self._config.batch_size)
        seed = np.random.SeedSequence([self._config.seed, step, 1]).generate_state(1)
        torch.manual_seed(int(seed[0]))
        loss = self._loss(self.network, rows)
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.rate(step)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self._average.update_parameters(self.network)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"training: the loss is {value} at step {step}: lower learning_rate, it is "
                f"{self._config.learning_rate}"
            )
        self.losses.append(value)
        return value

    def validation(self) -> float:
        """Return the averaged network's mean loss on what was held out; NaN without any."""
        rows = self._windows.left_out
        if not len(rows):
            return float("nan")
        network = self._averaged().eval()
        generator = np.random.default_rng([self._config.seed, self._config.steps, 2])
        size = min(self._config.batch_size, len(rows))
        losses: list[float] = []
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self._config.seed)
            for _ in range(_VALIDATION_BATCHES):
                losses.append(float(self._loss(network, generator.choice(rows, size, False))))
        return float(np.mean(losses))

    def _averaged(self) -> PolicyNetwork:
        network = self._average.module
        assert isinstance(network, PolicyNetwork)
        return network

    def finished(self) -> dict[str, np.ndarray]:
        """Return the averaged network's weights; a table is filled first."""
        network = self._averaged().eval()
        if isinstance(network, VinnNetwork):
            windows, kept = self._windows, self._windows.rows
            for rows in np.array_split(
                np.arange(len(kept)), max(1, len(kept) // _EMBEDDED_AT_ONCE)
            ):
                images = windows.images.raw(kept[rows]).to(self._device)
                network.fill(images, torch.from_numpy(rows))
            network.finish(
                torch.from_numpy(windows.actions[kept].astype(np.float32)),
                torch.from_numpy(windows.demonstration[kept]),
            )
        return {name: t.cpu().numpy() for name, t in network.state_dict().items()}

    def save(self, path: Path, done: int) -> None:
        """Write the checkpoint; the older one stays until the new one is complete."""
        tensors: dict[str, Tensor] = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        for name, tensor in self._average.state_dict().items():
            tensors[f"average/{name}"] = tensor
        for name, tensor in self.network.state_dict().items():
            tensors[f"network/{name}"] = tensor
        for index, values in self._optimiser.state_dict()["state"].items():
            for name, tensor in values.items():
                tensors[f"optimiser/{index}/{name}"] = tensor
        # Tensors that share memory, or lie in channels_last, are written as copies.
        whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        partial = path.with_name(path.name + ".partial")
        save_file(whole, partial, metadata={"identity": self._identity, "done": str(done)})
        partial.replace(path)

    def resume(self, path: Path) -> int:
        """Read the checkpoint, if there is one, and return the number of steps done."""
        if not path.is_file():
            return 0
        try:
            with safe_open(path, framework="pt", device=str(self._device)) as file:
                metadata = file.metadata() or {}
                if metadata.get("identity") != self._identity:
                    raise ConfigurationError(
                        f"checkpoint '{path}' is of a training with another store, policy or "
                        "setting: choose another output folder, or delete it"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            done = int(metadata["done"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(
                f"checkpoint '{path}' cannot be read: delete it to start again ({error})"
            ) from error
        parts: dict[str, dict[str, Tensor]] = {"average": {}, "network": {}, "optimiser": {}}
        self.losses = tensors.pop("losses").tolist()
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        self._average.load_state_dict(parts["average"])
        self.network.load_state_dict(parts["network"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimiser"].items():
            index, _, rest = name.partition("/")
            state.setdefault(int(index), {})[rest] = tensor
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        return done
