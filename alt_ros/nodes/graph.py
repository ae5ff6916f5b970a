"""The graph as processes: what a launch file does, where ``launch`` is not installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from alt_ros.errors import AltError, DependencyError

DISCOVERY_RANGE, LOCALHOST = "ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"
STOP_SECONDS = 5.0
START_SECONDS = 30.0


def policy_nodes(policy: str, bundle: Path) -> dict[str, dict[str, Any]]:
    """Return the nodes that a policy needs, and their parameters.

    Any policy but ALT is watched by the bundle's monitor: the encoder and the lookup run beside
    it, and publish decisions, no chunks.

    Raises:
        BundleError: The bundle does not hold the policy, or either is damaged.
    """
    from alt_ros.bundle import Bundle
    from alt_ros.policies.registry import ALT, verify

    folder = {"bundle": str(Bundle.load(bundle.resolve(), encoder=False).path)}
    if policy == ALT:
        return {"encoder": folder, "lookup": folder}
    verify(policy, bundle)
    watching = folder | {"publish_chunks": False}
    return {"encoder": folder, "lookup": watching, "policy": folder | {"policy": policy}}


def prefix() -> Path:
    """Return the install prefix that holds this package's nodes.

    Raises:
        DependencyError: The package was installed as a library, without its nodes.
    """
    for folder in (*_ament_prefixes(), Path(sys.prefix)):
        if (folder / "lib" / "alt_ros" / "executor").exists():
            return folder
    raise DependencyError(
        "the ROS nodes of alt_ros are not installed here: build them with 'make env', or with "
        "colcon in a ROS workspace, and source its setup file"
    )


def _ament_prefixes() -> list[Path]:
    return [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]


def share() -> Path:
    """Return the folder with config/ and launch/."""
    return prefix() / "share" / "alt_ros"


def simulation_config() -> list[Path]:
    """Return the parameter files of a graph with a simulated arm."""
    config = share() / "config"
    return [config / "alt.yaml", config / "simulation.yaml"]


def environment(*, local_domain: int | None = None) -> dict[str, str]:
    """Return the environment that every node needs.

    Args:
        local_domain: DDS domain for a graph that stays on this machine; None leaves the
            surroundings' domain and discovery range as they are.
    """
    variables = dict(os.environ)
    prefixes = [str(p) for p in _ament_prefixes()]
    if str(prefix()) not in prefixes:
        prefixes.insert(0, str(prefix()))
    variables["AMENT_PREFIX_PATH"] = os.pathsep.join(prefixes)
    name, profile = dds_profile()
    variables.setdefault(name, str(profile))
    if local_domain is not None:
        variables["ROS_DOMAIN_ID"] = str(local_domain)
        variables[DISCOVERY_RANGE] = LOCALHOST
    return variables


def dds_profile() -> tuple[str, Path]:
    """Return the variable that this Fast DDS reads, and the profile it should name.

    Raises:
        DependencyError: The package was installed as a library, without its nodes.
    """
    # Package fastrtps is Fast DDS 2 (Jazzy and older), fastdds is Fast DDS 3.
    old = any((p / "share" / "fastrtps").is_dir() for p in (*_ament_prefixes(), prefix()))
    name = "FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"
    return name, share() / "config" / "fastdds.xml"


def leave_shared_memory(variables: MutableMapping[str, str] = os.environ) -> None:
    """Take no part in DDS's shared memory; a profile that somebody else has set stays.

    Args:
        variables: Environment of the process to come, or of this one before rclpy starts.

    Raises:
        DependencyError: The package was installed as a library, without its nodes.
    """
    name, usual = dds_profile()
    if variables.get(name, str(usual)) != str(usual):
        return
    own = "fastdds_control.xml"
    if variables.get(DISCOVERY_RANGE) == LOCALHOST:  # to which rmw_fastrtps adds shared memory
        variables[DISCOVERY_RANGE] = "SYSTEM_DEFAULT"
        own = "fastdds_control_localhost.xml"
    variables[name] = str(usual.with_name(own))


class Graph:
    """Node processes that live and die together.

    Args:
        log_folder: One log file per node.
        variables: Environment of the processes.
        config: Parameter files, later ones win.
    """

    def __init__(
        self, log_folder: Path, variables: Mapping[str, str], config: Sequence[Path] = ()
    ) -> None:
        self._log_folder = log_folder
        self._variables = dict(variables)
        self._config = list(config)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._needed: dict[str, bool] = {}
        self._logged: dict[str, int] = {}  # bytes of the log that are from earlier runs
        log_folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(
        self,
        node: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        executable: str = "",
        remap: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        needed: bool = True,
    ) -> None:
        """Start a node with parameters on top of the files'.

        Args:
            node: Its name in the graph.
            parameters: Its parameters.
            executable: What runs, where that is not named as the node.
            remap: From topic to topic.
            wrapper: A command that starts the executable, such as ``nsenter``.
            variables: Environment on top of the graph's.
            needed: Whether the graph is no use without it.

        Raises:
            AltError: A node of that name runs already.
        """
        if node in self._processes:
            raise AltError(f"node '{node}' runs already: stop it first")
        self._needed[node] = needed
        log = self._log(node)
        self._logged[node] = log.stat().st_size if log.exists() else 0
        command = [*wrapper, str(prefix() / "lib" / "alt_ros" / (executable or node))]
        command += ["--ros-args"]
        if executable:
            command += ["-r", f"__node:={node}"]
        for name, other in (remap or {}).items():
            command += ["-r", f"{name}:={other}"]
        for file in self._config:
            command += ["--params-file", str(file)]
        for name, value in (parameters or {}).items():
            command += ["-p", f"{node}:{name}:={_yaml(value)}"]  # a bare name loses to a file
        with log.open("ab") as output:
            self._processes[node] = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**self._variables, **(variables or {})},
                start_new_session=True,  # Ctrl-C reaches us first; we stop them in order
            )

    def process(self, node: str) -> subprocess.Popen[bytes]:
        """Return a node's process."""
        return self._processes[node]

    def has_ended(self, node: str) -> bool:
        """Return whether a node does not run: it has died, or was stopped."""
        return node not in self._processes or self._processes[node].poll() is not None

    def check(self) -> None:
        """Raise if a node has died that the graph needs.

        Raises:
            AltError: Naming the node, its exit status and its last words.
        """
        for node, process in self._processes.items():
            if process.poll() is not None and self._needed[node]:
                last = self._log(node).read_text(errors="replace").strip().splitlines()[-3:]
                raise AltError(
                    f"node '{node}' ended with status {process.returncode}: "
                    f"{' | '.join(last) or 'it said nothing'}"
                )

    def said(self, node: str, start: str, within: float = START_SECONDS) -> str:
        """Return the first line of a node's output that starts like this, once it is there.

        Raises:
            AltError: The node has died, or did not say it in time.
        """
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            said = self._log(node).read_bytes()[self._logged[node] :]
            for line in said.decode(errors="replace").splitlines():
                if line.startswith(start):
                    return line
            if self.has_ended(node):
                break
            time.sleep(0.05)
        self.check()
        raise AltError(f"node '{node}' did not say '{start}' within {within:g} s: see its log")

    def wait(self) -> None:
        """Wait until a node dies or the caller is interrupted."""
        while True:
            self.check()
            time.sleep(0.2)

    def stop(self, node: str | None = None) -> None:
        """Stop one node or all of them, last started first."""
        for name in [node] if node is not None else list(reversed(self._processes)):
            process = self._processes.pop(name)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def kill(self, node: str) -> None:
        """End a node as ``kill -9`` does: it cleans up nothing, and is missed by nobody here."""
        process = self._processes.pop(node)
        process.kill()
        process.wait()

    def _log(self, node: str) -> Path:
        return self._log_folder / f"{node}.log"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(v) for v in value) + "]"
    if isinstance(value, (str, Path)):
        return f"'{value}'"
    return str(value)
