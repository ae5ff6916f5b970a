"""What the commands of ``alt`` share: where they speak, and how they write their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from alt_ros.report import write_json

console = Console(stderr=True)
DEMO_BUNDLE = Path("build/demo/bundle")
Policy = Literal["alt", "diffusion", "act", "vinn", "kdtree", "bc", "remote"]
Positional = tyro.conf.Positional
Flag = tyro.conf.FlagCreatePairsOff[bool]


def say(text: str) -> None:
    """Print to stderr without breaking lines: a path in them can be copied."""
    console.print(text, soft_wrap=True, markup=False)


def write(path: Path | None, values: object) -> None:
    """Write figures where a path was given, and say so."""
    if path is not None:
        write_json(path, values)
        say(f"written: {path}")
