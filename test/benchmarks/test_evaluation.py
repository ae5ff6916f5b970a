from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))  # bundles.py

from bundles import write_small_bundle

from alt_ros.benchmarks.evaluation import evaluate, summarize, with_retrieval
from alt_ros.bundle import Bundle
from alt_ros.errors import BundleError, ConfigurationError
from alt_ros.lookup.correction import CorrectionConfig
from alt_ros.policies.registry import InferenceConfig
from alt_ros.simulation.rollout import Episode


def episode(trial: int, **changes) -> Episode:
    values = {
        "scenario": "ind",
        "trial": trial,
        "success": True,
        "flagged": False,
        "flag_delay": math.nan,
        "expected": trial,
        "recalled": trial,
        "commands": 380,
        "seconds": 3.8049,
        "poses": np.zeros((4, 7)),
        "cup": np.zeros((4, 7)),
        "actions": np.zeros((4, 10)),
        "chunks": np.zeros(4, np.int64),
        "reason": "running: following chunks",
    }
    return Episode(**values | changes)


EPISODES = [
    episode(0),
    episode(1, recalled=7),
    episode(2, success=False, flagged=True, flag_delay=0.5, recalled=-1, commands=0),
    episode(3, flagged=True, flag_delay=1.2),
    episode(4, success=False, flagged=True, flag_delay=0.9, recalled=5),
]


def test_successes_recalls_and_flags_are_counted():
    figures = summarize("ind", EPISODES)
    assert (figures["scenario"], figures["trials"]) == ("ind", 5)
    assert (figures["success"], figures["recall"], figures["flagged"]) == (3, 2, 3)


def test_the_interval_is_wilsons_of_the_successes():
    assert summarize("ind", EPISODES)["success_interval_95"] == [0.2307, 0.8824]
    ten = [episode(trial) for trial in range(10)]
    assert summarize("ind", ten)["success_interval_95"] == [0.7225, 1.0]


def test_the_delay_is_the_median_over_the_flagged_episodes():
    assert summarize("ind", EPISODES)["flag_delay_s"] == 0.9
    assert summarize("ind", EPISODES[:2])["flag_delay_s"] is None


def test_every_episode_is_listed_and_all_of_it_is_json():
    figures = json.loads(json.dumps(summarize("ind", EPISODES), allow_nan=False))
    assert [entry["trial"] for entry in figures["episodes"]] == [0, 1, 2, 3, 4]
    assert figures["episodes"][1] == {
        "trial": 1,
        "success": True,
        "flagged": False,
        "expected": 1,
        "recalled": 7,
        "commands": 380,
        "seconds": 3.8,
        "end": "running: following chunks",
    }


def test_an_unknown_scenario_and_a_missing_bundle_are_refused(tmp_path):
    options = {"seed": 1, "action_horizon": 8, "inference": InferenceConfig("cpu")}
    with pytest.raises(ConfigurationError, match="scenario 'nowhere' does not exist: choose one"):
        evaluate(tmp_path, "nowhere", 1, **options)
    with pytest.raises(BundleError, match="must hold manifest.json"):
        evaluate(tmp_path, "ind", 1, **options)


def test_another_retrieval_is_taken_by_name(tmp_path):
    bundle = Bundle.load(write_small_bundle(tmp_path / "cup"), encoder=False)
    assert with_retrieval(bundle, "bundle") is bundle
    assert with_retrieval(bundle, "recall").correction is None
    corrected = with_retrieval(bundle, "correct")
    assert corrected.correction == CorrectionConfig()
    assert with_retrieval(corrected, "recall").correction is None
    with pytest.raises(ConfigurationError, match="retrieval must be one of bundle, recall"):
        with_retrieval(bundle, "guess")
