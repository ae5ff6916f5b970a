"""``alt study NAME``: the papers' tables and studies, each from one command."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from alt_ros.errors import ConfigurationError
from alt_ros.progress import progress_bar
from alt_ros.terminal import Positional, console, say

Name = Literal["paper", "manifold", "lqr"]
Flag = tyro.conf.FlagCreatePairsOff[bool]


def study(
    name: Positional[Name],
    quick: Flag = False,
    full: Flag = False,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Run a study; write tables.json, report.md and report.html. What was broken off goes on.

    Args:
        name: paper: does each policy recall, and what does it cost. manifold: when a diffusion
            model memorises, generalises or misses, on 2-D curves. lqr: what a diffusion policy
            learns from a linear controller.
        quick: Within 15 minutes on two cores.
        full: As far as it goes; hours on two cores.
        out: Folder; build/studies/NAME unless given.
        seed: Of everything drawn.
        device: auto, cpu or cuda.
    """
    from alt_ros.studies.report import write_report

    if quick == full:
        raise ConfigurationError(f"study '{name}': say either --quick or --full")
    folder = Path("build/studies") / name if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    if name == "paper":
        from alt_ros.studies.paper import run_paper as run
    elif name == "manifold":
        from alt_ros.studies.manifold import run_manifold as run
    else:
        from alt_ros.studies.lqr import run_lqr as run
    with progress_bar(console, f"study {name}") as progress:
        report = run(folder, quick=quick, seed=seed, device=device, progress=progress)
    page = write_report(folder, report)
    for sentence in report.summary:
        Console().print(sentence, markup=False)
    say(f"written: {page}, tables.json and report.md beside it")
