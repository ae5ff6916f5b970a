"""The walls between the rooms: what loads nothing heavy, what knows no ROS, who imports whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import alt_ros

PACKAGE = Path(alt_ros.__file__).parent
GENERATED = {PACKAGE / "msg", PACKAGE / "srv"}  # rosidl puts them there where ROS is built
MODULES = sorted(m for m in PACKAGE.rglob("*.py") if not GENERATED & set(m.parents))

ROS = {
    "rclpy",
    "sensor_msgs",
    "geometry_msgs",
    "std_msgs",
    "std_srvs",
    "diagnostic_msgs",
    "tf2_msgs",
    "trajectory_msgs",
    "rosgraph_msgs",
    "lifecycle_msgs",
    "builtin_interfaces",
    "alt_ros.msg",
    "alt_ros.srv",
    "launch",
    "launch_ros",
    "ament_index_python",
}

# (importing module, what it imports): the reason.
EXCEPTIONS = {
    ("alt_ros.diagnosis.libraries", "alt_ros.msg"): "alt doctor tries whether they are built",
}


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Yield every dotted name that the module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def imports_of(module: Path) -> list[str]:
    return list(imported_names(ast.parse(module.read_text(encoding="utf-8"))))


def rooms() -> list[str]:
    """Return the rooms in the order in which alt_ros/__init__.py names them."""
    lines = re.findall(r"^- (``.+?``): ", alt_ros.__doc__ or "", flags=re.MULTILINE)
    return [room for line in lines for room in re.findall(r"``(\w+)``", line)]


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def loaded_by(statement: str, candidates: set[str]) -> set[str]:
    """Return which of the candidates a fresh interpreter has loaded after the statement."""
    code = (
        f"import sys\n{statement}\nprint(*sorted(set({sorted(candidates)!r}) & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def name_of(module: Path) -> str:
    parts = module.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"torch", "rclpy", "numpy", "scipy", "cv2", "mujoco", "hnswlib", "rosbags", "mcap"}
    assert loaded_by("import alt_ros", heavy) == set()
    assert loaded_by("import alt_ros.types, scipy", heavy) >= {"numpy", "scipy"}  # the probe sees


NETWORKS = {
    f"alt_ros.policies.{name}"
    for name in (
        "act",
        "behavior_cloning",
        "denoising_transformer",
        "diffusion",
        "network",
        "network_policy",
        "temporal_unet",
        "vinn",
    )
}
TORCH_FREE = [
    name_of(module)
    for module in MODULES
    if len(module.relative_to(PACKAGE).parts) == 1
    or room_of(module) in ("demonstrations", "lookup", "policies", "simulation", "audit")
    if name_of(module) not in NETWORKS
]


def test_table_bundle_and_everything_the_arm_needs_load_without_torch():
    assert {"alt_ros.bundle", "alt_ros.lookup.lookup", "alt_ros.execution"} <= set(TORCH_FREE)
    assert loaded_by(f"import {', '.join(TORCH_FREE)}", {"torch", "torchvision", "rclpy"}) == set()


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if room_of(module) != "nodes"],
    ids=lambda module: str(module.relative_to(PACKAGE)),
)
def test_only_the_nodes_know_ros(module):
    known = [
        name
        for name in imports_of(module)
        if any(f"{name}.".startswith(f"{package}.") for package in ROS)
        and (name_of(module), name) not in EXCEPTIONS
    ]
    assert known == []


def test_the_probe_for_ros_sees_the_nodes():
    seen = {name.split(".")[0] for node in PACKAGE.glob("nodes/*.py") for name in imports_of(node)}
    assert {"rclpy", "sensor_msgs"} <= seen


def test_the_map_names_every_room_once():
    named = rooms()
    assert len(named) == len(set(named))
    assert set(named) == {room_of(m) for m in MODULES} - {"__init__"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_named_before_it(module):
    order = {room: place for place, room in enumerate(rooms())}
    own = room_of(module)
    imported = {name.split(".")[1] for name in imports_of(module) if name.startswith("alt_ros.")}
    assert {room for room in imported if order.get(room, -1) > order.get(own, -1)} == set()


def test_every_exception_is_still_needed():
    for module, name in EXCEPTIONS:
        assert name in imports_of(PACKAGE.parent / f"{module.replace('.', '/')}.py")
