"""When the executor ticks: with a thread of its own, or with /clock under simulated time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, JumpThreshold
from rclpy.duration import Duration

from alt_ros.control_loop import ControlLoop
from alt_ros.execution import Moment

Tick = Callable[[Moment], None]


class LoopTicks:
    """Ticks on the monotonic clock, with the stamps' clock read beside it."""

    def __init__(
        self,
        clock: Clock,
        period: int,
        priority: int,
        tick: Tick,
        failed: Callable[[BaseException], None],
    ) -> None:
        """Begin to tick.

        Args:
            clock: The stamps' clock.
            period: ns.
            priority: SCHED_FIFO priority of the process; the thread takes the one above.
            tick: Called in a thread of its own, with the instant of the deadline.
            failed: Called with what ``tick`` raised, which ends the ticks.
        """

        def on_deadline(deadline: int) -> None:
            behind = time.monotonic_ns() - deadline
            tick(Moment(clock.now().nanoseconds - behind, deadline))

        self._loop = ControlLoop(
            period, on_deadline, failed, priority=priority + 1 if priority else 0
        )
        self._loop.start()

    def stop(self) -> None:
        """End; no tick is in progress afterwards."""
        self._loop.stop()

    def diagnostics(self) -> dict[str, Any]:
        """Return how punctual the ticks were."""
        late = self._loop.lateness()
        values: dict[str, Any] = {"ticks": late.ticks, "ticks missed": late.missed}
        for name in ("p50", "p99", "p999", "worst"):
            values[f"tick lateness {name} [ms]"] = f"{getattr(late, name):.3f}"
        return values


class ClockTicks:
    """Ticks whenever simulated time moves, in the node's own thread."""

    def __init__(self, clock: Clock, tick: Tick) -> None:
        """Begin to tick.

        Args:
            clock: The simulated clock.
            tick: Called with the new time.
        """
        threshold = JumpThreshold(
            min_forward=Duration(nanoseconds=1),
            min_backward=Duration(nanoseconds=-1),
            on_clock_change=False,
        )
        self._handle = clock.create_jump_callback(
            threshold, post_callback=lambda jump: tick(Moment.of(clock.now().nanoseconds))
        )

    def stop(self) -> None:
        """End."""
        self._handle.unregister()

    def diagnostics(self) -> dict[str, Any]:
        """Simulated time is never late."""
        return {}
