from __future__ import annotations

import io

import pytest
from rich.console import Console

from alt_ros.errors import DataError
from alt_ros.progress import progress_bar


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=100), stream


def run_bar(target: Console, *states: tuple[int, int], error: str = "") -> None:
    with progress_bar(target, "counting") as advance:
        for done, total in states:
            advance(done, total)
        if error:
            raise DataError(error)


def test_a_terminal_shows_title_and_count_before_the_end():
    target, stream = console(terminal=True)
    with progress_bar(target, "counting") as advance:
        assert "counting" in stream.getvalue()
        advance(3, 7)
    assert "3/7" in stream.getvalue()


def test_a_log_gets_the_last_state_in_one_line():
    target, stream = console(terminal=False)
    run_bar(target, (1, 7), (4, 7), (7, 7))
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("counting")
    assert "7/7" in line
    assert "4/7" not in line


def test_a_later_total_replaces_the_first():
    target, stream = console(terminal=False)
    run_bar(target, (1, 2), (3, 9))
    assert "3/9" in stream.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_passes_through_and_how_far_it_got_stays(terminal):
    target, stream = console(terminal=terminal)
    with pytest.raises(DataError, match="^disk full$"):
        run_bar(target, (4, 7), error="disk full")
    assert "4/7" in stream.getvalue()


def test_an_error_before_anything_was_done_leaves_a_log_empty():
    target, stream = console(terminal=False)
    with pytest.raises(DataError):
        run_bar(target, error="bundle is missing")
    assert stream.getvalue() == ""
