import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.geometry import arm_action
from alt_ros.policies.spec import (
    SIZES,
    PolicySpec,
    check_observation,
    low_dimensional,
    window_inputs,
)
from alt_ros.preprocessing import resize_image
from alt_ros.types import ActionLayout, Observation

SPEC = PolicySpec(
    policy="bc",
    size="small",
    views=("wrist", "front"),
    height=32,
    width=40,
    arms=1,
    extra=2,
    period=50_000_000,
    state_columns=(2, 0),
    observation_horizon=3,
    prediction_horizon=8,
    settings={"crop": 0.9},
)


def seen(frame: int, height: int = 50, width: int = 60) -> Observation:
    rng = np.random.default_rng(frame)
    quaternions = rng.normal(size=(1, 4))
    quaternions /= np.linalg.norm(quaternions)
    shape = height, width, 3
    return Observation(
        SPEC.period * frame,
        {
            "front": rng.integers(0, 256, shape, dtype=np.uint8),
            "wrist": rng.integers(0, 256, shape, dtype=np.uint8),
        },
        np.concatenate([rng.normal(size=(1, 3)), quaternions], axis=1),
        rng.uniform(0.0, 0.1, 1),
        rng.normal(size=4),
    )


def test_sizes_follow_from_layout_columns_and_horizons():
    assert SPEC.layout == ActionLayout(arms=1, extra=2)
    assert SPEC.state_size == 10 + 2
    assert SPEC.chunk_size == 6


@given(
    size=st.sampled_from(SIZES),
    views=st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True),
    height=st.integers(32, 2000),
    arms=st.integers(0, 2),
    extra=st.integers(1, 9),
    period=st.integers(1, 10**10),
    columns=st.lists(st.integers(0, 50), max_size=4),
    horizons=st.tuples(st.integers(1, 4), st.integers(4, 99)),
)
def test_a_spec_comes_back_from_json_as_it_was(
    size, views, height, arms, extra, period, columns, horizons
):
    spec = replace(
        SPEC,
        size=size,
        views=tuple(views),
        height=height,
        arms=arms,
        extra=extra,
        period=period,
        state_columns=tuple(columns),
        observation_horizon=horizons[0],
        prediction_horizon=horizons[1],
    )
    assert PolicySpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "huge"}, "size must be one of small, paper, large, got 'huge'"),
        ({"views": ()}, "views must be distinct names, at least one, got []"),
        ({"views": ("wrist", "wrist")}, "views must be distinct names"),
        ({"views": ("wrist", "")}, "views must be distinct names"),
        ({"height": 31}, "images must be at least 32 pixels high and wide, got 40x31"),
        ({"width": 0}, "images must be at least 32 pixels high and wide, got 0x32"),
        ({"observation_horizon": 0}, "To must be at least 1 and at most Tp, got To 0 and Tp 8"),
        ({"observation_horizon": 9}, "To must be at least 1 and at most Tp, got To 9 and Tp 8"),
        ({"period": 0}, "period must be positive, got 0 ns"),
        ({"state_columns": (1, -1)}, "state columns must be 0 or more, got [1, -1]"),
    ],
)
def test_a_value_out_of_bounds_is_refused(changes, message):
    with pytest.raises(ConfigurationError) as refused:
        replace(SPEC, **changes)
    assert message in str(refused.value)
    assert str(refused.value).startswith("policy 'bc': ")
    with pytest.raises(ConfigurationError):
        PolicySpec.from_json({**SPEC.to_json(), **changes})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wheels": 4}, "unknown fields ['wheels']: update alt_ros"),
        ({"arms": 0, "extra": 0}, "at least one column"),
        ({"height": "32"}, "policy: "),
        ({"views": 3}, "policy: "),
        ({"period": None}, "policy: "),
    ],
)
def test_json_that_is_no_spec_is_refused(change, message):
    with pytest.raises(ConfigurationError) as refused:
        PolicySpec.from_json({**SPEC.to_json(), **change})
    assert message in str(refused.value)


def test_json_without_a_field_is_refused_by_its_name():
    values = SPEC.to_json()
    del values["period"]
    with pytest.raises(ConfigurationError, match="period"):
        PolicySpec.from_json(values)


def test_an_observation_that_fits_is_taken():
    check_observation(SPEC, seen(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": {"front": np.zeros((9, 9, 3), np.uint8)}},
            "needs the views ['wrist', 'front'], the observation lacks ['wrist']: it holds "
            "['front']",
        ),
        (
            {"poses": np.zeros((0, 7)), "grippers": np.zeros(0)},
            "needs the poses of 1 arms, the observation holds 0",
        ),
        ({"state": np.zeros(2)}, "columns [2, 0], the observation's state has 2"),
    ],
)
def test_what_an_observation_lacks_is_named(changes, message):
    with pytest.raises(DataError) as refused:
        check_observation(SPEC, replace(seen(0), **changes))
    assert message in str(refused.value)


def test_the_state_is_the_arms_as_in_an_action_row_and_then_the_columns_in_their_order():
    observation = seen(1)
    values = low_dimensional(SPEC, observation.poses, observation.grippers, observation.state)
    assert values.dtype == np.float32
    arms = arm_action(observation.poses, observation.grippers)
    assert values[:10].tolist() == arms.astype(np.float32).tolist()
    assert values[10:].tolist() == observation.state[[2, 0]].astype(np.float32).tolist()


def test_a_policy_without_arms_and_columns_is_given_an_empty_state():
    spec = replace(SPEC, arms=0, state_columns=())
    none = low_dimensional(spec, np.zeros((5, 0, 7)), np.zeros((5, 0)), np.zeros((5, 3)))
    assert none.shape == (5, 0)


def test_a_window_is_given_oldest_first_with_the_views_in_the_specs_order():
    window = [seen(i) for i in range(3)]
    images, state = window_inputs(SPEC, window)
    assert (images.shape, images.dtype) == ((3, 2, 3, 32, 40), np.uint8)
    assert images.flags.c_contiguous
    for i, observation in enumerate(window):
        for v, view in enumerate(("wrist", "front")):
            expected = resize_image(observation.images[view], 32, 40)
            assert np.array_equal(images[i, v].transpose(1, 2, 0), expected)
        one = low_dimensional(SPEC, observation.poses, observation.grippers, observation.state)
        assert state[i].tobytes() == one.tobytes()
