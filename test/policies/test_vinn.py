from typing import ClassVar

import numpy as np
import torch
from trained_conformance import LENGTHS, TrainedPolicyConformance, checkpoint

from alt_ros.policies.network import Batch
from alt_ros.policies.registry import InferenceConfig, build_network, trained_policy
from alt_ros.types import Observation


class TestVinnPolicy(TrainedPolicyConformance):
    policy_name = "vinn"
    own: ClassVar[dict] = {"frames": sum(LENGTHS), "neighbours": 3}

    def frame(self, row: int) -> Observation:
        """The observation of a row of the table that ``checkpoint`` makes."""
        rng = np.random.default_rng(0)
        rng.normal(size=(sum(LENGTHS), 10))  # as checkpoint() draws
        rng.normal(size=(sum(LENGTHS), 10))
        images = rng.integers(0, 256, (sum(LENGTHS), 2, 3, 32, 32), dtype=np.uint8)[row]
        views = dict(zip(self.spec().views, images.transpose(0, 2, 3, 1), strict=True))
        return Observation(0, views, np.array([[0, 0, 0, 0, 0, 0, 1.0]]), np.zeros(1))

    def test_one_neighbour_recalls_the_frame_itself_and_never_runs_into_the_next(self):
        made = checkpoint(self.spec(settings={**self.own, "neighbours": 1}))
        actions = np.random.default_rng(0).normal(size=(sum(LENGTHS), 10))
        policy = trained_policy(made, InferenceConfig("cpu", 1))
        chunk = policy.act(self.frame(6)).chunk.actions  # two more frames follow in its episode
        expected = actions[[6, 7, 8, 8, 8, 8, 8, 8]]
        np.testing.assert_allclose(chunk, expected, atol=1e-5)

    def test_the_mean_is_weighted_by_a_softmin_of_the_distances(self):
        made = checkpoint(self.spec())
        actions = np.random.default_rng(0).normal(size=(sum(LENGTHS), 10))
        policy = trained_policy(made, InferenceConfig("cpu", 1))
        embeddings = made.arrays["embeddings"].astype(np.float64)
        distances = np.linalg.norm(embeddings - embeddings[2], axis=1) / made.arrays["scale"]
        nearest = np.argsort(distances)[:3]
        weights = np.exp(-distances[nearest]) / np.exp(-distances[nearest]).sum()
        first = policy.act(self.frame(2)).chunk.actions[0]
        np.testing.assert_allclose(first, weights @ actions[nearest], atol=1e-3)

    def test_the_slow_networks_follow_without_gradients(self):
        network = build_network(self.spec())
        before = network.slow[0].state_dict()["trunks.0.0.weight"].clone()
        images = torch.randint(256, (4, 1, 2, 3, 32, 32), dtype=torch.uint8)
        loss = network.loss(Batch(images, torch.zeros(4, 1, 10), torch.zeros(4, 8, 10)))
        loss.backward()
        assert 0.0 < float(loss.detach()) < 4.0
        assert all(p.grad is None for p in network.slow.parameters())
        with torch.no_grad():
            network.online.trunks[0][0].weight.add_(1.0)
        network.loss(Batch(images, torch.zeros(4, 1, 10), torch.zeros(4, 8, 10)))
        moved = network.slow[0].state_dict()["trunks.0.0.weight"] - before
        assert torch.allclose(moved, torch.full_like(moved, 0.01), atol=1e-5)
