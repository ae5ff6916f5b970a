from dataclasses import replace

import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.studies.manifold_settings import FULL, QUICK


def test_the_networks_have_the_sizes_of_the_paper():
    assert QUICK.small.parameters == FULL.small.parameters == 142
    assert FULL.large.parameters == pytest.approx(9.5e6, rel=0.005)
    assert QUICK.large.parameters == 30_050
    assert (FULL.few, FULL.many) == (QUICK.few, QUICK.many) == (20, 100_000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shapes": ("star", "moon")}, "star, ellipse, heart, rectangle are needed, got moon"),
        ({"shapes": ()}, "are needed, got none"),
        ({"few": 0}, "got 0, 100000, 2, 1000"),
        ({"samples": 1}, "two samples are needed, got 20, 100000, 2, 1"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(change, words):
    with pytest.raises(ConfigurationError, match=words):
        replace(QUICK, **change)
