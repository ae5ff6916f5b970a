import pytest
import torch
from torch.nn import functional

from alt_ros.encoders.contrastive import nt_xent
from alt_ros.errors import ConfigurationError


def pairs(batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = functional.normalize(torch.randn((batch, 8), generator=generator), dim=1)
    second = functional.normalize(torch.randn((batch, 8), generator=generator), dim=1)
    return first, second


def equation_1(first, second, temperature):
    """SimCLR's equation 1, as written."""
    z = torch.cat([first, second])
    n = len(z)
    losses = []
    for i in range(n):
        j = (i + n // 2) % n
        below = sum(torch.exp(z[i] @ z[k] / temperature) for k in range(n) if k != i)
        losses.append(-torch.log(torch.exp(z[i] @ z[j] / temperature) / below))
    return torch.stack(losses).mean()


def test_it_is_equation_1_where_all_frames_are_of_different_demonstrations():
    first, second = pairs()
    loss = nt_xent(first, second, torch.arange(4), torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(loss, equation_1(first, second, 0.4))


def test_without_neighbours_in_time_the_loss_is_less():
    first, second = pairs()
    labels = torch.tensor([0, 0, 1, 1]), torch.tensor([3, 5, 3, 40])
    loss = nt_xent(first, second, *labels, temporal_exclusion=2)
    assert loss < nt_xent(first, second, *labels, temporal_exclusion=1)
    assert loss == nt_xent(first, second, *labels, temporal_exclusion=34)


def test_the_masked_loss_is_the_mean_over_rows_of_what_is_left():
    first, second = pairs(3)
    demonstration, frame = torch.tensor([0, 0, 1]), torch.tensor([3, 4, 3])
    z = torch.cat([first, second])
    left_out = {0: (0, 1, 4), 1: (0, 1, 3), 2: (2,), 3: (1, 3, 4), 4: (0, 3, 4), 5: (5,)}
    losses = []
    for i, out in left_out.items():
        kept = [k for k in range(6) if k not in out]
        scores = torch.log_softmax((z[i] @ z[kept].T) / 0.4, dim=0)
        losses.append(-scores[kept.index((i + 3) % 6)])
    loss = nt_xent(first, second, demonstration, frame, temporal_exclusion=1)
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_agreement_costs_less_than_disagreement():
    first, second = pairs()
    labels = torch.arange(4), torch.zeros(4, dtype=torch.long)
    assert nt_xent(first, first, *labels) < nt_xent(first, second, *labels)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temporal_exclusion": -1}])
def test_settings_out_of_bounds_are_refused(options):
    first, second = pairs()
    with pytest.raises(ConfigurationError, match="NT-Xent"):
        nt_xent(first, second, torch.arange(4), torch.arange(4), **options)
