"""What a method costs: time of an answer, numbers and bytes that it holds."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from alt_ros.bundle import Bundle
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.policies.alt import AltPolicy
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.policy import Policy
from alt_ros.policies.registry import ALT, InferenceConfig, build_network, trained_policy
from alt_ros.training.policy_defaults import policy_spec

INFERENCES = 20


@dataclass(frozen=True, eq=False)
class Method:
    """One method, ready to be timed.

    Attributes:
        name: As in the tables.
        policy: Ready to answer.
        parameters: Numbers that it holds: weights, and the table's.
        memory: Bytes of them.
    """

    name: str
    policy: Policy
    parameters: int
    memory: int


def alt_method(bundle: Bundle) -> Method:
    """Return the Action Lookup Table: its encoder's weights, its table and the index of it."""
    weights = sum(p.numel() for p in MultiViewEncoder(bundle.spec).parameters())
    table = bundle.table
    arrays = (table.embeddings, table.view_embeddings, table.actions, table.poses, table.grippers)
    return Method(
        ALT,
        AltPolicy(bundle),
        weights + sum(array.size for array in arrays),
        4 * weights + sum(array.nbytes for array in arrays) + table.embeddings.nbytes,
    )


def trained_method(name: str, checkpoint: PolicyCheckpoint, config: InferenceConfig) -> Method:
    """Return a trained policy under a name."""
    policy = trained_policy(checkpoint, config)
    return Method(name, policy, checkpoint.parameters, checkpoint.nbytes)


def untrained(store: DemonstrationStore, size: str) -> PolicyCheckpoint:
    """Return a diffusion policy with random weights: as quick and as large as a trained one."""
    spec = policy_spec("diffusion", store, size=size, state_columns=())
    network = build_network(spec)
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return PolicyCheckpoint(spec, arrays, {})


def diffusion_parameters(store: DemonstrationStore, size: str) -> int:
    """Return how many parameters a diffusion policy has; nothing is allocated."""
    with torch.device("meta"):
        network = build_network(policy_spec("diffusion", store, size=size, state_columns=()))
    return sum(p.numel() for p in network.parameters())


def milliseconds(policy: Policy, store: DemonstrationStore, most: float = 20.0) -> float:
    """Return the mean time of an answer along a demonstration; fewer where ``most`` s pass."""
    demonstration = store[0]
    seen = [demonstration.observation(i) for i in range(INFERENCES + 1)]
    policy.reset()
    policy.act(seen[0])  # warms caches; not counted
    started, answered = time.perf_counter(), 0
    for observation in seen[1:]:
        policy.act(observation)
        answered += 1
        if time.perf_counter() - started > most:
            break
    return 1e3 * (time.perf_counter() - started) / answered
