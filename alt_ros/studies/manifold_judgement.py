"""What generated samples say of a model: that it memorises, generalises or misses the curve.

Two numbers of n generated samples tell:

- ``on_manifold``: the share within ``TOLERANCE`` of the curve. True points, blurred by the noise
  of the last step, would have 0.95.
- ``nearness``: of those samples, moved onto the curve, and of fresh true points: how often the
  sample is nearer to its nearest training point than the fresh point is to its own. Samples that
  follow the curve whatever was trained on have 0.5, samples on training points nearly 1. It is the
  Mann-Whitney statistic, the area under the ROC curve; its variance is that of DeLong, DeLong,
  Clarke-Pearson (Biometrics 44, 1988).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from alt_ros.studies.curves import Curve, Points

LAST_NOISE = 0.0251
"""Standard deviation sqrt(1 - a_0) of what the last denoising step takes away."""
TOLERANCE = 1.96 * LAST_NOISE
"""A sample this near to the curve lies on it; the shapes are two units wide."""
THRESHOLD = 2.0 / 3.0
"""Of both numbers: two samples of three on the curve, odds of two to one to be nearer."""
FRESH = 2000
"""True points that no network has seen."""

MEMORISES, GENERALISES, MISSES = "memorises", "generalises", "misses"


@dataclass(frozen=True)
class Judgement:
    """The two numbers of a training, and what they say.

    Attributes:
        on_manifold: Share of the samples on the curve.
        distance: Median distance of the samples from the curve.
        nearness: Chance to be nearer to a training point than fresh points are; None where no
            sample lies on the curve.
        nearness_error: Its standard error, over samples and fresh points.
        ratio: Median distance to the nearest training point along the curve, over that of fresh
            points; None as above.
    """

    on_manifold: float
    distance: float
    nearness: float | None
    nearness_error: float | None
    ratio: float | None

    @property
    def verdict(self) -> str:
        """What the two numbers say."""
        return verdict(self.on_manifold, self.nearness)


def verdict(on_manifold: float, nearness: float | None) -> str:
    """Return what the two numbers say."""
    if on_manifold < THRESHOLD or nearness is None:
        return MISSES
    return MEMORISES if nearness > THRESHOLD else GENERALISES


def judge(
    samples: Points, training: Points, shape: Curve, generator: np.random.Generator
) -> Judgement:
    """Hold samples (n, 2) against the curve and the training points (N, 2).

    Where training points are dense, samples are farther from the curve than those are from each
    other; so samples are moved onto the curve before they are compared with fresh points.
    """
    distances, feet = shape.project(samples)
    on = distances <= TOLERANCE
    tree = KDTree(training)
    ours = np.asarray(tree.query(feet[on])[0])  # (m,)
    fresh = np.asarray(tree.query(shape.draw(FRESH, generator))[0])  # (FRESH,)
    nearness = error = ratio = None
    if on.any():
        nearness, error = _chance_below(ours, fresh)
        ratio = float(np.median(ours) / np.median(fresh))
    return Judgement(float(on.mean()), float(np.median(distances)), nearness, error, ratio)


def _chance_below(ours: Points, others: Points) -> tuple[float, float]:
    """Return the chance that one of ours is below one of the others, and its standard error."""
    beats = (ours[:, None] < others) + 0.5 * (ours[:, None] == others)  # (m, n)
    spread = [
        float(np.var(placement, ddof=1)) / len(placement) if len(placement) > 1 else 0.0
        for placement in (beats.mean(axis=1), beats.mean(axis=0))
    ]
    return float(beats.mean()), math.sqrt(sum(spread))
