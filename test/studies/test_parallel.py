"""Parts run in processes of their own; ``parts.py`` holds what they do."""

import os
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from alt_ros.errors import AltError, DataError
from alt_ros.studies.parallel import Part, side_by_side

sys.path.insert(0, str(Path(__file__).parent))  # a started process is told of it
import parts


def test_results_come_in_order_from_processes_of_one_thread_each():
    seen = []
    work = [Part(partial(parts.told, number), size) for number, size in enumerate((1, 5, 2, 3))]
    results = side_by_side(work, lambda *now: seen.append(now), workers=2)
    assert [number for number, _, _ in results] == [0, 1, 2, 3]
    assert os.getpid() not in {process for _, process, _ in results}
    assert {threads for _, _, threads in results} == {1}
    assert seen[-1] == (11, 11)
    assert all(0 <= done <= total == 11 for done, total in seen)


def test_as_many_parts_run_at_a_time_as_there_are_processes(tmp_path):
    work = [Part(partial(parts.meet, tmp_path, number)) for number in range(2)]
    assert side_by_side(work, workers=2) == [0, 1]


def test_an_error_is_raised_as_itself_and_stops_the_other_parts(tmp_path):
    work = [
        Part(partial(parts.go_on, tmp_path), 2),
        Part(partial(parts.fail, tmp_path)),
        Part(partial(parts.told, 0)),
    ]
    with pytest.raises(DataError, match="^the part's own words$"):
        side_by_side(work, workers=2)
    assert (tmp_path / "begun").exists()
    assert not (tmp_path / "ended").exists()


def test_a_process_that_was_killed_is_told_with_the_remedy():
    with pytest.raises(AltError, match="process was killed.*run it again"):
        side_by_side([Part(parts.die), Part(partial(parts.told, 0))], workers=2)


def test_one_worker_does_everything_here_with_one_thread():
    seen, threads = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        work = [Part(partial(parts.told, number), size) for number, size in enumerate((3, 4))]
        results = side_by_side(work, lambda *now: seen.append(now), workers=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert results == [(0, os.getpid(), 1), (1, os.getpid(), 1)]
    done = [count for count, _ in seen]
    assert done == sorted(done)
    assert {3, 7} <= set(done)
    assert all(count <= total == 7 for count, total in seen)


def test_an_error_here_leaves_the_threads_as_they_were():
    def fail(*, progress):
        raise DataError("here")

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(DataError, match="^here$"):
            side_by_side([Part(fail)])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_nothing_to_do_gives_nothing():
    assert side_by_side([]) == []
