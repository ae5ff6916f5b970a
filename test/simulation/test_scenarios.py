from __future__ import annotations

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.simulation.disturbances import KINDS
from alt_ros.simulation.scenarios import (
    MAX_YAW,
    REGION,
    SCENARIOS,
    TRAINING_PLACEMENTS,
    nearest_training,
    scenario,
)
from alt_ros.simulation.scene import VIEWS, CupPlacement

POSITIONS = np.array([(p.x, p.y) for p in TRAINING_PLACEMENTS])


def test_training_placements_are_31_spread_over_the_region_four_centimetres_apart() -> None:
    distances = np.linalg.norm(POSITIONS[:, None] - POSITIONS[None], axis=2)
    assert len(POSITIONS) == 31
    assert distances[np.triu_indices(31, 1)].min() >= 0.04
    np.testing.assert_allclose(POSITIONS.min(axis=0), [low for low, _ in REGION])
    np.testing.assert_allclose(POSITIONS.max(axis=0), [high for _, high in REGION])


def test_training_yaw_covers_its_range() -> None:
    yaw = np.array([p.yaw for p in TRAINING_PLACEMENTS])
    assert np.abs(yaw).max() <= MAX_YAW
    assert yaw.min() < -0.9 * MAX_YAW
    assert yaw.max() > 0.9 * MAX_YAW


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_same_index_and_seed_give_the_same_trial(name: str) -> None:
    for index in range(40):
        assert scenario(name).trial(index, 7) == scenario(name).trial(index, 7)


def test_another_seed_gives_another_placement() -> None:
    assert scenario("ind").trial(0, 1).placement != scenario("ind").trial(0, 2).placement


def test_replaced_cup_stands_within_five_millimetres_and_five_degrees() -> None:
    offsets, turns = [], []
    for index in range(310):
        placement = scenario("ind").trial(index, 3).placement
        training = TRAINING_PLACEMENTS[index % 31]
        offsets.append(np.hypot(placement.x - training.x, placement.y - training.y))
        turns.append(np.degrees(abs(placement.yaw - training.yaw)))
    assert 0.0045 < max(offsets) <= 0.005 + 1e-12
    assert 4.5 < max(turns) <= 5.0 + 1e-9


def test_nearest_demonstration_of_a_replaced_cup_is_the_one_it_was_taken_from() -> None:
    for index in range(31):
        assert scenario("ind").trial(index).nearest == index


def test_interpolated_cup_stands_inside_the_region_and_off_every_demonstration() -> None:
    (x_low, x_high), (y_low, y_high) = REGION
    for index in range(31):
        p = scenario("interpolate").trial(index).placement
        assert x_low <= p.x <= x_high
        assert y_low <= p.y <= y_high
        assert np.linalg.norm(POSITIONS - (p.x, p.y), axis=1).min() >= 0.015


@pytest.mark.parametrize(("name", "axis"), [("extrapolate_back", 0), ("extrapolate_side", 1)])
def test_extrapolated_cup_stands_four_centimetres_or_more_beyond_every_demonstration(
    name: str, axis: int
) -> None:
    (_, x_high), (_, y_high) = REGION
    limit = (x_high, y_high)[axis]
    for index in range(40):
        p = scenario(name).trial(index).placement
        assert abs((p.x, p.y)[axis]) >= limit + 0.04


def test_extrapolation_to_the_side_takes_both_sides() -> None:
    sides = {np.sign(scenario("extrapolate_side").trial(i).placement.y) for i in range(4)}
    assert sides == {-1.0, 1.0}


def test_scenarios_named_after_a_disturbance_bring_it() -> None:
    for kind in KINDS:
        disturbance = scenario(kind).trial(0).disturbance
        assert disturbance is not None
        assert disturbance.kind == kind


def test_covered_camera_covers_every_view_in_turn() -> None:
    trials = [scenario("covered_camera").trial(i).disturbance for i in range(2)]
    assert {trial.view for trial in trials if trial} == set(VIEWS)


def test_only_what_the_demonstrations_span_is_in_distribution() -> None:
    inside = {name for name in SCENARIOS if not scenario(name).trial(0).out_of_distribution}
    assert inside == {"training", "ind", "interpolate"}


def test_nearest_training_of_a_training_placement_is_itself() -> None:
    assert [nearest_training(p) for p in TRAINING_PLACEMENTS] == list(range(31))
    assert nearest_training(CupPlacement(9.0, 9.0, 0.0)) in range(31)


def test_unknown_scenario_is_refused_with_what_exists() -> None:
    with pytest.raises(
        ConfigurationError, match="'night' does not exist: choose one of .*ind, dis"
    ):
        scenario("night")


def test_negative_index_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="index and seed must be 0 or more"):
        scenario("ind").trial(-1)


def test_training_scenario_is_the_training_placements_in_turn() -> None:
    trained = tuple(scenario("training").trial(i).placement for i in range(62))
    assert trained == TRAINING_PLACEMENTS * 2
