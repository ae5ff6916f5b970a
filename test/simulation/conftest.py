from __future__ import annotations

from collections.abc import Iterator

import pytest

from alt_ros.simulation.cup_grasp import CupGraspSimulation


@pytest.fixture(scope="session")
def simulation() -> Iterator[CupGraspSimulation]:
    """One simulation for all: every test resets it."""
    with CupGraspSimulation(image_size=(96, 128)) as built:
        yield built
