"""What a set of demonstrations holds: numbers per episode, and a contact sheet to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.errors import ConfigurationError
from alt_ros.preprocessing import resize_image
from alt_ros.types import NANOSECONDS

_LABEL_HEIGHT, _MARGIN = 16, 2
_BACKGROUND, _INK = 255, (40, 40, 40)


@dataclass(frozen=True)
class EpisodeSummary:
    """One demonstration in numbers.

    Attributes:
        name: Its name.
        frames: Number of frames.
        seconds: Time from the first frame to the last, s.
        rate: Frames per second, from the median period, Hz; 0 for a single frame.
        views: View name to (height, width), pixels.
        arms: Number of end effectors.
        state_size: Columns of the state.
        action_size: Columns of the action.
        success: Whether the episode reached its goal, where known.
        largest_gap: Longest time from one frame to the next, s; 0 for a single frame.
    """

    name: str
    frames: int
    seconds: float
    rate: float
    views: dict[str, tuple[int, int]]
    arms: int
    state_size: int
    action_size: int
    success: bool | None
    largest_gap: float


@dataclass(frozen=True)
class Summary:
    """A set of demonstrations in numbers.

    Attributes:
        episodes: One entry per demonstration, in order.
    """

    episodes: tuple[EpisodeSummary, ...]

    @property
    def frames(self) -> int:
        """Number of frames of all demonstrations."""
        return sum(episode.frames for episode in self.episodes)

    @property
    def seconds(self) -> float:
        """Length of all demonstrations, s."""
        return sum(episode.seconds for episode in self.episodes)

    @property
    def largest_gap(self) -> float:
        """Longest time from one frame to the next in any demonstration, s."""
        return max((episode.largest_gap for episode in self.episodes), default=0.0)

    @property
    def successes(self) -> tuple[int, int]:
        """Number of demonstrations that succeeded, and of those where it is known."""
        known = [episode.success for episode in self.episodes if episode.success is not None]
        return sum(known), len(known)


def summarize(
    demonstrations: Sequence[Demonstration], progress: Callable[[int], None] | None = None
) -> Summary:
    """Return the numbers of every demonstration, read one at a time.

    Args:
        demonstrations: The set.
        progress: Called after each demonstration with the number read so far.
    """
    episodes: list[EpisodeSummary] = []
    for demonstration in demonstrations:
        episodes.append(_summarize_episode(demonstration))
        del demonstration  # before the next one is read
        if progress is not None:
            progress(len(episodes))
    return Summary(tuple(episodes))


def _summarize_episode(demonstration: Demonstration) -> EpisodeSummary:
    steps = np.diff(demonstration.stamps)
    return EpisodeSummary(
        name=demonstration.name,
        frames=len(demonstration),
        seconds=int(steps.sum()) / NANOSECONDS,
        rate=NANOSECONDS / demonstration.period if demonstration.period else 0.0,
        views={view: (f.shape[1], f.shape[2]) for view, f in demonstration.images.items()},
        arms=demonstration.poses.shape[1],
        state_size=demonstration.state.shape[1],
        action_size=demonstration.layout.size,
        success=demonstration.success,
        largest_gap=int(steps.max(initial=0)) / NANOSECONDS,
    )


def contact_sheet(
    demonstrations: Sequence[Demonstration],
    episodes: Sequence[int],
    columns: int,
    height: int = 96,
) -> NDArray[np.uint8]:
    """Return a picture: a labelled row per episode and view, frames evenly spaced in number.

    The first and the last frame are always shown; an episode of fewer frames than columns shows
    each frame once.

    Args:
        demonstrations: The set.
        episodes: Numbers of the demonstrations to show, in order; at least one.
        columns: Frames per row, at least 2.
        height: Height of a frame in the picture, pixels, at least 16.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ConfigurationError: A number is out of its bounds.
    """
    if columns < 2 or height < _LABEL_HEIGHT or not episodes:
        raise ConfigurationError(
            f"contact sheet needs an episode, 2 columns and a height of {_LABEL_HEIGHT} pixels, "
            f"got {len(episodes)} episodes, {columns} columns, {height} pixels"
        )
    unknown = [episode for episode in episodes if not 0 <= episode < len(demonstrations)]
    if unknown:
        raise ConfigurationError(
            f"episodes must be in 0..{len(demonstrations) - 1}, got {unknown}"
        )
    rows: list[NDArray[np.uint8]] = []
    for episode in episodes:
        demonstration = demonstrations[episode]
        chosen = np.unique(np.linspace(0, len(demonstration) - 1, columns).round().astype(int))
        for view, frames in demonstration.images.items():
            label = f"{episode}: {demonstration.name}  {view}  {len(demonstration)} frames"
            rows.append(_row([np.asarray(frames[i]) for i in chosen], label, height))
    sheet = np.full(
        (sum(len(row) for row in rows), max(row.shape[1] for row in rows), 3),
        _BACKGROUND,
        dtype=np.uint8,
    )
    top = 0
    for row in rows:
        sheet[top : top + len(row), : row.shape[1]] = row
        top += len(row)
    return sheet


def _row(frames: Sequence[NDArray[np.uint8]], label: str, height: int) -> NDArray[np.uint8]:
    width = max(1, round(height * frames[0].shape[1] / frames[0].shape[0]))
    shape = (_LABEL_HEIGHT + height + _MARGIN, len(frames) * (width + _MARGIN), 3)
    row = np.full(shape, _BACKGROUND, dtype=np.uint8)
    cv2.putText(
        row, label, (2, _LABEL_HEIGHT - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, _INK, 1, cv2.LINE_AA
    )
    for i, frame in enumerate(frames):
        left = i * (width + _MARGIN)
        row[_LABEL_HEIGHT : _LABEL_HEIGHT + height, left : left + width] = resize_image(
            frame, height, width
        )
    return row
