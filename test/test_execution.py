"""The executor as a node drives it: chunks, poses and flags in, commands within limits out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alt_ros.errors import DataError
from alt_ros.execution import Executor, SentCommand
from alt_ros.geometry import arm_action, interpolate_pose, rotation_between
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.safety import SafetyLimits, State
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


class Bench:
    """An arm that goes where it is told, an executor, and a log of what was sent."""

    def __init__(self, policy=None, *, resume_after_ood: bool = False, **horizon) -> None:
        self.executor = Executor(
            LIMITS, HorizonConfig(**horizon), resume_after_ood=resume_after_ood
        )
        self.now = T0
        self.measured = HOME.copy()
        self.gripper = 0.05
        self.policy = policy
        self.pose_seen = True
        self.sent: list[tuple[int, SentCommand]] = []
        self._next_chunk = 0
        self.executor.step(self.now)

    def tick(self, elapsed: int = TICK) -> SentCommand | None:
        self.now += elapsed
        if self.pose_seen:
            self.executor.observe_pose(self.measured, self.now)
            self.executor.observe_gripper(self.gripper)
        if self.policy is not None and (
            self.now >= self._next_chunk or self.now < self._next_chunk - PERIOD
        ):
            self._next_chunk = self.now + PERIOD
            self.executor.offer_chunk(self.policy(self), self.now)
        sent = self.executor.step(self.now)
        if sent is not None:
            self.sent.append((self.now, sent))
            self.measured, self.gripper = sent.command.pose, sent.command.gripper
        return sent

    def ticks(self, count: int) -> list[SentCommand | None]:
        return [self.tick() for _ in range(count)]

    def running(self) -> Bench:
        self.tick()
        assert self.executor.arm(self.now) == []
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
    assert bench.executor.arm(bench.now) == []
    sent = bench.tick()
    assert sent is not None
    step = np.linalg.norm(sent.command.pose[:3] - start[:3])
    assert step <= LIMITS.linear_acceleration * (TICK / SECOND) ** 2 + 1e-12


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("pose", "no pose of the arm has come"),
        ("gripper", "no gripper opening has come"),
        ("chunk", "no action chunk has come"),
    ],
)
def test_arming_names_what_has_not_come(missing, reason):
    executor = Executor(LIMITS, HorizonConfig())
    if missing != "pose":
        executor.observe_pose(HOME, T0)
    if missing != "gripper":
        executor.observe_gripper(0.05)
    if missing != "chunk":
        executor.offer_chunk(chunk_of(T0, np.repeat(HOME[None], 8, axis=0)), T0)
    assert executor.arm(T0) == [reason]
    assert executor.state is State.IDLE


def test_stop_is_at_once_and_lasts_until_armed_again():
    bench = Bench(drift(0.3)).running()
    bench.executor.stop()
    assert bench.ticks(50) == [None] * 50
    assert (bench.executor.state, bench.executor.reason) == (
        State.STOPPED,
        "stopped by the operator",
    )
    assert bench.executor.arm(bench.now) == []
    assert any(bench.ticks(5))


def test_a_strange_scene_brakes_to_rest_and_stays_there():
    bench = Bench(drift(0.3)).running()
    speed = speed_between(bench.sent[-2][1], bench.sent[-1][1])
    assert speed > 0.25
    bench.executor.observe_ood(ood(True))
    flagged = bench.now
    bench.ticks(100)
    braking = [(now, sent) for now, sent in bench.sent if now > flagged]
    assert braking
    assert (braking[-1][0] - flagged) / SECOND <= speed / LIMITS.linear_acceleration + 0.01
    assert {sent.chunk_stamp for _, sent in braking} == {0}
    assert len({sent.command.gripper for _, sent in braking}) == 1
    bench.executor.observe_ood(ood(False))
    assert bench.ticks(50) == [None] * 50
    assert bench.executor.state is State.HOLDING
    assert bench.executor.arm(bench.now) == []
    assert any(bench.ticks(5))


def test_a_strange_scene_is_resumed_from_where_that_was_asked_for():
    bench = Bench(drift(0.1), resume_after_ood=True).running()
    bench.executor.observe_ood(ood(True))
    bench.ticks(50)
    assert bench.executor.state is State.HOLDING
    bench.executor.observe_ood(ood(False))
    assert any(bench.ticks(5))
    assert bench.executor.state is State.RUNNING


@pytest.mark.parametrize("strange", [True, False])
def test_arming_while_the_arm_still_moves_does_not_jerk_it(strange):
    bench = Bench(drift(0.3)).running()
    bench.executor.observe_ood(ood(True))
    bench.tick()
    bench.executor.observe_ood(ood(strange))
    bench.measured = shifted(bench.measured, y=-0.02)  # an arm lags its command
    bench.executor.arm(bench.now)
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

    bench = Bench(two_rows).running()
    bench.policy = None
    bench.executor.observe_ood(ood(True))
    bench.ticks(6)
    bench.executor.observe_ood(ood(False))
    assert bench.executor.arm(bench.now) == []
    braking = bench.tick()
    assert bench.executor.state is State.ARMED
    assert braking is not None
    assert speed_between(bench.sent[-2][1], braking) > 0.05


def test_arming_while_running_does_not_touch_the_set_point():
    bench = Bench(drift(0.3)).running()
    bench.measured = shifted(bench.measured, y=-0.02)
    assert bench.executor.arm(bench.now) == []
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
    assert bench.executor.arm(bench.now) == []
    sent = bench.tick()
    assert sent is not None
    assert np.linalg.norm(sent.command.pose[:3] - held[:3]) < 1e-3


@pytest.mark.parametrize("jump", [-3600 * SECOND, -1 * SECOND, 1 * SECOND, 3600 * SECOND])
def test_a_jump_of_the_clock_is_a_fault_unless_new_data_come_with_it(jump):
    bench = Bench(drift(0.1)).running()
    bench.executor.step(bench.now + jump)
    assert bench.executor.state is State.FAULT
    bench.now += jump
    assert bench.ticks(20) == [None] * 20
    assert bench.executor.arm(bench.now) == []
    assert any(bench.ticks(10))


@pytest.mark.parametrize("elapsed", [-5 * MS, 101 * MS])
def test_a_leap_of_the_clock_is_one_period_of_the_set_point(elapsed):
    bench = Bench(drift(0.3)).running()
    before = bench.sent[-1][1]
    after = bench.tick(elapsed)
    assert after is not None
    assert speed_between(before, after) <= LIMITS.linear_speed + 1e-9


def test_two_steps_at_the_same_instant_send_once():
    bench = Bench(drift(0.1)).running()
    assert bench.executor.step(bench.now) is None


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
    bench.executor.offer_chunk(chunk_of(bench.now, np.repeat(HOME[None], 16, 0)), bench.now)
    assert bench.executor.arm(bench.now) == []
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
        bench.executor.observe_pose(np.full(7, np.nan), bench.now)
        bench.tick()
    assert bench.executor.state is State.FAULT
    assert bench.executor.refused["invalid pose"] == 21


def test_refused_chunks_are_counted_under_few_reasons():
    executor = Executor(LIMITS, HorizonConfig(max_age=500 * MS))
    poses = np.repeat(HOME[None], 4, axis=0)
    for k in range(50):
        assert executor.offer_chunk(chunk_of(T0 + k * MS, poses), T0 + SECOND)
        assert executor.offer_chunk(chunk_of(T0 + 2 * SECOND + k * MS, poses), T0 + SECOND)
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
        ActionChunk(bench.now, PERIOD, rows, whole.layout), bench.now
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
    bench.executor.observe_ood(ood(True))
    bench.executor.reset("new episode")
    assert (bench.executor.state, bench.executor.reason) == (State.IDLE, "new episode")
    bench.policy = None
    assert bench.ticks(5) == [None] * 5
    assert bench.executor.arm(bench.now) == ["no action chunk has come"]


# ---------------------------------------------------------------- any history

EVENTS = st.sampled_from(
    ["arm"] * 4
    + ["good policy"] * 4
    + ["wild policy", "silent policy", "ood", "in distribution", "in distribution"]
    + [
        "stop",
        "reset",
        "clock jump",
        "held",
        "free",
        "free",
        "no pose",
        "pose",
        "pose",
        "bad pose",
    ]
)
HISTORIES = st.lists(st.tuples(EVENTS, st.integers(1, 25), st.booleans()), min_size=4, max_size=30)


def wild(random: np.random.Generator, reach: float):
    """Return a policy of random walks: any rotation, in and out of the workspace."""

    def policy(bench: Bench) -> ActionChunk:
        steps = random.normal(0, 0.003, (16, 3)) if random.random() < 0.7 else np.zeros((16, 3))
        end = bench.measured[:3] + random.uniform(-reach, reach, 3)
        ways = np.linspace(bench.measured[:3], end, 16) + np.cumsum(steps, axis=0)
        turn = np.r_[end, Rotation.random(rng=random).as_quat()]
        poses = np.stack([interpolate_pose(bench.measured, turn, k / 16) for k in range(16)])
        poses[:, :3] = ways
        age = int(random.choice([-100, 0, 0, 20, 50, 100, 400, 600])) * MS
        opening = float(random.choice([-0.02, 0.0, 0.05, 0.05, 0.05, 0.1]))
        return chunk_of(bench.now - age, poses, opening)

    return policy


@settings(max_examples=60, deadline=None)
@given(HISTORIES, st.booleans(), st.integers(0, 2**32 - 1))
def test_no_history_makes_the_executor_leave_its_limits(history, resume, seed):
    random = np.random.default_rng(seed)
    bench = Bench(drift(0.2), resume_after_ood=resume, fade=int(random.choice([0, 100])) * MS)
    executor = bench.executor
    velocity, turn_rate = np.zeros(3), np.zeros(3)
    last: np.ndarray | None = None  # the last command since arming
    allowed, latched, held = False, False, None
    bench.tick()
    for event, ticks, irregular in [("arm", 20, False), *history]:
        jump = 0
        if event == "arm":
            resting = executor.state in (State.IDLE, State.STOPPED, State.FAULT)
            if executor.arm(bench.now) == []:
                allowed, latched = True, False
                if resting:
                    last, velocity, turn_rate = None, np.zeros(3), np.zeros(3)
        elif event == "good policy":
            bench.policy = drift(float(random.uniform(-0.3, 0.3)))
        elif event == "wild policy":
            bench.policy = wild(random, 0.12)
        elif event == "silent policy":
            bench.policy = None
        elif event in ("ood", "in distribution"):
            executor.observe_ood(ood(event == "ood"))
            latched |= (
                event == "ood"
                and allowed
                and not resume
                and executor.state in (State.ARMED, State.RUNNING, State.HOLDING)
            )
        elif event == "stop":
            executor.stop()
            allowed = False
        elif event == "reset":
            executor.reset("reset")
            allowed = False
        elif event == "clock jump":
            jump = int(random.choice([-100, -1, 1, 100])) * SECOND
        elif event in ("held", "free"):
            held = bench.measured.copy() if event == "held" else None
        elif event in ("no pose", "pose"):
            bench.pose_seen = event == "pose"
        else:
            executor.observe_pose(np.array([np.nan, 0, 0, 0, 0, 0, 1.0]), bench.now)
        for _ in range(ticks):
            elapsed = jump or (int(10 ** random.uniform(0.3, 1.9)) * MS if irregular else TICK)
            period = elapsed / SECOND if 0 < elapsed <= 100 * MS else 0.01
            jump = 0
            start = bench.measured
            sent = bench.tick(elapsed)
            if held is not None:
                bench.measured = held
            if sent is None:
                assert np.linalg.norm(velocity) == pytest.approx(0, abs=1e-6) or (
                    executor.state in (State.IDLE, State.STOPPED, State.FAULT)
                )
                continue
            assert allowed
            assert executor.state in (State.ARMED, State.RUNNING, State.HOLDING)
            if latched:
                assert executor.state is State.HOLDING
            pose = sent.command.pose
            before = start if last is None else last
            now_velocity = (pose[:3] - before[:3]) / period
            now_rate = rotation_between(before, pose) / period
            assert (pose[:3] >= LOW - 1e-9).all()
            assert (pose[:3] <= HIGH + 1e-9).all()
            assert LIMITS.gripper_low <= sent.command.gripper <= LIMITS.gripper_high
            assert np.linalg.norm(now_velocity) <= LIMITS.linear_speed + 1e-6
            assert np.linalg.norm(now_rate) <= LIMITS.angular_speed + 1e-6
            change = np.linalg.norm(now_velocity - velocity)
            assert change <= LIMITS.linear_acceleration * period + 1e-5
            change = np.linalg.norm(now_rate - turn_rate)
            assert change <= LIMITS.angular_acceleration * period + 1e-4
            if executor.state is State.HOLDING:
                assert np.linalg.norm(now_velocity) <= np.linalg.norm(velocity) + 1e-6
            velocity, turn_rate, last = now_velocity, now_rate, pose


def test_the_wild_policy_of_the_histories_does_move_the_arm():
    bench = Bench(drift(0.2)).running()
    bench.policy = wild(np.random.default_rng(1), 0.12)
    bench.sent.clear()
    states = set()
    for _ in range(500):
        bench.tick()
        states.add(bench.executor.state)
    positions = np.array([sent.command.pose[:3] for _, sent in bench.sent])
    assert states == {State.RUNNING, State.HOLDING}
    assert len(positions) > 250
    assert np.ptp(positions, axis=0).min() > 0.02
