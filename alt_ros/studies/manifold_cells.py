"""The trainings of the study of a 2-D manifold, side by side, each kept in a file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.progress import Advance
from alt_ros.studies import curves, manifold_training
from alt_ros.studies.curves import curve
from alt_ros.studies.manifold_judgement import Judgement, judge
from alt_ros.studies.manifold_settings import Cell, Settings
from alt_ros.studies.manifold_training import Generated, generate
from alt_ros.studies.parallel import Part, side_by_side

Results = dict[Cell, tuple[Generated, Judgement]]


def train_cells(
    settings: Settings,
    *,
    seed: int,
    device: str,
    kept: Path | None = None,
    progress: Advance = lambda done, total: None,
    workers: int | None = None,
) -> Results:
    """Train and judge every cell of the settings.

    The same points are shown to both networks of a shape and repeat.

    Args:
        settings: What is trained.
        seed: Of everything.
        device: Where, as torch names it.
        kept: Folder of finished cells, taken up where their settings are the same; None keeps
            nothing.
        progress: Called with (training steps done, in all).
        workers: See ``side_by_side``; one on a device that all would share.

    Raises:
        ConfigurationError: The device does not exist or the seed is negative.
        DataError: A kept cell cannot be read or written.
        DependencyError: diffusers is not installed.
    """
    _check(seed, device)
    cells = settings.cells()
    parts = [
        Part(
            partial(train_cell, settings, cell, seed=seed, device=device, kept=kept),
            size=settings.network(cell).steps,
        )
        for cell in cells
    ]
    alone = torch.device(device).type != "cpu"
    results = side_by_side(parts, progress, 1 if alone else workers)
    return dict(zip(cells, results, strict=True))


def train_cell(
    settings: Settings,
    cell: Cell,
    *,
    seed: int,
    device: str,
    kept: Path | None,
    progress: Advance = lambda done, total: None,
) -> tuple[Generated, Judgement]:
    """Train and judge one cell; see ``train_cells``."""
    path = None if kept is None else kept / _name(settings, cell, seed, device)
    generated = None if path is None else _load(path)
    if generated is None:
        generator = np.random.default_rng(_stream(seed, cell, "points"))
        points = curve(cell.shape).draw(settings.points(cell), generator)
        generated = generate(
            points.astype(np.float32),
            settings.network(cell),
            settings.samples,
            seed=int(_stream(seed, cell, cell.size).generate_state(1)[0]),
            device=device,
            progress=progress,
        )
        if path is not None:
            _save(path, generated)
    fresh = np.random.default_rng(_stream(seed, cell, "fresh"))
    training = generated.training.astype(np.float64)
    samples = generated.samples.astype(np.float64)
    return generated, judge(samples, training, curve(cell.shape), fresh)


def _check(seed: int, device: str) -> None:
    if seed < 0:
        raise ConfigurationError(f"seed: a number of at least 0 is needed, got {seed}")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"device: one that torch can use is needed, got '{device}' ({reason}): try 'cpu'"
        ) from error


def _stream(seed: int, cell: Cell, purpose: str) -> np.random.SeedSequence:
    """Return the seeds of a purpose, which no other cell and no order of cells changes."""
    text = f"{cell.shape} {cell.amount} {cell.repeat} {purpose}"
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.SeedSequence([seed, int.from_bytes(digest[:8], "little")])


def _name(settings: Settings, cell: Cell, seed: int, device: str) -> str:
    """Return the file of a cell, other for other settings or other code that makes its samples.

    Threads are not part of it: ``side_by_side`` gives every training one.
    """
    trained = asdict(settings.network(cell)), settings.points(cell), settings.samples
    digest = hashlib.sha256(json.dumps([trained, seed, device]).encode())
    for module in (curves.__file__, manifold_training.__file__, __file__):
        digest.update(Path(module).read_bytes())
    return f"{'-'.join(map(str, cell))}-{digest.hexdigest()[:12]}.npz"


def _save(path: Path, generated: Generated) -> None:
    unfinished = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez(file, **vars(generated))
        unfinished.replace(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error}") from error


def _load(path: Path) -> Generated | None:
    """Return a kept cell; None where there is none."""
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            return Generated(
                training=file["training"],
                samples=file["samples"],
                loss=float(file["loss"]),
                seconds=float(file["seconds"]),
            )
    except Exception as error:  # damage shows as a zip, a key, a type or a value
        raise DataError(
            f"'{path}' cannot be read as a kept cell: {error}: remove it to train it again"
        ) from error
