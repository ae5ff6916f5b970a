from __future__ import annotations

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import pose_distance
from alt_ros.safety import SafetyLimits
from alt_ros.simulation.arm_kinematics import inverse_kinematics
from alt_ros.simulation.disturbances import KINDS, LIGHTS
from alt_ros.simulation.scenarios import (
    MAX_YAW,
    REGION,
    SCENARIOS,
    TRAINING_PLACEMENTS,
    WRONG_START_DISTANCE,
    Trial,
    nearest_training,
    scenario,
)
from alt_ros.simulation.scene import HOME_JOINTS, HOME_POSE, VIEWS, CupPlacement

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


@pytest.mark.parametrize("kind", [*KINDS, "wrong_start"])
def test_disturbed_cup_stands_where_it_stands_in_distribution(kind: str) -> None:
    for index in range(40):
        disturbed, usual = (scenario(name).trial(index, 7) for name in (kind, "ind"))
        assert (disturbed.placement, disturbed.nearest) == (usual.placement, usual.nearest)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("_camera")])
def test_disturbance_of_one_camera_takes_every_view_in_turn(kind: str) -> None:
    trials = [scenario(kind).trial(i).disturbance for i in range(4)]
    assert [trial.view for trial in trials if trial] == [*VIEWS, *VIEWS]


def test_every_light_comes_in_turn() -> None:
    trials = [scenario("changed_light").trial(i).disturbance for i in range(len(LIGHTS))]
    assert [trial.light for trial in trials if trial] == list(LIGHTS.values())


def test_arm_starts_wrong_to_every_side_within_reach_and_workspace() -> None:
    limits = SafetyLimits()
    low, high = WRONG_START_DISTANCE
    sides = set()
    for index in range(60):
        start = np.array(scenario("wrong_start").trial(index, 3).start)
        distance, angle = pose_distance(start, HOME_POSE)
        assert low <= distance <= high
        assert angle == 0.0
        assert (start[:3] > limits.workspace_low).all()
        assert (start[:3] < limits.workspace_high).all()
        assert inverse_kinematics(start, HOME_JOINTS) is not None
        sides.add(tuple(np.sign(start[:2] - HOME_POSE[:2])))
    assert len(sides) == 4


def test_arm_starts_at_home_in_every_other_scenario() -> None:
    starts = {name for name in SCENARIOS if scenario(name).trial(1).start is not None}
    assert starts == {"wrong_start"}


def test_start_that_is_no_pose_is_refused() -> None:
    with pytest.raises(DataError, match="trial, start pose: a pose has 7 values"):
        Trial(TRAINING_PLACEMENTS[0], None, 0, True, (0.5, 0.0, 0.26))


def test_cup_that_stands_anywhere_fills_the_region_and_every_yaw() -> None:
    placements = [scenario("anywhere").trial(i, 3).placement for i in range(300)]
    values = np.array([(p.x, p.y, p.yaw) for p in placements])
    bounds = np.array([*REGION, (-MAX_YAW, MAX_YAW)])
    low, high = bounds.T
    assert (values >= low).all()
    assert (values <= high).all()
    filled = np.sort((values - low) / (high - low), axis=0)  # uniform on 0 to 1
    even = np.linspace(0.0, 1.0, len(filled))[:, None]
    assert np.abs(filled - even).max() < 0.1


def test_only_what_the_demonstrations_span_is_in_distribution() -> None:
    inside = {name for name in SCENARIOS if not scenario(name).trial(0).out_of_distribution}
    assert inside == {"training", "ind", "interpolate", "anywhere"}


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


def test_every_trial_has_a_layout_of_its_own() -> None:
    trials = [SCENARIOS["distractors"].trial(index, 5) for index in range(50)]
    assert len({trial.seed for trial in trials}) == 50
    assert SCENARIOS["distractors"].trial(3, 6).seed != trials[3].seed
