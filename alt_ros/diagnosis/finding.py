"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What.
        ok: Whether it is as it should be.
        detail: What was found.
        remedy: What to do; empty where there is nothing to do.
        required: Whether the graph cannot run without it.
        group: What it belongs to.
    """

    subject: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True
    group: str = ""

    @property
    def state(self) -> str:
        """``ok``; ``wrong``, where the graph cannot run so; else ``look``."""
        return "ok" if self.ok else "wrong" if self.required else "look"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"state": self.state, **asdict(self)}


def is_fit(findings: Iterable[Finding]) -> bool:
    """Return whether everything that is required is as it should be."""
    return all(finding.ok for finding in findings if finding.required)
