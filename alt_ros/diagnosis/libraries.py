"""The libraries, messages and nodes that the graph is made of."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator

from alt_ros.diagnosis.finding import Finding
from alt_ros.errors import AltError

GROUP = "software"


def examine_libraries() -> Iterator[Finding]:
    """Yield what can be imported, and what cannot."""
    yield _module("rclpy", "source your ROS installation, or run 'make env'", required=False)
    yield _messages()
    yield _nodes()
    yield _module("torch", "pip install torch")
    yield _module("hnswlib", "pip install hnswlib (needs g++)")
    yield _rendering()


def _module(name: str, remedy: str, *, required: bool = True) -> Finding:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return Finding(name, False, str(error), remedy, required, GROUP)
    return Finding(name, True, str(getattr(module, "__version__", "")), "", required, GROUP)


def _messages() -> Finding:
    subject = "alt_ros messages"
    try:
        importlib.import_module("alt_ros.msg")
    except ImportError as error:
        remedy = "build the package with colcon and source its setup file, or run 'make env'"
        return Finding(subject, False, str(error), remedy, required=False, group=GROUP)
    return Finding(subject, True, "importable", required=False, group=GROUP)


def _nodes() -> Finding:
    from alt_ros.nodes import graph

    try:
        return Finding("nodes", True, str(graph.prefix()), required=False, group=GROUP)
    except AltError as error:
        return Finding("nodes", False, "not installed", str(error), required=False, group=GROUP)


def _rendering() -> Finding:
    subject = "simulation"
    render: Callable[[], object]
    try:
        from alt_ros.simulation.cup_grasp import CupGraspSimulation

        simulation = CupGraspSimulation((32, 32))
        render = simulation.render
        render()
        simulation.close()
    except (AltError, ImportError) as error:
        return Finding(subject, False, "no images", str(error), required=False, group=GROUP)
    detail = f"renders ({os.environ.get('MUJOCO_GL')})"
    return Finding(subject, True, detail, required=False, group=GROUP)
