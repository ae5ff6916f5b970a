"""Which action is due, and how one chunk hands over to the next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError
from alt_ros.geometry import arm_action, pose_distance
from alt_ros.receding_horizon import DelayEstimate, HorizonConfig, RecedingHorizon
from alt_ros.types import ActionChunk, ActionLayout

MS = 1_000_000
PERIOD = 50 * MS
T0 = 1_700_000_000 * 1000 * MS
HOME = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])


def pose(x: float = 0.0, turn: float = 0.0) -> np.ndarray:
    return np.r_[0.5 + x, 0.1, 0.3, Rotation.from_rotvec([0.0, 0.0, turn]).as_quat()]


def chunk(stamp: int, xs, turns=None, grippers=None, period: int = PERIOD) -> ActionChunk:
    """Return a chunk whose rows stand at 0.5 m + x and are turned about z."""
    turns = np.zeros(len(xs)) if turns is None else turns
    grippers = np.zeros(len(xs)) if grippers is None else np.asarray(grippers, float)
    rows = [
        arm_action(pose(x, turn)[None], np.array([opening]))
        for x, turn, opening in zip(xs, turns, grippers, strict=True)
    ]
    return ActionChunk(stamp, period, np.array(rows), ActionLayout())


def horizon(**fields) -> RecedingHorizon:
    return RecedingHorizon(HorizonConfig(**{"fade": 0} | fields))


RAMP = np.arange(16) * 0.01


def test_nothing_is_due_before_there_is_a_chunk():
    assert horizon().target(T0, HOME) is None


def test_action_i_is_due_i_periods_after_the_observation():
    following = horizon()
    assert following.offer(chunk(T0, RAMP), T0) == ""
    for i in range(16):
        target = following.target(T0 + i * PERIOD, HOME)
        assert target.pose[0] == pytest.approx(0.5 + RAMP[i], abs=1e-12)
        assert target.chunk_stamp == T0


def test_between_actions_the_pose_is_interpolated_and_the_gripper_holds():
    following = horizon()
    following.offer(chunk(T0, [0.0, 0.02], [0.0, 0.4], [0.01, 0.05]), T0)
    target = following.target(T0 + PERIOD // 4, HOME)
    metres, radians = pose_distance(target.pose, pose(0.005, 0.1))
    assert metres < 1e-9
    assert radians < 1e-9
    assert target.gripper == 0.01
    assert following.target(T0 + PERIOD - 1, HOME).gripper == 0.01
    assert following.target(T0 + PERIOD, HOME).gripper == 0.05


def test_actions_that_were_due_before_the_chunk_came_are_never_sent():
    following = horizon()
    now = T0 + 130 * MS
    following.offer(chunk(T0, RAMP), now)
    xs = [following.target(now + k * 10 * MS, HOME).pose[0] - 0.5 for k in range(20)]
    assert min(xs) >= 0.01 * 130 / 50 - 1e-9
    assert xs == pytest.approx([0.01 * (130 + 10 * k) / 50 for k in range(20)])


def test_nothing_is_due_after_the_last_actions_period():
    following = horizon()
    following.offer(chunk(T0, RAMP), T0)
    for late in (0, PERIOD - 1):
        assert following.target(T0 + 15 * PERIOD + late, HOME).pose[0] == pytest.approx(0.65)
    assert following.target(T0 + 16 * PERIOD, HOME) is None


def test_a_chunk_all_in_the_past_is_not_taken_up():
    following = horizon(max_age=2_000 * MS)
    assert following.offer(chunk(T0, RAMP), T0 + 16 * PERIOD) == ""
    assert following.target(T0 + 16 * PERIOD, HOME) is None


def test_the_newest_chunk_takes_over_after_the_action_horizon():
    following = horizon(action_horizon=4)
    following.offer(chunk(T0, np.full(16, 0.01)), T0)
    assert following.target(T0, HOME).chunk_stamp == T0
    for k in (1, 2, 3):
        following.offer(chunk(T0 + k * PERIOD, np.full(16, 0.01 + k)), T0 + k * PERIOD)
        assert following.target(T0 + k * PERIOD, HOME).chunk_stamp == T0
    assert following.target(T0 + 4 * PERIOD - 1, HOME).chunk_stamp == T0
    assert following.target(T0 + 4 * PERIOD, HOME).chunk_stamp == T0 + 3 * PERIOD
    following.offer(chunk(T0 + 5 * PERIOD, RAMP), T0 + 5 * PERIOD)
    assert following.target(T0 + 8 * PERIOD - 1, HOME).chunk_stamp == T0 + 3 * PERIOD
    assert following.target(T0 + 8 * PERIOD, HOME).chunk_stamp == T0 + 5 * PERIOD


def test_the_active_chunk_goes_on_while_no_newer_one_comes():
    following = horizon(action_horizon=4)
    following.offer(chunk(T0, RAMP), T0)
    assert [following.target(T0 + k * PERIOD, HOME).chunk_stamp for k in range(16)] == [T0] * 16


def test_the_newest_chunk_takes_over_early_when_the_active_one_has_ended():
    following = horizon(action_horizon=8)
    following.offer(chunk(T0, [0.0, 0.01]), T0)
    following.target(T0, HOME)
    following.offer(chunk(T0 + PERIOD, RAMP), T0 + PERIOD)
    assert following.target(T0 + 2 * PERIOD - 1, HOME).chunk_stamp == T0
    assert following.target(T0 + 2 * PERIOD, HOME).chunk_stamp == T0 + PERIOD


def test_a_chunk_that_lies_ahead_does_not_end_the_one_that_is_due():
    following = horizon(action_horizon=1)
    following.offer(chunk(T0, RAMP), T0)
    following.target(T0, HOME)
    ahead = T0 + 300 * MS
    assert following.offer(chunk(ahead, RAMP), ahead - 50 * MS) == ""
    assert following.target(ahead - 1, HOME).chunk_stamp == T0
    assert following.target(ahead, HOME).chunk_stamp == ahead


def test_a_chunk_of_one_row_is_due_for_one_period():
    following = horizon()
    following.offer(chunk(T0 + 20 * MS, [0.03]), T0)
    assert following.target(T0 + 20 * MS - 1, HOME) is None
    for late in (0, PERIOD - 1):
        assert following.target(T0 + 20 * MS + late, HOME).pose[0] == pytest.approx(0.53)
    assert following.target(T0 + 20 * MS + PERIOD, HOME) is None


def test_the_arms_latency_sends_an_action_that_much_before_it_is_due():
    following = horizon(arm_latency=30 * MS)
    following.offer(chunk(T0, RAMP), T0)
    assert following.target(T0 + 20 * MS, HOME).pose[0] == pytest.approx(0.51)
    assert following.target(T0 + 16 * PERIOD - 30 * MS - 1, HOME) is not None
    assert following.target(T0 + 16 * PERIOD - 30 * MS, HOME) is None


def test_the_gripper_has_a_latency_of_its_own():
    following = horizon(gripper_latency=60 * MS)
    following.offer(chunk(T0, [0.0, 0.01, 0.02], grippers=[0.08, 0.05, 0.0]), T0)
    assert following.target(T0, HOME).gripper == 0.05
    assert following.target(T0, HOME).pose[0] == pytest.approx(0.5)
    assert following.target(T0 + 40 * MS, HOME).gripper == 0.0
    assert following.target(T0 + 140 * MS, HOME).gripper == 0.0


def run(following: RecedingHorizon, start: int, until: int, tick: int, reference) -> list:
    """Ask once a tick, the last target being the reference of the next; return the targets."""
    targets = []
    for now in range(start, until, tick):
        target = following.target(now, reference)
        assert target is not None
        reference = target.pose
        targets.append(target)
    return targets


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-0.05, 0.05), min_size=2, max_size=5),
    st.lists(st.floats(-0.6, 0.6), min_size=5, max_size=5),
    st.integers(0, 49),
)
def test_a_hand_over_is_faded_in_position_and_rotation(xs, turns, phase):
    # Resting chunks, so that all motion is the fade's; its steepest slope is 1.875 / fade.
    following = horizon(action_horizon=4, fade=100 * MS)
    tick, reference = 10 * MS, pose()
    for k, (x, turn) in enumerate(zip(xs, turns, strict=False)):
        start = T0 + k * 200 * MS
        following.offer(chunk(start, np.full(16, x), np.full(16, turn)), start)
        targets = run(
            following, start + phase * MS, start + phase * MS + 200 * MS, tick, reference
        )
        step = np.array(pose_distance(reference, pose(x, turn)))
        before = reference
        for place, target in enumerate(targets):
            moved = np.array(pose_distance(before, target.pose))
            assert (moved <= 1.875 * step * tick / (100 * MS) + 1e-7).all(), place
            before = target.pose
        assert pose_distance(before, pose(x, turn)) == pytest.approx((0, 0), abs=1e-7)
        reference = before


def test_the_fade_does_not_bend_the_new_chunks_own_motion():
    following = horizon(fade=100 * MS)
    following.offer(chunk(T0, RAMP), T0)
    targets = run(following, T0, T0 + 300 * MS, 10 * MS, pose(-0.02))
    assert targets[0].pose[0] == pytest.approx(0.48)
    for k in range(10, 30):
        assert targets[k].pose[0] == pytest.approx(0.5 + 0.01 * k / 5)


def test_without_a_fade_the_hand_over_is_at_once():
    following = horizon(fade=0)
    following.offer(chunk(T0, RAMP), T0)
    assert following.target(T0, pose(-0.1)).pose[0] == pytest.approx(0.5)


def motion(targets: list, tick: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the velocities and accelerations along x of targets that are a tick apart."""
    velocities = np.diff([target.pose[0] for target in targets]) / (tick / 1e9)
    return velocities, np.diff(velocities) / (tick / 1e9)


def hand_over(blending: str, step: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Change from a path at 0.2 m/s to one `step` metres off at rest; return the motion."""
    following = horizon(action_horizon=4, fade=200 * MS, blending=blending)
    following.offer(chunk(T0, RAMP), T0)
    tick, twist, last, targets = MS, np.zeros(6), pose(), []
    for now in range(T0, T0 + 500 * MS, tick):
        if now == T0 + 4 * PERIOD:
            following.offer(chunk(now, np.full(16, 0.04 + step)), now)
        target = following.target(now, last, twist)
        twist = np.r_[(target.pose[:3] - last[:3]) / (tick / 1e9), 0, 0, 0]
        last = target.pose
        targets.append(target)
    return motion(targets, tick)


def test_an_offset_is_blended_continuously_in_velocity_and_acceleration():
    velocities, accelerations = hand_over("offset")
    _, at_once = hand_over("none")
    # 200 ms for 2 cm and 0.2 m/s: the quintic needs at most 5.8 step / T^2 + 4 v / T.
    assert np.abs(accelerations[200:]).max() <= 5.8 * 0.02 / 0.04 + 4.0 * 0.2 / 0.2
    assert np.abs(np.diff(velocities)).max() < 0.05
    assert np.abs(at_once).max() > 10_000


def test_a_crossfade_moves_the_weight_from_the_old_path_to_the_new_one():
    following = horizon(action_horizon=4, fade=200 * MS, blending="crossfade")
    following.offer(chunk(T0, np.zeros(16)), T0)
    for now in range(T0, T0 + 4 * PERIOD, 10 * MS):
        reference = following.target(now, pose()).pose
    start = T0 + 4 * PERIOD
    following.offer(chunk(start, np.full(16, 0.02)), start)
    xs = [following.target(start + k * 10 * MS, reference).pose[0] - 0.5 for k in range(30)]
    assert xs[0] == pytest.approx(0.0, abs=1e-4)
    assert xs[9] == pytest.approx(0.01, abs=1e-9)  # the blending starts at the last instant
    assert xs[20:] == pytest.approx([0.02] * 10)
    assert (np.diff(xs) >= -1e-12).all()


def test_a_crossfade_ends_with_the_old_path():
    following = horizon(action_horizon=1, fade=200 * MS, blending="crossfade")
    following.offer(chunk(T0, [0.0, 0.0]), T0)
    following.target(T0, pose())
    following.offer(chunk(T0 + PERIOD, np.full(16, 0.02)), T0 + PERIOD)
    following.target(T0 + PERIOD, pose())
    assert following.target(T0 + 2 * PERIOD, pose()).pose[0] == pytest.approx(0.52)


def test_a_successor_is_empty_and_blends_on_from_the_instant_of_the_last_target():
    def ahead(following: RecedingHorizon) -> float:
        """Return how far the first target is ahead of the last reference, at 0.2 m/s."""
        following.offer(chunk(T0 + PERIOD, RAMP), T0 + PERIOD)
        target = following.target(T0 + PERIOD, pose(0.05), np.r_[0.2, np.zeros(5)])
        return float(target.pose[0] - pose(0.05)[0])

    before = horizon(fade=300 * MS)
    before.offer(chunk(T0, RAMP), T0)
    before.target(T0 + PERIOD - 10 * MS, HOME)
    successor = before.successor()
    assert successor.end is None
    assert successor.delay.value is None
    assert ahead(successor) == pytest.approx(0.2 * 0.01, rel=0.05)
    assert ahead(horizon(fade=300 * MS)) == pytest.approx(0.0, abs=1e-12)


def test_the_goal_is_what_the_chunk_says_whatever_the_blending():
    following = horizon(fade=200 * MS)
    following.offer(chunk(T0, np.full(16, 0.1)), T0)
    target = following.target(T0, pose())
    assert target.pose[0] == pytest.approx(0.5)
    assert target.goal[0] == pytest.approx(0.6)


def test_one_spike_does_not_move_the_estimate_of_the_delay():
    estimate = DelayEstimate()
    assert estimate.value is None
    estimate.add(3_000 * MS)  # the first inference warms up
    for _ in range(20):
        estimate.add(40 * MS)
        assert estimate.value == 40 * MS
    estimate.add(3_000 * MS)
    assert estimate.value == 40 * MS


def test_the_estimate_of_the_delay_follows_a_policy_that_gets_slower():
    estimate = DelayEstimate()
    for delay in [40] * 20 + [200] * 3:
        estimate.add(delay * MS)
    assert estimate.value == 200 * MS


def test_the_delay_is_that_of_the_chunks_that_were_taken():
    following = horizon()
    following.offer(chunk(T0, RAMP), T0 + 60 * MS)
    following.offer(chunk(T0, RAMP), T0 + 90 * MS)
    assert following.delay.value == 60 * MS
    assert following.end == T0 + 16 * PERIOD


def test_the_gripper_is_not_blended():
    following = horizon(action_horizon=1, fade=100 * MS)
    following.offer(chunk(T0, RAMP, grippers=np.full(16, 0.08)), T0)
    following.target(T0, pose())
    following.offer(chunk(T0 + PERIOD, RAMP, grippers=np.zeros(16)), T0 + PERIOD)
    assert following.target(T0 + PERIOD - 1, pose()).gripper == 0.08
    assert following.target(T0 + PERIOD, pose()).gripper == 0.0


def test_the_fade_is_no_larger_than_its_step_when_the_clock_goes_back():
    following = horizon(fade=50 * MS)
    now = T0 + 400 * MS
    following.offer(chunk(T0, np.zeros(16)), now)
    following.target(now, pose(0.01))
    for back in range(0, 400, 10):
        target = following.target(now - back * MS, pose(0.01))
        assert abs(target.pose[0] - 0.5) <= 0.01 + 1e-12


@pytest.mark.parametrize(
    ("layout", "reason"),
    [(ActionLayout(2), "moves 2 arms"), (ActionLayout(1, 3), "3 other axes")],
)
def test_a_chunk_for_another_robot_is_refused(layout, reason):
    following = horizon()
    stranger = ActionChunk(T0, PERIOD, np.ones((4, layout.size)), layout)
    assert reason in following.offer(stranger, T0)
    assert following.target(T0, HOME) is None


def test_a_stale_chunk_is_refused():
    following = horizon(max_age=500 * MS)
    assert following.offer(chunk(T0, RAMP), T0 + 500 * MS) == ""
    assert "too old: 501 ms, allowed are 500 ms" in following.offer(
        chunk(T0 + 1, RAMP), T0 + 501 * MS + 1
    )


def test_a_chunk_from_the_future_is_refused():
    following = horizon()
    assert "in the future" in following.offer(chunk(T0 + 50 * MS + 1, RAMP), T0)
    assert following.offer(chunk(T0 + 50 * MS, RAMP), T0) == ""


def test_a_chunk_that_is_too_long_is_refused():
    following = horizon(max_rows=16)
    assert "17 actions, allowed are 16" in following.offer(chunk(T0, np.zeros(17)), T0)
    assert following.offer(chunk(T0, np.zeros(16)), T0) == ""


def test_reasons_begin_alike_so_that_they_can_be_counted():
    following = horizon()
    reasons = {
        following.offer(chunk(T0, RAMP), T0 + age * MS).split(":")[0] for age in range(600, 700)
    }
    assert reasons == {"chunk is too old"}


@pytest.mark.parametrize("earlier", [0, 1, 100 * MS])
def test_a_chunk_that_is_not_newer_is_refused(earlier):
    following = horizon()
    following.offer(chunk(T0, RAMP), T0)
    assert "not newer" in following.offer(chunk(T0 - earlier, RAMP), T0)


def test_a_chunk_whose_rows_mean_no_rotation_is_refused_on_arrival():
    following = horizon()
    whole = chunk(T0, RAMP)
    damaged = whole.actions.copy()
    damaged[7, 3:9] = 0.0
    refused = following.offer(ActionChunk(T0 + 1, PERIOD, damaged, whole.layout), T0 + 1)
    assert refused.startswith("chunk holds no rotation: ")
    assert following.offer(whole, T0) == ""


def test_after_the_clock_went_back_new_chunks_are_taken():
    following = horizon(max_age=500 * MS)
    following.offer(chunk(T0, RAMP), T0)
    following.target(T0, HOME)
    earlier = T0 - 60_000 * MS
    assert following.target(earlier, HOME) is None
    assert following.offer(chunk(earlier, RAMP), earlier) == ""
    assert following.target(earlier, HOME).chunk_stamp == earlier


def test_reset_forgets_every_chunk():
    following = horizon()
    following.offer(chunk(T0, RAMP), T0)
    following.target(T0, HOME)
    following.reset()
    assert following.target(T0, HOME) is None
    assert following.offer(chunk(T0, RAMP), T0) == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"action_horizon": 0},
        {"fade": -1},
        {"arm_latency": -1},
        {"max_age": 0},
        {"gripper_latency": -1},
        {"max_rows": 0},
        {"blending": "magic"},
    ],
)
def test_a_configuration_out_of_bounds_is_refused(fields):
    with pytest.raises(ConfigurationError):
        HorizonConfig(**fields)
