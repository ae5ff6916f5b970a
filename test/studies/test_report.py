"""The folder of a study: figures that read back, tables, and a page that needs nothing else."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

import alt_ros
from alt_ros.errors import ConfigurationError, DataError
from alt_ros.studies.report import (
    Interval,
    Plot,
    Report,
    Table,
    cell_text,
    typed_command,
    write_report,
)

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page's tags, balanced, its cells, and everything that could point outside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag in ("th", "td"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"th", "td"} & set(self.open):
            self.cells[-1] += data


def picture() -> Figure:
    figure = Figure((2.0, 1.0), dpi=50)
    figure.subplots().plot([0, 1], [0, 1])
    return figure


def report() -> Report:
    rows = [
        ["star", 28514, 0.25, Interval(0.861, 0.842, 0.88)],
        ["heart | <b>", None, 1e-7, None],
    ]
    return Report(
        name="trial",
        title="A trial & its <title>",
        summary=["It holds.", "In 8 of 8 runs."],
        tables=[Table("Runs", ["shape", "parameters", "loss", "share"], rows, "95 % intervals.")],
        plots=[Plot.of("A line", "Rises.", picture())],
        values={"runs": [1, 2], "nothing": None},
        seeds=[3, 4],
        command="alt study trial --seed 3",
        seconds=192.4,
    )


def test_the_figures_read_back_as_they_were(tmp_path):
    write_report(tmp_path, report())
    figures = json.loads((tmp_path / "tables.json").read_text())
    assert figures["tables"][0]["rows"] == [
        ["star", 28514, 0.25, {"value": 0.861, "low": 0.842, "high": 0.88}],
        ["heart | <b>", None, 1e-7, None],
    ]
    assert figures["runs"] == [1, 2]
    assert figures["nothing"] is None
    assert figures["made"]["seeds"] == [3, 4]
    assert figures["made"]["versions"]["alt_ros"] == alt_ros.__version__
    assert figures["made"]["versions"]["numpy"] == np.__version__
    assert "cores" in figures["made"]["machine"]


def test_the_page_shows_every_cell_and_how_it_was_made(tmp_path):
    path = write_report(tmp_path, report())
    assert path == tmp_path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert page.cells == [
        *("shape", "parameters", "loss", "share"),
        *("star", "28,514", "0.250", "0.861 [0.842, 0.880]"),
        *("heart | <b>", "", "1.00e-07", ""),
    ]
    for said in ("A trial & its <title>", "In 8 of 8 runs.", "alt study trial --seed 3", "3, 4"):
        assert said in page.text
    assert "3 min 12 s" in page.text
    assert f"numpy {np.__version__}" in page.text


def test_the_page_holds_its_pictures_and_points_nowhere(tmp_path):
    text = write_report(tmp_path, report()).read_text(encoding="utf-8")
    (source,) = Page(text).sources
    kind, data = source.split(",", 1)
    assert kind == "data:image/png;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as shown:
        assert shown.size == (100, 50)
    assert not re.search(r"https?:|//|@import|url\(|<script", text.replace(data, ""))
    assert "default-src 'none'" in text


def test_the_page_follows_the_reader_s_colours_and_screen(tmp_path):
    text = write_report(tmp_path, report()).read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert re.search(r"\.wide \{ overflow-x: auto", text)
    assert '<div class="wide"><table>' in text


def test_the_markdown_tables_keep_their_columns(tmp_path):
    write_report(tmp_path, report())
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines == [
        "| shape | parameters | loss | share |",
        "| --- | --: | --: | --: |",
        "| star | 28,514 | 0.250 | 0.861 [0.842, 0.880] |",
        "| heart \\| <b> |  | 1.00e-07 |  |",
    ]
    assert text.startswith("# A trial & its <title>\n\nIt holds.\n\n")
    assert "- Command: alt study trial --seed 3\n" in text


def test_a_second_report_replaces_the_first_and_leaves_other_files(tmp_path):
    (tmp_path / "kept.npz").touch()
    write_report(tmp_path, report())
    write_report(tmp_path, replace(report(), title="Again"))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"kept.npz", "tables.json", "report.md", "report.html"}
    for name in names - {"kept.npz"}:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "Again" in text
        assert "A trial" not in text


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="'.*/file/tables.json' cannot be written"):
        write_report(tmp_path / "file", report())


def test_a_page_that_cannot_be_replaced_is_named(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(DataError, match="'.*/report.html' cannot be written"):
        write_report(tmp_path, report())


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, ""),
        (True, "yes"),
        (0, "0"),
        (-1234567, "-1,234,567"),
        (0.0, "0.00"),
        (0.5, "0.500"),
        (12.345, "12.3"),
        (123456.7, "123,457"),
        (-0.00123456, "-0.00123"),
        (1.5e9, "1.50e+09"),
        (Interval(0.5, 0.0, 1.0), "0.50 [0.00, 1.00]"),
        (Interval(0.0, 0.0, 0.0), "0.00 [0.00, 0.00]"),
        (Interval(-0.03, -0.0301, 0.001), "-0.0300 [-0.0301, 0.0010]"),
    ],
)
def test_cells_are_shown_with_equal_care(cell, text):
    assert cell_text(cell) == text


@given(st.floats(-1e12, 1e12, allow_subnormal=False))
def test_a_shown_number_is_the_number_to_three_digits(number):
    assert float(cell_text(number).replace(",", "")) == pytest.approx(number, rel=5.1e-3)


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_any_text_stays_text_on_the_page(tmp_path_factory, text):
    table = Table("t", [text], [[text]])
    shown = replace(report(), tables=[table], summary=[text])
    folder = tmp_path_factory.mktemp("page")
    page = Page(write_report(folder, shown).read_text(encoding="utf-8"))
    assert page.open == []
    assert page.cells == [text, text]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ConfigurationError, match="row 1: 2 cells are needed, got 1"):
        Table("runs", ["a", "b"], [[1, 2], [1]])


@pytest.mark.parametrize("cell", [float("nan"), float("inf"), np.int64(3), [1], b"x"])
def test_a_cell_that_is_no_figure_is_refused(cell):
    with pytest.raises(ConfigurationError, match="'runs', row 0: .* or None is needed"):
        Table("runs", ["a"], [[cell]])


@pytest.mark.parametrize("numbers", [(0.5, 0.6, 0.7), (0.5, 0.4, 0.45), (float("nan"), 0.0, 1.0)])
def test_an_interval_holds_its_value(numbers):
    with pytest.raises(ConfigurationError, match="the value between its bounds"):
        Interval(*numbers)


def test_a_table_without_columns_is_refused():
    with pytest.raises(ConfigurationError, match="got 0 columns"):
        Table("runs", [], [])


def test_bytes_that_are_no_png_are_refused():
    with pytest.raises(ConfigurationError, match="the bytes of a PNG file are needed"):
        Plot("plot", "", b"<svg>")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": {"tables": 1}}, "values must not be named made, name, summary, tables, title"),
        ({"values": {"a": float("nan")}}, "values in JSON's types"),
        ({"values": {"a": np.zeros(2)}}, "values in JSON's types"),
        ({"summary": []}, "got 'A trial & its <title>' and 0 sentences"),
        ({"seconds": -1.0}, "a time of at least 0 s is needed, got -1.0"),
    ],
)
def test_a_report_that_says_nothing_or_cannot_be_kept_is_refused(change, words):
    with pytest.raises(ConfigurationError, match=words):
        replace(report(), **change)


def test_the_command_is_told_as_one_would_type_it(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/alt", "study", "manifold", "--out", "a b"])
    assert typed_command() == "alt study manifold --out 'a b'"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (59.99, "60.0 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")],
)
def test_the_wall_time_is_told_in_plain_units(tmp_path, seconds, text):
    write_report(tmp_path, replace(report(), seconds=seconds))
    assert f"- Wall time of this run: {text}\n" in (tmp_path / "report.md").read_text()
