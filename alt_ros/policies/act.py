"""ACT, action chunking with transformers: a conditional VAE that predicts a chunk of actions.

Zhao, Kumar, Levine, Finn 2023, "Learning Fine-Grained Bimanual Manipulation with Low-Cost
Hardware", section IV and appendix C. Notation:

- a_{t:t+k}: the chunk, k = Tp actions; here ``actions``
- o_t: images and joints (here the end effectors' state); one observation, To = 1
- q(z | a, o): the CVAE's encoder: tokens [CLS], o and a; CLS gives mean and variance of z (32)
- pi(a | o, z): image features, o and z through a transformer encoder; its decoder's k queries
  attend to that
- loss: L1(a, a_hat) + beta * KL(q(z | a, o) || N(0, I)), beta = 10; at inference z = 0

Other than published: GroupNorm in the backbone, trained from scratch; the chunk is padded with
the demonstration's last action instead of being masked; decoder layers are all used (the
released code reads the first of seven).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.encoders.visuomotor import Trunk, check_crop, normalized_crop
from alt_ros.errors import ConfigurationError
from alt_ros.policies.network import Batch, PolicyNetwork
from alt_ros.policies.spec import PolicySpec
from alt_ros.policies.temporal_unet import StepEmbedding

BETA = 10.0
LATENT = 32

SIZES: dict[str, dict[str, Any]] = {
    "small": {"width": 128, "heads": 4, "feedforward": 512, "encoder": 2, "decoder": 2},
    "paper": {"width": 512, "heads": 8, "feedforward": 3200, "encoder": 4, "decoder": 7},
}
TRUNKS: dict[str, dict[str, Any]] = {
    "small": {"width": 16, "pool": False},
    "paper": {"width": 64, "pool": True},
}


class ActNetwork(PolicyNetwork):
    """The CVAE.

    Args:
        spec: What it takes and gives; To must be 1. ``settings``: ``crop`` of the images.

    Raises:
        ConfigurationError: To is not 1, or there is no such size.
    """

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__(spec)
        if spec.size not in SIZES:
            raise ConfigurationError(
                f"act: size must be one of {', '.join(SIZES)}, got '{spec.size}'"
            )
        if spec.observation_horizon != 1:
            raise ConfigurationError(
                f"act: To must be 1, ACT looks at one observation; got {spec.observation_horizon}"
            )
        shape = SIZES[spec.size]
        width: int = shape["width"]
        self.crop = float(spec.settings.get("crop", 0.9))
        check_crop(self.crop)

        def encoder(layers: int) -> nn.TransformerEncoder:
            layer = nn.TransformerEncoderLayer(
                width, shape["heads"], shape["feedforward"], 0.1, batch_first=True
            )
            return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

        columns, state = spec.layout.size, max(spec.state_size, 1)
        self.posterior = encoder(shape["encoder"])
        self.summary = nn.Parameter(torch.randn(1, 1, width))  # [CLS]
        self.posterior_state = nn.Linear(state, width)
        self.posterior_action = nn.Linear(columns, width)
        self.latent_shape = nn.Linear(width, 2 * LATENT)

        self.trunks = nn.ModuleList(Trunk(**TRUNKS[spec.size]) for _ in spec.views)
        channels = 8 * TRUNKS[spec.size]["width"]
        self.image_token = nn.Conv2d(channels, width, 1)
        self.view_token = nn.Parameter(torch.randn(len(spec.views), width))
        self.state_token = nn.Linear(state, width)
        self.latent_token = nn.Linear(LATENT, width)
        self.kinds = nn.Parameter(torch.randn(2, width))  # of the tokens of z and of the state
        self.encoder = encoder(shape["encoder"])
        layer = nn.TransformerDecoderLayer(
            width, shape["heads"], shape["feedforward"], 0.1, batch_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, shape["decoder"])
        self.queries = nn.Parameter(torch.randn(1, spec.prediction_horizon, width))
        self.out = nn.Linear(width, columns)
        self.position = StepEmbedding(width)
        self.coordinate = StepEmbedding(width // 2)

    def _state(self, state: Tensor) -> Tensor:
        """Return the normalised state (B, L); one column of zeros where there is none."""
        newest = self.state(state[:, -1])
        return newest if newest.shape[1] else newest.new_zeros((len(newest), 1))

    def _posterior(self, actions: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance (B, LATENT) of q(z | a, o)."""
        tokens = torch.cat(
            [
                self.summary.expand(len(actions), -1, -1),
                self.posterior_state(state)[:, None],
                self.posterior_action(actions),
            ],
            dim=1,
        )
        positions = self.position(torch.arange(tokens.shape[1], device=tokens.device))
        mean, log_variance = self.latent_shape(self.posterior(tokens + positions)[:, 0]).chunk(
            2, dim=-1
        )
        return mean, log_variance

    def _image_tokens(self, images: Tensor) -> Tensor:
        """Return (B, V * h * w, width) for images (B, V, 3, H, W) uint8."""
        tokens: list[Tensor] = []
        for view, trunk in enumerate(self.trunks):
            features = self.image_token(
                trunk(normalized_crop(images[:, view], self.crop, self.training))
            )
            rows, columns = (
                self.coordinate(torch.arange(size, device=features.device))
                for size in features.shape[-2:]
            )
            place = torch.cat(
                [
                    rows[:, None].expand(-1, len(columns), -1),
                    columns[None].expand(len(rows), -1, -1),
                ],
                dim=-1,
            )
            token = features.flatten(2).transpose(1, 2) + place.flatten(0, 1)
            tokens.append(token + self.view_token[view])
        return torch.cat(tokens, dim=1)

    def _chunk(self, images: Tensor, state: Tensor, latent: Tensor) -> Tensor:
        """Return pi(a | o, z), (B, Tp, A) in [-1, 1]."""
        tokens = torch.cat(
            [
                (self.latent_token(latent) + self.kinds[0])[:, None],
                (self.state_token(state) + self.kinds[1])[:, None],
                self._image_tokens(images[:, -1]),
            ],
            dim=1,
        )
        queries = self.queries.expand(len(tokens), -1, -1)
        return self.out(self.decoder(queries, self.encoder(tokens)))

    def loss(self, batch: Batch) -> Tensor:
        """See ``PolicyNetwork.loss``."""
        actions, state = self.actions(batch.actions), self._state(batch.state)
        mean, log_variance = self._posterior(actions, state)
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        reconstruction = functional.l1_loss(self._chunk(batch.images, state, latent), actions)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)
        return reconstruction + BETA * divergence.mean()

    def predict(self, images: Tensor, state: Tensor, generator: torch.Generator) -> Tensor:
        """See ``PolicyNetwork.predict``; z is its prior's mean, nothing is drawn."""
        del generator
        latent = state.new_zeros((len(images), LATENT))
        return self.actions.back(self._chunk(images, self._state(state), latent))
