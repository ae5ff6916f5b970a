"""The launch file, loaded and started with the real ``launch``; skipped where that is missing."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

REASON = (
    "NOT TESTED HERE: launch is no wheel on PyPI; source a ROS 2 installation with launch, "
    "launch_ros and launch_testing to test the launch file"
)
launch = pytest.importorskip("launch", reason=REASON)
pytest.importorskip("launch_ros", reason=REASON)
pytest.importorskip("launch_testing", reason=REASON)

from launch_ros.actions import Node  # noqa: E402

from alt_ros.errors import AltError, BundleError, ConfigurationError  # noqa: E402
from alt_ros.nodes import graph, launching  # noqa: E402
from alt_ros.policies.registry import deploy  # noqa: E402

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "policies")]
import test_kdtree  # noqa: E402
from bundles import write_small_bundle  # noqa: E402
from trained_conformance import checkpoint  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "launch" / "alt.launch.py"
LAUNCH_TESTS = sorted(Path(__file__).parent.glob("test_*.launch.py"))
# `ros2 launch` without ros2cli.
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
source = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [tuple(a.split(":=", 1)) for a in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("alt_launch", FILE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def started(module, **arguments):
    """Return the names of the nodes that the launch file starts."""
    context = launch.LaunchContext()
    for argument in module.ARGUMENTS:
        argument.execute(context)
    context.launch_configurations.update(arguments)
    return {a.node_executable for a in module.start(context) if isinstance(a, Node)}


@pytest.fixture
def any_bundle(tmp_path):
    return write_small_bundle(tmp_path / "bundle")


def launched(tmp_path, *arguments):
    """Start the launch file in a process of its own."""
    variables = graph.environment(local_domain=20 + os.getpid() % 80)
    variables |= {"ROS_LOG_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(FILE), *arguments],
        env=variables,
        cwd=tmp_path,  # not the checkout: its alt_ros lacks the generated messages
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_every_argument_is_described_and_documented(module):
    description = module.generate_launch_description()
    arguments = description.get_launch_arguments()
    names = [argument.name for argument in arguments]
    assert names == ["policy", "sim", "bundle", "config", "record", "console", "log_level"]
    document = (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")
    for argument in arguments:
        default = "".join(part.text for part in argument.default_value)
        assert argument.description
        assert f"| `{argument.name}` | `{default}` |".replace("``", "") in document


def test_policy_brings_its_nodes_and_the_executor(module, any_bundle):
    nodes = started(module, bundle=str(any_bundle))
    assert nodes == {"camera_sync", "encoder", "lookup", "executor"}


def test_another_policy_runs_beside_the_monitor(module, any_bundle, tmp_path):
    checkpoint(test_kdtree.TestKdTreePolicy().spec()).save(tmp_path / "kdtree")
    deploy(tmp_path / "kdtree", any_bundle)
    nodes = started(module, bundle=str(any_bundle), policy="kdtree")
    assert nodes == {"camera_sync", "encoder", "lookup", "policy", "executor"}


def test_a_policy_that_was_not_deployed_is_refused(module, any_bundle):
    with pytest.raises(BundleError, match="holds no policy 'act': train one with 'alt train act'"):
        started(module, bundle=str(any_bundle), policy="act")


def test_simulation_and_recorder_come_when_asked_for(module, tmp_path):
    nodes = started(module, policy="none", sim="true", record=str(tmp_path))
    assert nodes == {"camera_sync", "sim_bridge", "scripted_expert", "episode_recorder"}


def test_policy_without_a_bundle_is_refused(module):
    with pytest.raises(ConfigurationError, match="policy 'alt' needs a bundle"):
        started(module)


def test_bad_bundle_is_refused_before_anything_starts(module, tmp_path):
    with pytest.raises(BundleError, match=str(tmp_path)):
        started(module, bundle=str(tmp_path))


def test_missing_parameter_file_is_refused(module):
    with pytest.raises(ConfigurationError, match="must be a parameter file"):
        started(module, policy="none", config="/no/such.yaml")


def test_exit_of_a_node_is_an_error_unless_all_are_stopped():
    event = SimpleNamespace(returncode=3)
    with pytest.raises(AltError, match="node 'lookup' ended with status 3"):
        launching.bring_down("lookup", event, SimpleNamespace(is_shutdown=False))
    launching.bring_down("lookup", event, SimpleNamespace(is_shutdown=True))


def test_node_that_dies_brings_the_launch_down(tmp_path):
    config = tmp_path / "bad.yaml"
    config.write_text("camera_sync:\n  ros__parameters:\n    max_skew: 9.0\n", encoding="utf-8")
    process = launched(tmp_path, "policy:=none", f"config:={config}")
    output, _ = process.communicate(timeout=60.0)
    assert process.returncode == 1
    assert "parameter 'max_skew' of camera_sync must be" in output
    assert "node 'camera_sync' ended with status 1" in output


@pytest.mark.slow
def test_ctrl_c_ends_every_node_cleanly(tmp_path):
    process = launched(tmp_path, "policy:=none", "sim:=true", f"record:={tmp_path / 'bags'}")
    time.sleep(10.0)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the launch and its nodes
    output, _ = process.communicate(timeout=60.0)
    assert process.returncode == 0, output
    assert output.count("process has finished cleanly") == 4, output
    assert "Traceback" not in output


@pytest.mark.slow
def test_the_others_go_on_without_the_console(tmp_path):
    config = tmp_path / "any_port.yaml"
    config.write_text("console:\n  ros__parameters:\n    port: 0\n", encoding="utf-8")
    process = launched(tmp_path, "policy:=none", "sim:=true", "console:=true", f"config:={config}")
    try:
        said, console = "", None
        while "console: http://127.0.0.1:" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
            if found := re.search(r"\[console-\d+\]: process started with pid \[(\d+)\]", line):
                console = int(found.group(1))
        os.kill(console, signal.SIGKILL)
        time.sleep(3.0)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60.0)
    assert output.count("process has finished cleanly") == 3, output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize("file", LAUNCH_TESTS, ids=lambda file: file.name)
def test_the_running_graph_under_launch_testing(tmp_path, file):
    command = [sys.executable, "-m", "launch_testing.launch_test", str(file)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=280.0, check=False
    )
    output = done.stdout + done.stderr
    if "NO BUNDLE" in output:
        pytest.skip(next(line for line in output.splitlines() if "NO BUNDLE" in line))
    assert done.returncode == 0, output[-3000:]
