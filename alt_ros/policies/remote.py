"""A policy that another computer serves: pi0 behind openpi's server, GR00T-N1.5 behind its own.

``remote_config`` says where the server is and how our observations and actions become its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import arm_action, quaternion_to_rot6d, rot6d_to_quaternion
from alt_ros.policies.groot_client import GrootClient
from alt_ros.policies.openpi_client import OpenpiClient
from alt_ros.policies.policy import Policy, PolicyOutput
from alt_ros.policies.remote_config import (
    FILE,
    PARTS,
    PLACES,
    ROTATIONS,
    Columns,
    RemoteConfig,
)
from alt_ros.preprocessing import resize_image
from alt_ros.types import ActionChunk, ActionLayout, Observation

Array = NDArray[np.float64]

_TO_ROTATION: dict[str, Callable[[Array], Rotation]] = {
    "quaternion_xyzw": Rotation.from_quat,
    "rotation_vector": Rotation.from_rotvec,
    "euler_xyz": lambda values: Rotation.from_euler("xyz", values),
    "rot6d": lambda values: Rotation.from_quat(rot6d_to_quaternion(values)),
}
_FROM_POSE: dict[str, Callable[[Array, float], Array]] = {
    "position": lambda pose, _: pose[:3],
    "quaternion_xyzw": lambda pose, _: pose[3:],
    "rotation_vector": lambda pose, _: Rotation.from_quat(pose[3:]).as_rotvec(),
    "euler_xyz": lambda pose, _: Rotation.from_quat(pose[3:]).as_euler("xyz"),
    "rot6d": lambda pose, _: quaternion_to_rot6d(pose[3:]),
    "gripper": lambda _, opening: np.array([opening]),
}


class _Client(Protocol):
    """What both protocols' clients do."""

    name: str

    def connect(self) -> None: ...

    def infer(self, observation: Mapping[str, NDArray[Any] | str]) -> dict[str, object]: ...

    def close(self) -> None: ...


class RemotePolicy(Policy):
    """Asks a server for the actions of each observation.

    It watches nothing: its outputs hold no decision. It keeps nothing between observations, and
    neither do the servers, so that a reset tells them nothing. A server that draws unseeded noise
    gives other actions for the same observation: that part of the contract is the server's.

    The server is connected to at the first observation, and again at the next one after a
    failure; a failure is one DataError. ``act`` waits for the answer, at most for the sum of both
    time-outs.

    Args:
        config: Where and how.

    Raises:
        ConfigurationError: The variable that should hold the server's key is not set.
        DependencyError: The protocol's libraries are not installed.
    """

    def __init__(self, config: RemoteConfig) -> None:
        self.config = config
        token = os.environ.get(config.token_variable, "") if config.token_variable else ""
        if config.token_variable and not token:
            raise ConfigurationError(
                f"token_variable names '{config.token_variable}', which must hold the server's "
                "key, and is not set: export it"
            )
        client = OpenpiClient if config.protocol == "openpi" else GrootClient
        self._client: _Client = client(
            config.host,
            config.port,
            connect_timeout=config.connect_timeout,
            request_timeout=config.request_timeout,
            token=token,
        )

    @classmethod
    def load(cls, path: Path) -> RemotePolicy:
        """Return the policy that a folder's ``remote.json`` describes."""
        return cls(RemoteConfig.load(path))

    @property
    def views(self) -> tuple[str, ...]:
        """See ``Policy.views``."""
        return tuple(self.config.views)

    @property
    def layout(self) -> ActionLayout:
        """See ``Policy.layout``."""
        return ActionLayout(self.config.arms)

    @property
    def period(self) -> int:
        """See ``Policy.period``."""
        return self.config.period

    @property
    def horizon(self) -> int:
        """See ``Policy.horizon``."""
        return self.config.horizon

    def connect(self) -> None:
        """Require that the server answers now; ``act`` connects by itself where that is left out.

        Raises:
            DataError: It does not.
        """
        self._client.connect()

    def close(self) -> None:
        """Disconnect; a later observation connects again."""
        self._client.close()

    def reset(self) -> None:
        """See ``Policy.reset``; neither side remembers anything."""

    def observe(self, observation: Observation) -> None:
        """See ``Policy.observe``; the server is not told."""
        config = self.config
        missing = [view for view in config.views if view not in observation.images]
        if missing:
            raise DataError(
                f"{self._client.name} needs the views {list(config.views)}, the observation "
                f"lacks {missing}: it holds {list(observation.images)}"
            )
        arms = [entry.arm for entry in config.state]
        arms += range(config.arms) if config.motion == "delta" else []
        if arms and max(arms) >= len(observation.poses):
            raise DataError(
                f"{self._client.name} needs the poses of {max(arms) + 1} arms, the observation "
                f"holds {len(observation.poses)}: publish them, or correct 'arm' in {FILE}"
            )

    def act(self, observation: Observation) -> PolicyOutput:
        """See ``Policy.act``.

        Raises:
            DataError: The observation lacks a view or an arm, the server does not answer in time
                or fails, or its answer is not what the configuration says.
        """
        self.observe(observation)
        answer = self._client.infer(self._message(observation))
        actions = self._actions(answer, observation)
        chunk = ActionChunk(observation.stamp, self.period, actions, self.layout)
        return PolicyOutput(chunk, None)

    def _message(self, observation: Observation) -> dict[str, NDArray[Any] | str]:
        config = self.config
        fit = _padded if config.image_fit == "pad" else resize_image
        message: dict[str, NDArray[Any] | str] = {
            key: fit(observation.images[view], *config.image_size)
            for view, key in config.views.items()
        }
        vectors: dict[str, list[Array]] = {}
        for entry in config.state:
            vectors.setdefault(entry.key, []).append(_state(entry, observation))
        for key, vector in vectors.items():
            message[key] = np.concatenate(vector).astype(np.float32)  # as the models compute
        message[config.prompt_key] = config.prompt
        return message

    def _actions(self, answer: Mapping[str, object], observation: Observation) -> Array:
        columns = self._columns(answer)
        poses: list[Array] = []
        grippers: list[Array] = []
        for arm in range(self.config.arms):
            parts = {
                part: np.stack([columns[arm, name] for name in names], axis=1)
                for part, names in PARTS.items()
                if (arm, names[0]) in columns
            }
            kind = next(part for part in ROTATIONS if part in parts)
            try:
                rotations = _TO_ROTATION[kind](parts[kind])
            except (ValueError, DataError) as error:
                raise DataError(
                    f"{self._client.name}: actions must hold rotations as {kind}: {error}"
                ) from error
            positions = parts["position"]
            if self.config.motion == "delta":
                positions, rotations = _accumulated(observation.poses[arm], positions, rotations)
            poses.append(np.concatenate([positions, rotations.as_quat()], axis=1))
            grippers.append(parts["gripper"][:, 0])
        return arm_action(np.stack(poses, axis=1), np.stack(grippers, axis=1))

    def _columns(self, answer: Mapping[str, object]) -> dict[tuple[int, str], Array]:
        """Return the values (n,) of every column, by arm and name."""
        result: dict[tuple[int, str], Array] = {}
        lengths: dict[str, int] = {}
        for key in dict.fromkeys(entry.key for entry in self.config.actions):
            entries = [entry for entry in self.config.actions if entry.key == key]
            rows = self._rows(answer, key, sum(len(entry.names) for entry in entries))
            lengths[key] = len(rows)
            start = 0
            for entry in entries:
                for name in entry.names:
                    result[entry.arm, name] = entry.scale * rows[:, start] + entry.offset
                    start += 1
        if len(set(lengths.values())) > 1:
            raise DataError(
                f"{self._client.name} must give as many actions under each key, got {lengths}: "
                "the keys are not of one chunk"
            )
        return result

    def _rows(self, answer: Mapping[str, object], key: str, width: int) -> Array:
        """Return the array (n, width) under a key."""
        value = answer.get(key)
        if not isinstance(value, np.ndarray):
            raise DataError(
                f"{self._client.name} must answer with an array '{key}', got "
                f"{type(value).__name__}, and holds {list(answer)[:20]}: correct 'actions' in "
                f"{FILE}"
            )
        rows = cast(NDArray[Any], value).astype(np.float64)
        if rows.ndim == 1 and width == 1:
            rows = rows[:, None]  # GR00T drops axes of one
        if rows.ndim != 2 or rows.shape[1] != width or not 1 <= len(rows) <= self.horizon:
            raise DataError(
                f"{self._client.name} must give '{key}' as 1 to {self.horizon} rows of {width}, "
                f"got shape {value.shape}: correct horizon or the columns in {FILE}"
            )
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            raise DataError(
                f"{self._client.name} must give finite actions, got {rows[row, column]} in row "
                f"{row}, column {column} of '{key}': see what the model was given"
            )
        return rows


def _state(entry: Columns, observation: Observation) -> Array:
    """Return what a server is told of an arm, one value a column."""
    pose = observation.poses[entry.arm]
    opening = float(observation.grippers[entry.arm])
    places = [PLACES[name] for name in entry.names]
    parts = {part: _FROM_POSE[part](pose, opening) for part in dict(places)}
    return entry.scale * np.array([parts[part][i] for part, i in places]) + entry.offset


def _accumulated(pose: Array, steps: Array, turns: Rotation) -> tuple[Array, Rotation]:
    """Return the positions (n, 3) and rotations (n) that n steps from a pose lead to."""
    rotation = Rotation.from_quat(pose[3:])
    reached: list[Rotation] = []
    for turn in turns:
        rotation = turn * rotation  # about the base's axes
        reached.append(rotation)
    return pose[:3] + np.cumsum(steps, axis=0), Rotation.concatenate(reached)


def _padded(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the image (height, width, 3), its proportions kept, in the middle of black."""
    scale = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(1, int(size * scale + 1e-9)) for size in image.shape[:2])
    top, left = (height - rows) // 2, (width - columns) // 2
    result = np.zeros((height, width, 3), np.uint8)
    result[top : top + rows, left : left + columns] = resize_image(image, rows, columns)
    return result
