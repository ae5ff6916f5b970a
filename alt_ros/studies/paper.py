"""The memorisation paper's two tables, on the simulated cup.

He et al. 2026, "Demystifying Robot Diffusion Policies", arXiv 2505.05787: the similarity S of what
a policy does to what it was trained on, in distribution and out of it; and what each method costs
beside how often it succeeds. All policies are trained on the same demonstrations and rolled out
in the same trials without a monitor, which would stop them.

- S (``audit.similarity``): of the actions that were followed, DTW over position and rotation.
- copies (``judged``): how near the chunks that were followed are to training chunks. A table
  copies by construction: here it is measured.
- recall: episodes ``ind`` whose nearest demonstration is the one whose cup stood nearest.
- time: of one answer, images in and chunk out, the encoder included, all in one run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from alt_ros.memorisation.similarity import TrainingTrajectories
from alt_ros.memorisation.trajectory_distance import Trajectory, TrajectoryDistance
from alt_ros.policies.registry import ALT, InferenceConfig
from alt_ros.progress import Advance
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.studies.costs import (
    alt_method,
    diffusion_parameters,
    milliseconds,
    trained_method,
    untrained,
)
from alt_ros.studies.cup_policies import CupPolicies, staged, training
from alt_ros.studies.judged import judge
from alt_ros.studies.paper_report import Costs, Findings, paper_report
from alt_ros.studies.parallel import Part, side_by_side
from alt_ros.studies.report import Report
from alt_ros.studies.rollouts import Rollouts, rolled_out
from alt_ros.studies.trained import ALT_STEPS, cup_store
from alt_ros.training.policy import PolicyTrainingConfig

SCENARIOS = ("ind", "distractors", "interpolate", "extrapolate_side", "extrapolate_back")
ACTION_HORIZON = 8
DDIM = "diffusion_ddim_10"
"""The diffusion policy with 10 DDIM steps, in the place of 100 DDPM steps."""


@dataclass(frozen=True)
class PaperSettings:
    """How much is done.

    Attributes:
        demonstrations: Of the 31 placements.
        trials: Episodes of each scenario.
        alt_steps: Of ALT's training.
        training: Policy to its training, in the order of the tables.
        ddim_trials: Episodes ``ind`` of the diffusion policy with 10 DDIM steps.
    """

    demonstrations: int
    trials: int
    alt_steps: int
    ddim_trials: int
    training: Mapping[str, PolicyTrainingConfig] = field(
        default_factory=dict[str, PolicyTrainingConfig]
    )


QUICK = PaperSettings(
    demonstrations=8,
    trials=2,
    alt_steps=60,
    ddim_trials=1,
    training={
        "diffusion": training(200, 32),
        "act": training(200, 32),
        "kdtree": training(1, 1),
    },
)
FULL = PaperSettings(
    demonstrations=31,
    trials=31,
    alt_steps=ALT_STEPS,
    ddim_trials=31,
    training={
        "diffusion": training(2_500, 64),
        "act": training(3_000, 64),
        "bc": training(2_000, 64),
        "vinn": training(500, 64),
        "kdtree": training(1, 1),
    },
)


def _inference(name: str) -> InferenceConfig:
    sampler, steps = ("ddim", 10) if name == DDIM else ("ddpm", 100)
    return InferenceConfig(sampler=sampler, denoising_steps=steps)


def _roll_out(
    policies: CupPolicies, name: str, scenario: str, trials: int, *, progress: Advance
) -> Rollouts:
    identity, make = policies.maker("diffusion" if name == DDIM else name, _inference(name))
    return rolled_out(
        policies.folder / "roll-outs" / f"{name}_{scenario}.npz",
        identity,
        make,
        scenario,
        trials,
        seed=policies.seed,
        action_horizon=ACTION_HORIZON,
        act_every=1 if name == ALT else ACTION_HORIZON,
        progress=progress,
    )


def _costs(policies: CupPolicies) -> Costs:
    """Time all methods, one after the other, with nothing of this study beside them."""
    store = policies.store
    ddpm, ddim = (
        replace(_inference(name), device=policies.device) for name in ("diffusion", DDIM)
    )
    methods = [alt_method(policies.bundle())]
    methods += [
        trained_method(name, policies.checkpoint(name), ddpm)
        for name in policies.training
        if name != "diffusion"
    ]
    for name, checkpoint in (
        ("diffusion", policies.checkpoint("diffusion")),
        ("diffusion_paper", untrained(store, "paper")),
    ):
        methods.append(trained_method(f"{name}_ddpm_100", checkpoint, ddpm))
        methods.append(trained_method(f"{name}_ddim_10", checkpoint, ddim))
    return Costs(
        milliseconds={method.name: milliseconds(method.policy, store) for method in methods},
        memory={method.name: method.memory for method in methods},
        parameters={method.name: method.parameters for method in methods},
        large_parameters=diffusion_parameters(store, "large"),
    )


def run_paper(
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
        quick: Fewer demonstrations, training steps and trials.
        seed: Of trainings and placements.
        device: See ``compute_device``.
        progress: Called with (seconds' worth of work done, in all), estimated.
    """
    settings, started = QUICK if quick else FULL, time.monotonic()
    policies = CupPolicies(folder, settings.alt_steps, settings.training, seed, device)
    placements = TRAINING_PLACEMENTS[: settings.demonstrations]
    trainings = policies.trainings()
    plan = [(name, s, settings.trials) for name in policies.names for s in SCENARIOS]
    plan.append((DDIM, "ind", settings.ddim_trials))
    roll_outs = [
        Part(partial(_roll_out, policies, *cell), cell[2] * (12 if cell[0] == "diffusion" else 3))
        for cell in plan
    ]
    lengths = [len(placements), *(sum(p.size for p in parts) for parts in (trainings, roll_outs))]
    stage = staged(lengths, progress)
    store = cup_store(folder / "store", placements, stage(0))
    side_by_side(trainings, stage(1), policies.workers)
    done = side_by_side(roll_outs, stage(2), policies.workers)
    rollouts = {(name, s): cell for (name, s, _), cell in zip(plan, done, strict=True)}
    demonstrated = TrainingTrajectories(
        [
            Trajectory.of_actions(np.asarray(demonstration.actions), store.layout)
            for demonstration in store
        ],
        TrajectoryDistance(),
    )
    return paper_report(
        Findings(
            quick=quick,
            seed=seed,
            names=policies.names,
            scenarios=SCENARIOS,
            layout=store.layout,
            training=demonstrated,
            rollouts=rollouts,
            judged={cell: judge(r, demonstrated, store.layout) for cell, r in rollouts.items()},
            costs=_costs(policies),
        ),
        folder,
        started,
    )
