"""What a bag says that was computed, held against what the live code computes from it again."""

from __future__ import annotations

from typing import Any

KEPT = 2_000
"""Values that wait for their counterpart; older ones have none."""


class Parity:
    """Counts the values of one kind that are the same, bit for bit, whichever side comes first.

    Args:
        what: What the values are.

    Attributes:
        logged: Values in the bag.
        equal: Those that came out the same.
        differing: Those that did not.
        first_difference: Log time of the first of them, ns; None without one.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.logged = self.equal = self.differing = 0
        self.first_difference: int | None = None
        self._logged: dict[int, tuple[int, str]] = {}
        self._replayed: dict[int, tuple[str, bool]] = {}

    @property
    def not_replayed(self) -> int:
        """Values in the bag for which there was nothing to compare with."""
        return self.logged - self.equal - self.differing

    def log(self, stamp: int, at: int, value: str) -> None:
        """Take a value of the bag.

        Args:
            stamp: Of the observation that it belongs to, ns.
            at: Its log time, ns.
            value: All of it, as text: equal only when every bit is.
        """
        self.logged += 1
        found = self._replayed.pop(stamp, None)
        if found is None:
            _keep(self._logged, stamp, (at, value))
        else:
            self._compare(at, value, *found)

    def replay(self, stamp: int, value: str, *, certain: bool = True) -> None:
        """Take a value that was computed again.

        Args:
            stamp: Of the observation that it belongs to, ns.
            value: As for ``log``.
            certain: Whether all that it depends on is in the bag; otherwise a difference says
                nothing, and counts as not replayed.
        """
        found = self._logged.pop(stamp, None)
        if found is None:
            _keep(self._replayed, stamp, (value, certain))
        else:
            self._compare(*found, value, certain)

    def _compare(self, at: int, logged: str, replayed: str, certain: bool) -> None:
        if logged == replayed:
            self.equal += 1
        elif certain:
            self.differing += 1
            if self.first_difference is None:
                self.first_difference = at


def _keep(waiting: dict[int, Any], stamp: int, value: Any) -> None:
    waiting[stamp] = value
    if len(waiting) > KEPT:
        del waiting[next(iter(waiting))]
