"""LeRobot data sets, format 2.0, 2.1 and 3.0: parquet tables and one video per camera.

Formats 2.x keep a parquet file and a video per episode, format 3.0 joins many episodes in one
file and says in ``meta/episodes`` where each begins. An episode whose files are absent is listed
in ``LeRobotDataset.missing``; the others are read.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pyarrow
import pyarrow.parquet
from av.error import FFmpegError
from numpy.typing import NDArray

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.sequence import DemonstrationSequence
from alt_ros.errors import ConfigurationError, DataError, in_one_line
from alt_ros.preprocessing import decode_compressed_image, resize_image
from alt_ros.types import NANOSECONDS, POSE_SIZE, ActionLayout

_log = logging.getLogger(__name__)

pa, pq = cast(Any, pyarrow), cast(Any, pyarrow.parquet)  # neither is typed
_ArrowError = cast(type[Exception], pa.ArrowException)

Floats = NDArray[np.float64]
_VERSIONS = ("v2.0", "v2.1", "v3.0")
_IMAGE_PREFIX = "observation.images."


@dataclass(frozen=True)
class _Episode:
    """Where one episode lies.

    Attributes:
        index: LeRobot's episode number.
        length: Frames.
        table: Parquet file.
        videos: View to the video file and the time in it, seconds, where the episode begins.
    """

    index: int
    length: int
    table: Path
    videos: Mapping[str, tuple[Path, float]]

    def absent_files(self) -> list[Path]:
        files = (self.table, *(path for path, _ in self.videos.values()))
        return [path for path in files if not path.is_file()]


class LeRobotDataset(DemonstrationSequence):
    """The episodes of a LeRobot data set whose files are present.

    State is ``observation.state``, the action ``action``; LeRobot does not say what their columns
    mean, so the layout is (arms=0, extra=columns). Stamps are the ``timestamp`` column. The image
    of a frame is the video frame nearest to its stamp. ``next.success``, where it exists, says
    whether the episode succeeded.

    Args:
        path: Folder that holds ``meta/info.json``.
        views: Cameras to read, in order, with or without ``observation.images.``; None reads all.
        episodes: LeRobot's episode numbers to read, in order; None reads all that are present.
        image_size: (height, width) that images are resized to as they are decoded, so that a
            long episode fits into memory; None keeps the camera's size.

    Attributes:
        missing: Episode numbers that ``meta`` names and whose files are absent, ascending.
        episode_numbers: LeRobot's episode number of each demonstration here.

    Raises:
        DataError: The path is no LeRobot data set, or an episode asked for is absent.
        ConfigurationError: A parameter is out of its bounds.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        views: Sequence[str] | None = None,
        episodes: Sequence[int] | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        if image_size is not None and min(image_size) <= 0:
            raise ConfigurationError(f"image_size must be positive, got {image_size}")
        self.path = Path(path)
        self._image_size = image_size
        self._info = self._read_info()
        self._features = self._find_features(views)
        self.views = tuple(self._features)
        known = {episode.index: episode for episode in self._read_episodes()}
        present = {index: e for index, e in known.items() if not e.absent_files()}
        self._known = known
        self.missing = tuple(sorted(set(known) - set(present)))
        if not present:
            raise DataError(
                f"{self._subject} names {len(known)} episodes and holds the files of none: "
                f"download data/ and videos/ too, '{known[min(known)].absent_files()[0]}' first"
            )
        if episodes is not None:
            for index in episodes:
                self._require(index, present)
        elif self.missing:
            _log.warning(
                "%s: %d of %d episodes are absent (%s), reading %d",
                self._subject,
                len(self.missing),
                len(known),
                _ranges(self.missing),
                len(present),
            )
        chosen = sorted(present) if episodes is None else episodes
        self._episodes = [present[index] for index in chosen]
        self.episode_numbers = tuple(chosen)
        self.layout = ActionLayout(arms=0, extra=self._columns("action"))

    def __len__(self) -> int:
        return len(self._episodes)

    def episode(self, number: int) -> Demonstration:
        """Return the episode that LeRobot calls ``number``.

        Raises:
            DataError: Its files are absent, the data set does not name it, or it was not chosen.
        """
        self._require(number, {episode.index: episode for episode in self._episodes})
        return self._load(self.episode_numbers.index(number))

    def _load(self, index: int) -> Demonstration:
        episode = self._episodes[index]
        subject = f"{self._subject}, episode {episode.index}"
        table = self._read_table(episode, subject)
        n = table.num_rows
        if n != episode.length:
            raise DataError(
                f"{subject}: meta says {episode.length} frames, '{episode.table.name}' holds {n}: "
                "the copy is incomplete"
            )
        seconds = _column(table, "timestamp", subject)[:, 0]
        if not np.isfinite(seconds).all() or (n > 1 and np.diff(seconds).min() <= 0):
            raise DataError(f"{subject}: timestamps must be finite and increase")
        state = np.zeros((n, 0))
        if "observation.state" in table.column_names:
            state = _column(table, "observation.state", subject)
        success = None
        if "next.success" in table.column_names:
            success = bool(_column(table, "next.success", subject).any())
        return Demonstration(
            name=f"episode_{episode.index:06d}",
            stamps=np.rint(seconds * NANOSECONDS).astype(np.int64),
            images={view: self._images(episode, view, seconds, table) for view in self.views},
            poses=np.zeros((n, 0, POSE_SIZE)),
            grippers=np.zeros((n, 0)),
            state=state,
            actions=_column(table, "action", subject),
            layout=self.layout,
            success=success,
            source=str(episode.table),
        )

    @property
    def _subject(self) -> str:
        return f"LeRobot data set '{self.path}'"

    def _require(self, number: int, present: Mapping[int, _Episode]) -> None:
        if number in present:
            return
        if number not in self._known:
            raise DataError(
                f"{self._subject} has no episode {number}: it names {_ranges(sorted(self._known))}"
            )
        absent = self._known[number].absent_files()
        if not absent:
            raise DataError(f"{self._subject}: episode {number} is not among the episodes chosen")
        raise DataError(
            f"{self._subject}: episode {number} is named in meta/ but its file "
            f"'{absent[0].relative_to(self.path)}' is absent: download it, or choose from "
            f"{_ranges(sorted(set(self._known) - set(self.missing)))}"
        )

    def _read_info(self) -> dict[str, Any]:
        try:
            info = json.loads((self.path / "meta" / "info.json").read_text("utf-8"))
        except FileNotFoundError as error:
            raise DataError(f"{self._subject} has no meta/info.json: check the path") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{self._subject}: meta/info.json is not readable: {error}") from error
        wanted = ("codebase_version", "fps", "features", "data_path")
        absent = [key for key in wanted if key not in info] if isinstance(info, dict) else wanted
        if absent:
            raise DataError(f"{self._subject}: meta/info.json lacks {list(absent)}")
        info = cast(dict[str, Any], info)
        if info["codebase_version"] not in _VERSIONS:
            raise DataError(
                f"{self._subject} has format {info['codebase_version']}, readable are "
                f"{', '.join(_VERSIONS)}: convert it with lerobot's own converter"
            )
        if not float(info["fps"]) > 0:
            raise DataError(f"{self._subject}: fps must be positive, got {info['fps']}")
        return info

    def _find_features(self, views: Sequence[str] | None) -> dict[str, str]:
        """Return view name to feature key."""
        found = {
            key.removeprefix(_IMAGE_PREFIX): key
            for key, feature in self._info["features"].items()
            if feature.get("dtype") in ("video", "image") and not _is_depth(feature)
        }
        if views is None:
            chosen = found
        else:
            names = [view.removeprefix(_IMAGE_PREFIX) for view in views]
            chosen = {name: found[name] for name in names if name in found}
            if len(chosen) != len(names):
                raise DataError(
                    f"{self._subject} must hold the views {names}, it holds {list(found)}"
                )
        if not chosen:
            raise DataError(f"{self._subject} has no camera view: nothing to learn from")
        return chosen

    def _columns(self, key: str) -> int:
        feature = self._info["features"].get(key)
        if feature is None:
            raise DataError(
                f"{self._subject} has no '{key}', it holds {list(self._info['features'])}"
            )
        return math.prod(int(size) for size in feature["shape"])

    def _read_episodes(self) -> list[_Episode]:
        read = self._episodes_v3 if self._info["codebase_version"] == "v3.0" else self._episodes_v2
        try:
            episodes = list(read())
        except FileNotFoundError as error:
            raise DataError(f"{self._subject} lacks '{error.filename}': download it") from error
        except (OSError, ValueError, KeyError, _ArrowError) as error:
            raise DataError(
                f"{self._subject}: the episodes in meta/ are not readable, "
                f"{type(error).__name__}: {error}"
            ) from error
        if not episodes:
            raise DataError(f"{self._subject} names no episodes: record some or leave it out")
        return episodes

    def _episodes_v2(self) -> Iterator[_Episode]:
        lines = (self.path / "meta" / "episodes.jsonl").read_text("utf-8").splitlines()
        for line in lines:
            if not line.strip():
                continue
            entry = json.loads(line)
            index = int(entry["episode_index"])
            place = {
                "episode_chunk": index // int(self._info.get("chunks_size", 1000)),
                "episode_index": index,
            }
            videos = {
                view: (self.path / self._info["video_path"].format(video_key=key, **place), 0.0)
                for view, key in self._video_features()
            }
            table = self.path / self._info["data_path"].format(**place)
            yield _Episode(index, int(entry["length"]), table, videos)

    def _episodes_v3(self) -> Iterator[_Episode]:
        files = sorted((self.path / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
        for file in files:
            schema = pq.read_schema(file)
            names = [name for name in schema.names if not name.startswith("stats/")]
            for row in pq.read_table(file, columns=names).to_pylist():
                videos = {
                    view: (
                        self.path
                        / self._info["video_path"].format(
                            video_key=key,
                            chunk_index=int(row[f"videos/{key}/chunk_index"]),
                            file_index=int(row[f"videos/{key}/file_index"]),
                        ),
                        float(row[f"videos/{key}/from_timestamp"]),
                    )
                    for view, key in self._video_features()
                }
                table = self.path / self._info["data_path"].format(
                    chunk_index=int(row["data/chunk_index"]),
                    file_index=int(row["data/file_index"]),
                )
                yield _Episode(int(row["episode_index"]), int(row["length"]), table, videos)

    def _video_features(self) -> list[tuple[str, str]]:
        features = self._info["features"]
        return [(v, key) for v, key in self._features.items() if features[key]["dtype"] == "video"]

    def _read_table(self, episode: _Episode, subject: str) -> Any:
        wanted = ("timestamp", "observation.state", "action", "next.success", "episode_index")
        videos = {key for _, key in self._video_features()}
        images = [key for key in self._features.values() if key not in videos]
        try:
            present = pq.read_schema(episode.table).names
            names = [name for name in (*wanted, *images) if name in present]
            return pq.read_table(
                episode.table, columns=names, filters=[("episode_index", "=", episode.index)]
            )
        except (OSError, ValueError, _ArrowError) as error:
            raise DataError(
                f"{subject}: '{episode.table.name}' is damaged or not readable, copy it again: "
                f"{in_one_line(error)}"
            ) from error

    def _images(
        self, episode: _Episode, view: str, seconds: Floats, table: Any
    ) -> NDArray[np.uint8]:
        subject = f"{self._subject}, episode {episode.index}, view '{view}'"
        if view not in episode.videos:
            cells = table.column(self._features[view]).to_pylist()
            images = (decode_compressed_image(cell["bytes"]) for cell in cells)
            return self._stack(images, len(seconds), subject)
        path, begin = episode.videos[view]
        period = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1 / self._info["fps"]
        frames = decode_frames(path, seconds + begin, period / 2, subject)
        return self._stack(frames, len(seconds), subject)

    def _stack(
        self, images: Iterable[NDArray[np.uint8]], count: int, subject: str
    ) -> NDArray[np.uint8]:
        """Return the images as one array (count, H, W, 3), resized where that is asked for."""
        stacked: NDArray[np.uint8] | None = None
        for i, image in enumerate(images):
            if self._image_size is not None:
                image = resize_image(image, *self._image_size)
            if stacked is None:
                stacked = np.empty((count, *image.shape), dtype=np.uint8)
            if image.shape != stacked.shape[1:]:
                raise DataError(
                    f"{subject}: every image must be {stacked.shape[1:]}, frame {i} is "
                    f"{image.shape}: pass image_size"
                )
            stacked[i] = image
        return np.empty((0, 1, 1, 3), dtype=np.uint8) if stacked is None else stacked


def decode_frames(
    path: Path, seconds: Floats, tolerance: float, subject: str
) -> Iterator[NDArray[np.uint8]]:
    """Yield the video frame nearest to each time.

    Args:
        path: Video file.
        seconds: (n,) increasing times in the video, n >= 1.
        tolerance: Largest distance of a frame from its time, seconds.
        subject: What the frames belong to, for the message.

    Yields:
        (H, W, 3) uint8 RGB, one for each time.

    Raises:
        DataError: The file does not decode, or a time has no frame near it.
    """
    done = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if stream.time_base is None:
                raise DataError(f"{subject}: '{path.name}' has no time base, encode it again")
            if seconds[0] > 0:
                start = int((seconds[0] - tolerance) / stream.time_base)
                container.seek(max(start, 0), stream=stream, backward=True)
            before: av.VideoFrame | None = None
            for frame in container.decode(stream):
                # Times nearer to the frame before than to this one are settled.
                while before is not None and seconds[done] <= (_time(before) + _time(frame)) / 2:
                    yield _rgb(before, float(seconds[done]), tolerance, subject)
                    done += 1
                    if done == len(seconds):
                        return
                before = frame
            while before is not None and done < len(seconds):
                yield _rgb(before, float(seconds[done]), tolerance, subject)
                done += 1
    except (OSError, IndexError, FFmpegError) as error:
        raise DataError(
            f"{subject}: '{path.name}' does not decode after frame {done} of {len(seconds)}, "
            f"copy it again: {in_one_line(error)}"
        ) from error
    if done < len(seconds):
        raise DataError(
            f"{subject}: '{path.name}' holds no frame for {seconds[done]:.3f} s, it ends before"
        )


def _time(frame: av.VideoFrame) -> float:
    if frame.pts is None:
        raise DataError("video frame without a presentation time: encode the video again")
    return float(frame.time)


def _rgb(
    frame: av.VideoFrame, seconds: float, tolerance: float, subject: str
) -> NDArray[np.uint8]:
    distance = abs(_time(frame) - seconds)
    if distance > tolerance:
        raise DataError(
            f"{subject}: the video frame nearest to {seconds:.3f} s must be within "
            f"{tolerance * 1e3:.1f} ms, it is {distance * 1e3:.1f} ms off: the video lost frames "
            "or has another rate than the table"
        )
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _column(table: Any, name: str, subject: str) -> Floats:
    """Return a numeric column as (rows, columns) float64."""
    if name not in table.column_names:
        raise DataError(f"{subject} lacks the column '{name}', it has {table.column_names}")
    cells = table.column(name).combine_chunks()
    try:
        while pa.types.is_nested(cells.type):
            cells = cells.flatten()
        values = cells.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return np.asarray(values, np.float64).reshape(table.num_rows, -1)
    except (ValueError, _ArrowError) as error:
        raise DataError(
            f"{subject}: every row of '{name}' must hold the same number of numbers, "
            f"it is {table.column(name).type}: {in_one_line(error)}"
        ) from error


def _is_depth(feature: Mapping[str, Any]) -> bool:
    video = {**feature.get("info", {}), **feature.get("video_info", {})}
    return bool(video.get("video.is_depth_map", False))


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as '0, 3, 5-99'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
