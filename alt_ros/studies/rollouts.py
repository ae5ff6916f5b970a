"""Roll-outs of a policy in a scenario, kept in a file and taken up again."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alt_ros.benchmarks.evaluation import roll_out
from alt_ros.benchmarks.ood_traces import roll_out_code
from alt_ros.policies.policy import Policy
from alt_ros.progress import Advance
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.rollout import Episode
from alt_ros.studies.trained import IMAGE_SIZE


@dataclass(frozen=True, eq=False)
class Rollouts:
    """The episodes of one policy in one scenario.

    Attributes:
        success: (N,) bool.
        expected: (N,) demonstration whose cup stood nearest.
        actions: N arrays (m, 10): the actions that were due, one per observation.
        chunks: N arrays (m,): stamp of the chunk that each is of.
    """

    success: NDArray[np.bool_]
    expected: NDArray[np.int64]
    actions: Sequence[NDArray[np.float64]]
    chunks: Sequence[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.success)

    def segments(self, episode: int) -> list[NDArray[np.float64]]:
        """Return what was followed of each chunk of an episode, (k, 10) each."""
        stamps = self.chunks[episode]
        starts = np.flatnonzero(np.diff(stamps)) + 1
        return np.split(self.actions[episode], starts) if len(stamps) else []


def rolled_out(
    file: Path,
    identity: str,
    make_policy: Callable[[], Policy],
    scenario: str,
    trials: int,
    *,
    seed: int,
    action_horizon: int,
    act_every: int,
    progress: Advance = lambda done, total: None,
) -> Rollouts:
    """Return roll-outs without a monitor; run unless the file holds them.

    Args:
        file: An npz file.
        identity: Which policy, and how it answers: a file of another is run again, as is one
            of other code.
        make_policy: Loads the policy, where it is needed.
        scenario: Its name.
        trials: Episodes.
        seed: Of the placements.
        action_horizon: Ta.
        act_every: See ``run_episode``.
        progress: Called after each episode.
    """
    key = [identity, roll_out_code(), scenario, trials, seed, action_horizon, act_every]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    kept = _load(file, digest)
    if kept is not None:
        return kept
    with CupGraspSimulation(IMAGE_SIZE) as simulation:
        episodes = roll_out(
            simulation,
            make_policy(),
            scenario,
            range(trials),
            seed=seed,
            action_horizon=action_horizon,
            act_every=act_every,
            watched=False,
            progress=progress,
        )
    rollouts = Rollouts(
        np.array([episode.success for episode in episodes]),
        np.array([episode.expected for episode in episodes]),
        [episode.actions for episode in episodes],
        [episode.chunks for episode in episodes],
    )
    _save(file, digest, rollouts, episodes)
    return rollouts


def _save(file: Path, digest: str, rollouts: Rollouts, episodes: Sequence[Episode]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as stream:
        np.savez_compressed(
            stream,
            digest=np.array(digest),
            success=rollouts.success,
            expected=rollouts.expected,
            lengths=np.array([len(actions) for actions in rollouts.actions]),
            actions=np.concatenate([*rollouts.actions]),
            chunks=np.concatenate([*rollouts.chunks]),
            reasons=np.array([episode.reason for episode in episodes]),
        )
    partial.replace(file)


def _load(file: Path, digest: str) -> Rollouts | None:
    """Return what a file holds; None where it is missing, damaged or of other roll-outs."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            if str(arrays["digest"]) != digest:
                return None
            ends = np.cumsum(arrays["lengths"])[:-1]
            return Rollouts(
                arrays["success"],
                arrays["expected"],
                np.split(arrays["actions"], ends),
                np.split(arrays["chunks"], ends),
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
