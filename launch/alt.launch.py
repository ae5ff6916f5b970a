"""Start the graph: synchroniser, policy, executor; with sim:=true the simulated robot too.

ros2 launch alt_ros alt.launch.py bundle:=FOLDER [sim:=true] [console:=true] [record:=FOLDER] ...
"""

from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from alt_ros.errors import ConfigurationError
from alt_ros.nodes import graph
from alt_ros.nodes.launching import (
    CONFIG,
    LOG_LEVEL,
    environment_actions,
    existing_file,
    node_actions,
)
from alt_ros.policies.registry import POLICIES

NO_POLICY = "none"
CONSOLE = "console"

ARGUMENTS = (
    DeclareLaunchArgument(
        "policy",
        default_value="alt",
        choices=[*POLICIES, NO_POLICY],
        description="Which policy answers the observations: any but alt must have been deployed "
        "into the bundle; none leaves policy and executor out, to record demonstrations",
    ),
    DeclareLaunchArgument(
        "sim",
        default_value="false",
        choices=["false", "true"],
        description="Start the simulated robot and its scripted expert, on simulated time",
    ),
    DeclareLaunchArgument(
        "bundle", default_value="", description="Folder of the bundle; required by a policy"
    ),
    CONFIG,
    DeclareLaunchArgument(
        "record",
        default_value="",
        description="Start the episode recorder with this folder; empty for none",
    ),
    DeclareLaunchArgument(
        "console",
        default_value="false",
        choices=["false", "true"],
        description="Start the operator's page; its address is printed",
    ),
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
    policy, sim = arguments["policy"], arguments["sim"] == "true"
    files = [graph.share() / "config" / "alt.yaml"]
    if sim:
        files.append(graph.share() / "config" / "simulation.yaml")
    if arguments["config"]:
        files.append(existing_file("config", arguments["config"]))

    wanted: dict[str, dict[str, Any]] = {"camera_sync": {}}
    if sim:
        wanted |= {"sim_bridge": {}, "scripted_expert": {}}
    if policy != NO_POLICY:
        if not arguments["bundle"]:
            raise ConfigurationError(f"policy '{policy}' needs a bundle: give bundle:=FOLDER")
        wanted |= graph.policy_nodes(policy, Path(arguments["bundle"])) | {"executor": {}}
    if arguments["record"]:
        wanted["episode_recorder"] = {"folder": str(Path(arguments["record"]).resolve())}
    if arguments["console"] == "true":
        bundle = arguments["bundle"]
        wanted[CONSOLE] = {"bundle": str(Path(bundle).resolve())} if bundle else {}

    quiet = {CONSOLE: lambda event, context: None}  # the graph goes on without its page
    return [*environment_actions(), *node_actions(wanted, files, arguments["log_level"], quiet)]
