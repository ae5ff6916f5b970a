"""Two ways to the same cup: does a policy take one of them, and stay with it?

Every cup is demonstrated twice, with the hand swinging out to the left and to the right of the
straight way to it. At the start both demonstrations show the same images and command opposite
motions: what an image calls for has two modes, and their mean is no demonstrated motion. On the
way the wrist camera tells which side the hand is on; over the cup both ways are one again.

He et al. 2026, arXiv 2505.05787, take the best frames of the three nearest *distinct*
demonstrations for such data; ``alt_top_3`` does so here (``lookup.retrieval``), ``alt`` takes the
nearest frame. Policies see images only, no pose. Notation:

- L, R: the two demonstrated paths to the cup that stood nearest; d_L(p), d_R(p): distance of a
  followed position p to them. They are apart where d_L + d_R is ``APART`` or more.
- side: u(p) = (d_R - d_L) / (d_R + d_L), where the ways are apart: 1 on L, -1 on R, 0 midway.
- offset: where the path crosses the plane midway to the cup, scaled so that 1 is L and -1 is R. It
  names the mode: left or right beyond ``DECIDED``, else between.
- committed: once a side of more than ``DECIDED`` was taken, u never changes its sign.
- switches: from one chunk to the next whose mean side is decided, changes of that side.
- away: mean distance to the nearer path where the ways are apart; 0 is a copy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alt_ros.bundle import Bundle
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import DemonstrationStore, is_store, write_store
from alt_ros.policies.registry import ALT, InferenceConfig
from alt_ros.progress import Advance
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.recording import record_demonstration
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.studies.cup_policies import CupPolicies, staged, training
from alt_ros.studies.multimodal_report import (
    Findings,
    Fork,
    Start,
    Taken,
    multimodal_report,
    taken,
)
from alt_ros.studies.parallel import Part, side_by_side
from alt_ros.studies.report import Report
from alt_ros.studies.rollouts import Rollouts, rolled_out
from alt_ros.studies.trained import ALT_STEPS, IMAGE_SIZE
from alt_ros.training.policy import PolicyTrainingConfig

Array = NDArray[np.float64]

DETOUR = 0.08
"""How far the hand swings out, metres."""
WAYS = {"left": DETOUR, "right": -DETOUR}
ALT_TOP_3 = "alt_top_3"
TABLES = (ALT, ALT_TOP_3)
SCENARIO = "ind"
ACTION_HORIZON = 8


@dataclass(frozen=True)
class MultimodalSettings:
    """How much is done.

    Attributes:
        cups: Of the 31 placements, each demonstrated both ways.
        rounds: Episodes of each cup and policy, each with its own placement and noise.
        alt_steps: Of ALT's training.
        training: Policy to its training, in the order of the tables.
    """

    cups: int
    rounds: int
    alt_steps: int
    training: Mapping[str, PolicyTrainingConfig] = field(
        default_factory=dict[str, PolicyTrainingConfig]
    )


QUICK = MultimodalSettings(
    cups=5,
    rounds=4,
    alt_steps=60,
    training={
        "kdtree": training(1, 1),
        "vinn": training(60, 64),
        "bc": training(400, 32),
        "diffusion": training(400, 32),
    },
)
FULL = MultimodalSettings(
    cups=31,
    rounds=2,
    alt_steps=ALT_STEPS,
    training={
        "kdtree": training(1, 1),
        "vinn": training(500, 64),
        "bc": training(2_000, 64),
        "act": training(3_000, 64),
        "diffusion": training(3_500, 64),
    },
)


def forked_store(
    folder: Path, cups: int, progress: Advance = lambda done, total: None
) -> DemonstrationStore:
    """Return each cup's two demonstrations, left and right; recorded unless the folder holds them.

    Args:
        folder: Of the store.
        cups: How many of the training placements.
        progress: Called after each demonstration.
    """
    plan = [
        (f"cup_{number:02d}_{p.x:.4f}_{p.y:.4f}_{way}_{1e3 * DETOUR:.0f}_mm", p, detour)
        for number, p in enumerate(TRAINING_PLACEMENTS[:cups])
        for way, detour in WAYS.items()
    ]
    names = [name for name, _, _ in plan]
    if is_store(folder) and list(DemonstrationStore.open(folder).names) == names:
        return DemonstrationStore.open(folder)

    def recorded() -> Iterator[Demonstration]:
        with CupGraspSimulation(IMAGE_SIZE) as simulation:
            for name, placement, detour in plan:
                yield record_demonstration(simulation, placement, name, detour=detour)

    return write_store(folder, recorded(), progress=lambda done: progress(done, len(plan)))


def forks(store: DemonstrationStore) -> list[Fork]:
    """Return the two ways to each cup of ``forked_store``."""
    paths = [np.asarray(demonstration.actions)[:, :3] for demonstration in store]
    return [
        Fork(placement, left, right)
        for placement, left, right in zip(
            TRAINING_PLACEMENTS, paths[::2], paths[1::2], strict=False
        )
    ]


def _roll_out(
    policies: CupPolicies, name: str, number: int, cups: int, *, progress: Advance
) -> Rollouts:
    # Stamps are the same in every round, and what a policy draws depends on them and its seed.
    seed = policies.seed + 1000 * number
    retrieval = {"distinct_demonstrations": 3 if name == ALT_TOP_3 else 1, "seed": seed}
    identity, make = policies.maker(
        ALT if name in TABLES else name, InferenceConfig(seed=seed), retrieval
    )
    return rolled_out(
        policies.folder / "roll-outs" / f"{name}_{number}.npz",
        identity,
        make,
        SCENARIO,
        cups,
        seed=seed,
        action_horizon=ACTION_HORIZON,
        act_every=1 if name in TABLES else ACTION_HORIZON,
        progress=progress,
    )


def _start(bundle: Bundle, forked: list[Fork]) -> Start:
    """Return what the table holds at the start of the demonstrations."""
    table = bundle.table
    first = np.array([table.rows(number).start for number in range(table.demonstrations)])
    embeddings = table.embeddings[first].astype(np.float64)
    cosines = embeddings @ embeddings.T
    cup = np.arange(len(first)) // len(WAYS)
    other_way = [float(cosines[i, i + 1]) for i in range(0, len(first), len(WAYS))]
    other_cups = [float(row[cup != own].max()) for row, own in zip(cosines, cup, strict=True)]
    splits = [
        float(np.linalg.norm(fork.left[ACTION_HORIZON - 1] - fork.right[ACTION_HORIZON - 1]))
        for fork in forked
    ]
    return Start(
        same_cup=min(other_way),
        other_cup=max(other_cups, default=-1.0) if len(forked) > 1 else None,
        choice_margin=bundle.retrieval.choice_margin,
        split=float(np.median(splits)),
    )


def run_multimodal(
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
        quick: Fewer cups and training steps, no ACT.
        seed: Of trainings and placements.
        device: See ``compute_device``.
        progress: Called with (seconds' worth of work done, in all), estimated.
    """
    settings, started = QUICK if quick else FULL, time.monotonic()
    policies = CupPolicies(folder, settings.alt_steps, settings.training, seed, device)
    trainings = policies.trainings()
    names = (*TABLES, *settings.training)
    plan = [(name, number) for name in names for number in range(settings.rounds)]
    roll_outs = [
        Part(
            partial(_roll_out, policies, *cell, settings.cups),
            settings.cups * (5 if "diff" in cell[0] else 3),
        )
        for cell in plan
    ]
    lengths = [
        5 * settings.cups,
        *(sum(part.size for part in parts) for parts in (trainings, roll_outs)),
    ]
    stage = staged(lengths, progress)
    store = forked_store(folder / "store", settings.cups, stage(0))
    side_by_side(trainings, stage(1), policies.workers)
    forked = forks(store)
    followed: dict[str, list[Taken]] = {name: [] for name in names}
    success: dict[str, list[bool]] = {name: [] for name in names}
    done = side_by_side(roll_outs, stage(2), policies.workers)
    for (name, _), rollouts in zip(plan, done, strict=True):
        success[name] += map(bool, rollouts.success)
        followed[name] += [
            taken(fork, actions, chunks)
            for fork, actions, chunks in zip(
                forked, rollouts.actions, rollouts.chunks, strict=True
            )
        ]
    return multimodal_report(
        Findings(
            quick=quick,
            seed=seed,
            cups=settings.cups,
            taken=followed,
            success=success,
            demonstrated=[path for fork in forked for path in (fork.left, fork.right)],
            start=_start(policies.bundle(), forked),
        ),
        started,
    )
