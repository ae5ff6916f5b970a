"""Nodes with a network of their own, to cut them off: Linux network namespaces.

The graph and its operator run in a process in a namespace without a way out, and every node that
is to be cut off in another one, joined to it by a pair of virtual interfaces. Namespaces and
interfaces end with their processes: nothing has to be cleaned up. Where root's rights are missing,
a user namespace stands in for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path

from alt_ros.benchmarks.drill_result import DrillResult, failed, read_result
from alt_ros.benchmarks.drill_rig import local_rig, with_us
from alt_ros.benchmarks.fault_catalogue import DRILLS, Drill, World
from alt_ros.errors import AltError, DependencyError

CUT_NODES = ("lookup", "executor")
BRIDGE = "alt-bridge"
SUBNET = "10.250.0."
DOMAIN = 42
READY = "ready"
STOP_SECONDS = 20.0


class Link:
    """A namespace for a node, joined to the bridge of the one that this process is in.

    Args:
        number: Of the address; unlike other links'.

    Attributes:
        wrapper: Command that starts a process in the namespace.
        variables: Environment of the process.
    """

    def __init__(self, number: int) -> None:
        from alt_ros.nodes import graph as ros_graph

        self._interface = f"alt-{number}"
        self._holder = subprocess.Popen(["unshare", "--net", *with_us(), "sleep", "infinity"])
        process = str(self._holder.pid)
        self.wrapper = ("nsenter", "--target", process, "--net")
        self._await_namespace()
        peer = f"alt-{number}-in"
        _do(["ip", "link", "add", self._interface, "type", "veth", "peer", "name", peer])
        _do(["ip", "link", "set", peer, "netns", process])
        _do(["ip", "link", "set", self._interface, "master", BRIDGE, "up"])
        _do([*self.wrapper, "ip", "address", "add", f"{SUBNET}{number}/24", "dev", peer])
        _do([*self.wrapper, "ip", "link", "set", peer, "up"])
        _do([*self.wrapper, "ip", "link", "set", "lo", "up"])
        self.variables: dict[str, str] = {}
        ros_graph.leave_shared_memory(self.variables)  # it would go past the network

    def _await_namespace(self) -> None:
        own = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + 5.0
        while Path(f"/proc/{self._holder.pid}/ns/net").readlink() == own:
            if time.monotonic() > deadline:
                raise DependencyError("a network namespace cannot be made here")
            time.sleep(0.01)

    def cut(self) -> None:
        """Take the node off the network."""
        _do(["ip", "link", "set", self._interface, "down"])

    def join(self) -> None:
        """Put it back."""
        _do(["ip", "link", "set", self._interface, "up"])

    def close(self) -> None:
        """End the namespace."""
        self._holder.kill()
        self._holder.wait()


class RemoteRig:
    """Passes drills to a process in a namespace of its own."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def answer(self) -> str:
        """Return the next line that the process says, empty when it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def last_words(self) -> str:
        """Return what it said last in its log."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'no word why'}, see {self._log}"

    def run(self, drill: Drill) -> DrillResult:
        """Run a drill there."""
        assert self._process.stdin is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(drill.name + "\n")
            self._process.stdin.flush()
            line = self.answer()
        return read_result(line) if line else failed(drill, f"graph is gone: {self.last_words()}")


@contextlib.contextmanager
def open_remote_rig(bundle: Path, log_folder: Path) -> Generator[RemoteRig]:
    """Start the process with the graph in a namespace, and yield what runs drills there.

    Raises:
        DependencyError: Namespaces are not allowed here, or tools are missing.
    """
    missing = [t for t in ("unshare", "nsenter", "ip") if shutil.which(t) is None]
    if missing:
        raise DependencyError(f"drills of the network need {', '.join(missing)}")
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    code = "from alt_ros.benchmarks.network import main; main()"
    command = ["unshare", *rights, "--net", *with_us(), sys.executable, "-c", code]
    command += [str(bundle), str(log_folder)]
    log = log_folder / "network" / "namespace.log"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=log_folder,
            start_new_session=True,
        )
    try:
        rig = RemoteRig(process, log)
        if rig.answer() != READY:
            raise DependencyError(f"no network namespaces here: {rig.last_words()}")
        yield rig
    finally:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()  # tells it to end
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def main() -> None:
    """Run the drills whose names come on stdin; a line of JSON each on stdout."""
    from alt_ros.nodes import graph as ros_graph

    bundle, log_folder = (Path(argument) for argument in sys.argv[1:])
    variables = ros_graph.environment(local_domain=DOMAIN)
    variables["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"  # all of it is in here
    os.environ.update(variables)
    folder = log_folder / "network"
    with contextlib.ExitStack() as stack:
        try:
            links = _links(stack)
        except AltError as error:
            raise SystemExit(str(error)) from None
        print(READY, flush=True)
        rig = stack.enter_context(local_rig(World.NETWORK, bundle, folder, variables, links=links))
        drills = {drill.name: drill for drill in DRILLS}
        for line in sys.stdin:
            print(json.dumps(asdict(rig.run(drills[line.strip()]))), flush=True)


def _links(stack: contextlib.ExitStack) -> dict[str, Link]:
    _do(["ip", "link", "set", "lo", "up"])
    _do(["ip", "link", "add", BRIDGE, "type", "bridge"])
    _do(["ip", "address", "add", f"{SUBNET}1/24", "dev", BRIDGE])
    _do(["ip", "link", "set", BRIDGE, "up"])
    links: dict[str, Link] = {}
    for number, node in enumerate(CUT_NODES, start=2):
        links[node] = Link(number)
        stack.callback(links[node].close)
    return links


def _do(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DependencyError(f"'{' '.join(command)}' failed: {done.stderr.strip()}")
