"""Whatever comes in, in whatever order: what the executor promises holds.

A history is a list of events and a seed. Between events the arm follows, the cameras and the
policy run, each as well as the events so far have left it. The promises are judged from outside:
limits by ``CommandAudit``, the watchdogs by the ages that are kept here.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alt_ros.audit.commands import CommandAudit
from alt_ros.errors import DataError
from alt_ros.execution import Executor, Moment, SentCommand
from alt_ros.geometry import pose_distance, quaternion_to_rot6d
from alt_ros.receding_horizon import BLENDINGS, HorizonConfig
from alt_ros.safety import FOLLOWING, SENDING, AfterOod, Role, SafetyLimits, State
from alt_ros.types import ActionChunk, ActionLayout, Neighbour, OodDecision

MS = 1_000_000
SECOND = 1000 * MS
TICK = 10 * MS
T0 = 1_700_000_000 * SECOND
MAX_STALL = SECOND // 5
ROLES = list(Role)  # a chunk's stamp ends in its role's place here, ns
ROLE_OF = {State.RUNNING: Role.POLICY, State.RETURNING: Role.RETURN, State.FALLBACK: Role.FALLBACK}
STRANGE = {
    AfterOod.STOP: {State.HOLDING},
    AfterOod.HOLD: {State.HOLDING, State.STOPPED},
    AfterOod.RETURN: {State.HOLDING, State.RETURNING},
    AfterOod.FALLBACK: {State.HOLDING, State.FALLBACK, State.STOPPED},
}
"""The states that a flag may lead to, faults aside."""

# Short times, so that a history of 60 ticks reaches every one of them.
QUICK = SafetyLimits(
    observation_timeout=80 * MS,
    policy_timeout=110 * MS,
    pose_timeout=50 * MS,
    hold_timeout=200 * MS,
    lag_timeout=60 * MS,
    lag_distance=0.008,
)
NARROW = SafetyLimits(
    workspace_low=(0.47, -0.03, 0.28),
    workspace_high=(0.53, 0.03, 0.32),
    linear_speed=0.2,
    linear_acceleration=1.0,
    angular_speed=3.0,
    angular_acceleration=8.0,
    observation_timeout=90 * MS,
    policy_timeout=70 * MS,
    pose_timeout=60 * MS,
    hold_timeout=150 * MS,
)

CHUNKS = (
    "good",
    "good",
    "jumping",
    "far",
    "rotated",
    "outside",
    "noisy",
    "not finite",
    "old",
    "future",
    "repeated",
    "other period",
    "one row",
    "many rows",
    "too many rows",
    "two arms",
    "no rotation",
    "wide gripper",
    "none",
)
REFUSED = {"old", "future", "repeated", "too many rows", "two arms", "no rotation"}
POSES = (
    "lagging",
    "exact",
    "held",
    "jumped",
    "frozen stamp",
    "not finite",
    "off clock",
    "missing",
)
EVENTS = (
    *["recover and arm"] * 12,
    *["arm"] * 4,
    *["arm at once"] * 2,
    "stop",
    "stop and arm",
    "reset",
    *["strange scene"] * 6,
    "familiar scene",
    *["strange scene for a while"] * 3,
    "no way back, no fallback",
    "a way back and a fallback",
    "no observations",
    "observations",
    "controller gone",
    "controller back",
    "no gripper",
    "jump of the clock",
    "slew of the clock",
    "stall",
    "long stall",
    "same instant",
    "irregular ticks",
    "regular ticks",
    *[f"chunks: {kind}" for kind in dict.fromkeys(CHUNKS)],
    *[f"poses: {kind}" for kind in POSES],
    *["poses: held"] * 2,
)
HISTORIES = st.lists(
    st.tuples(st.sampled_from(EVENTS), st.integers(1, 10)), min_size=2, max_size=8
)


class World:
    """An executor, the arm, the cameras, the policy and the operator around it."""

    def __init__(self, seed: int) -> None:
        self.random = random = np.random.default_rng(seed)
        self.limits = (SafetyLimits(), QUICK, QUICK, NARROW)[random.integers(4)]
        self.after_ood = [*AfterOod, AfterOod.RETURN, AfterOod.FALLBACK][random.integers(6)]
        self.horizon = HorizonConfig(
            action_horizon=int(random.choice([1, 2, 8])),
            blending=str(random.choice(BLENDINGS)),
            fade=int(random.choice([0, 30, 200])) * MS,
            arm_latency=int(random.choice([0, 0, 30])) * MS,
        )
        self.executor = Executor(self.limits, self.horizon, after_ood=self.after_ood)
        self.audit = CommandAudit(self.limits)
        self.steady = int(random.integers(0, 2)) * 10**12
        self.now = T0
        # The world.
        self.arm_pose = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])
        self.commanded = self.arm_pose
        self.speed = random.uniform(-0.3, 0.3, 3) * np.array([0.3, 1.0, 0.2])
        self.chunks, self.poses = "good", "lagging"
        self.observing, self.strange, self.listening = True, False, True
        self.helped, self.familiar_in = True, 0
        self.irregular, self.elapsed_next = False, -1
        self.policy_ticks = int(random.integers(1, 5))
        self.ticks = 0
        self.chunk_stamp = 0
        self.pose_stamp = 0
        # What is kept to judge by. Time stands still in a long stall, but for a period.
        self.time = 0
        self.came: dict[str, int] = {}
        self.allowed = False
        self.latched = False
        self.way_back: int | None = None  # stamp of the one that is followed
        self.flag_waited = 0  # for a way back
        self.waited = 0
        self.accepted_pose: np.ndarray | None = None
        self.last: SentCommand | None = None  # of this arming
        self.rests = False  # since a long stall, in which the arm came to rest
        self.way: list[tuple[int, np.ndarray]] = []  # where the arm was sent, and when
        self.measured: list[tuple[int, np.ndarray]] = []  # where it was since
        self.looked_since = 0
        self.seen: Counter[str] = Counter()
        self.executor.step(self.at)

    @property
    def at(self) -> Moment:
        return Moment(self.now, self.steady)

    # -------------------------------------------------------------- events

    def happen(self, event: str) -> None:
        random = self.random
        if event.startswith("chunks: "):
            self.chunks = event.removeprefix("chunks: ")
        elif event.startswith("poses: "):
            self.poses = event.removeprefix("poses: ")
            if self.poses == "jumped":
                self.arm_pose = self.arm_pose + np.array([0, 0.2, 0, 0, 0, 0, 0])
        elif event == "recover and arm":
            self.recover()
            self.tick()
            self.tick()
            self.arm()
        elif event == "arm":
            self.tick()
            self.arm()
        elif event == "arm at once":
            self.arm()
        elif event in ("stop", "stop and arm"):
            self.executor.stop()
            self.silence(State.STOPPED)
            if event == "stop and arm":
                self.arm()
        elif event == "reset":
            self.executor.reset("a new episode")
            self.came.pop("chunk", None)
            self.strange = False
            self.silence(State.IDLE)
        elif event in ("strange scene", "familiar scene", "strange scene for a while"):
            self.strange = event != "familiar scene"
            self.familiar_in = int(random.integers(2, 12)) if "while" in event else 0
            self.see()
        elif event in ("no way back, no fallback", "a way back and a fallback"):
            self.helped = event == "a way back and a fallback"
        elif event in ("no observations", "observations"):
            self.observing = event == "observations"
        elif event in ("controller gone", "controller back"):
            self.listening = event == "controller back"
        elif event == "no gripper":
            self.executor.observe_gripper(float("nan"))
        elif event == "jump of the clock":
            self.now += int(random.choice([-2000, -500, -60, 60, 500, 2000])) * MS
        elif event == "slew of the clock":
            self.now += int(random.integers(-45, 45)) * MS
        elif event == "stall":
            self.elapsed_next = int(random.integers(20, 201)) * MS
        elif event == "long stall":
            self.elapsed_next = int(random.integers(201, 3000)) * MS
        elif event == "same instant":
            self.elapsed_next = 0
        else:
            self.irregular = event == "irregular ticks"

    def recover(self) -> None:
        """Make everything work again; what is latched stays."""
        self.chunks, self.poses = "good", "lagging"
        self.observing, self.strange, self.listening = True, False, True
        self.helped = True
        inside = np.clip(
            self.arm_pose[:3],
            np.array(self.limits.workspace_low) + 0.01,
            np.array(self.limits.workspace_high) - 0.01,
        )
        if self.executor.state not in SENDING:
            self.arm_pose = np.concatenate([inside, self.arm_pose[3:]])
            self.commanded = self.arm_pose
        self.see()

    def silence(self, state: State) -> None:
        assert self.executor.state is state
        assert self.executor.reason
        self.allowed, self.latched, self.last, self.waited = False, False, None, 0
        self.way_back = None
        self.audit.state(state.value, self.steady)

    def arm(self) -> None:
        executor, before = self.executor, self.executor.state
        self.seen["arms"] += 1
        reasons = executor.arm(self.at)
        assert all(reasons)
        if reasons:
            self.seen["refused arms"] += 1
            assert executor.state is before
            return
        if before in (State.ARMED, State.RUNNING, State.FALLBACK):
            assert executor.state is before
            return
        assert executor.state is State.ARMED
        assert not self.strange
        assert self.listening
        assert self.age("pose") <= self.limits.pose_timeout
        assert self.age("observation") <= self.limits.observation_timeout
        assert self.age("chunk") <= self.limits.policy_timeout
        assert before not in FOLLOWING
        assert self.accepted_pose is not None
        assert (self.accepted_pose[:3] >= self.limits.workspace_low).all()
        assert (self.accepted_pose[:3] <= self.limits.workspace_high).all()
        self.allowed, self.latched, self.waited, self.way_back = True, False, 0, None
        self.audit.state(executor.state.value, self.steady)

    # -------------------------------------------------------------- inputs

    def age(self, what: str) -> float:
        return self.time - self.came[what] if what in self.came else float("inf")

    def see(self) -> None:
        decision = OodDecision(self.strange, 0.5, 0.8, Neighbour(0, 0, 0.5))
        self.executor.observe_ood(decision, self.at)

    def move_arm(self) -> None:
        share = 1.0 if self.poses == "exact" else float(self.random.uniform(0.2, 0.9))
        if self.poses == "held":
            share = 0.0
        if share == 1.0:
            self.arm_pose = self.commanded
        elif share:
            position = self.arm_pose[:3] + share * (self.commanded[:3] - self.arm_pose[:3])
            self.arm_pose = np.concatenate([position, self.commanded[3:]])

    def measure(self) -> None:
        kind = self.poses
        if kind == "missing":
            return
        pose, stamp = self.arm_pose, self.now - int(self.random.integers(0, 2)) * MS
        if kind == "not finite":
            pose = np.array([np.nan, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])
        elif kind == "off clock":
            stamp += int(self.random.choice([-1, 1])) * SECOND
        elif kind == "frozen stamp":
            stamp = self.pose_stamp
        self.executor.observe_pose(pose, stamp, self.at)
        self.executor.observe_gripper(0.05)
        timely = abs(self.now - stamp) <= self.limits.pose_timeout
        if kind != "not finite" and timely and stamp != self.pose_stamp:
            # Not if the clock went back a little: the executor may wait for newer stamps.
            if not 0 <= self.pose_stamp - stamp <= self.limits.pose_timeout:
                self.accepted_pose = pose
                self.pose_stamp = stamp
            self.came["pose"] = self.time

    def decide(self) -> None:
        """Let each policy decide; the one that helps out now and then without being asked."""
        roles = [Role.POLICY]
        if self.helped and (self.strange or self.random.random() < 0.2):
            roles += [Role.RETURN, Role.FALLBACK]
        for role in self.random.permutation(np.array(roles, object)):
            self.offer(role)

    def offer(self, role: Role) -> None:
        kind = self.chunks
        if kind == "none":
            return
        try:
            chunk = self.chunk(kind, role)
        except DataError:
            assert kind == "not finite"
            return
        assert kind != "not finite"
        state = self.executor.state
        reason = self.executor.offer_chunk(chunk, self.at, role)
        if kind in REFUSED:
            assert reason
        if not reason:
            self.seen[f"chunks of role {role.value}"] += 1
            self.chunk_stamp = chunk.stamp
            self.came["chunk" if role is Role.POLICY else role.value] = self.time
            if role is not Role.POLICY:
                assert role.value == self.after_ood.value
                assert state in (State.HOLDING, State.FALLBACK)

    def chunk(self, kind: str, role: Role) -> ActionChunk:
        random = self.random
        period = 50 * MS if kind != "other period" else int(random.choice([1, 7, 33, 400])) * MS
        rows = {"one row": 1, "many rows": 900, "too many rows": 5000}.get(kind, 8)
        stamp = self.now - int(random.choice([0, 0, 0, 20, 45])) * MS
        speed = np.array([3.0, 0.0, 0.0]) if kind == "outside" else self.speed
        actions = np.empty((rows, 10))
        steps = np.arange(rows)[:, None] * (period / SECOND)
        actions[:, :3] = self.arm_pose[:3] + np.clip(speed * steps, -0.4, 0.4)
        rotation = self.arm_pose[3:]
        if kind == "rotated":
            rotation = Rotation.random(rng=random).as_quat()
        actions[:, 3:9] = quaternion_to_rot6d(rotation)
        actions[:, 9] = float(random.uniform(0.0, 0.1))
        if kind == "jumping":
            actions[:, :3] += random.uniform(-0.08, 0.08, 3)
        elif kind == "far":
            actions[:, 1] += 0.3
        elif kind == "noisy":
            actions[:, :3] += random.normal(0, 0.01, (rows, 3))
        elif kind == "not finite":
            actions[rows // 2, 4] = np.nan
        elif kind == "old":
            stamp = self.now - self.horizon.max_age - MS
        elif kind == "future":
            stamp = self.now + int(random.choice([60, 600])) * MS
        elif kind == "repeated":
            stamp = min(self.chunk_stamp, self.now - self.horizon.max_age - MS)
        elif kind == "no rotation":
            actions[:, 3:9] = 0.0
        elif kind == "wide gripper":
            actions[:, 9] = 0.3
        layout = ActionLayout()
        if kind == "two arms":
            actions, layout = np.tile(actions, 2), ActionLayout(arms=2)
        return ActionChunk(stamp + ROLES.index(role), period, actions, layout)

    # -------------------------------------------------------------- time

    def tick(self) -> None:
        """Let a control period pass, or what an event left to pass."""
        elapsed = TICK
        if self.elapsed_next >= 0:
            elapsed, self.elapsed_next = self.elapsed_next, -1
        elif self.irregular:
            elapsed = int(self.random.choice([0, 3, 7, 10, 14, 26])) * MS
        self.ticks += 1
        self.steady += elapsed
        self.now += elapsed
        counted = elapsed if elapsed <= MAX_STALL else TICK
        self.time += counted
        self.move_arm()
        self.measure()
        self.executor.observe_controller(self.listening)
        if self.observing:
            self.executor.observe_observation(self.at)
            self.came["observation"] = self.time
        if self.ticks % self.policy_ticks == 0:
            self.familiar_in -= 1
            self.strange &= self.familiar_in != 0
            self.see()
            self.decide()
        self.step(elapsed, counted)

    def step(self, elapsed: int, counted: int) -> None:
        executor, limits = self.executor, self.limits
        before = executor.state
        sent = executor.step(self.at)
        state = executor.state
        self.seen[state.value] += 1
        assert executor.reason
        if sent is not None:
            assert self.allowed
            assert state in SENDING
            assert sent.stamp <= self.now
            self.audit.command(
                sent.stamp - self.now + self.steady,
                sent.command.pose,
                sent.command.gripper,
                self.steady,
            )
            assert self.audit.violations == []
        if before not in SENDING:
            assert state is before
            return
        self.rests |= elapsed > MAX_STALL
        if elapsed >= TICK:
            self.judge_state(state)
            self.judge_hold(state, sent)
        self.judge_role(state, sent)
        self.judge_way_back(before, state, counted)
        self.judge_wait(state, counted)
        late = 2 * TICK
        if self.age("pose") > limits.pose_timeout + late:
            assert state not in SENDING
        if self.age("observation") > limits.observation_timeout + late:
            assert state not in (State.RUNNING, State.FALLBACK)
        if self.age("chunk") > limits.policy_timeout + late:
            assert state is not State.RUNNING
        if self.age("fallback") > limits.policy_timeout + late:
            assert state is not State.FALLBACK
        self.judge_lag(state, elapsed)
        self.seen["faults of an arm that is behind"] += "ms ago" in executor.reason
        self.seen[f"{before.value} to {state.value}"] += before is not state
        if sent is not None:
            self.rests = False
            if self.last is None:
                assert self.accepted_pose is not None
                self.way = [(self.time, self.accepted_pose)]
                self.measured = self.way.copy()
            self.last, self.commanded = sent, sent.command.pose
        self.way.append((self.time, self.commanded))
        if state not in SENDING:
            self.allowed, self.latched, self.last, self.way_back = False, False, None, None
        self.audit.state(state.value, self.steady)

    def judge_state(self, state: State) -> None:
        """Judge a step of at least one period from a state in which commands may be sent."""
        limits = self.limits
        if not self.listening:
            assert state is State.FAULT
        if self.last is not None and self.accepted_pose is not None:
            distance, angle = pose_distance(self.last.command.pose, self.accepted_pose)
            if distance > limits.tracking_distance or angle > limits.tracking_angle:
                assert state is State.FAULT
        if self.strange:
            assert state in STRANGE[self.after_ood] | {State.FAULT}
            self.latched |= self.after_ood in (AfterOod.STOP, AfterOod.RETURN)
        if self.latched:
            assert state in STRANGE[self.after_ood] | {State.FAULT}

    def judge_role(self, state: State, sent: SentCommand | None) -> None:
        """Chunks of the state's role are followed, in any other state none."""
        if sent is None or sent.chunk_stamp == 0:
            return
        assert state in FOLLOWING
        assert ROLES[sent.chunk_stamp % MS] is ROLE_OF[state]
        if state is State.RETURNING:
            self.way_back = sent.chunk_stamp if self.way_back is None else self.way_back
            assert sent.chunk_stamp == self.way_back, "one way back, to its end"

    def judge_way_back(self, before: State, state: State, counted: int) -> None:
        """The arm sets out on the way back soon or not at all, and once."""
        if self.after_ood is not AfterOod.RETURN or not self.latched:
            self.flag_waited = 0
            return
        self.flag_waited += counted
        if state is State.RETURNING and before is not State.RETURNING:
            assert before is State.HOLDING
            assert self.flag_waited <= self.limits.policy_timeout + 2 * TICK
            self.flag_waited = 2 * SECOND  # once

    def judge_lag(self, state: State, elapsed: int) -> None:
        """An arm must get near what it was sent; where nobody looked it may have passed by."""
        limits, pose = self.limits, self.accepted_pose
        if elapsed > 3 * TICK:
            self.looked_since = self.time
        if self.last is None or pose is None:
            return
        self.measured.append((self.time, pose))
        oldest = self.time - limits.lag_timeout - 4 * TICK
        self.measured = [(at, seen) for at, seen in self.measured if at >= oldest]
        self.way = [(at, sent) for at, sent in self.way if at >= max(oldest, self.looked_since)]
        if not self.way or elapsed < TICK:
            return
        at, sent = self.way[0]
        if self.time - at < limits.lag_timeout + 2 * TICK:
            return
        off = [pose_distance(sent, seen) for when, seen in self.measured if when >= at]
        metres = limits.lag_distance + (0.01 if self.irregular else 0.004)
        if all(d > metres or a > limits.lag_angle + 0.1 for d, a in off):
            assert state is State.FAULT

    def judge_wait(self, state: State, counted: int) -> None:
        """Judge how long an arm that waits stays ready to move."""
        if state in FOLLOWING or self.latched:
            self.waited = 0
            return
        self.waited += counted
        if state is State.STOPPED:
            assert self.waited >= self.limits.hold_timeout - TICK
        elif state is not State.FAULT:
            assert self.waited <= self.limits.hold_timeout + 2 * TICK

    def judge_hold(self, state: State, sent: SentCommand | None) -> None:
        """A hold brakes until the set-point rests."""
        if state is not State.HOLDING or self.last is None:
            return
        if sent is None:
            assert self.rests or not self.last.twist.any()
            return
        assert not self.rests
        for part in (slice(0, 3), slice(3, 6)):
            speed = float(np.linalg.norm(sent.twist[part]))
            assert speed <= float(np.linalg.norm(self.last.twist[part])) + 1e-9


def play(history: list[tuple[str, int]], seed: int) -> World:
    world = World(seed)
    world.happen("recover and arm")
    for event, ticks in [("regular ticks", 12), *history]:
        world.happen(event)
        for _ in range(ticks):
            world.tick()
    return world


THOROUGH = settings.get_current_profile_name() == "thorough"


@pytest.mark.slow
@pytest.mark.timeout(0)
@settings(max_examples=100_000 if THOROUGH else 2_000)
@given(HISTORIES, st.integers(0, 2**32 - 1))
@example([("stall", 1), ("stall", 1)], 8)  # a stall in which the set-point came to rest
@example([("strange scene", 1), ("irregular ticks", 3), ("recover and arm", 1)], 0)  # as it runs
@example(  # a way back that comes during a stall, too late
    [("recover and arm", 1), ("strange scene", 1), ("stall", 1), ("recover and arm", 1)], 508603
)
def test_no_history_breaks_a_promise(history, seed):
    play(history, seed)


def test_the_histories_do_reach_what_they_are_to_judge():
    random = np.random.default_rng(0)
    seen: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    commands = 0
    for seed in range(150):
        events = random.choice(EVENTS, random.integers(2, 9))
        world = play([(str(event), int(random.integers(1, 12))) for event in events], seed)
        seen += world.seen
        reasons += world.executor.refused
        commands += world.audit.commands
    assert {state.value for state in State} <= seen.keys()
    assert seen["running"] > 1000
    assert seen["faults of an arm that is behind"] > 1
    assert seen["returning"] > 100
    assert seen["fallback"] > 100
    for change in ("returning to holding", "fallback to holding", "fallback to running"):
        assert seen[change], change
    assert seen["holding"] > 300
    assert 0.1 < seen["refused arms"] / seen["arms"] < 0.7
    assert commands > 1500
    assert len(reasons) >= 8
