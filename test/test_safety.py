"""The set-point against its limits, and every transition of the state machine with its reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError
from alt_ros.geometry import pose_distance, rotation_between
from alt_ros.safety import (
    AfterOod,
    Inputs,
    Role,
    SafetyLimits,
    SafetyMachine,
    SetPoint,
    State,
    TwistFollower,
)

MS = 1_000_000
LIMITS = SafetyLimits()
TICK = 0.01


def pose(x: float = 0.5, y: float = 0.0, z: float = 0.3, turn=(0.0, 0.0, 0.0)) -> np.ndarray:
    return np.r_[x, y, z, Rotation.from_rotvec(turn).as_quat()]


def random_pose(random: np.random.Generator, spread: float = 0.5) -> np.ndarray:
    """Return a pose, as often as not outside the workspace."""
    centre = np.array([0.5, 0.0, 0.3])
    return np.r_[
        centre + random.uniform(-spread, spread, 3), Rotation.random(rng=random).as_quat()
    ]


# ---------------------------------------------------------------- set-point


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_no_step_leaves_the_limits_whatever_the_targets_and_the_periods(seed, steady):
    random = np.random.default_rng(seed)
    low, high = np.array(LIMITS.workspace_low), np.array(LIMITS.workspace_high)
    start = np.r_[random.uniform(low, high), 0, 0, 0, 1]
    set_point = SetPoint(LIMITS, start, 0.05)
    velocity, turn_rate, last = np.zeros(3), np.zeros(3), set_point.pose
    gripper, target = 0.05, random_pose(random)
    for _ in range(200):
        period = TICK if steady else float(10 ** random.uniform(-4, -1))
        if random.random() < 0.05:
            target = random_pose(random)
        if random.random() < 0.9:
            command = set_point.follow(target, random.uniform(-0.1, 0.2), period)
        else:
            command = set_point.decelerate(period)
            assert command.gripper == gripper
        now_velocity = (command.pose[:3] - last[:3]) / period
        now_rate = rotation_between(last, command.pose) / period
        assert (command.pose[:3] >= low - 1e-9).all()
        assert (command.pose[:3] <= high + 1e-9).all()
        assert np.linalg.norm(now_velocity) <= LIMITS.linear_speed + 1e-6
        assert np.linalg.norm(now_rate) <= LIMITS.angular_speed + 1e-6
        change = np.linalg.norm(now_velocity - velocity)
        assert change <= LIMITS.linear_acceleration * period + 1e-6
        change = np.linalg.norm(now_rate - turn_rate)
        assert change <= LIMITS.angular_acceleration * period + 1e-6
        assert LIMITS.gripper_low <= command.gripper <= LIMITS.gripper_high
        assert abs(command.gripper - gripper) <= LIMITS.gripper_speed * period + 1e-12
        velocity, turn_rate, last = now_velocity, now_rate, command.pose
        gripper = command.gripper


@pytest.mark.parametrize("step", [0.01, 0.05, 0.15])
@pytest.mark.parametrize("period", [0.002, 0.01, 0.05])
def test_a_step_is_reached_without_overshoot(step, period):
    set_point = SetPoint(LIMITS, pose(), 0.0)
    target = pose(0.5 + step, turn=(0.0, 0.0, 4.0 * step))
    xs, turns = [], []
    for _ in range(round(2.0 / period)):
        command = set_point.follow(target, 0.0, period)
        xs.append(command.pose[0] - 0.5)
        turns.append(rotation_between(pose(), command.pose)[2])
    assert max(xs) <= step + 0.001
    assert xs[-1] == pytest.approx(step, abs=1e-5)
    assert max(turns) <= 4.0 * step + 0.01
    assert turns[-1] == pytest.approx(4.0 * step, abs=1e-4)


def test_a_target_that_moves_at_modest_speed_is_followed_exactly():
    set_point = SetPoint(LIMITS, pose(), 0.0)

    def moving(seconds: float) -> np.ndarray:
        return pose(
            0.5 + 0.06 * np.sin(2.0 * seconds),
            0.1 * seconds - 0.1,
            0.3 + 0.05 * np.cos(seconds),
            turn=(0.0, 0.0, 0.3 * np.sin(2.0 * seconds)),
        )

    distances = [
        pose_distance(set_point.follow(moving(k * TICK), 0.0, TICK).pose, moving(k * TICK))
        for k in range(300)
    ]
    assert np.max(distances[100:], axis=0) == pytest.approx((0, 0), abs=2e-5)


def test_a_target_faster_than_the_limit_is_followed_at_the_limit():
    set_point = SetPoint(LIMITS, pose(0.2), 0.0)
    xs = [set_point.follow(pose(0.2 + 0.6 * k * TICK), 0.0, TICK).pose[0] for k in range(80)]
    assert np.diff(xs)[40:] / TICK == pytest.approx(LIMITS.linear_speed)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_target_beyond_a_wall_ends_at_the_wall(axis, side):
    set_point = SetPoint(LIMITS, pose(), 0.0)
    target = pose()
    target[axis] += side * 1.0
    wall = (LIMITS.workspace_high if side > 0 else LIMITS.workspace_low)[axis]
    positions = [set_point.follow(target, 0.0, TICK).pose[axis] for _ in range(600)]
    assert all(side * (wall - position) >= -1e-9 for position in positions)
    assert positions[-1] == pytest.approx(wall, abs=1e-3)


def test_sliding_along_a_wall_does_not_cross_it():
    # A reversal along y takes all of the acceleration; x must still stop in time.
    set_point = SetPoint(LIMITS, pose(0.75), 0.0)
    xs = []
    for k in range(400):
        target = pose(2.0, 0.4 if k // 25 % 2 else -0.4)
        xs.append(set_point.follow(target, 0.0, TICK).pose[0])
    assert max(xs) <= LIMITS.workspace_high[0] + 1e-9
    assert max(xs) > LIMITS.workspace_high[0] - 0.005


@pytest.mark.parametrize("period", [0.002, 0.01, 0.05])
def test_braking_takes_no_longer_than_speed_over_acceleration(period):
    set_point = SetPoint(LIMITS, pose(0.3), 0.0)
    for k in range(round(0.6 / period)):
        set_point.follow(pose(0.3 + 0.34 * k * period, turn=(0, 0, 1.4 * k * period)), 0.0, period)
    speed = np.linalg.norm(set_point.velocity)
    turn_rate = np.linalg.norm(set_point.turn_rate)
    assert speed == pytest.approx(0.34, abs=0.02)
    allowed = max(speed / LIMITS.linear_acceleration, turn_rate / LIMITS.angular_acceleration)
    steps = 0
    while not set_point.at_rest:
        set_point.decelerate(period)
        steps += 1
    assert (steps - 1) * period <= allowed
    resting = set_point.pose
    np.testing.assert_array_equal(set_point.decelerate(period).pose[:3], resting[:3])


def test_the_first_opening_is_within_range():
    assert SetPoint(LIMITS, pose(), 0.3).gripper == LIMITS.gripper_high


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name",
    [
        field.name
        for field in dataclasses.fields(SafetyLimits)
        if not field.name.startswith(("workspace", "gripper_low", "gripper_high"))
    ],
)
def test_a_limit_that_does_not_limit_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=name):
        SafetyLimits(**{name: value})


@pytest.mark.parametrize(
    "fields",
    [
        {"workspace_low": (0.9, -0.45, 0.0)},
        {"workspace_low": (float("nan"), -0.45, 0.0)},
        {"workspace_high": (0.85, 0.45)},
        {"gripper_low": 0.1},
        {"gripper_high": float("nan")},
    ],
)
def test_a_range_that_is_empty_is_refused(fields):
    with pytest.raises(ConfigurationError):
        SafetyLimits(**fields)


# ---------------------------------------------------------------- state machine

GOOD = Inputs(
    pose=pose(),
    gripper=0.05,
    pose_age=5 * MS,
    observation_age=10 * MS,
    chunk_age=20 * MS,
    decision_age=20 * MS,
    out_of_distribution=False,
    listening=True,
    clock="",
    target_pose=pose(0.52),
    target_gripper=0.05,
    command=None,
    behind=False,
    elapsed=10 * MS,
)


def inputs(**changes) -> Inputs:
    return dataclasses.replace(GOOD, **changes)


def machine(state: State = State.RUNNING, **fields) -> SafetyMachine:
    made = SafetyMachine(LIMITS, **fields)
    if state in (State.ARMED, State.RUNNING):
        assert made.arm(GOOD) == []
    if state is State.RUNNING:
        assert made.update(GOOD) is State.RUNNING
    assert made.state is state
    return made


REFUSALS = {
    "no pose of the arm has come": {"pose": None, "pose_age": None},
    "no pose of the arm for 200 ms": {"pose_age": 201 * MS},
    "no controller listens to the commands": {"listening": False},
    "no observation has come": {"observation_age": None},
    "no observation for 400 ms": {"observation_age": 401 * MS},
    "no decision of the monitor has come": {"decision_age": None},
    "no decision of the monitor for 500 ms": {"decision_age": 501 * MS},
    "clock jumped by +2.00 s: waiting for a chunk after it": {"clock": "clock jumped by +2.00 s"},
    "no action chunk has come": {"chunk_age": None},
    "no action chunk for 500 ms": {"chunk_age": 501 * MS},
    "scene is out of distribution": {"out_of_distribution": True},
    "arm is outside the workspace": {"pose": pose(0.1)},
    "no gripper opening has come": {"gripper": None},
}


@pytest.mark.parametrize(("reason", "changes"), REFUSALS.items())
def test_arming_is_refused_with_the_reason(reason, changes):
    refused = machine(State.IDLE)
    (got,) = refused.arm(inputs(**changes))
    assert got.startswith(reason)
    assert refused.state is State.IDLE
    assert refused.arm(GOOD) == []


def test_every_reason_for_a_refusal_is_given_at_once():
    refused = machine(State.IDLE)
    everything = {key: value for changes in REFUSALS.values() for key, value in changes.items()}
    everything |= {"pose": pose(0.1), "pose_age": 201 * MS}
    assert refused.arm(inputs(**everything)) == [
        "no pose of the arm for 200 ms",
        "arm is outside the workspace at [0.1 0.  0.3]",
        "no observation for 400 ms",
        "clock jumped by +2.00 s: waiting for a chunk after it",
        "scene is out of distribution",
        "no gripper opening has come",
    ]


def test_a_refused_arm_leaves_the_machine_stopped():
    stopped = machine()
    stopped.stop()
    for changes in REFUSALS.values():
        assert stopped.arm(inputs(**changes))
        assert (stopped.state, stopped.reason) == (State.STOPPED, "stopped by the operator")


def test_nothing_but_arming_leaves_idle_stopped_and_fault():
    for leave in ("idle", "stopped", "fault"):
        resting = machine()
        if leave == "idle":
            resting.disarm("deactivated")
        elif leave == "stopped":
            resting.stop()
        else:
            resting.update(inputs(pose_age=201 * MS))
        assert resting.state is State(leave)
        assert resting.update(GOOD) is State(leave)
        assert resting.arm(GOOD) == []
        assert resting.state is State.ARMED


@pytest.mark.parametrize("state", [State.ARMED, State.RUNNING])
def test_arming_twice_changes_nothing(state):
    armed = machine(state)
    assert armed.arm(inputs(out_of_distribution=True)) == []
    assert armed.state is state


def test_an_armed_machine_waits_for_a_target():
    armed = machine(State.ARMED)
    assert armed.update(inputs(target_pose=None)) is State.ARMED
    assert armed.update(inputs(chunk_age=501 * MS)) is State.ARMED
    assert armed.update(GOOD) is State.RUNNING


def test_an_arm_that_does_not_get_where_it_was_sent_is_a_fault():
    behind = machine()
    assert behind.update(inputs(behind=True)) is State.FAULT
    assert behind.reason == (
        "arm does not follow its command of 500 ms ago: allowed are 0.03 m and 0.2 rad"
    )


def test_a_pose_at_the_timeout_is_still_good():
    assert machine().update(inputs(pose_age=200 * MS)) is State.RUNNING


@pytest.mark.parametrize("state", [State.ARMED, State.RUNNING])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pose_age": 200 * MS + 1}, "no pose of the arm for 200 ms"),
        ({"listening": False}, "no controller listens to the commands"),
    ],
)
def test_a_lost_pose_or_controller_is_a_fault(state, changes, reason):
    watched = machine(state)
    assert watched.update(inputs(**changes)) is State.FAULT
    assert watched.reason == reason


@pytest.mark.parametrize(
    ("name", "timeout", "reason"),
    [
        ("observation_age", 400, "no observation for 400 ms"),
        ("chunk_age", 500, "no action chunk for 500 ms"),
        ("decision_age", 500, "no decision of the monitor for 500 ms"),
    ],
)
def test_what_stays_away_is_waited_for_in_a_hold(name, timeout, reason):
    watched = machine()
    assert watched.update(inputs(**{name: timeout * MS})) is State.RUNNING
    assert watched.update(inputs(**{name: timeout * MS + 1})) is State.HOLDING
    assert watched.reason == reason
    assert watched.update(inputs(target_pose=None)) is State.HOLDING
    assert watched.update(GOOD) is State.RUNNING


def test_a_clock_that_jumped_is_waited_out_in_a_hold():
    watched = machine()
    assert watched.update(inputs(clock="clock jumped by -2.00 s")) is State.HOLDING
    assert watched.reason == "clock jumped by -2.00 s: waiting for a chunk after it"
    assert watched.update(GOOD) is State.RUNNING


@pytest.mark.parametrize("state", [State.ARMED, State.RUNNING])
def test_waiting_too_long_ends_in_a_stop(state):
    watched = machine(state)
    starved = inputs(chunk_age=501 * MS)
    for _ in range(500):
        assert watched.update(starved) in (State.HOLDING, State.ARMED)
    assert watched.update(starved) is State.STOPPED
    assert " for 5 s: " in watched.reason
    assert watched.update(GOOD) is State.STOPPED
    assert watched.arm(GOOD) == []


def test_what_waits_for_the_operator_waits_for_ever():
    watched = machine()
    assert watched.update(inputs(out_of_distribution=True)) is State.HOLDING
    for _ in range(600):
        assert watched.update(GOOD) is State.HOLDING


def test_the_waiting_begins_anew_after_running():
    watched = machine()
    for _ in range(3):
        for _ in range(400):
            assert watched.update(inputs(chunk_age=501 * MS)) is State.HOLDING
        assert watched.update(GOOD) is State.RUNNING


@pytest.mark.parametrize(
    "measured", [pose(0.5 + 0.081), pose(0.5, -0.081), pose(turn=(0.0, 0.51, 0.0))]
)
def test_an_arm_that_does_not_follow_is_a_fault(measured):
    watched = machine()
    assert watched.update(inputs(command=pose(), pose=pose(0.579))) is State.RUNNING
    assert watched.update(inputs(command=pose(), pose=measured)) is State.FAULT
    assert "does not follow its command" in watched.reason


STRANGE = {
    "target is more than 0.15 m away": {"target_pose": pose(0.66)},
    "target is outside the workspace": {"target_pose": pose(z=-0.01)},
    "target is not finite": {"target_pose": np.full(7, np.nan)},
    "target gripper opening is out of range": {"target_gripper": 0.2},
    "arm is outside the workspace": {"pose": pose(0.149), "target_pose": pose(0.2)},
}


@pytest.mark.parametrize(("reason", "changes"), STRANGE.items())
def test_a_strange_target_is_held_and_a_good_one_ends_the_hold(reason, changes):
    watched = machine()
    assert watched.update(inputs(**changes)) is State.HOLDING
    assert watched.reason.startswith(reason)
    assert watched.update(GOOD) is State.RUNNING


@pytest.mark.parametrize("changes", STRANGE.values())
def test_a_strange_target_does_not_start_an_armed_machine(changes):
    assert machine(State.ARMED).update(inputs(**changes)) is State.ARMED


def test_a_not_finite_opening_is_held():
    assert machine().update(inputs(target_gripper=float("nan"))) is State.HOLDING


def test_the_distance_of_a_target_is_measured_from_the_last_command():
    near = inputs(pose=pose(0.5), command=pose(0.56), target_pose=pose(0.70))
    assert machine().update(near) is State.RUNNING


@pytest.mark.parametrize("state", [State.ARMED, State.RUNNING])
def test_a_strange_scene_is_latched_until_the_operator_arms(state):
    watched = machine(state)
    assert watched.update(inputs(out_of_distribution=True)) is State.HOLDING
    assert watched.reason == "scene is out of distribution"
    for _ in range(3):
        assert watched.update(GOOD) is State.HOLDING
    assert watched.arm(inputs(out_of_distribution=True)) == ["scene is out of distribution"]
    assert watched.update(GOOD) is State.HOLDING
    assert watched.arm(GOOD) == []
    assert watched.update(GOOD) is State.RUNNING


def test_a_strange_scene_is_latched_from_any_hold():
    watched = machine()
    assert watched.update(inputs(chunk_age=501 * MS)) is State.HOLDING
    assert watched.update(inputs(out_of_distribution=True)) is State.HOLDING
    assert watched.update(GOOD) is State.HOLDING


@pytest.mark.parametrize("state", [State.ARMED, State.RUNNING])
def test_the_operators_hold_is_latched_until_armed_again(state):
    held = machine(state)
    assert held.hold() == ""
    for _ in range(600):  # longer than any hold that ends by itself
        assert held.update(GOOD) is State.HOLDING
    assert held.reason == "held by the operator"
    assert held.update(STRANGE_SCENE) is State.HOLDING
    assert held.reason == "held by the operator"
    assert held.arm(GOOD) == []
    assert held.update(GOOD) is State.RUNNING


def test_a_hold_does_not_hide_why_the_arm_holds_already():
    strange = machine()
    strange.update(STRANGE_SCENE)
    assert strange.hold() == ""
    assert strange.reason == "scene is out of distribution"
    waiting = machine()
    waiting.update(inputs(chunk_age=501 * MS))
    assert waiting.hold() == ""
    assert waiting.update(GOOD) is State.HOLDING  # it would have gone on by itself
    assert waiting.reason == "held by the operator"


def test_the_operators_hold_ends_the_way_back():
    returning = gone_strange(AfterOod.RETURN)
    assert returning.update(STRANGE_SCENE) is State.RETURNING
    assert returning.hold() == ""
    assert returning.update(GOOD) is State.HOLDING
    assert returning.reason == "held by the operator"
    assert returning.role is Role.POLICY


@pytest.mark.parametrize("state", [State.IDLE, State.STOPPED, State.FAULT])
def test_where_nothing_is_sent_a_hold_is_refused(state):
    resting = machine(State.IDLE)
    if state is State.STOPPED:
        resting.stop()
    if state is State.FAULT:
        resting.fail("broken")
    reason = resting.reason
    assert resting.hold() == f"nothing to hold: the state is {state.value}"
    assert (resting.state, resting.reason) == (state, reason)


def test_a_strange_scene_is_resumed_from_only_where_that_was_asked_for():
    watched = machine(after_ood=AfterOod.HOLD)
    assert watched.update(inputs(out_of_distribution=True)) is State.HOLDING
    assert watched.update(GOOD) is State.RUNNING


def test_a_fault_goes_before_a_strange_scene():
    watched = machine()
    assert watched.update(inputs(out_of_distribution=True, pose_age=10**9)) is State.FAULT


FLAGGED = inputs(out_of_distribution=True, target_pose=None)
STRANGE_SCENE = inputs(out_of_distribution=True)


def gone_strange(after_ood: AfterOod, state: State = State.RUNNING) -> SafetyMachine:
    """Return a machine for which the flag has just gone up."""
    watched = machine(state, after_ood=after_ood)
    assert watched.update(STRANGE_SCENE) is State.HOLDING
    assert watched.reason == "scene is out of distribution"
    return watched


def roles(watched: SafetyMachine, flag: bool) -> set[Role]:
    return {role for role in Role if watched.takes(role, flag)}


@pytest.mark.parametrize("after_ood", list(AfterOod))
def test_only_the_policy_is_listened_to_until_the_flag_goes_up(after_ood):
    for state in (State.IDLE, State.ARMED, State.RUNNING):
        assert roles(machine(state, after_ood=after_ood), False) == {Role.POLICY}
    assert roles(gone_strange(after_ood), True) == {
        {"return": Role.RETURN, "fallback": Role.FALLBACK}.get(after_ood.value, Role.POLICY)
    }


@pytest.mark.parametrize("after_ood", list(AfterOod))
def test_arming_is_refused_while_the_flag_is_up(after_ood):
    watched = gone_strange(after_ood)
    assert "scene is out of distribution" in watched.arm(STRANGE_SCENE)
    watched.update(STRANGE_SCENE)
    assert "scene is out of distribution" in watched.arm(STRANGE_SCENE)


@pytest.mark.parametrize("state", [State.ARMED, State.RUNNING])
def test_the_way_back_is_followed_to_its_end_and_ends_in_a_latched_hold(state):
    watched = gone_strange(AfterOod.RETURN, state)
    assert watched.update(FLAGGED) is State.HOLDING
    assert watched.update(STRANGE_SCENE) is State.RETURNING
    assert watched.reason == "returning along the recalled demonstration"
    assert roles(watched, True) == set()
    assert watched.update(GOOD) is State.RETURNING, "a flag that goes down does not end it"
    assert watched.arm(GOOD) == ["chunks of role return are followed or waited for"]
    assert watched.update(inputs(target_pose=None)) is State.HOLDING
    assert watched.reason == "returned along the recalled demonstration"
    assert watched.role is Role.POLICY
    for _ in range(600):
        assert watched.update(GOOD) is State.HOLDING
    assert watched.arm(GOOD) == []
    assert watched.update(GOOD) is State.RUNNING


def test_cameras_policy_and_monitor_may_be_silent_on_the_way_back():
    watched = gone_strange(AfterOod.RETURN)
    silent = {"observation_age": None, "chunk_age": 10**10, "decision_age": None}
    for _ in range(600):
        assert watched.update(inputs(**silent)) is State.RETURNING


@pytest.mark.parametrize("flag", [True, False])
def test_a_way_back_that_does_not_come_is_a_latched_hold(flag):
    watched = gone_strange(AfterOod.RETURN)
    waiting = inputs(out_of_distribution=flag, target_pose=None)
    for _ in range(49):
        assert watched.update(waiting) is State.HOLDING
        assert roles(watched, flag) == {Role.RETURN}
    assert watched.update(waiting) is State.HOLDING
    assert watched.reason == "scene is out of distribution, and no way back for 500 ms"
    assert watched.role is Role.POLICY
    assert watched.update(STRANGE_SCENE) is State.HOLDING


def test_a_way_back_that_comes_too_late_is_not_followed():
    watched = gone_strange(AfterOod.RETURN)
    assert watched.update(inputs(elapsed=499 * MS)) is State.HOLDING
    assert watched.role is Role.POLICY


def test_what_was_waited_for_before_the_flag_does_not_shorten_the_wait_for_the_way_back():
    watched = machine(after_ood=AfterOod.RETURN)
    for _ in range(400):
        assert watched.update(inputs(chunk_age=501 * MS)) is State.HOLDING
    assert watched.update(FLAGGED) is State.HOLDING
    for _ in range(49):
        assert watched.update(FLAGGED) is State.HOLDING
        assert watched.role is Role.RETURN


VOID = {"clock jumped by -2.00 s": {"clock": "clock jumped by -2.00 s", "target_pose": None}}


@pytest.mark.parametrize(("reason", "changes"), (STRANGE | VOID).items())
def test_a_way_back_that_cannot_be_followed_is_a_latched_hold(reason, changes):
    watched = gone_strange(AfterOod.RETURN)
    assert watched.update(STRANGE_SCENE) is State.RETURNING
    assert watched.update(inputs(**changes)) is State.HOLDING
    assert watched.reason.startswith(reason)
    assert watched.reason.endswith(", on the way back")
    assert watched.update(STRANGE_SCENE) is State.HOLDING


@pytest.mark.parametrize(
    ("after_ood", "state"),
    [(AfterOod.RETURN, State.RETURNING), (AfterOod.FALLBACK, State.FALLBACK)],
)
@pytest.mark.parametrize(
    "changes", [{"pose_age": 201 * MS}, {"listening": False}, {"behind": True}]
)
def test_a_fault_ends_the_way_back_and_the_fallback(after_ood, state, changes):
    watched = gone_strange(after_ood)
    assert watched.update(STRANGE_SCENE) is state
    assert watched.update(inputs(**changes)) is State.FAULT
    assert roles(watched, True) == {Role.POLICY}


def test_a_fallback_is_followed_while_the_flag_is_up_and_the_policy_takes_over_again():
    watched = gone_strange(AfterOod.FALLBACK)
    assert watched.update(FLAGGED) is State.HOLDING
    assert watched.update(STRANGE_SCENE) is State.FALLBACK
    assert watched.reason == "following the fallback policy's chunks"
    assert watched.update(GOOD) is State.FALLBACK
    assert roles(watched, False) == {Role.FALLBACK, Role.POLICY}
    assert watched.arm(GOOD) == ["chunks of role fallback are followed or waited for"]
    watched.role = Role.POLICY  # its first chunk has come
    assert watched.update(inputs(target_pose=None)) is State.FALLBACK
    assert watched.arm(GOOD) == []
    assert watched.state is State.FALLBACK
    assert watched.update(GOOD) is State.RUNNING
    assert roles(watched, False) == {Role.POLICY}


def test_a_flag_that_comes_back_before_the_policy_does_changes_nothing_for_the_fallback():
    watched = gone_strange(AfterOod.FALLBACK)
    for scene in (STRANGE_SCENE, GOOD, STRANGE_SCENE):
        assert watched.update(scene) is State.FALLBACK
    watched.role = Role.POLICY
    assert watched.update(STRANGE_SCENE) is State.HOLDING
    assert watched.role is Role.FALLBACK


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"observation_age": 401 * MS}, "no observation for 400 ms"),
        ({"chunk_age": 501 * MS}, "no fallback chunk for 500 ms"),
        ({"decision_age": 501 * MS}, "no decision of the monitor for 500 ms"),
        ({"target_pose": pose(0.66)}, "target is more than 0.15 m away"),
    ],
)
def test_a_fallback_is_watched_as_the_policy_is(changes, reason):
    watched = gone_strange(AfterOod.FALLBACK)
    assert watched.update(STRANGE_SCENE) is State.FALLBACK
    assert watched.update(inputs(out_of_distribution=True, **changes)) is State.HOLDING
    assert watched.reason == reason
    assert watched.update(STRANGE_SCENE) is State.FALLBACK


def test_a_fallback_that_never_comes_ends_in_a_stop():
    watched = gone_strange(AfterOod.FALLBACK)
    silent = inputs(out_of_distribution=True, chunk_age=None, target_pose=None)
    for _ in range(499):
        assert watched.update(silent) is State.HOLDING
    assert watched.update(silent) is State.STOPPED
    assert watched.reason == "holding for 5 s: no fallback chunk has come"


@pytest.mark.parametrize("state", list(State))
def test_stop_works_from_every_state(state):
    stopped = SafetyMachine(LIMITS)
    stopped.state = state
    stopped.stop("emergency")
    assert stopped.role is Role.POLICY
    assert (stopped.state, stopped.reason) == (State.STOPPED, "emergency")
    assert stopped.update(GOOD) is State.STOPPED


# ---------------------------------------------------------------- twists


def test_a_twist_follows_the_commanded_motion_and_corrects_the_distance():
    follower = TwistFollower(LIMITS, 2.0, TICK)
    twist = np.array([0.1, 0, 0, 0, 0, 0.2])
    for _ in range(100):
        sent = follower.twist(pose(0.51), twist, pose(0.50))
    np.testing.assert_allclose(sent, [0.12, 0, 0, 0, 0, 0.2], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_twist_obeys_speed_and_acceleration_whatever_is_measured(seed):
    random = np.random.default_rng(seed)
    follower = TwistFollower(LIMITS, 5.0, TICK)
    last = np.zeros(6)
    for _ in range(100):
        sent = follower.twist(random_pose(random), random.normal(0, 3, 6), random_pose(random))
        assert np.linalg.norm(sent[:3]) <= LIMITS.linear_speed + 1e-9
        assert np.linalg.norm(sent[3:]) <= LIMITS.angular_speed + 1e-9
        change = sent - last
        assert np.linalg.norm(change[:3]) <= LIMITS.linear_acceleration * TICK + 1e-9
        assert np.linalg.norm(change[3:]) <= LIMITS.angular_acceleration * TICK + 1e-9
        last = sent.copy()


def test_a_twist_starts_from_rest_after_a_restart():
    follower = TwistFollower(LIMITS, 2.0, TICK)
    for _ in range(100):
        follower.twist(pose(0.6), np.array([0.3, 0, 0, 0, 0, 0]), pose(0.5))
    follower.restart()
    sent = follower.twist(pose(0.6), np.array([0.3, 0, 0, 0, 0, 0]), pose(0.5))
    assert np.linalg.norm(sent[:3]) == pytest.approx(LIMITS.linear_acceleration * TICK)


def test_what_the_caller_has_found_is_a_fault_until_armed():
    failed = machine()
    failed.fail("inverse kinematics leaps")
    assert failed.update(GOOD) is State.FAULT
    assert failed.reason == "inverse kinematics leaps"
    assert failed.arm(GOOD) == []
