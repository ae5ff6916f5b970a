"""``alt up`` and ``alt console``: the graph and its page, where ``launch`` is not installed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from alt_ros.terminal import DEMO_BUNDLE, Flag, Policy, say

ADDRESS = "console: "
"""How the console's node begins the line with its page's address."""


def up(
    bundle: Path = DEMO_BUNDLE,
    policy: Policy = "alt",
    sim: bool = False,
    config: tuple[Path, ...] = (),
    record: Path | None = None,
    console: Flag = False,
    domain: int | None = None,
) -> None:
    """Start the graph, where ``ros2 launch`` is not installed; Ctrl-C stops it.

    Args:
        bundle: Folder of the bundle.
        policy: Which policy answers the observations; any but alt must have been deployed into
            the bundle.
        sim: Start the simulated robot too, on simulated time.
        config: Parameter files on top of the package's own.
        record: Start the episode recorder with this folder.
        console: Start the operator's page too.
        domain: Stay on this machine, in this DDS domain.
    """
    from alt_ros.nodes import graph as ros_graph

    nodes = ros_graph.policy_nodes(policy, bundle)  # a bad bundle is told before anything starts
    variables = ros_graph.environment(local_domain=domain)
    files = [ros_graph.share() / "config" / "alt.yaml"]
    if sim:
        files.append(ros_graph.share() / "config" / "simulation.yaml")
    with ros_graph.Graph(_logs(), variables, [*files, *config]) as graph:
        if sim:
            graph.start("sim_bridge")
            graph.start("scripted_expert")
        graph.start("camera_sync")
        for node, parameters in nodes.items():
            graph.start(node, parameters)
        graph.start("executor")
        if record is not None:
            graph.start("episode_recorder", {"folder": record.resolve()})
        if console:
            _start_console(graph, {"bundle": bundle.resolve()}, needed=False)
        say("the graph is up; Ctrl-C stops it")
        graph.wait()


def console_command(
    bundle: Path | None = None,
    store: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    open_viewing: bool = True,
    config: tuple[Path, ...] = (),
    domain: int | None = None,
) -> None:
    """Show the running graph on a web page, with stop, arm and hold; Ctrl-C ends the page alone.

    The address that is printed holds the control token: without it the page shows, and stops, but
    does not arm. ALT_CONSOLE_TOKEN in the environment sets the token.

    Args:
        bundle: Folder of the bundle: pictures of what is recalled come from the store beside it.
        store: The demonstrations' store, where it is not beside the bundle.
        host: Address to listen at; 127.0.0.1, which only this computer reaches, unless given.
        port: 8050 unless given; 0 takes a free one.
        open_viewing: Show the page to whoever reaches it; --no-open-viewing: with the token only.
        config: Parameter files on top of the package's own.
        domain: Stay on this machine, in this DDS domain.
    """
    from alt_ros.nodes import graph as ros_graph

    variables = ros_graph.environment(local_domain=domain)
    files = [ros_graph.share() / "config" / "alt.yaml", *config]
    given = {
        "bundle": bundle and bundle.resolve(),
        "store": store and store.resolve(),
        "host": host,
        "port": port,
        "open_viewing": None if open_viewing else False,
    }
    with ros_graph.Graph(_logs(), variables, files) as graph:
        given = {name: value for name, value in given.items() if value is not None}
        _start_console(graph, given, needed=True)
        graph.wait()


def _start_console(graph: Any, parameters: dict[str, Any], *, needed: bool) -> None:
    """Start the console's node and say where its page is; its log does not hold the token."""
    from alt_ros.console.server import new_token
    from alt_ros.nodes.console_parameters import TOKEN_VARIABLE

    given = os.environ.get(TOKEN_VARIABLE, "")
    token = given or new_token()
    graph.start("console", parameters, variables={TOKEN_VARIABLE: token}, needed=needed)
    address = graph.said("console", ADDRESS)
    say(address if given else f"{address}#token={token}")


def _logs() -> Path:
    folder = Path("build/logs") / time.strftime("%Y-%m-%d_%H-%M-%S")
    say(f"logs in {folder}")
    return folder
