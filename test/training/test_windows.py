from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import write_store
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.policies.history import History
from alt_ros.policies.spec import PolicySpec, window_inputs
from alt_ros.training.windows import Windows
from alt_ros.types import ActionLayout, Observation

CPU = torch.device("cpu")
PERIOD = 50_000_000
SPEC = PolicySpec(
    policy="bc",
    size="small",
    views=("wrist", "front"),
    height=32,
    width=36,
    arms=1,
    extra=2,
    period=PERIOD,
    state_columns=(2, 0),
    observation_horizon=2,
    prediction_horizon=4,
)


def demonstration(number: int, frames: int) -> Demonstration:
    """Random pictures; an action's last two columns are its demonstration and its frame."""
    rng = np.random.default_rng(number)
    quaternions = rng.normal(size=(frames, 1, 4))
    quaternions /= np.linalg.norm(quaternions, axis=2, keepdims=True)
    actions = rng.normal(size=(frames, 12))
    actions[:, 10], actions[:, 11] = number, np.arange(frames)
    shape = frames, 40, 44, 3
    return Demonstration(
        name=f"demo {number}",
        stamps=PERIOD * np.arange(1, frames + 1),
        images={v: rng.integers(0, 256, shape, dtype=np.uint8) for v in ("front", "wrist")},
        poses=np.concatenate([rng.normal(size=(frames, 1, 3)), quaternions], axis=2),
        grippers=rng.uniform(0.0, 0.1, (frames, 1)),
        state=rng.normal(size=(frames, 3)),
        actions=actions,
        layout=ActionLayout(arms=1, extra=2),
    )


@pytest.fixture(scope="module")
def make_store(tmp_path_factory):
    """Return a function from lengths to a store of demonstrations of these lengths."""
    written = {}

    def make(*lengths):
        if lengths not in written:
            path = tmp_path_factory.mktemp("windows") / "store"
            made = [demonstration(number, frames) for number, frames in enumerate(lengths)]
            written[lengths] = write_store(path, made)
        return written[lengths]

    return make


@pytest.fixture(scope="module")
def store(make_store):
    return make_store(6, 3, 5)


@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4).filter(lambda n: max(n) > 1),
    horizons=st.tuples(st.integers(1, 4), st.integers(4, 9)),
)
@settings(max_examples=25)
def test_a_window_repeats_the_ends_of_its_demonstration_and_never_leaves_it(
    make_store, lengths, horizons
):
    to, tp = horizons
    store = make_store(*lengths)
    spec = replace(SPEC, observation_horizon=to, prediction_horizon=tp)
    windows = Windows(store, spec)
    batch = windows.batch(np.arange(store.frames), CPU)
    assert batch.images.shape == (store.frames, to, 2, 3, 32, 36)
    assert batch.state.shape == (store.frames, to, 12)
    assert batch.actions.shape == (store.frames, tp, 12)
    row, start = 0, 0
    for number, length in enumerate(lengths):
        for frame in range(length):
            for place in range(tp):
                done = min(max(frame + place - (to - 1), 0), length - 1)
                assert batch.actions[row, place, 10:].tolist() == [number, done]
            for place in range(to):
                observed = start + max(frame + place - (to - 1), 0)
                assert np.array_equal(batch.state[row, place].numpy(), windows.state[observed])
            row += 1
        start += length


@pytest.mark.parametrize("to", [1, 2, 3])
def test_training_gives_the_network_what_deployment_gives_it_bit_for_bit(store, to):
    spec = replace(SPEC, observation_horizon=to)
    windows = Windows(store, spec)
    row = 0
    for number in range(len(store)):
        history, episode = History(to), store[number]
        for frame in range(len(episode.stamps)):
            history.add(
                Observation(
                    int(episode.stamps[frame]),
                    {view: images[frame] for view, images in episode.images.items()},
                    episode.poses[frame],
                    episode.grippers[frame],
                    episode.state[frame],
                )
            )
            images, state = window_inputs(spec, history.window())
            batch = windows.batch(np.array([row]), CPU)
            assert batch.images[0].numpy().tobytes() == images.tobytes()
            assert batch.state[0].numpy().tobytes() == state.tobytes()
            row += 1
    assert row == store.frames


def test_a_batch_is_of_the_types_that_a_network_takes(store):
    batch = Windows(store, SPEC).batch(np.array([3, 3, 0]), CPU)
    assert (batch.images.dtype, batch.state.dtype, batch.actions.dtype) == (
        torch.uint8,
        torch.float32,
        torch.float32,
    )
    assert torch.equal(batch.images[0], batch.images[1])
    assert not torch.equal(batch.images[0], batch.images[2])


@pytest.mark.parametrize("size", [1, 2, 7, 14])
def test_every_row_comes_once_an_epoch(store, size):
    windows = Windows(store, SPEC, seed=3)
    steps = 14 // size
    orders = []
    for epoch in range(3):
        drawn = [windows.draw(epoch * steps + step, size) for step in range(steps)]
        assert all(len(rows) == size for rows in drawn)
        orders.append(np.concatenate(drawn))
        assert sorted(orders[-1]) == list(range(14))
    assert not np.array_equal(orders[0], orders[1])


@given(size=st.integers(1, 20), epochs=st.integers(1, 4))
@settings(max_examples=25)
def test_no_row_is_forgotten_where_the_batch_does_not_divide_an_epoch(make_store, size, epochs):
    windows = Windows(make_store(6, 3, 5), SPEC)
    steps = -(-14 * epochs // size)
    drawn = np.concatenate([windows.draw(step, size) for step in range(steps)])
    counts = np.bincount(drawn[: 14 * epochs], minlength=14)
    assert counts.tolist() == 14 * [epochs]


def test_a_draw_depends_on_seed_and_step_alone(store):
    one, other, seeded = Windows(store, SPEC), Windows(store, SPEC), Windows(store, SPEC, seed=1)
    forward = [one.draw(step, 4).tolist() for step in range(9)]
    backward = [other.draw(step, 4).tolist() for step in reversed(range(9))]
    assert forward == backward[::-1]
    assert forward != [seeded.draw(step, 4).tolist() for step in range(9)]


def test_a_batch_larger_than_the_store_is_filled(store):
    rows = Windows(store, SPEC).draw(0, 40)
    assert len(rows) == 40
    assert np.bincount(rows, minlength=14).min() == 2


@pytest.mark.parametrize("left_out", [(1,), (0, 2), (2, 2)])
def test_demonstrations_that_are_left_out_are_never_drawn(store, left_out):
    windows = Windows(store, SPEC, left_out)
    drawn = {int(row) for step in range(40) for row in windows.draw(step, 3)}
    assert {store.locate(row)[0] for row in drawn} == {0, 1, 2} - set(left_out)
    assert {store.locate(int(row))[0] for row in windows.left_out} == set(left_out)
    assert sorted([*windows.rows, *windows.left_out]) == list(range(14))


@pytest.mark.parametrize("left_out", [(3,), (-1,), (0, 1, 2)])
def test_demonstrations_that_cannot_be_left_out_are_refused(store, left_out):
    with pytest.raises(ConfigurationError, match="held-out demonstrations must be among 0 to 2"):
        Windows(store, SPEC, left_out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": ("wrist", "side")}, "lacks ['side']: it holds ['front', 'wrist']"),
        ({"arms": 2, "extra": 0}, "moves 2 arms and 0 other axes"),
        ({"extra": 3}, "moves 1 arms and 3 other axes"),
        ({"state_columns": (3,)}, "columns [3], store"),
    ],
)
def test_a_store_that_does_not_fit_is_refused(store, changes, message):
    with pytest.raises(DataError) as refused:
        Windows(store, replace(SPEC, **changes))
    assert message in str(refused.value)
