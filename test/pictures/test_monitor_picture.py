"""The picture of a judged monitor shows what came of the episodes and every score."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from alt_ros.errors import DataError
from alt_ros.pictures.monitor import draw_monitor

BLUE, RED, ORANGE = (31, 119, 180), (214, 39, 40), (255, 127, 14)


def figures(flagged: int, stopped: int) -> dict[str, object]:
    judged = {"failures": 6, "failures_flagged": flagged, "successes_stopped": stopped}
    scores = {"shipped": judged | {"auroc": 1.0}, "cosine": judged | {"auroc": 0.7}}
    return {
        "scores": dict.fromkeys(scores),
        "scenarios": {"ind": {"episodes": 10, "success": 4, "scores": scores}},
    }


def share(path, colour) -> float:
    """Return the part of the bar's pixels that has a colour, by what the figure shows."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    bar = pixels[: int(0.75 * len(pixels))]  # the legend lies below
    return float((bar == colour).all(axis=2).sum(axis=1).max()) / pixels.shape[1]


def test_the_bars_are_as_long_as_there_are_episodes(tmp_path):
    path = tmp_path / "new" / "plot.png"
    draw_monitor(path, figures(flagged=4, stopped=1))
    lengths = [share(path, colour) for colour in (BLUE, RED, ORANGE)]
    np.testing.assert_allclose(np.divide(lengths, lengths[0]), (1.0, 0.5, 0.25), atol=0.03)
    draw_monitor(path, figures(flagged=6, stopped=0))
    assert share(path, BLUE) > lengths[0]
    assert share(path, RED) == share(path, ORANGE) == 0.0


def test_an_ending_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(DataError, match="must end in .png"):
        draw_monitor(tmp_path / "plot.unknown", figures(1, 1))
