"""When the flag goes up and down, and what it says of the cause."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tables import table, unit

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.lookup.bands import Band
from alt_ros.lookup.calibration import Calibration
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.index import ExactIndex
from alt_ros.lookup.monitor import NEVER, NOT_FINITE, OodMonitor
from alt_ros.lookup.retrieval import Recall, Retrieval
from alt_ros.types import Neighbour, Query

VIEWS = ("wrist", "third_person")
HELD = table((6, 4, 5))
HALF = Calibration.given(0.5)
AT_ONCE = MonitorConfig(raise_count=1, raise_window=1, clear_after=1)
PLAIN = Band((0.0,), (1.0,), 0.0)
NAN = float("nan")


def seen(row: int = 0, views: np.ndarray | None = None) -> Query:
    views = HELD.view_embeddings[row] if views is None else views
    return Query(0, HELD.embeddings[row], views, HELD.poses[row])


def recalled(query: Query) -> Recall:
    return Retrieval(HELD, ExactIndex.build(HELD.embeddings)).recall(query.embedding, query.stamp)


def similar(similarity: float) -> Recall:
    """Return a recall whose nearest frame is so similar."""
    nearest = Neighbour(0, 0, similarity)
    return Recall(nearest, nearest, np.array([similarity]), np.array([0]))


def flags(monitor: OodMonitor, similarities: list[float]) -> list[bool]:
    return [monitor.decide(seen(), similar(value)).flag for value in similarities]


def test_the_flag_goes_up_after_k_strange_ones_of_n_and_down_after_some_familiar_in_a_row():
    config = MonitorConfig(raise_count=2, raise_window=3, clear_after=3)
    monitor = OodMonitor(HELD, VIEWS, HALF, config)
    similarities = [0.9, 0.1, 0.9, 0.9, 0.1, 0.9, 0.1, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.1, 0.9, 0.1]
    expected = [False] * 6 + [True] * 6 + [False] * 3 + [True]
    assert flags(monitor, similarities) == expected


def test_a_level_at_the_threshold_is_familiar():
    assert flags(OodMonitor(HELD, VIEWS, HALF, AT_ONCE), [0.5, 0.499, 0.5]) == [False, True, False]


def test_with_a_margin_the_level_must_fall_further_before_the_flag_does():
    monitor = OodMonitor(HELD, VIEWS, HALF, replace(AT_ONCE, clear_margin=0.2))
    assert flags(monitor, [0.6, 0.4, 0.6, 0.69, 0.71]) == [False, True, True, True, False]


def test_reset_takes_the_flag_down_and_forgets_the_last_observations():
    monitor = OodMonitor(HELD, VIEWS, HALF, AT_ONCE)
    assert flags(monitor, [0.0]) == [True]
    monitor.reset()
    assert flags(monitor, [0.9]) == [False]
    patient = OodMonitor(HELD, VIEWS, HALF, MonitorConfig(raise_count=2, raise_window=2))
    assert flags(patient, [0.0]) == [False]
    patient.reset()
    assert flags(patient, [0.0]) == [False]


def test_a_decision_says_what_every_score_came_to():
    bands = {
        "cosine": Band((0.1,), (0.1,), 0.0),
        "view:wrist": PLAIN,
        "view:third_person": Band((0.0, 0.0), (1.0, 0.5), 0.0),
    }
    calibration = Calibration(1.0, bands, levels=(0.5, 1.0, 3.0, 9.0))
    query = seen(3, np.stack([HELD.view_embeddings[3, 0], -HELD.view_embeddings[3, 1]]))
    recall = recalled(query)
    decision = OodMonitor(HELD, VIEWS, calibration, AT_ONCE).decide(query, recall)
    assert decision.scores == tuple(bands)
    held = HELD.view_embeddings[recall.rows]
    far = 1.0 - float((held[:, 1] @ query.view_embeddings[1]).max())
    assert decision.values == pytest.approx((0.0, 0.0, far), abs=1e-6)
    scale = 1.0 - 0.5 * (0.6 - 0.25) / 0.5  # frame 3 of 0 to 5, between the bins' middles
    assert decision.strangeness == pytest.approx((-1.0, 0.0, far / scale), abs=1e-5)
    assert decision.score == decision.strangeness[2]
    assert (decision.flag, decision.threshold) == (decision.score > 1.0, 1.0)
    assert decision.cause == "view:third_person"
    assert decision.quantile == calibration.quantile(decision.score)
    assert decision.neighbour == recall.nearest


@pytest.mark.parametrize("views_are_scores", [True, False])
@pytest.mark.parametrize("strange", [0, 1])
def test_the_strangest_view_is_named_while_the_flag_is_up(strange, views_are_scores):
    bands = {"cosine": PLAIN} | {f"view:{view}": PLAIN for view in VIEWS if views_are_scores}
    views = HELD.view_embeddings[0].copy()
    views[strange] *= -1.0
    calibration = Calibration(0.3, bands)
    monitor = OodMonitor(HELD, VIEWS, calibration, AT_ONCE)
    assert monitor.decide(seen(0, views), similar(0.1)).view == VIEWS[strange]
    assert monitor.decide(seen(), similar(0.9)).view == ""


def test_a_view_is_measured_by_what_is_usual_for_it():
    views = unit(HELD.view_embeddings[0] + np.array([[0.0], [0.5]]))
    bands = {
        "view:wrist": Band((0.0,), (1e-6,), 0.0),
        "view:third_person": Band((5.0,), (1.0,), 0),
    }
    calibration = Calibration(-9.0, bands)
    monitor = OodMonitor(HELD, VIEWS, calibration, AT_ONCE)
    assert monitor.decide(seen(0, views), similar(0.9)).view == "wrist"


def test_a_strange_view_raises_the_flag_by_itself():
    calibration = Calibration(
        0.3, {"cosine": PLAIN, "view:wrist": PLAIN, "view:third_person": PLAIN}
    )
    for views, flag in (
        (HELD.view_embeddings[0], False),
        (np.stack([HELD.view_embeddings[0, 0], -HELD.view_embeddings[0, 1]]), True),
    ):
        decision = OodMonitor(HELD, VIEWS, calibration, AT_ONCE).decide(seen(0, views), similar(1))
        assert decision.flag == flag


@pytest.mark.parametrize("bad", [NAN, np.inf])
@pytest.mark.parametrize("field", ["embedding", "view_embeddings", "poses"])
def test_a_query_that_is_not_finite_is_strange_whatever_the_scores_say(field, bad):
    value = getattr(seen(), field).copy()
    value[..., -1] = bad
    query = replace(seen(), **{field: value})
    decision = OodMonitor(HELD, VIEWS, HALF, AT_ONCE).decide(query, similar(1.0))
    assert decision.flag
    assert (decision.score, decision.cause) == (math.inf, NOT_FINITE)
    assert decision.view in VIEWS


def test_a_view_that_is_no_number_is_the_strangest():
    views = np.stack([-HELD.view_embeddings[0, 0], np.full(8, np.nan, np.float32)])
    decision = OodMonitor(HELD, VIEWS, HALF, AT_ONCE).decide(seen(0, views), similar(1.0))
    assert decision.view == "third_person"


def test_a_score_that_says_nothing_is_left_out():
    calibration = Calibration(0.3, {"cosine": PLAIN, "pose_residual": PLAIN})
    nobody = replace(seen(), poses=np.zeros((0, 7)))
    decision = OodMonitor(HELD, VIEWS, calibration, AT_ONCE).decide(nobody, similar(0.9))
    assert not decision.flag
    assert decision.cause == "cosine"
    assert math.isnan(decision.values[1])


def test_one_view_is_blamed_and_without_views_none_is():
    for count, blamed in ((1, "wrist"), (0, "")):
        held = table(views=count)
        monitor = OodMonitor(held, VIEWS[:count], HALF, AT_ONCE)
        query = Query(0, held.embeddings[0], held.view_embeddings[0])
        assert monitor.decide(query, similar(0.1)).view == blamed


def test_view_embeddings_of_the_wrong_shape_are_refused():
    with pytest.raises(DataError, match="view embeddings must be"):
        OodMonitor(HELD, VIEWS, HALF).decide(seen(0, HELD.view_embeddings[0, :1]), similar(1.0))


def test_the_retrieval_is_told_which_similarity_is_strange_by_itself():
    assert OodMonitor(HELD, VIEWS, Calibration.given(0.8)).strange_below == pytest.approx(0.8)
    assert OodMonitor(HELD, VIEWS, Calibration(0.3, {"view:wrist": PLAIN})).strange_below == NEVER
    band = Band((-4.0, -3.0), (0.5, 1.0), 1e-3)
    monitor = OodMonitor(HELD, VIEWS, Calibration(2.0, {"cosine": band}), AT_ONCE)
    assert monitor.strange_below == pytest.approx(1.001 - np.exp(-3.0))
    last = seen(5)
    monitor.decide(last, recalled(last))  # the end of the first demonstration
    limit = monitor.strange_below
    assert limit == pytest.approx(1.001 - np.exp(-1.0))
    assert monitor.decide(last, similar(limit - 1e-6)) is not None
    assert band.strangeness(1.0 - limit, 1.0) == pytest.approx(2.0)


def test_a_score_that_the_table_does_not_have_is_refused():
    with pytest.raises(ConfigurationError, match="got nonsense"):
        OodMonitor(HELD, VIEWS, Calibration(0.3, {"nonsense": PLAIN}))


def test_the_flag_goes_up_where_the_config_says_it_is_decided():
    rng = np.random.default_rng(0)
    config = MonitorConfig(raise_count=4, raise_window=6, clear_after=1)
    monitor = OodMonitor(HELD, VIEWS, HALF, config)
    for _ in range(20):
        monitor.reset()
        levels = []
        for similarity in rng.uniform(0.0, 0.9, 20):
            decision = monitor.decide(seen(), similar(float(similarity)))
            levels.append(decision.score)
            assert decision.flag == (config.decided(np.array(levels))[-1] > decision.threshold)
            if decision.flag:
                break


def test_a_blank_moment_is_bridged_but_the_arm_is_not_led_on_blindly():
    config = MonitorConfig(raise_count=4, raise_window=5)
    calibration = Calibration(50.0, {"cosine": Band((0.1,), (0.1,), 0.0, weight=0.25)})
    monitor = OodMonitor(HELD, VIEWS, calibration, config)
    told = []
    for similarity in (0.9, 0.4, 0.9, *[0.4] * 5, 0.9):
        monitor.decide(seen(), similar(similarity))
        told.append(monitor.strange_below)
    bridged = pytest.approx(0.5)  # four scales above the centre
    assert told[:5] == [bridged] * 5
    assert told[5:8] == [NEVER] * 3  # three in a row, one less than raise the flag
    assert told[8] == bridged
    assert not monitor.flag
