import math

import pytest
import torch

from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.training.validation import validate_encoder


def test_nothing_held_out_is_no_number(store, spec):
    assert math.isnan(validate_encoder(MultiViewEncoder(spec), store, ()))


def test_an_encoder_that_sees_nothing_is_no_better_than_chance(store, spec):
    torch.manual_seed(0)
    blind = MultiViewEncoder(spec)
    torch.nn.init.zeros_(blind.head[2].weight)
    torch.nn.init.ones_(blind.head[2].bias)
    assert validate_encoder(blind, store, (3,)) == pytest.approx(1.0, abs=0.7)
    assert validate_encoder(blind, store, (3,)) > validate_encoder(
        MultiViewEncoder(spec), store, (3,)
    )
