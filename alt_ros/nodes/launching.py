"""What the launch files share: the graph's nodes and their environment as launch actions.

Imported by the files in launch/ alone, since ``launch`` is not everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.events.process import ProcessExited
from launch_ros.actions import Node

from alt_ros.errors import AltError, ConfigurationError
from alt_ros.nodes import graph

CONFIG = DeclareLaunchArgument(
    "config",
    default_value="",
    description="Parameter file on top of the package's own; empty for none",
)
LOG_LEVEL = DeclareLaunchArgument(
    "log_level",
    default_value="info",
    choices=["debug", "info", "warn", "error", "fatal"],
    description="What the nodes log",
)

OnExit = Callable[[ProcessExited, LaunchContext], Any]


def environment_actions() -> list[SetEnvironmentVariable]:
    """Return what sets the environment that every node needs."""
    return [
        SetEnvironmentVariable(name, value)
        for name, value in graph.environment().items()
        if os.environ.get(name) != value
    ]


def node_actions(
    nodes: Mapping[str, Mapping[str, Any]],
    files: Sequence[Path],
    log_level: str,
    on_exit: Mapping[str, OnExit] | None = None,
) -> list[Node]:
    """Return what starts nodes.

    Args:
        nodes: Name to parameters on top of the files'.
        files: Parameter files, later ones win.
        log_level: What the nodes log.
        on_exit: Name to what its end does; the others bring the launch down.
    """
    return [
        Node(
            package="alt_ros",
            executable=node,
            name=node,
            parameters=[*map(str, files), {"autostart": True, **parameters}],
            ros_arguments=["--log-level", log_level],
            output="screen",
            on_exit=(on_exit or {}).get(node, partial(bring_down, node)),
        )
        for node, parameters in nodes.items()
    ]


def bring_down(node: str, event: ProcessExited, context: LaunchContext) -> None:
    """End the launch, with a status that is not 0: the graph is no use without one of its nodes.

    Raises:
        AltError: Unless everything is being shut down; launch reports it and stops the others.
    """
    if not context.is_shutdown:
        raise AltError(f"node '{node}' ended with status {event.returncode}: stopping the others")


def existing_file(argument: str, value: str) -> Path:
    """Return the file that a launch argument names.

    Raises:
        ConfigurationError: There is none.
    """
    path = Path(value).resolve()
    if not path.is_file():
        raise ConfigurationError(f"{argument}:='{value}' must be a parameter file, there is none")
    return path
