import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tables import PERIOD, table, unit

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import arm_action, split_arm_action
from alt_ros.lookup.correction import Correction, CorrectionConfig
from alt_ros.lookup.index import ExactIndex
from alt_ros.lookup.retrieval import Retrieval
from alt_ros.lookup.table import make_table
from alt_ros.types import ActionLayout, Query

HOME = np.array([0.4, 0.0, 0.3])
WAY, WAIT = 20, 12  # frames of the way to the goal, and of the closing of the gripper there
GOALS = [(x, y) for x in (-0.1, 0.0, 0.1) for y in (-0.1, 0.0, 0.1)]


def below(x, y):
    """A goal under the home position."""
    return HOME + np.array([x, y, -0.2])


def seen(hand, goal, turn=0.0):
    """An embedding of what a camera in the hand would see: where the goal is from there."""
    relative = Rotation.from_euler("z", turn).inv().apply(goal - hand)
    return unit(np.array([*relative, 0.4]))


def query(number, hand, goal, turn=0.0):
    pose = np.array([[*hand, *Rotation.from_euler("z", turn).as_quat()]])
    return Query(number * PERIOD, seen(hand, goal, turn), np.zeros((0, 8), np.float32), pose)


def reaching(goals, turn=0.0):
    """Demonstrations that go straight from home to a goal and close the gripper there."""
    poses, openings, embeddings = [], [], []
    rotation = Rotation.from_euler("z", turn)
    for x, y in goals:
        goal = HOME + rotation.apply([x, y, -0.2])
        steps = np.minimum(np.arange(WAY + WAIT) / WAY, 1.0)[:, None]
        hands = HOME + steps * (goal - HOME)
        poses.append(np.column_stack([hands, np.tile(rotation.as_quat(), (len(hands), 1))]))
        openings.append(np.where(np.arange(len(hands)) < WAY + WAIT // 2, 0.08, 0.04))
        embeddings.append(np.stack([seen(hand, goal, turn) for hand in hands]))
    every, opening = np.concatenate(poses)[:, None], np.concatenate(openings)[:, None]
    ends = (WAY + WAIT) * np.arange(1, len(goals) + 1)
    following = np.minimum(np.arange(len(every)) + 1, np.repeat(ends - 1, WAY + WAIT))
    return make_table(
        embeddings=np.concatenate(embeddings),
        view_embeddings=np.zeros((len(every), 0, 8), np.float32),
        actions=arm_action(every[following], opening),
        poses=every,
        grippers=opening,
        episode_ends=ends,
        names=tuple(map(str, goals)),
        period=PERIOD,
        layout=ActionLayout(1),
    )


def run(held, asked, **config):
    """Return the chunks of a stream of queries."""
    retrieval = Retrieval(held, ExactIndex.build(held.embeddings))
    correction = Correction(held, CorrectionConfig(**config))
    recalls = [retrieval.recall(q.embedding, q.stamp) for q in asked]
    return [correction.chunk(q, r, 30) for q, r in zip(asked, recalls, strict=True)]


def reach(held, goal, turn=0.0, frames=80, **config):
    """Follow the first action of every chunk; return where the hand ends, and the opening."""
    retrieval = Retrieval(held, ExactIndex.build(held.embeddings))
    correction = Correction(held, CorrectionConfig(**config))
    hand, opening = HOME.copy(), np.zeros(1)
    for number in range(frames):
        asked = query(number, hand, goal, turn)
        chunk = correction.chunk(asked, retrieval.recall(asked.embedding, asked.stamp), 30)
        poses, opening = split_arm_action(chunk.actions[0], 1)
        hand = poses[0, :3]
    return hand, float(opening[0])


@pytest.mark.parametrize("place", [(0.05, 0.05), (-0.03, 0.06), (0.08, -0.05)])
def test_a_goal_between_the_demonstrated_ones_is_reached_and_grasped(place):
    held, goal = reaching(GOALS), below(*place)
    hand, opening = reach(held, goal)
    assert np.linalg.norm(hand - goal) < 0.02
    assert opening == pytest.approx(0.04)
    plain, _ = reach(held, goal, anchor="none", weights="nearest")
    assert np.linalg.norm(plain - goal) > 0.04


def test_a_hand_that_is_turned_takes_the_motion_along():
    held, turn = reaching(GOALS), 0.7
    goal = HOME + Rotation.from_euler("z", turn).apply([0.1, 0.1, -0.2])
    hand, _ = reach(held, goal, turn)
    assert np.linalg.norm(hand - goal) < 0.02
    ends = [
        run(held, [query(0, HOME, goal, turn)], anchor=anchor)[0].actions[25, :3]
        for anchor in ("hand", "base")
    ]
    by_hand, by_base = np.linalg.norm(np.array(ends) - goal, axis=1)
    assert by_hand < 0.02 < 0.04 < by_base


def test_weights_lie_between_the_neighbours_that_surround_the_observation():
    held = reaching([(0.1, -0.03), (0.1, 0.03)])
    goal = below(0.1, 0.0)
    both, nearest = (
        run(held, [query(0, HOME, goal)], weights=weights)[0]
        for weights in ("reconstruction", "nearest")
    )
    assert abs(both.actions[19, 1]) < 1e-3
    assert abs(nearest.actions[19, 1]) > 0.02


def test_two_ways_to_do_it_are_not_averaged():
    held = reaching([(0.1, -0.1), (0.1, 0.1)])
    goal = below(0.1, 0.0)  # midway: the mean of both would go between them
    chunk = run(held, [query(0, HOME, goal)])[0]
    assert abs(chunk.actions[19, 1]) > 0.07
    mixed = run(held, [query(0, HOME, goal)], motion_tolerance=1.0)[0]
    assert abs(mixed.actions[19, 1]) < 1e-3


def test_attraction_brings_the_arm_back_to_the_demonstrated_path():
    held = reaching([(0.0, 0.0)])
    aside = np.array([0.0, 0.05, 0.0])
    asked = query(0, HOME + aside, below(0.0, 0.0) + aside)
    ends = [run(held, [asked], attraction=a)[0].actions[29, 1] for a in (0.0, 0.5, 1.0)]
    assert ends == pytest.approx([0.05, 0.025, 0.0], abs=1e-6)


def test_where_nothing_moves_time_goes_on_unless_the_robot_stands():
    held = reaching(GOALS)
    goal = below(0.1, 0.1)
    there = [query(number, goal, goal) for number in range(WAIT)]
    frames = [chunk.source.frame for chunk in run(held, there)]
    assert frames == sorted(frames)
    assert frames[-1] - frames[0] >= WAIT - 2
    retrieval = Retrieval(held, ExactIndex.build(held.embeddings))
    correction = Correction(held)
    for number in (1, 5, 9):
        asked = query(number, goal, goal)
        chunk = correction.chunk(
            asked, retrieval.recall(asked.embedding, asked.stamp), 30, standing=True
        )
        assert chunk.source.frame == frames[0]


def test_a_leader_is_kept_while_it_is_about_as_good():
    held = reaching([(0.1, -0.05), (0.1, 0.05)])
    towards = [below(0.1, y) for y in (-0.01, 0.01)]
    asked = [query(number, HOME, goal) for number, goal in enumerate(towards)]
    switched = run(held, asked, stay_margin=0.0)
    kept = run(held, asked, stay_margin=0.1)
    assert [chunk.source.demonstration for chunk in switched] == [0, 1]
    assert [chunk.source.demonstration for chunk in kept] == [0, 0]


def test_a_chunk_ends_with_the_leading_demonstration():
    held = reaching(GOALS)
    goal = below(0.1, 0.1)
    chunks = run(held, [query(number, goal, goal) for number in range(WAIT)])
    for chunk in chunks:
        assert len(chunk.actions) == min(30, WAY + WAIT - chunk.source.frame)
    assert np.isfinite(chunks[-1].actions).all()


def test_after_a_reset_nothing_of_the_last_episode_is_left():
    held, goal = reaching(GOALS), below(0.05, 0.05)
    retrieval = Retrieval(held, ExactIndex.build(held.embeddings))
    correction = Correction(held)
    asked = [query(number, HOME, goal) for number in range(3)]
    recalls = [retrieval.recall(q.embedding, q.stamp) for q in asked]
    first = correction.chunk(asked[0], recalls[0], 30)
    for again, recall in zip(asked[1:], recalls[1:], strict=True):
        correction.chunk(again, recall, 30)
    correction.reset()
    np.testing.assert_array_equal(
        correction.chunk(asked[0], recalls[0], 30).actions, first.actions
    )


def test_columns_that_are_no_pose_are_weighed_as_they_are():
    rows = np.linspace(0.0, 1.0, 12)[:, None]
    embeddings = unit(np.column_stack([np.cos(rows), np.sin(rows)]))
    held = make_table(
        embeddings=embeddings,
        view_embeddings=np.zeros((12, 0, 8), np.float32),
        actions=100.0 * np.column_stack([rows, -rows]),
        poses=np.zeros((12, 0, 7)),
        grippers=np.zeros((12, 0)),
        episode_ends=np.array([6, 12]),
        names=("a", "b"),
        period=PERIOD,
        layout=ActionLayout(arms=0, extra=2),
    )
    asked = Query(0, embeddings[3], np.zeros((0, 8), np.float32))
    chunk = run(held, [asked], anchor="none", motion_tolerance=50.0)[0]
    np.testing.assert_allclose(chunk.actions[0], 100.0 * np.array([rows[3, 0], -rows[3, 0]]))


def test_without_the_measured_pose_nothing_is_anchored():
    held = reaching(GOALS)
    blind = Query(0, seen(HOME, HOME), np.zeros((0, 8), np.float32))
    with pytest.raises(DataError, match="needs the measured poses of 1 arms, got 0"):
        run(held, [blind])
    assert run(held, [blind], anchor="none")[0].layout == held.layout


@pytest.mark.parametrize(
    "change",
    [
        {"anchor": "elbow"},
        {"weights": "mean"},
        {"attraction": 1.5},
        {"demonstrations": 0},
        {"behind": -1},
        {"ridge": 0.0},
        {"motion_tolerance": float("nan")},
        {"pace": -0.1},
    ],
)
def test_settings_out_of_bounds_are_refused(change):
    with pytest.raises(ConfigurationError, match="correction"):
        CorrectionConfig(**change)


def test_settings_survive_json():
    config = CorrectionConfig(anchor="base", attraction=0.5)
    assert CorrectionConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ConfigurationError, match="correction"):
        CorrectionConfig.from_json({"anker": "hand"})


def test_any_table_gives_chunks_of_its_layout():
    held = table()
    asked = Query(0, held.embeddings[3], held.view_embeddings[3], held.poses[3])
    chunk = run(held, [asked])[0]
    assert chunk.actions.shape[1] == held.layout.size
    assert chunk.source.demonstration == 0
