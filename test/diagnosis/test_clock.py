from __future__ import annotations

import sys

import pytest

from alt_ros.diagnosis.clock import KernelClock, clock_keepers, judge_clock, kernel_clock


@pytest.mark.parametrize(
    ("clock", "keepers", "ok", "said"),
    [
        (KernelClock(True, 0.1, 3.0), ["chrony"], True, ""),
        (KernelClock(True, 0.1, 300.0), ["systemd-timesyncd"], True, ""),
        (KernelClock(True, 80.0, 300.0), ["chrony"], False, "settled"),
        (KernelClock(False, 0.0, 16e3), [], False, "install chrony"),
        (KernelClock(False, 0.0, 16e3), ["chrony"], False, "chronyc waitsync"),
        (None, [], False, "install chrony"),
        (None, ["PTP (phc2sys)"], True, ""),
    ],
)
def test_a_clock_that_nothing_keeps_is_told(clock, keepers, ok, said):
    finding = judge_clock(clock, keepers)
    assert finding.ok == ok
    assert said in finding.remedy
    assert not finding.required, "drivers on this computer need no other clock"


@pytest.mark.skipif(sys.platform != "linux", reason="adjtimex is Linux")
def test_the_kernel_is_asked_and_nothing_changed():
    first, second = kernel_clock(), kernel_clock()
    assert first is not None, "reading the clock needs no permission"
    assert second is not None
    assert first.kept == second.kept
    assert first.max_error > 0
    assert isinstance(clock_keepers(), list)
