"""Pairs, poses at the image's stamp, drops: against trajectories and pairings known in advance.

The payload of a frame is its true trigger number, so a wrong pair shows.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import pose_distance
from alt_ros.synchronization import MILLISECOND, Match, SynchronizationConfig, Synchronizer

MS = MILLISECOND
VIEWS = ("wrist", "third_person")
START = 1_700_000_000 * 1000 * MS
PERIOD_30_HZ = 33_333_333
SKEW_30_HZ = 16 * MS


def config(**fields) -> SynchronizationConfig:
    return SynchronizationConfig(**{"views": VIEWS} | fields)


def pose_at(stamp: int) -> np.ndarray:
    """Return a pose that moves at constant speed: what interpolation gives exactly."""
    seconds = (stamp - START) / 1e9
    turn = Rotation.from_rotvec([0.3 * seconds, 0.8 * seconds, -0.5 * seconds])
    return np.r_[0.4 + 0.1 * seconds, -0.2 * seconds, 0.3 + 0.05 * seconds, turn.as_quat()]


def opening_at(stamp: int) -> float:
    return 0.01 + 0.02 * (stamp - START) / 1e9


def feed(synchronizer: Synchronizer, messages) -> list[Match]:
    """Give (stream, stamp, payload) messages in the order given; return the matches."""
    matches = []
    for stream, stamp, payload in messages:
        if stream == "pose":
            matches += synchronizer.add_pose(stamp, payload)
        elif stream == "gripper":
            matches += synchronizer.add_gripper(stamp, payload)
        else:
            matches += synchronizer.add_frame(stream, stamp, payload)
    return matches


def arm_messages(until: int, step: int = 10 * MS, phase: int = -3 * MS) -> list:
    stamps = range(START + phase, until + step, step)
    return [("pose", s, pose_at(s)) for s in stamps] + [
        ("gripper", s, opening_at(s)) for s in stamps
    ]


def by_stamp(messages) -> list:
    return sorted(messages, key=lambda message: message[1])


def frames(view: str, count: int, period: int, phase: int = 0) -> list:
    return [(view, START + phase + k * period, k) for k in range(count)]


def cameras_only(**fields) -> Synchronizer:
    return Synchronizer(config(arms=0, **fields))


def test_frames_of_equal_stamps_are_paired():
    synchronizer = cameras_only()
    messages = frames("wrist", 20, 50 * MS) + frames("third_person", 20, 50 * MS)
    matches = feed(synchronizer, by_stamp(messages))
    assert [m.stamp for m in matches] == [START + k * 50 * MS for k in range(20)]
    assert all(m.frames == {"wrist": k, "third_person": k} for k, m in enumerate(matches))
    assert {m.skew for m in matches} == {0}
    assert synchronizer.matched == 20
    assert synchronizer.drops == {}


@pytest.mark.parametrize("phase", [-8 * MS, 8 * MS])
def test_cameras_eight_milliseconds_apart_are_paired_and_the_skew_is_reported(phase):
    synchronizer = cameras_only(frame_period=PERIOD_30_HZ, max_skew=SKEW_30_HZ)
    messages = frames("wrist", 60, PERIOD_30_HZ) + frames("third_person", 60, PERIOD_30_HZ, phase)
    matches = feed(synchronizer, by_stamp(messages))
    assert [dict(m.frames) for m in matches] == [
        {"wrist": k, "third_person": k} for k in range(60)
    ]
    assert {m.skew for m in matches} == {8 * MS}


def test_the_stamp_and_the_order_of_views_are_the_primary_cameras():
    synchronizer = Synchronizer(config(views=("a", "b", "c"), arms=0))
    assert synchronizer.add_frame("c", START + 9 * MS, "c") == []
    assert synchronizer.add_frame("b", START - 4 * MS, "b") == []
    (match,) = synchronizer.add_frame("a", START, "a")
    assert (match.stamp, match.skew) == (START, 9 * MS)
    assert list(match.frames) == ["a", "b", "c"]


@pytest.mark.parametrize("loss", [0.005, 0.05])
@pytest.mark.parametrize("phase", [-8 * MS, 0, 8 * MS])
def test_a_lost_frame_of_either_camera_never_makes_the_pairs_slip(loss, phase):
    random = np.random.default_rng(int(loss * 1000) + phase + 8 * MS)
    count = 3000
    messages, seen = [], {}
    for view, shift in (("wrist", 0), ("third_person", phase)):
        kept = random.random(count) >= loss
        jitter = random.uniform(-3 * MS, 3 * MS, count).astype(int)
        seen[view] = set(np.flatnonzero(kept).tolist())
        messages += [
            (view, START + shift + k * PERIOD_30_HZ + int(jitter[k]), k) for k in seen[view]
        ]
    delays = random.uniform(0, 25 * MS, len(messages))  # transport, in order per stream
    arrivals: dict[str, float] = {}
    arriving = []
    for message, delay in zip(by_stamp(messages), delays, strict=True):
        arrivals[message[0]] = max(arrivals.get(message[0], 0), message[1] + delay)
        arriving.append((arrivals[message[0]], message))
    synchronizer = cameras_only(frame_period=PERIOD_30_HZ, max_skew=SKEW_30_HZ)
    in_order = [message for _, message in sorted(arriving, key=lambda pair: pair[0])]
    matches = feed(synchronizer, in_order)
    assert all(m.frames["wrist"] == m.frames["third_person"] for m in matches)
    whole = seen["wrist"] & seen["third_person"]
    assert {m.frames["wrist"] for m in matches} == whole
    # Once a message: all that came in are in a pair, dropped, or still waiting.
    used = 2 * len(matches) + sum(synchronizer.drops.values())
    assert len(messages) - 2 <= used <= len(messages)


def test_a_partner_beyond_the_allowed_skew_is_refused():
    synchronizer = cameras_only(max_skew=20 * MS)
    feed(synchronizer, [("third_person", START - 20 * MS - 1, 0)])
    assert feed(synchronizer, [("wrist", START, 0)]) == []
    assert feed(synchronizer, [("third_person", START + 20 * MS + 1, 1)]) == []
    assert synchronizer.drops == {"no_partner": 2}
    (match,) = feed(synchronizer, [("wrist", START + 40 * MS, 1)])
    assert match.frames == {"wrist": 1, "third_person": 1}


@pytest.mark.parametrize("skew", [-20 * MS, 20 * MS])
def test_a_partner_at_the_allowed_skew_is_taken(skew):
    synchronizer = cameras_only(max_skew=20 * MS)
    messages = by_stamp([("wrist", START, 0), ("third_person", START + skew, 0)])
    assert [m.skew for m in feed(synchronizer, messages)] == [20 * MS]


def test_a_burst_of_frames_is_paired_alike_whenever_the_primary_frame_comes():
    burst = [("third_person", START + shift * MS, shift) for shift in (-18, -9, -1, 4)]
    for place in range(1, 5):
        synchronizer = cameras_only(max_skew=20 * MS)
        (match,) = feed(synchronizer, [*burst[:place], ("wrist", START, 0), *burst[place:]])
        assert match.frames["third_person"] == -18


def test_a_partner_is_used_once():
    synchronizer = cameras_only(max_skew=20 * MS)
    messages = [("third_person", START, 0), ("wrist", START, 0), ("wrist", START + 5 * MS, 1)]
    assert len(feed(synchronizer, messages)) == 1


@st.composite
def streams(draw):
    """Return the streams' messages, per-stream order kept, in two different interleavings."""
    seed = draw(st.integers(0, 2**32 - 1))
    loss = draw(st.sampled_from([0.0, 0.1, 0.4]))
    jitter = draw(st.sampled_from([1, 5 * MS, 24 * MS, 45 * MS]))  # the last: bursts
    random = np.random.default_rng(seed)
    per_stream = []
    for view in VIEWS:
        stamps = START + np.arange(12) * 50 * MS + random.integers(0, jitter, 12)
        kept = np.sort(stamps[random.random(12) >= loss])
        per_stream.append([(view, int(s), int(s)) for s in kept])
    for name, value in (("pose", pose_at), ("gripper", opening_at)):
        stamps = START - 20 * MS + np.arange(60) * 13 * MS
        kept = stamps[random.random(60) >= loss]
        per_stream.append([(name, int(s), value(int(s))) for s in kept])
    return per_stream


def interleaved(per_stream, random) -> list:
    """Return all messages, some streams far ahead of others."""
    left = [list(messages) for messages in per_stream]
    speeds = [random.choice([1, 10, 1000]) for _ in per_stream]
    order = []
    while any(left):
        alive = [n for n, messages in enumerate(left) if messages]
        (stream,) = random.choices(alive, [speeds[n] for n in alive])
        order.append(left[stream].pop(0))
    return order


@settings(max_examples=60, deadline=None)
@given(streams(), st.randoms(use_true_random=False))
def test_matches_do_not_depend_on_how_the_streams_interleave(per_stream, random):
    patient = config(max_wait=10_000 * MS, max_bracket=40 * MS)
    reference = Synchronizer[int](patient)
    wanted = feed(reference, by_stamp([m for messages in per_stream for m in messages]))
    for _ in range(3):
        synchronizer = Synchronizer[int](patient)
        got = feed(synchronizer, interleaved(per_stream, random))
        assert [(m.stamp, dict(m.frames), m.skew) for m in got] == [
            (m.stamp, dict(m.frames), m.skew) for m in wanted
        ]
        for mine, theirs in zip(got, wanted, strict=True):
            assert mine.poses.tobytes() == theirs.poses.tobytes()
            assert mine.grippers.tobytes() == theirs.grippers.tobytes()


def test_the_interleaving_test_has_matches_to_compare():
    messages = frames("wrist", 12, 50 * MS) + frames("third_person", 12, 50 * MS, 7 * MS)
    messages += arm_messages(START + 700 * MS)
    assert len(feed(Synchronizer(config()), by_stamp(messages))) == 12


def single(**fields) -> Synchronizer:
    return Synchronizer(config(views=("wrist",), **fields))


def test_pose_and_gripper_are_those_of_the_images_instant():
    synchronizer = single()
    messages = frames("wrist", 40, 50 * MS, 4 * MS) + arm_messages(START + 2100 * MS)
    matches = feed(synchronizer, by_stamp(messages))
    assert len(matches) == 40
    for match in matches:
        metres, radians = pose_distance(match.poses[0], pose_at(match.stamp))
        assert metres < 1e-9
        assert radians < 1e-6
        assert match.grippers[0] == pytest.approx(opening_at(match.stamp), abs=1e-12)


def test_a_pose_stamped_as_the_image_is_taken_as_it_is():
    synchronizer = single()
    pose = pose_at(START)
    messages = [("gripper", START, 0.03), ("pose", START, pose), ("wrist", START, 0)]
    (match,) = feed(synchronizer, messages)
    np.testing.assert_array_equal(match.poses, pose[None])
    assert match.grippers.tolist() == [0.03]


def test_a_pose_is_never_extrapolated_forwards():
    synchronizer = single()
    messages = [("gripper", START + 5 * MS, 0.0), ("pose", START - 1, pose_at(START - 1))]
    messages = [("gripper", START - 5 * MS, 0.0), *messages, ("wrist", START, 0)]
    assert feed(synchronizer, messages) == []
    assert len(feed(synchronizer, [("pose", START + 1, pose_at(START + 1))])) == 1


@pytest.mark.parametrize("late", ["pose", "gripper"])
def test_a_value_is_never_extrapolated_backwards(late):
    synchronizer = single()
    values = {"pose": pose_at(START), "gripper": 0.02}
    early = next(name for name in values if name != late)
    messages = [(early, START - MS, values[early]), (early, START + MS, values[early])]
    messages += [(late, START + 1, values[late]), ("wrist", START, 0)]
    assert feed(synchronizer, messages) == []
    assert synchronizer.drops == {f"no_{late}_before": 1}


@pytest.mark.parametrize("gap", ["pose", "gripper"])
def test_a_bracket_that_is_too_wide_is_refused(gap):
    values = {"pose": pose_at(START), "gripper": 0.02}
    for width, accepted in ((100 * MS, 1), (100 * MS + 2, 0)):
        synchronizer = single(max_bracket=100 * MS)
        messages = [
            (name, START + sign * (width // 2 if name == gap else MS), value)
            for sign in (-1, 1)
            for name, value in values.items()
        ]
        assert len(feed(synchronizer, [*messages, ("wrist", START, 0)])) == accepted
        assert synchronizer.drops == ({} if accepted else {f"{gap}_gap": 1})


@pytest.mark.parametrize(
    "damaged",
    [
        np.full(7, np.nan),
        np.array([np.inf, 0, 0, 0, 0, 0, 1]),
        np.array([0.5, 0, 0.3, 0, 0, 0, 1.01]),
        np.zeros(7),
        np.zeros(6),
    ],
)
def test_a_damaged_pose_is_dropped_counted_and_not_interpolated_from(damaged):
    synchronizer = single()
    messages = arm_messages(START + 40 * MS, step=20 * MS, phase=-10 * MS)
    messages += [("pose", START, damaged), ("wrist", START + MS, 0)]
    (match,) = feed(synchronizer, by_stamp(messages))
    assert pose_distance(match.poses[0], pose_at(START + MS))[0] < 1e-9
    assert synchronizer.drops == {"invalid_pose": 1}


@pytest.mark.parametrize("damaged", [np.nan, np.inf])
def test_a_damaged_gripper_opening_is_dropped_and_counted(damaged):
    synchronizer = single()
    synchronizer.add_gripper(START, damaged)
    assert synchronizer.drops == {"invalid_gripper": 1}


@pytest.mark.parametrize("stream", ["wrist", "third_person", "pose", "gripper"])
def test_duplicates_and_messages_out_of_order_are_dropped_and_counted(stream):
    synchronizer = Synchronizer(config())
    value = {"pose": pose_at(START), "gripper": 0.02}.get(stream, 0)
    for stamp in (START, START, START - 1, START - 400 * MS):
        feed(synchronizer, [(stream, stamp, value)])
    assert synchronizer.drops == {"duplicate": 1, "out_of_order": 2}


def test_a_clock_that_jumps_back_starts_anew():
    synchronizer = Synchronizer(config())

    def ten_frames(shift: int) -> list[Match]:
        messages = frames("wrist", 10, 50 * MS) + frames("third_person", 10, 50 * MS, 7 * MS)
        messages += arm_messages(START + 480 * MS)
        return feed(
            synchronizer, [(s, stamp + shift, value) for s, stamp, value in by_stamp(messages)]
        )

    assert len(ten_frames(0)) == 10
    synchronizer.add_frame("wrist", START + 550 * MS, 10)
    again = ten_frames(-3600 * 1000 * MS)
    assert len(again) == 10
    assert all(m.frames["wrist"] == m.frames["third_person"] for m in again)
    assert synchronizer.drops == {"clock_jump": 1}  # the frame that was waiting


def test_a_frame_whose_partner_never_comes_times_out():
    synchronizer = cameras_only(max_wait=200 * MS)
    feed(synchronizer, frames("wrist", 5, 50 * MS))
    assert synchronizer.drops == {}
    feed(synchronizer, [("wrist", START + 201 * MS, 5)])
    assert synchronizer.drops == {"timeout": 1}


def test_streams_that_run_ahead_do_not_hide_the_match_of_a_late_frame():
    synchronizer = Synchronizer(config(max_wait=200 * MS))
    messages = frames("third_person", 3, 50 * MS) + arm_messages(START + 150 * MS)
    feed(synchronizer, by_stamp(messages))
    assert len(feed(synchronizer, frames("wrist", 3, 50 * MS))) == 3


@pytest.mark.parametrize("alive", ["wrist", "third_person", "pose", "gripper"])
def test_memory_is_bounded_when_only_one_stream_is_alive(alive):
    synchronizer = Synchronizer(config(max_wait=200 * MS))
    value = {"pose": pose_at(START), "gripper": 0.02}.get(alive, 0)
    count = 5000
    feed(synchronizer, ((alive, START + k * 50 * MS, value) for k in range(count)))
    held = {view: len(queue) for view, queue in synchronizer._frames.items()}
    assert sum(held.values()) <= 6
    assert len(synchronizer._poses[0].stamps) <= 2048
    if alive in VIEWS:
        assert synchronizer.drops == {"timeout": count - held[alive]}


def test_a_frame_that_waits_for_the_pose_holds_the_later_ones_so_that_order_is_kept():
    synchronizer = single()
    feed(synchronizer, frames("wrist", 3, 50 * MS))
    matches = feed(synchronizer, by_stamp(arm_messages(START + 110 * MS)))
    assert [m.frames["wrist"] for m in matches] == [0, 1, 2]


def test_latencies_are_taken_off_the_stamps():
    synchronizer = Synchronizer(
        config(latencies={"wrist": 30 * MS, "pose": 5 * MS, "gripper": 2 * MS})
    )
    messages = [
        (stream, stamp + {"pose": 5, "gripper": 2}[stream] * MS, value)
        for stream, stamp, value in arm_messages(START + 50 * MS)
    ]
    messages += [("wrist", START + 40 * MS, 0), ("third_person", START + 14 * MS, 0)]
    (match,) = feed(synchronizer, messages)
    assert (match.stamp, match.skew) == (START + 10 * MS, 4 * MS)
    assert pose_distance(match.poses[0], pose_at(START + 10 * MS))[0] < 1e-9
    assert match.grippers[0] == pytest.approx(opening_at(START + 10 * MS))


def test_two_arms_need_both_poses():
    synchronizer = single(arms=2)
    for stamp in (START - MS, START + MS):
        synchronizer.add_pose(stamp, pose_at(stamp), arm=0)
        synchronizer.add_gripper(stamp, 0.01, arm=0)
        synchronizer.add_gripper(stamp, 0.05, arm=1)
    assert synchronizer.add_frame("wrist", START, 0) == []
    assert synchronizer.add_pose(START - MS, pose_at(START), arm=1) == []
    (match,) = synchronizer.add_pose(START + MS, pose_at(START), arm=1)
    assert match.poses.shape == (2, 7)
    np.testing.assert_allclose(match.grippers, [0.01, 0.05])


def test_a_match_decodes_to_an_observation():
    rgb = np.full((4, 6, 3), 9, np.uint8)
    synchronizer = cameras_only()
    feed(synchronizer, [("third_person", START - 3 * MS, 1)])
    (match,) = feed(synchronizer, [("wrist", START, 2)])
    observation = match.observation(lambda payload: rgb * np.uint8(payload))
    assert (observation.stamp, observation.skew) == (START, 3 * MS)
    assert observation.images["wrist"].max() == 18
    assert observation.images["third_person"].max() == 9


def test_an_unknown_view_is_refused_and_the_known_ones_are_named():
    with pytest.raises(DataError, match="'elbow' is not synchronised.*third_person"):
        cameras_only().add_frame("elbow", START, 0)


def test_more_skew_than_half_a_frame_period_is_refused_with_the_reason():
    config(frame_period=40 * MS, max_skew=20 * MS)
    with pytest.raises(ConfigurationError, match=r"20 ms\), got 20.*neighbouring frame"):
        config(frame_period=40 * MS, max_skew=20 * MS + 1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"views": ()}, "at least one view"),
        ({"views": ("wrist", "wrist")}, "each named once"),
        ({"max_skew": -1}, "max_skew"),
        ({"max_bracket": 0}, "max_bracket"),
        ({"max_wait": 0}, "max_wait"),
        ({"clock_jump": 0}, "clock_jump"),
    ],
)
def test_a_configuration_out_of_bounds_is_refused(fields, reason):
    with pytest.raises(ConfigurationError, match=reason):
        config(**fields)
