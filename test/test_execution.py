"""The executor as a node drives it: chunks, poses and flags in, commands within limits out."""

from __future__ import annotations

import numpy as np
import pytest

from alt_ros.audit.commands import CommandAudit
from alt_ros.errors import DataError
from alt_ros.execution import Executor, Moment, SentCommand
from alt_ros.geometry import arm_action
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.safety import AfterOod, Role, SafetyLimits, State
from alt_ros.types import ActionChunk, ActionLayout, Neighbour, OodDecision

MS = 1_000_000
SECOND = 1000 * MS
T0 = 1_700_000_000 * SECOND
PERIOD = 50 * MS
TICK = 10 * MS
LIMITS = SafetyLimits()
LOW, HIGH = np.array(LIMITS.workspace_low), np.array(LIMITS.workspace_high)
HOME = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])


def ood(flag: bool) -> OodDecision:
    return OodDecision(flag, 0.5, 0.8, Neighbour(0, 0, 0.5))


def chunk_of(stamp: int, poses: np.ndarray, gripper: float = 0.05) -> ActionChunk:
    rows = arm_action(poses[:, None], np.full((len(poses), 1), gripper))
    return ActionChunk(stamp, PERIOD, rows, ActionLayout())


def shifted(pose: np.ndarray, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    return pose + np.array([x, y, 0, 0, 0, 0, 0])


def drift(speed: float, gripper: float = 0.05):
    """Return a policy: a chunk that goes on from the arm's pose along y at a speed, m/s."""

    def policy(bench: Bench) -> ActionChunk:
        poses = np.repeat(bench.measured[None], 16, axis=0)
        poses[:, 1] += speed * np.arange(16) * PERIOD / SECOND
        return chunk_of(bench.now, poses, gripper)

    return policy


def way(now: int) -> np.ndarray:
    """Return the poses that are due from an instant on: to and fro along y."""
    seconds = (now - T0 + PERIOD * np.arange(16)) / SECOND
    poses = np.repeat(HOME[None], 16, axis=0)
    poses[:, 1] += 0.1 * np.sin(1.2 * seconds)
    return poses


class Bench:
    """An arm that goes where it is told, an executor, and a log of what was sent."""

    def __init__(
        self,
        policy=None,
        *,
        after_ood: AfterOod = AfterOod.STOP,
        require_monitor: bool = False,
        **horizon,
    ) -> None:
        self.executor = Executor(
            LIMITS,
            HorizonConfig(**horizon),
            after_ood=after_ood,
            require_monitor=require_monitor,
        )
        self.now = T0
        self.offset = 0
        self.cameras, self.monitored = True, require_monitor
        self.measured = HOME.copy()
        self.gripper = 0.05
        self.policy = policy
        self.pose_seen = True
        self.holds, self.late = False, 1  # in ticks
        self.sent: list[tuple[int, SentCommand]] = []
        self._next_chunk = 0
        self.executor.step(self.at)

    @property
    def at(self) -> Moment:
        return Moment(self.now, self.now - self.offset)

    def jump(self, by: int) -> None:
        """Set the clock that stamps are on."""
        self.now += by
        self.offset += by
        self._next_chunk += by

    def tick(self, elapsed: int = TICK) -> SentCommand | None:
        self.now += elapsed
        at = self.at
        if self.cameras:
            self.executor.observe_observation(at)
        if self.monitored:
            self.executor.observe_ood(ood(False), at)
        if self.pose_seen:
            self.executor.observe_pose(self.measured, self.now, at)
            self.executor.observe_gripper(self.gripper)
        if self.policy is not None and self.now >= self._next_chunk:
            self._next_chunk = self.now + PERIOD
            self.executor.offer_chunk(self.policy(self), at)
        sent = self.executor.step(self.at)
        if sent is not None:
            self.sent.append((self.at.steady, sent))
            if not self.holds:
                self.measured = self.sent[-min(self.late, len(self.sent))][1].command.pose
            self.gripper = sent.command.gripper
        return sent

    def ticks(self, count: int) -> list[SentCommand | None]:
        return [self.tick() for _ in range(count)]

    def running(self) -> Bench:
        self.tick()
        assert self.executor.arm(self.at) == []
        self.ticks(30)
        assert self.executor.state is State.RUNNING
        return self


def speed_between(first: SentCommand, second: SentCommand, elapsed: int = TICK) -> float:
    step = second.command.pose[:3] - first.command.pose[:3]
    return float(np.linalg.norm(step)) / (elapsed / SECOND)


def test_nothing_is_sent_before_arming():
    bench = Bench(drift(0.1))
    assert bench.ticks(100) == [None] * 100
    assert bench.executor.state is State.IDLE


def test_once_armed_the_chunks_are_followed_and_each_command_names_its_chunk():
    bench = Bench(drift(0.1)).running()
    assert bench.measured[1] > 0.01
    stamps = [sent.chunk_stamp for _, sent in bench.sent]
    assert stamps == sorted(stamps)
    assert set(stamps) <= {T0 + TICK + k * PERIOD for k in range(10)}


def test_the_first_command_starts_at_the_measured_pose():
    bench = Bench(drift(0.3))
    bench.tick()
    start = bench.measured.copy()
    assert bench.executor.arm(bench.at) == []
    sent = bench.tick()
    assert sent is not None
    step = np.linalg.norm(sent.command.pose[:3] - start[:3])
    assert step <= LIMITS.linear_acceleration * (TICK / SECOND) ** 2 + 1e-12


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("pose", "no pose of the arm has come"),
        ("gripper", "no gripper opening has come"),
        ("observation", "no observation has come"),
        ("chunk", "no action chunk has come"),
        ("decision", "no decision of the monitor has come"),
    ],
)
def test_arming_names_what_has_not_come(missing, reason):
    executor = Executor(LIMITS, HorizonConfig(), require_monitor=True)
    at = Moment.of(T0)
    if missing != "pose":
        executor.observe_pose(HOME, T0, at)
    if missing != "gripper":
        executor.observe_gripper(0.05)
    if missing != "observation":
        executor.observe_observation(at)
    if missing != "chunk":
        executor.offer_chunk(chunk_of(T0, np.repeat(HOME[None], 8, axis=0)), at)
    if missing != "decision":
        executor.observe_ood(ood(False), at)
    assert executor.arm(at) == [reason]
    assert executor.state is State.IDLE


def test_stop_is_at_once_and_lasts_until_armed_again():
    bench = Bench(drift(0.3)).running()
    bench.executor.stop()
    assert bench.ticks(50) == [None] * 50
    assert (bench.executor.state, bench.executor.reason) == (
        State.STOPPED,
        "stopped by the operator",
    )
    assert bench.executor.arm(bench.at) == []
    assert any(bench.ticks(5))


def test_the_operators_hold_brakes_within_the_limits_and_lasts_until_armed_again():
    bench = Bench(drift(0.3)).running()
    assert bench.executor.hold() == ""
    held = bench.now
    bench.ticks(100)
    braking = [(now, sent) for now, sent in bench.sent if now > held]
    assert 1 < len(braking) < 20
    assert {sent.chunk_stamp for _, sent in braking} == {0}
    assert judge(bench, 0).violations == []
    assert bench.ticks(50) == [None] * 50
    assert (bench.executor.state, bench.executor.reason) == (State.HOLDING, "held by the operator")
    assert bench.executor.arm(bench.at) == []
    assert any(bench.ticks(5))


def test_a_strange_scene_brakes_to_rest_and_stays_there():
    bench = Bench(drift(0.3)).running()
    speed = speed_between(bench.sent[-2][1], bench.sent[-1][1])
    assert speed > 0.25
    bench.executor.observe_ood(ood(True), bench.at)
    flagged = bench.now
    bench.ticks(100)
    braking = [(now, sent) for now, sent in bench.sent if now > flagged]
    assert braking
    assert (braking[-1][0] - flagged) / SECOND <= speed / LIMITS.linear_acceleration + 0.01
    assert {sent.chunk_stamp for _, sent in braking} == {0}
    assert len({sent.command.gripper for _, sent in braking}) == 1
    bench.executor.observe_ood(ood(False), bench.at)
    assert bench.ticks(50) == [None] * 50
    assert bench.executor.state is State.HOLDING
    assert bench.executor.arm(bench.at) == []
    assert any(bench.ticks(5))


def test_a_strange_scene_is_resumed_from_where_that_was_asked_for():
    bench = Bench(drift(0.1), after_ood=AfterOod.HOLD).running()
    bench.executor.observe_ood(ood(True), bench.at)
    bench.ticks(50)
    assert bench.executor.state is State.HOLDING
    bench.executor.observe_ood(ood(False), bench.at)
    assert any(bench.ticks(5))
    assert bench.executor.state is State.RUNNING


def back(bench: Bench, period: int = 2 * PERIOD) -> ActionChunk:
    """Return the way back from where the arm is to HOME, in a straight line."""
    shares = np.linspace(0.0, 1.0, 12)[:, None]
    poses = np.repeat(HOME[None], 12, axis=0)
    poses[:, :3] = bench.measured[:3] + shares * (HOME[:3] - bench.measured[:3])
    rows = arm_action(poses[:, None], np.full((12, 1), 0.08))
    return ActionChunk(bench.now, period, rows, ActionLayout())


def flagged(after_ood: AfterOod, **fields) -> Bench:
    """Return a running bench for which the flag has just gone up, 5 cm and more from HOME."""
    bench = Bench(drift(0.3), after_ood=after_ood, **fields).running()
    assert bench.measured[1] > 0.05
    bench.monitored = False
    bench.executor.observe_ood(ood(True), bench.at)
    bench.tick()
    assert bench.executor.state is State.HOLDING
    return bench


def test_the_arm_returns_to_the_beginning_without_cameras_policy_and_monitor():
    bench = flagged(AfterOod.RETURN, require_monitor=True)
    bench.policy, bench.cameras = None, False
    assert bench.executor.offer_chunk(back(bench), bench.at, Role.RETURN) == ""
    stamp, since = bench.now, len(bench.sent)
    bench.ticks(110)
    assert bench.executor.state is State.RETURNING
    bench.ticks(20)
    assert bench.executor.state is State.HOLDING
    assert bench.executor.reason == "returned along the recalled demonstration"
    assert {sent.chunk_stamp for _, sent in bench.sent[since:]} <= {stamp, 0}
    assert bench.sent[-1][1].command.gripper == pytest.approx(0.08)
    np.testing.assert_allclose(bench.measured, HOME, atol=1e-3)
    assert bench.ticks(20) == [None] * 20
    assert judge(bench, 0).violations == []
    bench.policy, bench.cameras, bench.monitored = drift(0.1), True, True
    bench.tick()
    assert bench.executor.arm(bench.at) == []
    bench.ticks(5)
    assert bench.executor.state is State.RUNNING


def test_one_way_back_is_taken_and_the_others_are_counted():
    bench = flagged(AfterOod.RETURN)
    bench.policy = None
    assert bench.executor.offer_chunk(drift(0.1)(bench), bench.at)
    assert bench.executor.offer_chunk(drift(0.1)(bench), bench.at, Role.FALLBACK)
    assert not bench.executor.offer_chunk(back(bench), bench.at, Role.RETURN)
    bench.tick()
    assert bench.executor.offer_chunk(back(bench), bench.at, Role.RETURN)
    assert bench.executor.refused == {
        f"chunk of role {role} is not followed now": 1 for role in ("policy", "fallback", "return")
    }


def test_the_way_back_begins_where_the_motion_is():
    bench = flagged(AfterOod.RETURN)
    bench.policy = None
    bench.executor.offer_chunk(back(bench), bench.at, Role.RETURN)
    before = bench.sent[-1][1]
    after = bench.tick()
    assert bench.executor.state is State.RETURNING
    assert after is not None
    change = np.linalg.norm(after.twist[:3] - before.twist[:3])
    assert change <= LIMITS.linear_acceleration * TICK / SECOND + 1e-9
    assert before.twist[1] > 0.2


@pytest.mark.parametrize("what", ["jump", "stall"])
def test_a_way_back_ends_where_its_times_mean_nothing_any_more(what):
    bench = flagged(AfterOod.RETURN)
    bench.policy = None
    bench.executor.offer_chunk(back(bench), bench.at, Role.RETURN)
    bench.ticks(20)
    if what == "jump":
        bench.jump(-2 * SECOND)
        bench.tick()
    else:
        assert bench.tick(300 * MS) is None
    assert bench.executor.state is State.HOLDING
    assert bench.executor.reason.startswith("clock jumped by")
    assert bench.executor.reason.endswith("on the way back")
    assert bench.executor.offer_chunk(back(bench), bench.at, Role.RETURN)
    bench.ticks(20)
    assert bench.tick() is None
    assert judge(bench, 0).violations == []


def test_stop_ends_the_way_back():
    bench = flagged(AfterOod.RETURN)
    bench.executor.offer_chunk(back(bench), bench.at, Role.RETURN)
    bench.ticks(20)
    assert bench.executor.state is State.RETURNING
    bench.executor.stop()
    assert bench.ticks(50) == [None] * 50
    bench.executor.observe_ood(ood(False), bench.at)
    assert bench.executor.arm(bench.at) == [], "the policy's chunks are taken again"


def test_an_arm_that_is_held_on_the_way_back_is_a_fault():
    bench = flagged(AfterOod.RETURN)
    bench.executor.offer_chunk(back(bench), bench.at, Role.RETURN)
    bench.ticks(5)
    bench.holds = True
    bench.ticks(100)
    assert bench.executor.state is State.FAULT


def test_a_fallback_moves_the_arm_until_the_policy_is_back():
    bench = flagged(AfterOod.FALLBACK)
    bench.policy = None
    fallback_stamps, since = set(), len(bench.sent)
    for k in range(100):
        if k % 5 == 0:
            chunk = drift(-0.1)(bench)
            assert not bench.executor.offer_chunk(chunk, bench.at, Role.FALLBACK)
            assert bench.executor.offer_chunk(chunk, bench.at), "the policy waits for the flag"
            fallback_stamps.add(chunk.stamp)
        bench.tick()
        assert bench.executor.state is State.FALLBACK
    bench.executor.observe_ood(ood(False), bench.at)
    bench.ticks(5)
    assert bench.executor.state is State.FALLBACK
    assert {sent.chunk_stamp for _, sent in bench.sent[since:]} <= fallback_stamps
    assert bench.executor.offer_chunk(chunk, bench.at) == "", "of the fallback's own instant"
    before = bench.sent[-1][1]
    after = bench.tick()
    assert after is not None
    assert bench.executor.state is State.RUNNING
    assert np.linalg.norm(after.twist[:3] - before.twist[:3]) < 0.01
    assert bench.executor.offer_chunk(drift(-0.1)(bench), bench.at, Role.FALLBACK)
    assert judge(bench, 0).violations == []


def test_a_refused_chunk_of_the_policy_does_not_end_a_fallback():
    bench = flagged(AfterOod.FALLBACK)
    bench.policy = None
    bench.executor.offer_chunk(drift(-0.1)(bench), bench.at, Role.FALLBACK)
    bench.ticks(5)
    bench.executor.observe_ood(ood(False), bench.at)
    old = chunk_of(bench.now - SECOND, np.repeat(HOME[None], 8, axis=0))
    assert bench.executor.offer_chunk(old, bench.at)
    assert all(bench.ticks(5))
    assert bench.executor.state is State.FALLBACK


def test_the_last_chunk_of_the_policy_is_none_of_the_fallbacks():
    bench = flagged(AfterOod.FALLBACK)
    assert bench.tick() is not None, "it brakes"
    assert bench.executor.state is State.HOLDING
    assert bench.executor.reason == "no fallback chunk has come"


def test_a_fallback_that_falls_silent_is_waited_for_and_then_given_up():
    bench = flagged(AfterOod.FALLBACK, max_age=5 * SECOND)
    bench.executor.offer_chunk(drift(-0.05)(bench), bench.at, Role.FALLBACK)
    silent = bench.now
    while bench.tick() and bench.executor.state is State.FALLBACK:
        pass
    assert bench.now - silent == LIMITS.policy_timeout + TICK
    assert bench.executor.reason == "no fallback chunk for 500 ms"
    bench.ticks(510)
    assert bench.executor.state is State.STOPPED


@pytest.mark.parametrize("after_ood", [AfterOod.STOP, AfterOod.HOLD])
def test_other_roles_are_never_followed_where_that_was_not_asked_for(after_ood):
    bench = flagged(after_ood)
    chunk = back(bench)
    assert all(
        bench.executor.offer_chunk(chunk, bench.at, role) for role in (Role.RETURN, Role.FALLBACK)
    )
    bench.ticks(30)
    assert bench.ticks(20) == [None] * 20


@pytest.mark.parametrize("strange", [True, False])
def test_arming_while_the_arm_still_moves_does_not_jerk_it(strange):
    bench = Bench(drift(0.3)).running()
    bench.executor.observe_ood(ood(True), bench.at)
    bench.tick()
    bench.executor.observe_ood(ood(strange), bench.at)
    bench.measured = shifted(bench.measured, y=-0.02)  # an arm lags its command
    bench.executor.arm(bench.at)
    bench.ticks(3)
    speeds = [
        speed_between(a, b)
        for (_, a), (_, b) in zip(bench.sent[-8:-1], bench.sent[-7:], strict=True)
    ]
    assert np.abs(np.diff(speeds)).max() <= LIMITS.linear_acceleration * TICK / SECOND + 1e-9
    assert bench.sent[-1][0] == bench.now


def test_an_arm_that_still_moves_is_braked_when_it_is_armed_without_a_target():
    def two_rows(bench: Bench) -> ActionChunk:
        whole = drift(0.3)(bench)
        return ActionChunk(whole.stamp, PERIOD, whole.actions[:2], whole.layout)

    bench = Bench(two_rows, fade=0, action_horizon=1).running()
    bench.policy = None
    bench.executor.observe_ood(ood(True), bench.at)
    bench.ticks(9)
    bench.executor.observe_ood(ood(False), bench.at)
    assert bench.executor.arm(bench.at) == []
    braking = bench.tick()
    assert bench.executor.state is State.ARMED
    assert braking is not None
    assert speed_between(bench.sent[-2][1], braking) > 0.05


def test_arming_while_running_does_not_touch_the_set_point():
    bench = Bench(drift(0.3)).running()
    bench.measured = shifted(bench.measured, y=-0.02)
    assert bench.executor.arm(bench.at) == []
    before = bench.sent[-1][1]
    after = bench.tick()
    assert after is not None
    assert 0.2 < speed_between(before, after) <= LIMITS.linear_speed + 1e-9


def test_a_policy_that_falls_silent_is_waited_for():
    bench = Bench(drift(0.1), max_age=5 * SECOND).running()
    policy, bench.policy = bench.policy, None
    silent = bench.now
    while bench.executor.state is State.RUNNING:
        bench.tick()
    assert LIMITS.policy_timeout - PERIOD <= bench.now - silent <= LIMITS.policy_timeout + TICK
    bench.ticks(50)
    assert bench.tick() is None
    bench.policy = policy
    assert any(bench.ticks(10))


def test_a_pose_that_stays_away_is_a_fault():
    bench = Bench(drift(0.1)).running()
    bench.pose_seen = False
    last = bench.now
    while bench.executor.state is State.RUNNING:
        bench.tick()
    assert bench.executor.state is State.FAULT
    assert LIMITS.pose_timeout < bench.now - last <= LIMITS.pose_timeout + TICK
    bench.pose_seen = True
    assert bench.ticks(20) == [None] * 20


def test_an_arm_that_is_held_is_a_fault_and_can_be_armed_where_it_stands():
    bench = Bench(drift(0.3)).running()
    held = bench.measured.copy()
    for _ in range(100):
        bench.tick()
        bench.measured = held
    assert bench.executor.state is State.FAULT
    assert "does not follow" in bench.executor.reason
    assert bench.executor.arm(bench.at) == []
    sent = bench.tick()
    assert sent is not None
    assert np.linalg.norm(sent.command.pose[:3] - held[:3]) < 1e-3


def judge(bench: Bench, since: int) -> CommandAudit:
    """Hold the commands since a number of them against the limits, on the steady clock."""
    audit = CommandAudit(LIMITS, TICK)
    for now, sent in bench.sent[since:]:
        audit.command(now, sent.command.pose, sent.command.gripper, now)
    return audit


@pytest.mark.parametrize("jump", [-3600 * SECOND, -2 * SECOND, -60 * MS, 60 * MS, 2 * SECOND])
def test_a_clock_that_is_set_is_braked_for_and_new_chunks_end_the_hold(jump):
    bench = Bench(drift(0.3)).running()
    last = speed_between(bench.sent[-2][1], bench.sent[-1][1])
    bench.jump(jump)
    policy, bench.policy = bench.policy, None
    stale = policy(bench)
    sent = bench.tick()
    assert bench.executor.state is State.HOLDING
    assert bench.executor.reason.startswith(f"clock jumped by {jump / SECOND:+.2f} s")
    assert sent is not None
    assert speed_between(bench.sent[-2][1], sent) < last
    before = ActionChunk(stale.stamp - jump, PERIOD, stale.actions, stale.layout)
    if abs(jump) > SECOND:
        assert bench.executor.offer_chunk(before, bench.at)
    bench.ticks(30)
    assert bench.tick() is None
    assert bench.executor.state is State.HOLDING
    bench.policy = policy
    assert any(bench.ticks(10))
    assert bench.executor.state is State.RUNNING
    assert judge(bench, 0).violations == []


def test_after_a_stall_of_the_process_the_arm_starts_from_rest():
    bench = Bench(drift(0.3)).running()
    stalled = len(bench.sent)
    policy, bench.policy = bench.policy, None
    assert bench.tick(300 * MS) is None
    assert bench.executor.state is State.HOLDING
    assert bench.executor.reason.startswith("clock jumped by +0.29 s")
    assert bench.ticks(5) == [None] * 5
    bench.policy = policy
    assert any(bench.ticks(10))
    first = bench.sent[stalled][1]
    assert np.linalg.norm(first.twist[:3]) <= LIMITS.linear_acceleration * TICK / SECOND + 1e-9
    assert judge(bench, stalled).violations == []


def test_an_arm_that_stands_still_is_noticed_where_the_policy_begins_anew_at_its_pose():
    bench = Bench(drift(0.12)).running()
    bench.holds = True
    sent = len(bench.sent)
    for _ in range(100):
        bench.tick()
    assert bench.executor.state is State.FAULT
    assert "arm does not follow its command of 500 ms ago" in bench.executor.reason
    far = max(np.linalg.norm(s.command.pose - bench.measured) for _, s in bench.sent[sent:])
    assert LIMITS.lag_distance < far < LIMITS.tracking_distance


def test_an_arm_that_comes_a_third_of_a_second_late_is_followed():
    bench = Bench(lambda bench: chunk_of(bench.now, way(bench.now))).running()
    bench.late = 33
    states = {bench.tick() and bench.executor.state for _ in range(300)}
    assert states == {State.RUNNING}
    last = bench.sent[-1][1].command.pose
    assert np.linalg.norm(last - bench.measured) > LIMITS.lag_distance


def test_a_late_step_equals_the_steps_that_were_missed():
    steady, late = Bench(drift(0.3)).running(), Bench(drift(0.3)).running()
    steady.policy = late.policy = None
    steady.ticks(5)
    late.tick(5 * TICK)
    np.testing.assert_allclose(late.measured, steady.measured, atol=1e-9)
    assert late.sent[-1][1].stamp == steady.sent[-1][1].stamp == steady.now


def test_a_step_off_the_grid_waits_for_its_period():
    bench = Bench(drift(0.3)).running()
    assert bench.tick(9 * MS) is None
    sent = bench.tick(4 * MS)
    assert sent is not None
    assert sent.stamp == bench.now - 3 * MS


def test_a_driver_that_repeats_its_stamp_is_a_fault():
    bench = Bench(drift(0.1)).running()
    bench.pose_seen = False
    frozen = bench.now
    while bench.executor.state is State.RUNNING:
        bench.executor.observe_pose(bench.measured, frozen, bench.at)
        bench.tick()
    assert bench.executor.state is State.FAULT
    assert bench.executor.reason == "no pose of the arm for 200 ms"
    assert bench.executor.refused["pose is not newer than the one before"] == 21


def test_a_pose_on_another_clock_is_not_taken():
    bench = Bench(drift(0.1)).running()
    for off in (-201 * MS, 201 * MS):
        bench.executor.observe_pose(HOME, bench.now + off, bench.at)
    assert bench.executor.refused == {"pose is stamped on another clock, or old": 2}


def test_cameras_that_fall_silent_are_waited_for_and_then_given_up():
    bench = Bench(drift(0.1)).running()
    bench.cameras = False
    silent = bench.now
    while bench.executor.state is State.RUNNING:
        bench.tick()
    assert bench.executor.reason == "no observation for 400 ms"
    assert bench.now - silent == LIMITS.observation_timeout + TICK
    bench.ticks(500)
    assert bench.executor.state is State.STOPPED
    assert bench.executor.reason == "holding for 5 s: no observation for 400 ms"


def test_a_controller_that_leaves_is_a_fault():
    bench = Bench(drift(0.1)).running()
    bench.executor.observe_controller(False)
    assert bench.tick() is None
    assert bench.executor.state is State.FAULT
    assert bench.executor.arm(bench.at) == ["no controller listens to the commands"]
    bench.executor.observe_controller(True)
    assert bench.executor.arm(bench.at) == []


def test_a_monitor_that_falls_silent_is_waited_for():
    bench = Bench(drift(0.1), require_monitor=True).running()
    bench.monitored = False
    bench.ticks(51)
    assert bench.executor.state is State.HOLDING
    assert bench.executor.reason == "no decision of the monitor for 500 ms"


def test_the_twist_is_the_motion_of_the_commands():
    bench = Bench(drift(0.2)).running()
    first, second = bench.sent[-2][1], bench.sent[-1][1]
    moved = second.command.pose[:3] - first.command.pose[:3]
    np.testing.assert_allclose(second.twist[:3], moved / (TICK / SECOND), atol=1e-9)


def test_the_margin_is_what_the_newest_chunk_outlasts_the_next_one_by():
    bench = Bench(drift(0.1))
    assert bench.executor.margin(T0) is None
    bench.executor.offer_chunk(drift(0.1)(bench), Moment.of(T0 + 70 * MS))
    assert bench.executor.delay == 70 * MS
    assert bench.executor.margin(T0 + 70 * MS) == 16 * PERIOD - 140 * MS


def test_two_steps_at_the_same_instant_send_once():
    bench = Bench(drift(0.1)).running()
    assert bench.executor.step(bench.at) is None


def test_a_target_that_jumps_is_not_followed():
    bench = Bench(drift(0.0), fade=0).running()
    far = np.repeat(shifted(HOME, x=0.2)[None], 16, axis=0)
    bench.policy = lambda b: chunk_of(b.now, far)
    bench.ticks(60)
    assert bench.executor.state is State.HOLDING
    assert bench.executor.reason == "target is more than 0.15 m away"
    assert bench.measured[0] == pytest.approx(0.5, abs=1e-6)


def test_an_arm_moved_out_of_the_workspace_after_arming_is_not_started():
    bench = Bench()
    bench.tick()
    bench.executor.offer_chunk(chunk_of(bench.now, np.repeat(HOME[None], 16, 0)), bench.at)
    assert bench.executor.arm(bench.at) == []
    bench.policy = lambda b: chunk_of(
        b.now, np.repeat((HOME - [0.33, 0, 0, 0, 0, 0, 0])[None], 16, 0)
    )
    bench.measured = HOME - [0.36, 0, 0, 0, 0, 0, 0]
    assert bench.ticks(20) == [None] * 20
    assert bench.executor.state is State.ARMED


def test_a_damaged_pose_is_counted_and_counts_as_none():
    bench = Bench(drift(0.1)).running()
    bench.pose_seen = False
    while bench.executor.state is State.RUNNING:
        bench.executor.observe_pose(np.full(7, np.nan), bench.now, bench.at)
        bench.tick()
    assert bench.executor.state is State.FAULT
    assert bench.executor.refused["pose is damaged"] == 21


def test_refused_chunks_are_counted_under_few_reasons():
    executor = Executor(LIMITS, HorizonConfig(max_age=500 * MS))
    poses = np.repeat(HOME[None], 4, axis=0)
    for k in range(50):
        at = Moment.of(T0 + SECOND)
        assert executor.offer_chunk(chunk_of(T0 + k * MS, poses), at)
        assert executor.offer_chunk(chunk_of(T0 + 2 * SECOND + k * MS, poses), at)
    assert executor.refused == {
        "chunk is too old": 50,
        "chunk answers an observation in the future": 50,
    }


def test_a_chunk_without_a_rotation_neither_moves_nor_breaks_the_executor():
    bench = Bench(drift(0.1)).running()
    whole = drift(0.1)(bench)
    rows = whole.actions.copy()
    rows[:, 3:9] = 0.0
    bench.now += MS
    reason = bench.executor.offer_chunk(
        ActionChunk(bench.now, PERIOD, rows, whole.layout), bench.at
    )
    assert "no rotation" in reason
    assert all(bench.ticks(20))


def test_a_chunk_that_is_not_finite_cannot_even_be_made():
    poses = np.repeat(HOME[None], 4, axis=0)
    rows = chunk_of(T0, poses).actions.copy()
    rows[2, 1] = np.nan
    with pytest.raises(DataError, match="finite"):
        ActionChunk(T0, PERIOD, rows, ActionLayout())


def test_reset_forgets_the_chunks_and_the_flag():
    bench = Bench(drift(0.1)).running()
    bench.executor.observe_ood(ood(True), bench.at)
    bench.executor.reset("new episode")
    assert (bench.executor.state, bench.executor.reason) == (State.IDLE, "new episode")
    bench.policy = None
    assert bench.ticks(5) == [None] * 5
    assert bench.executor.arm(bench.at) == ["no action chunk has come"]


def test_arming_anew_blends_the_chunk_in_from_where_the_arm_stands():
    bench = Bench(drift(0.2)).running()
    bench.executor.stop()
    bench.ticks(2)
    bench.measured = shifted(bench.measured, x=0.05)
    start = bench.measured.copy()
    count = len(bench.sent)
    assert bench.executor.arm(bench.at) == []
    bench.ticks(10)
    moved = [np.linalg.norm(sent.command.pose[:3] - start[:3]) for _, sent in bench.sent[count:]]
    assert moved[0] < 1e-3
    assert judge(bench, count).violations == []
