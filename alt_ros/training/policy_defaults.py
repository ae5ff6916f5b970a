"""What a policy is trained with unless one says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.errors import ConfigurationError
from alt_ros.policies.registry import TRAINED
from alt_ros.policies.spec import SIZES, PolicySpec

HORIZONS = {
    "diffusion": (2, 16),
    "bc": (2, 16),
    "act": (1, 30),
    "vinn": (1, 30),
    "kdtree": (1, 30),
}
"""To and Tp. Chi et al. 2023 for the diffusion policy; ALT's horizon for the others."""
IMAGE_SIZES = {"small": (64, 64), "paper": (96, 96), "large": (96, 96)}
DRAWS = {"small": 4, "paper": 1, "large": 1}
"""Draws of the noise for each window: where encoding images is most of the work, several pay."""
LEARNING_RATES = {"small": 5e-4, "paper": 1e-4, "large": 1e-4}
STEPS = {"small": 4_000, "paper": 40_000, "large": 40_000}


def policy_spec(
    policy: str,
    store: DemonstrationStore,
    *,
    size: str = "small",
    image_size: tuple[int, int] | None = None,
    observation_horizon: int | None = None,
    prediction_horizon: int | None = None,
    state_columns: Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> PolicySpec:
    """Return the spec of a policy for the demonstrations of a store.

    Args:
        policy: One of ``registry.TRAINED``.
        store: The demonstrations.
        size: One of ``SIZES``.
        image_size: Height and width of the network's input; by size where it is None.
        observation_horizon: To; by policy where it is None.
        prediction_horizon: Tp; by policy where it is None.
        state_columns: Columns of the state that it looks at; all where it is None.
        settings: Of the policy itself.

    Raises:
        ConfigurationError: There is no such policy or size, or a value is out of bounds.
    """
    if policy not in TRAINED:
        raise ConfigurationError(
            f"policy '{policy}' is not trained here: choose one of {', '.join(TRAINED)}"
        )
    if size not in SIZES:
        raise ConfigurationError(f"size must be one of {', '.join(SIZES)}, got '{size}'")
    height, width = image_size or IMAGE_SIZES[size]
    to, tp = HORIZONS[policy]
    columns = range(store.state.shape[1]) if state_columns is None else state_columns
    own = {"draws": DRAWS[size]} if policy == "diffusion" else {}
    return PolicySpec(
        policy=policy,
        size=size,
        views=store.views,
        height=height,
        width=width,
        arms=store.layout.arms,
        extra=store.layout.extra,
        period=store.period,
        state_columns=tuple(columns),
        observation_horizon=to if observation_horizon is None else observation_horizon,
        prediction_horizon=tp if prediction_horizon is None else prediction_horizon,
        settings={**own, **(settings or {})},
    )
