"""Pictures of runs: tiles, recalled frames beside live ones, film strips and videos of bags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from alt_ros.bags.writing import EpisodeWriter, read_definitions
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import DemonstrationStore, write_store
from alt_ros.errors import DataError
from alt_ros.pictures.sheets import (
    BACKGROUND,
    CAPTION,
    TILE,
    filmstrip,
    grid,
    label,
    read_run,
    recalled_beside_live,
    save_png,
    save_video,
)
from alt_ros.types import NANOSECONDS, ActionLayout, Observation

DEFINITIONS = read_definitions(sorted((Path(__file__).parents[2] / "msg").glob("*.msg")))
STORE = get_typestore(Stores.LATEST)
for type_name, text in DEFINITIONS.items():
    STORE.register(get_types_from_msg(text, type_name))
VIEWS = ("wrist", "third_person")
START, PERIOD = 5 * NANOSECONDS, 50_000_000
RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)


def plain(colour: tuple[int, int, int], height: int = 24, width: int = 32) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def message(kind: str, **fields: Any) -> Any:
    return STORE.types[kind](**fields)


def time(kind: str, stamp: int) -> Any:
    return message(f"builtin_interfaces/msg/{kind}", sec=stamp // 10**9, nanosec=stamp % 10**9)


def header(stamp: int) -> Any:
    return message("std_msgs/msg/Header", stamp=time("Time", stamp), frame_id="base")


def observation(stamp: int, colour: tuple[int, int, int]) -> Any:
    rgb = plain(colour)
    image = message(
        "sensor_msgs/msg/Image",
        header=header(stamp),
        height=rgb.shape[0],
        width=rgb.shape[1],
        encoding="rgb8",
        is_bigendian=0,
        step=rgb.shape[1] * 3,
        data=rgb.reshape(-1),
    )
    pose = message(
        "geometry_msgs/msg/Pose",
        position=message("geometry_msgs/msg/Point", x=0.4, y=0.0, z=0.2),
        orientation=message("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )
    return message(
        "alt_ros/msg/Observation",
        header=header(stamp),
        views=list(VIEWS),
        images=[image] * len(VIEWS),
        poses=[pose],
        grippers=np.array([0.08]),
        skew=time("Duration", 0),
        age=time("Duration", 0),
        published=time("Time", stamp),
    )


def chunk(stamp: int, frame: int) -> Any:
    return message(
        "alt_ros/msg/ActionChunk",
        header=header(stamp),
        period=time("Duration", PERIOD),
        arms=1,
        extra=0,
        actions=np.zeros(10),
        policy="alt",
        demonstration=1,
        demonstration_name="demonstration_01",
        frame=frame,
        similarity=0.97,
        encode_seconds=0.004,
        policy_seconds=0.001,
        observation_published=time("Time", stamp),
    )


def flag(stamp: int, up: bool) -> Any:
    return message(
        "alt_ros/msg/OodFlag",
        header=header(stamp),
        flag=up,
        score=4.5 if up else 0.5,
        threshold=3.0,
        quantile=1.0 if up else 0.5,
        scores=["cosine"],
        values=np.array([0.5 if up else 0.05]),
        strangeness=np.array([4.5 if up else 0.5]),
        cause="cosine",
        view="wrist" if up else "",
        demonstration=1,
        frame=0,
        similarity=0.5 if up else 0.95,
    )


def write_run(path: Path, stamps: Sequence[int], strange_from: int | None = None) -> Path:
    """Write a run: green as long as chunks come, red and flagged from a frame on."""
    bag = EpisodeWriter(path, DEFINITIONS, min_free_bytes=0)

    def write(topic: str, stamp: int, sent: Any) -> None:
        kind = sent.__msgtype__
        bag.write(topic, kind, stamp, bytes(STORE.serialize_cdr(sent, kind)))

    for n, stamp in enumerate(stamps):
        strange = strange_from is not None and n >= strange_from
        write("/alt/observation", stamp, observation(stamp, RED if strange else GREEN))
        write("/alt/ood", stamp, flag(stamp, strange))
        if not strange:
            write("/alt/action_chunk", stamp, chunk(stamp, n % 6))
    bag.close()
    return path


def evenly(count: int, start: int = START) -> list[int]:
    return [start + n * PERIOD for n in range(count)]


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> DemonstrationStore:
    """Two demonstrations of six blue frames."""
    poses = np.zeros((6, 1, 7))
    poses[..., 6] = 1.0
    made = [
        Demonstration(
            name=f"demonstration_{number:02d}",
            stamps=np.array(evenly(6)),
            images={view: np.stack([plain(BLUE)] * 6) for view in VIEWS},
            poses=poses,
            grippers=np.full((6, 1), 0.08),
            state=np.zeros((6, 0)),
            actions=np.zeros((6, 10)),
            layout=ActionLayout(arms=1),
        )
        for number in range(2)
    ]
    return write_store(tmp_path_factory.mktemp("pictures") / "store", made)


def near(pixel: np.ndarray, colour: tuple[int, int, int], by: int = 25) -> bool:
    return bool(np.abs(np.asarray(pixel, int)[..., :3] - colour).max() <= by)


def test_a_label_scales_the_image_and_writes_its_text_below():
    tile = label(plain(RED), "live, wrist", 100)
    assert tile.shape == (100 + CAPTION, 100, 3)
    assert near(tile[:100], RED, by=0)
    assert (tile[100:] != BACKGROUND).any(), "text"
    assert (label(plain(RED), "", 100)[100:] == BACKGROUND).all()
    assert label(plain(RED), "live").shape == (TILE + CAPTION, TILE, 3)


def test_a_grid_places_tiles_by_row_and_column_with_gaps_between():
    picture = grid(
        [[plain(RED, 10, 20), plain(GREEN, 10, 20)], [plain(BLUE, 10, 20), plain(RED, 10, 20)]],
        gap=4,
    )
    assert picture.shape == (24, 44, 3)
    assert near(picture[:10, :20], RED, by=0)
    assert near(picture[:10, 24:], GREEN, by=0)
    assert near(picture[14:, :20], BLUE, by=0)
    assert near(picture[14:, 24:], RED, by=0)
    assert (picture[10:14] == BACKGROUND).all()
    assert (picture[:, 20:24] == BACKGROUND).all()


def test_a_picture_that_was_saved_is_read_back_in_its_colours(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    save_png(tmp_path / "new" / "picture.png", picture)
    np.testing.assert_array_equal(
        np.asarray(PillowImage.open(tmp_path / "new" / "picture.png")), picture
    )


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match="picture '.*folder.png' cannot be written"):
        save_png(tmp_path / "folder.png", plain(RED))


@pytest.mark.parametrize("name", ["picture.unknown", "picture"])
def test_a_kind_of_picture_that_does_not_exist_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=f"picture '.*{name}' cannot be written"):
        save_png(tmp_path / name, plain(RED))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        save_png(tmp_path / "file" / "picture.png", plain(RED))


def test_live_views_stand_above_the_recalled_frame(demonstrations):
    live = Observation(START, {view: plain(GREEN) for view in VIEWS})
    picture = recalled_beside_live(live, demonstrations[1], 2, "demonstration_01, frame 2")
    assert picture.shape == (2 * (TILE + CAPTION) + 4, 2 * TILE + 4, 3)
    below = TILE + CAPTION + 4
    for left in (0, TILE + 4):
        assert near(picture[:TILE, left : left + TILE], GREEN)
        assert near(picture[below : below + TILE, left : left + TILE], BLUE)


def test_a_run_is_read_with_chunks_and_flags_by_stamp(tmp_path):
    stamps = evenly(6)
    observations, chunks, flags = read_run(write_run(tmp_path / "run", stamps, strange_from=4))
    assert [o.stamp for o in observations] == stamps
    assert tuple(observations[0].images) == VIEWS
    assert sorted(chunks) == stamps[:4]
    assert [stamp for stamp in stamps if flags[stamp].flag] == stamps[4:]


def test_what_was_recorded_before_the_last_reset_is_left_out(tmp_path):
    stamps = evenly(3) + evenly(3, START + 10 * NANOSECONDS) + evenly(4, START + 30 * NANOSECONDS)
    observations, _, _ = read_run(write_run(tmp_path / "run", stamps))
    assert [o.stamp for o in observations] == stamps[6:]


def test_a_bag_without_observations_is_refused(tmp_path):
    bag = EpisodeWriter(tmp_path / "run", DEFINITIONS, min_free_bytes=0)
    sent = flag(START, up=False)
    bag.write("/alt/ood", sent.__msgtype__, START, STORE.serialize_cdr(sent, sent.__msgtype__))
    bag.close()
    for draw in (read_run, filmstrip):
        with pytest.raises(DataError, match="bag '.*run' holds no /alt/observation"):
            draw(tmp_path / "run")


def test_a_film_strip_shows_the_run_from_its_first_frame_to_its_last(tmp_path):
    strip = filmstrip(write_run(tmp_path / "run", evenly(12), strange_from=6), columns=4)
    side = 160
    assert strip.shape == (2 * (side + CAPTION) + 4, 4 * side + 3 * 4, 3)
    for top in (0, side + CAPTION + 4):
        shown = [strip[top : top + side, c * (side + 4) : c * (side + 4) + side] for c in range(4)]
        colours = [GREEN, GREEN, RED, RED]
        assert all(near(tile, colour) for tile, colour in zip(shown, colours, strict=True))


def test_a_run_shorter_than_the_strip_repeats_its_frames(tmp_path):
    strip = filmstrip(write_run(tmp_path / "run", evenly(1)), columns=3)
    assert strip.shape[1] == 3 * 160 + 2 * 4


def test_a_video_shows_the_recalled_frames_until_nothing_is_like_it(tmp_path, demonstrations):
    run = write_run(tmp_path / "run", evenly(12), strange_from=6)
    save_video(run, demonstrations, tmp_path / "run.gif")
    below = TILE + CAPTION + 4 + TILE // 2
    with PillowImage.open(tmp_path / "run.gif") as video:
        assert video.n_frames == 4, "every second frame; what repeats is shown for longer"
        assert video.size == (2 * TILE + 4, 2 * (TILE + CAPTION) + 4)
        frames = []
        for n in range(video.n_frames):
            video.seek(n)
            frames.append(np.asarray(video.convert("RGB")))
    first, last = frames[0], frames[-1]
    assert near(first[TILE // 2, TILE // 2], GREEN)
    assert near(first[below, TILE // 2], BLUE)
    assert near(last[TILE // 2, TILE // 2], RED)
    assert near(last[below, TILE // 2], (0, 0, 0))


def test_a_run_that_was_never_answered_gives_no_video(tmp_path, demonstrations):
    bag = EpisodeWriter(tmp_path / "run", DEFINITIONS, min_free_bytes=0)
    sent = observation(START, GREEN)
    bag.write(
        "/alt/observation", sent.__msgtype__, START, STORE.serialize_cdr(sent, sent.__msgtype__)
    )
    bag.close()
    save_video(tmp_path / "run", demonstrations, tmp_path / "run.gif")
    assert not (tmp_path / "run.gif").exists()
