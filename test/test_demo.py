"""The demo's own arithmetic: commands after the flag, training options, what CI accepts."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from alt_ros.demo import DemoOptions, _commands_after_hold
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.training.configuration import cup_training

CHECK = Path(__file__).parents[1] / "environment" / "check_demo.py"
HOLD = 10.0
PERIOD = 0.01
STRANGE = "scene is out of distribution"


def operator(
    speeds: Sequence[float], start: float, *, reason: str = STRANGE, state: str = "holding"
) -> SimpleNamespace:
    """What an operator saw: commands from ``start`` on at these speeds, a hold at ``HOLD``."""
    pytest.importorskip("rclpy", reason="COMMANDS NOT COUNTED: rclpy is not installed")
    from alt_ros.msg import ExecutorState
    from builtin_interfaces.msg import Time
    from geometry_msgs.msg import PoseStamped

    def time(seconds: float) -> Time:
        ns = round(seconds * 1e9)
        return Time(sec=ns // 10**9, nanosec=ns % 10**9)

    commands: deque[tuple[float, PoseStamped]] = deque()
    position = 0.5
    for n, speed in enumerate(speeds):
        position += speed * PERIOD
        command = PoseStamped()
        command.header.stamp = time(start + n * PERIOD)
        command.pose.position.x = position
        command.pose.orientation.w = 1.0
        commands.append((0.0, command))
    states = deque([ExecutorState(state="running", reason="following chunks")])
    held = ExecutorState(state=state, reason=reason)
    held.header.stamp = time(HOLD)
    states.append(held)
    return SimpleNamespace(states=states, commands=commands)


BEFORE = [0.3] * 20
BRAKING = [0.3 - 0.02 * n for n in range(1, 16)]


def test_commands_before_the_hold_do_not_count():
    assert _commands_after_hold(operator(BEFORE, HOLD - 0.2)) == (0, 0)


def test_commands_that_brake_count_as_declared_deceleration():
    seen = operator(BEFORE + BRAKING, HOLD - 0.2)
    assert _commands_after_hold(seen) == (len(BRAKING), 0)


def test_a_command_that_speeds_up_after_the_hold_counts_as_one_that_must_not_be():
    faster = [*BRAKING[:5], 0.25, *BRAKING[6:]]
    assert all(a > b for a, b in pairwise(BRAKING)), "only the one replaced is faster"
    assert _commands_after_hold(operator(BEFORE + faster, HOLD - 0.2)) == (len(BRAKING) - 1, 1)


def test_commands_after_the_longest_braking_time_must_not_be():
    creeping = [0.3 - 0.001 * n for n in range(40)]
    braking, other = _commands_after_hold(operator(BEFORE + creeping, HOLD - 0.2))
    assert (braking, other) == (20, 20), "0.175 s of braking and 0.02 s of tolerance"


def test_without_a_hold_for_strangeness_nothing_is_counted():
    speeds = BEFORE + BRAKING
    for other in ({"reason": "no action chunk for 500 ms"}, {"state": "stopped"}):
        assert _commands_after_hold(operator(speeds, HOLD - 0.2, **other)) == (0, 0)


def test_an_arm_that_was_never_commanded_has_no_commands():
    assert _commands_after_hold(operator([], HOLD)) == (0, 0)


def test_a_batch_of_the_training_holds_two_frames_of_each_demonstration():
    _, config = cup_training(("wrist",), seed=0)
    assert config.batch_size == 2 * DemoOptions().demonstrations


def test_every_demonstration_has_a_placement_of_its_own():
    assert DemoOptions().demonstrations == len(TRAINING_PLACEMENTS)


def check(folder: Path, ind: dict, ood: dict) -> tuple[int, str]:
    summary = folder / "summary.json"
    good_ind = {"trials": 10, "success": 10}
    good_ood = {"trials": 6, "flagged": 6, "commands_after_flag": 0}
    episodes = {"ind": good_ind | ind, "ood": good_ood | ood}
    summary.write_text(json.dumps({"episodes": episodes, "wall_s": math.pi}))
    done = subprocess.run(
        [sys.executable, str(CHECK), str(summary)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("ind", [{}, {"success": 9}])
def test_a_demo_as_promised_is_accepted(tmp_path, ind):
    assert check(tmp_path, ind, {}) == (0, "demo: as promised\n")


@pytest.mark.parametrize(
    ("ind", "ood", "said"),
    [
        ({"success": 8}, {}, "ind: 8 of 10 succeeded"),
        ({"trials": 5, "success": 5}, {}, "ind: 5 of 5 succeeded"),
        ({}, {"flagged": 5}, "ood: 5 of 6 flagged"),
        ({}, {"trials": 0, "flagged": 0}, "ood: 0 of 0 flagged"),
        ({}, {"commands_after_flag": 1}, "1 commands after the flag"),
    ],
)
def test_a_demo_short_of_its_promise_is_refused(tmp_path, ind, ood, said):
    code, output = check(tmp_path, ind, ood)
    assert code == 1
    assert said in output
    assert output.count("\n") == 1
