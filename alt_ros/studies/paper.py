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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from alt_ros.audit.similarity import TrainingTrajectories
from alt_ros.audit.trajectory_distance import Trajectory, TrajectoryDistance
from alt_ros.bundle import Bundle
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.runtime import compute_device
from alt_ros.policies.alt import AltPolicy
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.policy import Policy
from alt_ros.policies.registry import ALT, InferenceConfig, trained_policy
from alt_ros.progress import Advance
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.studies.costs import (
    alt_method,
    diffusion_parameters,
    milliseconds,
    trained_method,
    untrained,
)
from alt_ros.studies.judged import judge
from alt_ros.studies.paper_report import Costs, Findings, paper_report
from alt_ros.studies.parallel import Part, side_by_side
from alt_ros.studies.report import Report
from alt_ros.studies.rollouts import Rollouts, rolled_out
from alt_ros.studies.trained import ALT_STEPS, alt_bundle, cup_store, trained_checkpoint
from alt_ros.training.policy import PolicyTrainingConfig, native_precision

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

    def training_seconds(self, name: str) -> int:
        """Return about how long a training takes on one core, for the bar."""
        if name == ALT:
            return 2 * self.alt_steps
        config = self.training[name]
        return config.steps * config.batch_size // 100


def _config(steps: int, batch_size: int) -> PolicyTrainingConfig:
    return PolicyTrainingConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=5e-4,
        warm_up=min(200, steps // 10),
        checkpoint_every=100,
    )


QUICK = PaperSettings(
    demonstrations=8,
    trials=2,
    alt_steps=60,
    ddim_trials=1,
    training={
        "diffusion": _config(200, 32),
        "act": _config(200, 32),
        "kdtree": _config(1, 1),
    },
)
FULL = PaperSettings(
    demonstrations=31,
    trials=31,
    alt_steps=ALT_STEPS,
    ddim_trials=31,
    training={
        "diffusion": _config(2_500, 64),
        "act": _config(3_000, 64),
        "bc": _config(2_000, 64),
        "vinn": _config(500, 64),
        "kdtree": _config(1, 1),
    },
)


@dataclass(frozen=True)
class _Setting:
    """What every part of the study is told.

    Attributes:
        folder: Where demonstrations, trainings and roll-outs are kept.
        settings: How much is done.
        seed: Of trainings and placements.
        device: See ``compute_device``.
    """

    folder: Path
    settings: PaperSettings
    seed: int
    device: str

    @property
    def store(self) -> DemonstrationStore:
        """The demonstrations, recorded already."""
        return DemonstrationStore.open(self.folder / "store")

    def inference(self, name: str) -> InferenceConfig:
        """Return how a policy answers."""
        sampler, steps = ("ddim", 10) if name == DDIM else ("ddpm", 100)
        return InferenceConfig(self.device, sampler=sampler, denoising_steps=steps)

    def bundle(self, progress: Advance = lambda done, total: None) -> Bundle:
        """Return ALT's bundle; trained unless the folder holds it."""
        return alt_bundle(
            self.folder / ALT,
            self.store,
            seed=self.seed,
            steps=self.settings.alt_steps,
            device=self.device,
            progress=progress,
        )

    def checkpoint(
        self, name: str, progress: Advance = lambda done, total: None
    ) -> PolicyCheckpoint:
        """Return a policy's checkpoint; trained unless the folder holds it."""
        name = "diffusion" if name == DDIM else name
        config = replace(
            self.settings.training[name],
            seed=self.seed,
            precision=native_precision(compute_device(self.device)),
        )
        return trained_checkpoint(
            self.folder / name, self.store, name, config, device=self.device, progress=progress
        )


def _train(setting: _Setting, name: str, *, progress: Advance) -> None:
    if name == ALT:
        setting.bundle(progress)
    else:
        setting.checkpoint(name, progress)


def _roll_out(
    setting: _Setting, name: str, scenario: str, trials: int, *, progress: Advance
) -> Rollouts:
    make: Callable[[], Policy]
    if name == ALT:
        bundle = setting.bundle()
        identity = f"{bundle.encoder_id} {bundle.retrieval.to_json()} {bundle.correction}"
        make = partial(AltPolicy, bundle)
    else:
        checkpoint, inference = setting.checkpoint(name), setting.inference(name)
        identity = f"{checkpoint.digest} {inference}"
        make = partial(trained_policy, checkpoint, inference)
    return rolled_out(
        setting.folder / "roll-outs" / f"{name}_{scenario}.npz",
        identity,
        make,
        scenario,
        trials,
        seed=setting.seed,
        action_horizon=ACTION_HORIZON,
        act_every=1 if name == ALT else ACTION_HORIZON,
        progress=progress,
    )


def _costs(setting: _Setting) -> Costs:
    """Time all methods, one after the other, with nothing of this study beside them."""
    store = setting.store
    ddpm, ddim = setting.inference("diffusion"), setting.inference(DDIM)
    methods = [alt_method(setting.bundle())]
    methods += [
        trained_method(name, setting.checkpoint(name), ddpm)
        for name in setting.settings.training
        if name != "diffusion"
    ]
    for name, checkpoint in (
        ("diffusion", setting.checkpoint("diffusion")),
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
    setting = _Setting(folder, settings, seed, device)
    workers = 1 if compute_device(device).type == "cuda" else None
    names = [ALT, *settings.training]
    placements = TRAINING_PLACEMENTS[: settings.demonstrations]
    trainings = [
        Part(partial(_train, setting, name), 1 + settings.training_seconds(name)) for name in names
    ]
    plan = [(name, scenario, settings.trials) for name in names for scenario in SCENARIOS]
    plan.append((DDIM, "ind", settings.ddim_trials))
    roll_outs = [
        Part(partial(_roll_out, setting, *cell), cell[2] * (12 if cell[0] == "diffusion" else 3))
        for cell in plan
    ]
    lengths = [len(placements), *(sum(p.size for p in parts) for parts in (trainings, roll_outs))]

    def stage(number: int) -> Advance:
        before = sum(lengths[:number])
        return lambda done, of: progress(before + lengths[number] * done // of, sum(lengths))

    store = cup_store(folder / "store", placements, stage(0))
    side_by_side(trainings, stage(1), workers)
    rollouts = {
        (name, scenario): cell
        for (name, scenario, _), cell in zip(
            plan, side_by_side(roll_outs, stage(2), workers), strict=True
        )
    }
    training = TrainingTrajectories(
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
            names=names,
            scenarios=SCENARIOS,
            layout=store.layout,
            training=training,
            rollouts=rollouts,
            judged={cell: judge(r, training, store.layout) for cell, r in rollouts.items()},
            costs=_costs(setting),
        ),
        folder,
        started,
    )
