"""The Diffusion Policy: denoise a sequence of actions, given what was observed.

Chi, Feng, Du, Xu, Cousineau, Burchfiel, Song 2023, "Diffusion Policy: Visuomotor Policy Learning
via Action Diffusion". Notation:

- A^0 (Tp x A): a demonstrated sequence of actions, each column in [-1, 1]; A^k after k steps of
  noise; here ``actions``, ``noisy``
- O: the last To observations; here ``condition``, (B, To, C)
- K = 100: training steps of noise, with a square-cosine schedule (Nichol and Dhariwal 2021)
- epsilon_theta(O, A^k, k): the noise that the network sees in A^k; here ``denoiser``

1. Training (eq. 5): draw k and epsilon; the loss is MSE(epsilon, epsilon_theta(O, A^k, k)).
2. Inference (eq. 4): from A^K ~ N(0, I) down to A^0, by DDPM (Ho et al. 2020) in K steps or by
   DDIM (Song et al. 2021) in fewer. The observations are encoded once, not once a step.
3. The first To - 1 actions belong to past observations; what follows is the chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.encoders.visuomotor import VisuomotorEncoder
from alt_ros.errors import ConfigurationError
from alt_ros.policies.denoising_transformer import DenoisingTransformer
from alt_ros.policies.network import Batch, Conditioning, PolicyNetwork
from alt_ros.policies.spec import PolicySpec
from alt_ros.policies.temporal_unet import TemporalUnet

TRAINING_STEPS = 100
SAMPLERS = ("ddim", "ddpm")
ARCHITECTURES = ("cnn", "transformer")

UNETS: dict[str, dict[str, Any]] = {
    "small": {"channels": (64, 128, 256), "step_embedding": 64},
    "paper": {"channels": (256, 512, 1024), "step_embedding": 128},
    "large": {"channels": (512, 1024, 2048), "step_embedding": 256},
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "small": {"layers": 4, "width": 128, "dropout": 0.1},
    "paper": {"layers": 8, "width": 256, "dropout": 0.3},
    "large": {"layers": 12, "width": 512, "dropout": 0.3},
}
ENCODERS: dict[str, dict[str, Any]] = {
    "small": {"width": 16, "pool": False},
    "paper": {},
    "large": {},
}


@dataclass(frozen=True)
class SamplerConfig:
    """How a sequence is denoised.

    Attributes:
        sampler: "ddim" or "ddpm".
        steps: Denoising steps, 1 to 100.
    """

    sampler: str = "ddim"
    steps: int = 10

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigurationError(
                f"diffusion: sampler must be one of {', '.join(SAMPLERS)}, got '{self.sampler}'"
            )
        if not 1 <= self.steps <= TRAINING_STEPS:
            raise ConfigurationError(
                f"diffusion: denoising steps must be 1 to {TRAINING_STEPS}, got {self.steps}"
            )


class Diffusion:
    """The forward and the backward process, for sequences of any kind.

    Args:
        config: How a sequence is denoised.
    """

    def __init__(self, config: SamplerConfig | None = None) -> None:
        self.config = config or SamplerConfig()
        schedule: dict[str, Any] = {
            "num_train_timesteps": TRAINING_STEPS,
            "beta_schedule": "squaredcos_cap_v2",
            "clip_sample": True,
            "prediction_type": "epsilon",
        }
        self._forward = DDPMScheduler(**schedule)
        kind = DDPMScheduler if self.config.sampler == "ddpm" else DDIMScheduler
        self._backward: Any = kind(**schedule)
        self._backward.set_timesteps(self.config.steps)

    def loss(self, denoiser: nn.Module, actions: Tensor, condition: Tensor) -> Tensor:
        """Return eq. 5 for sequences (B, T, A) in [-1, 1]; draws from the global generator."""
        noise = torch.randn_like(actions)
        steps = torch.randint(TRAINING_STEPS, (len(actions),), device=actions.device)
        timesteps = cast(torch.IntTensor, steps)
        noisy = self._forward.add_noise(actions, noise, timesteps)
        return functional.mse_loss(denoiser(noisy, steps, condition), noise)

    def sample(
        self,
        denoiser: nn.Module,
        shape: tuple[int, int, int],
        condition: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Return sequences of a shape (B, T, A), in [-1, 1], by eq. 4.

        Args:
            denoiser: epsilon_theta.
            shape: B, T, A.
            condition: (B, To, C).
            generator: On the CPU, so that a seed gives the same noise on every device.
        """
        device = condition.device
        sequence = torch.randn(shape, generator=generator).to(device)
        for step in self._backward.timesteps:
            noise = denoiser(sequence, step.to(device).expand(shape[0]), condition)
            given = {"generator": generator} if self.config.sampler == "ddpm" else {}
            sequence = self._backward.step(noise, step, sequence, **given).prev_sample
        return sequence


class DiffusionNetwork(PolicyNetwork):
    """Observation encoder and denoiser, trained together end to end.

    Args:
        spec: What it takes and gives; ``settings``: ``architecture`` "cnn" or "transformer",
            ``crop`` of the images, ``draws`` of the noise for each window in training.
        sampler: How a sequence is denoised.

    Raises:
        ConfigurationError: There is no such architecture, ``draws`` is below 1, or the U-Net
            cannot halve Tp.
    """

    def __init__(self, spec: PolicySpec, sampler: SamplerConfig | None = None) -> None:
        super().__init__(spec)
        architecture = spec.settings.get("architecture", "cnn")
        if architecture not in ARCHITECTURES:
            raise ConfigurationError(
                f"diffusion: architecture must be one of {', '.join(ARCHITECTURES)}, got "
                f"'{architecture}'"
            )
        self.draws = int(spec.settings.get("draws", 1))
        if self.draws < 1:
            raise ConfigurationError(f"diffusion: draws must be at least 1, got {self.draws}")
        self.diffusion = Diffusion(sampler)
        encoder = VisuomotorEncoder(
            len(spec.views), crop=float(spec.settings.get("crop", 0.9)), **ENCODERS[spec.size]
        )
        self.conditioning = Conditioning(spec, encoder, encoder.size)
        columns = spec.layout.size
        if architecture == "cnn":
            self.denoiser: nn.Module = TemporalUnet(
                columns,
                spec.observation_horizon * self.conditioning.size,
                **UNETS[spec.size],
            )
            if spec.prediction_horizon % self.denoiser.shrink:
                raise ConfigurationError(
                    f"diffusion: Tp must be a multiple of {self.denoiser.shrink} for the U-Net, "
                    f"got {spec.prediction_horizon}"
                )
        else:
            self.denoiser = DenoisingTransformer(
                columns,
                self.conditioning.size,
                spec.prediction_horizon,
                spec.observation_horizon,
                **TRANSFORMERS[spec.size],
            )

    def loss(self, batch: Batch) -> Tensor:
        """See ``PolicyNetwork.loss``."""
        condition = self.conditioning(batch.images, self.state(batch.state))
        # Encoding images is most of the work: each is used for several draws of the noise.
        condition = condition.repeat_interleave(self.draws, dim=0)
        actions = self.actions(batch.actions).repeat_interleave(self.draws, dim=0)
        return self.diffusion.loss(self.denoiser, actions, condition)

    def predict(self, images: Tensor, state: Tensor, generator: torch.Generator) -> Tensor:
        """See ``PolicyNetwork.predict``."""
        spec = self.spec
        condition = self.conditioning(images, self.state(state))
        shape = len(images), spec.prediction_horizon, spec.layout.size
        sequence = self.diffusion.sample(self.denoiser, shape, condition, generator)
        return self.actions.back(sequence[:, spec.observation_horizon - 1 :])
