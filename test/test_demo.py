"""The demo's own arithmetic: training options, what CI accepts."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from alt_ros.demo import DemoOptions
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.training.configuration import cup_training

CHECK = Path(__file__).parents[1] / "environment" / "check_demo.py"


def test_a_batch_of_the_training_holds_two_frames_of_each_demonstration():
    _, config = cup_training(("wrist",), seed=0)
    assert config.batch_size == 2 * DemoOptions().demonstrations


def test_every_demonstration_has_a_placement_of_its_own():
    assert DemoOptions().demonstrations == len(TRAINING_PLACEMENTS)


def check(folder: Path, ind: dict, ood: dict) -> tuple[int, str]:
    summary = folder / "summary.json"
    good_ind = {"trials": 10, "success": 10}
    good_ood = {"trials": 6, "flagged": 6, "commands_after_flag": 0}
    episodes = {"ind": good_ind | ind, "ood": good_ood | ood}
    summary.write_text(json.dumps({"episodes": episodes, "wall_s": math.pi}))
    done = subprocess.run(
        [sys.executable, str(CHECK), str(summary)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("ind", [{}, {"success": 9}])
def test_a_demo_as_promised_is_accepted(tmp_path, ind):
    assert check(tmp_path, ind, {}) == (0, "demo: as promised\n")


@pytest.mark.parametrize(
    ("ind", "ood", "said"),
    [
        ({"success": 8}, {}, "ind: 8 of 10 succeeded"),
        ({"trials": 5, "success": 5}, {}, "ind: 5 of 5 succeeded"),
        ({}, {"flagged": 5}, "ood: 5 of 6 flagged"),
        ({}, {"trials": 0, "flagged": 0}, "ood: 0 of 0 flagged"),
        ({}, {"commands_after_flag": 1}, "1 commands after the flag"),
    ],
)
def test_a_demo_short_of_its_promise_is_refused(tmp_path, ind, ood, said):
    code, output = check(tmp_path, ind, ood)
    assert code == 1
    assert said in output
    assert output.count("\n") == 1
