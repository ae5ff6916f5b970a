"""The folder that a study leaves: its figures, its tables to read and one page that shows all.

``tables.json`` holds the figures, ``report.md`` the tables, ``report.html`` everything in one file
that needs no network: style, plots and how it was made are inside.
"""

from __future__ import annotations

import base64
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alt_ros
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.report import machine, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIBRARIES = ("numpy", "scipy", "torch", "diffusers", "matplotlib")
"""Whose versions are told, where they are installed."""
OWN_KEYS = {"name", "title", "summary", "tables", "made"}
"""What ``tables.json`` holds beside a study's own values."""
SIGNIFICANT = 3
"""Digits of a number that is not whole."""
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Interval:
    """An estimate between its bounds.

    Attributes:
        value: The estimate.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (self.value, self.low, self.high)
        if not all(map(math.isfinite, numbers)) or not self.low <= self.value <= self.high:
            raise ConfigurationError(
                "interval: finite numbers are needed, the value between its bounds, got "
                f"{self.value} in [{self.low}, {self.high}]: leave out what is not known"
            )

    def to_json(self) -> dict[str, float]:
        """Return the three numbers by their names."""
        return {"value": self.value, "low": self.low, "high": self.high}


Cell = str | int | float | Interval | None
"""What a table shows; None is an empty cell, a bool is yes or no."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: What it is about.
        columns: Their names.
        rows: Cells of each row, one for each column.
        note: How to read it; may be empty.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        if not self.title or not self.columns:
            raise ConfigurationError(
                f"table '{self.title}': a title and a column are needed, got "
                f"{len(self.columns)} columns: name them"
            )
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ConfigurationError(
                    f"table '{self.title}', row {number}: {len(self.columns)} cells are needed, "
                    f"got {len(row)}: fill the unknown ones with None"
                )
            for cell in row:
                _check_cell(cell, f"table '{self.title}', row {number}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [
                [c.to_json() if isinstance(c, Interval) else c for c in r] for r in self.rows
            ],
            "note": self.note,
        }


@dataclass(frozen=True)
class Plot:
    """A picture.

    Attributes:
        title: What it shows.
        caption: How to read it.
        png: The picture as a PNG file's bytes.
    """

    title: str
    caption: str
    png: bytes

    def __post_init__(self) -> None:
        if not self.png.startswith(PNG):
            raise ConfigurationError(
                f"plot '{self.title}': the bytes of a PNG file are needed, got "
                f"{self.png[:8]!r}: Plot.of draws a figure"
            )

    @classmethod
    def of(cls, title: str, caption: str, figure: Figure) -> Plot:
        """Return the plot of a matplotlib figure, at the figure's own resolution."""
        png = BytesIO()
        figure.savefig(png, format="png")
        return cls(title, caption, png.getvalue())


@dataclass(frozen=True)
class Report:
    """What a study found and how.

    Attributes:
        name: What the command calls it.
        title: The heading.
        summary: Sentences, the finding first.
        tables: In the order in which they are read.
        plots: The same.
        values: Figures for other programs, in JSON's types; they stand at the top of
            ``tables.json``.
        seeds: Every seed that the study was run with.
        command: What was typed.
        seconds: Wall time, of this run alone where the folder held what earlier runs did.
    """

    name: str
    title: str
    summary: Sequence[str]
    tables: Sequence[Table]
    plots: Sequence[Plot]
    values: Mapping[str, Any]
    seeds: Sequence[int]
    command: str
    seconds: float

    def __post_init__(self) -> None:
        if not self.name or not self.title or not self.summary:
            raise ConfigurationError(
                f"report '{self.name}': a name, a title and a summary are needed, got "
                f"'{self.title}' and {len(self.summary)} sentences: say what was found"
            )
        if not math.isfinite(self.seconds) or self.seconds < 0.0:
            raise ConfigurationError(
                f"report '{self.name}': a time of at least 0 s is needed, got {self.seconds}"
            )
        if OWN_KEYS & set(self.values):
            raise ConfigurationError(
                f"report '{self.name}': values must not be named {', '.join(sorted(OWN_KEYS))}, "
                f"got {sorted(OWN_KEYS & set(self.values))}: choose other names"
            )
        try:
            json.dumps(self.values, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"report '{self.name}': values in JSON's types are needed, got others "
                f"({error}): convert arrays to lists and leave out what is not finite"
            ) from error


def typed_command() -> str:
    """Return the command line of this process, as one would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def cell_text(cell: Cell) -> str:
    """Return a cell as it is shown.

    Whole numbers get thousands separators, others three significant digits, very large and very
    small ones a power of ten. The numbers of an interval have equally many decimals.
    """
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, Interval):
        shape = _format_of(max(abs(cell.low), abs(cell.high)))
        return f"{cell.value:{shape}} [{cell.low:{shape}}, {cell.high:{shape}}]"
    return f"{cell:{_format_of(cell)}}"


def write_report(folder: Path, report: Report) -> Path:
    """Write ``tables.json``, ``report.md`` and ``report.html``, each whole or not at all.

    Args:
        folder: Where; made if it is not there. Other files in it are left.
        report: What is written.

    Returns:
        The page.

    Raises:
        DataError: A file cannot be written.
    """
    here, versions = machine(), _versions()
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    made = {
        "command": report.command,
        "seeds": list(report.seeds),
        "machine": here,
        "versions": versions,
        "date": date,
        "seconds": round(report.seconds, 1),
    }
    told = {
        "Command": report.command,
        "Seeds": ", ".join(map(str, report.seeds)),
        "Machine": f"{here['processor']}, {here['cores']} cores, load {here['load_1min']}",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Date": date,
        "Wall time of this run": _time_text(report.seconds),
    }
    figures = {
        **report.values,
        "name": report.name,
        "title": report.title,
        "summary": list(report.summary),
        "tables": [table.to_json() for table in report.tables],
        "made": made,
    }
    page = folder / "report.html"
    write_json(folder / "tables.json", figures)
    _write_text(folder / "report.md", _markdown(report, told))
    _write_text(page, _html(report, told))
    return page


def _check_cell(cell: object, subject: str) -> None:
    known = cell is None or isinstance(cell, str | int | float | Interval)
    if not known or (isinstance(cell, float) and not math.isfinite(cell)):
        raise ConfigurationError(
            f"{subject}: text, a finite Python number, an Interval or None is needed, got "
            f"{cell!r}: convert it, or leave the cell empty with None"
        )


def _format_of(number: float) -> str:
    """Return the format that shows a number with SIGNIFICANT digits."""
    size = abs(number)
    if size == 0.0:
        return f".{SIGNIFICANT - 1}f"
    power = math.floor(math.log10(size))
    if not -4 <= power < 6:
        return f".{SIGNIFICANT - 1}e"
    return f",.{max(SIGNIFICANT - 1 - power, 0)}f"


def _time_text(seconds: float) -> str:
    if seconds < 60.0:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _versions() -> dict[str, str]:
    found = {"alt_ros": alt_ros.__version__, "python": machine()["python"]}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _write_text(path: Path, text: str) -> None:
    try:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error}") from error


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float | Interval) and not isinstance(cell, bool)


def _numeric(table: Table) -> list[bool]:
    """Return for each column whether its cells are numbers, the empty ones aside."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    full = [[cell for cell in column if cell is not None] for column in columns]
    return [bool(column) and all(map(_is_number, column)) for column in full]


def _markdown(report: Report, told: dict[str, str]) -> str:
    parts = [f"# {report.title}", *report.summary]
    for table in report.tables:
        rule = ["--:" if numeric else "---" for numeric in _numeric(table)]
        rows = [[_markdown_text(cell_text(cell)) for cell in row] for row in table.rows]
        lines = [list(map(_markdown_text, table.columns)), rule, *rows]
        parts += [f"## {table.title}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        parts += [table.note] if table.note else []
    if report.plots:
        titles = "; ".join(plot.title for plot in report.plots)
        parts += ["## Plots", f"In [report.html](report.html): {titles}."]
    parts += ["## How it was made", "\n".join(f"- {k}: {v}" for k, v in told.items())]
    return "\n\n".join(parts) + "\n"


def _markdown_text(text: str) -> str:
    """Return text that stays in its cell."""
    return " ".join(text.replace("|", "\\|").split())


def _html(report: Report, told: dict[str, str]) -> str:
    body = [f"<h1>{escape(report.title)}</h1>"]
    body += [f'<p class="summary">{escape(sentence)}</p>' for sentence in report.summary]
    body += [_html_table(table) for table in report.tables]
    body += [_html_plot(plot) for plot in report.plots]
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in told.items())
    body.append(f"<section><h2>How it was made</h2><dl>{facts}</dl></section>")
    return PAGE.format(title=escape(report.title), style=STYLE, body="\n".join(body))


def _html_table(table: Table) -> str:
    kinds = [' class="number"' if numeric else "" for numeric in _numeric(table)]
    head = _html_row("th", kinds, map(escape, table.columns))
    rows = [_html_row("td", kinds, map(_html_cell, row)) for row in table.rows]
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<section><h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n'
        f"<thead>{head}</thead>\n<tbody>\n" + "\n".join(rows) + f"\n</tbody></table></div>"
        f"\n{note}</section>"
    )


def _html_row(tag: str, kinds: Sequence[str], cells: Any) -> str:
    parts = [f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)]
    return f"<tr>{''.join(parts)}</tr>"


def _html_cell(cell: Cell) -> str:
    text = escape(cell_text(cell))
    if isinstance(cell, Interval):
        value, bounds = text.split(" ", 1)
        return f'{value} <span class="bounds">{bounds}</span>'
    return text


def _html_plot(plot: Plot) -> str:
    data = base64.b64encode(plot.png).decode("ascii")
    return (
        f"<section><h2>{escape(plot.title)}</h2>\n<figure>"
        f'<img alt="{escape(plot.title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure></section>"
    )


# The policy in the head makes the browser itself refuse anything from outside.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #57606a; --line: #d8dee4;
  --page: #ffffff; --head: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ee; --soft: #9aa5b1; --line: #363d46; --page: #14181d; --head: #1f252c; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; }
p { margin: 0 0 0.5rem; max-width: 46rem; }
.note, figcaption { color: var(--soft); font-size: 0.9rem; max-width: 46rem; }
.note { margin-top: 0.6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.8rem 0.3rem 0.3rem; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; }
th { background: var(--head); font-weight: 600; vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { white-space: normal; }
.bounds { color: var(--soft); font-size: 0.85em; }
figure { margin: 0; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
figcaption { margin-top: 0.5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1rem; margin: 0;
  font-size: 0.9rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 36rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.5rem; } }
"""
