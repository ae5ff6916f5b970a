import dataclasses

import numpy as np
import pytest
from tables import actions, table

from alt_ros.errors import BundleError, DataError
from alt_ros.lookup.table import Table
from alt_ros.types import Neighbour


def test_a_chunk_begins_with_the_action_of_its_own_frame():
    chunk = table((6, 4)).chunk(1, 1, horizon=2, stamp=7, similarity=0.9)
    assert chunk.actions[:, 0].tolist() == [7.0, 8.0]
    assert (chunk.stamp, chunk.period) == (7, 50_000_000)
    assert chunk.source == Neighbour(1, 1, 0.9)


@pytest.mark.parametrize(
    ("frame", "expected"), [(4, [4.0, 5.0]), (5, [5.0]), (0, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]
)
def test_a_chunk_ends_with_its_demonstration_and_never_runs_into_the_next(frame, expected):
    chunk = table((6, 4)).chunk(0, frame, horizon=30, stamp=0, similarity=1.0)
    assert chunk.actions[:, 0].tolist() == expected


def test_a_chunk_does_not_lend_out_the_tables_memory():
    held = table()
    held.chunk(0, 0, 3, 0, 1.0).actions[:] = 99.0
    assert held.actions[0, 0] == 0.0


@pytest.mark.parametrize(("demonstration", "frame"), [(3, 0), (-1, 0), (0, 6), (0, -1)])
def test_a_frame_that_does_not_exist_is_refused(demonstration, frame):
    with pytest.raises(DataError, match="table: demonstration"):
        table().chunk(demonstration, frame, 3, 0, 1.0)


def test_a_table_survives_the_disk_bit_for_bit(tmp_path):
    held = table()
    held.save(tmp_path / "table.npz")
    read = Table.load(tmp_path / "table.npz")
    for field in dataclasses.fields(Table):
        one, other = getattr(held, field.name), getattr(read, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes()
        else:
            assert one == other
    assert [path.name for path in tmp_path.iterdir()] == ["table.npz"]


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_without_a_demonstration_the_others_are_as_they_were(left_out):
    held = table((6, 4, 5))
    rest = held.without(left_out)
    others = [number for number in range(3) if number != left_out]
    assert rest.names == tuple(held.names[number] for number in others)
    assert rest.demonstrations == 2
    for new, old in enumerate(others):
        for field in ("embeddings", "view_embeddings", "actions", "poses", "grippers", "frame"):
            np.testing.assert_array_equal(
                getattr(rest, field)[rest.rows(new)], getattr(held, field)[held.rows(old)]
            )
    with pytest.raises(DataError, match="only demonstration"):
        table((5,)).without(0)


def test_loading_never_unpickles(tmp_path):
    held = {"embeddings": np.array([{"a": 1}], dtype=object)}
    np.savez(tmp_path / "table.npz", **held)
    with pytest.raises(BundleError, match="must be an npz file of alt_ros"):
        Table.load(tmp_path / "table.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a table"])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "table.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"table\.npz"):
        Table.load(tmp_path / "table.npz")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("actions", actions(3)),
        ("episode_ends", np.array([6, 6, 15])),
        ("period", 0),
        ("names", ("a",)),
        ("embeddings", np.zeros((15, 16), np.float32)),
        ("embeddings", np.full((15, 16), np.nan, np.float32)),
        ("demonstration", np.zeros(15, np.int32)),
    ],
)
def test_contradicting_arrays_are_refused(name, value):
    with pytest.raises(DataError, match="table"):
        dataclasses.replace(table(), **{name: value})
