"""Figures as files."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from alt_ros.errors import DataError


def write_json(path: Path, values: Any) -> None:
    """Write JSON, whole or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error}") from error


def machine() -> dict[str, Any]:
    """Return what figures were measured on: processor, cores, load."""
    import os

    processor = platform.processor()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        names = [line for line in cpu_info.read_text().splitlines() if "model name" in line]
        processor = names[0].split(":", 1)[1].strip() if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }
