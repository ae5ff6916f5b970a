"""What came of a fault drill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from alt_ros.benchmarks.fault_catalogue import Drill

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class DrillResult:
    """What came of a drill.

    Attributes:
        name: Of the drill.
        what: What was done.
        world: Which graph.
        declared: State and reason that were declared.
        verdict: passed, failed or not run.
        trouble: Why it did not pass.
        response_ms: From the cause to the declared state or silence; None for none.
        response_limit_ms: What was declared; 0 for none.
        last_command_ms: From the cause to the last command that does not brake, before the
            cause was gone; None where the arm runs on.
        seen: State and reason that came.
        refused_to_arm: Why arming was refused while the cause stood; empty: not tried.
        outcome: never stopped, recovered or latched.
        recovery_ms: From the end of the cause, or from the arming that ended a latch, until the
            arm runs again.
        attempts: How many episodes were begun until the arm ran.
        first_trouble: Why the drill did not pass at first, where it was run again.
        commands: Commands in the drill.
        violations: Commands outside the limits, by kind.
    """

    name: str
    what: str
    world: str
    declared: str
    verdict: str = FAILED
    trouble: str = ""
    response_ms: float | None = None
    response_limit_ms: int = 0
    last_command_ms: float | None = None
    seen: str = ""
    refused_to_arm: str = ""
    outcome: str = ""
    recovery_ms: float | None = None
    attempts: int = 0
    first_trouble: str = ""
    commands: int = 0
    violations: dict[str, int] | None = None


def declared(drill: Drill) -> str:
    """Return the state and the reason that a drill declares."""
    return f"{drill.response}: {drill.reason}" if drill.reason else drill.response


def not_run(drill: Drill, why: str) -> DrillResult:
    """Return the result of a drill that cannot be run here."""
    return _without_figures(drill, NOT_RUN, f"NOT RUN: {why}")


def failed(drill: Drill, why: str) -> DrillResult:
    """Return the result of a drill whose graph is gone."""
    return _without_figures(drill, FAILED, why)


def _without_figures(drill: Drill, verdict: str, trouble: str) -> DrillResult:
    return DrillResult(
        drill.name, drill.what, drill.world.value, declared(drill), verdict, trouble
    )


def totals(results: Sequence[DrillResult]) -> dict[str, int]:
    """Return how many drills passed, failed, were not run, and what was sent."""
    counts = {
        verdict.replace(" ", "_"): sum(r.verdict == verdict for r in results)
        for verdict in (PASSED, FAILED, NOT_RUN)
    }
    return {
        "drills": len(results),
        **counts,
        "commands": sum(r.commands for r in results),
        "commands_outside_limits": sum(sum((r.violations or {}).values()) for r in results),
    }


def read_result(line: str) -> DrillResult:
    """Return a DrillResult of a line of JSON."""
    return DrillResult(**json.loads(line))
