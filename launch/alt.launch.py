"""Start the graph: synchroniser, policy, executor; with sim:=true the simulated robot too.

ros2 launch alt_ros alt.launch.py bundle:=FOLDER [sim:=true] [console:=true] [record:=FOLDER] ...
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.events.process import ProcessExited
from launch_ros.actions import Node

from alt_ros.errors import AltError, ConfigurationError
from alt_ros.nodes import graph
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
    DeclareLaunchArgument(
        "config",
        default_value="",
        description="Parameter file on top of the package's own; empty for none",
    ),
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
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="What the nodes log",
    ),
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[SetEnvironmentVariable | Node]:
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
        files.append(_existing(arguments["config"]))

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

    variables = graph.environment()
    return [
        *(
            SetEnvironmentVariable(name, value)
            for name, value in variables.items()
            if os.environ.get(name) != value
        ),
        *(
            Node(
                package="alt_ros",
                executable=node,
                name=node,
                parameters=[*map(str, files), {"autostart": True, **parameters}],
                ros_arguments=["--log-level", arguments["log_level"]],
                output="screen",
                on_exit=[] if node == CONSOLE else partial(bring_down, node),
            )
            for node, parameters in wanted.items()
        ),
    ]


def bring_down(node: str, event: ProcessExited, context: LaunchContext) -> None:
    """End the launch, with a status that is not 0: the graph is no use without one of its nodes.

    Raises:
        AltError: Unless everything is being shut down; launch reports it and stops the others.
    """
    if not context.is_shutdown:
        raise AltError(f"node '{node}' ended with status {event.returncode}: stopping the others")


def _existing(config: str) -> Path:
    path = Path(config).resolve()
    if not path.is_file():
        raise ConfigurationError(f"config:='{config}' must be a parameter file, there is none")
    return path
