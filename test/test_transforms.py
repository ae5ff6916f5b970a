"""Poses out of transforms, against a chain whose pose is known at every instant."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alt_ros.errors import ConfigurationError
from alt_ros.transforms import TransformChain

MS = 1_000_000
START = 1_700_000_000 * 1000 * MS
BRACKET = 50 * MS


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0, turn=(0.0, 0.0, 0.0)) -> np.ndarray:
    return np.r_[x, y, z, Rotation.from_rotvec(turn).as_quat()]


def matrix(of: np.ndarray) -> np.ndarray:
    whole = np.eye(4)
    whole[:3, :3] = Rotation.from_quat(of[3:]).as_matrix()
    whole[:3, 3] = of[:3]
    return whole


def shoulder(stamp: int) -> np.ndarray:
    seconds = (stamp - START) / 1e9
    return pose(0.0, 0.0, 0.2 + 0.1 * seconds, (0.0, 0.0, 0.7 * seconds))


def elbow(stamp: int) -> np.ndarray:
    seconds = (stamp - START) / 1e9
    return pose(0.3, 0.05 * seconds, 0.0, (0.0, 0.4 * seconds, 0.0))


TOOL = pose(0.0, 0.0, 0.1, (np.pi, 0.0, 0.0))
CAMERA = pose(0.5, 0.5, 1.0, (0.0, 2.0, 0.0))


def truth(stamp: int) -> np.ndarray:
    return matrix(shoulder(stamp)) @ matrix(elbow(stamp)) @ matrix(TOOL)


def chain(base: str = "base", tip: str = "tool", **fields) -> TransformChain:
    return TransformChain(base, tip, **{"max_bracket": BRACKET} | fields)


def with_tool(**fields) -> TransformChain:
    made = chain(**fields)
    assert made.add("lower", "tool", 0, TOOL, is_static=True) == []
    return made


def links(count: int, step: int = 10 * MS, phase: int = 4 * MS) -> list:
    """Return the two joints' transforms, the second one's stamps later by the phase."""
    made = []
    for k in range(count):
        at = START + k * step
        made.append(("base", "upper", at, shoulder(at)))
        made.append(("upper", "lower", at + phase, elbow(at + phase)))
    return made


def feed(of: TransformChain, transforms) -> list:
    return [sample for transform in transforms for sample in of.add(*transform)]


def check(samples) -> None:
    for stamp, sample in samples:
        np.testing.assert_allclose(matrix(sample), truth(stamp), atol=1e-6)


def test_every_link_stamp_gives_the_pose_once_all_links_are_known_there():
    samples = feed(with_tool(), links(5))
    stamps = [stamp - START for stamp, _ in samples]
    assert stamps == [t * MS for t in (4, 10, 14, 20, 24, 30, 34, 40)]
    check(samples)


def test_links_of_one_stamp_give_one_pose_without_interpolation():
    samples = feed(with_tool(), links(5, phase=0))
    assert [stamp - START for stamp, _ in samples] == [t * 10 * MS for t in range(5)]
    check(samples)


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_poses_do_not_depend_on_how_the_links_interleave(chance: random.Random):
    transforms = [t for t in links(30) if chance.random() > 0.2]
    wanted = feed(with_tool(), transforms)
    per_link = [[t for t in transforms if t[1] == child] for child in ("upper", "lower")]
    mixed = []
    while any(per_link):
        mixed.append(chance.choice([link for link in per_link if link]).pop(0))
    got = feed(with_tool(), mixed)
    assert [(s, p.tobytes()) for s, p in got] == [(s, p.tobytes()) for s, p in wanted]
    stamps = [s for s, _ in got]
    assert stamps == sorted(set(stamps))


def test_nothing_is_extrapolated():
    made = with_tool()
    assert feed(made, [("base", "upper", START, shoulder(START))]) == []
    assert made.add("upper", "lower", START + MS, elbow(START + MS)) == []
    assert made.drops == {}


def test_a_link_is_not_interpolated_over_a_wide_gap():
    transforms = [t for t in links(30) if t[1] != "lower" or not 100 < (t[2] - START) / MS < 200]
    made = with_tool()
    samples = feed(made, transforms)
    assert not [s for s, _ in samples if 100 * MS < s - START < 200 * MS]
    assert made.drops["transform_gap"] >= 9
    check(samples)


def test_static_links_hold_at_every_instant_whenever_they_come():
    made = chain()
    assert feed(made, links(3)) == []
    assert "'tool' was not received" in made.problem
    samples = made.add("lower", "tool", 0, TOOL, is_static=True)
    assert [s - START for s, _ in samples] == [t * MS for t in (4, 10, 14, 20)]
    assert made.problem == ""
    check(samples)


def test_the_base_need_not_be_above_the_end_effector():
    made = with_tool(base="camera")
    made.add("base", "camera", 0, CAMERA, is_static=True)
    samples = feed(made, links(3))
    assert len(samples) == 4
    for stamp, sample in samples:
        np.testing.assert_allclose(matrix(CAMERA) @ matrix(sample), truth(stamp), atol=1e-6)


def test_frames_outside_the_chain_do_not_matter():
    made = with_tool()
    samples = []
    for k, transform in enumerate(links(5)):
        samples += feed(made, [transform, ("base", f"wheel_{k}", START - k, pose())])
    assert len(samples) == 8
    assert made.drops == {}


def test_leading_slashes_are_not_part_of_a_name():
    made = chain("/base", "tool")
    made.add("/lower", "/tool", 0, TOOL, is_static=True)
    assert len(feed(made, links(3))) == 4


def test_transforms_sent_again_or_late_give_no_pose():
    made = with_tool()
    assert len(feed(made, links(5))) == 8
    assert feed(made, [links(5)[-1], links(5)[0]]) == []
    assert made.drops == {"out_of_order": 1}


def test_a_clock_that_jumps_back_starts_anew_without_mixing_old_samples():
    made = with_tool()
    assert len(feed(made, links(500))) == 998
    back = 2000 * MS
    again = [(parent, child, s - back, p) for parent, child, s, p in links(20)]
    again = [(parent, child, s + 3000 * MS, p) for parent, child, s, p in again]
    samples = feed(made, again)
    assert [s - START - 1000 * MS for s, _ in samples][:3] == [4 * MS, 10 * MS, 14 * MS]
    for stamp, sample in samples:
        np.testing.assert_allclose(matrix(sample), truth(stamp - 1000 * MS), atol=1e-6)


def test_after_a_restart_the_links_that_are_missing_are_named():
    made = with_tool()
    feed(made, links(500))
    made.add("base", "upper", START, shoulder(START))
    assert made.problem == (
        "transforms 'upper' -> 'lower' were not received since a clock went back"
    )


@pytest.mark.parametrize("damaged", [np.zeros(7), np.full(7, np.nan), pose() * 1.1])
def test_a_damaged_transform_is_counted_and_not_used(damaged):
    made = with_tool()
    transforms = links(5)
    samples = feed(made, [*transforms[:5], ("upper", "lower", START + 25 * MS, damaged)])
    check(samples + feed(made, transforms[5:]))
    assert made.drops == {"invalid_transform": 1}


def test_frames_that_are_not_connected_are_named_with_what_they_hang_on():
    made = chain("base", "tool")
    assert "'base' was not received, 'tool' was not received" in made.problem
    made.add("world", "base", START, pose())
    made.add("arm_root", "tool", START, pose())
    assert "no transforms connect 'base' and 'tool'" in made.problem
    assert "'base' hangs on 'world', 'tool' hangs on 'arm_root'" in made.problem


def test_a_loop_of_frames_is_named():
    made = chain("base", "c")
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        made.add(parent, child, START, pose())
    assert made.problem == "transforms form a loop: c -> a -> b -> c"


def test_a_chain_of_static_links_alone_has_no_time():
    made = chain("base", "tool")
    made.add("base", "tool", 0, TOOL, is_static=True)
    assert "all static" in made.problem


def test_a_frame_that_gets_another_parent_moves_there_and_is_counted():
    made = with_tool()
    feed(made, links(3))
    made.add("elsewhere", "lower", START + 40 * MS, pose())
    assert made.drops == {"parent_changed": 1}
    assert "'tool' hangs on 'elsewhere'" in made.problem


@pytest.mark.parametrize(("base", "tip"), [("", "tool"), ("base", ""), ("tool", "/tool")])
def test_two_frames_are_needed(base, tip):
    with pytest.raises(ConfigurationError, match="set base_frame and eef_frame"):
        chain(base, tip)


def test_memory_is_bounded():
    made = chain("base", "far")
    feed(made, links(3000))
    assert all(len(link.stamps) <= 512 for link in made._links.values())
