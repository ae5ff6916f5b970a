from dataclasses import replace

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.studies.manifold_training import Denoiser, Network, generate

TINY = Network(width=4, depth=1, steps=20, batch=16, learning_rate=1e-2)


@pytest.mark.parametrize("network", [TINY, Network(16, 3, 30, 16, 1e-2)])
def test_the_parameters_are_counted_as_torch_has_them(network):
    assert network.parameters == sum(p.numel() for p in Denoiser(network).parameters())


@pytest.mark.parametrize("change", [{"width": 0}, {"steps": 0}, {"learning_rate": 0.0}])
def test_a_network_that_cannot_be_trained_is_refused(change):
    with pytest.raises(ConfigurationError, match="at least 1 and a positive learning rate"):
        replace(TINY, **change)


def test_a_model_learns_the_one_point_that_it_sees():
    network = Network(width=32, depth=2, steps=400, batch=64, learning_rate=1e-2)
    point = np.array([[0.4, -0.3]], np.float32)
    generated = generate(point, network, 50, seed=0, device="cpu")
    assert np.abs(np.median(generated.samples - point, axis=0)).max() < 0.05
    assert generated.loss < 0.3
