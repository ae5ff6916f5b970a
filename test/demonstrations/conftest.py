"""Small data sets in every format, written here, and the real ones beside the repository."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.types import NANOSECONDS, ActionLayout

FPS = 10
HEIGHT, WIDTH = 32, 48


@pytest.fixture(scope="session")
def shared_data() -> Path:
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    path = Path(os.environ.get("ALT_ROS_SHARED_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: '{path}' is absent, set ALT_ROS_SHARED_DATA")
    return path


@pytest.fixture
def make_demonstration() -> Callable[..., Demonstration]:
    def make(
        name: str = "first",
        frames: int = 5,
        *,
        views: Sequence[str] = ("wrist", "third_person"),
        size: tuple[int, int] = (12, 16),
        layout: ActionLayout | None = None,
        state: int = 2,
        rate: float = 10.0,
        seed: int = 0,
        success: bool | None = True,
    ) -> Demonstration:
        random = np.random.default_rng(seed)
        layout = layout or ActionLayout(arms=1)
        poses = np.zeros((frames, layout.arms, 7))
        poses[..., :3] = random.normal(size=(frames, layout.arms, 3))
        poses[..., 6] = 1.0
        return Demonstration(
            name=name,
            stamps=(np.arange(frames) * NANOSECONDS / rate).astype(np.int64) + 1_700_000_000,
            images={
                view: random.integers(0, 256, (frames, *size, 3), dtype=np.uint8) for view in views
            },
            poses=poses,
            grippers=random.random((frames, layout.arms)),
            state=random.normal(size=(frames, state)),
            actions=random.normal(size=(frames, layout.size)),
            layout=layout,
            success=success,
            source=f"/somewhere/{name}",
        )

    return make


@pytest.fixture
def write_zarr() -> Callable[..., Path]:
    """Write zarr format 2, as Diffusion Policy does."""

    def write(
        path: Path, data: dict[str, np.ndarray[Any, Any]], ends: Sequence[int], chunk: int = 4
    ) -> Path:
        zipped = path.suffix == ".zip"
        store = zarr.storage.ZipStore(path, mode="w") if zipped else zarr.storage.LocalStore(path)
        root = zarr.create_group(store, zarr_format=2)
        group = root.create_group("data")
        for key, values in data.items():
            group.create_array(key, data=values, chunks=(chunk, *values.shape[1:]))
        root.create_group("meta").create_array("episode_ends", data=np.asarray(ends, np.int64))
        store.close()
        return path

    return write


@pytest.fixture(name="write_video")
def write_video_fixture() -> Callable[..., None]:
    return write_video


@pytest.fixture(name="grey")
def grey_fixture() -> Callable[[int, int], list[int]]:
    return grey


def write_video(
    path: Path, levels: Sequence[int], times: Sequence[int] | None = None, gop: int = 4
) -> None:
    """Write a video whose frame i is a grey of ``levels[i]`` at ``times[i]`` / FPS seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": str(gop), "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for i, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(
                np.full((HEIGHT, WIDTH, 3), level, np.uint8), format="rgb24"
            )
            frame.pts = i if times is None else times[i]
            frame.time_base = Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def grey(episode: int, frames: int) -> list[int]:
    """Return the grey of every frame: it tells episodes and frames apart."""
    return [20 + 90 * episode + 6 * i for i in range(frames)]


def _table(episode: int, frames: int, columns: int) -> pa.Table:
    action = np.arange(frames * columns, dtype=np.float32).reshape(frames, columns) + episode
    vector = pa.list_(pa.float32(), columns)
    return pa.table(
        {
            "observation.state": pa.array((action * 2).tolist(), vector),
            "action": pa.array(action.tolist(), vector),
            "timestamp": pa.array(np.arange(frames, dtype=np.float32) / np.float32(FPS)),
            "frame_index": pa.array(np.arange(frames)),
            "episode_index": pa.array(np.full(frames, episode)),
            "next.success": pa.array([i == frames - 1 and episode == 0 for i in range(frames)]),
        }
    )


def _info(root: Path, version: str, data_path: str, video_path: str, columns: int) -> None:
    (root / "meta").mkdir(parents=True)
    vector = {"dtype": "float32", "shape": [columns]}
    info = {
        "codebase_version": version,
        "fps": FPS,
        "chunks_size": 1000,
        "data_path": data_path,
        "video_path": video_path,
        "features": {
            "observation.state": vector,
            "action": vector,
            "observation.images.top": {"dtype": "video", "shape": [HEIGHT, WIDTH, 3]},
            "timestamp": {"dtype": "float32", "shape": [1]},
        },
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))


@pytest.fixture
def lerobot_v21(tmp_path: Path) -> Path:
    """Two episodes of 7 and 5 frames; meta names a third, whose files are absent."""
    root = tmp_path / "lerobot_v21"
    _info(
        root,
        "v2.1",
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        columns=3,
    )
    lines = []
    (root / "data" / "chunk-000").mkdir(parents=True)
    for episode, frames in enumerate((7, 5)):
        pq.write_table(
            _table(episode, frames, 3),
            root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet",
        )
        video = f"videos/chunk-000/observation.images.top/episode_{episode:06d}.mp4"
        write_video(root / video, grey(episode, frames))
        lines.append({"episode_index": episode, "length": frames, "tasks": ["push"]})
    lines.append({"episode_index": 2, "length": 9, "tasks": ["push"]})
    (root / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


@pytest.fixture
def lerobot_v30(tmp_path: Path) -> Path:
    """Two episodes of 7 and 5 frames in one table and one video."""
    root = tmp_path / "lerobot_v30"
    _info(
        root,
        "v3.0",
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        columns=3,
    )
    (root / "data" / "chunk-000").mkdir(parents=True)
    pq.write_table(
        pa.concat_tables([_table(0, 7, 3), _table(1, 5, 3)]),
        root / "data" / "chunk-000" / "file-000.parquet",
    )
    write_video(
        root / "videos" / "observation.images.top" / "chunk-000" / "file-000.mp4",
        grey(0, 7) + grey(1, 5),
    )
    key = "videos/observation.images.top"
    (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    pq.write_table(
        pa.table(
            {
                "episode_index": [0, 1],
                "length": [7, 5],
                "data/chunk_index": [0, 0],
                "data/file_index": [0, 0],
                "dataset_from_index": [0, 7],
                "dataset_to_index": [7, 12],
                f"{key}/chunk_index": [0, 0],
                f"{key}/file_index": [0, 0],
                f"{key}/from_timestamp": [0.0, 0.7],
                f"{key}/to_timestamp": [0.7, 1.2],
                "stats/action/min": [[0.0], [0.0]],
            }
        ),
        root / "meta" / "episodes" / "chunk-000" / "file-000.parquet",
    )
    return root
