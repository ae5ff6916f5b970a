import numpy as np
import torch
from trained_conformance import TrainedPolicyConformance

from alt_ros.policies.network import Batch
from alt_ros.policies.registry import build_network


class TestBehaviorCloningPolicy(TrainedPolicyConformance):
    policy_name = "bc"
    horizons = (2, 8)

    def test_nothing_is_drawn(self, policy, observe):
        one = policy.act(observe(0, 0)).chunk.actions
        policy.reset()
        assert np.array_equal(one, policy.act(observe(0, 1)).chunk.actions)

    def test_the_loss_is_that_of_normalised_actions(self):
        network = build_network(self.spec()).eval()
        network.actions.fit(np.array([[0.0] * 10, [4.0] * 10]))
        images = torch.zeros(1, 2, 2, 3, 32, 32, dtype=torch.uint8)
        state = torch.zeros(1, 2, 10)
        with torch.no_grad():
            sequence = network.actions.back(network._sequence(images, state))
            # One action is off by a quarter of the range: half a unit of [-1, 1].
            sequence[:, 3] += 1.0
            loss = float(network.loss(Batch(images, state, sequence)))
        assert abs(loss - 0.5**2 / 8) < 1e-6
