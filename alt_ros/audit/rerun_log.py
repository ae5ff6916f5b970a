"""A run as a Rerun recording: its pictures, figures and words on one timeline, in seconds.

Entities, below the run's name where it has one:

- ``live/VIEW``, ``recalled/VIEW``: pictures as JPEG, of the kept frames.
- ``similarity``, ``level/score``, ``level/threshold``, ``flag``: at every decision.
- ``state``, ``findings``: text.
- ``path/NAME``: the whole line of positions; ``hand/NAME``: where it is now. Metres, base frame.

``rerun-sdk`` is optional: it is loaded when a recording is written.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alt_ros.audit.bag_topics import find_topics
from alt_ros.audit.live_frames import MOST
from alt_ros.audit.page import Frames
from alt_ros.bags.contents import read_contents, read_parts
from alt_ros.errors import DataError, DependencyError
from alt_ros.messages import pose_of, transforms_of
from alt_ros.transforms import TransformChain
from alt_ros.types import NANOSECONDS

if TYPE_CHECKING:
    from alt_ros.audit.bag_audit import AuditConfig

Array = NDArray[np.float64]

APPLICATION, TIMELINE = "alt_ros", "time"
MEASURED, COMMANDED, CUP = "measured", "commanded", "cup"
COLORS = {MEASURED: (60, 140, 230), COMMANDED: (230, 130, 40), CUP: (120, 170, 60)}
INFO, WARN, ERROR = "INFO", "WARN", "ERROR"
STATE_LEVELS = {"fault": ERROR} | dict.fromkeys(
    ("stopped", "holding", "returning", "fallback"), WARN
)
FINDING_LEVELS = {"error": ERROR, "warning": WARN, "note": INFO}
POINT_RADIUS, LINE_RADIUS = 0.01, 0.002


@dataclass(frozen=True)
class Said:
    """A line of text: seconds from the start, ``INFO``, ``WARN`` or ``ERROR``."""

    t: float
    text: str
    level: str = INFO


@dataclass(frozen=True, eq=False)
class Path3D:
    """Positions over time.

    Attributes:
        t: (n,) seconds from the start.
        positions: (n, 3), metres.
    """

    t: Array
    positions: Array


@dataclass(frozen=True, eq=False)
class Run:
    """What is shown of one run.

    Attributes:
        name: First part of its entities' paths; empty where the recording holds nothing else.
        views: Names of the views, in the order of the pictures.
        decisions: Columns ``t``, ``similarity``, ``score``, ``threshold``, ``flag``,
            ``demonstration`` and ``frame``, as an audit has them.
        frames: The pictures.
        states: What the executor did.
        findings: What went wrong.
        paths: Name to positions.
    """

    name: str
    views: Sequence[str]
    decisions: Mapping[str, Sequence[Any]]
    frames: Frames
    states: Sequence[Said] = ()
    findings: Sequence[Said] = ()
    paths: Mapping[str, Path3D] = field(default_factory=dict[str, Path3D])


def require_rerun() -> Any:
    """Return the module ``rerun``.

    Raises:
        DependencyError: It is not installed.
    """
    try:
        return importlib.import_module("rerun")
    except ImportError as error:
        raise DependencyError(
            "--rerun needs the Python package 'rerun-sdk', which is not installed: "
            "pip install rerun-sdk"
        ) from error


def run_of_audit(
    values: Mapping[str, Any], frames: Frames, paths: Mapping[str, Path3D], name: str = ""
) -> Run:
    """Return what is shown of an audit.

    Args:
        values: The audit's, what ``write_page`` takes.
        frames: Its pictures.
        paths: See ``paths_in_bag``.
        name: See ``Run``.
    """
    states = [
        Said(s["t"], f"{s['state']}: {s['reason']}", STATE_LEVELS.get(s["state"], INFO))
        for s in values["states"]
    ]
    findings = [
        Said(f["start"], f"{f['kind']}: {f['text']}", FINDING_LEVELS[f["severity"]])
        for f in sorted(values["findings"], key=lambda finding: finding["start"])
    ]
    return Run(name, values["views"], values["decisions"], frames, states, findings, paths)


def paths_in_bag(bag: Path, config: AuditConfig, first: int) -> dict[str, Path3D]:
    """Return where the arm was measured and where it was sent, as far as the bag can be read.

    Args:
        bag: Bag folder or file.
        config: How it is read.
        first: Log time that counts as the start, ns.

    Raises:
        DataError: Nothing of the bag can be read.
    """
    contents = read_contents(bag)
    found = find_topics(config.topics, contents.types)
    topics = found.topics
    chain: TransformChain | None = None
    if topics.pose_source == "tf":
        bracket = config.matching.max_bracket
        chain = TransformChain(topics.base_frame, topics.eef_frame, bracket)
    names = {"pose": MEASURED, "target_pose": COMMANDED}
    chosen = {topic: names[what] for topic, (_, what) in found.roles.items() if what in names}
    rows: dict[str, list[tuple[int, Array]]] = {name: [] for name in names.values()}
    for read in read_parts(contents, list(chosen)) if chosen else ():
        if isinstance(read, DataError):
            continue  # a damaged end: the audit tells of it
        topic, at, message = read
        if chain is None or chosen[topic] == COMMANDED:
            rows[chosen[topic]].append((at, pose_of(message.pose)))
            continue
        for link in transforms_of(message):
            poses = chain.add(*link, is_static=topic == topics.tf_static)
            rows[MEASURED] += [(at, pose) for _, pose in poses]
    paths: dict[str, Path3D] = {}
    for name, poses in rows.items():
        if poses:
            t = np.array([(at - first) / NANOSECONDS for at, _ in poses])
            paths[name] = _finite(t, np.array([pose[:3] for _, pose in poses]))
    return paths


def write_recording(path: Path, runs: Sequence[Run]) -> None:
    """Write runs as one Rerun recording, whole or not at all.

    Args:
        path: The file, .rrd; its folder is made if it is not there.
        runs: With different names where there is more than one.

    Raises:
        DependencyError: ``rerun-sdk`` is not installed.
        DataError: The file cannot be written.
    """
    rr = require_rerun()
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        recording = rr.RecordingStream(APPLICATION, send_properties=False)
        with recording:
            recording.save(partial, default_blueprint=_blueprint(runs))
            recording.send_recording_name(path.stem)
            for run in runs:
                _Entities(rr, recording, run.name).send(run)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            partial.unlink()
        raise DataError(
            f"'{path}' cannot be written: {error}: name a file in a folder that can be written "
            "to, and unset RERUN where it is 'off'"
        ) from error


class _Entities:
    """Sends one run's columns."""

    def __init__(self, rr: Any, recording: Any, name: str) -> None:
        self._rr, self._recording, self._name = rr, recording, name

    def send(self, run: Run) -> None:
        decisions, rr = run.decisions, self._rr
        t = np.array(decisions["t"], np.float64)
        for entity, column in (
            ("similarity", "similarity"),
            ("level/score", "score"),
            ("level/threshold", "threshold"),
            ("flag", "flag"),
        ):
            values = np.array(decisions[column], np.float64)  # None becomes NaN: a gap
            self._columns(entity, t, rr.Scalars.columns(scalars=values))
        self._pictures("live", run.views, run.frames.live_t, run.frames.live)
        self._pictures("recalled", run.views, *_recalled(run))
        self._text("state", run.states)
        self._text("findings", run.findings)
        for name, line in run.paths.items():
            color = COLORS.get(name, (160, 160, 160))
            points = rr.Points3D.columns(positions=line.positions)
            look = rr.Points3D.from_fields(colors=[color], radii=[POINT_RADIUS])
            self._columns(f"hand/{name}", line.t, points)
            self._recording.log(self._path(f"hand/{name}"), look, static=True, strict=True)
            strip = rr.LineStrips3D([line.positions], colors=[color], radii=[LINE_RADIUS])
            self._recording.log(self._path(f"path/{name}"), strip, static=True, strict=True)

    def _path(self, entity: str) -> str:
        return f"{self._name}/{entity}" if self._name else entity

    def _columns(self, entity: str, t: Array, columns: Any) -> None:
        if len(t):
            times = np.round(t * NANOSECONDS).astype("timedelta64[ns]")
            time = self._rr.TimeColumn(TIMELINE, duration=times)
            self._recording.send_columns(self._path(entity), [time], columns, strict=True)

    def _pictures(
        self, kind: str, views: Sequence[str], t: Sequence[float], pictures: Iterable[Any]
    ) -> None:
        shown = list(zip(t, pictures, strict=True))
        for number, view in enumerate(views):
            there = [(at, files[number]) for at, files in shown if files[number]]
            types = ["image/jpeg"] * len(there)
            blobs = self._rr.EncodedImage.columns(
                blob=[picture for _, picture in there], media_type=types
            )
            self._columns(f"{kind}/{view}", np.array([at for at, _ in there]), blobs)

    def _text(self, entity: str, lines: Sequence[Said]) -> None:
        texts, levels = [line.text for line in lines], [line.level for line in lines]
        columns = self._rr.TextLog.columns(text=texts, level=levels)
        self._columns(entity, np.array([line.t for line in lines]), columns)


def _recalled(run: Run) -> tuple[list[float], list[Sequence[bytes]]]:
    """Return times and pictures of what was recalled, for at most ``MOST`` of the decisions.

    Where a frame has no picture, the nearest of its demonstration is taken, as on the page.
    """
    kept: dict[int, list[int]] = {}
    for demonstration, frame in sorted(run.frames.recalled):
        kept.setdefault(demonstration, []).append(frame)
    columns = (run.decisions[name] for name in ("t", "demonstration", "frame"))
    rows = list(zip(*columns, strict=True))
    times: list[float] = []
    pictures: list[Sequence[bytes]] = []
    for t, demonstration, frame in rows[:: max(1, -(-len(rows) // MOST))]:
        if demonstration in kept:
            nearest = min(kept[demonstration], key=lambda other: abs(other - frame))
            times.append(t)
            pictures.append(run.frames.recalled[demonstration, nearest])
    return times, pictures


def _finite(t: Array, positions: Array) -> Path3D:
    finite = np.isfinite(positions).all(axis=1)
    return Path3D(t[finite], positions[finite])


def _blueprint(runs: Sequence[Run]) -> Any:
    """Return how the viewer lays a recording out when it opens it: a tab for each run."""
    rrb = importlib.import_module("rerun.blueprint")
    tabs: list[Any] = []
    for run in runs:
        root = f"/{run.name}" if run.name else "/"
        inside = root.rstrip("/")
        pictures = [
            rrb.Spatial2DView(origin=f"{inside}/{kind}/{view}", name=f"{kind} {view}")
            for kind in ("live", "recalled")
            for view in run.views
        ]
        scene = rrb.Spatial3DView(
            origin=root, name="arm", contents=[f"{inside}/path/**", f"{inside}/hand/**"]
        )
        plots = [
            rrb.TimeSeriesView(origin=f"{inside}/{entity}", name=entity)
            for entity in ("similarity", "level", "flag")
        ]
        words = [
            rrb.TextLogView(origin=f"{inside}/{entity}", name=entity)
            for entity in ("state", "findings")
        ]
        left = rrb.Vertical(rrb.Grid(*pictures), scene)
        columns = rrb.Horizontal(left, rrb.Vertical(*plots, *words), name=run.name or "run")
        tabs.append(columns)
    return rrb.Blueprint(*tabs) if len(tabs) == 1 else rrb.Blueprint(rrb.Tabs(*tabs))
