import numpy as np
import pytest
import torch
from trained_conformance import TrainedPolicyConformance

from alt_ros.errors import ConfigurationError
from alt_ros.policies.network import Batch
from alt_ros.policies.registry import build_network


class TestActPolicy(TrainedPolicyConformance):
    policy_name = "act"

    def test_nothing_is_drawn_at_inference(self, policy, observe):
        one = policy.act(observe(0, 0)).chunk.actions
        policy.reset()
        assert np.array_equal(one, policy.act(observe(0, 1)).chunk.actions)

    def test_training_looks_at_the_chunk_through_the_posterior(self):
        network = build_network(self.spec())
        batch = Batch(
            torch.randint(256, (2, 1, 2, 3, 32, 32), dtype=torch.uint8),
            torch.randn(2, 1, 10),
            torch.randn(2, 8, 10),
        )
        network.loss(batch).backward()
        assert network.posterior_action.weight.grad.abs().max() > 0.0
        assert network.latent_token.weight.grad.abs().max() > 0.0


def test_a_history_is_refused():
    with pytest.raises(ConfigurationError, match="To must be 1, ACT looks at one observation"):
        build_network(TestActPolicy().spec(observation_horizon=2))


def test_a_size_that_was_never_published_is_refused():
    with pytest.raises(ConfigurationError, match="size must be one of small, paper, got 'large'"):
        build_network(TestActPolicy().spec(size="large"))
