"""The page of an audit: one HTML file that opens from disk and needs no network.

``page.html`` is the skeleton, ``page.css`` its style; ``page_data.js``, ``page_timeline.js``,
``page_chart.js``, ``page_moment.js`` and ``page.js`` run in one scope, in this order. Columns of
numbers travel as the base64 of little-endian arrays: an hour of commands takes 12 MB. The
policy in the head allows this one script, by its hash, and no address but ``data:``; text from the
bag is only ever shown as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from alt_ros.errors import DataError

HERE = Path(__file__).parent
SCRIPTS = ("page_data.js", "page_timeline.js", "page_chart.js", "page_moment.js", "page.js")
"""In the order in which they run."""
JPEG = b"\xff\xd8"
"""What a JPEG file begins with."""
MISSING = -1
"""An integer that is not known; a number that is not known is NaN."""

TIME, REAL, LONG, SHORT, BIT = "<f8", "<f4", "<i4", "<i2", "<u1"
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "decisions": {
        "t": TIME,
        "similarity": REAL,
        "score": REAL,
        "threshold": REAL,
        "flag": BIT,
        "demonstration": LONG,
        "frame": LONG,
        "cause": SHORT,
        "view": SHORT,
    },
    "commands": {
        "t": TIME,
        "linear_speed": REAL,
        "angular_speed": REAL,
        "linear_acceleration": REAL,
        "angular_acceleration": REAL,
    },
    "chunks": {"t": TIME, "distance_mm": REAL, "demonstration": LONG, "copied": BIT},
    "seams": {"t": TIME, "velocity_step": REAL, "acceleration_step": REAL},
}
"""The tables of an audit that travel as arrays, and each column's type."""
PLAIN = (
    "bag",
    "bundle",
    "policy",
    "recorded",
    "seconds",
    "command",
    "findings",
    "summary",
    "demonstrations",
    "causes",
    "views",
    "jumps",
    "states",
    "limits",
    "violations",
    "parity",
)
"""What travels as it is."""


@dataclass(frozen=True)
class Frames:
    """The pictures of an audit, as JPEG files.

    Attributes:
        live_t: When the kept live frames were taken, seconds from the bag's first stamp, rising.
        live: For each of them a picture of every view, in the order of the audit's ``views``;
            empty bytes where there is none.
        recalled: The same for (demonstration, frame). Where a frame is absent, the nearest kept
            one of its demonstration is shown.
    """

    live_t: Sequence[float]
    live: Sequence[Sequence[bytes]]
    recalled: Mapping[tuple[int, int], Sequence[bytes]]

    def __post_init__(self) -> None:
        if len(self.live_t) != len(self.live):
            raise DataError(
                f"frames: a time for each live frame is needed, got {len(self.live_t)} times for "
                f"{len(self.live)} frames: give one of each"
            )
        for pictures in (*self.live, *self.recalled.values()):
            for picture in pictures:
                if picture and not picture.startswith(JPEG):
                    raise DataError(
                        f"frames: the bytes of JPEG files are needed, got {picture[:8]!r}: "
                        "encode the pictures, and give empty bytes where there is none"
                    )


def write_page(path: Path, audit: Mapping[str, Any], frames: Frames) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The file; its folder is made if it is not there.
        audit: What the audit found, in JSON's types: ``bag``, ``findings``, ``decisions`` and the
            other keys of ``PLAIN`` and ``COLUMNS``, ``latency`` and ``pairing``. Times are seconds
            from the bag's first stamp. None is a number that is not known.
        frames: The pictures.

    Raises:
        DataError: A key is missing, columns differ in length, times fall, a number is not finite
            where it must be, a frame lacks a view, or the file cannot be written.
    """
    views = len(_entry(audit, "views"))
    for pictures in (*frames.live, *frames.recalled.values()):
        if len(pictures) != views:
            raise DataError(
                f"frames: a picture for each of the {views} views is needed, got {len(pictures)}: "
                "give empty bytes where there is none"
            )
    script = "".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    page = (HERE / "page.html").read_text(encoding="utf-8")
    parts = {
        "title": escape(f"Audit of {_entry(audit, 'bag')}"),
        "digest": digest,
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "audit": _embedded(_compact(audit)),
        "frames": _embedded(_compact_frames(frames)),
        "script": script,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(page.format(**parts), encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error}") from error


def _entry(audit: Mapping[str, Any], *keys: str) -> Any:
    value: Any = audit
    for key in keys:
        if key not in value:
            raise DataError(
                f"audit: the key '{'.'.join(keys)}' is needed, got {', '.join(sorted(value))}: "
                "give an empty list where nothing was recorded"
            )
        value = value[key]
    return value


def _compact(audit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the audit with its columns as arrays in base64."""
    compact = {key: _entry(audit, key) for key in PLAIN}
    for name, types in COLUMNS.items():
        table = _entry(audit, name)
        if not isinstance(table, Mapping):  # seams are told one by one
            table = {key: [row[key] for row in table] for key in types}
        compact[name] = _table(table, types, name)

    latency = _entry(audit, "latency")
    stages = len(_entry(audit, "latency", "stages"))
    times, rows = _entry(audit, "latency", "t"), _entry(audit, "latency", "ms")
    if {len(row) for row in rows} - {stages} or len(rows) != len(times):
        raise DataError(
            f"audit, latency: {len(times)} rows of {stages} stages are needed, got {len(rows)} "
            f"rows of {sorted({len(row) for row in rows})}: fill unknown ones with None"
        )
    columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * stages
    compact["latency"] = {
        **latency,
        "t": _times(times, "latency"),
        "ms": [_array(column, REAL) for column in columns],
    }

    pairing = _entry(audit, "pairing")
    intervals = _entry(audit, "pairing", "intervals")
    compact["pairing"] = {
        **_table(pairing, {"t": TIME, "skew_ms": REAL}, "pairing"),
        "drops": _entry(audit, "pairing", "drops"),
        "intervals": {
            view: _table(interval, {"t": TIME, "ms": REAL}, f"intervals of {view}")
            for view, interval in intervals.items()
        },
    }
    return compact


def _compact_frames(frames: Frames) -> dict[str, Any]:
    return {
        "live": {
            "t": _times(frames.live_t, "frames"),
            "pictures": [_pictures(pictures) for pictures in frames.live],
        },
        "recalled": [
            {"demonstration": demonstration, "frame": frame, "pictures": _pictures(pictures)}
            for (demonstration, frame), pictures in sorted(frames.recalled.items())
        ],
    }


def _pictures(pictures: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(picture).decode("ascii") for picture in pictures]


def _table(table: Mapping[str, Any], types: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return columns as arrays; one that is empty where there are times is left empty."""
    times = _entry(table, "t")
    columns = {key: _entry(table, key) for key in types if key != "t"}
    for key, column in columns.items():
        if len(column) not in (0, len(times)):
            raise DataError(
                f"audit, {name}: {len(times)} values of '{key}' are needed, one for each time, "
                f"got {len(column)}: fill unknown ones with None"
            )
    return {
        "t": _times(times, name),
        **{key: _array(column, types[key]) for key, column in columns.items()},
    }


def _times(times: Sequence[float], name: str) -> dict[str, str]:
    array = np.array(times, dtype=float)
    if not np.isfinite(array).all() or (np.diff(array) < 0.0).any():
        raise DataError(
            f"audit, {name}: finite times that do not fall are needed, got others: sort them"
        )
    return _array(array, TIME)


def _array(values: Sequence[Any] | np.ndarray, dtype: str) -> dict[str, str]:
    """Return values as the base64 of a little-endian array, None as NaN or MISSING."""
    array = np.array(values, dtype=float)
    if dtype not in (TIME, REAL):
        array = np.where(np.isnan(array), 0 if dtype == BIT else MISSING, array)
    with np.errstate(over="ignore"):  # a threshold beyond any score becomes infinite
        data = array.astype(dtype).tobytes()
    return {"dtype": dtype[1:], "base64": base64.b64encode(data).decode("ascii")}


def _embedded(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"audit: finite numbers in JSON's types are needed, got others ({error}): give None "
            "for what is not known"
        ) from error
