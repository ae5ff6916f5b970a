"""Parity: equal, different, or nothing to compare with, whichever side comes first."""

from __future__ import annotations

import pytest

from alt_ros.audit.parity import KEPT, Parity


@pytest.mark.parametrize("logged_first", [True, False])
def test_either_side_may_come_first(logged_first):
    parity = Parity("chunks")
    for stamp, (logged, replayed) in enumerate([("a", "a"), ("b", "c"), ("d", "d")]):
        if logged_first:
            parity.log(stamp, 100 + stamp, logged)
        parity.replay(stamp, replayed)
        if not logged_first:
            parity.log(stamp, 100 + stamp, logged)
    assert (parity.logged, parity.equal, parity.differing, parity.not_replayed) == (3, 2, 1, 0)
    assert parity.first_difference == 101


def test_what_has_no_counterpart_is_told_and_not_called_different():
    parity = Parity("chunks")
    parity.log(1, 1, "a")
    parity.replay(2, "b")
    assert (parity.logged, parity.equal, parity.differing, parity.not_replayed) == (1, 0, 0, 1)
    assert parity.first_difference is None


def test_a_difference_that_the_bag_cannot_settle_is_not_counted():
    parity = Parity("decisions")
    parity.log(1, 1, "a")
    parity.replay(1, "b", certain=False)
    parity.log(2, 2, "c")
    parity.replay(2, "c", certain=False)
    assert (parity.equal, parity.differing, parity.not_replayed) == (1, 0, 1)


def test_memory_is_bounded():
    parity = Parity("observations")
    for stamp in range(3 * KEPT):
        parity.log(stamp, stamp, "a")
    parity.replay(0, "a")
    parity.replay(3 * KEPT - 1, "a")
    assert (parity.logged, parity.equal) == (3 * KEPT, 1)
