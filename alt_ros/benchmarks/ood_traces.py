"""What the table was asked in roll-outs with the monitor off; scores are computed from it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

import alt_ros
from alt_ros.bundle import Bundle
from alt_ros.lookup.calibration import Calibration
from alt_ros.policies.alt import AltPolicy
from alt_ros.policies.policy import PolicyOutput
from alt_ros.progress import Advance
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.rollout import Episode, run_episode
from alt_ros.simulation.scenarios import scenario as find_scenario
from alt_ros.types import Observation, Query

PUSHED = 0.03
"""A cup that has moved this far along the table without being lifted is lost, metres."""
TILTED = 0.35
"""And one that leans by this much, radians."""
ROLL_OUT = (
    "execution.py",
    "receding_horizon.py",
    "safety.py",
    "preprocessing.py",
    "lookup/correction.py",
    "lookup/lookup.py",
    "lookup/retrieval.py",
)
"""What else of the package's code a roll-out depends on."""


@dataclass(frozen=True, eq=False)
class Trace:
    """E episodes of one scenario, one after the other; n observations in all.

    Attributes:
        stamps: (n,) int64, ns.
        embeddings: (n, D) float32.
        view_embeddings: (n, V, F) float32.
        poses: (n, arms, 7) measured.
        ends: (E,) int64, the observation after each episode's last.
        success: (E,) bool.
        failed_after: (E,) int64, observations until the cup was pushed over or away, or until the
            time was over.
    """

    stamps: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    view_embeddings: NDArray[np.float32]
    poses: NDArray[np.float64]
    ends: NDArray[np.int64]
    success: NDArray[np.bool_]
    failed_after: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def episodes(self) -> Iterator[list[Query]]:
        """Yield the queries of every episode."""
        for start, end in zip([0, *self.ends[:-1].tolist()], self.ends.tolist(), strict=True):
            yield [
                Query(
                    int(self.stamps[row]),
                    self.embeddings[row],
                    self.view_embeddings[row],
                    self.poses[row],
                )
                for row in range(start, end)
            ]


class _Unwatched(AltPolicy):
    """The policy with its monitor off, which keeps what it was asked."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, bundle.lookup(calibration=Calibration.given(-1.0)))
        self.queries: list[Query] = []

    def act(self, observation: Observation) -> PolicyOutput:
        query = self.encoder.embed(observation).query(observation)
        self.queries.append(query)
        # A view that shows nothing would raise the flag at any threshold.
        finite = replace(query, view_embeddings=np.nan_to_num(query.view_embeddings))
        return PolicyOutput(*self.lookup.step(finite))


def record(
    bundle: Bundle,
    scenario: str,
    trials: int,
    *,
    seed: int,
    image_size: tuple[int, int] = (128, 128),
    progress: Advance = lambda done, total: None,
) -> Trace:
    """Roll out a scenario without a monitor.

    Args:
        bundle: A loaded bundle.
        scenario: Its name.
        trials: Episodes.
        seed: Of the placements.
        image_size: (height, width) of the cameras, pixels.
        progress: Called after every episode.

    Raises:
        ConfigurationError: The scenario does not exist.
    """
    family = find_scenario(scenario)
    policy = _Unwatched(bundle)
    episodes, ends = [], []
    with CupGraspSimulation(image_size) as simulation:
        for trial in range(trials):
            episodes.append(run_episode(simulation, policy, family, trial, seed=seed))
            ends.append(len(policy.queries))
            progress(trial + 1, trials)
    queries = policy.queries
    return Trace(
        stamps=np.array([query.stamp for query in queries], np.int64),
        embeddings=np.stack([query.embedding for query in queries]),
        view_embeddings=np.stack([query.view_embeddings for query in queries]),
        poses=np.stack([query.poses for query in queries]),
        ends=np.array(ends, np.int64),
        success=np.array([episode.success for episode in episodes]),
        failed_after=np.array([_failed_after(episode) for episode in episodes], np.int64),
    )


def recorded(
    folder: Path,
    bundle: Bundle,
    scenario: str,
    trials: int,
    *,
    seed: int,
    progress: Advance = lambda done, total: None,
) -> Trace:
    """Return a trace from its file, or record it and keep it there.

    The file's name holds everything that it depends on, the code of a roll-out included.
    """
    path = folder / _policy_name(bundle) / f"{scenario}_{trials}_{seed}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as file:
                trace = Trace(**{field.name: file[field.name] for field in fields(Trace)})
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            path.unlink()  # damaged: made anew
        else:
            progress(trials, trials)
            return trace
    trace = record(bundle, scenario, trials, seed=seed, progress=progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **{field.name: getattr(trace, field.name) for field in fields(Trace)})
    partial.replace(path)
    return trace


@cache
def roll_out_code() -> str:
    """Return a digest of the code that a roll-out runs, but the encoder's."""
    package = Path(alt_ros.__file__).parent
    parts = [*(package / "simulation").glob("*.py"), *map(package.joinpath, ROLL_OUT)]
    digest = hashlib.sha256()
    for part in sorted(parts):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:8]


def _policy_name(bundle: Bundle) -> str:
    correction = None if bundle.correction is None else bundle.correction.to_json()
    settings = json.dumps(
        [bundle.retrieval.to_json(), correction, roll_out_code()], sort_keys=True
    )
    digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
    return f"{bundle.encoder_id}_{len(bundle.table)}_{digest}"


def _failed_after(episode: Episode) -> int:
    cup = episode.cup
    pushed = np.linalg.norm(cup[:, :2] - cup[0, :2], axis=1) > PUSHED
    upright = Rotation.from_quat(cup[:, 3:]).apply([0.0, 0.0, 1.0])[:, 2]
    lost = (pushed & (cup[:, 2] < cup[0, 2] + 0.01)) | (upright < np.cos(TILTED))
    return int(np.argmax(lost)) if lost.any() else len(cup)
