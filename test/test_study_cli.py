import json

import pytest

from alt_ros.cli import main


def alt(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["alt", *map(str, arguments)])
    status = main()
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("flags", [(), ("--quick", "--full")])
def test_how_much_is_to_be_done_must_be_said(tmp_path, monkeypatch, capsys, flags):
    status, _, error = alt(monkeypatch, capsys, "study", "lqr", *flags, "--out", tmp_path / "lqr")
    assert status == 2
    assert error == "alt: study 'lqr': say either --quick or --full\n"
    assert not (tmp_path / "lqr").exists()


def test_a_study_writes_its_figures_and_says_what_it_found(tmp_path, monkeypatch, capsys):
    from alt_ros.studies import lqr

    monkeypatch.setattr(lqr, "QUICK", lqr.LqrSettings((1,), 5, 10, 1))
    status, said, error = alt(
        *(monkeypatch, capsys, "study", "lqr", "--quick", "--out", tmp_path / "lqr"),
        *("--device", "cpu", "--seed", "3"),
    )
    assert status == 0
    assert said.startswith("Not every policy is within 5 %")
    assert "report.html" in error
    figures = json.loads((tmp_path / "lqr" / "tables.json").read_text())
    assert figures["made"]["seeds"] == [3]
    assert {f.name for f in (tmp_path / "lqr").iterdir()} == {
        "tables.json",
        "report.md",
        "report.html",
    }


@pytest.mark.parametrize("option", [("--data", "somewhere"), ("--weights", "resnet18", "file")])
def test_an_option_of_another_study_is_refused(tmp_path, monkeypatch, capsys, option):
    status, _, error = alt(
        *(monkeypatch, capsys, "study", "lqr", "--quick", "--out", tmp_path / "lqr", *option),
    )
    assert status == 2
    assert error.startswith(f"alt: study 'lqr': {option[0]} is of the study ")
