from typing import ClassVar

import numpy as np
import pytest
import torch
from trained_conformance import TrainedPolicyConformance, checkpoint, seen

from alt_ros.errors import ConfigurationError
from alt_ros.policies.diffusion import Diffusion, SamplerConfig
from alt_ros.policies.registry import InferenceConfig, build_network, trained_policy
from alt_ros.policies.temporal_unet import TemporalUnet


class TestDiffusionPolicy(TrainedPolicyConformance):
    policy_name = "diffusion"
    horizons = (2, 8)
    own: ClassVar[dict] = {"architecture": "cnn", "crop": 0.9}

    def test_other_stamps_draw_other_noise(self, policy, observe):
        one = policy.act(observe(0, 0)).chunk.actions
        policy.reset()
        other = policy.act(observe(0, 1)).chunk.actions
        assert not np.array_equal(one, other)

    def test_ddpm_and_ddim_answer_and_differ(self, observe):
        made = checkpoint(self.spec())
        chunks = [
            trained_policy(made, InferenceConfig("cpu", 1, sampler=sampler, denoising_steps=4))
            .act(observe(0, 0))
            .chunk.actions
            for sampler in ("ddim", "ddpm")
        ]
        assert not np.array_equal(*chunks)

    def test_the_history_matters(self, policy, observe):
        policy.observe(observe(1, 0))
        after_one = policy.act(observe(0, policy.period)).chunk.actions
        policy.reset()
        policy.observe(observe(2, 0))
        after_other = policy.act(observe(0, policy.period)).chunk.actions
        assert not np.array_equal(after_one, after_other)

    def test_actions_stay_within_what_was_demonstrated(self, policy):
        actions = np.random.default_rng(0).normal(size=(16, self.spec().layout.size))
        chunk = policy.act(seen(self.spec(), 0, 0)).chunk.actions  # those that checkpoint() fits
        assert (chunk >= actions.min(axis=0) - 1e-6).all()
        assert (chunk <= actions.max(axis=0) + 1e-6).all()


class TestTransformerDiffusionPolicy(TestDiffusionPolicy):
    own: ClassVar[dict] = {"architecture": "transformer"}

    def test_an_action_depends_on_no_later_one(self):
        network = build_network(self.spec()).eval()
        noisy = torch.randn(1, 8, 10)
        changed = noisy.clone()
        changed[:, 5:] += 1.0
        condition, steps = torch.randn(1, 2, network.conditioning.size), torch.tensor([50])
        with torch.no_grad():
            one = network.denoiser(noisy, steps, condition)
            other = network.denoiser(changed, steps, condition)
        assert torch.allclose(one[:, :5], other[:, :5], atol=1e-6)
        assert not torch.allclose(one[:, 5:], other[:, 5:], atol=1e-3)

    def test_the_first_action_does_not_see_the_second_observation(self):
        network = build_network(self.spec()).eval()
        condition = torch.randn(1, 2, network.conditioning.size)
        later = condition.clone()
        later[:, 1] += 1.0
        noisy, steps = torch.randn(1, 8, 10), torch.tensor([50])
        with torch.no_grad():
            one = network.denoiser(noisy, steps, condition)
            other = network.denoiser(noisy, steps, later)
        assert torch.allclose(one[:, 0], other[:, 0], atol=1e-6)
        assert not torch.allclose(one[:, 1], other[:, 1], atol=1e-4)


class _Exact(torch.nn.Module):
    """The best denoiser for data that are one point: it knows the point."""

    def __init__(self, point, diffusion):
        super().__init__()
        self.point = point
        self.alphas = diffusion._forward.alphas_cumprod

    def forward(self, noisy, steps, condition):
        alpha = self.alphas[steps][:, None, None]
        return (noisy - alpha.sqrt() * self.point) / (1.0 - alpha).sqrt()


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 100), ("ddim", 10), ("ddim", 100)])
def test_a_perfect_denoiser_leads_to_the_data(sampler, steps):
    diffusion = Diffusion(SamplerConfig(sampler, steps))
    point = torch.tensor([[0.5, -0.25], [0.9, 0.0]])
    samples = diffusion.sample(
        _Exact(point, diffusion), (3, 2, 2), torch.zeros(3, 1, 1), torch.Generator().manual_seed(0)
    )
    assert torch.allclose(samples, point.expand(3, -1, -1), atol=0.02)


def test_a_perfect_denoiser_has_no_loss():
    diffusion = Diffusion()
    point = torch.tensor([[0.5, -0.25]])
    actions = point.expand(64, -1, -1)
    assert float(diffusion.loss(_Exact(point, diffusion), actions, actions)) < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "euler"}, "sampler must be one of ddim, ddpm, got 'euler'"),
        ({"steps": 0}, "denoising steps must be 1 to 100, got 0"),
        ({"steps": 101}, "denoising steps must be 1 to 100, got 101"),
    ],
)
def test_what_cannot_be_sampled_with_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        SamplerConfig(**changes)


def test_a_horizon_that_the_unet_cannot_halve_is_refused():
    spec = TestDiffusionPolicy().spec(prediction_horizon=10)
    with pytest.raises(ConfigurationError, match="Tp must be a multiple of 4 for the U-Net"):
        build_network(spec)


def test_an_unknown_architecture_is_refused():
    spec = TestDiffusionPolicy().spec(settings={"architecture": "mamba"})
    with pytest.raises(ConfigurationError, match="architecture must be one of cnn, transformer"):
        build_network(spec)


def test_the_published_unet_has_the_published_number_of_parameters():
    # Two observations of two cameras with 512 features each, and 7 values of state.
    with torch.device("meta"):
        unet = TemporalUnet(7, 2 * (2 * 512 + 7), (256, 512, 1024), step_embedding=128)
    resnets = 2 * 11.2e6
    assert sum(p.numel() for p in unet.parameters()) + resnets == pytest.approx(115e6, rel=0.01)
