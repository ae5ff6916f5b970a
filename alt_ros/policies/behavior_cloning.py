"""Behaviour cloning: regress the actions that followed, with a mean squared error.

Pomerleau 1988 ("ALVINN"), with the observation encoder and the action sequence of the Diffusion
Policy, so that what differs between the two is the loss alone. Where demonstrations disagree it
predicts their mean.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.encoders.visuomotor import VisuomotorEncoder
from alt_ros.policies.network import Batch, Conditioning, PolicyNetwork
from alt_ros.policies.spec import PolicySpec

ENCODERS: dict[str, dict[str, Any]] = {
    "small": {"width": 16, "pool": False},
    "paper": {},
    "large": {},
}
HIDDEN = {"small": 256, "paper": 1024, "large": 2048}


class BehaviorCloningNetwork(PolicyNetwork):
    """Observation encoder and a multi-layer perceptron.

    Args:
        spec: What it takes and gives; ``settings``: ``crop`` of the images.
    """

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__(spec)
        encoder = VisuomotorEncoder(
            len(spec.views), crop=float(spec.settings.get("crop", 0.9)), **ENCODERS[spec.size]
        )
        self.conditioning = Conditioning(spec, encoder, encoder.size)
        hidden = HIDDEN[spec.size]
        self.head = nn.Sequential(
            nn.Linear(spec.observation_horizon * self.conditioning.size, hidden),
            nn.Mish(),
            nn.Linear(hidden, hidden),
            nn.Mish(),
            nn.Linear(hidden, spec.prediction_horizon * spec.layout.size),
        )

    def _sequence(self, images: Tensor, state: Tensor) -> Tensor:
        condition = self.conditioning(images, self.state(state))
        sequence = self.head(condition.flatten(1))
        return sequence.unflatten(1, (self.spec.prediction_horizon, self.spec.layout.size))

    def loss(self, batch: Batch) -> Tensor:
        """See ``PolicyNetwork.loss``."""
        wanted = self.actions(batch.actions)
        return functional.mse_loss(self._sequence(batch.images, batch.state), wanted)

    def predict(self, images: Tensor, state: Tensor, generator: torch.Generator) -> Tensor:
        """See ``PolicyNetwork.predict``; nothing is drawn."""
        del generator
        sequence = self._sequence(images, state)[:, self.spec.observation_horizon - 1 :]
        return self.actions.back(sequence)
