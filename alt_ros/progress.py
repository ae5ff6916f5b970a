"""Progress bars on the terminal, with the time that remains."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int, int], None]
"""Called with (done, total)."""


@contextmanager
def progress_bar(console: Console, title: str) -> Generator[Advance, None, None]:
    """Yield a function of (done, total) that draws a bar.

    Where the console is no terminal, the bar's last state is printed at the end, once; nothing is
    printed where nothing was begun, so that an error stands alone.
    """
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        try:
            yield advance
        finally:
            if progress.disable and progress.tasks[0].total is not None:
                console.print(progress)
