"""The policies by name, and how each is loaded."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alt_ros.bundle import MANIFEST as BUNDLE_MANIFEST
from alt_ros.bundle import POLICIES as FOLDER
from alt_ros.bundle import Bundle
from alt_ros.errors import BundleError, ConfigurationError, in_one_line
from alt_ros.policies.alt import AltPolicy
from alt_ros.policies.checkpoint import MANIFEST, PolicyCheckpoint
from alt_ros.policies.policy import Policy
from alt_ros.policies.remote import RemotePolicy
from alt_ros.policies.remote_config import FILE as REMOTE_FILE
from alt_ros.policies.remote_config import RemoteConfig
from alt_ros.policies.spec import PolicySpec
from alt_ros.types import ActionLayout

if TYPE_CHECKING:
    from alt_ros.policies.network import PolicyNetwork

ALT = "alt"
NETWORKS = ("diffusion", "act", "vinn", "bc")
TRAINED = (*NETWORKS, "kdtree")
REMOTE = "remote"
COMPARED = (*TRAINED, REMOTE)
POLICIES = (ALT, *COMPARED)


@dataclass(frozen=True)
class InferenceConfig:
    """How a policy answers; what a policy has no use for it does not look at.

    Attributes:
        device: "auto", "cpu" or "cuda".
        threads: CPU threads of the network, for the whole process; None leaves them.
        seed: Of what a policy draws.
        sampler: diffusion: "ddim" or "ddpm".
        denoising_steps: diffusion: 1 to 100.
        ensemble_decay: m of temporal ensembling, see ``TemporalEnsemble``; None for none.
    """

    device: str = "auto"
    threads: int | None = None
    seed: int = 0
    sampler: str = "ddim"
    denoising_steps: int = 10
    ensemble_decay: float | None = None

    def __post_init__(self) -> None:
        if self.seed < 0 or (self.threads is not None and self.threads < 1):
            raise ConfigurationError(
                f"policy: seed must not be negative and threads at least 1, got {self.seed} and "
                f"{self.threads}"
            )


def build_network(spec: PolicySpec, config: InferenceConfig | None = None) -> PolicyNetwork:
    """Return an untrained network; imports torch.

    Raises:
        ConfigurationError: The policy has no network, or the spec does not fit it.
    """
    config = config or InferenceConfig()
    if spec.policy == "diffusion":
        from alt_ros.policies.diffusion import DiffusionNetwork, SamplerConfig

        return DiffusionNetwork(spec, SamplerConfig(config.sampler, config.denoising_steps))
    if spec.policy == "act":
        from alt_ros.policies.act import ActNetwork

        return ActNetwork(spec)
    if spec.policy == "vinn":
        from alt_ros.policies.vinn import VinnNetwork

        return VinnNetwork(spec)
    if spec.policy == "bc":
        from alt_ros.policies.behavior_cloning import BehaviorCloningNetwork

        return BehaviorCloningNetwork(spec)
    raise ConfigurationError(
        f"policy '{spec.policy}' has no network: choose one of {', '.join(NETWORKS)}"
    )


def load_policy(name: str, path: Path, config: InferenceConfig | None = None) -> Policy:
    """Return a policy, ready to answer.

    Args:
        name: One of ``POLICIES``.
        path: A bundle; or, for any policy but ALT, its own folder.
        config: How it answers.

    Raises:
        ConfigurationError: There is no such policy, or a setting is out of bounds.
        BundleError: The folder does not hold it, or is damaged.
    """
    config = config or InferenceConfig()
    if name == ALT:
        return AltPolicy.load(path, device=config.device, threads=config.threads)
    found = _read(name, path)
    if isinstance(found, RemoteConfig):
        return RemotePolicy(found)
    return trained_policy(found, config)


def _read(name: str, path: Path) -> PolicyCheckpoint | RemoteConfig:
    """Return what is known of a policy without torch, verified."""
    if name not in COMPARED:
        raise ConfigurationError(
            f"policy '{name}' does not exist: choose one of {', '.join(POLICIES)}"
        )
    folder = policy_folder(name, path)
    if name == REMOTE:
        return RemoteConfig.load(folder)
    checkpoint = PolicyCheckpoint.load(folder)
    if checkpoint.spec.policy != name:
        raise BundleError(
            f"policy '{path}' is '{checkpoint.spec.policy}', asked for is '{name}': name the other"
        )
    return checkpoint


def verify(name: str, path: Path) -> None:
    """Check that ``load_policy`` would find a whole policy, without loading its network.

    Raises:
        BundleError: The folder does not hold it, or it is damaged.
        ConfigurationError: The description of a served policy is damaged.
    """
    _read(name, path)


def trained_policy(checkpoint: PolicyCheckpoint, config: InferenceConfig | None = None) -> Policy:
    """Return the policy of a checkpoint, ready to answer.

    Raises:
        ConfigurationError: A setting is out of bounds, or the device is not there.
        BundleError: The weights do not fit the spec.
    """
    config = config or InferenceConfig()
    if checkpoint.spec.policy == "kdtree":
        from alt_ros.policies.kdtree import KdTreePolicy

        return KdTreePolicy(checkpoint)
    import torch

    from alt_ros.policies.network_policy import NetworkPolicy
    from alt_ros.policies.temporal_ensemble import TemporalEnsemble

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    network = build_network(checkpoint.spec, config)
    weights: dict[str, Any] = {
        name: torch.from_numpy(array) for name, array in checkpoint.arrays.items()
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = in_one_line(error)
        raise BundleError(
            f"policy '{checkpoint.spec.policy}': its weights do not fit its spec ({reason}): "
            "train it again"
        ) from error
    ensemble = None
    if config.ensemble_decay is not None:
        ensemble = TemporalEnsemble(config.ensemble_decay)
    policy = NetworkPolicy(network, seed=config.seed, device=config.device, ensemble=ensemble)
    policy.warm_up()
    return policy


def policy_folder(name: str, path: Path) -> Path:
    """Return the folder of a policy: ``path`` itself, or the one in the bundle.

    Raises:
        BundleError: Neither holds one.
    """
    path = Path(path)
    file = REMOTE_FILE if name == REMOTE else MANIFEST
    for folder in (path / FOLDER / name, path):
        if (folder / file).is_file():
            return folder
    source = f"write {REMOTE_FILE}" if name == REMOTE else f"train one with 'alt train {name}'"
    raise BundleError(
        f"'{path}' holds no policy '{name}': {source}, then 'alt deploy' puts it into the bundle"
    )


def deploy(policy: Path, bundle: Path) -> Path:
    """Put a policy into a bundle, beside its table and monitor.

    Args:
        policy: Folder of a trained policy, or with the description of a served one.
        bundle: Folder of the bundle.

    Returns:
        The policy's folder in the bundle.

    Raises:
        BundleError: Either folder is not what it should be, or the policy does not fit the
            bundle's arms or views.
        ConfigurationError: The description of a served policy is damaged.
    """
    if not (bundle / BUNDLE_MANIFEST).is_file():
        raise BundleError(
            f"'{bundle}' must be a bundle as 'alt index' writes it, it holds no {BUNDLE_MANIFEST}"
        )
    loaded = Bundle.load(bundle, encoder=False)
    if (policy / REMOTE_FILE).is_file():
        served = RemoteConfig.load(policy)
        _check_fit(loaded, ActionLayout(served.arms), tuple(served.views))
        folder = bundle / FOLDER / REMOTE
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{REMOTE_FILE}.partial"
        shutil.copyfile(policy / REMOTE_FILE, partial)
        partial.replace(folder / REMOTE_FILE)
        return folder
    checkpoint = PolicyCheckpoint.load(policy)
    _check_fit(loaded, checkpoint.spec.layout, checkpoint.spec.views)
    folder = bundle / FOLDER / checkpoint.spec.policy
    folder.parent.mkdir(exist_ok=True)
    return checkpoint.save(folder)


def _check_fit(bundle: Bundle, layout: ActionLayout, views: tuple[str, ...]) -> None:
    """Require that a policy moves and sees what the bundle's table and monitor do."""
    if layout != bundle.layout or not set(views) <= set(bundle.spec.views):
        raise BundleError(
            f"bundle '{bundle.path}' is of {bundle.layout.arms} arms, {bundle.layout.extra} other "
            f"axes and the views {list(bundle.spec.views)}, the policy of {layout.arms} arms, "
            f"{layout.extra} and {list(views)}: deploy it into the bundle of its own robot"
        )
