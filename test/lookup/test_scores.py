"""Each score: what it calls strange, on tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import gaussian_kde
from tables import PERIOD, table, unit

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.episodes import score_episodes
from alt_ros.lookup.index import ExactIndex
from alt_ros.lookup.looks import Density
from alt_ros.lookup.moves import ChunkOverlap, GuidingPose
from alt_ros.lookup.retrieval import Recall, Retrieval, RetrievalConfig
from alt_ros.lookup.score import guiding_view
from alt_ros.lookup.scores import (
    SCORES,
    chosen_scores,
    make_scores,
    score_class,
    score_names,
    shipped_scores,
    view_scores,
)
from alt_ros.lookup.table import Table, make_table
from alt_ros.types import ActionLayout, Neighbour, Query

VIEWS = ("wrist", "third_person")
SOMETHING = Recall(
    Neighbour(0, 0, 1.0), Neighbour(0, 0, 1.0), np.ones(1), np.zeros(1, np.int64)
)  # for scores that look at the query alone


def arc(angles: np.ndarray, plane: int = 0, dimension: int = 8) -> np.ndarray:
    rows = np.zeros((len(angles), dimension))
    rows[:, 2 * plane], rows[:, 2 * plane + 1] = np.cos(angles), np.sin(angles)
    return unit(rows)


def arcs(spread: tuple[float, ...] = (0.0, 0.02, 0.04), frames: int = 30) -> Table:
    """Return demonstrations that run beside each other, 10 cm in all, a little apart."""
    angles = np.linspace(0.0, 1.0, frames)
    embeddings, poses, actions = [], [], []
    for number, off in enumerate(spread):
        rows = arc(angles)
        rows[:, 2] = off
        embeddings.append(unit(rows))
        pose = np.zeros((frames, 1, 7))
        pose[:, 0, 0] = 0.1 * angles
        pose[:, 0, 1] = 0.05 * number
        pose[:, 0, 6] = 1.0
        poses.append(pose)
        action = np.zeros((frames, 10))
        action[:, :3] = pose[:, 0, :3]
        action[:, 3] = action[:, 7] = 1.0
        actions.append(action)
    held = np.concatenate(embeddings)
    return make_table(
        embeddings=held,
        view_embeddings=np.stack([held, held], axis=1),
        actions=np.concatenate(actions),
        poses=np.concatenate(poses),
        grippers=np.full((len(held), 1), 0.08),
        episode_ends=frames * (1 + np.arange(len(spread))),
        names=tuple(f"demo {i}" for i in range(len(spread))),
        period=PERIOD,
        layout=ActionLayout(arms=1),
    )


def scores_of(
    held: Table,
    queries: list[Query],
    name: str,
    neighbours: int = 64,
    stay_margin: float = RetrievalConfig.stay_margin,
) -> list[float]:
    """Return a score over an episode."""
    index = ExactIndex.build(held.embeddings)
    config = RetrievalConfig(neighbours=neighbours, stay_margin=stay_margin)
    retrieval = Retrieval(held, index, config)
    score = make_scores(held, VIEWS, [name])[name]
    return [score.value(q, retrieval.recall(q.embedding, q.stamp)) for q in queries]


def follow(held: Table, demonstration: int = 0) -> list[Query]:
    """Return the observations of a demonstration."""
    rows = range(held.rows(demonstration).start, held.rows(demonstration).stop)
    return [
        Query(i * PERIOD, held.embeddings[r], held.view_embeddings[r], held.poses[r])
        for i, r in enumerate(rows)
    ]


def asked(embedding: np.ndarray, stamp: int = 0) -> Query:
    """Return a query for scores that look at no view."""
    return Query(stamp, embedding, np.zeros((0, 0), np.float32))


def stranger(query: Query) -> Query:
    return Query(
        query.stamp,
        arc(np.zeros(1), plane=3)[0],
        np.repeat(arc(np.zeros(1), plane=3), 2, axis=0),
        query.poses + np.array([0.0, 0.0, 0.3, 0, 0, 0, 0]),
    )


@pytest.mark.parametrize("name", [*SCORES, "view:wrist", "view:third_person"])
def test_every_score_calls_a_frame_of_the_table_ordinary_and_is_larger_for_a_stranger(name):
    held = arcs()
    queries = follow(held)
    # What is recalled is the nearest frame each time: jumps are not smoothed out.
    ordinary = scores_of(held, queries, name, stay_margin=0.0)
    if name in ("jumps", "chunk_overlap"):
        rng = np.random.default_rng(0)
        # Not the last frame: no action follows it.
        strange = [queries[i] for i in rng.permutation(len(queries) - 1)]
        strange = [Query(q.stamp, s.embedding, s.view_embeddings, s.poses)
                   for q, s in zip(queries[:-1], strange, strict=True)]  # fmt: skip
    elif name in ("disagreement", "guiding_motion"):
        actions = held.actions.copy()
        actions[held.demonstration == 1, 0] *= -1.0  # it goes the other way
        held = make_table(
            embeddings=held.embeddings,
            view_embeddings=held.view_embeddings,
            actions=actions,
            poses=held.poses,
            grippers=held.grippers,
            episode_ends=held.episode_ends,
            names=held.names,
            period=held.period,
            layout=held.layout,
        )
        strange = queries
        if name == "guiding_motion":  # it looks as where the other demonstration was
            strange = [Query(q.stamp, q.embedding, other.view_embeddings, q.poses)
                       for q, other in zip(queries, follow(held, 1), strict=True)]  # fmt: skip
    else:
        strange = [stranger(q) for q in queries]
    seen = scores_of(held, strange, name, stay_margin=0.0)
    if name == "chunk_overlap":  # the first observation has none before it
        ordinary, seen = ordinary[1:], seen[1:]
    assert np.isfinite(ordinary).all()
    assert np.isfinite(seen).all()
    assert np.median(seen) > max(np.quantile(ordinary, 0.9), 1e-6) * 1.5


def test_cosine_is_one_minus_the_similarity():
    held = arcs((0.0,))
    query = Query(0, arc(np.array([-0.3]))[0], held.view_embeddings[0])
    assert scores_of(held, [query], "cosine") == [pytest.approx(1.0 - np.cos(0.3), abs=1e-6)]


def test_nearest_demonstrations_takes_each_demonstration_once():
    held = arcs((0.0, 0.3, 0.6))
    near = held.embeddings @ held.embeddings[5]
    best = [near[held.rows(d)].max() for d in range(3)]
    query = Query(0, held.embeddings[5], held.view_embeddings[5])
    assert scores_of(held, [query], "nearest_demonstrations", neighbours=90) == [
        pytest.approx(1.0 - np.mean(best), abs=1e-6)
    ]
    # Those that are not among the neighbours count as far as the last neighbour.
    (few,) = scores_of(held, [query], "nearest_demonstrations", neighbours=2)
    assert 0.0 < few < 1.0 - np.mean(best)


def test_local_density_forgives_distance_where_demonstrations_are_far_apart():
    angles = np.linspace(0.0, 0.2, 10)
    dense = [arc(angles) for _ in range(2)]
    sparse = [arc(angles, plane=1), arc(angles + 0.5, plane=1)]
    dense[1][:, 6], sparse[1][:, 6] = 0.01, 0.0
    held = table((10,) * 4, dimension=8, embeddings=unit(np.concatenate(dense + sparse)))
    beside = unit(held.embeddings[[3, 23]] + np.array([0, 0, 0, 0, 0, 0, 0, 0.1]))
    values = scores_of(
        held, [Query(0, row, held.view_embeddings[0]) for row in beside], "local_density"
    )
    plain = scores_of(held, [Query(0, row, held.view_embeddings[0]) for row in beside], "cosine")
    assert plain[0] == pytest.approx(plain[1], rel=0.01)
    assert values[0] > 5.0 * values[1]


def test_mahalanobis_works_with_fewer_frames_than_dimensions():
    held = table((3, 3), dimension=64)
    queries = [Query(0, row, held.view_embeddings[0]) for row in held.embeddings]
    assert np.isfinite(scores_of(held, queries, "mahalanobis")).all()


def test_density_is_the_log_density_below_that_of_the_densest_row():
    held = table((300, 200), dimension=5)
    queries = [Query(0, row, held.view_embeddings[0]) for row in held.embeddings[:40]]
    estimate = gaussian_kde(held.embeddings.T.astype(np.float64))
    own = estimate.logpdf(held.embeddings.T)
    np.testing.assert_allclose(
        scores_of(held, queries, "density"), own.max() - own[:40], atol=1e-4
    )
    between = Query(0, unit(held.embeddings.mean(axis=0)), held.view_embeddings[0])
    off = own.max() - estimate.logpdf(between.embedding)[0]
    assert scores_of(held, [between], "density") == [pytest.approx(max(off, 0.0), abs=1e-4)]


def test_density_is_never_negative():
    # The middle of two rows is denser than either.
    held = table((2,), dimension=4, embeddings=arc(np.array([-0.1, 0.1]), dimension=4))
    assert Density(held).value(asked(arc(np.zeros(1), dimension=4)[0]), SOMETHING) == 0.0


def test_density_of_a_part_of_the_rows_and_directions_tells_the_same_stranger():
    held = table((300, 300), dimension=12)
    rows = [asked(row) for row in held.embeddings]
    few = Density(held, components=3, rows=100)
    assert all(
        few.value(q, SOMETHING) == Density(held, components=3, rows=100).value(q, SOMETHING)
        for q in rows[:3]
    )  # drawn with a fixed seed
    ordinary = [few.value(q, SOMETHING) for q in rows]
    assert np.median(ordinary) < 5.0
    far = asked(3.0 * held.embeddings[int(np.argmax(ordinary))])
    assert few.value(far, SOMETHING) > 2.0 * max(ordinary)


def test_density_needs_embeddings_that_differ():
    same = np.repeat(arc(np.zeros(1)), 6, axis=0)
    for held in (table((6,), embeddings=same), table((1,), embeddings=same[:1])):
        with pytest.raises(ConfigurationError, match=f"all {len(held)} are equal: leave this sc"):
            Density(held)


def recalled(demonstration: int, frame: int) -> Recall:
    at = Neighbour(demonstration, frame, 1.0)
    return Recall(at, at, np.ones(1), np.zeros(1, np.int64))


def overlaps(score: ChunkOverlap, *steps: tuple[float, int, int]) -> list[float]:
    """Return the score at steps: time in periods, demonstration, frame."""
    nothing = np.zeros(0, np.float32)
    return [
        score.value(asked(nothing, round(at * PERIOD)), recalled(demonstration, frame))
        for at, demonstration, frame in steps
    ]


def test_chunk_overlap_is_the_distance_over_the_time_that_both_chunks_cover():
    held = table((12, 12))  # row i goes to x = i metres
    score = ChunkOverlap(held, horizon=4)
    values = overlaps(score, (0, 0, 0), (1, 0, 1), (2, 0, 5), (4, 1, 2), (8, 1, 6))
    assert np.isnan(values[0])
    assert values[1] == 0.0  # on time
    assert values[2] == pytest.approx(3.0)  # three frames too far
    assert values[3] == pytest.approx(7.0)  # x is 7 after two steps, and is 14
    assert np.isnan(values[4])  # four actions are over by then
    # The horizon ends with the demonstration.
    assert np.isnan(overlaps(score, (9, 0, 11), (10, 1, 0))[1])


def test_chunk_overlap_begins_anew_with_an_episode():
    score = ChunkOverlap(table((12, 12)))
    assert np.isfinite(overlaps(score, (0, 0, 0), (1, 1, 5))[1])
    score.reset()
    assert np.isnan(overlaps(score, (2, 0, 0))).all()
    assert np.isnan(overlaps(score, (1, 0, 1))).all()  # back in time


def test_chunk_overlap_is_zero_while_the_retrieval_stands():
    held = arcs()
    retrieval = Retrieval(held, ExactIndex.build(held.embeddings))
    score = ChunkOverlap(held)
    query = follow(held)[10]
    values = [
        score.value(
            asked(query.embedding, stamp),
            retrieval.recall(query.embedding, stamp, standing=True),
        )
        for stamp in range(0, 5 * PERIOD, PERIOD)
    ]
    assert values[1:] == [0.0] * 4


def test_chunk_overlap_counts_further_columns_and_not_turns():
    count, layout = 12, ActionLayout(arms=2, extra=1)
    actions = np.zeros((count, layout.size))
    actions[:, [3, 7, 13, 17]] = 1.0
    actions[6:, [3, 7]], actions[6:, 9] = -1.0, 0.08  # a turn, an opening
    actions[6:, 10], actions[6:, 20] = 0.3, 0.4
    held = make_table(
        embeddings=arc(np.linspace(0.0, 1.0, count)),
        view_embeddings=np.zeros((count, 0, 0), np.float32),
        actions=actions,
        poses=np.tile(np.eye(7)[6], (count, 2, 1)),
        grippers=np.zeros((count, 2)),
        episode_ends=np.array([count]),
        names=("demo",),
        period=PERIOD,
        layout=layout,
    )
    values = overlaps(ChunkOverlap(held, horizon=2), (0, 0, 0), (1, 0, 6))
    assert values[1] == pytest.approx(0.5)


def test_a_view_is_blamed_alone():
    held = arcs()
    queries = [
        Query(q.stamp, q.embedding, np.stack([q.view_embeddings[0], -q.view_embeddings[1]]))
        for q in follow(held)
    ]
    assert max(scores_of(held, queries, "view:wrist")) < 1e-5
    assert min(scores_of(held, queries, "view:third_person")) > 1.0


def test_a_view_that_shows_nothing_is_infinitely_far():
    held = arcs()
    query = follow(held)[3]
    views = query.view_embeddings.copy()
    views[0] = np.nan
    blank = Query(query.stamp, query.embedding, views)
    assert scores_of(held, [blank], "view:wrist") == [np.inf]
    assert scores_of(held, [blank], "view:third_person")[0] < 1e-5
    assert scores_of(held, [blank], "cosine")[0] < 1e-5


def test_jumps_forget_the_last_episode():
    held = arcs()
    index = ExactIndex.build(held.embeddings)
    score = make_scores(held, VIEWS, ["jumps"])["jumps"]
    retrieval = Retrieval(held, index)
    queries = follow(held)
    for step, seen in enumerate((queries[0], queries[20], queries[3])):
        q = Query(step * PERIOD, seen.embedding, seen.view_embeddings)
        last = score.value(q, retrieval.recall(q.embedding, q.stamp))
    assert last == pytest.approx(2 / 20)
    score.reset()
    q = queries[25]
    assert score.value(q, retrieval.recall(q.embedding, q.stamp)) == 0.0


def test_pose_residual_counts_turns_and_says_nothing_without_a_pose():
    held = arcs()
    (query, *_) = follow(held)
    off = query.poses.copy()
    off[0, 2] += 0.03
    off[0, 3:] = Rotation.from_rotvec([0.0, 0.5, 0.0]).as_quat()
    turned = Query(0, query.embedding, query.view_embeddings, off)
    assert scores_of(held, [turned], "pose_residual") == [pytest.approx(0.08, abs=1e-9)]
    nobody = Query(0, query.embedding, query.view_embeddings)
    assert np.isnan(scores_of(held, [nobody], "pose_residual")).all()


def moved(query: Query, metres: float) -> Query:
    poses = query.poses.copy()
    poses[0, 2] += metres
    return Query(query.stamp, query.embedding, query.view_embeddings, poses)


def test_an_arm_that_lags_is_on_the_path_and_one_beside_it_is_not():
    held = arcs()
    queries = follow(held)
    late = [
        Query(q.stamp, q.embedding, q.view_embeddings, queries[max(step - 8, 0)].poses)
        for step, q in enumerate(queries)
    ]
    assert max(scores_of(held, late, "pose_residual")) > 0.02
    assert max(scores_of(held, late, "path_residual")) < 1e-9
    beside = [*queries[:10], *(moved(q, 0.03) for q in queries[10:])]
    values = scores_of(held, beside, "path_residual")
    assert values[9] < 1e-9
    assert values[10:] == pytest.approx(np.full(20, 0.03), abs=1e-9)
    turn = Rotation.from_rotvec([0.0, 0.5, 0.0]).as_quat()
    q = queries[10]
    poses = np.concatenate([q.poses[:, :3], turn[None]], axis=1)
    turned = Query(q.stamp, q.embedding, q.view_embeddings, poses)
    assert scores_of(held, [queries[0], turned], "path_residual")[1] == pytest.approx(0.05)
    nobody = Query(0, queries[0].embedding, queries[0].view_embeddings)
    assert np.isnan(scores_of(held, [nobody], "path_residual")).all()


def test_an_arm_that_starts_elsewhere_is_given_the_time_to_come():
    held = arcs(frames=60)
    queries = follow(held)  # 3 s
    seconds = np.arange(len(queries)) * PERIOD / 1e9
    comes = [moved(q, max(0.1 - 0.2 * at, 0.0)) for q, at in zip(queries, seconds, strict=True)]
    assert max(scores_of(held, comes, "path_residual")) < 1e-9
    stays = scores_of(held, [moved(q, 0.1) for q in queries], "path_residual")
    expected = 0.1 * np.clip(seconds - 0.5, 0.0, 1.0)
    np.testing.assert_allclose(stays, expected, atol=1e-9)
    leaves = [moved(q, 0.1 + 0.1 * at) for q, at in zip(queries, seconds, strict=True)]
    assert scores_of(held, leaves, "path_residual")[10] == pytest.approx(0.05, abs=1e-9)


def test_path_residual_forgets_where_the_last_episode_began():
    held = arcs()
    score = make_scores(held, VIEWS, ["path_residual"])["path_residual"]
    retrieval = Retrieval(held, ExactIndex.build(held.embeddings))
    query = follow(held)[0]
    recall = retrieval.recall(query.embedding, query.stamp)
    assert score.value(moved(query, 0.1), recall) == 0.0
    score.reset()
    assert np.isnan(score.value(moved(query, np.nan), recall))  # no place to begin at
    assert score.value(query, recall) == 0.0
    assert score.value(moved(query, 0.1), recall) == pytest.approx(0.1)


def test_a_lasting_score_is_the_least_of_the_last_observations():
    held = arcs()
    queries = [stranger(q) if step in (3, 4, 5, 9) else q for step, q in enumerate(follow(held))]
    at_once = np.array(scores_of(held, queries, "cosine"))
    lasting = np.array(scores_of(held, queries, "cosine@3"))
    assert np.isnan(lasting[:2]).all()
    expected = [at_once[step - 2 : step + 1].min() for step in range(2, len(queries))]
    np.testing.assert_array_equal(lasting[2:], expected)
    assert (lasting[2:] > 0.1).tolist() == [step == 5 for step in range(2, len(queries))]
    twice = score_episodes(
        held, ExactIndex.build(held.embeddings), VIEWS, ["cosine@3"], [queries, queries]
    )
    np.testing.assert_array_equal(twice[0].values, twice[1].values)
    assert score_class("cosine@3") is score_class("cosine")


@pytest.mark.parametrize("name", ["cosine@1", "cosine@", "cosine@x", "cosine@1001", "@3"])
def test_how_long_a_score_lasts_must_be_a_number_of_observations(name):
    with pytest.raises(ConfigurationError, match=f"2 to 1000; got {name}"):
        make_scores(arcs(), VIEWS, [name])


def test_the_view_by_which_near_frames_move_alike_guides():
    held = arcs()
    rng = np.random.default_rng(0)
    for number in (0, 1):
        views = unit(rng.normal(size=held.view_embeddings.shape))
        views[:, number] = held.embeddings  # along the motion; the other view is noise
        told = Table(**{**vars(held), "view_embeddings": views})
        assert guiding_view(told) == number
    assert guiding_view(arcs(spread=(0.0,))) == 0


def turning() -> Table:
    """Return two demonstrations forward and two up, which the wrist's view alone tells apart."""
    held = arcs(spread=(0.0, 0.01, 0.02, 0.03))
    actions, poses, views = held.actions.copy(), held.poses.copy(), held.view_embeddings.copy()
    up = held.demonstration >= 2
    poses[up, 0, 2] = poses[up, 0, 0]
    poses[up, 0, 0] = 0.0
    actions[:, :3] = poses[:, 0, :3]
    views[up, 0] = np.roll(views[up, 0], 4, axis=1)
    return Table(
        **{**vars(held), "actions": actions, "poses": poses, "view_embeddings": views},
    )


def test_the_guiding_view_says_where_the_arm_would_be_and_how_it_would_move():
    held = turning()
    assert guiding_view(held) == 0
    forward, up = follow(held, 0)[10], follow(held, 2)[10]
    seen = [forward, Query(0, forward.embedding, up.view_embeddings, forward.poses)]
    away = np.linalg.norm(forward.poses[0, :3] - up.poses[0, :3])
    np.testing.assert_allclose(scores_of(held, seen, "guiding_pose"), [0.0, away], atol=1e-6)
    apart = np.sqrt(2.0) * 0.1 * 8 / 29  # eight actions forward, and eight up
    np.testing.assert_allclose(scores_of(held, seen, "guiding_motion"), [0.0, apart], atol=1e-6)
    blank = np.full_like(forward.view_embeddings, np.nan)
    for name in ("guiding_pose", "guiding_motion"):
        (value,) = scores_of(held, [Query(0, forward.embedding, blank, forward.poses)], name)
        assert np.isnan(value)


def test_the_guiding_view_is_compared_with_at_most_so_many_frames():
    held = arcs()
    retrieval = Retrieval(held, ExactIndex.build(held.embeddings))
    for query in follow(held, 1):
        recall = retrieval.recall(query.embedding, query.stamp)
        assert GuidingPose(held).value(query, recall) == 0.0
        near = GuidingPose(held, rows=45).value(query, recall)
        assert near <= 0.1 / 29 + 0.05  # the next frame, and it may be of a neighbour


def test_every_score_has_a_resolution_far_below_what_it_is_for_a_stranger():
    held = arcs()
    query = stranger(follow(held)[0])
    for name in score_names(held, VIEWS):
        (value,) = scores_of(held, [query], name)
        resolution = score_class(name).resolution
        assert resolution > 0.0
        of_time = ("jumps", "chunk_overlap", "disagreement", "path_residual", "guiding_motion")
        assert name in of_time or resolution < 0.1 * value


def test_an_episode_is_scored_from_its_start_with_its_progress():
    held = arcs()
    index = ExactIndex.build(held.embeddings)
    names = ("jumps", "cosine")
    episodes = [follow(held, 1), follow(held, 0)[::3]]
    scored = score_episodes(held, index, VIEWS, names, episodes)
    np.testing.assert_allclose(scored[0].progress, np.linspace(0.0, 1.0, 30))
    assert [len(one) for one in scored] == [30, 10]
    for one, queries in zip(scored, episodes, strict=True):
        for column, name in enumerate(names):
            alone = scores_of(held, queries, name, neighbours=32)
            np.testing.assert_array_equal(one.values[:, column], alone)


def test_view_stands_for_every_view():
    held = arcs()
    assert chosen_scores(held, VIEWS, ("cosine", "view")) == ("cosine", *view_scores(VIEWS))
    assert chosen_scores(held, VIEWS, ("view:wrist", "view")) == (
        "view:wrist",
        "view:third_person",
    )
    assert chosen_scores(held, VIEWS, ("view@5",)) == ("view:wrist@5", "view:third_person@5")
    with pytest.raises(ConfigurationError, match="scores of this table are cosine"):
        chosen_scores(held, VIEWS, ("cosine", "nonsense"))


def test_a_table_of_one_view_and_no_arms_has_fewer_scores():
    held = table(views=1)
    assert not [name for name in score_names(held, VIEWS[:1]) if name.startswith("view:")]
    assert "pose_residual" in score_names(held, VIEWS[:1])
    with pytest.raises(ConfigurationError, match="scores of this table are cosine.*got nonsense"):
        make_scores(held, VIEWS[:1], ["cosine", "nonsense"])


def test_unless_told_otherwise_the_shipped_scores_are_combined():
    held = arcs(frames=70)
    every = ("path_residual@25", "guiding_pose@30", "guiding_motion@10", "cosine")
    assert chosen_scores(held, VIEWS) == shipped_scores(held, VIEWS) == every
    corrected = ("guiding_pose@30", "guiding_motion@20", "cosine")
    assert chosen_scores(held, VIEWS, corrects=True) == corrected
    short = ("path_residual@2", "cosine@2", "cosine")
    assert chosen_scores(table(views=1), VIEWS[:1]) == short
