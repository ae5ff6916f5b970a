"""What the networks share, the two denoisers, and a network run as a policy."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from trained_conformance import TrainedPolicyConformance, checkpoint, seen

from alt_ros.errors import ConfigurationError
from alt_ros.policies.denoising_transformer import DenoisingTransformer
from alt_ros.policies.network import SMALLEST_RANGE, Conditioning, MinMax
from alt_ros.policies.registry import InferenceConfig, trained_policy
from alt_ros.policies.spec import window_inputs
from alt_ros.policies.temporal_ensemble import TemporalEnsemble
from alt_ros.policies.temporal_unet import StepEmbedding, TemporalUnet
from alt_ros.types import Observation

PERIOD = 50_000_000
DENOISERS = {
    "unet": lambda: TemporalUnet(3, 2 * 5, (16, 32, 64), step_embedding=16),
    "transformer": lambda: DenoisingTransformer(3, 5, 8, 2, layers=2, width=32),
}


class Shape(TrainedPolicyConformance):
    policy_name: ClassVar[str] = "bc"
    horizons: ClassVar[tuple[int, int]] = (2, 8)


@given(
    values=arrays(
        np.float64, st.tuples(st.integers(1, 20), st.integers(1, 4)), elements=st.floats(-1e3, 1e3)
    )
)
def test_demonstrated_values_lie_in_the_unit_range_and_come_back(values):
    columns = MinMax(values.shape[1])
    columns.fit(values)
    given_values = torch.from_numpy(values.astype(np.float32))
    unit = columns(given_values)
    # Single precision: what is lost of a value is small beside it, not beside a narrow range.
    lost = 1e-6 * (1.0 + np.abs(values).max(axis=0)) / columns.extent.numpy()
    assert (unit.abs().numpy() <= 1.0 + lost).all()
    np.testing.assert_allclose(columns.back(unit).numpy(), values, atol=1e-3, rtol=1e-5)
    wide = np.ptp(values, axis=0) > 1.0
    for extreme in (values.argmin(axis=0), values.argmax(axis=0)):
        reached = unit.abs().numpy()[extreme, np.arange(values.shape[1])][wide]
        np.testing.assert_allclose(reached, 1.0, atol=1e-3)


def test_a_column_that_hardly_varies_is_not_blown_up():
    columns = MinMax(2)
    columns.fit(np.array([[5.0, 0.0], [5.0, 1e-6]]))
    assert columns(torch.tensor([[5.0, 0.0]])).abs().max() < 0.01
    np.testing.assert_allclose(columns.extent.numpy(), SMALLEST_RANGE / 2.0, rtol=1e-5)


def test_ranges_are_saved_with_the_weights():
    columns = MinMax(1)
    columns.fit(np.array([[2.0], [6.0]]))
    again = MinMax(1)
    again.load_state_dict(columns.state_dict())
    assert again(torch.tensor([6.0])).item() == 1.0


def test_conditioning_keeps_observations_apart_and_appends_the_state():
    class Brightness(torch.nn.Module):
        def forward(self, images):
            return images.float().mean(dim=(2, 3, 4))  # (N, V)

    spec = Shape().spec()
    conditioning = Conditioning(spec, Brightness(), features=2)
    images = torch.randint(0, 256, (3, 2, 2, 3, 32, 32), dtype=torch.uint8)
    state = torch.randn(3, 2, spec.state_size)
    given_values = conditioning(images, state)
    assert given_values.shape == (3, 2, conditioning.size)
    assert torch.equal(given_values[..., 2:], state)
    expected = images.float().mean(dim=(3, 4, 5))
    assert torch.allclose(given_values[..., :2], expected)


def test_every_step_has_an_embedding_of_its_own_within_the_unit_range():
    embedded = StepEmbedding(16)(torch.arange(100))
    assert embedded.shape == (100, 16)
    assert embedded.abs().max() <= 1.0
    apart = torch.cdist(embedded, embedded) + torch.eye(100)
    assert apart.min() > 0.1
    # Vaswani et al. 2017: the first rate is 1, the last 1 / 10000.
    np.testing.assert_allclose(embedded[3, [0, 7]], np.sin([3.0, 3e-4]), rtol=1e-4)
    np.testing.assert_allclose(embedded[3, [8, 15]], np.cos([3.0, 3e-4]), rtol=1e-4)


@pytest.mark.parametrize("kind", DENOISERS)
def test_a_denoiser_looks_at_the_step_and_at_each_observation(kind):
    torch.manual_seed(0)
    network = DENOISERS[kind]().eval()
    noisy, condition = torch.randn(2, 8, 3), torch.randn(2, 2, 5)
    steps = torch.tensor([10, 10])
    with torch.no_grad():
        base = network(noisy, steps, condition)
        assert base.shape == noisy.shape
        assert not torch.allclose(base, network(noisy, steps + 60, condition), atol=1e-6)
        for number in range(2):
            other = condition.clone()
            other[0, number] += 1.0
            changed = network(noisy, steps, other)
            assert not torch.allclose(base[0], changed[0], atol=1e-6)
            assert torch.allclose(base[1], changed[1], atol=1e-6), "samples of a batch mix"


@pytest.mark.parametrize("kind", DENOISERS)
def test_every_parameter_of_a_denoiser_is_trained(kind):
    torch.manual_seed(0)
    network = DENOISERS[kind]()
    network(torch.randn(4, 8, 3), torch.arange(4), torch.randn(4, 2, 5)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if "in_proj_bias" not in name:  # a key's bias shifts all scores alike
            assert parameter.grad.abs().max() > 0.0, name


@pytest.mark.parametrize("length", [4, 8, 20])
def test_the_unet_takes_any_length_that_it_can_halve(length):
    network = DENOISERS["unet"]()
    out = network(torch.randn(1, length, 3), torch.zeros(1), torch.randn(1, 2, 5))
    assert out.shape == (1, length, 3)


@pytest.mark.parametrize(
    ("channels", "kernel"), [((16,), 5), ((16, 20), 5), ((16, 32), 4), ((), 5)]
)
def test_a_unet_that_cannot_be_built_is_refused(channels, kernel):
    with pytest.raises(ConfigurationError, match="channels that are multiples of 8"):
        TemporalUnet(3, 5, channels, kernel)


def policy_of(policy, **options):
    made = checkpoint(Shape().spec(policy=policy, settings={}))
    return trained_policy(made, InferenceConfig("cpu", 1, **options))


def test_what_is_drawn_depends_on_seed_and_stamp_alone():
    one, again, other = (policy_of("diffusion", seed=seed) for seed in (1, 1, 2))
    spec = one.spec
    for policy in (again, other):
        policy.act(seen(spec, 9, 10**12))  # an answer before, in another episode
    chunks = [policy.act(seen(spec, 0, PERIOD)).chunk.actions for policy in (one, again, other)]
    assert np.array_equal(chunks[0], chunks[1])
    assert not np.array_equal(chunks[0], chunks[2])


def test_the_callers_random_numbers_are_left_alone():
    policy = policy_of("diffusion")
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    policy.act(seen(policy.spec, 0, 0))
    assert torch.equal(torch.rand(3), expected)


def test_a_chunk_begins_at_the_newest_observation_with_what_the_network_says_of_it():
    policy = policy_of("bc")
    spec = policy.spec
    window = [seen(spec, 0, 0), seen(spec, 1, PERIOD)]
    policy.observe(window[0])
    chunk = policy.act(window[1]).chunk
    images, state = (torch.from_numpy(a)[None] for a in window_inputs(spec, window))
    with torch.inference_mode():
        sequence = policy.network._sequence(images, state)
        expected = policy.network.actions.back(sequence)[0, 1:]
    assert chunk.stamp == PERIOD
    assert len(chunk.actions) == policy.horizon == 7
    np.testing.assert_array_equal(chunk.actions, expected.numpy().astype(np.float64))


def test_the_first_observation_stands_for_those_before_it():
    policy = policy_of("bc")
    once = policy.act(seen(policy.spec, 0, 0)).chunk.actions
    policy.reset()
    policy.observe(seen(policy.spec, 0, 0))
    twice = policy.act(seen(policy.spec, 0, 0)).chunk.actions
    assert np.array_equal(once, twice)


def test_an_ensemble_averages_within_an_episode_and_not_over_a_gap():
    plain, blended = policy_of("bc"), policy_of("bc", ensemble_decay=0.1)
    spec, ensemble = plain.spec, TemporalEnsemble(0.1)
    for frame in range(4):
        observation = seen(spec, frame, frame * PERIOD)
        expected = ensemble.blend(plain.act(observation).chunk).actions
        assert np.array_equal(blended.act(observation).chunk.actions, expected)
    later = seen(spec, 5, 10**12)
    alone = plain.act(later).chunk.actions
    np.testing.assert_allclose(blended.act(later).chunk.actions, alone, rtol=1e-12)


def test_warming_up_leaves_no_trace():
    policy = policy_of("bc", ensemble_decay=0.1)
    policy.observe(seen(policy.spec, 1, 0))
    policy.warm_up()
    warmed = policy.act(seen(policy.spec, 0, PERIOD)).chunk.actions
    policy.reset()
    assert np.array_equal(policy.act(seen(policy.spec, 0, PERIOD)).chunk.actions, warmed)


def test_a_stamp_before_the_epoch_is_answered():
    policy = policy_of("diffusion")
    chunk = policy.act(seen(policy.spec, 0, -PERIOD)).chunk
    assert chunk.stamp == -PERIOD


def test_what_does_not_fit_is_refused_and_not_remembered():
    policy = policy_of("bc")
    spec = policy.spec
    good = seen(spec, 0, 0)
    policy.observe(good)
    bad = Observation(PERIOD, good.images)
    with pytest.raises(Exception, match="needs the poses of 1 arms"):
        policy.act(bad)
    after = policy.act(seen(spec, 1, 2 * PERIOD)).chunk.actions
    policy.reset()
    policy.observe(good)
    assert np.array_equal(policy.act(seen(spec, 1, 2 * PERIOD)).chunk.actions, after)
    assert np.array_equal(policy.act(replace(good, stamp=10**12)).chunk.actions.shape, (7, 10))
