from __future__ import annotations

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.simulation.cup_grasp import VIEWS, CupGraspSimulation
from alt_ros.simulation.disturbances import (
    DISTRACTOR_CLEARANCE,
    KINDS,
    Disturbance,
    Photograph,
    distractor_positions,
)
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS

CHANGED_VIEWS = {
    "distractors": VIEWS,
    "changed_cup": VIEWS,
    "covered_camera": ("wrist",),
    "unrelated_image": VIEWS,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_disturbance_changes_the_views_it_is_about_and_no_other(
    simulation: CupGraspSimulation, kind: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    before = simulation.render()
    simulation.disturb(Disturbance(kind))
    during = simulation.render()
    for view in VIEWS:
        changed = np.abs(before[view].astype(int) - during[view]).max(axis=2) > 20
        if view in CHANGED_VIEWS[kind]:
            assert changed.mean() > 0.002
        else:
            assert not changed.any()


@pytest.mark.parametrize("kind", KINDS)
def test_switching_a_disturbance_off_gives_the_old_images_back(
    simulation: CupGraspSimulation, kind: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[4])
    before = simulation.render()
    simulation.disturb(Disturbance(kind))
    simulation.disturb(None)
    after = simulation.render()
    for view in VIEWS:
        np.testing.assert_array_equal(before[view], after[view])


@pytest.mark.parametrize("view", VIEWS)
def test_covered_camera_is_black_and_the_other_is_not(
    simulation: CupGraspSimulation, view: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[1], Disturbance("covered_camera", view))
    images = simulation.render()
    other = next(name for name in VIEWS if name != view)
    assert images[view].max() <= 12
    assert images[view].std() > 0
    assert images[other].mean() > 60


def test_noise_of_a_covered_camera_changes_from_frame_to_frame(
    simulation: CupGraspSimulation,
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[1], Disturbance("covered_camera"))
    first = simulation.render()["wrist"]
    simulation.step(simulation.pose(), 0.1)
    assert (simulation.render()["wrist"] != first).any()


def test_changed_cup_stays_where_the_cup_was(simulation: CupGraspSimulation) -> None:
    simulation.reset(TRAINING_PLACEMENTS[2])
    before = simulation.cup_pose()
    simulation.disturb(Disturbance("changed_cup"))
    np.testing.assert_array_equal(simulation.cup_pose(), before)


def test_distractors_keep_clear_of_the_cup() -> None:
    for index, placement in enumerate(TRAINING_PLACEMENTS):
        cup = np.array([placement.x, placement.y])
        layout = distractor_positions(cup, np.random.default_rng(index))
        assert min(np.linalg.norm(xy - cup) for xy in layout.values()) >= DISTRACTOR_CLEARANCE


def test_photograph_is_cut_to_size_without_distortion() -> None:
    photograph = Photograph()
    wide, square = photograph.crop((50, 100), 0.5), photograph.crop((100, 100), 0.5)
    assert wide.shape == (50, 100, 3)
    middle = square[25:75].astype(float)
    assert np.corrcoef(middle.ravel(), wide.astype(float).ravel())[0, 1] > 0.95


def test_unknown_kind_is_refused_with_what_exists() -> None:
    with pytest.raises(
        ConfigurationError, match="'fog' does not exist: choose one of distractors"
    ):
        Disturbance("fog")


def test_unknown_view_is_refused_with_what_exists() -> None:
    with pytest.raises(
        ConfigurationError, match="view 'left' does not exist: choose one of wrist"
    ):
        Disturbance("covered_camera", "left")
