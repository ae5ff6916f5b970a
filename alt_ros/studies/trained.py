"""What several studies need trained: demonstrations of the cup, an ALT bundle, other policies.

Everything is kept in the study's folder and taken up again: a study that was broken off goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alt_ros.bundle import Bundle
from alt_ros.demonstrations.store import DemonstrationStore, is_store, write_store
from alt_ros.errors import BundleError
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.spec import PolicySpec
from alt_ros.progress import Advance
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.recording import record_demonstration
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.simulation.scene import CupPlacement
from alt_ros.training.alt_bundle import build_bundle
from alt_ros.training.configuration import cup_training
from alt_ros.training.contrastive import train_encoder
from alt_ros.training.policy import POLICY, PolicyTrainingConfig, train_policy
from alt_ros.training.policy_defaults import policy_spec

IMAGE_SIZE = 128, 128
ALT_STEPS = 80


def cup_store(
    folder: Path,
    placements: Sequence[CupPlacement] = TRAINING_PLACEMENTS,
    progress: Advance = lambda done, total: None,
) -> DemonstrationStore:
    """Return the expert's demonstrations, one a placement; recorded unless the folder holds them.

    Args:
        folder: Of the store.
        placements: Where the cup stands.
        progress: Called after each demonstration.
    """
    names = [f"cup_{number:02d}_{p.x:.4f}_{p.y:.4f}" for number, p in enumerate(placements)]
    if is_store(folder) and list(DemonstrationStore.open(folder).names) == names:
        return DemonstrationStore.open(folder)
    with CupGraspSimulation(IMAGE_SIZE) as simulation:
        recorded = (
            record_demonstration(simulation, placement, name)
            for name, placement in zip(names, placements, strict=True)
        )
        return write_store(folder, recorded, progress=lambda done: progress(done, len(placements)))


def alt_bundle(
    folder: Path,
    store: DemonstrationStore,
    *,
    seed: int,
    steps: int = ALT_STEPS,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> Bundle:
    """Return an ALT bundle of a store; trained and built unless the folder holds it.

    Its monitor is calibrated by leaving each demonstration out: studies roll out without it.

    Args:
        folder: Holds ``training`` and ``bundle``.
        store: The demonstrations.
        seed: Of the training.
        steps: Of the training.
        device: See ``EncoderRuntime``.
        progress: Called after each training step.
    """
    spec, config = cup_training(store.views, seed, steps)
    try:
        bundle = Bundle.load(folder / "bundle", device=device)
        made = bundle.table.names, bundle.provenance.get("config")
        if made == (tuple(store.names), config.to_json()):
            return bundle
    except BundleError:
        pass  # not built yet, or not to the end
    result = train_encoder(
        store, spec, config, folder / "training", progress=progress, device=device
    )
    assert result is not None
    return build_bundle(
        store,
        result.encoder,
        spec,
        folder / "bundle",
        provenance=result.to_json(),
        device=device,
    )


def trained_checkpoint(
    folder: Path,
    store: DemonstrationStore,
    policy: str,
    config: PolicyTrainingConfig,
    *,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> PolicyCheckpoint:
    """Return a policy of size small; trained unless the folder holds it.

    Args:
        folder: Of the training.
        store: The demonstrations.
        policy: One of ``registry.TRAINED``.
        config: How it is trained.
        device: See ``compute_device``.
        progress: Called after each training step.
    """
    crop = {"crop": 0.92} if policy in ("diffusion", "act", "bc") else {}
    spec = policy_spec(policy, store, state_columns=(), settings=crop)
    kept = _finished(folder / POLICY, spec, config, store)
    if kept is not None:
        return kept
    result = train_policy(store, spec, config, folder, device=device, progress=progress)
    assert result is not None
    return result.checkpoint


def _finished(
    folder: Path, spec: PolicySpec, config: PolicyTrainingConfig, store: DemonstrationStore
) -> PolicyCheckpoint | None:
    """Return what a training to the end left; None where there is none, or it is of another."""
    try:
        kept = PolicyCheckpoint.load(folder)
    except BundleError:
        return None
    wanted = {**spec.to_json(), "settings": kept.spec.settings}
    same = (
        kept.spec.to_json() == wanted
        and spec.settings.items() <= kept.spec.settings.items()
        and kept.provenance.get("training") == config.to_json()
        and kept.provenance.get("frames") == store.frames
    )
    return kept if same else None
