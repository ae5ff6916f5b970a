"""What a diffusion policy learns from a linear controller: the gain, or the loop ahead.

Chi et al. 2023 ("Diffusion Policy"), section 5.1 ("Connections to Control Theory"). Notation:

- s_{t+1} = A s_t + B a_t: a linear plant; here a double integrator
- a_t = -K s_t: the demonstrator, the linear-quadratic regulator
- Tp = 1: the policy should recover the gain, a = -K s
- Tp > 1: it should unroll the closed loop, a_{t+t'} = -K (A - B K)^{t'} s_t, although it never
  sees A or B

The policy is the one that moves the arm: ``policies.diffusion.Diffusion`` with the transformer,
which takes any Tp; the observation is the state itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_are
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from alt_ros.encoders.runtime import compute_device
from alt_ros.errors import DependencyError
from alt_ros.policies.denoising_transformer import DenoisingTransformer
from alt_ros.policies.diffusion import Diffusion, SamplerConfig
from alt_ros.policies.network import MinMax
from alt_ros.progress import Advance
from alt_ros.studies.parallel import Part, side_by_side
from alt_ros.studies.report import Interval, Plot, Report, Table, typed_command
from alt_ros.training.policy import moving_average

Array = NDArray[np.float64]

PERIOD = 0.1
"""Time step of the plant, s."""
A: Array = np.array([[1.0, PERIOD], [0.0, 1.0]])
B: Array = np.array([[0.5 * PERIOD**2], [PERIOD]])
STATE_COST: Array = np.diag([1.0, 0.1])
ACTION_COST: Array = np.array([[0.1]])
LENGTH = 6
"""Steps of a demonstration; later ones are so near to rest that any gain would do."""
TOLERANCE = 0.05
"""The largest relative error with which gain and loop count as recovered."""
BATCH = 256
TEST_STATES = 1000
BOOTSTRAPS = 1000


@dataclass(frozen=True)
class LqrSettings:
    """How much is done.

    Attributes:
        horizons: Tp, one policy for each.
        steps: Optimiser steps of a policy.
        demonstrations: Roll-outs of the regulator.
        seeds: One training for each and each horizon.
    """

    horizons: tuple[int, ...]
    steps: int
    demonstrations: int
    seeds: int


QUICK = LqrSettings(horizons=(1, 8), steps=4_000, demonstrations=1_000, seeds=1)
FULL = LqrSettings(horizons=(1, 4, 8, 16), steps=10_000, demonstrations=1_000, seeds=3)


def regulator() -> Array:
    """Return K (1, 2), from the discrete algebraic Riccati equation."""
    p = solve_discrete_are(A, B, STATE_COST, ACTION_COST)
    return np.linalg.solve(ACTION_COST + B.T @ p @ B, B.T @ p @ A)


def unrolled(states: Array, gain: Array, horizon: int) -> Array:
    """Return the loop's actions (N, horizon) from states (N, 2) on: -K (A - B K)^t' s."""
    closed, actions, now = A - B @ gain, [], states.T
    for _ in range(horizon):
        actions.append((-gain @ now)[0])
        now = closed @ now
    return np.stack(actions, axis=1)


def demonstrate(count: int, horizon: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return states (N, 2) of roll-outs and the actions (N, horizon) that followed each.

    Args:
        count: Roll-outs, from states drawn uniformly.
        horizon: Tp.
        rng: Source of the states.
    """
    gain = regulator()
    now = rng.uniform(-1.0, 1.0, (count, 2))
    states: list[Array] = []
    for _ in range(LENGTH):
        states.append(now)
        now = now @ (A - B @ gain).T
    every = np.concatenate(states)
    return every, unrolled(every, gain, horizon)


@dataclass(frozen=True, eq=False)
class LqrCell:
    """What one policy learnt.

    Attributes:
        horizon: Tp.
        seed: Of its training.
        gain: (1, 2) least-squares gain of its first actions.
        gain_error: |gain - K| / |K|.
        predicted: (N, Tp) what it says to the test states, one sample each.
        wanted: (N, Tp) what the closed loop does.
    """

    horizon: int
    seed: int
    gain: Array
    gain_error: float
    predicted: Array
    wanted: Array

    @property
    def loop_error(self) -> float:
        """Relative error |predicted - wanted| / |wanted| over all states and times."""
        return float(np.linalg.norm(self.predicted - self.wanted) / np.linalg.norm(self.wanted))

    def loop_interval(self) -> Interval:
        """Return ``loop_error`` with its 95 % interval, bootstrapped over the states."""
        rng = np.random.default_rng(self.seed)
        error = ((self.predicted - self.wanted) ** 2).sum(axis=1)
        size = (self.wanted**2).sum(axis=1)
        rows = rng.integers(len(error), size=(BOOTSTRAPS, len(error)))
        draws = np.sqrt(error[rows].sum(axis=1) / size[rows].sum(axis=1))
        value = self.loop_error
        low, high = (float(v) for v in np.quantile(draws, [0.025, 0.975]))
        return Interval(value, min(low, value), max(high, value))


def learn(
    horizon: int,
    seed: int,
    settings: LqrSettings,
    device: str,
    progress: Advance = lambda done, total: None,
) -> LqrCell:
    """Train a policy on the regulator's demonstrations and ask it.

    Args:
        horizon: Tp.
        seed: Of demonstrations, weights, batches and samples.
        settings: How much is done.
        device: See ``compute_device``.
        progress: Called with (steps done, steps in all).
    """
    rng = np.random.default_rng([seed, horizon])
    states, actions = demonstrate(settings.demonstrations, horizon, rng)
    on = compute_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = DenoisingTransformer(
            1, states.shape[1], horizon, 1, layers=3, heads=4, width=64, dropout=0.0
        ).to(on)
        state_range, action_range = MinMax(states.shape[1]), MinMax(1)
        state_range.fit(states)
        action_range.fit(actions.reshape(-1, 1))
        conditions = state_range(_tensor(states))[:, None].to(on)  # (N, To = 1, 2)
        sequences = action_range(_tensor(actions)[..., None]).to(on)  # (N, Tp, 1)
        diffusion = Diffusion(SamplerConfig("ddim", 100))
        averaged = AveragedModel(denoiser, avg_fn=moving_average)
        optimiser = torch.optim.AdamW(denoiser.parameters(), lr=1e-3, weight_decay=1e-6)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
        for step in range(settings.steps):
            rows = torch.from_numpy(rng.integers(len(states), size=BATCH))
            loss = diffusion.loss(denoiser, sequences[rows], conditions[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            averaged.update_parameters(denoiser)
            progress(step + 1, settings.steps)
        fresh, wanted = demonstrate(TEST_STATES // LENGTH + 1, horizon, rng)
        with torch.inference_mode():
            samples = diffusion.sample(
                averaged.module.eval(),
                (len(fresh), horizon, 1),
                state_range(_tensor(fresh))[:, None].to(on),
                torch.Generator().manual_seed(seed),
            )
        predicted = action_range.back(samples.cpu())[..., 0].numpy().astype(np.float64)
    gain = -np.linalg.lstsq(fresh, predicted[:, :1], rcond=None)[0].T
    exact = regulator()
    error = float(np.linalg.norm(gain - exact) / np.linalg.norm(exact))
    return LqrCell(horizon, seed, gain, error, predicted, wanted)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def run_lqr(
    folder: Path,
    *,
    quick: bool,
    seed: int,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> Report:
    """Run the study.

    Args:
        folder: Not used: nothing of it need be taken up.
        quick: Fewer horizons, steps and seeds.
        seed: The first seed.
        device: See ``compute_device``.
        progress: Called with (steps done, steps in all).
    """
    del folder
    settings, started = QUICK if quick else FULL, time.monotonic()
    seeds = range(seed, seed + settings.seeds)
    plan = [(horizon, number) for horizon in settings.horizons for number in seeds]
    parts = [
        Part(partial(learn, horizon, number, settings, device), size=settings.steps)
        for horizon, number in plan
    ]
    alone = compute_device(device).type != "cpu"  # all would share the device
    cells = side_by_side(parts, progress, 1 if alone else None)
    exact = regulator()
    recovered = all(max(cell.gain_error, cell.loop_error) <= TOLERANCE for cell in cells)
    worst = max(cells, key=lambda cell: max(cell.gain_error, cell.loop_error))
    verdict = (
        f"Every policy recovers the gain and the closed loop within {100 * TOLERANCE:.0f} %."
        if recovered
        else f"Not every policy is within {100 * TOLERANCE:.0f} %: Tp = {worst.horizon}, seed "
        f"{worst.seed} is {100 * worst.gain_error:.1f} % off the gain and "
        f"{100 * worst.loop_error:.1f} % off the loop."
    )
    return Report(
        name="lqr",
        title="What a diffusion policy learns from a linear controller",
        summary=(
            verdict,
            f"The regulator's gain is K = {np.round(exact[0], 4).tolist()}; policies are asked "
            f"for one sample at {len(cells[0].predicted)} states that they have not seen.",
        ),
        tables=(
            Table(
                "Recovered gain and closed loop",
                ("Tp", "seed", "gain", "error of the gain, %", "error of the actions, %"),
                [
                    (
                        cell.horizon,
                        cell.seed,
                        ", ".join(f"{v:.4f}" for v in cell.gain[0]),
                        100.0 * cell.gain_error,
                        _percent(cell.loop_interval()),
                    )
                    for cell in cells
                ],
                "Gain: least squares on the first actions. Actions: relative to those of the "
                "unrolled loop, with the 95 % interval over the states.",
            ),
        ),
        plots=(_plot(cells),),
        values={
            "gain": exact.tolist(),
            "recovered": recovered,
            "cells": [
                {
                    "horizon": cell.horizon,
                    "seed": cell.seed,
                    "gain": cell.gain.tolist(),
                    "gain_error": cell.gain_error,
                    "loop_error": cell.loop_error,
                }
                for cell in cells
            ],
        },
        seeds=tuple(seeds),
        command=typed_command(),
        seconds=time.monotonic() - started,
    )


def _percent(interval: Interval) -> Interval:
    return Interval(100.0 * interval.value, 100.0 * interval.low, 100.0 * interval.high)


def _plot(cells: Sequence[LqrCell]) -> Plot:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "a study draws with matplotlib, which is not installed: pip install matplotlib"
        ) from error
    shown = {cell.horizon: cell for cell in reversed(cells)}  # the first seed of each
    figure = Figure(figsize=(4.0 * len(shown), 3.8), dpi=120, layout="constrained")
    for place, horizon in enumerate(sorted(shown), start=1):
        cell, axes = shown[horizon], figure.add_subplot(1, len(shown), place)
        wanted, predicted = cell.wanted.ravel(), cell.predicted.ravel()
        ahead = np.tile(np.arange(horizon), len(cell.wanted))
        dots = axes.scatter(wanted, predicted, c=ahead, s=4, cmap="viridis", linewidths=0)
        low, high = float(wanted.min()), float(wanted.max())
        axes.plot([low, high], [low, high], color="black", linewidth=0.8)
        axes.set_title(f"Tp = {horizon}: {100 * cell.loop_error:.1f} % off")
        axes.set_xlabel("action of the closed loop")
        if place == 1:
            axes.set_ylabel("action of the policy")
        if horizon > 1:
            figure.colorbar(dots, ax=axes, label="steps ahead")
    return Plot.of(
        "Predicted actions against the unrolled loop",
        "One sample at each unseen state; on the line it does what the regulator would do.",
        figure,
    )
