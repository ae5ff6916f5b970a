"""Pictures of the audit: bars are as high as what they show, and the nearest is coloured."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.memorisation.similarity import Similarity
from alt_ros.pictures.similarity import draw_policies, draw_similarity

BLUE, ORANGE, RED, CYAN = (31, 119, 180), (255, 127, 14), (214, 39, 40), (23, 190, 207)


def shown(path) -> np.ndarray:
    """Return the picture's pixels (H, W, 3) without the legend below the axes."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return pixels[: int(0.88 * len(pixels))]


def mask(path, colour) -> np.ndarray:
    return (shown(path) == colour).all(axis=2)


def height(path, colour) -> int:
    """Return the height of the highest bar of a colour, pixels."""
    return int(mask(path, colour).sum(axis=0).max())


def middle(path, colour) -> float:
    """Return where a colour's pixels lie from left to right, 0 to 1."""
    found = mask(path, colour)
    return float(np.flatnonzero(found.any(axis=0)).mean()) / found.shape[1]


def similarity(*distances: float, nearest: int, second: int) -> Similarity:
    return Similarity(np.array(distances), nearest, second, apart=1.0, mean_apart=1.0)


def test_the_nearest_demonstration_is_coloured_where_it_stands(tmp_path):
    path = tmp_path / "new" / "plot.png"
    draw_similarity(path, similarity(0.1, 0.9, 0.8, 0.5, nearest=0, second=3))
    assert middle(path, BLUE) < 0.35 < 0.65 < middle(path, CYAN)
    assert height(path, CYAN) / height(path, BLUE) == pytest.approx(0.5 / 0.9, abs=0.02)
    draw_similarity(path, similarity(0.5, 0.9, 0.8, 0.1, nearest=3, second=0))
    assert middle(path, CYAN) < 0.35 < 0.65 < middle(path, BLUE)


def test_the_line_of_the_average_distance_parts_near_from_far_demonstrations(tmp_path):
    path = tmp_path / "plot.png"
    draw_similarity(path, similarity(0.2, 1.8, nearest=0, second=1))
    line = mask(path, RED)
    row = int(line.sum(axis=1).argmax())
    assert line[row].sum() > 0.7 * line.shape[1], "from end to end"
    assert np.flatnonzero(mask(path, BLUE).any(axis=1)).max() <= row + 2
    assert np.flatnonzero(mask(path, CYAN).any(axis=1)).min() >= row - 2


def test_more_demonstrations_make_a_wider_picture(tmp_path):
    widths = []
    for count in (31, 80):
        distances = np.linspace(0.1, 1.5, count)
        draw_similarity(tmp_path / "plot.png", similarity(*distances, nearest=0, second=1))
        widths.append(shown(tmp_path / "plot.png").shape[1])
    assert widths[1] > 1.5 * widths[0]


def test_bars_are_as_high_as_the_medians(tmp_path):
    path = tmp_path / "new" / "plot.png"
    draw_policies(
        path, {"alt": {"ind": [1.0, 1.0, 1.0]}, "act": {"ind": [0.3, 0.5, 0.6], "ood": [0.4]}}
    )
    assert height(path, ORANGE) / height(path, BLUE) == pytest.approx(0.5, abs=0.02)
    assert middle(path, BLUE) < middle(path, ORANGE)


def test_the_interval_reaches_from_its_lower_to_its_upper_bound(tmp_path):
    values, reach = [0.4] * 10 + [0.8] * 9 + [1.0], (0.4, 0.8)
    path = tmp_path / "plot.png"
    draw_policies(path, {"alt": {"ind": values}})
    bar = mask(path, BLUE)
    left, right = np.flatnonzero(bar.any(axis=0))[[0, -1]]
    top, bottom = np.flatnonzero(bar.any(axis=1))[[0, -1]]
    unit = (bottom - top) / np.median(values)  # pixels for S = 1
    beside = (left + right) // 2 + 4  # on the caps of the interval, beside cross and stem
    dark = (shown(path).astype(int).max(axis=2) < 90)[int(bottom - 0.95 * unit) : bottom - 5]
    ends = np.flatnonzero(dark[:, beside])[[-1, 0]]
    heights = (int(0.95 * unit) - ends) / unit
    np.testing.assert_allclose(heights, reach, atol=0.03)


def test_a_picture_is_the_same_every_time(tmp_path):
    values = {"alt": {"ind": np.random.default_rng(0).random(9)}}
    for name in ("a.png", "b.png"):
        draw_policies(tmp_path / name, values)
    np.testing.assert_array_equal(shown(tmp_path / "a.png"), shown(tmp_path / "b.png"))


def test_a_policy_that_was_not_tried_in_a_scenario_leaves_a_gap(tmp_path):
    path = tmp_path / "plot.png"
    draw_policies(path, {"alt": {"ind": [0.9], "ood": [0.8]}, "act": {"ood": [0.7]}})
    found = mask(path, ORANGE)
    assert np.flatnonzero(found.any(axis=0)).min() > 0.6 * found.shape[1]


@pytest.mark.parametrize("values", [[], [np.nan], [[0.5]]])
def test_similarities_that_cannot_be_drawn_are_refused(tmp_path, values):
    with pytest.raises(DataError, match="similarities of 'alt' in 'ind' must be at least one"):
        draw_policies(tmp_path / "plot.png", {"alt": {"ind": values}})


@pytest.mark.parametrize("values", [{}, {"alt": {}}])
def test_nothing_to_draw_is_refused(tmp_path, values):
    with pytest.raises(DataError, match="no policy has a scenario"):
        draw_policies(tmp_path / "plot.png", values)


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="seed must be at least 0, got -1"):
        draw_policies(tmp_path / "plot.png", {"alt": {"ind": [1.0]}}, seed=-1)


def test_an_ending_that_is_no_picture_is_refused(tmp_path):
    path = tmp_path / "plot.unknown"
    with pytest.raises(DataError, match="must end in .png"):
        draw_similarity(path, similarity(0.1, 0.5, nearest=0, second=1))
    with pytest.raises(DataError, match="must end in .png"):
        draw_policies(path, {"alt": {"ind": [1.0]}})
