"""Start the graph on a bag instead of a robot: replay, synchroniser, policy; nothing is commanded.

ros2 launch alt_ros replay.launch.py bag:=FOLDER bundle:=FOLDER [rate:=2.0] [loop:=true] [clock:=0]
"""

from functools import partial
from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction
from launch.events import Shutdown
from launch.events.process import ProcessExited

from alt_ros.errors import ConfigurationError
from alt_ros.nodes import graph
from alt_ros.nodes.launching import (
    CONFIG,
    LOG_LEVEL,
    bring_down,
    environment_actions,
    existing_file,
    node_actions,
)
from alt_ros.policies.registry import POLICIES

LOADED = ["alt/embedding", "alt/ood", "alt/action_chunk"]
"""Published once the policy has loaded; it must see the first frames."""

ARGUMENTS = (
    DeclareLaunchArgument("bag", default_value="", description="Folder or file of the bag"),
    DeclareLaunchArgument("bundle", default_value="", description="Folder of the bundle"),
    DeclareLaunchArgument(
        "policy",
        default_value="alt",
        choices=[*POLICIES],
        description="Which policy answers the observations: any but alt must have been deployed "
        "into the bundle",
    ),
    DeclareLaunchArgument("rate", default_value="1.0", description="Speed, 1 as recorded"),
    DeclareLaunchArgument(
        "start", default_value="0.0", description="Where to begin in the bag, s"
    ),
    DeclareLaunchArgument(
        "loop",
        default_value="false",
        choices=["false", "true"],
        description="Begin anew at the end; otherwise the launch ends with the bag",
    ),
    DeclareLaunchArgument(
        "clock",
        default_value="100.0",
        description="How often /clock is published, 1/s, with the bag's time, by which all nodes "
        "then go; 0 for not at all: stamps are shifted to now",
    ),
    CONFIG,
    LOG_LEVEL,
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Any]:
    """Return the environment and the nodes that the arguments ask for.

    Raises:
        AltError: An argument names something that cannot be used.
    """
    arguments = context.launch_configurations
    for name in ("bag", "bundle"):
        if not arguments[name]:
            raise ConfigurationError(f"a replay needs a {name}: give {name}:=FOLDER")
    bag = Path(arguments["bag"]).resolve()
    if not bag.exists():
        raise ConfigurationError(f"bag:='{arguments['bag']}' does not exist")
    rate, begin, clock = (_number(name, arguments[name]) for name in ("rate", "start", "clock"))
    files = [graph.share() / "config" / "alt.yaml"]
    if arguments["config"]:
        files.append(existing_file("config", arguments["config"]))

    nodes: dict[str, dict[str, Any]] = {"camera_sync": {}}
    nodes |= graph.policy_nodes(arguments["policy"], Path(arguments["bundle"]))
    nodes = {node: {**values, "use_sim_time": clock > 0.0} for node, values in nodes.items()}
    nodes["replay"] = {
        "bag": str(bag),
        "rate": rate,
        "start": begin,
        "clock": clock,
        "loop": arguments["loop"] == "true",
        "after": LOADED,
        "use_sim_time": False,  # it makes the time
    }
    ending = {"replay": partial(end_of_bag, "replay")}
    return [*environment_actions(), *node_actions(nodes, files, arguments["log_level"], ending)]


def end_of_bag(node: str, event: ProcessExited, context: LaunchContext) -> EmitEvent | None:
    """End the launch with the bag, with status 0 where all of it was replayed."""
    if event.returncode != 0:
        bring_down(node, event, context)
    return EmitEvent(event=Shutdown(reason="the bag has ended"))


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ConfigurationError(f"{name}:='{value}' must be a number") from error
