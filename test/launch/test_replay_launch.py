"""replay.launch.py with the real ``launch``; skipped where that is missing."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

REASON = "NOT TESTED HERE: launch is no wheel on PyPI; source a ROS 2 installation with launch"
launch = pytest.importorskip("launch", reason=REASON)
pytest.importorskip("launch_ros", reason=REASON)

from launch_ros.actions import Node  # noqa: E402

from alt_ros.errors import ConfigurationError  # noqa: E402
from alt_ros.nodes import graph  # noqa: E402

sys.path.append(str(Path(__file__).parents[1]))
from bundles import write_small_bundle  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "launch" / "replay.launch.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("replay_launch", FILE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def started(module, **arguments):
    context = launch.LaunchContext()
    for argument in module.ARGUMENTS:
        argument.execute(context)
    context.launch_configurations.update(arguments)
    return {a.node_executable for a in module.start(context) if isinstance(a, Node)}


def test_every_argument_is_described_and_documented(module):
    document = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")
    for argument in module.ARGUMENTS:
        default = "".join(part.text for part in argument.default_value)
        assert argument.description
        assert f"| `{argument.name}` | `{default}` |".replace("``", "") in document


def test_a_replay_brings_the_policy_and_nothing_that_commands(module, tmp_path):
    bundle = write_small_bundle(tmp_path / "bundle")
    nodes = started(module, bag=str(tmp_path), bundle=str(bundle))
    assert nodes == {"replay", "camera_sync", "encoder", "lookup"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "needs a bag"),
        ({"bag": "."}, "needs a bundle"),
        ({"bag": "/none", "bundle": "."}, "bag:='/none' does not exist"),
        ({"bag": ".", "bundle": ".", "rate": "fast"}, "rate:='fast' must be a number"),
        ({"bag": ".", "bundle": ".", "config": "/none"}, "must be a parameter file"),
    ],
    ids=["bag", "bundle", "no-bag", "rate", "config"],
)
def test_what_cannot_be_used_is_refused(module, arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        started(module, **arguments)


@pytest.mark.slow
def test_the_launch_ends_with_the_bag(tmp_path):
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "nodes")]
    from test_launch_files import RUN
    from test_replay import StoragePlugin, write_bag

    write_bag(tmp_path / "bag", StoragePlugin.MCAP)
    bundle = write_small_bundle(tmp_path / "bundle")
    variables = graph.environment(local_domain=20 + os.getpid() % 80)
    variables |= {"ROS_LOG_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    arguments = [f"bag:={tmp_path / 'bag'}", f"bundle:={bundle}"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(FILE), *arguments],
        env=variables,
        cwd=tmp_path,  # not the checkout: its alt_ros lacks the generated messages
        capture_output=True,
        text=True,
        timeout=200.0,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "replayed to 0.95 s" in output
    assert output.count("process has finished cleanly") == 4, output
