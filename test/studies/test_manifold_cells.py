"""A small study trains, repeats and resumes, however many processes it has."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from alt_ros.errors import DataError
from alt_ros.studies import manifold_cells
from alt_ros.studies.manifold_settings import EXPECTED, Settings
from alt_ros.studies.manifold_training import Network

TINY = Settings(
    small=Network(width=4, depth=1, steps=20, batch=16, learning_rate=1e-2),
    large=Network(width=16, depth=2, steps=30, batch=16, learning_rate=1e-2),
    few=5,
    many=50,
    shapes=("star", "heart"),
    repeats=2,
    samples=40,
)
train_cells = partial(manifold_cells.train_cells, workers=1)  # a process takes longer to start


def test_the_same_seed_gives_the_same_samples_and_another_one_others():
    one = train_cells(TINY, seed=3, device="cpu")
    torch.rand(7)  # whatever else has drawn numbers before
    again = train_cells(replace(TINY, shapes=("heart", "star")), seed=3, device="cpu")
    other = train_cells(TINY, seed=4, device="cpu")
    assert list(one) == TINY.cells()
    for cell, (generated, judged) in one.items():
        np.testing.assert_array_equal(generated.samples, again[cell][0].samples)
        assert judged == again[cell][1]
        assert not np.array_equal(generated.samples, other[cell][0].samples)


def test_both_networks_see_the_same_points_and_repeats_see_others():
    results = {
        cell: generated for cell, (generated, _) in train_cells(TINY, seed=0, device="cpu").items()
    }
    for cell, generated in results.items():
        assert generated.training.shape == (TINY.points(cell), 2)
        twin = results[cell._replace(size="small" if cell.size == "large" else "large")]
        np.testing.assert_array_equal(generated.training, twin.training)
        repeated = results[cell._replace(repeat=1 - cell.repeat)]
        assert not np.array_equal(generated.training, repeated.training)
        assert generated.samples.shape == (40, 2)


def test_the_progress_counts_every_step_once():
    seen: list[tuple[int, int]] = []
    train_cells(
        TINY, seed=0, device="cpu", progress=lambda done, total: seen.append((done, total))
    )
    total = 2 * 2 * 2 * (20 + 30)
    assert {end for _, end in seen} == {total}
    done = [count for count, _ in seen]
    assert done == sorted(done)
    assert done[-1] == total


def test_training_leaves_torch_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    train_cells(replace(TINY, shapes=("star",), repeats=1), seed=0, device="cpu")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected)


def test_a_finished_cell_is_taken_up_and_a_missing_one_is_trained(tmp_path):
    first = train_cells(TINY, seed=0, device="cpu", kept=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(first) == 16
    changed = {path: path.stat().st_mtime_ns for path in files}
    files[0].unlink()
    second = train_cells(TINY, seed=0, device="cpu", kept=tmp_path)
    assert sorted(tmp_path.iterdir()) == files
    assert [p for p in files if p.stat().st_mtime_ns != changed[p]] == [files[0]]
    for cell, (generated, judged) in first.items():
        np.testing.assert_array_equal(generated.samples, second[cell][0].samples)
        assert judged == second[cell][1]


def test_cells_of_other_settings_are_not_taken_up(tmp_path):
    one = replace(TINY, shapes=("star",), repeats=1)
    train_cells(one, seed=0, device="cpu", kept=tmp_path)
    for other, seed in (
        (one, 1),
        (replace(one, samples=41), 0),
        (replace(one, few=6, many=51), 0),
    ):
        before = len(list(tmp_path.iterdir()))
        train_cells(other, seed=seed, device="cpu", kept=tmp_path)
        assert len(list(tmp_path.iterdir())) == before + len(EXPECTED)


def test_a_damaged_cell_is_named_with_the_remedy(tmp_path):
    one = replace(TINY, shapes=("star",), repeats=1)
    train_cells(one, seed=0, device="cpu", kept=tmp_path)
    path = min(tmp_path.iterdir())
    path.write_bytes(b"PK damaged")
    with pytest.raises(DataError, match=f"{path.name}' cannot be read .* remove it"):
        train_cells(one, seed=0, device="cpu", kept=tmp_path)


def test_processes_side_by_side_give_the_numbers_of_one(tmp_path):
    small = replace(TINY, shapes=("star",), repeats=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = train_cells(small, seed=0, device="cpu")
    finally:
        torch.set_num_threads(threads)
    beside = train_cells(small, seed=0, device="cpu", kept=tmp_path, workers=2)
    assert list(beside) == list(alone)
    for cell, (generated, judged) in alone.items():
        np.testing.assert_array_equal(generated.samples, beside[cell][0].samples)
        assert judged == beside[cell][1]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 4
    train_cells(small, seed=0, device="cpu", kept=tmp_path)  # takes up what the processes kept
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
