"""What the study of a 2-D manifold trains, and what the paper shows of each training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from alt_ros.errors import ConfigurationError
from alt_ros.studies.curves import SHAPES
from alt_ros.studies.manifold_judgement import GENERALISES, MEMORISES, MISSES
from alt_ros.studies.manifold_training import Network

SMALL, LARGE, FEW, MANY = "small", "large", "few", "many"
EXPECTED = {
    (SMALL, FEW): MISSES,
    (SMALL, MANY): MISSES,
    (LARGE, FEW): MEMORISES,
    (LARGE, MANY): GENERALISES,
}
"""What the paper's pictures show of each network and amount of samples."""


class Cell(NamedTuple):
    """One training: a shape, ``SMALL`` or ``LARGE``, ``FEW`` or ``MANY``, and the repeat."""

    shape: str
    size: str
    amount: str
    repeat: int

    @property
    def regime(self) -> tuple[str, str]:
        """Size and amount, as ``EXPECTED`` has them."""
        return self.size, self.amount


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        small: The network of low capacity.
        large: The one of high capacity.
        few: Training points of a sparse set.
        many: Training points of a dense one.
        shapes: Names out of ``SHAPES``.
        repeats: Training sets and initial weights of each cell.
        samples: Points that each trained network generates.
    """

    small: Network
    large: Network
    few: int
    many: int
    shapes: tuple[str, ...]
    repeats: int
    samples: int

    def __post_init__(self) -> None:
        unknown = [name for name in self.shapes if name not in SHAPES]
        if unknown or not self.shapes:
            raise ConfigurationError(
                f"shapes: some of {', '.join(SHAPES)} are needed, "
                f"got {', '.join(unknown) or 'none'}"
            )
        if min(self.few, self.many, self.repeats) < 1 or self.samples < 2:
            raise ConfigurationError(
                "settings: few, many and repeats of at least 1 and two samples are needed, got "
                f"{self.few}, {self.many}, {self.repeats}, {self.samples}"
            )

    def cells(self) -> list[Cell]:
        """Return every training of the study."""
        return [
            Cell(shape, size, amount, repeat)
            for shape in self.shapes
            for repeat in range(self.repeats)
            for size, amount in EXPECTED
        ]

    def network(self, cell: Cell) -> Network:
        """Return the network of a cell."""
        return self.small if cell.size == SMALL else self.large

    def points(self, cell: Cell) -> int:
        """Return how many training points a cell has."""
        return self.few if cell.amount == FEW else self.many


QUICK = Settings(
    small=Network(width=5, depth=2, steps=2500, batch=256, learning_rate=1e-2),
    large=Network(width=96, depth=4, steps=3500, batch=256, learning_rate=5e-3),
    few=20,
    many=100_000,
    shapes=tuple(SHAPES),
    repeats=2,
    samples=1000,
)
"""For two processor cores and some minutes. The large network has 30,050 parameters, not the
paper's 9.5 M: for the same time, many steps of a narrow network fit better than few of a
wide one."""
FULL = Settings(
    small=Network(width=5, depth=2, steps=10_000, batch=256, learning_rate=1e-2),
    large=Network(width=1776, depth=4, steps=10_000, batch=256, learning_rate=5e-4),
    few=20,
    many=100_000,
    shapes=tuple(SHAPES),
    repeats=3,
    samples=2000,
)
"""For a GPU: on two processor cores a training of the large network takes hours. The paper's 9.5 M
parameters; its 146 of the small network are 142 here. Its other sparse set of 3k points is denser
than the noise of the last step is wide, so that memorising it would not show."""
