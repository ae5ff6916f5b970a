"""Pictures of an episode: what the robot saw, beside the demonstration frame it recalled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alt_ros.bags.reading import read_messages
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.errors import DataError
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.messages import observation_of, stamp_of
from alt_ros.types import Observation

Image = NDArray[np.uint8]
TILE = 192
CAPTION = 22
BACKGROUND = 24


def label(image: Image, text: str, size: int = TILE) -> Image:
    """Return the image (size + caption, size, 3) with a line of text under it."""
    scaled = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    canvas = np.full((size + CAPTION, size, 3), BACKGROUND, np.uint8)
    canvas[:size] = scaled
    cv2.putText(
        canvas,
        text,
        (5, size + 15),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.4,
        (235, 235, 235),
        1,
        cv2.LINE_AA,
    )
    return canvas


def grid(rows: Sequence[Sequence[Image]], gap: int = 4) -> Image:
    """Return equally sized tiles as one image."""
    lines = []
    for row in rows:
        height = row[0].shape[0]
        spacer = np.full((height, gap, 3), BACKGROUND, np.uint8)
        parts = [part for tile in row for part in (tile, spacer)][:-1]
        lines.append(np.concatenate(parts, axis=1))
    spacer = np.full((gap, lines[0].shape[1], 3), BACKGROUND, np.uint8)
    return np.concatenate([part for line in lines for part in (line, spacer)][:-1], axis=0)


def save_png(path: Path, image: Image) -> None:
    """Write an RGB image.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except OSError as error:
        raise DataError(f"picture '{path}' cannot be written: {error}") from error
    except cv2.error as error:  # of several lines
        raise DataError(
            f"picture '{path}' cannot be written: its name must end in .png, .jpg or the like"
        ) from error
    if not written:
        raise DataError(f"picture '{path}' cannot be written: is its place a file, and writable?")


def recalled_beside_live(
    observation: Observation, demonstration: Demonstration, frame: int, text: str
) -> Image:
    """Return live views in the first row, the recalled demonstration frame in the second."""
    live = [label(image, f"live, {view}") for view, image in observation.images.items()]
    recalled = [
        label(np.asarray(demonstration.images[view][frame]), f"recalled: {text}")
        for view in observation.images
    ]
    return grid([live, recalled])


def read_run(bag: Path) -> tuple[list[Observation], dict[int, Any], dict[int, Any]]:
    """Return a recorded run's observations, and its chunks and flags by stamp.

    What was recorded before the last reset (a gap in the stamps) is left out.
    """
    observations: list[Observation] = []
    chunks: dict[int, Any] = {}
    flags: dict[int, Any] = {}
    for topic, _, message in read_messages(
        bag, ["/alt/observation", "/alt/action_chunk", "/alt/ood"]
    ):
        if topic == "/alt/observation":
            observations.append(observation_of(message))
        elif topic == "/alt/action_chunk":
            chunks[stamp_of(message)] = message
        else:
            flags[stamp_of(message)] = message
    if not observations:
        raise DataError(f"bag '{bag}' holds no /alt/observation: record the graph while it runs")
    starts = [
        n + 1
        for n, (a, b) in enumerate(pairwise(observations))
        if b.stamp - a.stamp > RetrievalConfig.reset_gap
    ]
    return observations[starts[-1] if starts else 0 :], chunks, flags


def filmstrip(bag: Path, columns: int = 8) -> Image:
    """Return evenly spaced moments of a run: both views, similarity and state of the flag."""
    observations, _, flags = read_run(bag)
    picked = np.linspace(0, len(observations) - 1, columns).round().astype(int)
    rows: list[list[Image]] = []
    for view in observations[0].images:
        row = []
        for n in picked:
            observation = observations[n]
            flag = flags.get(observation.stamp)
            text = f"{(observation.stamp - observations[0].stamp) / 1e9:.2f} s"
            if flag is not None:
                text += f"  {flag.similarity:.3f}" + ("  STRANGE" if flag.flag else "")
            row.append(label(observation.images[view], text, 160))
        rows.append(row)
    return grid(rows)


def save_video(bag: Path, store: DemonstrationStore, path: Path) -> None:
    """Write a GIF of a run: live views above, the recalled demonstration frames below."""
    from PIL import Image as PillowImage

    observations, chunks, flags = read_run(bag)
    frames = []
    for observation in observations[::2]:
        chunk, flag = chunks.get(observation.stamp), flags.get(observation.stamp)
        if chunk is not None:
            demonstration = store[chunk.demonstration]
            text = f"{chunk.demonstration_name[-2:]}/{chunk.frame}  {chunk.similarity:.3f}"
            image = recalled_beside_live(observation, demonstration, chunk.frame, text)
        elif flag is not None and flag.flag:
            live = [label(image, f"live, {view}") for view, image in observation.images.items()]
            blank = np.zeros((TILE, TILE, 3), np.uint8)
            image = grid(
                [live, [label(blank, f"nothing like it: {flag.similarity:.3f}") for _ in live]]
            )
        else:
            continue
        frames.append(PillowImage.fromarray(image))
    if frames:
        period = 2 * max(int((observations[-1].stamp - observations[0].stamp) / 1e6), 1)
        period //= max(len(observations) - 1, 1)
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=period, loop=0, optimize=True
        )


def save_episode_pictures(folder: Path) -> None:
    """Write the demo's pictures beside its summary.

    ``episode.png`` and ``episode.gif`` show the first run in distribution, ``flagged.png`` the
    first that turned strange, ``recalled.png`` one recalled frame beside the live one.
    """
    store = DemonstrationStore.open(folder / "store")
    runs = sorted((folder / "runs").iterdir())
    ind = next((run for run in runs if run.name.startswith("ind")), None)
    strange = next((run for run in runs if not run.name.startswith("ind")), None)
    if ind is not None:
        save_png(folder / "episode.png", filmstrip(ind))
        save_video(ind, store, folder / "episode.gif")
        observations, chunks, _ = read_run(ind)
        seen = [o for o in observations if o.stamp in chunks]
        if seen:
            observation = seen[len(seen) // 3]
            chunk = chunks[observation.stamp]
            text = f"{chunk.demonstration_name}, frame {chunk.frame}"
            demonstration = store[chunk.demonstration]
            picture = recalled_beside_live(observation, demonstration, chunk.frame, text)
            save_png(folder / "recalled.png", picture)
    if strange is not None:
        save_png(folder / "flagged.png", filmstrip(strange))
