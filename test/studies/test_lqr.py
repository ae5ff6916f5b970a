import json
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alt_ros.studies import lqr
from alt_ros.studies.lqr import A, B, LqrSettings, demonstrate, learn, regulator, run_lqr, unrolled
from alt_ros.studies.report import write_report

torch.set_num_threads(1)
SHORT = LqrSettings(horizons=(1, 4), steps=20, demonstrations=20, seeds=1)


def test_the_regulator_brings_the_plant_to_rest():
    closed = A - B @ regulator()
    assert np.abs(np.linalg.eigvals(closed)).max() < 1.0


def test_the_regulator_is_the_cheapest_linear_controller_nearby():
    def cost(gain):
        state, total = np.array([[1.0], [0.5]]), 0.0
        for _ in range(500):
            action = -gain @ state
            total += float((state.T @ lqr.STATE_COST @ state)[0, 0])
            total += float((action.T @ lqr.ACTION_COST @ action)[0, 0])
            state = A @ state + B @ action
        return total

    best = cost(regulator())
    for change in ((0.2, 0.0), (-0.2, 0.0), (0.0, 0.2), (0.0, -0.2)):
        assert cost(regulator() + change) > best


@settings(deadline=None)
@given(position=st.floats(-1.0, 1.0), speed=st.floats(-1.0, 1.0), horizon=st.integers(1, 6))
def test_the_unrolled_loop_is_what_the_plant_does(position, speed, horizon):
    state, actions = np.array([position, speed]), []
    for _ in range(horizon):
        action = -regulator() @ state
        actions.append(float(action[0]))
        state = A @ state + B @ action
    expected = unrolled(np.array([[position, speed]]), regulator(), horizon)
    np.testing.assert_allclose(expected[0], actions, atol=1e-12)


def test_a_demonstrations_next_state_is_what_its_action_leads_to():
    states, actions = demonstrate(5, 3, np.random.default_rng(0))
    after = states[:5] @ A.T + actions[:5, :1] @ B.T
    np.testing.assert_allclose(states[5:10], after, atol=1e-12)
    np.testing.assert_allclose(actions[5:10, 0], actions[:5, 1], atol=1e-12)


def test_a_policy_is_learnt_alike_from_the_same_seed():
    one, again = (learn(2, 3, SHORT, "cpu") for _ in range(2))
    assert one.predicted.tobytes() == again.predicted.tobytes()
    assert one.predicted.shape == one.wanted.shape
    assert not np.array_equal(one.predicted, learn(2, 4, SHORT, "cpu").predicted)


def test_a_cell_can_be_learnt_in_another_process():
    sent = pickle.loads(pickle.dumps(partial(learn, 2, 3, SHORT, "cpu")))
    done = []
    cell = pickle.loads(pickle.dumps(sent(progress=lambda *now: done.append(now))))
    assert cell.predicted.tobytes() == learn(2, 3, SHORT, "cpu").predicted.tobytes()
    assert (cell.horizon, cell.seed) == (2, 3)
    assert done[-1] == (20, 20)


def test_the_errors_are_relative():
    cell = lqr.LqrCell(1, 0, regulator(), 0.0, np.full((50, 1), 1.1), np.full((50, 1), 1.0))
    interval = cell.loop_interval()
    assert interval.value == pytest.approx(0.1)
    assert interval.low == pytest.approx(0.1)
    assert interval.high == pytest.approx(0.1)


def test_the_study_says_honestly_that_a_short_training_recovers_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(lqr, "QUICK", SHORT)
    monkeypatch.setattr("alt_ros.studies.parallel._cores", lambda: 1)  # starts no process
    done = []
    report = run_lqr(
        tmp_path, quick=True, seed=0, device="cpu", progress=lambda *at: done.append(at)
    )
    write_report(tmp_path, report)
    figures = json.loads((tmp_path / "tables.json").read_text())
    assert figures["recovered"] is False
    assert report.summary[0].startswith("Not every policy is within 5 %")
    assert [cell["horizon"] for cell in figures["cells"]] == [1, 4]
    assert done[-1] == (40, 40)


def test_a_longer_training_gets_near_the_gain():
    longer = LqrSettings(horizons=(1,), steps=250, demonstrations=300, seeds=1)
    assert learn(1, 0, longer, "cpu").gain_error < 0.7 < learn(1, 0, SHORT, "cpu").gain_error
