"""What roll-outs are worth beside what a policy was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alt_ros.memorisation.similarity import MIN_SAMPLES, TrainingTrajectories, copy_score
from alt_ros.memorisation.trajectory_distance import Trajectory
from alt_ros.studies.rollouts import Rollouts
from alt_ros.types import ActionLayout

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judged:
    """What the roll-outs of one policy in one scenario are worth.

    Attributes:
        similarity: (M,) S of the M <= N episodes in which the policy moved the arm at all.
        nearest: (M,) the demonstration that each is nearest to.
        copies: See ``judge``; None where nothing was followed.
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


def judge(rollouts: Rollouts, training: TrainingTrajectories, layout: ActionLayout) -> Judged:
    """Return what roll-outs are worth.

    S is ``audit.similarity``'s. Copies: 1 - sum_c d(c, w_1(c)) / sum_c d(w_1(c), w_2(c)) over the
    chunks c that were followed: how far each is from the nearest training chunk w_1, in units of
    how far that one is from the nearest of another demonstration, w_2. A table copies by
    construction: here it is measured.

    Args:
        rollouts: Of one policy in one scenario.
        training: What it was trained on.
        layout: Of the actions.
    """
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
    return Judged(np.array(values), np.array(nearest, np.int64), copies, recalled)


def _window(trajectory: Trajectory, start: int, length: int) -> Trajectory:
    rows = slice(start, start + length)
    rotations = trajectory.rotations
    return Trajectory(trajectory.positions[rows], None if rotations is None else rotations[rows])
