"""What may be sent to the arm: limits, the set-point that obeys them, and the state machine.

Pure and on the caller's clock. The states and every transition are drawn in docs/safety.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError
from alt_ros.geometry import pose_distance, rotation_between
from alt_ros.types import NANOSECONDS

Array = NDArray[np.float64]

# Braking before a wall takes this share of the acceleration per axis, what is left is free.
_WALL_BRAKE = 0.25
_BESIDE_WALLS = math.sqrt(1.0 - 3.0 * _WALL_BRAKE**2)


@dataclass(frozen=True)
class SafetyLimits:
    """Bounds of one arm, on by default; lengths in metres, angles in radians, times in ns.

    Attributes:
        workspace_low, workspace_high: Corners of the box that commanded positions stay in.
        linear_speed, angular_speed: m/s and rad/s of the commanded pose.
        linear_acceleration, angular_acceleration: m/s^2 and rad/s^2.
        target_distance: A target further than this from the last command is not followed.
        tracking_distance, tracking_angle: A measured pose further than this from the last
            command is a fault: something holds the arm.
        lag_distance, lag_angle: A command that the arm has not come nearer than this within
            ``lag_timeout`` is a fault: the arm may be late, but must get there.
        gripper_low, gripper_high: Range of the commanded opening.
        gripper_speed: m/s of the commanded opening.
        observation_timeout: Longest time without an observation of the cameras.
        policy_timeout: Longest time without a chunk, and without the monitor's decision.
        pose_timeout: Longest time without a measured pose.
        lag_timeout: How late the arm may be.
        hold_timeout: A hold that would end by itself, and an arming that nothing follows, end in
            ``stopped`` after this time: nobody expects the arm to move by then.
    """

    workspace_low: tuple[float, float, float] = (0.15, -0.45, 0.0)
    workspace_high: tuple[float, float, float] = (0.85, 0.45, 0.60)
    linear_speed: float = 0.35
    angular_speed: float = 1.5
    linear_acceleration: float = 2.0
    angular_acceleration: float = 10.0
    target_distance: float = 0.15
    tracking_distance: float = 0.08
    tracking_angle: float = 0.5
    lag_distance: float = 0.03
    lag_angle: float = 0.2
    gripper_low: float = 0.0
    gripper_high: float = 0.10
    gripper_speed: float = 0.25
    observation_timeout: int = 2 * NANOSECONDS // 5
    policy_timeout: int = NANOSECONDS // 2
    pose_timeout: int = NANOSECONDS // 5
    lag_timeout: int = NANOSECONDS // 2
    hold_timeout: int = 5 * NANOSECONDS

    def __post_init__(self) -> None:
        for name in (
            "linear_speed",
            "angular_speed",
            "linear_acceleration",
            "angular_acceleration",
            "target_distance",
            "tracking_distance",
            "tracking_angle",
            "lag_distance",
            "lag_angle",
            "gripper_speed",
            "observation_timeout",
            "policy_timeout",
            "pose_timeout",
            "lag_timeout",
            "hold_timeout",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"limit {name} must be finite and positive, got {value}")
        low, high = np.array(self.workspace_low), np.array(self.workspace_high)
        if low.shape != (3,) or high.shape != (3,) or not (low < high).all():
            raise ConfigurationError(
                f"workspace_low must lie below workspace_high on x, y and z, got "
                f"{self.workspace_low} and {self.workspace_high}"
            )
        if not self.gripper_low < self.gripper_high:
            raise ConfigurationError(
                f"gripper_low must be below gripper_high, got {self.gripper_low} and "
                f"{self.gripper_high}"
            )


@dataclass(frozen=True, eq=False)
class Command:
    """What is sent: pose (7,) and gripper opening in metres."""

    pose: Array
    gripper: float


def _closing_speed(distance: float, acceleration: float, period: float) -> float:
    """Return the largest speed (m/s) from which a stop within ``distance`` is still possible.

    After a period at speed v, v^2 / (2 acceleration) is left, whatever the next periods are.
    """
    step = acceleration * period
    return -step + math.sqrt(step * step + 2.0 * acceleration * distance)


def _shorten(vector: Array, length: float) -> Array:
    norm = float(np.linalg.norm(vector))
    return vector if norm <= length else vector * (length / norm)


class SetPoint:
    """The commanded pose: follows a moving target within speed, acceleration and workspace."""

    def __init__(self, limits: SafetyLimits, pose: Array, gripper: float) -> None:
        self._limits = limits
        self.pose = np.array(pose, np.float64)
        self.gripper = float(np.clip(gripper, limits.gripper_low, limits.gripper_high))
        self.velocity = np.zeros(3)
        self.turn_rate = np.zeros(3)
        self._last_target: Array | None = None

    def rest(self) -> None:
        """Stand still at once: the arm did, while nothing was sent."""
        self.velocity, self.turn_rate, self._last_target = np.zeros(3), np.zeros(3), None

    @property
    def at_rest(self) -> bool:
        """Whether the commanded pose stands still."""
        return not (self.velocity.any() or self.turn_rate.any())

    @property
    def twist(self) -> Array:
        """Linear and angular velocity (6,), m/s and rad/s."""
        return np.concatenate([self.velocity, self.turn_rate])

    def follow(self, pose: Array, gripper: float, period: float) -> Command:
        """Move towards a target for one control period (s); return what to send."""
        limits = self._limits
        last = pose if self._last_target is None else self._last_target
        self._last_target = pose
        target_velocity = (pose[:3] - last[:3]) / period
        target_rate = rotation_between(last, pose) / period
        velocity = self._pursue(
            pose[:3] - self.pose[:3],
            _shorten(target_velocity, limits.linear_speed),
            limits.linear_speed,
            limits.linear_acceleration,
            period,
        )
        turn_rate = self._pursue(
            rotation_between(self.pose, pose),
            _shorten(target_rate, limits.angular_speed),
            limits.angular_speed,
            limits.angular_acceleration,
            period,
        )
        self._advance(velocity, turn_rate, period)
        opening = float(np.clip(gripper, limits.gripper_low, limits.gripper_high))
        reach = limits.gripper_speed * period
        self.gripper += float(np.clip(opening - self.gripper, -reach, reach))
        return Command(self.pose.copy(), self.gripper)

    def decelerate(self, period: float) -> Command:
        """Brake for one control period (s), the gripper unmoved; return what to send."""
        self._last_target = None
        self._advance(np.zeros(3), np.zeros(3), period)
        return Command(self.pose.copy(), self.gripper)

    @staticmethod
    def _pursue(
        error: Array, target_velocity: Array, speed: float, acceleration: float, period: float
    ) -> Array:
        left = error - target_velocity * period
        distance = float(np.linalg.norm(left))
        if distance > 1e-12:
            closing = left * (_closing_speed(distance, 0.5 * acceleration, period) / distance)
            target_velocity = target_velocity + closing
        return _shorten(target_velocity, speed)

    def _before_walls(self, velocity: Array, period: float) -> Array:
        limits = self._limits
        low, high = np.array(limits.workspace_low), np.array(limits.workspace_high)
        brake = _WALL_BRAKE * limits.linear_acceleration
        slowed = velocity.copy()
        for axis in range(3):
            above = max(float(high[axis] - self.pose[axis]), 0.0)
            below = max(float(self.pose[axis] - low[axis]), 0.0)
            slowed[axis] = np.clip(
                velocity[axis],
                -_closing_speed(below, brake, period),
                _closing_speed(above, brake, period),
            )
        return slowed

    def _accelerate(self, velocity: Array, period: float) -> Array:
        """Return the next velocity: towards the one given, in time for the walls."""
        most = self._limits.linear_acceleration * period
        change = _shorten(velocity - self.velocity, most)
        reached = self._before_walls(self.velocity + change, period)
        if float(np.linalg.norm(reached - self.velocity)) > most * (1.0 + 1e-9):
            change = _shorten(change, _BESIDE_WALLS * most)
            reached = self._before_walls(self.velocity + change, period)
        return reached

    def _advance(self, velocity: Array, turn_rate: Array, period: float) -> None:
        limits = self._limits
        self.velocity = self._accelerate(velocity, period)
        change = _shorten(turn_rate - self.turn_rate, limits.angular_acceleration * period)
        self.turn_rate = self.turn_rate + change
        rotation = Rotation.from_rotvec(self.turn_rate * period) * Rotation.from_quat(
            self.pose[3:]
        )
        self.pose = np.concatenate([self.pose[:3] + self.velocity * period, rotation.as_quat()])


class TwistFollower:
    """The velocity that keeps an arm on the commanded pose, for controllers that take twists.

    Args:
        limits: Speed and acceleration that the twist obeys.
        gain: Correction per distance from the commanded pose, 1/s.
        period: Control period, s.
    """

    def __init__(self, limits: SafetyLimits, gain: float, period: float) -> None:
        self._limits = limits
        self._gain = gain
        self._period = period
        self._last = np.zeros(6)

    def restart(self) -> None:
        """Start from rest."""
        self._last = np.zeros(6)

    def twist(self, pose: Array, twist: Array, measured: Array) -> Array:
        """Return the twist (6,) to send, m/s and rad/s.

        Args:
            pose: (7,) commanded.
            twist: (6,) velocity of the commanded pose.
            measured: (7,) where the arm is.
        """
        limits = self._limits
        error = np.concatenate([pose[:3] - measured[:3], rotation_between(measured, pose)])
        wanted = twist + self._gain * error
        for part, speed, acceleration in (
            (slice(0, 3), limits.linear_speed, limits.linear_acceleration),
            (slice(3, 6), limits.angular_speed, limits.angular_acceleration),
        ):
            change = _shorten(wanted[part], speed) - self._last[part]
            wanted[part] = self._last[part] + _shorten(change, acceleration * self._period)
        self._last = wanted
        return wanted


class State(str, Enum):
    """States of the executor."""

    IDLE = "idle"
    ARMED = "armed"
    RUNNING = "running"
    HOLDING = "holding"
    RETURNING = "returning"
    FALLBACK = "fallback"
    STOPPED = "stopped"
    FAULT = "fault"


FOLLOWING = frozenset({State.RUNNING, State.RETURNING, State.FALLBACK})
"""States in which chunks are followed."""
SENDING = FOLLOWING | {State.ARMED, State.HOLDING}
"""States in which commands may be sent: to follow chunks, or to brake."""


class Role(str, Enum):
    """What a chunk is for: the policy's, the way back, or another policy's while it is strange."""

    POLICY = "policy"
    RETURN = "return"
    FALLBACK = "fallback"


class AfterOod(str, Enum):
    """What follows the out-of-distribution flag.

    - ``stop``: a hold that only the operator's arm ends.
    - ``hold``: a hold that ends by itself with the flag.
    - ``return``: the way back along the recalled demonstration, then a hold as with ``stop``.
    - ``fallback``: the chunks of another policy, until the flag is down and the policy is back.
    """

    STOP = "stop"
    HOLD = "hold"
    RETURN = "return"
    FALLBACK = "fallback"


_FOLLOWS = {
    Role.POLICY: (State.RUNNING, "following chunks"),
    Role.FALLBACK: (State.FALLBACK, "following the fallback policy's chunks"),
}


@dataclass(frozen=True)
class Inputs:
    """What the state machine looks at in one control period.

    Attributes:
        pose: (7,) measured; None: never came.
        gripper: Measured opening, metres; None: never came.
        pose_age, observation_age, chunk_age, decision_age: Time since the last one came, ns on a
            clock that never goes back; None: never came. ``decision_age`` is the monitor's.
        out_of_distribution: The monitor's flag.
        listening: Whether anybody follows the commands.
        clock: What the clock did that made the chunks useless; empty once there are new ones.
        target_pose, target_gripper: What is due now, not blended; None: nothing.
        command: (7,) sent last; None: nothing since the arm was armed.
        behind: Whether the arm has not come near what was commanded ``lag_timeout`` ago.
        elapsed: Time since the last update, ns.
    """

    pose: Array | None
    gripper: float | None
    pose_age: int | None
    observation_age: int | None
    chunk_age: int | None
    decision_age: int | None
    out_of_distribution: bool
    listening: bool
    clock: str
    target_pose: Array | None
    target_gripper: float
    command: Array | None
    behind: bool
    elapsed: int


class SafetyMachine:
    """Decides whether anything may be sent; every change of state has a reason.

    Args:
        limits: What is allowed.
        after_ood: What follows the out-of-distribution flag.

    Attributes:
        state: Present state.
        reason: Why it was entered.
        role: Whose chunks are followed or waited for. The caller forgets all chunks when it
            changes.
    """

    def __init__(self, limits: SafetyLimits, *, after_ood: AfterOod = AfterOod.STOP) -> None:
        self.limits = limits
        self.state = State.IDLE
        self.reason = "not armed"
        self.role = Role.POLICY
        self._after_ood = after_ood
        self._latched = False
        self._waited = 0  # in armed, or in a hold that ends by itself

    def arm(self, inputs: Inputs) -> list[str]:
        """Arm on an operator's request; return the reasons for refusal, empty when armed."""
        if self.state in (State.ARMED, State.RUNNING):
            return []
        found = (self._broken(inputs), self._outside(inputs.pose), *self._unfed(inputs))
        reasons = [reason for reason in found if reason]
        if inputs.out_of_distribution:
            reasons.append("scene is out of distribution")
        if self.role is not Role.POLICY:
            reasons.append(f"chunks of role {self.role.value} are followed or waited for")
        if inputs.gripper is None:
            reasons.append("no gripper opening has come")
        if not reasons and self.state is not State.FALLBACK:  # there the policy is about to run
            self._latched, self._waited = False, 0
            self._enter(State.ARMED, "armed by the operator")
        return reasons

    def stop(self, reason: str = "stopped by the operator") -> None:
        """Stop, from any state; latched until armed again."""
        self._enter(State.STOPPED, reason)

    def hold(self) -> str:
        """Brake and hold on an operator's request; return why it is refused, or an empty string.

        Only the operator's arm ends it. A hold that is latched already keeps its reason.
        """
        if self.state not in SENDING:
            return f"nothing to hold: the state is {self.state.value}"
        if not self._latched:
            self._latch("held by the operator")
        return ""

    def fail(self, reason: str) -> None:
        """Enter ``fault`` for what the caller has found."""
        self._enter(State.FAULT, reason)

    def disarm(self, reason: str) -> None:
        """Return to idle."""
        self._enter(State.IDLE, reason)

    def takes(self, role: Role, out_of_distribution: bool) -> bool:
        """Return whether chunks of a role may be taken now.

        One way back is taken, before the arm sets out. The policy may take over from a fallback
        once the flag is down.
        """
        if self.role is Role.RETURN:
            return role is Role.RETURN and self.state is State.HOLDING
        return role is self.role or (role is Role.POLICY and not out_of_distribution)

    def update(self, inputs: Inputs) -> State:
        """Advance by one control period; return the state that holds in it."""
        if self.state not in SENDING:
            return self.state
        broken = self._broken(inputs)
        if broken:
            self._enter(State.FAULT, broken)
        elif self._latched:
            pass  # only the operator's arm ends a latched hold
        elif self.role is Role.RETURN:
            self._go_back(inputs)
        elif inputs.out_of_distribution and self.role is Role.POLICY:
            self._meet_strange_scene()
        else:
            self._feed(inputs)
        self._wait(inputs.elapsed)
        return self.state

    def _meet_strange_scene(self) -> None:
        self._enter(State.HOLDING, "scene is out of distribution")
        if self._after_ood is AfterOod.STOP:
            self._latched = True
        elif self._after_ood is AfterOod.RETURN:
            self.role, self._waited = Role.RETURN, 0
        elif self._after_ood is AfterOod.FALLBACK:
            self.role = Role.FALLBACK

    def _go_back(self, inputs: Inputs) -> None:
        """Follow the way back to its end, whatever the cameras, the policy and the flag do."""
        returning, due = self.state is State.RETURNING, inputs.target_pose is not None
        strange = self._strange(inputs)
        if returning and inputs.clock:
            self._latch(f"{inputs.clock}, on the way back")
        elif strange:
            self._latch(f"{strange}, on the way back")
        elif not returning and self._waited + inputs.elapsed > self.limits.policy_timeout:
            timeout = self.limits.policy_timeout / 1e6
            self._latch(f"scene is out of distribution, and no way back for {timeout:.0f} ms")
        elif due:
            self._enter(State.RETURNING, "returning along the recalled demonstration")
        elif returning:
            self._latch("returned along the recalled demonstration")

    def _latch(self, reason: str) -> None:
        self._latched, self.role = True, Role.POLICY
        self._enter(State.HOLDING, reason)

    def _feed(self, inputs: Inputs) -> None:
        unfed = next(filter(None, self._unfed(inputs)), "") or self._strange(inputs)
        state, reason = _FOLLOWS[self.role]
        if not unfed:
            if inputs.target_pose is not None and self.state is not state:
                self._enter(state, reason)
        elif self.state is not State.ARMED and self.reason != unfed:
            self._enter(State.HOLDING, unfed)

    def _wait(self, elapsed: int) -> None:
        if self.state not in (State.ARMED, State.HOLDING) or self._latched:
            self._waited = 0
            return
        self._waited += elapsed
        if self._waited > self.limits.hold_timeout:
            seconds = self.limits.hold_timeout / NANOSECONDS
            self._enter(State.STOPPED, f"{self.state.value} for {seconds:g} s: {self.reason}")

    def _broken(self, inputs: Inputs) -> str:
        limits = self.limits
        if inputs.pose is None or inputs.pose_age is None:
            return "no pose of the arm has come"
        if inputs.pose_age > limits.pose_timeout:
            return f"no pose of the arm for {limits.pose_timeout / 1e6:.0f} ms"
        if not inputs.listening:
            return "no controller listens to the commands"
        if inputs.command is not None:
            distance, angle = pose_distance(inputs.command, inputs.pose)
            if distance > limits.tracking_distance or angle > limits.tracking_angle:
                return (
                    "arm does not follow its command: allowed are "
                    f"{limits.tracking_distance} m and {limits.tracking_angle} rad"
                )
        if inputs.behind:
            return (
                f"arm does not follow its command of {limits.lag_timeout / 1e6:.0f} ms ago: "
                f"allowed are {limits.lag_distance} m and {limits.lag_angle} rad"
            )
        return ""

    def _unfed(self, inputs: Inputs) -> tuple[str, ...]:
        limits = self.limits
        chunk = "fallback chunk" if self.role is Role.FALLBACK else "action chunk"
        return (
            _silent("observation", inputs.observation_age, limits.observation_timeout),
            (inputs.clock and f"{inputs.clock}: waiting for a chunk after it")
            or _silent(chunk, inputs.chunk_age, limits.policy_timeout)
            or _silent("decision of the monitor", inputs.decision_age, limits.policy_timeout),
        )

    def _strange(self, inputs: Inputs) -> str:
        pose = inputs.target_pose
        if pose is None:
            return ""
        limits = self.limits
        if not (np.isfinite(pose).all() and math.isfinite(inputs.target_gripper)):
            return "target is not finite"
        if not self._inside(pose[:3]):
            return "target is outside the workspace"
        if not limits.gripper_low - 1e-3 <= inputs.target_gripper <= limits.gripper_high + 1e-3:
            return "target gripper opening is out of range"
        reference = inputs.command if inputs.command is not None else inputs.pose
        if reference is not None and (
            float(np.linalg.norm(pose[:3] - reference[:3])) > limits.target_distance
        ):
            return f"target is more than {limits.target_distance} m away"
        return self._outside(reference)

    def _outside(self, pose: Array | None) -> str:
        if pose is None or self._inside(pose[:3]):
            return ""
        return f"arm is outside the workspace at {np.round(pose[:3], 3)}"

    def _inside(self, position: Array) -> bool:
        low, high = np.array(self.limits.workspace_low), np.array(self.limits.workspace_high)
        return bool(((position >= low) & (position <= high)).all())

    def _enter(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        if state not in SENDING:
            self.role = Role.POLICY


def _silent(subject: str, age: int | None, timeout: int) -> str:
    if age is None:
        return f"no {subject} has come"
    return f"no {subject} for {timeout / 1e6:.0f} ms" if age > timeout else ""
