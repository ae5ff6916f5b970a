"""How the U-Net is conditioned and how far it sees; ``test_network.py`` tests both denoisers."""

import pytest
import torch
from torch import nn

from alt_ros.policies.temporal_unet import TemporalUnet, _Residual


def film_of(block, scale, shift):
    """Let every condition ask for a scale and a shift (channels,)."""
    linear = block.film[-1]
    nn.init.zeros_(linear.weight)
    linear.bias.data = torch.cat([scale, shift])


@pytest.mark.parametrize("outputs", [16, 24])
def test_the_condition_scales_and_shifts_each_channel_at_all_times(outputs):
    torch.manual_seed(0)
    block = _Residual(16, outputs, 4, kernel=5).eval()
    scale, shift = torch.randn(2, outputs)
    film_of(block, scale, shift)
    x = torch.randn(2, 16, 12)
    with torch.no_grad():
        modulated = scale[:, None] * block.first(x) + shift[:, None]
        expected = block.second(modulated) + block.shortcut(x)
        torch.testing.assert_close(block(x, torch.randn(2, 4)), expected)


def test_the_condition_reaches_the_output_through_every_block():
    torch.manual_seed(0)
    unet = TemporalUnet(3, 5, (16, 32), step_embedding=16).eval()
    noisy, steps = torch.randn(1, 8, 3), torch.zeros(1)
    one, other = torch.zeros(1, 1, 5), torch.ones(1, 1, 5)
    blocks = [module for module in unet.modules() if isinstance(module, _Residual)]
    assert len(blocks) == 2 * (2 + 1 + 1)  # two levels down, the middle, one level up
    weights = [block.film[-1].weight.detach().clone() for block in blocks]
    for block, weight in zip(blocks, weights, strict=True):
        for silent in blocks:
            nn.init.zeros_(silent.film[-1].weight)
        block.film[-1].weight.data = weight
        with torch.no_grad():
            assert not torch.allclose(unet(noisy, steps, one), unet(noisy, steps, other))


@pytest.mark.parametrize(("channels", "shrink"), [((16, 32), 2), ((16, 32, 64), 4)])
def test_only_multiples_of_shrink_come_back_as_long_as_they_were(channels, shrink):
    unet = TemporalUnet(3, 5, channels, step_embedding=16).eval()
    assert unet.shrink == shrink
    given = torch.zeros(1), torch.randn(1, 1, 5)
    with torch.no_grad():
        for times in (1, 3):
            assert unet(torch.randn(1, times * shrink, 3), *given).shape == (1, times * shrink, 3)
        longer = unet(torch.randn(1, 3 * shrink - 1, 3), *given)
        assert longer.shape == (1, 3 * shrink, 3)  # so the policy refuses such a Tp


def test_every_action_depends_on_the_whole_sequence():
    torch.manual_seed(0)
    unet = TemporalUnet(2, 5, (16, 32, 64), step_embedding=16).eval()
    noisy = torch.randn(1, 16, 2, requires_grad=True)
    out = unet(noisy, torch.zeros(1), torch.randn(1, 1, 5))
    for time in (0, 15):
        (gradient,) = torch.autograd.grad(out[0, time].sum(), noisy, retain_graph=True)
        assert (gradient[0].abs().sum(dim=1) > 0.0).all()
