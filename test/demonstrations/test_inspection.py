from __future__ import annotations

import numpy as np
import pytest

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.inspection import contact_sheet, summarize
from alt_ros.errors import ConfigurationError
from alt_ros.types import ActionLayout


def test_a_summary_tells_what_each_episode_holds(make_demonstration):
    gap = make_demonstration("gap", 4)
    gap.stamps[2:] += 700_000_000
    seen: list[int] = []
    summary = summarize(
        [
            gap,
            make_demonstration("single", 1, success=False),
            make_demonstration("c", success=None),
        ],
        progress=seen.append,
    )
    assert seen == [1, 2, 3]
    first, single, _ = summary.episodes
    assert (first.name, first.frames, first.arms) == ("gap", 4, 1)
    assert (first.action_size, first.state_size) == (10, 2)
    assert first.views == {"wrist": (12, 16), "third_person": (12, 16)}
    assert first.seconds == pytest.approx(1.0)
    assert first.rate == pytest.approx(10.0)
    assert first.largest_gap == pytest.approx(0.8)
    assert (single.seconds, single.rate, single.largest_gap) == (0.0, 0.0, 0.0)
    assert summary.frames == 10
    assert summary.largest_gap == pytest.approx(0.8)
    assert summary.seconds == pytest.approx(1.4)
    assert summary.successes == (1, 2)


@pytest.fixture
def grey_ramp() -> Demonstration:
    images = np.arange(11, dtype=np.uint8)[:, None, None, None] * 20
    return Demonstration(
        name="ramp",
        stamps=np.arange(11) * 100_000_000,
        images={"top": np.broadcast_to(images, (11, 20, 40, 3))},
        poses=np.zeros((11, 0, 7)),
        grippers=np.zeros((11, 0)),
        state=np.zeros((11, 0)),
        actions=np.zeros((11, 2)),
        layout=ActionLayout(arms=0, extra=2),
    )


def test_a_contact_sheet_shows_frames_evenly_from_the_first_to_the_last(grey_ramp):
    sheet = contact_sheet([grey_ramp], [0], columns=3, height=40)
    assert sheet.shape == (16 + 40 + 2, 3 * (80 + 2), 3)
    assert sheet.dtype == np.uint8
    assert [int(sheet[36, left, 0]) for left in (40, 122, 204)] == [0, 100, 200]


def test_a_contact_sheet_has_a_row_per_episode_and_view(make_demonstration, grey_ramp):
    both = [make_demonstration("a", 2), grey_ramp]
    sheet = contact_sheet(both, [1, 0], columns=4, height=24)
    assert sheet.shape == (3 * (16 + 24 + 2), 4 * (48 + 2), 3)
    # Two frames are shown once each; the rest of their row is paper.
    assert (sheet[42 + 16 :, 2 * (32 + 2) :] == 255).all()


@pytest.mark.parametrize(
    ("episodes", "columns", "height"), [([], 3, 96), ([0], 1, 96), ([0], 3, 4), ([1], 3, 96)]
)
def test_a_contact_sheet_of_nothing_is_an_error(grey_ramp, episodes, columns, height):
    with pytest.raises(ConfigurationError, match="contact sheet needs|episodes must be in 0..0"):
        contact_sheet([grey_ramp], episodes, columns, height)
