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
    assert synchronizer.add_frame("a", START, "a") == []
    assert synchronizer.add_frame("a", START + 50 * MS, "a") == []
    (match,) = synchronizer.add_frame("b", START + 46 * MS, "b")
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
    messages = [(view, START + k * 50 * MS, k) for k in range(2) for view in VIEWS]
    messages = [(v, s + skew * (v == "third_person"), k) for v, s, k in messages]
    assert [m.skew for m in feed(synchronizer, by_stamp(messages))] == [20 * MS] * 2


def test_a_burst_of_frames_is_paired_alike_whenever_the_primary_frame_comes():
    burst = [("third_person", START + shift * MS, shift) for shift in (-18, -9, -1, 4)]
    for place in range(1, 5):
        synchronizer = cameras_only(max_skew=20 * MS)
        (match,) = feed(synchronizer, [*burst[:place], ("wrist", START, 0), *burst[place:]])
        assert match.frames["third_person"] == -1
        assert synchronizer.drops == {"no_partner": 2}


def test_a_partner_is_used_once():
    synchronizer = cameras_only(max_skew=20 * MS)
    messages = [("third_person", START, 0), ("wrist", START, 0), ("wrist", START + 5 * MS, 1)]
    assert len(feed(synchronizer, [*messages, ("third_person", START + 50 * MS, 1)])) == 1
    assert synchronizer.drops == {"no_partner": 1}


def test_a_better_partner_is_waited_for_and_wins():
    synchronizer = cameras_only(max_skew=20 * MS)
    assert feed(synchronizer, [("third_person", START - 15 * MS, 0), ("wrist", START, 0)]) == []
    messages = [("third_person", START + 5 * MS, 1), ("wrist", START + 50 * MS, 1)]
    (match,) = feed(synchronizer, messages)
    assert (match.frames["third_person"], match.skew) == (1, 5 * MS)


def test_a_frame_goes_to_the_nearer_one_of_two_primary_frames():
    synchronizer = cameras_only(max_skew=20 * MS)
    assert feed(synchronizer, [("wrist", START, 0), ("third_person", START + 18 * MS, 0)]) == []
    messages = [("wrist", START + 25 * MS, 1), ("third_person", START + 70 * MS, 1)]
    (match,) = feed(synchronizer, messages)
    assert match.frames == {"wrist": 1, "third_person": 0}
    assert synchronizer.drops == {"no_partner": 1}


@pytest.mark.parametrize("phase", [-8 * MS, 8 * MS])
def test_a_known_rhythm_ends_the_wait_for_a_better_partner(phase):
    synchronizer = cameras_only(frame_period=PERIOD_30_HZ, max_skew=SKEW_30_HZ)
    messages = frames("wrist", 10, PERIOD_30_HZ) + frames("third_person", 10, PERIOD_30_HZ, phase)
    completed_by = [
        (stream, number, [m.frames["wrist"] for m in feed(synchronizer, [(stream, s, number)])])
        for stream, s, number in by_stamp(messages)
    ]
    later = "wrist" if phase < 0 else "third_person"
    assert [(s, n) for s, n, made in completed_by[6:] if made == [n]] == [
        (later, n) for n in range(3, 10)
    ]


def test_a_partner_that_is_there_is_taken_when_the_better_one_does_not_come_in_time():
    synchronizer = cameras_only(max_wait=200 * MS)
    messages = [("third_person", START - 15 * MS, 0), *frames("wrist", 5, 50 * MS)]
    assert feed(synchronizer, messages) == []
    (match,) = feed(synchronizer, [("wrist", START + 201 * MS, 5)])
    assert match.frames == {"wrist": 0, "third_person": 0}


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
        assert synchronizer.drops == reference.drops
        for mine, theirs in zip(got, wanted, strict=True):
            assert mine.poses.tobytes() == theirs.poses.tobytes()
            assert mine.grippers.tobytes() == theirs.grippers.tobytes()


@st.composite
def thirty_hertz(draw):
    """Return (stream, stamp, trigger) messages of two cameras, some frames lost."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    loss = draw(st.sampled_from([0.0, 0.05, 0.5]))
    jitter = draw(st.sampled_from([1, 4 * MS]))
    phase = draw(st.integers(-12 * MS, 12 * MS))
    per_stream = []
    for view, shift in zip(VIEWS, (0, phase), strict=True):
        stamps = START + shift + np.arange(60) * PERIOD_30_HZ + random.integers(0, jitter, 60)
        kept = np.flatnonzero(random.random(60) >= loss)
        per_stream.append([(view, int(stamps[k]), int(k)) for k in kept])
    return per_stream


@settings(max_examples=100, deadline=None)
@given(thirty_hertz(), st.randoms(use_true_random=False))
def test_no_pair_slips_and_every_frame_is_counted_whatever_is_lost(per_stream, random):
    synchronizer = cameras_only(frame_period=PERIOD_30_HZ, max_skew=SKEW_30_HZ)
    matches = feed(synchronizer, interleaved(per_stream, random))
    assert all(m.frames["wrist"] == m.frames["third_person"] for m in matches)
    added = sum(map(len, per_stream))
    assert added == 2 * len(matches) + sum(synchronizer.drops.values()) + synchronizer.pending


@settings(max_examples=60, deadline=None)
@given(streams(), st.randoms(use_true_random=False), st.sampled_from([50, 200, 10_000]))
def test_every_frame_is_in_a_match_dropped_or_pending(per_stream, random, wait):
    synchronizer = Synchronizer(config(max_wait=wait * MS, max_bracket=20 * MS))
    for message in interleaved(per_stream, random):
        feed(synchronizer, [message])
    added = sum(len(messages) for messages in per_stream[: len(VIEWS)])
    used = len(VIEWS) * synchronizer.matched + sum(synchronizer.drops.values())
    assert added == used + synchronizer.pending


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
    assert synchronizer.pending <= 6
    assert len(synchronizer._poses[0].stamps) <= 2048
    if alive in VIEWS:
        assert synchronizer.drops == {"timeout": count - synchronizer.pending}


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
    (match,) = feed(synchronizer, [*messages, ("wrist", START + 80 * MS, 1)])
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
    messages = [("third_person", START - 3 * MS, 1), ("wrist", START, 2)]
    (match,) = feed(synchronizer, [*messages, ("third_person", START + 47 * MS, 1)])
    observation = synchronizer.observation(match, lambda payload: rgb * np.uint8(payload))
    assert (observation.stamp, observation.skew) == (START, 3 * MS)
    assert observation.images["wrist"].max() == 18
    assert observation.images["third_person"].max() == 9
    assert synchronizer.matched == 1


def decode(payload: str) -> np.ndarray:
    if payload == "broken":
        raise DataError("it is broken")
    height, width = map(int, payload.split("x"))
    return np.zeros((height, width, 3), np.uint8)


def test_a_view_keeps_the_size_of_its_first_image_and_others_are_counted():
    synchronizer = cameras_only()
    sizes = ["broken", "4x6", "4x6", "8x6", "4x6"]
    stamps = [START + k * 50 * MS for k in range(len(sizes))]
    messages = [("third_person", s, "2x2") for s in stamps]
    messages += [("wrist", s, size) for s, size in zip(stamps, sizes, strict=True)]
    decoded, reasons = [], []
    for match in feed(synchronizer, by_stamp(messages)):
        try:
            decoded.append(synchronizer.observation(match, decode).stamp)
        except DataError as error:
            reasons.append(str(error))
    assert decoded == [stamps[1], stamps[2], stamps[4]]
    assert reasons[0] == "it is broken"
    assert "view 'wrist' began with images of 6x4, got one of 6x8" in reasons[1]
    assert synchronizer.drops == {"undecodable": 2, "size_changed": 2}
    assert synchronizer.matched == 3


# ---------------------------------------------------------------- the measured frame period


def both(count: int, period: int, start: int = 0, phase: int = 5 * MS) -> list:
    messages = frames("wrist", count, period, start)
    return by_stamp(messages + frames("third_person", count, period, start + phase))


def test_more_skew_than_half_the_measured_period_is_refused_until_the_period_fits():
    synchronizer = cameras_only(frame_period=50 * MS, max_skew=20 * MS)
    matches = feed(synchronizer, both(60, PERIOD_30_HZ))
    assert 8 <= len(matches) <= 10  # until the period was known
    assert synchronizer.drops == {"max_skew_too_large": 2 * (60 - len(matches))}
    assert synchronizer.refusal == (
        "max_skew 20 ms is more than half the measured frame period of view 'wrist' (33.3 ms): "
        "set it to at most 16 ms"
    )
    assert set(synchronizer.periods) == set(VIEWS)
    assert synchronizer.periods["wrist"] == pytest.approx(PERIOD_30_HZ, abs=2)
    slower = feed(synchronizer, both(60, 50 * MS, 60 * PERIOD_30_HZ))
    assert len(slower) >= 40
    assert synchronizer.refusal == ""


def test_the_fastest_view_counts_for_the_measured_period():
    synchronizer = cameras_only(frame_period=50 * MS, max_skew=20 * MS)
    messages = frames("wrist", 30, 50 * MS) + frames("third_person", 60, 25 * MS)
    assert len(feed(synchronizer, by_stamp(messages))) < 12
    assert "view 'third_person' (25.0 ms)" in synchronizer.refusal


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_a_camera_that_loses_frames_or_slows_down_is_not_refused(loss):
    random = np.random.default_rng(0)
    synchronizer = cameras_only(frame_period=PERIOD_30_HZ, max_skew=PERIOD_30_HZ // 2)
    kept = [message for message in both(900, PERIOD_30_HZ) if random.random() >= loss]
    slow = both(50, 200 * MS, 900 * PERIOD_30_HZ)
    feed(synchronizer, kept + slow)
    assert "max_skew_too_large" not in synchronizer.drops
    assert synchronizer.refusal == ""


def test_stamps_that_jitter_do_not_look_like_a_faster_camera():
    random = np.random.default_rng(0)
    synchronizer = cameras_only(frame_period=PERIOD_30_HZ, max_skew=16 * MS)
    messages = [
        (v, s + int(random.integers(0, 10 * MS)), n)
        for v, s, n in both(3000, PERIOD_30_HZ, phase=0)
    ]
    assert len(feed(synchronizer, by_stamp(messages))) >= 2999
    assert synchronizer.refusal == ""


def test_one_view_has_no_partner_to_mistake_and_no_period_to_keep():
    synchronizer = Synchronizer(config(views=("wrist",), arms=0))
    assert len(feed(synchronizer, frames("wrist", 40, 10 * MS))) == 40


# ---------------------------------------------------------------- clocks


def graph_messages(count: int, shifts: dict[str, int] | None = None, start: int = 0) -> list:
    """Return 20 Hz cameras 7 ms apart and an arm, from a frame number on, some clocks shifted."""
    begin, end = start * 50 * MS, (start + count) * 50 * MS
    messages = [("wrist", START + t, t) for t in range(begin, end, 50 * MS)]
    messages += [("third_person", START + t + 7 * MS, t) for t in range(begin, end, 50 * MS)]
    for t in range(begin - 3 * MS, end - 3 * MS, 10 * MS):
        messages += [("pose", START + t, pose_at(START + t)), ("gripper", START + t, 0.02)]
    return [
        (stream, stamp + (shifts or {}).get(stream, 0), value)
        for stream, stamp, value in by_stamp(messages)
    ]


EVERY = (*VIEWS, "pose", "gripper")


@pytest.mark.parametrize("jump", [-2000 * MS, 2000 * MS])
def test_pairs_go_on_after_all_clocks_jump(jump):
    synchronizer = Synchronizer(config())
    assert len(feed(synchronizer, graph_messages(20))) == 20
    matches = feed(synchronizer, graph_messages(20, dict.fromkeys(EVERY, jump), 20))
    assert len(matches) >= 19
    for match in matches:
        assert match.frames["wrist"] == match.frames["third_person"]
        metres, _ = pose_distance(match.poses[0], pose_at(match.stamp - jump))
        assert metres < 1e-9
    back = feed(synchronizer, graph_messages(20, start=40))
    assert len(back) >= 19
    assert all(m.frames["wrist"] == m.frames["third_person"] for m in back)


@pytest.mark.parametrize("odd", EVERY)
@pytest.mark.parametrize("jump", [-2000 * MS, 2000 * MS])
def test_nothing_is_paired_with_a_clock_of_its_own_until_it_fits_again(odd, jump):
    synchronizer = Synchronizer(config())
    assert len(feed(synchronizer, graph_messages(20))) == 20
    assert feed(synchronizer, graph_messages(100, {odd: jump}, 20)) == []
    frames_refused = sum(synchronizer.drops.values())
    assert 190 <= frames_refused + synchronizer.pending <= 200
    assert synchronizer.pending <= 14
    assert synchronizer.drops["clock_jump"] <= 1
    again = feed(synchronizer, graph_messages(20, start=120))
    assert len(again) >= 19
    assert all(m.frames["wrist"] == m.frames["third_person"] for m in again)


def test_a_camera_whose_clock_alone_restarts_is_counted_as_such():
    synchronizer = Synchronizer(config())
    feed(synchronizer, graph_messages(20))
    feed(synchronizer, graph_messages(100, {"third_person": -2000 * MS}, 20))
    assert synchronizer.drops["clocks_apart"] >= 90
    assert synchronizer.behind["third_person"] == pytest.approx(2000 * MS, abs=60 * MS)
    assert synchronizer.behind["wrist"] <= 50 * MS


def test_two_clocks_on_one_topic_give_nothing_and_leave_nothing_behind():
    synchronizer = Synchronizer(config())
    messages = []
    for message in graph_messages(40):
        messages.append(message)
        if message[0] == "third_person":
            messages.append(("third_person", message[1] - 2000 * MS + 3 * MS, "stray"))
    assert feed(synchronizer, messages) == []
    again = feed(synchronizer, graph_messages(20, start=40))
    assert len(again) >= 19
    assert all(m.frames["wrist"] == m.frames["third_person"] for m in again)


def test_no_pose_of_before_a_jump_is_given_to_an_image_of_after_it():
    synchronizer = single()
    feed(synchronizer, by_stamp(arm_messages(START + 3000 * MS)))
    assert feed(synchronizer, [("wrist", START + 2990 * MS, 0)])
    assert feed(synchronizer, [("wrist", START + 990 * MS, 1)]) == []


def test_the_bracket_of_a_pose_is_told():
    synchronizer = single()
    messages = frames("wrist", 3, 50 * MS, 4 * MS) + arm_messages(START + 200 * MS)
    assert {m.bracket for m in feed(synchronizer, by_stamp(messages))} == {10 * MS}


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
        ({"latencies": {"elbow": 1}}, "'elbow'.*known are.*'third_person'"),
    ],
)
def test_a_configuration_out_of_bounds_is_refused(fields, reason):
    with pytest.raises(ConfigurationError, match=reason):
        config(**fields)
