"""The trials a policy is put through: inside the demonstrations, between, beyond and disturbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alt_ros.errors import ConfigurationError
from alt_ros.simulation.disturbances import Disturbance
from alt_ros.simulation.scene import HOME_POSE, VIEWS, CupPlacement
from alt_ros.types import check_poses

REGION = ((0.37, 0.67), (-0.15, 0.15))
"""Where the training placements lie: (x from, to), (y from, to), metres."""
MAX_YAW = float(np.radians(40.0))
"""Largest yaw of a training placement, radians."""
REPLACEMENT_RADIUS = 0.005
"""A person puts the cup back within this distance of where it stood, metres."""
REPLACEMENT_YAW = float(np.radians(5.0))
"""And within this angle, radians."""
WRONG_START_DISTANCE = (0.06, 0.10)
"""How far off home an arm starts that starts wrong, from and to, metres."""
_TRAINING_COUNT = 31
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def _training_placements() -> tuple[CupPlacement, ...]:
    """Return placements spread by farthest-point choice on a 5 mm grid; yaw by golden ratio."""
    (x_low, x_high), (y_low, y_high) = REGION
    x, y = np.meshgrid(np.linspace(x_low, x_high, 61), np.linspace(y_low, y_high, 61))
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    chosen = [np.array([0.5 * (x_low + x_high), 0.5 * (y_low + y_high)])]
    distance = np.linalg.norm(grid - chosen[0], axis=1)
    while len(chosen) < _TRAINING_COUNT:
        chosen.append(grid[int(np.argmax(distance.round(9)))])
        distance = np.minimum(distance, np.linalg.norm(grid - chosen[-1], axis=1))
    return tuple(
        CupPlacement(
            float(round(xy[0], 4)),
            float(round(xy[1], 4)),
            float(round((2.0 * ((0.5 + i * _GOLDEN) % 1.0) - 1.0) * MAX_YAW, 4)),
        )
        for i, xy in enumerate(chosen)
    )


TRAINING_PLACEMENTS = _training_placements()
"""31 placements, one a demonstration."""


def _positions() -> np.ndarray:
    return np.array([(p.x, p.y) for p in TRAINING_PLACEMENTS])


def nearest_training(placement: CupPlacement) -> int:
    """Return the number of the training placement nearest in position."""
    offsets = _positions() - (placement.x, placement.y)
    return int(np.argmin(np.linalg.norm(offsets, axis=1)))


@dataclass(frozen=True)
class Trial:
    """One roll-out to be done.

    Attributes:
        placement: Where the cup stands.
        disturbance: What is wrong, if anything.
        nearest: Number of the training demonstration whose cup stood nearest.
        out_of_distribution: Whether a monitor should raise its flag.
        start: (7,) pose of the grasp point from which the arm starts, metres and quaternion
            xyzw; None starts at home.
        seed: Of what the simulation draws for this trial: the distractors' layout and the like.
    """

    placement: CupPlacement
    disturbance: Disturbance | None
    nearest: int
    out_of_distribution: bool
    start: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.start is not None:
            check_poses(np.array(self.start), "trial, start pose")


@dataclass(frozen=True)
class Scenario:
    """A family of trials.

    Attributes:
        name: Its key in ``SCENARIOS``.
        description: One line for a report.
        out_of_distribution: Whether a monitor should raise its flag in its trials.
    """

    name: str
    description: str
    out_of_distribution: bool
    _place: Callable[[int, np.random.Generator], CupPlacement]
    _disturb: Callable[[int], Disturbance | None]
    _start: Callable[[np.random.Generator], tuple[float, ...] | None] = lambda rng: None

    def trial(self, index: int, seed: int = 0) -> Trial:
        """Return one trial; the same index and seed give the same trial.

        Args:
            index: Number of the trial, from 0.
            seed: Of the whole evaluation.

        Raises:
            ConfigurationError: Index or seed is negative.
        """
        if index < 0 or seed < 0:
            raise ConfigurationError(
                f"scenario '{self.name}': index and seed must be 0 or more, got {index} and {seed}"
            )
        rng = np.random.default_rng((seed, index))
        placement = self._place(index, rng)
        return Trial(
            placement,
            self._disturb(index),
            nearest_training(placement),
            self.out_of_distribution,
            self._start(rng),
            int(np.random.SeedSequence((seed, index)).generate_state(1)[0]),
        )


def _trained(index: int, rng: np.random.Generator) -> CupPlacement:
    """Return a training placement as it was."""
    del rng
    return TRAINING_PLACEMENTS[index % len(TRAINING_PLACEMENTS)]


def _replaced(index: int, rng: np.random.Generator) -> CupPlacement:
    """Return a training placement, put back uniformly within 5 mm and 5 degrees."""
    training = TRAINING_PLACEMENTS[index % len(TRAINING_PLACEMENTS)]
    radius = REPLACEMENT_RADIUS * float(np.sqrt(rng.uniform()))
    direction = float(rng.uniform(-np.pi, np.pi))
    return CupPlacement(
        training.x + radius * float(np.cos(direction)),
        training.y + radius * float(np.sin(direction)),
        training.yaw + float(rng.uniform(-REPLACEMENT_YAW, REPLACEMENT_YAW)),
    )


def _between(index: int, rng: np.random.Generator) -> CupPlacement:
    """Return the middle between a training placement and one of its three nearest."""
    positions = _positions()
    first = index % len(positions)
    order = np.argsort(np.linalg.norm(positions - positions[first], axis=1), kind="stable")
    a, b = TRAINING_PLACEMENTS[first], TRAINING_PLACEMENTS[int(order[1 + rng.integers(3)])]
    return CupPlacement((a.x + b.x) / 2, (a.y + b.y) / 2, (a.yaw + b.yaw) / 2)


def _beside(index: int, rng: np.random.Generator) -> CupPlacement:
    """Return a placement 5 to 9 cm to the left or the right of the region, in turn."""
    (x_low, x_high), (_, y_high) = REGION
    side = 1.0 if index % 2 == 0 else -1.0
    return CupPlacement(
        float(rng.uniform(x_low, x_high)),
        side * (y_high + float(rng.uniform(0.05, 0.09))),
        float(rng.uniform(-MAX_YAW, MAX_YAW)),
    )


def _behind(index: int, rng: np.random.Generator) -> CupPlacement:
    """Return a placement 4 to 7 cm beyond the region's far edge."""
    del index
    (_, x_high), (y_low, y_high) = REGION
    return CupPlacement(
        x_high + float(rng.uniform(0.04, 0.07)),
        float(rng.uniform(y_low, y_high)),
        float(rng.uniform(-MAX_YAW, MAX_YAW)),
    )


def _anywhere(index: int, rng: np.random.Generator) -> CupPlacement:
    """Return a placement anywhere in the region, turned by any yaw of a training placement."""
    del index
    (x_low, x_high), (y_low, y_high) = REGION
    return CupPlacement(
        float(rng.uniform(x_low, x_high)),
        float(rng.uniform(y_low, y_high)),
        float(rng.uniform(-MAX_YAW, MAX_YAW)),
    )


def _off_home(rng: np.random.Generator) -> tuple[float, ...]:
    """Return the home pose, 6 to 10 cm to a random side."""
    distance, direction = rng.uniform(*WRONG_START_DISTANCE), rng.uniform(-np.pi, np.pi)
    offset = distance * np.array([np.cos(direction), np.sin(direction), 0.0])
    return tuple(map(float, (*(HOME_POSE[:3] + offset), *HOME_POSE[3:])))


def _always(kind: str | None) -> Callable[[int], Disturbance | None]:
    disturbance = Disturbance(kind) if kind else None
    return lambda index: disturbance


def _each_view(kind: str) -> Callable[[int], Disturbance]:
    """Disturb the views in turn."""
    return lambda index: Disturbance(kind, VIEWS[index % len(VIEWS)])


def _varied(kind: str) -> Callable[[int], Disturbance]:
    """Disturb the views in turn, every time in another way."""
    return lambda index: Disturbance(kind, VIEWS[index % len(VIEWS)], index)


_FAMILIES = (
    Scenario(
        "training", "the cup where it stood in a demonstration", False, _trained, _always(None)
    ),
    Scenario("ind", "the cup put back within 5 mm and 5 degrees", False, _replaced, _always(None)),
    Scenario(
        "distractors",
        "as ind, with coloured objects on the table",
        True,
        _replaced,
        _always("distractors"),
    ),
    Scenario(
        "interpolate", "midway between two neighbouring placements", False, _between, _always(None)
    ),
    Scenario(
        "extrapolate_side", "left or right of every demonstration", True, _beside, _always(None)
    ),
    Scenario(
        "extrapolate_back", "farther away than every demonstration", True, _behind, _always(None)
    ),
    Scenario(
        "changed_cup",
        "as ind, with a cup of another shape and colour",
        True,
        _replaced,
        _always("changed_cup"),
    ),
    Scenario(
        "covered_camera",
        "as ind, with one camera covered",
        True,
        _replaced,
        _each_view("covered_camera"),
    ),
    Scenario(
        "unrelated_image",
        "as ind, with a photograph in place of every image",
        True,
        _replaced,
        _always("unrelated_image"),
    ),
    Scenario(
        "changed_light",
        "as ind, with the lamp off, the sun in or a warm bulb",
        True,
        _replaced,
        _varied("changed_light"),
    ),
    Scenario(
        "moved_camera",
        "as ind, with one camera knocked aside",
        True,
        _replaced,
        _varied("moved_camera"),
    ),
    Scenario(
        "blurred_camera",
        "as ind, with one camera out of focus",
        True,
        _replaced,
        _each_view("blurred_camera"),
    ),
    Scenario(
        "dimmed_camera",
        "as ind, with one camera underexposed",
        True,
        _replaced,
        _each_view("dimmed_camera"),
    ),
    Scenario(
        "frozen_camera",
        "as ind, with one camera that repeats its first picture",
        True,
        _replaced,
        _each_view("frozen_camera"),
    ),
    Scenario(
        "swapped_views",
        "as ind, with the cameras' pictures under each other's names",
        True,
        _replaced,
        _always("swapped_views"),
    ),
    Scenario(
        "wrong_start",
        "as ind, with the arm 6 to 10 cm off home at the start",
        True,
        _replaced,
        _always(None),
        _off_home,
    ),
    Scenario(
        "anywhere", "the cup anywhere in the demonstrated region", False, _anywhere, _always(None)
    ),
)
SCENARIOS: dict[str, Scenario] = {family.name: family for family in _FAMILIES}


def scenario(name: str) -> Scenario:
    """Return a scenario by name.

    Raises:
        ConfigurationError: There is none of that name.
    """
    if name not in SCENARIOS:
        raise ConfigurationError(
            f"scenario '{name}' does not exist: choose one of {', '.join(SCENARIOS)}"
        )
    return SCENARIOS[name]
