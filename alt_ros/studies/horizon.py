"""How many actions of a chunk to follow: the action horizon Ta, swept.

A short Ta answers what was seen last, asks the policy often, and changes chunks often; a long one
follows a plan to its end, whatever happens. Each policy is rolled out in the same trials at every
Ta up to the actions that it predicts, Tp - To + 1. Two scenarios: ``ind``, and ``wrong_start``, in
which the arm starts 6 to 10 cm off, so that the first plans are wrong by that much and feedback is
needed. Inference takes no simulated time: what a slow policy loses by being asked often is not in
the success, but in the number of inferences.

- success: share of the trials, 95 % Wilson interval. Two Ta are told apart by McNemar's exact test
  on the trials that they share, at 5 % over the number of comparisons (Bonferroni).
- time to success: over the successful episodes alone, which are not the same ones for every Ta.
- jump: |p_t - 2 p_(t-1) + p_(t-2)| where p_t is the first action of a chunk and p_(t-1), p_(t-2)
  were followed just before: how far the new target is from where the motion was going. It is the
  velocity step of ``benchmarks.seams`` at 20 Hz, times the period, before the executor blends.
- inferences: chunks of which anything was followed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alt_ros.policies.registry import ALT
from alt_ros.progress import Advance
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.studies.cup_policies import CupPolicies, staged, training
from alt_ros.studies.horizon_report import Sweep, best_horizon, jumps, plot, summary, table
from alt_ros.studies.parallel import Part, side_by_side
from alt_ros.studies.report import Report, typed_command
from alt_ros.studies.rollouts import Rollouts, rolled_out
from alt_ros.studies.trained import ALT_STEPS, cup_store
from alt_ros.training.alt_bundle import PAPER_HORIZON
from alt_ros.training.policy import PolicyTrainingConfig
from alt_ros.training.policy_defaults import HORIZONS

Array = NDArray[np.float64]

SCENARIOS = ("ind", "wrong_start")


@dataclass(frozen=True)
class HorizonSettings:
    """How much is done.

    Attributes:
        demonstrations: Of the 31 placements.
        trials: Episodes of each policy, scenario and Ta.
        action_horizons: Ta; each policy's longest chunk is added, longer ones left out.
        alt_steps: Of ALT's training.
        training: Policy to its training, in the order of the tables.
    """

    demonstrations: int
    trials: int
    action_horizons: tuple[int, ...]
    alt_steps: int
    training: Mapping[str, PolicyTrainingConfig] = field(
        default_factory=dict[str, PolicyTrainingConfig]
    )

    def of(self, policy: str) -> tuple[int, ...]:
        """Return the Ta of a policy."""
        longest = chunk_size(policy)
        return tuple(sorted({*(n for n in self.action_horizons if n < longest), longest}))


QUICK = HorizonSettings(
    demonstrations=10,
    trials=10,
    action_horizons=(1, 4, 8, 16),
    alt_steps=60,
    training={"kdtree": training(1, 1)},
)
FULL = HorizonSettings(
    demonstrations=31,
    trials=31,
    action_horizons=(1, 2, 4, 8, 12, 16, 24),
    alt_steps=ALT_STEPS,
    training={
        "kdtree": training(1, 1),
        "diffusion": training(2_500, 64),
        "act": training(3_000, 64),
    },
)


def chunk_size(policy: str) -> int:
    """Return how many actions from the observation on a policy predicts."""
    to, tp = (1, PAPER_HORIZON) if policy == ALT else HORIZONS[policy]
    return tp - to + 1


def _roll_out(
    policies: CupPolicies,
    name: str,
    scenario: str,
    action_horizon: int,
    trials: int,
    *,
    progress: Advance,
) -> Rollouts:
    identity, make = policies.maker(name)
    return rolled_out(
        policies.folder / "roll-outs" / f"{name}_{scenario}_{action_horizon:02d}.npz",
        identity,
        make,
        scenario,
        trials,
        seed=policies.seed,
        action_horizon=action_horizon,
        act_every=1 if name == ALT else action_horizon,
        progress=progress,
    )


def run_horizon(
    folder: Path,
    *,
    quick: bool,
    seed: int,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> Report:
    """Run the study.

    Args:
        folder: Where demonstrations, trainings and roll-outs are kept, to be taken up again.
        quick: ALT and the k-d tree alone, fewer Ta, demonstrations and trials.
        seed: Of trainings and placements.
        device: See ``compute_device``.
        progress: Called with (seconds' worth of work done, in all), estimated.
    """
    settings, started = QUICK if quick else FULL, time.monotonic()
    policies = CupPolicies(folder, settings.alt_steps, settings.training, seed, device)
    names, trainings = policies.names, policies.trainings()
    plan = [(n, s, length) for n in names for s in SCENARIOS for length in settings.of(n)]
    roll_outs = [
        Part(
            partial(_roll_out, policies, name, scenario, length, settings.trials),
            settings.trials * (3 + (12 // length if name == "diffusion" else 0)),
        )
        for name, scenario, length in plan
    ]
    placements = TRAINING_PLACEMENTS[: settings.demonstrations]
    lengths = [
        2 * len(placements),
        *(sum(part.size for part in parts) for parts in (trainings, roll_outs)),
    ]
    stage = staged(lengths, progress)
    store = cup_store(folder / "store", placements, stage(0))
    side_by_side(trainings, stage(1), policies.workers)
    sweeps: dict[tuple[str, str], list[Sweep]] = {}
    done = side_by_side(roll_outs, stage(2), policies.workers)
    for (name, scenario, length), rollouts in zip(plan, done, strict=True):
        sweeps.setdefault((name, scenario), []).append(Sweep.of(length, rollouts))
    smooth = max(
        float(jumps(d.actions, np.arange(len(d.actions), dtype=np.int64)).max()) for d in store
    )
    return Report(
        name="horizon",
        title="How many actions of a chunk to follow",
        summary=summary(quick, sweeps),
        tables=(table(sweeps, smooth, seed),),
        plots=(plot(sweeps, smooth, seed),),
        values={
            "sweeps": {
                name: {s: [sweep.to_json() for sweep in sweeps[name, s]] for s in SCENARIOS}
                for name in names
            },
            "best": {
                name: {s: best_horizon(sweeps[name, s])[0].action_horizon for s in SCENARIOS}
                for name in names
            },
            "demonstrated_jump_mm": 1e3 * smooth,
        },
        seeds=(seed,),
        command=typed_command(),
        seconds=time.monotonic() - started,
    )
