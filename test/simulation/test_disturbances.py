from __future__ import annotations

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.simulation.cup_grasp import VIEWS, CupGraspSimulation
from alt_ros.simulation.disturbances import (
    DISTRACTOR_CLEARANCE,
    EXPOSURE,
    KINDS,
    KNOCKS,
    LIGHTS,
    Disturbance,
    Light,
    Photograph,
    blurred_image,
    distractor_positions,
    exposed_image,
    knocked_camera,
)
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.simulation.scene import HOME_POSE, MAX_OPENING

Images = dict[str, np.ndarray]

CHANGED_VIEWS = {
    "distractors": VIEWS,
    "changed_cup": VIEWS,
    "unrelated_image": VIEWS,
    "changed_light": VIEWS,
    "swapped_views": VIEWS,
}
"""Of the kinds that are not about one camera."""
ONE_CAMERA = tuple(kind for kind in KINDS if kind.endswith("_camera"))


def approach(simulation: CupGraspSimulation, steps: int = 30) -> Images:
    """Move the arm down from home; return what is seen then."""
    target = HOME_POSE - np.array([0.0, 0.0, 0.06, 0.0, 0.0, 0.0, 0.0])
    for _ in range(steps):
        simulation.step(target, MAX_OPENING)
    return simulation.render()


def other(view: str) -> str:
    return next(name for name in VIEWS if name != view)


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of the pixels that are clearly another colour."""
    return float((np.abs(before.astype(int) - after).max(axis=2) > 20).mean())


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_disturbance_changes_the_views_it_is_about_and_no_other(
    simulation: CupGraspSimulation, kind: str, view: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    usual = approach(simulation)
    simulation.reset(TRAINING_PLACEMENTS[0], Disturbance(kind, view))
    simulation.render()
    during = approach(simulation)
    concerned = (view,) if kind in ONE_CAMERA else CHANGED_VIEWS[kind]
    for name in VIEWS:
        if name in concerned:
            assert changed(usual[name], during[name]) > 0.002
        else:
            assert changed(usual[name], during[name]) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_switching_a_disturbance_off_gives_the_old_images_back(
    simulation: CupGraspSimulation, kind: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[4])
    before = simulation.render()
    simulation.disturb(Disturbance(kind))
    simulation.render()
    simulation.disturb(None)
    after = simulation.render()
    for view in VIEWS:
        np.testing.assert_array_equal(before[view], after[view])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", KINDS)
def test_reset_takes_every_trace_of_a_disturbance_back(
    simulation: CupGraspSimulation, kind: str, view: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[4])
    before = [simulation.render(), approach(simulation)]
    simulation.reset(TRAINING_PLACEMENTS[9], Disturbance(kind, view, 2), seed=3)
    simulation.render()
    simulation.reset(TRAINING_PLACEMENTS[4])
    after = [simulation.render(), approach(simulation)]
    for old, new in zip(before, after, strict=True):
        for name in VIEWS:
            np.testing.assert_array_equal(old[name], new[name])


@pytest.mark.parametrize("kind", KINDS)
def test_same_disturbance_and_seed_give_the_same_images(
    simulation: CupGraspSimulation, kind: str
) -> None:
    def run() -> Images:
        simulation.reset(TRAINING_PLACEMENTS[7], Disturbance(kind, "third_person", 1), seed=2)
        simulation.render()
        return approach(simulation, steps=5)

    first, again = run(), run()
    for view in VIEWS:
        np.testing.assert_array_equal(first[view], again[view])


@pytest.mark.parametrize("view", VIEWS)
def test_covered_camera_is_black_and_the_other_is_not(
    simulation: CupGraspSimulation, view: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[1], Disturbance("covered_camera", view))
    images = simulation.render()
    assert images[view].max() <= 12
    assert images[view].std() > 0
    assert images[other(view)].mean() > 60


def test_noise_of_a_covered_camera_changes_from_frame_to_frame(
    simulation: CupGraspSimulation,
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[1], Disturbance("covered_camera"))
    first = simulation.render()["wrist"]
    simulation.step(simulation.pose(), 0.1)
    assert (simulation.render()["wrist"] != first).any()


@pytest.mark.parametrize(("variant", "light"), [*enumerate(LIGHTS)])
def test_light_is_clearly_another_and_leaves_the_scene_to_be_seen(
    simulation: CupGraspSimulation, variant: int, light: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[0])
    usual = simulation.render()
    simulation.disturb(Disturbance("changed_light", variant=variant))
    images = simulation.render()
    for view in VIEWS:
        old, new = (image.mean(axis=(0, 1)) for image in (usual[view], images[view]))
        ratio = new / old  # of red, green and blue
        assert changed(usual[view], images[view]) > 0.3
        assert images[view].std() > 0.4 * usual[view].std()
        if light == "lamp off":
            assert (ratio < 0.75).all()
        elif light == "sun":
            assert (ratio > 1.15).all()
        else:
            assert ratio[0] - ratio[2] > 0.25, "red stays, blue goes"


def test_lights_come_in_turn() -> None:
    lights = [Disturbance("changed_light", variant=i).light for i in range(2 * len(LIGHTS))]
    assert lights == 2 * list(LIGHTS.values())
    assert Disturbance("moved_camera").light is None


@pytest.mark.parametrize("view", VIEWS)
def test_knocked_camera_goes_as_far_and_turns_as_much_as_is_said(view: str) -> None:
    position, upright = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 0.0, 0.0])
    seen = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        moved, turned = knocked_camera(position, upright, view, rng)
        distance, angle = KNOCKS[view]
        assert np.linalg.norm(moved - position) == pytest.approx(distance)
        assert 2 * np.arccos(abs(turned @ upright)) == pytest.approx(angle)
        seen.add(tuple(moved.round(6)))
    assert len(seen) == 20


@pytest.mark.parametrize("view", VIEWS)
def test_knock_stays_the_same_in_a_trial_and_is_another_in_the_next(
    simulation: CupGraspSimulation, view: str
) -> None:
    images = []
    for variant, seed in ((0, 0), (0, 0), (1, 0), (0, 1)):
        simulation.reset(TRAINING_PLACEMENTS[0], Disturbance("moved_camera", view, variant), seed)
        images.append(simulation.render()[view])
    assert changed(images[0], images[1]) == 0.0
    assert min(changed(images[0], image) for image in images[2:]) > 0.01


@pytest.mark.parametrize("height", [48, 128])
def test_blur_takes_the_edges_and_keeps_the_colours_at_every_size(height: int) -> None:
    image = np.zeros((height, height, 3), np.uint8)
    image[:, height // 2 :] = (200, 100, 50)
    blurred = blurred_image(image)
    steps = np.diff(blurred[height // 2, :, 0].astype(int))
    assert steps.max() < 60, "the edge of 200 is spread over several pixels"
    np.testing.assert_array_equal(blurred[:, 0], image[:, 0])
    np.testing.assert_array_equal(blurred[:, -1], image[:, -1])


@pytest.mark.parametrize("view", VIEWS)
def test_blurred_camera_shows_what_the_camera_sees(
    simulation: CupGraspSimulation, view: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[1])
    usual = simulation.render()
    simulation.disturb(Disturbance("blurred_camera", view))
    np.testing.assert_array_equal(simulation.render()[view], blurred_image(usual[view]))


@pytest.mark.parametrize("view", VIEWS)
def test_dimmed_camera_gives_a_third_of_the_light(
    simulation: CupGraspSimulation, view: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[1])
    usual = simulation.render()
    simulation.disturb(Disturbance("dimmed_camera", view))
    dimmed = simulation.render()[view]
    assert np.abs(dimmed - EXPOSURE * usual[view]).max() <= 1.0


def test_overexposed_image_ends_at_white() -> None:
    image = np.array([[[0, 100, 250]]], np.uint8)
    assert exposed_image(image, 1.5).tolist() == [[[0, 150, 255]]]


@pytest.mark.parametrize("view", VIEWS)
def test_frozen_camera_repeats_the_picture_of_the_start_and_the_other_goes_on(
    simulation: CupGraspSimulation, view: str
) -> None:
    simulation.reset(TRAINING_PLACEMENTS[1])
    start = simulation.render()
    approach(simulation)
    simulation.disturb(Disturbance("frozen_camera", view))
    first = simulation.render()
    kept = first[view].copy()
    first[view][:] = 0  # a caller may do what it likes with its images
    later = [approach(simulation, steps=10) for _ in range(3)]
    assert changed(start[view], kept) > 0.002, "it froze when the disturbance began"
    for images in later:
        np.testing.assert_array_equal(images[view], kept)
    still, goes_on = later[-1][other(view)], first[other(view)]
    assert (still != goes_on).any()


def test_camera_that_freezes_again_freezes_anew(simulation: CupGraspSimulation) -> None:
    frozen = Disturbance("frozen_camera", "wrist")
    simulation.reset(TRAINING_PLACEMENTS[1], frozen)
    old = simulation.render()["wrist"]
    approach(simulation)
    simulation.disturb(None)
    moved = simulation.render()["wrist"]
    simulation.disturb(frozen)
    np.testing.assert_array_equal(simulation.render()["wrist"], moved)
    assert changed(old, moved) > 0.002


def test_swapped_views_come_under_each_others_names(simulation: CupGraspSimulation) -> None:
    simulation.reset(TRAINING_PLACEMENTS[1])
    usual = simulation.render()
    simulation.disturb(Disturbance("swapped_views"))
    swapped = simulation.render()
    assert tuple(swapped) == VIEWS
    for view in VIEWS:
        np.testing.assert_array_equal(swapped[view], usual[other(view)])


@pytest.mark.parametrize("kind", KINDS)
def test_no_disturbance_moves_arm_or_cup(simulation: CupGraspSimulation, kind: str) -> None:
    simulation.reset(TRAINING_PLACEMENTS[2])
    before = simulation.pose(), simulation.cup_pose()
    simulation.disturb(Disturbance(kind))
    simulation.render()
    np.testing.assert_array_equal(simulation.pose(), before[0])
    np.testing.assert_array_equal(simulation.cup_pose(), before[1])


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


def test_negative_variant_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="variant must be 0 or more, got -1"):
        Disturbance("changed_light", variant=-1)


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_light_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="shares must be finite and 0 or more"):
        Light((1.0, share, 1.0), (1.0, 1.0, 1.0))
