from dataclasses import replace

import pytest

from alt_ros.errors import ConfigurationError
from alt_ros.studies import manifold
from alt_ros.studies.manifold import run_manifold
from alt_ros.studies.manifold_settings import QUICK
from alt_ros.studies.report import write_report

TINY = replace(
    QUICK,
    small=replace(QUICK.small, steps=20),
    large=replace(QUICK.large, width=16, steps=30),
    many=50,
    shapes=("star", "heart"),
    samples=40,
)


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setattr("alt_ros.studies.parallel._cores", lambda: 1)  # starts no process


@pytest.mark.parametrize("quick", [True, False])
def test_the_study_reports_every_training_and_keeps_only_a_full_one(tmp_path, monkeypatch, quick):
    monkeypatch.setattr(manifold, "QUICK" if quick else "FULL", TINY)
    done = []
    report = run_manifold(
        tmp_path, quick=quick, seed=2, device="cpu", progress=lambda *now: done.append(now)
    )
    assert len(list(tmp_path.glob("*.npz"))) == (0 if quick else 16)
    assert [(t["shape"], t["repeat"]) for t in report.values["trainings"][::4]] == [
        ("star", 0),
        ("star", 1),
        ("heart", 0),
        ("heart", 1),
    ]
    assert report.seeds == [2]
    assert report.name == ("manifold, quick" if quick else "manifold")
    assert done[-1] == (400, 400)
    write_report(tmp_path, report)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_device_is_chosen_where_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(manifold, "QUICK", replace(TINY, shapes=("star",), repeats=1))
    report = run_manifold(tmp_path, quick=True, seed=0, device="auto")  # as alt study says it
    assert len(report.values["trainings"]) == 4


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_refused_in_one_line(tmp_path, device):
    with pytest.raises(ConfigurationError, match=f"got '{device}'.*: try 'cpu'$"):
        run_manifold(tmp_path, quick=True, seed=0, device=device)


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="a number of at least 0 is needed, got -1"):
        run_manifold(tmp_path, quick=True, seed=-1, device="cpu")
