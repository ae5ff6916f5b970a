from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import pose_distance
from alt_ros.simulation.cup_grasp import (
    HOME_POSE,
    MAX_OPENING,
    VIEWS,
    CupGraspSimulation,
    CupPlacement,
    Disturbance,
)
from alt_ros.simulation.expert import ScriptedExpert
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS, scenario


def grasp(
    simulation: CupGraspSimulation, placement: CupPlacement, believed: CupPlacement
) -> list[float]:
    """Run the expert at 100 Hz; return how far the grasp point was off each target, metres."""
    simulation.reset(placement)
    expert = ScriptedExpert(believed)
    errors = []
    while not expert.done:
        target, opening = expert.command(simulation.time, simulation.pose(), simulation.gripper())
        simulation.step(target, opening)
        errors.append(pose_distance(simulation.pose(), target)[0])
    return errors


def moved(x: float, y: float, z: float) -> np.ndarray:
    """Return the home pose, moved."""
    return np.concatenate([HOME_POSE[:3] + np.array([x, y, z]), HOME_POSE[3:]])


def shifted(placement: CupPlacement, distance: float, direction: float) -> CupPlacement:
    angle = placement.yaw + direction
    return replace(
        placement,
        x=placement.x + distance * np.cos(angle),
        y=placement.y + distance * np.sin(angle),
    )


@pytest.mark.parametrize("index", [0, 3, 7, 19])
def test_expert_lifts_the_cup_from_training_placements(
    simulation: CupGraspSimulation, index: int
) -> None:
    placement = TRAINING_PLACEMENTS[index]
    grasp(simulation, placement, placement)
    assert simulation.success()
    assert 0.10 < simulation.cup_pose()[2] < 0.13


@pytest.mark.parametrize(
    "name", ["ind", "interpolate", "extrapolate_side", "extrapolate_back", "anywhere"]
)
@pytest.mark.parametrize("index", [2, 11])
def test_expert_lifts_the_cup_of_every_scenario(
    simulation: CupGraspSimulation, name: str, index: int
) -> None:
    placement = scenario(name).trial(index, seed=5).placement
    grasp(simulation, placement, placement)
    assert simulation.success()


@pytest.mark.parametrize("direction", [0.0, 0.5 * np.pi, 1.25 * np.pi])
def test_grasp_bears_a_cup_that_stands_one_centimetre_off(
    simulation: CupGraspSimulation, direction: float
) -> None:
    placement = TRAINING_PLACEMENTS[5]
    grasp(simulation, shifted(placement, 0.010, direction), placement)
    assert simulation.success()


@pytest.mark.parametrize("direction", [0.0, 0.5 * np.pi, 1.25 * np.pi])
def test_gripper_that_closes_beside_the_cup_is_no_success(
    simulation: CupGraspSimulation, direction: float
) -> None:
    placement = TRAINING_PLACEMENTS[5]
    grasp(simulation, shifted(placement, 0.060, direction), placement)
    assert not simulation.success()


def test_cup_that_stands_untouched_is_no_success(simulation: CupGraspSimulation) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    assert not simulation.success()


def test_grasp_point_follows_the_expert_within_two_millimetres(
    simulation: CupGraspSimulation,
) -> None:
    placement = TRAINING_PLACEMENTS[8]
    assert max(grasp(simulation, placement, placement)) < 0.002


def test_target_that_jumps_is_reached_without_a_jump(simulation: CupGraspSimulation) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    target = moved(0.1, 0.1, 0.05)
    steps = []
    for _ in range(60):
        before = simulation.pose()
        simulation.step(target, MAX_OPENING)
        steps.append(pose_distance(before, simulation.pose())[0])
    assert pose_distance(simulation.pose(), target)[0] < 0.001
    assert max(steps) < 0.03


def test_target_beyond_reach_is_approached_and_the_arm_comes_back(
    simulation: CupGraspSimulation,
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    for _ in range(100):
        simulation.step(moved(1.5, 0.0, 0.0), MAX_OPENING)
    assert simulation.pose()[0] > 0.65
    for _ in range(150):
        simulation.step(HOME_POSE, MAX_OPENING)
    assert pose_distance(simulation.pose(), HOME_POSE)[0] < 0.001


def test_opening_follows_the_target_and_ends_at_the_stops(simulation: CupGraspSimulation) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    for target, expected in ((0.06, 0.06), (-1.0, 0.0), (2.0, MAX_OPENING)):
        for _ in range(100):
            simulation.step(HOME_POSE, target)
        assert simulation.gripper() == pytest.approx(expected, abs=0.001)


def test_reset_puts_arm_and_cup_where_they_belong(simulation: CupGraspSimulation) -> None:
    placement = CupPlacement(0.5, -0.1, 0.4)
    simulation.reset(placement)
    np.testing.assert_allclose(simulation.pose(), HOME_POSE, atol=1e-4)
    assert simulation.gripper() == pytest.approx(MAX_OPENING)
    np.testing.assert_allclose(
        simulation.cup_pose(), [0.5, -0.1, 0.0, 0.0, 0.0, np.sin(0.2), np.cos(0.2)]
    )


def test_arm_that_starts_elsewhere_stands_there_at_rest(simulation: CupGraspSimulation) -> None:
    start = moved(-0.06, 0.07, 0.0)
    simulation.reset(TRAINING_PLACEMENTS[6], start=start)
    np.testing.assert_allclose(simulation.pose(), start, atol=1e-4)
    for _ in range(20):
        simulation.step(start, MAX_OPENING)
        np.testing.assert_allclose(simulation.pose(), start, atol=2e-4)
    simulation.reset(TRAINING_PLACEMENTS[6])
    np.testing.assert_allclose(simulation.pose(), HOME_POSE, atol=1e-4)


def test_start_at_home_is_as_no_start(simulation: CupGraspSimulation) -> None:
    simulation.reset(TRAINING_PLACEMENTS[6], start=None)
    without = simulation.joints()
    simulation.reset(TRAINING_PLACEMENTS[6], start=tuple(HOME_POSE))
    np.testing.assert_allclose(simulation.joints(), without, atol=1e-4)


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        (moved(1.0, 0.0, 0.0), ConfigurationError, "must be within the arm's reach"),
        (np.zeros(7), DataError, "start pose: quaternion must have norm 1"),
        (np.zeros(6), DataError, r"start pose must be \(7,\)"),
    ],
)
def test_start_that_cannot_be_taken_is_refused_and_moves_nothing(
    simulation: CupGraspSimulation, start: np.ndarray, error: type[Exception], message: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    before = simulation.time, simulation.pose()
    with pytest.raises(error, match=message):
        simulation.reset(TRAINING_PLACEMENTS[1], start=start)
    assert simulation.time == before[0]
    np.testing.assert_array_equal(simulation.pose(), before[1])


@pytest.mark.parametrize("index", [0, 5, 13])
def test_expert_lifts_the_cup_from_a_wrong_start(
    simulation: CupGraspSimulation, index: int
) -> None:
    trial = scenario("wrong_start").trial(index, seed=5)
    simulation.reset(trial.placement, start=trial.start)
    expert = ScriptedExpert(trial.placement)
    while not expert.done:
        simulation.step(*expert.command(simulation.time, simulation.pose(), simulation.gripper()))
    assert simulation.success()


def test_cup_rests_on_the_table_until_it_is_touched(simulation: CupGraspSimulation) -> None:
    simulation.reset(TRAINING_PLACEMENTS[6])
    before = simulation.cup_pose()
    for _ in range(100):
        simulation.step(HOME_POSE, MAX_OPENING)
    np.testing.assert_allclose(simulation.cup_pose(), before, atol=2e-4)


def test_time_goes_on_by_one_control_period_a_step_and_never_back_over_resets(
    simulation: CupGraspSimulation,
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    stamps = [simulation.time]
    for _ in range(3):
        simulation.step(HOME_POSE, MAX_OPENING)
        stamps.append(simulation.time)
    assert np.diff(stamps).tolist() == [CupGraspSimulation.CONTROL_PERIOD] * 3
    simulation.reset(TRAINING_PLACEMENTS[1])
    assert simulation.time > stamps[-1]


def test_images_have_the_asked_size_and_show_the_cup(simulation: CupGraspSimulation) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    images = simulation.render()
    assert tuple(images) == VIEWS
    for image in images.values():
        assert image.shape == (96, 128, 3)
        assert image.dtype == np.uint8
        red, green, blue = image.astype(int).transpose(2, 0, 1)
        assert ((red > 120) & (red > 2 * green) & (red > 3 * blue)).sum() > 25  # the orange


def test_same_seed_gives_the_same_images_and_another_seed_another_layout(
    simulation: CupGraspSimulation,
) -> None:
    def run(built: CupGraspSimulation, seed: int) -> list[dict[str, np.ndarray]]:
        built.reset(TRAINING_PLACEMENTS[3], Disturbance("distractors"), seed)
        frames = [built.render()]
        for i in range(5):
            built.step(moved(0.0, -0.002 * i, 0.0), MAX_OPENING)
            frames.append(built.render())
        return frames

    first, again, other = run(simulation, 1), run(simulation, 1), run(simulation, 2)
    with CupGraspSimulation(image_size=(96, 128)) as fresh:
        anew = run(fresh, 1)
    for i in range(len(first)):
        for view in VIEWS:
            np.testing.assert_array_equal(first[i][view], again[i][view])
            np.testing.assert_array_equal(first[i][view], anew[i][view])
    assert (first[0]["third_person"] != other[0]["third_person"]).any()


@pytest.mark.parametrize(
    ("target", "opening", "message"),
    [
        (np.full(7, np.nan), 0.1, "target pose: pose must be finite"),
        (np.zeros(7), 0.1, "quaternion must have norm 1"),
        (np.zeros(6), 0.1, r"target pose must be \(7,\)"),
        (HOME_POSE, float("nan"), "target gripper must be a finite opening"),
    ],
)
def test_target_that_means_nothing_is_refused_and_moves_nothing(
    simulation: CupGraspSimulation, target: np.ndarray, opening: float, message: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    before = simulation.time
    with pytest.raises(DataError, match=message):
        simulation.step(target, opening)
    assert simulation.time == before


def test_rendering_from_a_second_thread_is_refused(simulation: CupGraspSimulation) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    simulation.render()
    caught: list[BaseException] = []

    def render() -> None:
        try:
            simulation.render()
        except ConfigurationError as error:
            caught.append(error)

    thread = threading.Thread(target=render)
    thread.start()
    thread.join()
    assert "a GL context belongs to one thread" in str(caught[0])


def test_simulation_without_rendering_steps_and_refuses_to_render() -> None:
    with CupGraspSimulation(render=False) as built:
        built.step(HOME_POSE, MAX_OPENING)
        with pytest.raises(ConfigurationError, match="build it with render=True"):
            built.render()


def test_closed_simulation_renders_again_on_demand() -> None:
    with CupGraspSimulation(image_size=(32, 32)) as built:
        before = built.render()
        built.close()
        np.testing.assert_array_equal(before["wrist"], built.render()["wrist"])


def test_image_size_out_of_bounds_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="16 to 2048 pixels"):
        CupGraspSimulation(image_size=(0, 128))


def test_negative_seed_is_refused(simulation: CupGraspSimulation) -> None:
    with pytest.raises(ConfigurationError, match="seed must be 0 or more"):
        simulation.reset(TRAINING_PLACEMENTS[0], seed=-1)
