"""The loop of every training: steps, scalars, checkpoints, and taking up what is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from alt_ros.errors import ConfigurationError, DataError, DependencyError
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


def save_state(path: Path, identity: str, done: int, state: dict[str, Any]) -> None:
    """Write a checkpoint; the older one stays until the new one is complete.

    Args:
        path: The file.
        identity: Of the training: everything that its weights depend on.
        done: Steps.
        state: What the training goes on from; tensors and what holds them.
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save({**state, "identity": identity, "done": done}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(path: Path, identity: str, device: torch.device) -> dict[str, Any] | None:
    """Return what ``save_state`` wrote, with ``done``; None where there is no file.

    Raises:
        DataError: The file is damaged.
        ConfigurationError: It is of another training.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        found, _ = str(state["identity"]), int(state["done"])
    except Exception as error:  # damage shows anywhere inside torch's unpickler
        raise DataError(
            f"checkpoint '{path}' cannot be read: delete it to start again "
            f"({type(error).__name__})"
        ) from error
    if found != identity:
        raise ConfigurationError(
            f"checkpoint '{path}' is of a training with another store, network or setting: choose "
            "another output folder, or delete it"
        )
    return state


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
