import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.policies.registry import TRAINED, build_network
from alt_ros.policies.spec import SIZES
from alt_ros.training.policy_defaults import (
    HORIZONS,
    IMAGE_SIZES,
    LEARNING_RATES,
    STEPS,
    policy_spec,
)


def test_there_are_defaults_for_every_policy_and_size():
    assert set(HORIZONS) == set(TRAINED)
    for table in (IMAGE_SIZES, LEARNING_RATES, STEPS):
        assert set(table) == set(SIZES)


@pytest.mark.parametrize("policy", TRAINED)
def test_a_spec_is_of_the_stores_robot(store, policy):
    spec = policy_spec(policy, store)
    assert (spec.policy, spec.size) == (policy, "small")
    assert spec.views == store.views
    assert (spec.arms, spec.extra, spec.period) == (1, 0, 50_000_000)
    assert (spec.height, spec.width) == IMAGE_SIZES["small"]
    assert (spec.observation_horizon, spec.prediction_horizon) == HORIZONS[policy]


@pytest.mark.parametrize("policy", [name for name in TRAINED if name != "kdtree"])
def test_the_defaults_make_a_network(store, policy):
    own = {"frames": store.frames} if policy == "vinn" else {}
    network = build_network(policy_spec(policy, store, settings=own))
    assert sum(p.numel() for p in network.parameters()) > 100_000


def test_what_is_said_goes_before_the_defaults(store):
    spec = policy_spec(
        "diffusion",
        store,
        size="paper",
        image_size=(48, 64),
        observation_horizon=3,
        prediction_horizon=32,
        state_columns=(),
        settings={"architecture": "transformer"},
    )
    assert (spec.size, spec.height, spec.width) == ("paper", 48, 64)
    assert (spec.observation_horizon, spec.prediction_horizon) == (3, 32)
    assert spec.settings == {"architecture": "transformer", "draws": 1}
    assert spec.state_columns == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "huge"}, "size must be one of small, paper, large, got 'huge'"),
        ({"image_size": (16, 64)}, "images must be at least 32 pixels"),
        ({"observation_horizon": 0}, "To must be at least 1"),
        ({"prediction_horizon": 0}, "To must be at least 1 and at most Tp"),
        ({"observation_horizon": -1}, "To must be at least 1"),
        ({"observation_horizon": 99}, "To must be at least 1 and at most Tp"),
    ],
)
def test_a_value_out_of_bounds_is_refused_and_not_replaced_by_a_default(store, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        policy_spec("diffusion", store, **changes)


@pytest.mark.parametrize("policy", ["alt", "remote", "gpt"])
def test_a_policy_that_is_not_trained_here_is_refused(store, policy):
    with pytest.raises(ConfigurationError, match=f"'{policy}' is not trained here: choose one of"):
        policy_spec(policy, store)
