"""A DDPM of points in the plane: it learns from a few or many and generates others.

Notation (Ho, Jain, Abbeel: "Denoising Diffusion Probabilistic Models", arXiv 2006.11239):

- x_0: a point of the curve; x_t: the same after t + 1 of T = 100 noising steps
- eps: the noise, eps_theta(x_t, t): the network's guess of it
- a_t: the share of the signal's variance that is left, alpha bar; square-cosine in t (Nichol,
  Dhariwal, arXiv 2102.09672)
- x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps (eq. 4); loss |eps - eps_theta(x_t, t)|^2 (eq. 14)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.errors import ConfigurationError, DependencyError
from alt_ros.progress import Advance

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

STEPS = 100
"""Noising steps T."""
BOUND = 1.5
"""Largest coordinate of a guessed point; the shapes end near 1."""
FREQUENCIES = (1.5, 3.0, 6.0, 12.0)
"""Of the sines and cosines of x and y that the network is given besides, radians a unit."""
INPUTS = 3 + 4 * len(FREQUENCIES)


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron and how it is trained.

    Attributes:
        width: Units of a hidden layer.
        depth: Hidden layers.
        steps: Steps of Adam.
        batch: Samples of a step.
        learning_rate: At the first step; it falls to 0 along a half cosine.
    """

    width: int
    depth: int
    steps: int
    batch: int
    learning_rate: float

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.steps, self.batch) < 1 or self.learning_rate <= 0.0:
            raise ConfigurationError(
                "network: width, depth, steps and batch of at least 1 and a positive learning "
                f"rate are needed, got {self.width}, {self.depth}, {self.steps}, {self.batch}, "
                f"{self.learning_rate}"
            )

    @property
    def parameters(self) -> int:
        """Weights and biases in all."""
        hidden = (self.depth - 1) * (self.width + 1) * self.width
        return (INPUTS + 1) * self.width + hidden + 2 * (self.width + 1)


@dataclass(frozen=True, eq=False)
class Generated:
    """What came of a training.

    Attributes:
        training: (N, 2) float32 points that the network saw.
        samples: (n, 2) float32 points that it generates.
        loss: Mean loss of the last tenth of the steps.
        seconds: Time of training and sampling.
    """

    training: NDArray[np.float32]
    samples: NDArray[np.float32]
    loss: float
    seconds: float


class Denoiser(nn.Module):
    """eps_theta: a perceptron of the point, sines and cosines of it, and the step."""

    frequencies: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.tensor(FREQUENCIES))
        sizes = [INPUTS, *[network.width] * network.depth]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(network.width, 2))

    def forward(self, noisy: Tensor, step: Tensor) -> Tensor:
        """Return the noise (n, 2) in points (n, 2) at steps (n,)."""
        waves = (noisy[:, :, None] * self.frequencies).flatten(1)  # (n, 2 F)
        when = 2.0 * step[:, None] / STEPS - 1.0
        return self.layers(torch.cat([noisy, waves.sin(), waves.cos(), when], dim=1))


def noise_schedule() -> DDPMScheduler:
    """Return diffusers' DDPM: T steps, square-cosine, the network predicts the noise.

    The guess of x_0 is clipped: at the first steps a_t is nearly 0, and the least error of eps
    would throw the samples far away. The bound is no side of a shape, or clipped samples would lie
    on that shape by themselves.

    Raises:
        DependencyError: diffusers is not installed.
    """
    try:
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    except ImportError as error:
        raise DependencyError(
            f"the manifold study needs diffusers, got '{error}': pip install diffusers"
        ) from error
    return DDPMScheduler(
        num_train_timesteps=STEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        clip_sample=True,
        clip_sample_range=BOUND,
    )


def generate(
    training: NDArray[np.float32],
    network: Network,
    samples: int,
    *,
    seed: int,
    device: str,
    progress: Advance = lambda done, total: None,
) -> Generated:
    """Train a model on points (N, 2) and let it generate as many as wanted.

    Args:
        training: float32 points.
        network: The perceptron and its training.
        samples: Points to generate.
        seed: Of weights, batches and noise.
        device: Where, as torch names it.
        progress: Called now and then with (steps done, steps).
    """
    started = time.perf_counter()
    schedule = noise_schedule()
    random = torch.Generator(device).manual_seed(seed)
    model, loss = _train(training, network, schedule, seed, random, progress)
    drawn = _sample(model, schedule, samples, random)
    return Generated(training, drawn, loss, round(time.perf_counter() - started, 2))


def _train(
    training: NDArray[np.float32],
    network: Network,
    schedule: DDPMScheduler,
    seed: int,
    random: torch.Generator,
    progress: Advance,
) -> tuple[Denoiser, float]:
    """Return the trained model and the mean loss of the last tenth of the steps."""
    device = random.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Denoiser(network).to(device)
    points = torch.from_numpy(training).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=network.learning_rate, fused=True)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, network.steps)
    counted, late = torch.zeros((), device=device), max(network.steps // 10, 1)
    for done in range(1, network.steps + 1):
        rows = torch.randint(len(points), (network.batch,), generator=random, device=device)
        step = torch.randint(STEPS, (network.batch,), generator=random, device=device)
        noise = torch.randn((network.batch, 2), generator=random, device=device)
        noisy = schedule.add_noise(points[rows], noise, step)  # pyright: ignore[reportArgumentType]
        loss = functional.mse_loss(model(noisy, step), noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        if done > network.steps - late:
            counted += loss.detach()
        if done % 100 == 0 or done == network.steps:
            progress(done, network.steps)
    return model, float(counted) / late


@torch.no_grad()
def _sample(
    model: Denoiser, schedule: DDPMScheduler, samples: int, random: torch.Generator
) -> NDArray[np.float32]:
    x = torch.randn((samples, 2), generator=random, device=random.device)
    for t in reversed(range(STEPS)):
        noise = model(x, torch.full((samples,), t, device=random.device))
        x = schedule.step(noise, t, x, generator=random, return_dict=False)[0]
    return x.cpu().numpy()
