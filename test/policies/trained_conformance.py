"""What every trained policy must do beside the contract: inherit ``TrainedPolicyConformance``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from policy_conformance import SHAPES, PolicyConformance

from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.kdtree import fit_kdtree
from alt_ros.policies.registry import InferenceConfig, build_network, load_policy, trained_policy
from alt_ros.policies.spec import PolicySpec
from alt_ros.types import Observation

LENGTHS = (9, 7)
torch.set_num_threads(1)  # two threads wait for each other on a busy machine


def seen(spec: PolicySpec, frame: int, stamp: int) -> Observation:
    """Return an observation that a spec takes; the same for the same frame."""
    rng = np.random.default_rng(frame)
    quaternions = rng.normal(size=(spec.arms, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    columns = max(spec.state_columns, default=-1) + 1
    return Observation(
        stamp,
        {v: rng.integers(0, 256, (40, 48, 3), dtype=np.uint8) for v in spec.views},
        np.concatenate([rng.uniform(-1.0, 1.0, (spec.arms, 3)), quaternions], axis=1),
        rng.uniform(0.0, 0.1, spec.arms),
        rng.normal(size=columns),
    )


def checkpoint(spec: PolicySpec) -> PolicyCheckpoint:
    """Return a policy of a spec whose weights are random, or that holds random frames."""
    rng = np.random.default_rng(0)
    frames = sum(LENGTHS)
    actions = rng.normal(size=(frames, spec.layout.size))
    state = rng.normal(size=(frames, spec.state_size)).astype(np.float32)
    if spec.policy == "kdtree":
        shape = frames, len(spec.views), 3, spec.height, spec.width
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        return fit_kdtree(
            spec, lambda rows: images[rows], state, actions, np.cumsum(LENGTHS), {"seed": 0}
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(spec)
    network.fit_ranges(actions, state)
    if spec.policy == "vinn":
        shape = frames, len(spec.views), 3, spec.height, spec.width
        images = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
        network.eval().fill(images, torch.arange(frames))
        demonstration = torch.from_numpy(np.repeat(np.arange(len(LENGTHS)), LENGTHS))
        network.finish(torch.from_numpy(actions.astype(np.float32)), demonstration)
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return PolicyCheckpoint(spec, arrays, {"seed": 0})


class TrainedPolicyConformance(PolicyConformance):
    """Tests of what all trained policies share.

    A subclass names its ``policy_name``, its ``horizons`` (To, Tp) and its ``own`` settings.
    """

    policy_name: ClassVar[str]
    horizons: ClassVar[tuple[int, int]] = (1, 8)
    own: ClassVar[dict] = {}

    def spec(self, **changes) -> PolicySpec:
        to, tp = self.horizons
        values = {
            "policy": self.policy_name,
            "size": "small",
            "views": ("wrist", "third_person"),
            "height": 32,
            "width": 32,
            "arms": 1,
            "extra": 0,
            "period": 50_000_000,
            "observation_horizon": to,
            "prediction_horizon": tp,
            "settings": self.own,
        }
        return PolicySpec(**values | changes)

    @pytest.fixture
    def policy(self):
        return trained_policy(checkpoint(self.spec()), InferenceConfig("cpu", 1))

    @pytest.fixture
    def observe(self):
        return lambda frame, stamp: seen(self.spec(), frame, stamp)

    @SHAPES
    @given(
        views=st.integers(1, 3),
        arms=st.integers(0, 2),
        extra=st.integers(0, 4),
        columns=st.lists(st.integers(0, 5), max_size=3, unique=True),
        horizon=st.sampled_from((4, 8, 12)),
        height=st.integers(32, 48),
        width=st.integers(32, 48),
    )
    def test_any_shape_is_answered_and_the_seed_reproduces_it_bit_for_bit(
        self, views, arms, extra, columns, horizon, height, width
    ):
        if arms + extra == 0:
            extra = 1
        spec = self.spec(
            views=tuple(f"camera_{i}" for i in range(views)),
            arms=arms,
            extra=extra,
            state_columns=tuple(columns),
            prediction_horizon=horizon,
            height=height,
            width=width,
        )
        made = checkpoint(spec)
        chunks = []
        for _ in range(2):
            policy = trained_policy(made, InferenceConfig("cpu", 1, seed=7))
            output = policy.act(seen(spec, 3, 5 * spec.period))
            assert output.ood is None
            chunks.append(output.chunk)
        first, again = chunks
        assert first.layout == spec.layout
        assert first.stamp == 5 * spec.period
        assert 1 <= len(first.actions) <= policy.horizon
        assert first.actions.tobytes() == again.actions.tobytes()

    def test_a_saved_policy_answers_like_the_one_that_was_saved(self, policy, observe, tmp_path):
        checkpoint(self.spec()).save(tmp_path / "policy")
        loaded = load_policy(self.policy_name, tmp_path / "policy", InferenceConfig("cpu", 1))
        for frame in range(3):
            observation = observe(frame, frame * policy.period)
            one, other = policy.act(observation), loaded.act(observation)
            assert one.chunk.actions.tobytes() == other.chunk.actions.tobytes()
