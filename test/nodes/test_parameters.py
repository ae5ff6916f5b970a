"""Parameter files, dataclasses and docs/nodes.md say the same."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed: run 'make test'")

from alt_ros.errors import ConfigurationError
from alt_ros.nodes.camera_sync import CameraSyncParameters
from alt_ros.nodes.parameters import declare, help_text, parameter, table

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
CONFIG = sorted(p for p in (ROOT / "config").glob("*.yaml") if p.name != "diagnostics.yaml")
EVERY_NODE = "/**"
ROS_PARAMETERS = {"use_sim_time", "autostart"}
# create_publisher(Type, "topic", ...), create_service(Type, "name", ...), and lookup's _create
CREATED = re.compile(
    r'_?create(?:_lifecycle_publisher|_publisher|_subscription|_service)?\(\s*\w+, f?"([^"]+)"'
)

# Further files that make a node's topics.
PARTS = {
    "executor": ("arm_output.py", "executor_chunks.py", "executor_status.py"),
    "sim_bridge": ("sim_commands.py",),
}


@pytest.fixture(scope="module")
def documentation():
    path = ROOT / "docs" / "write_nodes.py"
    spec = importlib.util.spec_from_file_location("write_nodes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def classes(documentation):
    return {
        module: documentation.node_class(module, name) for module, name, _ in documentation.NODES
    }


def test_page_is_up_to_date(documentation):
    assert documentation.PAGE.read_text(encoding="utf-8") == documentation.page(), (
        "docs/nodes.md is stale: run '.venv/bin/python docs/write_nodes.py'"
    )


def test_page_has_every_node_that_is_installed(classes):
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    installed = re.search(r"set\(nodes\s+([^)]+)\)", cmake).group(1).split()
    assert set(installed) == set(classes)
    assert all(node.name == module for module, node in classes.items())


def test_page_names_exactly_the_topics_and_services_of_the_code(documentation):
    for module, _, interfaces in documentation.NODES:
        files = [f"{module}.py", *PARTS.get(module, ())]
        source = "".join(
            (ROOT / "alt_ros" / "nodes" / file).read_text(encoding="utf-8") for file in files
        )
        created = {topic.replace("{view}", "<view>") for topic in CREATED.findall(source)}
        if module in ("camera_sync", "console"):
            created.add("<view>/image_raw")  # its name is put together
        documented = {row[0] for rows in interfaces.values() for row in rows if row[0]}
        assert documented == created, module


@pytest.mark.parametrize("path", CONFIG, ids=lambda path: path.name)
def test_parameter_file_sets_only_what_exists_to_valid_values(path, classes):
    for node, content in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        values = content["ros__parameters"]
        own = set(values) - ROS_PARAMETERS
        if node == EVERY_NODE:
            assert not own
            continue
        fields = {field.name: field for field in dataclasses.fields(classes[node].Parameters)}
        assert own <= set(fields), node
        for name in own:
            check(fields[name], values[name])


def check(field, value):
    meta, default = field.metadata, field.default
    if isinstance(default, tuple):
        assert isinstance(value, list), field.name
        assert {type(v) for v in value} == {type(v) for v in default}, field.name
        return
    assert type(value) is type(default), field.name
    assert not meta["choices"] or value in meta["choices"], field.name
    assert meta["low"] is None or meta["low"] <= value <= meta["high"], field.name


def test_every_default_is_within_its_own_bounds(classes):
    for node in classes.values():
        for field in dataclasses.fields(node.Parameters):
            value = list(field.default) if isinstance(field.default, tuple) else field.default
            check(field, value)


def test_every_parameter_is_described(classes):
    for node in classes.values():
        assert all(meaning for *_, meaning in table(node.Parameters))


def test_help_names_every_parameter():
    text = help_text("camera_sync", "Pair.", CameraSyncParameters)
    assert all(row[0] in text for row in table(CameraSyncParameters))


@dataclasses.dataclass(frozen=True)
class Sample:
    rate: float = parameter(1.0, "Rate", unit="Hz", low=0.5, high=2.0)
    mode: str = parameter("a", "Mode", choices=("a", "b"))
    box: tuple[float, ...] = parameter((0.0, 1.0), "Box", unit="m")


@pytest.fixture
def node():
    import rclpy
    from rclpy.context import Context
    from rclpy.node import Node

    made = []
    context = Context()

    def make(**overrides):
        rclpy.init(
            context=context,
            args=["--ros-args", *(f for k, v in overrides.items() for f in ("-p", f"{k}:={v}"))],
        )
        made.append(Node("sample", context=context, start_parameter_services=False))
        return made[0]

    yield make
    for each in made:
        each.destroy_node()
    rclpy.try_shutdown(context=context)


def test_declared_values_come_from_the_overrides(node):
    values = declare(node(rate=2.0, box="[0.5, 0.75]"), Sample)
    assert values == Sample(rate=2.0, mode="a", box=(0.5, 0.75))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rate": 9.0}, r"parameter 'rate' of sample must be float in \[0.5, 2\] Hz"),
        ({"rate": "fast"}, "parameter 'rate' of sample must be float"),
        ({"mode": "c"}, "parameter 'mode' of sample must be one of a, b, got 'c'"),
    ],
)
def test_wrong_value_is_refused_with_what_is_allowed(node, overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        declare(node(**overrides), Sample)
