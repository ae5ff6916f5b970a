"""The policies that a study of the cup compares: trained once, kept, and loaded where needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from alt_ros.bundle import Bundle
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.runtime import compute_device
from alt_ros.policies.alt import AltPolicy
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.policy import Policy
from alt_ros.policies.registry import ALT, InferenceConfig, trained_policy
from alt_ros.progress import Advance
from alt_ros.studies.parallel import Part
from alt_ros.studies.trained import alt_bundle, trained_checkpoint
from alt_ros.training.policy import PolicyTrainingConfig, native_precision


def training(steps: int, batch_size: int = 64) -> PolicyTrainingConfig:
    """Return how the studies train a policy."""
    return PolicyTrainingConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=5e-4,
        warm_up=min(200, steps // 10),
        checkpoint_every=100,
    )


@dataclass(frozen=True)
class CupPolicies:
    """What is trained on the demonstrations of a study.

    Attributes:
        folder: Holds ``store``, the demonstrations; each training is kept beside it.
        alt_steps: Of ALT's training.
        training: Policy to its training, in the order of the tables.
        seed: Of all trainings.
        device: See ``compute_device``.
    """

    folder: Path
    alt_steps: int
    training: Mapping[str, PolicyTrainingConfig]
    seed: int
    device: str

    @property
    def store(self) -> DemonstrationStore:
        """The demonstrations, recorded already."""
        return DemonstrationStore.open(self.folder / "store")

    @property
    def workers(self) -> int | None:
        """Processes for ``side_by_side``: those of a study share one GPU in turn."""
        return 1 if compute_device(self.device).type == "cuda" else None

    @property
    def names(self) -> tuple[str, ...]:
        """The policies, ALT first."""
        return (ALT, *self.training)

    def bundle(self, progress: Advance = lambda done, total: None) -> Bundle:
        """Return ALT's bundle; trained unless the folder holds it."""
        return alt_bundle(
            self.folder / ALT,
            self.store,
            seed=self.seed,
            steps=self.alt_steps,
            device=self.device,
            progress=progress,
        )

    def checkpoint(
        self, name: str, progress: Advance = lambda done, total: None
    ) -> PolicyCheckpoint:
        """Return a policy's checkpoint; trained unless the folder holds it."""
        precision = native_precision(compute_device(self.device))
        config = replace(self.training[name], seed=self.seed, precision=precision)
        return trained_checkpoint(
            self.folder / name, self.store, name, config, device=self.device, progress=progress
        )

    def trainings(self) -> list[Part[None]]:
        """Return the trainings, for ``side_by_side``."""
        steps = {name: c.steps * c.batch_size // 100 for name, c in self.training.items()}
        steps[ALT] = 2 * self.alt_steps
        return [Part(partial(_train, self, name), 1 + steps[name]) for name in self.names]

    def maker(
        self,
        name: str,
        inference: InferenceConfig | None = None,
        retrieval: Mapping[str, Any] | None = None,
    ) -> tuple[str, Callable[[], Policy]]:
        """Return which policy it is, for ``rolled_out``, and what loads it.

        Args:
            name: ALT, which nothing watches, or a trained one.
            inference: How a trained one answers.
            retrieval: What differs from the bundle's ``RetrievalConfig``.
        """
        if name == ALT:
            bundle = self.bundle()
            bundle = replace(bundle, retrieval=replace(bundle.retrieval, **(retrieval or {})))
            identity = f"{bundle.encoder_id} {bundle.retrieval.to_json()} {bundle.correction}"
            return identity, partial(AltPolicy.unwatched, bundle)
        checkpoint = self.checkpoint(name)
        inference = replace(inference or InferenceConfig(), device=self.device)
        return f"{checkpoint.digest} {inference}", partial(trained_policy, checkpoint, inference)


def _train(policies: CupPolicies, name: str, *, progress: Advance) -> None:
    if name == ALT:
        policies.bundle(progress)
    else:
        policies.checkpoint(name, progress)


def staged(lengths: list[int], progress: Advance) -> Callable[[int], Advance]:
    """Return one bar's part for each stage of a study.

    Args:
        lengths: About how long each stage takes.
        progress: The bar.
    """

    def stage(number: int) -> Advance:
        before = sum(lengths[:number])
        return lambda done, of: progress(
            before + lengths[number] * done // max(of, 1), sum(lengths)
        )

    return stage
