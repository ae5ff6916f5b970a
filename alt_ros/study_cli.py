"""``alt study NAME``: the papers' tables and studies, each from one command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from alt_ros.errors import ConfigurationError
from alt_ros.progress import progress_bar
from alt_ros.terminal import Flag, Positional, console, say

if TYPE_CHECKING:
    from alt_ros.studies.report import Report

Name = Literal["paper", "encoders", "multimodal", "manifold", "lqr", "horizon", "scaling", "pusht"]


def study(
    name: Positional[Name],
    quick: Flag = False,
    full: Flag = False,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    data: Path | None = None,
    weights: dict[str, Path] | None = None,
) -> None:
    """Run a study; write tables.json, report.md and report.html. What was broken off goes on.

    Args:
        name: paper: does each policy recall, and what does it cost. encoders: which encoder
            recalls best. multimodal: does a policy commit to one of two ways. manifold: when a
            diffusion model memorises, generalises or misses, on 2-D curves. lqr: what a diffusion
            policy learns from a linear controller. horizon: how many actions of a chunk to
            execute. scaling: from 31 to 20,000 demonstrations. pusht: the public benchmark.
        quick: Within 15 minutes on two cores.
        full: As far as it goes; hours on two cores.
        out: Folder; build/studies/NAME unless given.
        seed: Of everything drawn.
        device: auto, cpu or cuda.
        data: pusht: the human demonstrations, pusht_cchi_v7_replay.zarr.zip.
        weights: encoders: backbone to the file of its pretrained weights.
    """
    from alt_ros.studies.report import write_report

    if quick == full:
        raise ConfigurationError(f"study '{name}': say either --quick or --full")
    folder = Path("build/studies") / name if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    run = _study(name, data, weights)
    with progress_bar(console, f"study {name}") as progress:
        report = run(folder, quick=quick, seed=seed, device=device, progress=progress)
    page = write_report(folder, report)
    for sentence in report.summary:
        Console().print(sentence, markup=False)
    say(f"written: {page}, tables.json and report.md beside it")


def _study(name: str, data: Path | None, weights: dict[str, Path] | None) -> Callable[..., Report]:
    """Return what runs a study; an option that it has no use for is refused."""
    if data is not None and name != "pusht":
        raise ConfigurationError(f"study '{name}': --data is of the study pusht, leave it out")
    if weights is not None and name != "encoders":
        raise ConfigurationError(
            f"study '{name}': --weights is of the study encoders, leave it out"
        )
    if name == "pusht":
        from alt_ros.studies.push_t import run_push_t

        return partial(run_push_t, data=data)
    if name == "encoders":
        from alt_ros.studies.encoders import run_encoders

        return partial(run_encoders, weights=weights)
    return getattr(import_module(f"alt_ros.studies.{name}"), f"run_{name}")
