import json

import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.training.configuration import TrainingConfig, cup_training


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"schedule": "cosine"},
        {"temperature": 0.0},
        {"seed": -1},
        {"temporal_exclusion": -1},
        {"checkpoint_every": 0},
    ],
)
def test_settings_out_of_bounds_are_refused(change):
    with pytest.raises(ConfigurationError, match="training"):
        TrainingConfig(**change)


def test_one_cycle_rises_to_the_rate_and_falls_to_nothing():
    config = TrainingConfig(steps=50, learning_rate=1e-3, schedule="one_cycle")
    rates = [config.rate(step) for step in range(50)]
    assert max(rates) == rates[9] == rates[10] == 1e-3
    assert rates[0] == pytest.approx(1e-4)
    assert rates[-1] < 2e-6
    assert TrainingConfig(learning_rate=1e-4).rate(3000) == 1e-4


def test_a_config_is_json():
    text = json.dumps(TrainingConfig(validation=(1, 2)).to_json())
    assert json.loads(text)["augmentation"]["crop_scale"] == 0.9


def test_the_training_for_the_cup_scene_takes_its_options():
    spec, config = cup_training(("wrist", "third_person"), seed=5, steps=7)
    assert spec.views == ("wrist", "third_person")
    assert (config.seed, config.steps) == (5, 7)
    assert (config.schedule, config.validation) == ("one_cycle", ())
    assert cup_training(("wrist",), seed=0)[1].steps > 7
