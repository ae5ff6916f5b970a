"""How well what a policy plans now agrees with what it planned an observation ago.

Temporal consistency, as STAC measures it (Agia et al. 2024, "Unpacking Failure Modes of
Generative Policies: Runtime Monitoring of Consistency and Progress", arXiv 2410.04640): two plans
are compared over the time that both cover. The paper sums the distances over the episode; here
each observation has its own, for the monitor counts strange observations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from alt_ros.errors import DataError

Array = NDArray[np.float64]


def statistical_distance(previous: Array, present: Array, shift: float) -> float:
    """Return how far two sets of sampled action chunks are apart over the time that both cover.

    Half the energy distance, E|X - Y| - E|X - X'| / 2 - E|Y - Y'| / 2 (Székely and Rizzo 2013,
    "Energy statistics"), over all pairs of the samples; |x - y| is the root mean square over the
    shared steps of the Euclidean distance of two actions. It is 0 for equal sets, never negative,
    and the plain distance of two chunks where each set holds one. The pairs include each sample
    with itself, so that two sets of B samples of one distribution are about E|X - X'| / B apart.

    Args:
        previous: (B, n, C) samples of n actions, in the unit of the result.
        present: (B', m, C) samples planned later.
        shift: Steps between the first action of the two, 0 or more; between whole steps the
            previous actions are taken as linear.

    Returns:
        The distance in the actions' unit; NaN where the chunks share no step.

    Raises:
        DataError: The shapes do not fit each other, a set is empty, or the shift is negative.
    """
    if not (
        previous.ndim == present.ndim == 3
        and previous.shape[2] == present.shape[2] > 0
        and min(len(previous), len(present)) > 0
    ):
        raise DataError(
            "statistical distance: samples must be (B >= 1, n, C) and (B' >= 1, m, C), "
            f"got {previous.shape} and {present.shape}"
        )
    if not 0.0 <= shift < np.inf:
        raise DataError(f"statistical distance: shift must be 0 or more steps, got {shift}")
    previous = _later(previous, shift)
    steps = min(previous.shape[1], present.shape[1])
    if not steps:
        return float("nan")
    first, second = (set_[:, :steps].reshape(len(set_), -1) for set_ in (previous, present))
    within = cdist(first, first).mean() + cdist(second, second).mean()
    return float(max(cdist(first, second).mean() - within / 2.0, 0.0) / np.sqrt(steps))


def _later(samples: Array, shift: float) -> Array:
    """Return what samples (B, n, C) hold from ``shift`` steps on, linear between the steps."""
    whole = int(shift)
    part = shift - whole
    samples = samples[:, whole:]
    return samples if part == 0.0 else (1.0 - part) * samples[:, :-1] + part * samples[:, 1:]
