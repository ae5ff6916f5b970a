"""What viewers are given fits the graph: topics, fields, frames, quality of service, names."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed: run 'make test'")

from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
from alt_ros.nodes.node import AltNode
from alt_ros.nodes.sim_bridge import BASE_FRAME

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = ROOT / "config" / "alt.foxglove.json"
RVIZ = ROOT / "config" / "alt.rviz"
DIAGNOSTICS = ROOT / "config" / "diagnostics.yaml"
PAGE = ROOT / "docs" / "viewers.md"
IMAGES, POSES = "sensor_msgs/Image", "geometry_msgs/PoseStamped"
DISPLAYS = {"rviz_default_plugins/Image": IMAGES, "rviz_default_plugins/Pose": POSES}
NUMBERS = {"double", "float", "boolean", "int32", "uint32", "uint64"}


@pytest.fixture(scope="module")
def nodes() -> Any:
    """The table that docs/nodes.md is written from; another test holds it to the code."""
    path = ROOT / "docs" / "write_nodes.py"
    spec = importlib.util.spec_from_file_location("write_nodes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def published(nodes: Any) -> dict[str, tuple[str, str]]:
    """Topic to type and quality of service of everything that our nodes publish."""
    found: dict[str, tuple[str, str]] = {
        "/diagnostics": ("diagnostic_msgs/DiagnosticArray", "reliable")
    }
    for _, _, interfaces in nodes.NODES:
        for name, kind, quality, _ in interfaces.get(nodes.PUBLISHES, []):
            for view in CameraSyncParameters().views:
                topic = name.replace("<view>", view)
                found[topic if topic.startswith("/") else f"/{topic}"] = kind, quality
    return found


@pytest.fixture(scope="module")
def commands(nodes: Any) -> set[str]:
    """Topics whose subscribers count as the arm's controller."""
    rows = [row for _, _, interfaces in nodes.NODES for row in interfaces.get(nodes.PUBLISHES, [])]
    found = {name for name, _, quality, _ in rows if quality == "command"}
    assert found == {"target_pose", "target_twist", "joint_trajectory", "target_gripper"}
    return found


@pytest.fixture(scope="module")
def layout() -> dict[str, Any]:
    return json.loads(LAYOUT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rviz() -> dict[str, Any]:
    return yaml.safe_load(RVIZ.read_text(encoding="utf-8"))["Visualization Manager"]


def leaves(layout: Any) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
        return
    assert set(layout) == {"direction", "first", "second", "splitPercentage"}
    assert layout["direction"] in ("row", "column")
    assert 0 < layout["splitPercentage"] < 100
    yield from leaves(layout["first"])
    yield from leaves(layout["second"])


def paths_of(panel: str, config: dict[str, Any]) -> list[str]:
    """Return the message paths that a panel draws; a panel of another kind is refused."""
    kind = panel.split("!")[0]
    if kind in ("Plot", "StateTransitions"):
        return [path["value"] for path in config["paths"]]
    if kind == "RawMessages":
        return [config["topicPath"]]
    if kind == "Image":
        return [config["imageMode"]["imageTopic"]]
    if kind == "3D":
        return list(config["topics"])
    if kind == "DiagnosticSummary":
        return [config["topicToRender"]]
    assert kind == "CallService", f"what does '{kind}' do to the robot?"
    return []


def fields(kind: str) -> dict[str, str]:
    package, name = kind.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name).get_fields_and_field_types()


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else ():
        yield from strings(inner)
    for inner in value if isinstance(value, list) else ():
        yield from strings(inner)
    if isinstance(value, dict):
        yield from value


def test_every_panel_of_the_layout_has_a_place_and_a_configuration(layout):
    assert set(layout) == {
        "configById",
        "globalVariables",
        "userNodes",
        "playbackConfig",
        "layout",
    }
    placed = list(leaves(layout["layout"]))
    assert len(placed) == len(set(placed))
    assert set(placed) == set(layout["configById"])
    assert all(re.fullmatch(r"\w+!\w+", panel) for panel in placed)


def test_the_layout_draws_only_what_is_published(layout, published):
    drawn: set[str] = set()
    for panel, config in layout["configById"].items():
        for path in paths_of(panel, config):
            topic, _, field = path.partition(".")
            assert topic in published, f"{panel}: nobody publishes '{topic}'"
            drawn.add(topic)
            kind = published[topic][0]
            if field:
                assert field in fields(kind), f"{panel}: {kind} has no '{field}'"
            if panel.startswith("Plot"):
                assert fields(kind)[field] in NUMBERS
            if panel.startswith("Image"):
                assert kind == "sensor_msgs/Image"
    assert {f"/{view}/image_raw" for view in CameraSyncParameters().views} <= drawn
    assert {"/alt/ood", "/alt/state", "/eef_pose", "/diagnostics"} <= drawn


def test_the_layouts_one_button_stops(layout, nodes):
    called = {
        config["serviceName"]: config
        for panel, config in layout["configById"].items()
        if panel.startswith("CallService!")
    }
    assert set(called) == {"/alt/stop"}
    served = {
        f"/{name}": kind
        for _, _, interfaces in nodes.NODES
        for name, kind, *_ in interfaces.get(nodes.SERVES, [])
    }
    assert served["/alt/stop"] == "std_srvs/Trigger"
    assert json.loads(called["/alt/stop"]["requestPayload"]) == {}
    assert called["/alt/stop"]["editingMode"] is False


def test_no_viewer_listens_to_commands(layout, rviz, commands):
    for viewer in (layout, rviz):
        named = {text.rpartition("/")[2].partition(".")[0] for text in strings(viewer)}
        assert not named & commands
    for name in commands:
        assert f"`{name}`" in PAGE.read_text(encoding="utf-8"), "the page says why"


def test_viewers_take_the_simulations_frame(layout, rviz):
    assert rviz["Global Options"]["Fixed Frame"] == BASE_FRAME
    scene = layout["configById"]["3D!arm"]
    assert scene["followTf"] == BASE_FRAME
    assert {layer["frameId"] for layer in scene["layers"].values()} == {BASE_FRAME}


def test_rviz_hears_what_is_published(rviz, published):
    shown: set[str] = set()
    for display in rviz["Displays"]:
        if "Topic" not in display:
            assert display["Class"] in ("rviz_default_plugins/Grid", "rviz_default_plugins/Axes")
            continue
        topic = display["Topic"]["Value"]
        kind, quality = published[topic]
        shown.add(topic)
        assert DISPLAYS[display["Class"]] == kind
        assert display["Enabled"] is display["Value"] is True
        best_effort = quality in ("sensor", "newest")
        asked = display["Topic"]["Reliability Policy"]
        assert asked == ("Best Effort" if best_effort else "Reliable"), topic
        latched = display["Topic"]["Durability Policy"] == "Transient Local"
        assert latched == (quality == "latched")
    assert shown == {"/wrist/image_raw", "/third_person/image_raw", "/eef_pose"}


def test_rviz_has_no_tool_that_publishes(rviz):
    tools = {tool["Class"].rpartition("/")[2] for tool in rviz["Tools"]}
    assert not tools & {"SetGoal", "SetInitialPose", "PublishPoint"}
    assert "MoveCamera" in tools


def status_of(node: type[AltNode]) -> Any:
    """Return the status that a node of the class publishes, without starting it."""
    sent: list[Any] = []
    from builtin_interfaces.msg import Time

    now = SimpleNamespace(to_msg=Time)
    stub = SimpleNamespace(
        name=node.name,
        is_active=True,
        diagnostics=lambda: AltNode.diagnostics(stub),
        get_clock=lambda: SimpleNamespace(now=lambda: now),
        _diagnostics=SimpleNamespace(publish=sent.append),
    )
    AltNode._publish_diagnostics(stub)
    return sent[0].status[0]


def test_every_node_is_in_one_group_of_the_robot_monitor(nodes):
    values = dict(
        yaml.safe_load(DIAGNOSTICS.read_text(encoding="utf-8"))["/**"]["ros__parameters"]
    )
    assert values.pop("path") == "ALT"
    grouped: list[str] = []
    for name, group in values.items():
        assert group["type"] == "diagnostic_aggregator/GenericAnalyzer", name
        assert group["path"]
        assert "/" not in group["path"]
        names = group.get("expected", []) + group.get("name", [])
        assert names
        # A group without any item is stale unless it may be empty.
        assert (group.get("num_items") == 0) == ("expected" not in group), name
        assert all(n.startswith(f"{prefix}: ") for n in names for prefix in group["remove_prefix"])
        grouped += names
    statuses = [status_of(nodes.node_class(module, name)) for module, name, _ in nodes.NODES]
    assert sorted(grouped) == sorted(status.name for status in statuses)
    assert {"pairing", "policy", "executor", "console"} <= set(values)
    assert all(status.hardware_id for status in statuses)
