"""What each action attends to; ``test_network.py`` tests what both denoisers have in common."""

import pytest
import torch

from alt_ros.policies.denoising_transformer import DenoisingTransformer


def sees(horizon: int, observations: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which actions (Tp, Tp) and which observations (Tp, To) each predicted noise uses."""
    torch.manual_seed(0)
    network = DenoisingTransformer(3, 5, horizon, observations, layers=2, width=32).eval()
    noisy = torch.randn(1, horizon, 3, requires_grad=True)
    condition = torch.randn(1, observations, 5, requires_grad=True)
    out = network(noisy, torch.tensor([50]), condition)
    actions, seen = [], []
    for time in range(horizon):
        # Not the plain sum: the gradient of a sum over normalised values may vanish.
        total = (out[0, time] * torch.tensor([1.0, 2.0, 3.0])).sum()
        of_actions, of_seen = torch.autograd.grad(total, (noisy, condition), retain_graph=True)
        actions.append(of_actions[0].abs().sum(dim=1) > 0.0)
        seen.append(of_seen[0].abs().sum(dim=1) > 0.0)
    return torch.stack(actions), torch.stack(seen)


@pytest.mark.parametrize(("horizon", "observations"), [(1, 1), (6, 1), (6, 3), (3, 3)])
def test_an_action_sees_those_before_it_and_the_observations_up_to_its_time(horizon, observations):
    actions, seen = sees(horizon, observations)
    times = torch.arange(horizon)
    assert torch.equal(actions, times[None] <= times[:, None])
    assert torch.equal(seen, torch.arange(observations)[None] <= times[:, None])


def test_every_action_sees_the_step():
    torch.manual_seed(0)
    network = DenoisingTransformer(3, 5, 6, 2, layers=2, width=32).eval()
    noisy, condition = torch.randn(1, 6, 3), torch.randn(1, 2, 5)
    with torch.no_grad():
        one, other = (network(noisy, torch.tensor([step]), condition) for step in (0, 90))
    assert ((one - other).abs().amax(dim=2) > 1e-6).all()


def test_equal_actions_are_told_apart_by_their_place():
    torch.manual_seed(0)
    network = DenoisingTransformer(3, 5, 6, 1, layers=2, width=32).eval()
    noisy = torch.randn(1, 1, 3).expand(1, 6, 3)
    with torch.no_grad():
        out = network(noisy, torch.tensor([50]), torch.randn(1, 1, 5))[0]
    assert (torch.cdist(out, out) + torch.eye(6) > 1e-6).all()


def test_masks_are_no_weights():
    network = DenoisingTransformer(3, 5, 6, 2, layers=1, width=32)
    assert not {"later", "unseen"} & set(network.state_dict())
