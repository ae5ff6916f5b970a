"""The judge finds what is planted, and nothing in a stream that obeys the limits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alt_ros.audit.commands import SENDING, CommandAudit
from alt_ros.safety import SENDING as SENDING_STATES
from alt_ros.safety import SafetyLimits

MS = 1_000_000
PERIOD = 10 * MS
T0 = 1_700_000_000_000 * MS
H = 0.01
LIMITS = SafetyLimits()
CENTRE = np.array([0.5, 0.0, 0.3])
HOME = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])


def ball(random: np.random.Generator, radius: float) -> np.ndarray:
    """Return a vector (3,) of at most the length; half of them are of that length."""
    vector = random.normal(size=3)
    length = radius * random.choice([1.0, random.random()])
    return vector * (length / np.linalg.norm(vector))


def obedient(random: np.random.Generator, periods: int) -> list[tuple[np.ndarray, float]]:
    """Return a stream on the edge of the limits: it starts from rest and changes at random."""
    position, rotation, gripper = CENTRE.copy(), Rotation.identity(), 0.05
    velocity, rate, sent = np.zeros(3), np.zeros(3), []
    for _ in range(periods):
        if random.random() < 0.3:
            pull, spin = ball(random, 2.0), ball(random, 10.0)
        else:
            pull, spin = 20.0 * (CENTRE - position), np.zeros(3)
        pull *= min(1.0, 2.0 / max(float(np.linalg.norm(pull)), 1e-9))
        velocity = velocity + H * pull
        velocity *= min(1.0, 0.35 / max(float(np.linalg.norm(velocity)), 1e-9))
        rate = rate + H * spin
        rate *= min(1.0, 1.5 / max(float(np.linalg.norm(rate)), 1e-9))
        position = position + H * velocity
        rotation = Rotation.from_rotvec(H * rate) * rotation
        gripper = float(np.clip(gripper + 0.25 * H * random.choice([-1, 0, 1]), 0.0, 0.1))
        sent.append((np.concatenate([position, rotation.as_quat()]), gripper))
    return sent


def line(speeds: list[float]) -> list[np.ndarray]:
    """Return poses along x with the speed (m/s) of each period."""
    xs = 0.5 + H * np.cumsum(speeds)
    return [np.array([x, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0]) for x in xs]


def judged(poses: list[np.ndarray], grippers: list[float] | None = None) -> CommandAudit:
    audit = CommandAudit(LIMITS, PERIOD)
    for k, pose in enumerate(poses):
        gripper = 0.05 if grippers is None else grippers[k]
        audit.command(T0 + k * PERIOD, pose, gripper, k * PERIOD)
    return audit


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_a_stream_on_the_edge_is_obedient_whatever_was_lost(seed, loss):
    random = np.random.default_rng(seed)
    audit = CommandAudit(LIMITS, PERIOD)
    for k, (pose, gripper) in enumerate(obedient(random, 600)):
        if random.random() >= loss or k == 0:
            jitter = int(random.uniform(-4, 4) * MS)
            audit.command(T0 + k * PERIOD, pose, gripper, k * PERIOD + jitter)
    assert audit.violations == []
    assert audit.commands > 30


def test_the_edge_is_reached():
    random = np.random.default_rng(0)
    audit = CommandAudit(LIMITS, PERIOD)
    for k, (pose, gripper) in enumerate(obedient(random, 2000)):
        audit.command(T0 + k * PERIOD, pose, gripper, k * PERIOD)
    assert audit.peaks == pytest.approx(
        {
            "linear_speed": 0.35,
            "angular_speed": 1.5,
            "linear_acceleration": 2.0,
            "angular_acceleration": 10.0,
            "gripper_speed": 0.25,
        },
        rel=0.01,
    )
    assert audit.violations == []


def ramp(peak: float, step: float = 0.02) -> list[float]:
    return [*np.arange(step, peak, step), peak, peak]


PLANTED = {
    "linear speed": line(ramp(0.3501)),
    "linear acceleration": line([0.02, 0.04, 0.06, 0.08 + 1e-5]),
    "workspace": [HOME + np.array([0.35 + 1e-5, 0, 0, 0, 0, 0, 0])],
    "quaternion not unit": [HOME * np.array([1, 1, 1, 1, 1, 1, 1 + 1e-5])],
    "not finite": [np.array([np.nan, 0, 0.3, 0, 0, 0, 1.0])],
}


@pytest.mark.parametrize(("kind", "poses"), PLANTED.items())
def test_what_is_planted_is_found_and_nothing_else(kind, poses):
    assert judged(poses).counts.keys() == {kind}


def spun(rates: list[float]) -> list[np.ndarray]:
    angles = H * np.cumsum(rates)
    return [np.r_[CENTRE, Rotation.from_euler("z", a).as_quat()] for a in angles]


def test_turning_too_fast_is_found():
    assert judged(spun(ramp(1.5, 0.1))).violations == []
    assert judged(spun(ramp(1.501, 0.1))).counts.keys() == {"angular speed"}


def test_turning_faster_too_soon_is_found():
    assert judged(spun([0.1, 0.2, 0.3001])).counts == {"angular acceleration": 1}


def test_the_gripper_is_held_to_its_range_and_speed():
    still = [HOME] * 3
    assert judged(still, [0.05, 0.0525, 0.055]).violations == []
    assert judged(still, [0.05, 0.0526, 0.055]).counts == {"gripper speed": 1}
    assert judged(still, [-0.001, 0.0, 0.0]).counts == {"gripper range": 1}
    assert judged(still, [0.1, 0.1, 0.101]).counts == {"gripper range": 1}
    assert judged([HOME], [float("inf")]).counts == {"not finite": 1}


def test_a_stream_that_starts_at_speed_is_found():
    assert judged(line([0.02, 0.04])).violations == []
    assert judged(line([0.35, 0.35])).counts == {"linear acceleration": 1}


def test_a_stop_from_speed_is_found_and_braking_is_not():
    up = ramp(0.34)
    assert judged(line([*up, 0.0])).counts == {"linear acceleration": 1}
    assert judged(line([*up, *up[::-1], 0.0])).violations == []


def test_a_jump_over_lost_messages_is_found():
    audit = CommandAudit(LIMITS, PERIOD)
    audit.command(T0, HOME, 0.05, 0)
    audit.command(T0 + 5 * PERIOD, HOME + np.array([0.018, 0, 0, 0, 0, 0, 0]), 0.05, 5 * PERIOD)
    assert audit.counts == {"linear speed": 1, "linear acceleration": 1}


@pytest.mark.parametrize("jump", [-2000 * MS, 2000 * MS, 300 * MS, -PERIOD])
def test_a_jump_of_the_clock_is_one_period(jump):
    audit = CommandAudit(LIMITS, PERIOD)
    for k, pose in enumerate(line([0.02, 0.04, 0.06, 0.08, 0.10])):
        stamp = T0 + k * PERIOD + (jump if k >= 3 else 0)
        audit.command(stamp, pose, 0.05, k * PERIOD)
    assert audit.violations == []
    assert audit.starts == 1
    audit.command(T0 + 5 * PERIOD + jump, HOME, 0.05, 5 * PERIOD)
    assert audit.counts["linear speed"] == 0
    assert audit.counts["linear acceleration"] == 1


@pytest.mark.parametrize("jump", [-2000 * MS, 2000 * MS])
def test_a_pause_in_which_the_clock_jumped_lasts_as_long_as_the_arrivals_say(jump):
    pause = 7 * PERIOD  # in which the set-point braked on
    for way, found in ((0.3 * 0.07, 0), (0.36 * 0.07, 1)):
        audit = judged(line(ramp(0.3)))
        last = (len(ramp(0.3)) - 1) * PERIOD
        pose = line(ramp(0.3))[-1] + np.array([way, 0, 0, 0, 0, 0, 0])
        audit.command(T0 + last + pause + jump, pose, 0.05, last + pause + MS)
        then = last + pause + PERIOD
        audit.command(T0 + then + jump, pose + np.array([0.002, 0, 0, 0, 0, 0, 0]), 0.05, then)
        assert audit.counts["linear speed"] == found
        assert audit.counts["linear acceleration"] == 0


@pytest.mark.parametrize("arrives", [2 * PERIOD, 100 * MS, 400 * MS])
def test_a_gap_is_one_although_the_command_before_it_came_late(arrives):
    audit = judged(line([0.02, 0.04]))
    elapsed = 230 * MS
    audit.command(
        T0 + 2 * PERIOD + elapsed,
        HOME + np.array([0.1, 0, 0, 0, 0, 0, 0]),
        0.08,
        2 * PERIOD + arrives,
    )
    assert audit.violations == []
    assert audit.starts == 2


def test_a_sender_stopped_within_a_command_is_a_gap_after_it():
    audit = judged(line([0.02, 0.04]))
    stopped = 1000 * MS  # the third command's message was made, and went out when it went on
    poses = line([0.02, 0.04, 0.06, 0.0, 0.02, 0.5])[2:]
    audit.command(T0 + 2 * PERIOD, poses[0], 0.05, 2 * PERIOD + stopped)
    for k, pose in enumerate(poses[1:]):
        at = (2 + k) * PERIOD + stopped
        audit.command(T0 + at, pose, 0.05, at + MS)
    assert audit.starts == 2
    assert audit.counts == {"linear acceleration": 1, "linear speed": 1}  # the last only


def test_after_a_gap_neither_pose_nor_velocity_is_known():
    audit = judged(line([0.02, 0.04]))
    late = 600 * MS
    for k, pose in enumerate(line([20.0, 0.3, 0.3])):
        audit.command(T0 + late + k * PERIOD, pose, 0.05, late + k * PERIOD)
    assert audit.violations == []
    assert audit.starts == 2
    audit.command(T0 + late + 3 * PERIOD, HOME, 0.05, late + 3 * PERIOD)
    assert audit.counts == {"linear speed": 1, "linear acceleration": 1}


def test_a_restart_begins_at_rest_anywhere():
    audit = judged(line([0.02, 0.04]))
    audit.restart()
    for k, pose in enumerate(line([20.0, 0.3])):
        audit.command(T0 + (2 + k) * PERIOD, pose, 0.05, (2 + k) * PERIOD)
    assert audit.counts == {"linear acceleration": 1}


@pytest.mark.parametrize("state", ["idle", "stopped", "fault"])
def test_a_command_in_a_state_that_sends_nothing_is_found(state):
    audit = CommandAudit(LIMITS, PERIOD)
    audit.state("running", 0)
    audit.command(T0, HOME, 0.05, 0)
    audit.state(state, PERIOD)
    audit.command(T0 + 2 * PERIOD, HOME, 0.05, 2 * PERIOD)
    assert audit.counts == {f"sent while {state}": 1}


def test_every_state_in_which_the_executor_sends_is_known():
    assert {state.value for state in SENDING_STATES} == SENDING


def test_the_order_of_state_and_command_on_the_wire_is_forgiven_for_the_delay():
    audit = CommandAudit(LIMITS, PERIOD, state_delay=15 * MS)
    audit.state("running", 0)
    audit.state("stopped", PERIOD)
    audit.command(T0, HOME, 0.05, 2 * PERIOD)
    assert audit.violations == []
    audit.command(T0 + 30 * PERIOD, HOME, 0.05, 30 * PERIOD)
    audit.command(T0 + 39 * PERIOD, HOME, 0.05, 39 * PERIOD)
    audit.state("armed", 40 * PERIOD)
    assert [v.stamp for v in audit.violations] == [T0 + 30 * PERIOD]


def test_stopped_and_armed_again_is_a_new_stream():
    audit = judged(line([0.02, 0.04]))
    for k, state in enumerate(("running", "stopped", "armed")):
        audit.state(state, (2 + k) * PERIOD)
    audit.command(T0 + 5 * PERIOD, HOME + np.array([0.2, 0, 0, 0, 0, 0, 0]), 0.0, 5 * PERIOD)
    assert audit.violations == []
    assert audit.starts == 2


def test_the_figures_are_json():
    poses = [*line([0.02, 0.04]), np.full(7, np.nan)]
    figures = json.loads(json.dumps(judged(poses).to_json(), allow_nan=False))
    assert figures["commands"] == 3
    assert figures["violations"] == {"not finite": 1}
    assert figures["first_violations"][0] == {
        "kind": "not finite",
        "stamp": T0 + 2 * PERIOD,
        "value": 7,
        "limit": 0.0,
    }
    assert figures["peaks"]["linear_speed"] == pytest.approx(0.04)
    assert figures["limits"]["linear_speed"] == LIMITS.linear_speed


def test_the_motion_of_the_last_command_is_handed_out():
    audit = CommandAudit(LIMITS, PERIOD)
    seen = []
    for k, pose in enumerate(line([0.02, 0.04, 0.05])):
        audit.command(T0 + k * PERIOD, pose, 0.05, k * PERIOD)
        seen.append(audit.motion)
    assert seen[0] is None
    assert seen[1].at == PERIOD
    assert seen[1].linear_speed == pytest.approx(0.04)
    assert seen[2].linear_acceleration == pytest.approx(1.0)
    assert seen[2].angular_speed == seen[2].angular_acceleration == 0.0
    audit.command(T0 + 3 * PERIOD, np.full(7, np.nan), 0.05, 3 * PERIOD)
    assert audit.motion is None
