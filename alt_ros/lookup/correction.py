"""Retrieval that corrects: the recalled motion, brought to where the arm and the goal are now.

Plain recall sends the arm where a demonstration went. Here the k demonstrations that resemble the
observation most each say which motion followed, as seen from the hand; their weighted motion is
continued from the present pose. Four things are chosen, each by itself:

- anchor: a motion is taken relative to the hand, relative to the base, or not moved at all. As a
  camera in the hand sees the same picture at every place that differs by a motion of hand and
  goal together, "hand" carries a demonstrated grasp to a place where nobody has demonstrated one.
- weights: those with which the neighbours' embeddings reconstruct the observation's best (locally
  linear embedding, Roweis and Saul 2000), never negative; or the nearest alone.
- attraction: how much of the way to the demonstrated path is regained, beside the progress along
  it (Li et al. 2025, "Geometry-aware Policy Imitation"): 0 keeps to the motion, 1 comes back.
- modes: a demonstration whose motion differs from the nearest one's is another way to do it, and
  is not averaged with it.

Each followed demonstration goes on at the pace it was recorded at, to its frame that resembles the
observation most around the one that is due: where nothing moves, time goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import arm_action, split_arm_action
from alt_ros.lookup.retrieval import Recall
from alt_ros.lookup.table import Table
from alt_ros.types import ARM_ACTION_SIZE, ActionChunk, Neighbour, Query

Array = NDArray[np.float64]

ANCHORS = ("hand", "base", "none")
WEIGHTS = ("reconstruction", "nearest")


@dataclass(frozen=True)
class CorrectionConfig:
    """How recalled motions are corrected.

    Attributes:
        anchor: "hand", "base" or "none", see the module.
        weights: "reconstruction" or "nearest".
        demonstrations: Most distinct demonstrations weighed, k.
        attraction: Share of the way to the demonstrated path that is regained within ``compared``
            actions, 0 to 1.
        compared: Actions of a motion that are compared with the nearest demonstration's.
        motion_tolerance: Mean distance of two motions of one mode, metres; the unit of a robot
            whose actions are not end-effector poses.
        gripper_tolerance: Mean distance of their openings, metres.
        ridge: Of the reconstruction, as a share of the Gram matrix's trace.
        stay_margin: Similarity that the present nearest demonstration may be worse than another
            one and still lead.
        behind, beyond: Frames before and after the due one among which the nearest is looked for.
        pace: Similarity that a frame must gain for each ``beyond`` frames off the due one.
    """

    anchor: str = "hand"
    weights: str = "reconstruction"
    demonstrations: int = 10
    attraction: float = 0.0
    compared: int = 20
    motion_tolerance: float = 0.08
    gripper_tolerance: float = 0.015
    ridge: float = 0.01
    stay_margin: float = 0.0
    behind: int = 3
    beyond: int = 8
    pace: float = 0.02

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS or self.weights not in WEIGHTS:
            raise ConfigurationError(
                f"correction: anchor must be one of {', '.join(ANCHORS)} and weights one of "
                f"{', '.join(WEIGHTS)}, got '{self.anchor}' and '{self.weights}'"
            )
        if not 0.0 <= self.attraction <= 1.0:
            raise ConfigurationError(
                f"correction: attraction must be 0 to 1, got {self.attraction}"
            )
        if min(self.demonstrations, self.compared, self.beyond) < 1 or self.behind < 0:
            raise ConfigurationError(
                "correction: demonstrations, compared and beyond must be at least 1, behind not "
                f"negative, got {self.demonstrations}, {self.compared}, {self.beyond} and "
                f"{self.behind}"
            )
        rest = (self.motion_tolerance, self.gripper_tolerance, self.stay_margin, self.pace)
        if not min(rest) >= 0.0 or not self.ridge > 0.0:
            raise ConfigurationError(
                "correction: tolerances, stay_margin and pace must not be negative, ridge "
                f"positive, got {self}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CorrectionConfig:
        """Return the config that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is unknown or out of bounds.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigurationError(f"correction: {error}") from error


class _Motion(NamedTuple):
    """What followed one row of the table, n actions; A arms."""

    shift: Array  # (n, A, 3) in the anchor's frame, metres
    turn: Array  # (n, A, 3) rotation vector in the anchor's frame
    path: Array  # (n, A, 7) as recorded
    opening: Array  # (n, A)
    others: Array  # (n, extra)


class Correction:
    """Makes the chunk of each observation of a stream from the demonstrations like it.

    Columns of robots whose actions are not end-effector poses are weighed, not re-anchored: what
    they are relative to is not known. The opening is the demonstration's with the most weight.

    Args:
        table: The demonstrations.
        config: How motions are corrected.
    """

    def __init__(self, table: Table, config: CorrectionConfig | None = None) -> None:
        self.table = table
        self.config = config or CorrectionConfig()
        goals, self._openings = split_arm_action(table.actions, table.layout.arms)
        self._goals = goals
        self._frames: dict[int, float] = {}  # of every followed demonstration
        self._leader: int | None = None
        self._stamp: int | None = None

    def reset(self) -> None:
        """Forget which demonstrations are followed: a new episode begins."""
        self._frames, self._leader, self._stamp = {}, None, None

    def chunk(
        self, query: Query, recall: Recall, horizon: int, *, standing: bool = False
    ) -> ActionChunk:
        """Return the corrected motion for one observation.

        Args:
            query: The observation, embedded.
            recall: Its nearest rows.
            horizon: Prediction horizon Tp: the most actions to give.
            standing: The robot does not follow: no progress is expected.

        Returns:
            1 to ``horizon`` actions; its source is the demonstration that leads.

        Raises:
            DataError: The motion is anchored and the query holds no pose, or of other arms.
        """
        arms = self.table.layout.arms
        if self.config.anchor != "none" and len(query.poses) != arms:
            raise DataError(
                f"correction anchored to the {self.config.anchor} needs the measured poses of "
                f"{arms} arms, got {len(query.poses)}: give the observations poses, or choose "
                "anchor none"
            )
        rows = self._lead_first(query, self._candidates(query, recall, standing))
        motions, kept = self._one_mode(rows, horizon)
        weights = self._weights(query.embedding, kept)
        self._stamp = query.stamp
        lead = int(kept[0])
        demonstration = int(self.table.demonstration[lead])
        self._leader = demonstration
        self._frames = {
            int(self.table.demonstration[row]): float(self.table.frame[row]) for row in kept
        }
        similarity = float(self.table.embeddings[lead] @ query.embedding)
        length = min(horizon, self.table.rows(demonstration).stop - lead)
        return ActionChunk(
            stamp=query.stamp,
            period=self.table.period,
            actions=self._actions(motions, weights, query.poses)[:length],
            layout=self.table.layout,
            source=Neighbour(demonstration, int(self.table.frame[lead]), similarity),
        )

    def _candidates(self, query: Query, recall: Recall, standing: bool) -> list[int]:
        """Return one row per demonstration: of those followed, and of those recalled."""
        elapsed = 0.0
        if self._stamp is not None and not standing:
            elapsed = (query.stamp - self._stamp) / self.table.period
        rows = {
            demonstration: self._nearest_due(query.embedding, demonstration, frame + elapsed)
            for demonstration, frame in self._frames.items()
        }
        for row in recall.rows.tolist():  # the best first
            rows.setdefault(int(self.table.demonstration[row]), row)
        return list(rows.values())

    def _nearest_due(self, embedding: NDArray[np.float32], demonstration: int, due: float) -> int:
        """Return the row that resembles the embedding most around the one that is due."""
        config, rows = self.config, self.table.rows(demonstration)
        last = rows.stop - rows.start - 1
        due = min(due, float(last))
        low = max(int(due) - config.behind, 0)
        frames = np.arange(low, min(int(due) + config.beyond, last) + 1)
        similarity = self.table.embeddings[rows.start + frames] @ embedding
        worth = similarity - config.pace * np.abs(frames - due) / config.beyond
        return rows.start + int(frames[worth.argmax()])

    def _lead_first(self, query: Query, rows: list[int]) -> NDArray[np.int64]:
        """Return the rows by similarity; the present leader first while it is about as good."""
        found = np.array(rows, np.int64)
        similarity = self.table.embeddings[found] @ query.embedding
        leads = self.table.demonstration[found] == (-1 if self._leader is None else self._leader)
        order = np.argsort(-(similarity + self.config.stay_margin * leads), kind="stable")
        return found[order]

    def _one_mode(
        self, rows: NDArray[np.int64], horizon: int
    ) -> tuple[list[_Motion], NDArray[np.int64]]:
        """Return motions and rows of the demonstrations that move as the first one does."""
        config = self.config
        most = 1 if config.weights == "nearest" else config.demonstrations
        length = max(horizon, config.compared)
        lead = self._motion(int(rows[0]), length)
        motions, kept = [lead], [int(rows[0])]
        for row in rows[1:].tolist():
            if len(kept) >= most:
                break
            motion = self._motion(row, length)
            if self._is_like(motion, lead):
                motions.append(motion)
                kept.append(row)
        return motions, np.array(kept, np.int64)

    def _is_like(self, motion: _Motion, lead: _Motion) -> bool:
        config, first = self.config, slice(0, self.config.compared)
        apart = [np.linalg.norm(motion.shift[first] - lead.shift[first], axis=-1)]
        if motion.others.shape[1]:
            apart.append(np.linalg.norm(motion.others[first] - lead.others[first], axis=-1))
        gripper = np.abs(motion.opening[first] - lead.opening[first])
        return max(float(a.mean()) if a.size else 0.0 for a in apart) <= (
            config.motion_tolerance
        ) and (not gripper.size or float(gripper.mean()) <= config.gripper_tolerance)

    def _motion(self, row: int, length: int) -> _Motion:
        table = self.table
        last = int(table.episode_ends[table.demonstration[row]]) - 1
        ahead = np.minimum(row + np.arange(length), last)
        path = self._goals[ahead]  # (n, A, 7)
        shift = path[..., :3] - table.poses[row, :, :3]
        turn = np.zeros_like(shift)
        for arm in range(table.layout.arms):
            hand = Rotation.from_quat(table.poses[row, arm, 3:]).inv()
            goal = Rotation.from_quat(path[:, arm, 3:])
            if self.config.anchor == "base":
                turn[:, arm] = (goal * hand).as_rotvec()
            else:
                shift[:, arm] = hand.apply(shift[:, arm])
                turn[:, arm] = (hand * goal).as_rotvec()
        others = table.actions[ahead, ARM_ACTION_SIZE * table.layout.arms :]
        return _Motion(shift, turn, path, self._openings[ahead], others)

    def _weights(self, embedding: NDArray[np.float32], rows: NDArray[np.int64]) -> Array:
        if len(rows) == 1:
            return np.ones(1)
        apart = (self.table.embeddings[rows] - embedding).astype(np.float64)
        gram = apart @ apart.T
        gram[np.diag_indices(len(rows))] += self.config.ridge * np.trace(gram) + 1e-9
        weights = np.maximum(np.linalg.solve(gram, np.ones(len(rows))), 0.0)
        return weights / weights.sum()

    def _actions(self, motions: list[_Motion], weights: Array, poses: Array) -> Array:
        def mean(parts: list[Array]) -> Array:
            return np.tensordot(weights, np.stack(parts), 1)

        shift, turn = mean([m.shift for m in motions]), mean([m.turn for m in motions])
        path = mean([m.path[..., :3] for m in motions])
        most = motions[int(weights.argmax())]
        goals = np.empty_like(most.path)
        regained = self.config.attraction * np.minimum(
            np.arange(1, len(shift) + 1) / self.config.compared, 1.0
        )
        for arm in range(goals.shape[1]):
            recorded = [Rotation.from_quat(m.path[:, arm, 3:]) for m in motions]
            off = mean([(r * recorded[0].inv()).as_rotvec() for r in recorded])
            absolute = Rotation.from_rotvec(off) * recorded[0]
            if self.config.anchor == "none":
                goals[:, arm, :3], goals[:, arm, 3:] = path[:, arm], absolute.as_quat()
                continue
            now = Rotation.from_quat(poses[arm, 3:])
            if self.config.anchor == "base":
                position = poses[arm, :3] + shift[:, arm]
                rotation = Rotation.from_rotvec(turn[:, arm]) * now
            else:
                position = poses[arm, :3] + now.apply(shift[:, arm])
                rotation = now * Rotation.from_rotvec(turn[:, arm])
            back = (absolute * rotation.inv()).as_rotvec()
            rotation = Rotation.from_rotvec(regained[:, None] * back) * rotation
            goals[:, arm, :3] = position + regained[:, None] * (path[:, arm] - position)
            goals[:, arm, 3:] = rotation.as_quat()
        actions = arm_action(goals, most.opening)
        return np.concatenate([actions, mean([m.others for m in motions])], axis=1)
