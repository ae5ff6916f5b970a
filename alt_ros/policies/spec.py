"""What a trained policy takes and gives: the part of it that is known without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import arm_action
from alt_ros.preprocessing import resize_image
from alt_ros.types import ARM_ACTION_SIZE, ActionLayout, Observation

SIZES = ("small", "paper", "large")
SMALLEST_IMAGE = 32


@dataclass(frozen=True)
class PolicySpec:
    """Inputs and outputs of a policy that was trained from demonstrations.

    Attributes:
        policy: Which policy, a key of ``policies.registry``.
        size: "small" trains on two cores, "paper" is as published, "large" the larger published.
        views: Names of the camera views, in the network's order.
        height, width: Size of the network's input, pixels.
        arms, extra: The layout of the actions, see ``ActionLayout``.
        state_columns: Columns of ``Observation.state`` that the policy looks at.
        period: Time from one action to the next, ns.
        observation_horizon: To, observations that the policy looks at.
        prediction_horizon: Tp, actions that it predicts, from the oldest of those observations on.
        settings: The policy's own settings; JSON values.
    """

    policy: str
    size: str
    views: tuple[str, ...]
    height: int
    width: int
    arms: int
    extra: int
    period: int
    state_columns: tuple[int, ...] = ()
    observation_horizon: int = 2
    prediction_horizon: int = 16
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if isinstance(self.views, str):
            raise ConfigurationError(
                f"policy '{self.policy}': views must be a list of names, got '{self.views}'"
            )
        object.__setattr__(self, "views", tuple(self.views))
        object.__setattr__(self, "state_columns", tuple(self.state_columns))
        subject = f"policy '{self.policy}'"
        ActionLayout(self.arms, self.extra)
        if self.size not in SIZES:
            raise ConfigurationError(
                f"{subject}: size must be one of {', '.join(SIZES)}, got '{self.size}'"
            )
        if not self.views or len(set(self.views)) != len(self.views) or "" in self.views:
            raise ConfigurationError(
                f"{subject}: views must be distinct names, at least one, got {list(self.views)}"
            )
        if min(self.height, self.width) < SMALLEST_IMAGE:
            raise ConfigurationError(
                f"{subject}: images must be at least {SMALLEST_IMAGE} pixels high and wide, got "
                f"{self.width}x{self.height}"
            )
        if not 1 <= self.observation_horizon <= self.prediction_horizon:
            raise ConfigurationError(
                f"{subject}: To must be at least 1 and at most Tp, got To "
                f"{self.observation_horizon} and Tp {self.prediction_horizon}"
            )
        if self.period <= 0:
            raise ConfigurationError(f"{subject}: period must be positive, got {self.period} ns")
        if min(self.state_columns, default=0) < 0:
            raise ConfigurationError(
                f"{subject}: state columns must be 0 or more, got {list(self.state_columns)}"
            )

    @property
    def layout(self) -> ActionLayout:
        """Meaning of the action columns."""
        return ActionLayout(self.arms, self.extra)

    @property
    def state_size(self) -> int:
        """Values of the low-dimensional state that the policy is given, L."""
        return self.arms * ARM_ACTION_SIZE + len(self.state_columns)

    @property
    def chunk_size(self) -> int:
        """Actions from the newest observation on: Tp - To + 1."""
        return self.prediction_horizon - self.observation_horizon + 1

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        lists = {"views": list(self.views), "state_columns": list(self.state_columns)}
        own = {"settings": dict(self.settings)}
        return {**asdict(replace(self, settings={})), **lists, **own}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PolicySpec:
        """Return the spec that ``to_json`` gave.

        Raises:
            ConfigurationError: A field is missing, unknown, of the wrong type or out of bounds.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ConfigurationError(f"policy: unknown fields {unknown}: update alt_ros")
        try:
            return cls(**values)
        except (TypeError, DataError) as error:
            raise ConfigurationError(f"policy: {error}") from error


def check_observation(spec: PolicySpec, observation: Observation) -> None:
    """Require that an observation holds what a policy looks at.

    Raises:
        DataError: A view, an arm or a column of the state is missing.
    """
    missing = [view for view in spec.views if view not in observation.images]
    if missing:
        raise DataError(
            f"policy '{spec.policy}' needs the views {list(spec.views)}, the observation lacks "
            f"{missing}: it holds {list(observation.images)}"
        )
    if len(observation.poses) != spec.arms:
        raise DataError(
            f"policy '{spec.policy}' needs the poses of {spec.arms} arms, the observation holds "
            f"{len(observation.poses)}"
        )
    wanted = max(spec.state_columns, default=-1) + 1
    if len(observation.state) < wanted:
        raise DataError(
            f"policy '{spec.policy}' looks at the state's columns {list(spec.state_columns)}, "
            f"the observation's state has {len(observation.state)}"
        )


def low_dimensional(
    spec: PolicySpec,
    poses: NDArray[np.float64],
    grippers: NDArray[np.float64],
    state: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return the state (..., L) that a policy is given: arms as in an action row, then columns.

    Args:
        spec: Says which columns.
        poses: (..., arms, 7), metres and quaternion x, y, z, w.
        grippers: (..., arms) openings, metres.
        state: (..., S).
    """
    arms = arm_action(poses, grippers)
    return np.concatenate([arms, state[..., list(spec.state_columns)]], axis=-1).astype(np.float32)


def window_inputs(
    spec: PolicySpec, window: Sequence[Observation]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the images (To, V, 3, H, W) uint8 and the state (To, L) of a window of observations.

    The images pass through ``preprocessing.resize_image``, as those of the demonstrations do.
    """
    images = [
        [resize_image(seen.images[view], spec.height, spec.width) for view in spec.views]
        for seen in window
    ]
    state = [low_dimensional(spec, seen.poses, seen.grippers, seen.state) for seen in window]
    stacked = np.ascontiguousarray(np.array(images, np.uint8).transpose(0, 1, 4, 2, 3))
    return stacked, np.stack(state)
