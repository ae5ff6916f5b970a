"""What ``alt doctor`` looks at: each finding with its remedy."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alt_ros.errors import AltError

SHARED_MEMORY_MIB = 512
SOCKET_BUFFER_BYTES = 8_388_608


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What.
        ok: Whether it is as it should be.
        detail: What was found.
        remedy: What to do; empty where there is nothing to do.
        required: Whether the graph cannot run without it.
    """

    subject: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True


def examine() -> list[Finding]:
    """Return the findings, most fundamental first."""
    return [
        _module("rclpy", "source your ROS installation, or run 'make env'", required=False),
        _messages(),
        _nodes(),
        _dds_profile(),
        _shared_memory(),
        _socket_buffers(),
        _module("torch", "pip install torch"),
        _accelerator(),
        _module("hnswlib", "pip install hnswlib (needs g++)"),
        _rendering(),
    ]


def _module(name: str, remedy: str, *, required: bool = True) -> Finding:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return Finding(name, False, str(error), remedy, required)
    return Finding(name, True, str(getattr(module, "__version__", "")), "", required)


def _messages() -> Finding:
    try:
        importlib.import_module("alt_ros.msg")
    except ImportError as error:
        remedy = "build the package with colcon and source its setup file, or run 'make env'"
        return Finding("alt_ros messages", False, str(error), remedy, required=False)
    return Finding("alt_ros messages", True, "importable", required=False)


def _nodes() -> Finding:
    from alt_ros.nodes import graph

    try:
        return Finding("nodes", True, str(graph.prefix()), required=False)
    except AltError as error:
        return Finding("nodes", False, "not installed", str(error), required=False)


def _dds_profile() -> Finding:
    from alt_ros.nodes import graph

    subject = "DDS profile"
    middleware = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if "fastrtps" not in middleware:
        return Finding(subject, True, f"{middleware}: none needed", required=False)
    try:
        name, file = graph.dds_profile()
    except AltError as error:
        return Finding(subject, False, "no nodes", str(error), required=False)
    current = os.environ.get(name, "")
    if current:
        there = Path(current).is_file()
        return Finding(subject, there, f"{name}={current}", "" if there else "no such file")
    return Finding(
        subject,
        True,
        f"alt up and the launch files set {name}",
        f"elsewhere: export {name}={file}",
    )


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    subject, remedy = (
        "shared memory",
        f"give /dev/shm {SHARED_MEMORY_MIB} MiB (docker: --shm-size)",
    )
    if not folder.is_dir():
        return Finding(subject, False, "/dev/shm is not there", remedy, required=False)
    free = shutil.disk_usage(folder).free >> 20
    enough = free >= SHARED_MEMORY_MIB
    return Finding(subject, enough, f"{free} MiB free", "" if enough else remedy, required=False)


def _socket_buffers() -> Finding:
    sizes = [_kernel(f"/proc/sys/net/core/{name}_max") for name in ("rmem", "wmem")]
    remedy = f"sudo sysctl -w net.core.rmem_max={SOCKET_BUFFER_BYTES} net.core.wmem_max=" + str(
        SOCKET_BUFFER_BYTES
    )
    enough = min(sizes) >= SOCKET_BUFFER_BYTES
    detail = f"receive {sizes[0] >> 10} KiB, send {sizes[1] >> 10} KiB"
    return Finding(
        "UDP buffers (between hosts)", enough, detail, "" if enough else remedy, required=False
    )


def _kernel(path: str) -> int:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _accelerator() -> Finding:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return Finding("GPU", False, "no torch", "pip install torch", required=False)
    if torch.cuda.is_available():
        return Finding("GPU", True, torch.cuda.get_device_name(0), required=False)
    return Finding("GPU", True, "none: the encoder runs on the CPU", required=False)


def _rendering() -> Finding:
    render: Callable[[], object]
    try:
        from alt_ros.simulation.cup_grasp import CupGraspSimulation

        simulation = CupGraspSimulation((32, 32))
        render = simulation.render
        render()
        simulation.close()
    except (AltError, ImportError) as error:
        return Finding("simulation", False, "no images", str(error), required=False)
    return Finding("simulation", True, f"renders ({os.environ.get('MUJOCO_GL')})", required=False)
