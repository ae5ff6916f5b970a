"""The memorisation paper's two tables, on the simulated cup.

He et al. 2026, "Demystifying Robot Diffusion Policies", arXiv 2505.05787: the similarity S of what
a policy does to what it was trained on, in distribution and out of it; and what each method costs
beside how often it succeeds. All policies are trained on the same demonstrations and rolled out
in the same trials without a monitor, which would stop them.

- S (``audit.similarity``): of the actions that were followed, DTW over position and rotation.
- copies: 1 - sum_c d(c, w_1(c)) / sum_c d(w_1(c), w_2(c)) over the chunks c that were followed:
  how far each is from the nearest training chunk w_1, in units of how far that one is from the
  nearest of another demonstration, w_2. A table copies by construction: here it is measured.
- recall: episodes ``ind`` whose nearest demonstration is the one whose cup stood nearest.
- time: of one answer, images in and chunk out, the encoder included, all in one run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alt_ros.audit.similarity import (
    MIN_SAMPLES,
    TrainingTrajectories,
    copy_score,
    fall_back_concentration,
)
from alt_ros.audit.similarity_picture import draw_policies, draw_similarity
from alt_ros.audit.trajectory_distance import Trajectory, TrajectoryDistance
from alt_ros.bundle import Bundle
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.policies.alt import AltPolicy
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.policy import Policy
from alt_ros.policies.registry import ALT, InferenceConfig, build_network, trained_policy
from alt_ros.progress import Advance
from alt_ros.simulation.rollout import wilson_interval
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.studies.report import Cell, Interval, Plot, Report, Table, typed_command
from alt_ros.studies.rollouts import Rollouts, rolled_out
from alt_ros.studies.trained import ALT_STEPS, alt_bundle, cup_store, trained_checkpoint
from alt_ros.training.policy import PolicyTrainingConfig
from alt_ros.training.policy_defaults import policy_spec

Array = NDArray[np.float64]

SCENARIOS = ("ind", "distractors", "interpolate", "extrapolate_side", "extrapolate_back")
ACTION_HORIZON = 8
INFERENCES = 20
BOOTSTRAPS = 2000
UNTRAINED = (
    "This is --quick: the networks are trained for a minute each, so that what they do says "
    "nothing about them; --full trains them."
)
PUBLISHED_MEMORY = 0.0085
"""The paper's memory of ALT over that of the Diffusion Policy."""


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
        "diffusion": _config(3_500, 64),
        "act": _config(3_500, 64),
        "bc": _config(3_500, 64),
        "vinn": _config(500, 64),
        "kdtree": _config(1, 1),
    },
)


@dataclass(frozen=True, eq=False)
class _Judged:
    """What the roll-outs of one policy in one scenario are worth.

    Attributes:
        similarity: (M,) S of the M <= N episodes in which the policy moved the arm at all.
        nearest: (M,) the demonstration that each is nearest to.
        copies: See the module; None where nothing was followed.
        recalled: How many are nearest to the demonstration whose cup stood nearest.
    """

    similarity: Array
    nearest: NDArray[np.int64]
    copies: float | None
    recalled: int

    @property
    def median(self) -> float | None:
        """Median S; None where the arm never moved."""
        return float(np.median(self.similarity)) if len(self.similarity) else None

    @property
    def largest(self) -> float | None:
        """Largest S; None where the arm never moved."""
        return float(self.similarity.max()) if len(self.similarity) else None


def judge(rollouts: Rollouts, training: TrainingTrajectories, layout: Any) -> _Judged:
    """Return what roll-outs are worth."""
    values: list[float] = []
    nearest: list[int] = []
    recalled = 0
    off = apart = 0.0
    for episode, actions in enumerate(rollouts.actions):
        if len(actions) < MIN_SAMPLES:
            continue  # its chunks were refused: there is no trajectory
        similarity = training.judge(Trajectory.of_actions(actions, layout))
        values.append(similarity.value)
        nearest.append(similarity.nearest)
        recalled += int(similarity.nearest == rollouts.expected[episode])
        for segment in rollouts.segments(episode):
            chunk = Trajectory.of_actions(segment, layout)
            copy = copy_score(chunk, training.trajectories, training.distance)
            others = [
                trajectory
                for number, trajectory in enumerate(training.trajectories)
                if number != copy.demonstration and len(trajectory) >= len(chunk)
            ]
            copied = _window(training.trajectories[copy.demonstration], copy.frame, len(chunk))
            off += copy.distance * len(chunk)
            apart += copy_score(copied, others, training.distance).distance * len(chunk)
    copies = 1.0 - off / apart if apart else None
    return _Judged(np.array(values), np.array(nearest, np.int64), copies, recalled)


def _window(trajectory: Trajectory, start: int, length: int) -> Trajectory:
    rows = slice(start, start + length)
    rotations = trajectory.rotations
    return Trajectory(trajectory.positions[rows], None if rotations is None else rotations[rows])


def _median(values: Array, seed: int) -> Interval | None:
    if not len(values):
        return None
    rng = np.random.default_rng(seed)
    draws = np.median(rng.choice(values, (BOOTSTRAPS, len(values))), axis=1)
    middle = float(np.median(values))
    low, high = (float(v) for v in np.quantile(draws, [0.025, 0.975]))
    return Interval(middle, min(low, middle), max(high, middle))


@dataclass(frozen=True, eq=False)
class _Method:
    """One row of the second table.

    Attributes:
        name: As in the tables.
        policy: Ready to answer.
        parameters: Numbers that it holds: weights, and the table's.
        memory: Bytes of them.
    """

    name: str
    policy: Policy
    parameters: int
    memory: int


def _alt_method(bundle: Bundle) -> _Method:
    weights = sum(p.numel() for p in MultiViewEncoder(bundle.spec).parameters())
    table = bundle.table
    arrays = (table.embeddings, table.view_embeddings, table.actions, table.poses, table.grippers)
    return _Method(
        ALT,
        AltPolicy(bundle),
        weights + sum(array.size for array in arrays),
        4 * weights + sum(array.nbytes for array in arrays) + table.embeddings.nbytes,
    )


def _method(name: str, checkpoint: PolicyCheckpoint, config: InferenceConfig) -> _Method:
    policy = trained_policy(checkpoint, config)
    return _Method(name, policy, checkpoint.parameters, checkpoint.nbytes)


def _untrained(store: DemonstrationStore, size: str) -> PolicyCheckpoint:
    """Return a diffusion policy with random weights: as quick and as large as a trained one."""
    spec = policy_spec("diffusion", store, size=size, state_columns=())
    network = build_network(spec)
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return PolicyCheckpoint(spec, arrays, {})


def _parameters(store: DemonstrationStore, size: str) -> int:
    """Return how many parameters a diffusion policy has; nothing is allocated."""
    with torch.device("meta"):
        network = build_network(policy_spec("diffusion", store, size=size, state_columns=()))
    return sum(p.numel() for p in network.parameters())


def _milliseconds(policy: Policy, store: DemonstrationStore, most: float = 20.0) -> float:
    """Return the mean time of an answer along a demonstration; fewer where ``most`` s pass."""
    demonstration = store[0]
    seen = [demonstration.observation(i) for i in range(INFERENCES + 1)]
    policy.reset()
    policy.act(seen[0])  # warms caches; not counted
    started, answered = time.perf_counter(), 0
    for observation in seen[1:]:
        policy.act(observation)
        answered += 1
        if time.perf_counter() - started > most:
            break
    return 1e3 * (time.perf_counter() - started) / answered


class _Stages:
    """One bar for stages of known lengths."""

    def __init__(self, progress: Advance, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, length: int) -> Advance:
        """Return what the next stage reports to; ``length`` of the whole is its share."""
        before = self._done
        self._done += length

        def report(done: int, of: int) -> None:
            share = length * done // max(of, 1)
            self._progress(before + share, self._total)

        self._progress(before, self._total)
        return report


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
    ddpm = InferenceConfig(device=device, sampler="ddpm", denoising_steps=100)
    ddim = InferenceConfig(device=device, sampler="ddim", denoising_steps=10)
    trainings = {name: replace(c, seed=seed) for name, c in settings.training.items()}
    cells = (1 + len(trainings)) * len(SCENARIOS) * settings.trials + settings.ddim_trials
    works = {name: c.steps * c.batch_size // 100 for name, c in trainings.items()}
    stage = _Stages(
        progress,
        2 * settings.demonstrations + settings.alt_steps + sum(works.values()) + 5 * cells,
    )
    placements = TRAINING_PLACEMENTS[: settings.demonstrations]
    store = cup_store(folder / "store", placements, stage(2 * len(placements)))
    bundle = alt_bundle(
        folder / ALT,
        store,
        seed=seed,
        steps=settings.alt_steps,
        device=device,
        progress=stage(settings.alt_steps),
    )
    checkpoints = {
        name: trained_checkpoint(
            folder / name, store, name, config, device=device, progress=stage(works[name])
        )
        for name, config in trainings.items()
    }

    actors: dict[str, Callable[[], Policy]] = {ALT: lambda: AltPolicy(bundle)}
    for name, checkpoint in checkpoints.items():
        actors[name] = lambda checkpoint=checkpoint: trained_policy(checkpoint, ddpm)
    identities = {ALT: bundle.encoder_id} | {n: c.digest for n, c in checkpoints.items()}

    def roll(name: str, scenario: str, trials: int, way: str, make: Callable[[], Policy]):
        return rolled_out(
            folder / "roll-outs" / f"{name}{way}_{scenario}.npz",
            identities[name] + way,
            make,
            scenario,
            trials,
            seed=seed,
            action_horizon=ACTION_HORIZON,
            act_every=1 if name == ALT else ACTION_HORIZON,
            progress=stage(5 * trials),
        )

    rollouts = {
        (name, scenario): roll(name, scenario, settings.trials, "", make)
        for name, make in actors.items()
        for scenario in SCENARIOS
    }
    ddim_rollouts = roll(
        "diffusion",
        "ind",
        settings.ddim_trials,
        "_ddim_10",
        lambda: trained_policy(checkpoints["diffusion"], ddim),
    )

    training = TrainingTrajectories(
        [
            Trajectory.of_actions(np.asarray(demonstration.actions), store.layout)
            for demonstration in store
        ],
        TrajectoryDistance(),
    )
    judged = {cell: judge(r, training, store.layout) for cell, r in rollouts.items()}
    ddim_judged = judge(ddim_rollouts, training, store.layout)

    methods = [_alt_method(bundle)]
    methods += [_method(n, c, ddpm) for n, c in checkpoints.items() if n != "diffusion"]
    for name, checkpoint in (
        ("diffusion", checkpoints["diffusion"]),
        ("diffusion_paper", _untrained(store, "paper")),
    ):
        methods.append(_method(f"{name}_ddpm_100", checkpoint, ddpm))
        methods.append(_method(f"{name}_ddim_10", checkpoint, ddim))
    times = {method.name: _milliseconds(method.policy, store) for method in methods}
    success = {name: rollouts[name, "ind"] for name in actors}
    recall = {name: judged[name, "ind"].recalled for name in actors}
    success["diffusion_ddpm_100"] = success.pop("diffusion")
    recall["diffusion_ddpm_100"] = recall.pop("diffusion")
    success["diffusion_ddim_10"] = ddim_rollouts
    recall["diffusion_ddim_10"] = ddim_judged.recalled

    figures: dict[str, dict[str, Any]] = {
        method.name: {
            "recall": recall.get(method.name),
            "success": int(success[method.name].success.sum()) if method.name in success else None,
            "trials": len(success[method.name]) if method.name in success else None,
            "inference_ms": times[method.name],
            "memory_bytes": method.memory,
            "parameters": method.parameters,
        }
        for method in methods
    }
    names = list(actors)
    similarity = {name: {s: judged[name, s].median for s in SCENARIOS} for name in names}
    largest = {name: {s: judged[name, s].largest for s in SCENARIOS} for name in names}
    copies = {name: {s: judged[name, s].copies for s in SCENARIOS} for name in names}
    outside = {
        name: [int(n) for s in SCENARIOS[1:] for n in judged[name, s].nearest] for name in names
    }
    concentration = {
        name: fall_back_concentration(nearest, len(store), seed=seed)
        for name, nearest in outside.items()
        if nearest
    }
    picture = folder / "similarity.png"
    moved = {
        n: {s: judged[n, s].similarity for s in SCENARIOS if len(judged[n, s].similarity)}
        for n in names
    }
    draw_policies(picture, {n: cells for n, cells in moved.items() if cells}, seed=seed)
    bars = folder / "demonstrations.png"
    subject, first = next(
        (f"{name}, {s}", actions)
        for name in ("diffusion", ALT)
        for s in SCENARIOS[1:]
        for actions in rollouts[name, s].actions
        if len(actions) >= MIN_SAMPLES
    )
    draw_similarity(bars, training.judge(Trajectory.of_actions(first, store.layout)), subject)
    slow, quick_steps = (figures[f"diffusion_paper_{s}"] for s in ("ddpm_100", "ddim_10"))
    alt_bytes = figures[ALT]["memory_bytes"]
    ratios = {
        "time_ddpm_100": slow["inference_ms"] / times[ALT],
        "time_ddim_10": quick_steps["inference_ms"] / times[ALT],
        "memory": alt_bytes / slow["memory_bytes"],
        "memory_large": alt_bytes / (4 * _parameters(store, "large")),
    }
    return Report(
        name="paper",
        title="Does it recall, and what does it cost?",
        summary=_summary(quick, figures, similarity, copies, ratios),
        tables=(
            _similarity_table(names, judged, seed),
            _per_scenario("Copied chunks: 1 is a copy", names, copies, ""),
            _per_scenario("Largest S of a roll-out, as the paper reports it", names, largest, ""),
            _success_table(names, rollouts),
            _method_table(figures),
            Table(
                "Where the roll-outs out of distribution fall back to",
                ("policy", "roll-outs", "share of one demonstration", "by chance", "of two"),
                [
                    (name, c.rollouts, c.top.value, c.top.chance, c.top_two.value)
                    for name, c in concentration.items()
                ],
                "The share of the roll-outs that are nearest to the most frequent demonstration.",
            ),
        ),
        plots=(
            Plot(
                "Similarity to the training demonstrations",
                "Median S and its 95 % interval; a cross marks the largest.",
                picture.read_bytes(),
            ),
            Plot(
                "One roll-out against every demonstration",
                "S_i = 1 - distance / mean distance of two demonstrations; 0 is that average.",
                bars.read_bytes(),
            ),
        ),
        values={
            "similarity": similarity,
            "similarity_largest": largest,
            "copies": copies,
            "methods": figures,
            "ratios": ratios,
            "fall_back": {name: c.top.value for name, c in concentration.items()},
        },
        seeds=(seed,),
        command=typed_command(),
        seconds=time.monotonic() - started,
    )


def _summary(
    quick: bool,
    figures: Mapping[str, Mapping[str, Any]],
    similarity: Mapping[str, Mapping[str, float | None]],
    copies: Mapping[str, Mapping[str, float | None]],
    ratios: Mapping[str, float],
) -> list[str]:
    alt, diffusion = figures[ALT], figures["diffusion_ddpm_100"]
    above = [
        s
        for s in ("ind", "distractors")
        if (similarity["diffusion"][s] or -np.inf) > (similarity["act"][s] or -np.inf)
    ]
    worst = min(value for value in copies[ALT].values() if value is not None)
    return [
        *([UNTRAINED] if quick else []),
        f"ALT succeeds in {alt['success']} of {alt['trials']} trials and recalls the right "
        f"demonstration in {alt['recall']}; the diffusion policy (small, 100 DDPM steps) succeeds "
        f"in {diffusion['success']} of {diffusion['trials']}.",
        f"What ALT follows is a copy of training chunks: measured, {worst:.6f} of 1 at the least. "
        f"Median S of the diffusion policy is above ACT's in {', '.join(above) or 'neither'} of "
        "ind and distractors.",
        f"ALT answers {ratios['time_ddpm_100']:.0f} times faster than the diffusion policy of the "
        f"published size with 100 steps, {ratios['time_ddim_10']:.0f} times faster than with 10, "
        f"and needs {ratios['memory']:.4f} of its memory, {ratios['memory_large']:.4f} of that of "
        f"the larger published size (published: {PUBLISHED_MEMORY}). Nearly all of it are the "
        "encoder's weights in single precision; with a byte for each it would be "
        f"{ratios['memory_large'] / 4:.4f} of the larger size.",
    ]


def _similarity_table(
    names: Sequence[str], judged: Mapping[tuple[str, str], _Judged], seed: int
) -> Table:
    rows: list[list[Cell]] = [
        [name, *(_median(judged[name, s].similarity, seed) for s in SCENARIOS)] for name in names
    ]
    return Table(
        "Similarity S to the training demonstrations",
        ("policy", *SCENARIOS),
        rows,
        "Median over the roll-outs with its 95 % bootstrap interval; 1 is a copy of one "
        "demonstration, 0 is as far from it as the next one is.",
    )


def _per_scenario(
    title: str, names: Sequence[str], values: Mapping[str, Mapping[str, float | None]], note: str
) -> Table:
    rows = [[name, *(values[name][s] for s in SCENARIOS)] for name in names]
    return Table(title, ("policy", *SCENARIOS), rows, note)


def _success_table(names: Sequence[str], rollouts: Mapping[tuple[str, str], Rollouts]) -> Table:
    def share(cell: Rollouts) -> Interval:
        done = int(cell.success.sum())
        low, high = wilson_interval(done, len(cell))
        value = done / len(cell)
        return Interval(value, min(low, value), max(high, value))

    rows: list[list[Cell]] = [
        [name, *(share(rollouts[name, s]) for s in SCENARIOS)] for name in names
    ]
    return Table(
        "Success without a monitor", ("policy", *SCENARIOS), rows, "Share, 95 % Wilson interval."
    )


def _method_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    alt = figures[ALT]
    rows: list[list[Cell]] = [
        [
            name,
            values["recall"],
            values["success"],
            values["trials"],
            values["inference_ms"],
            values["inference_ms"] / alt["inference_ms"],
            values["memory_bytes"] / 2**20,
            values["parameters"],
        ]
        for name, values in figures.items()
    ]
    columns = (
        *("method", "recall", "ind success", "trials", "ms an answer", "times ALT's"),
        *("MiB", "parameters"),
    )
    return Table(
        "Methods",
        columns,
        rows,
        "diffusion_paper is of the published size and not trained here: it is timed, not rolled "
        "out. Memory: weights, and the table with its index.",
    )
