import numpy as np
import pytest

from alt_ros.errors import DataError
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.recording import record_demonstration
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.simulation.scene import CupPlacement


@pytest.fixture(scope="module")
def simulation():
    with CupGraspSimulation((64, 64)) as simulation:
        yield simulation


def test_the_expert_is_recorded_every_50_ms_until_the_cup_is_lifted(simulation):
    made = record_demonstration(simulation, TRAINING_PLACEMENTS[4], "cup")
    assert made.success
    assert (np.diff(made.stamps) == 50_000_000).all()
    assert set(made.images) == {"wrist", "third_person"}
    assert made.images["wrist"].shape == (len(made), 64, 64, 3)
    lowest = int(made.poses[:, 0, 2].argmin())
    assert made.poses[-1, 0, 2] > made.poses[lowest, 0, 2] + 0.05
    # What is commanded leads what is measured, and is near it.
    assert np.linalg.norm(made.actions[:, :3] - made.poses[:, 0, :3], axis=1).max() < 0.05


def test_the_same_placement_gives_the_same_demonstration(simulation):
    one, other = (
        record_demonstration(simulation, TRAINING_PLACEMENTS[1], "cup") for _ in range(2)
    )
    np.testing.assert_allclose(one.poses, other.poses, atol=1e-9)
    assert np.array_equal(one.images["wrist"], other.images["wrist"])


def test_a_cup_out_of_reach_is_told(simulation):
    with pytest.raises(DataError, match=r"the expert did not grasp the cup at \(1.500, 0.000\)"):
        record_demonstration(simulation, CupPlacement(1.5, 0.0, 0.0), "far")


def test_two_detours_begin_with_the_same_images_and_pass_on_two_sides(simulation):
    placement = TRAINING_PLACEMENTS[7]  # straight ahead of home: y is to the left of the way
    left, right = (
        record_demonstration(simulation, placement, "cup", detour=detour)
        for detour in (0.08, -0.08)
    )
    for view in simulation.VIEWS:
        assert np.array_equal(left.images[view][0], right.images[view][0])
    assert left.poses[:, 0, 1].max() > 0.07
    assert right.poses[:, 0, 1].min() < -0.07
    np.testing.assert_allclose(left.actions[-1], right.actions[-1], atol=1e-9)
