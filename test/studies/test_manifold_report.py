"""The report of trainings whose samples are drawn here, so that every verdict is known."""

from dataclasses import replace

import numpy as np
import pytest

from alt_ros.studies.curves import curve
from alt_ros.studies.manifold_judgement import judge
from alt_ros.studies.manifold_report import manifold_report
from alt_ros.studies.manifold_settings import EXPECTED, FEW, LARGE, MANY, QUICK, SMALL, Cell
from alt_ros.studies.manifold_training import Generated
from alt_ros.studies.report import Interval

SETTINGS = replace(QUICK, many=3000, shapes=("star", "heart"), samples=500)


def training(cell: Cell, memorised: float):
    """Return a cell whose large network memorises a share; the small one misses."""
    generator, line = np.random.default_rng(cell.repeat), curve(cell.shape)
    points = line.draw(SETTINGS.points(cell), generator)
    samples = line.draw(SETTINGS.samples, generator)
    copied = generator.random(len(samples)) < memorised
    samples[copied] = points[generator.integers(len(points), size=int(copied.sum()))]
    if cell.size == SMALL:
        samples += generator.normal(0.0, 0.5, samples.shape)
    generated = Generated(points.astype(np.float32), samples.astype(np.float32), 0.1, 1.0)
    return generated, judge(samples, points, line, generator)


def report_of(settings, memorised):
    results = {
        cell: training(cell, memorised if cell.regime == (LARGE, FEW) else 0.0)
        for cell in settings.cells()
    }
    return manifold_report("manifold", settings, results, 3, 12.0)


def test_trainings_as_the_paper_shows_them_are_counted():
    report = report_of(SETTINGS, 1.0)
    regimes, cells = report.tables
    assert [row[2] for row in regimes.rows] == ["4 of 4"] * 4
    assert report.values["as_expected"] == {f"{size}/{amount}": 4 for size, amount in EXPECTED}
    assert [tuple(row[:3]) for row in cells.rows] == [
        (shape, size, {FEW: 20, MANY: 3000}[amount])
        for shape in ("star", "heart")
        for size, amount in EXPECTED
    ]
    assert [row[6:] for row in cells.rows] == [[said, "2 of 2"] for said in EXPECTED.values()] * 2
    assert len(report.values["trainings"]) == 16
    assert all(t["verdict"] == t["expected"] for t in report.values["trainings"])
    assert len(report.plots) == 2
    assert (report.seeds, report.seconds) == ([3], 12.0)


def test_trainings_that_are_not_so_are_not_counted():
    report = report_of(SETTINGS, 0.0)
    assert report.values["as_expected"][f"{LARGE}/{FEW}"] == 0
    assert "20 points: memorises in 0 of 4 trainings." in report.summary[2]
    share = report.tables[0].rows[2][3]
    assert isinstance(share, Interval)
    assert (share.value, share.low) == (0.0, 0.0)
    assert share.high == pytest.approx(0.49, abs=0.01)  # Wilson, 0 of 4


def test_one_training_a_cell_of_which_no_sample_is_on_the_curve_is_reported():
    settings = replace(SETTINGS, shapes=("star",), repeats=1)
    results = {cell: training(cell, 0.0) for cell in settings.cells()}
    cell = settings.cells()[0]
    away = np.full((SETTINGS.samples, 2), 5.0)
    generated = replace(results[cell][0], samples=away.astype(np.float32))
    points, line = generated.training.astype(np.float64), curve("star")
    results[cell] = generated, judge(away, points, line, np.random.default_rng(0))
    report = manifold_report("manifold", settings, results, 0, 1.0)
    assert report.tables[0].rows[0][5] is None
    on, *others = report.tables[1].rows[0][3:7]
    assert on.value == on.low == 0.0
    assert others == [None, None, "misses"]
    assert len(report.plots) == 2
