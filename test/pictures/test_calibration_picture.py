"""The picture of a calibration shows every score, the episodes and the threshold."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from alt_ros.errors import DataError
from alt_ros.lookup.calibration import Calibration, calibrate
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.episodes import EpisodeScores
from alt_ros.pictures.calibration import draw_calibration


def episodes(scores: int, count: int = 6) -> list[EpisodeScores]:
    rng = np.random.default_rng(0)
    progress = np.linspace(0.0, 1.0, 20)
    return [EpisodeScores(np.exp(rng.normal(-4, 1, (20, scores))), progress) for _ in range(count)]


TWO = MonitorConfig(raise_count=2, raise_window=2)


def colours(path) -> set[tuple[int, ...]]:
    with Image.open(path) as picture:
        return {tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3)}


@pytest.mark.parametrize("names", [("cosine",), ("cosine", "jumps", "view:a", "view:b")])
@pytest.mark.parametrize("per", ["episode", "frame"])
def test_bands_threshold_and_levels_are_drawn(tmp_path, names, per):
    seen = episodes(len(names))
    seen[0].values[:5, 0] = np.nan
    calibration = calibrate(seen, names, monitor=TWO, rate=0.1, per=per)
    path = tmp_path / "new" / "plot.png"
    draw_calibration(path, calibration, seen)
    assert {(214, 39, 40), (31, 119, 180)} <= colours(path), "the limit and the usual value"
    with Image.open(path) as one:
        assert one.size[0] > 1000 * (len(names) > 1)


def test_a_given_gamma_is_drawn_without_levels(tmp_path):
    draw_calibration(tmp_path / "plot.png", Calibration.given(0.8), episodes(1))
    assert (214, 39, 40) in colours(tmp_path / "plot.png")


def test_an_ending_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(DataError, match="must end in .png"):
        draw_calibration(tmp_path / "plot.unknown", Calibration.given(0.8), episodes(1))
