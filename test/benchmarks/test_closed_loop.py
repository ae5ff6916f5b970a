"""Which commands after the flag are the declared deceleration."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="COMMANDS NOT COUNTED: rclpy is not installed")

from alt_ros.benchmarks.closed_loop import commands_after_hold

HOLD = 10.0
PERIOD = 0.01
STRANGE = "scene is out of distribution"


def operator(
    speeds: Sequence[float], start: float, *, reason: str = STRANGE, state: str = "holding"
) -> SimpleNamespace:
    """What an operator saw: commands from ``start`` on at these speeds, a hold at ``HOLD``."""
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
    assert commands_after_hold(operator(BEFORE, HOLD - 0.2)) == (0, 0)


def test_commands_that_brake_count_as_declared_deceleration():
    seen = operator(BEFORE + BRAKING, HOLD - 0.2)
    assert commands_after_hold(seen) == (len(BRAKING), 0)


def test_a_command_that_speeds_up_after_the_hold_counts_as_one_that_must_not_be():
    faster = [*BRAKING[:5], 0.25, *BRAKING[6:]]
    assert all(a > b for a, b in pairwise(BRAKING)), "only the one replaced is faster"
    assert commands_after_hold(operator(BEFORE + faster, HOLD - 0.2)) == (len(BRAKING) - 1, 1)


def test_commands_after_the_longest_braking_time_must_not_be():
    creeping = [0.3 - 0.001 * n for n in range(40)]
    braking, other = commands_after_hold(operator(BEFORE + creeping, HOLD - 0.2))
    assert (braking, other) == (20, 20), "0.175 s of braking and 0.02 s of tolerance"


def test_without_a_hold_for_strangeness_nothing_is_counted():
    speeds = BEFORE + BRAKING
    for other in ({"reason": "no action chunk for 500 ms"}, {"state": "stopped"}):
        assert commands_after_hold(operator(speeds, HOLD - 0.2, **other)) == (0, 0)


def test_an_arm_that_was_never_commanded_has_no_commands():
    assert commands_after_hold(operator([], HOLD)) == (0, 0)
