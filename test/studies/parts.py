"""Parts of a study for ``test_parallel.py``: a started process imports them by their name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch

from alt_ros.errors import DataError
from alt_ros.progress import Advance


def told(number: int, *, progress: Advance) -> tuple[int, int, int]:
    """Return the number, the process and its threads; report more steps than it announced."""
    for done in range(1, 8):
        progress(done, 4)
    return number, os.getpid(), torch.get_num_threads()


def meet(folder: Path, number: int, *, progress: Advance) -> int:
    """Return the number, once another part has come to the folder too."""
    (folder / str(number)).touch()
    _until(lambda: len(list(folder.iterdir())) > 1)
    return number


def fail(folder: Path, *, progress: Advance) -> None:
    """Fail while another part runs, which says so in the folder."""
    _until(lambda: (folder / "begun").exists())
    raise DataError("the part's own words")


def go_on(folder: Path, *, progress: Advance) -> None:
    """Report until it is stopped; at most for four minutes."""
    (folder / "begun").touch()
    for step in range(2400):
        progress(step, 2400)
        time.sleep(0.1)
    (folder / "ended").touch()


def die(*, progress: Advance) -> None:
    """End as a process does for which the system has no memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _until(happened) -> None:
    for _ in range(2400):
        if happened():
            return
        time.sleep(0.1)
    raise TimeoutError
