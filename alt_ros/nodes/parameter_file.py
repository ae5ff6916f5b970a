"""A node's parameters as a file sets them, without ROS."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TypeVar

import yaml

from alt_ros.errors import ConfigurationError

Declared = TypeVar("Declared")


def read_parameters(config: Path | None, node: str, kind: type[Declared]) -> Declared:
    """Return a node's parameters as a file sets them, the rest as declared.

    Args:
        config: Parameter file; None takes everything as declared.
        node: Name of the node; what the file says under ``/**`` holds too.
        kind: Its parameter dataclass.

    Raises:
        ConfigurationError: The file cannot be read, or sets what is no parameter.
    """
    if config is None:
        return kind()
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        of_all = dict((content.get("/**") or {}).get("ros__parameters") or {})
        values = dict((content.get(node) or {}).get("ros__parameters") or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"parameter file '{config}' cannot be read: {error}") from error
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known) - {"use_sim_time", "autostart"})
    if unknown:
        raise ConfigurationError(f"parameter file '{config}': {node} has no {', '.join(unknown)}")
    set_here = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in {**of_all, **values}.items()
        if name in known
    }
    for name, value in set_here.items():
        wanted = type(known[name].default)
        fits = isinstance(value, (int, float) if wanted is float else wanted)
        if not fits or isinstance(value, bool) is not (wanted is bool):
            raise ConfigurationError(
                f"parameter file '{config}': {name} of {node} must be of type {wanted.__name__}, "
                f"got {value!r}"
            )
    return kind(**set_here)
