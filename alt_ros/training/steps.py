"""The loop of every training: steps, scalars, checkpoints, and taking up what is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from alt_ros.errors import DependencyError
from alt_ros.progress import Advance

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class Run(Protocol):
    """One training: what it learns, and the file that it survives in."""

    def step(self, step: int) -> float:
        """Take one optimiser step and return its loss."""
        ...

    def save(self, path: Path, done: int) -> None:
        """Write the checkpoint; the older one stays until the new one is complete."""
        ...

    def resume(self, path: Path) -> int:
        """Read the checkpoint, if there is one, and return the number of steps done."""
        ...


@dataclass(frozen=True)
class Steps:
    """What was done.

    Attributes:
        first: Step that this process started from.
        seconds: Time that its steps took.
    """

    first: int
    seconds: float


def take_steps(
    run: Run,
    checkpoint: Path,
    steps: int,
    *,
    rate: Callable[[int], float],
    checkpoint_every: int,
    progress: Advance,
    tensorboard: bool,
    stop_at: int | None,
) -> Steps | None:
    """Train to the end, from the last checkpoint on.

    Args:
        run: What is trained.
        checkpoint: Its file; TensorBoard's events go beside it.
        steps: In all.
        rate: Step to learning rate, for the scalars.
        checkpoint_every: Steps from one checkpoint to the next.
        progress: Called after each step with (steps done, steps in all).
        tensorboard: Write scalars for TensorBoard.
        stop_at: Break off, with a checkpoint, after this step; None trains to the end.

    Returns:
        What was done; None where it was broken off.

    Raises:
        DependencyError: TensorBoard is asked for and not installed.
    """
    first = run.resume(checkpoint)
    writer = _writer(checkpoint.parent, first) if tensorboard else None
    started = time.monotonic()
    try:
        with torch.random.fork_rng(devices=[]):
            for step in range(first, steps):
                loss = run.step(step)
                if writer is not None:
                    writer.add_scalar("train/loss", loss, step)
                    writer.add_scalar("train/learning_rate", rate(step), step)
                done = step + 1
                broken_off = stop_at is not None and done >= stop_at and done < steps
                if done % checkpoint_every == 0 or done == steps or broken_off:
                    run.save(checkpoint, done)
                progress(done, steps)
                if broken_off:
                    return None
    finally:
        if writer is not None:
            writer.close()
    return Steps(first, time.monotonic() - started)


def write_scalar(folder: Path, name: str, value: float, step: int) -> None:
    """Add one scalar to a folder's TensorBoard events."""
    writer = _writer(folder)
    writer.add_scalar(name, value, step)
    writer.close()


def _writer(folder: Path, step: int | None = None) -> SummaryWriter:
    """Return where scalars go; what an earlier run wrote from ``step`` on is dropped."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise DependencyError(
            f"training writes scalars for TensorBoard, which does not import ({error}): "
            "pip install tensorboard, or train without"
        ) from error
    return SummaryWriter(str(folder), purge_step=step)
