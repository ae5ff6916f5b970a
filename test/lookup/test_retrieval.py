import numpy as np
import pytest
from tables import table, unit

from alt_ros.errors import ConfigurationError
from alt_ros.lookup.index import ExactIndex
from alt_ros.lookup.retrieval import Retrieval, RetrievalConfig
from alt_ros.types import NANOSECONDS

STEP = 50_000_000


def arc(degrees, height=0.0):
    """Unit vectors on a circle: frames of a demonstration lie along it."""
    radians = np.radians(np.asarray(degrees, dtype=np.float64))
    rows = np.stack([np.cos(radians), np.sin(radians), np.full(len(radians), height)], axis=1)
    return unit(rows)


def two_parallel_demonstrations(height=0.2):
    degrees = np.arange(0, 50, 10)
    return table((5, 5), embeddings=np.concatenate([arc(degrees), arc(degrees, height)]))


def retrieval(held, **settings):
    return Retrieval(held, ExactIndex.build(held.embeddings), RetrievalConfig(**settings))


def frames(recalls):
    return [(recall.chosen.demonstration, recall.chosen.frame) for recall in recalls]


def test_the_first_frame_recalled_is_the_nearest_one():
    held = two_parallel_demonstrations()
    recall = retrieval(held).recall(held.embeddings[7], 0)
    assert (recall.chosen.demonstration, recall.chosen.frame) == (1, 2)
    assert recall.chosen.similarity == pytest.approx(1.0, abs=1e-6)
    assert recall.nearest == recall.chosen


def test_it_stays_with_the_demonstration_while_that_is_within_the_margin():
    held = two_parallel_demonstrations()
    stream = [held.embeddings[0], held.embeddings[6], held.embeddings[7], held.embeddings[3]]
    stay = retrieval(held, stay_margin=0.05)
    assert frames(stay.recall(e, i * STEP) for i, e in enumerate(stream)) == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
    ]


def test_it_leaves_the_demonstration_where_another_is_better_by_more_than_the_margin():
    held = two_parallel_demonstrations(height=1.0)
    leave = retrieval(held, stay_margin=0.05)
    leave.recall(held.embeddings[0], 0)
    assert leave.recall(held.embeddings[6], STEP).chosen.demonstration == 1


def test_without_a_margin_every_frame_is_recalled_anew():
    held = two_parallel_demonstrations()
    anew = retrieval(held, stay_margin=0.0)
    anew.recall(held.embeddings[0], 0)
    assert anew.recall(held.embeddings[6], STEP).chosen.demonstration == 1


def standstill(frames=8):
    """A demonstration whose frames all look nearly the same, and one far away."""
    return table((frames, 3), embeddings=np.concatenate([arc([0.0] * frames), arc([80, 85, 90])]))


def test_where_nothing_moves_the_frames_are_walked_in_time():
    held = standstill()
    walk = retrieval(held)
    seen = [walk.recall(held.embeddings[0], i * STEP).chosen.frame for i in range(10)]
    assert seen == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]


def test_the_pace_is_that_of_the_stamps_whatever_the_rate_of_observations():
    held = standstill()
    slow, fast = retrieval(held), retrieval(held)
    assert [slow.recall(held.embeddings[0], i * 2 * STEP).chosen.frame for i in range(4)] == [
        0,
        2,
        4,
        6,
    ]
    frames = [fast.recall(held.embeddings[0], i * STEP // 4).chosen.frame for i in range(17)]
    assert frames[-1] == 4
    assert sorted(frames) == frames


def test_a_robot_that_stands_does_not_make_the_frames_go_on():
    held = standstill()
    walk = retrieval(held)
    for i in range(5):
        chosen = walk.recall(held.embeddings[0], i * STEP, standing=i > 1).chosen
    assert chosen.frame == 1


def long_walk():
    degrees = np.arange(40) * 2
    return table((40, 3), embeddings=np.concatenate([arc(degrees), arc([170, 175, 180])]))


def test_a_robot_that_lags_is_waited_for():
    held = table(
        (40, 3), embeddings=np.concatenate([arc(np.arange(40) * 2), arc([170, 175, 180])])
    )
    follow = retrieval(held, frame_margin=0.02)
    for i in range(60):  # at half the demonstration's pace; 0.02 is the cosine of 12 degrees
        chosen = follow.recall(arc([i])[0], i * STEP).chosen
        assert abs(chosen.frame - i / 2) <= 7


def test_a_small_contradiction_does_not_hold_the_walk_up():
    held = table(
        (40, 3), embeddings=np.concatenate([arc(np.arange(40) * 2), arc([170, 175, 180])])
    )
    walk = retrieval(held, frame_margin=0.02)
    for i in range(20):  # a scene that always looks two frames younger
        chosen = walk.recall(arc([max(0, 2 * i - 4)])[0], i * STEP).chosen
        assert chosen.frame == i


def test_a_frame_that_is_much_better_is_gone_back_to():
    held = two_parallel_demonstrations()
    back = retrieval(held, stay_margin=0.05)
    back.recall(held.embeddings[4], 0)
    assert back.recall(held.embeddings[0], STEP).chosen.frame == 0


def test_one_strange_image_does_not_stop_the_walk():
    held = standstill()
    walk = retrieval(held)
    strange = unit(np.array([-0.1, -0.2, 1.0]))
    stream = [held.embeddings[0], held.embeddings[0], strange, held.embeddings[0]]
    frames = [
        walk.recall(e, i * STEP, strange_below=0.9).chosen.frame for i, e in enumerate(stream)
    ]
    assert frames == [0, 1, 2, 3]


def test_a_strange_observation_does_not_change_the_demonstration():
    held = two_parallel_demonstrations(height=1.0)
    hold = retrieval(held)
    hold.recall(held.embeddings[2], 0)
    strange = unit(np.array([-0.1, -0.2, 1.0]))
    recall = hold.recall(strange, STEP, strange_below=0.9)
    assert recall.nearest.demonstration == 1
    assert recall.chosen.demonstration == 0


@pytest.mark.parametrize("jump", [-1, 3 * NANOSECONDS])
def test_a_stamp_that_jumps_begins_a_new_episode(jump):
    held = two_parallel_demonstrations()
    stream = retrieval(held, stay_margin=0.05)
    stream.recall(held.embeddings[0], 10 * NANOSECONDS)
    assert stream.recall(held.embeddings[6], 10 * NANOSECONDS + jump).chosen.demonstration == 1


def test_reset_forgets_the_demonstration():
    held = two_parallel_demonstrations()
    stream = retrieval(held, stay_margin=0.05)
    stream.recall(held.embeddings[0], 0)
    stream.reset()
    assert stream.recall(held.embeddings[6], STEP).chosen.demonstration == 1


def similar_demonstrations(count=4):
    heights = 0.02 * np.arange(count)
    embeddings = np.concatenate([arc(np.arange(0, 50, 2), height) for height in heights])
    return table((25,) * count, embeddings=embeddings)


def chosen_demonstrations(held, **settings):
    stream = retrieval(held, **settings)
    found = set()
    for episode in range(40):
        stream.reset()
        found.add(stream.recall(held.embeddings[0], episode * NANOSECONDS).chosen.demonstration)
    return found


def test_the_choice_is_among_so_many_distinct_demonstrations():
    held = similar_demonstrations()
    assert chosen_demonstrations(held, distinct_demonstrations=1) == {0}
    assert chosen_demonstrations(held, distinct_demonstrations=3, neighbours=2) == {0, 1, 2}


def test_a_demonstration_outside_the_margin_is_not_chosen():
    held = similar_demonstrations()
    found = chosen_demonstrations(held, distinct_demonstrations=3, choice_margin=0.0005)
    assert found == {0, 1}


def test_a_replay_chooses_the_same_and_another_seed_differs():
    held = similar_demonstrations()
    rng = np.random.default_rng(0)
    stream = unit(rng.normal(size=(60, 3)))
    stamps = [i * 3 * NANOSECONDS for i in range(60)]

    def run(seed):
        again = retrieval(held, distinct_demonstrations=3, choice_margin=0.5, seed=seed)
        return [again.recall(e, s).chosen for e, s in zip(stream, stamps, strict=True)]

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_an_index_of_another_table_is_refused():
    with pytest.raises(ConfigurationError, match="must hold the table's 15 frames, it holds 3"):
        Retrieval(table(), ExactIndex.build(unit(np.eye(3))))


@pytest.mark.parametrize(
    "settings",
    [
        {"neighbours": 0},
        {"distinct_demonstrations": 0},
        {"stay_margin": -0.1},
        {"choice_margin": float("nan")},
        {"frame_margin": -1.0},
        {"reset_gap": 0},
    ],
)
def test_settings_out_of_bounds_are_refused(settings):
    with pytest.raises(ConfigurationError, match="retrieval"):
        RetrievalConfig(**settings)


def test_a_config_survives_json():
    config = RetrievalConfig(neighbours=3, seed=7)
    assert RetrievalConfig.from_json(config.to_json()) == config
    with pytest.raises(ConfigurationError, match="retrieval"):
        RetrievalConfig.from_json({"unknown": 1})
