"""``alt doctor``: what is wrong with this computer and the live graph, each with its remedy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from alt_ros.errors import AltError, ConfigurationError
from alt_ros.terminal import say, write

if TYPE_CHECKING:
    from alt_ros.diagnosis.finding import Finding

SECONDS = 5.0
LONGEST = 600.0
STATES = {"ok": "[green]ok[/]", "look": "[yellow]look[/]", "wrong": "[red]wrong[/]"}


def doctor(
    live: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="[SECONDS]")] = None,
    bundle: Path | None = None,
    config: Path | None = None,
    domain: int | None = None,
    json: Path | None = None,
) -> None:
    """Look for what is wrong here, and with --live on the robot's topics; the exit code is 1 then.

    Without a robot: libraries, DDS profile and buffers, shared memory, clock, real-time
    permission, GPU. Live: cameras, pose and gripper, their rates, stamps, skew and contents, and
    who moves the arm.

    Args:
        live: Listen to the live graph, 5 s unless told otherwise.
        bundle: Hold the live topics against this bundle.
        config: Parameter file of the run, for camera_sync and executor.
        domain: Listen in this DDS domain.
        json: Where the findings go.
    """
    from alt_ros.diagnosis.finding import is_fit
    from alt_ros.diagnosis.host import examine

    seconds = _seconds(live)
    if seconds is None and (bundle, config, domain) != (None, None, None):
        raise ConfigurationError("doctor: --bundle, --config and --domain need --live")
    findings = examine()
    if seconds is not None:
        findings += _live(seconds, bundle, config, domain)
    _print(findings)
    write(
        json,
        {"fit": is_fit(findings), "findings": [finding.to_json() for finding in findings]},
    )
    if not is_fit(findings):
        raise SystemExit(1)


def _seconds(live: tuple[float, ...] | None) -> float | None:
    if live is None:
        return None
    seconds = live[0] if live else SECONDS
    if len(live) > 1 or not 1.0 <= seconds <= LONGEST:
        raise ConfigurationError(
            f"doctor: --live takes one number of seconds from 1 to {LONGEST:g}, got "
            f"{' '.join(f'{value:g}' for value in live)}"
        )
    return seconds


def _live(
    seconds: float, bundle: Path | None, config: Path | None, domain: int | None
) -> list[Finding]:
    """Listen, and return what is to be said."""
    from alt_ros.bundle import Bundle
    from alt_ros.diagnosis.bundle_fit import expectation_of
    from alt_ros.diagnosis.finding import Finding
    from alt_ros.diagnosis.live import GRAPH, judge_survey
    from alt_ros.nodes.camera_sync_parameters import CameraSyncParameters
    from alt_ros.nodes.executor_parameters import ExecutorParameters
    from alt_ros.nodes.parameter_file import read_parameters

    file = _config(config)
    sensors = read_parameters(file, "camera_sync", CameraSyncParameters)
    executor = read_parameters(file, "executor", ExecutorParameters)
    sensors.synchronization()  # what contradicts itself is told before anything is waited for
    expected = None
    if bundle is not None:
        expected = expectation_of(Bundle.load(bundle, encoder=False))
    if domain is not None and not 0 <= domain <= 232:
        raise ConfigurationError(f"doctor: --domain must be from 0 to 232, got {domain}")
    _set_profile()
    try:
        from alt_ros.nodes.topic_survey import survey
    except ImportError as error:
        remedy = "source your ROS installation, or run 'make env'"
        detail = f"live checks need ROS: {error}"
        return [Finding("live checks", False, detail, remedy, group=GRAPH)]
    say(f"listening for {seconds:g} s")
    try:
        heard = survey(seconds, sensors, executor, domain=domain)
    except RuntimeError as error:  # what rclpy raises where the middleware does not start
        detail = f"the middleware does not start: {str(error).splitlines()[0]}"
        remedy = "see the DDS rows: RMW_IMPLEMENTATION, ROS_DOMAIN_ID, the profile"
        return [Finding("live checks", False, detail, remedy, group=GRAPH)]
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "SUBNET"
    return judge_survey(heard, sensors, executor, expected, reach)


def _config(config: Path | None) -> Path | None:
    """Return the parameter file: the one named, else the package's, which ``alt up`` takes."""
    from alt_ros.nodes import graph

    if config is not None:
        return config
    try:
        file = graph.share() / "config" / "alt.yaml"
    except AltError:
        return None
    return file if file.is_file() else None


def _set_profile() -> None:
    """Hear with the DDS profile that the nodes have, where none is set."""
    from alt_ros.nodes import graph

    try:
        name, profile = graph.dds_profile()
    except AltError:
        return
    os.environ.setdefault(name, str(profile))


def _print(findings: Sequence[Finding]) -> None:
    out = Console()
    groups = list(dict.fromkeys(finding.group for finding in findings))
    table = Table(box=None, show_header=True, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("what", max_width=24, overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("found, and the remedy", overflow="fold")
    for group in groups:
        table.add_row(f"[bold]{escape(group)}[/]" if group else "")
        for finding in (f for f in findings if f.group == group):
            said = escape(finding.detail)
            if finding.remedy:
                said += f"\n[cyan]-> {escape(finding.remedy)}[/]"
            table.add_row(f"  {escape(finding.subject)}", STATES[finding.state], said)
    out.print(table)
    count = {state: sum(f.state == state for f in findings) for state in STATES}
    out.print(f"{count['ok']} ok, {count['look']} to look at, {count['wrong']} wrong")
