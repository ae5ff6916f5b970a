"""``alt doctor`` without a robot; with one: test/nodes/test_topic_survey.py."""

from __future__ import annotations

import json
import sys

import pytest

from alt_ros import doctor_cli
from alt_ros.diagnosis import host
from alt_ros.diagnosis.finding import Finding
from alt_ros.doctor_cli import doctor
from alt_ros.errors import AltError, ConfigurationError

FINE = Finding("torch", True, "2.13", group="software")
HINT = Finding("stale segments", False, "9 [red]left", "rm them", required=False, group="DDS")
BROKEN = Finding("hnswlib", False, "no module", "pip install hnswlib", group="software")


def test_only_what_is_required_decides_the_exit_code(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(host, "examine", lambda: [FINE, HINT])
    doctor(json=tmp_path / "found.json")
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["fit"] is True
    assert [f["state"] for f in written["findings"]] == ["ok", "look"]
    out = capsys.readouterr().out
    assert "9 [red]left" in out, "what was found is no markup"
    assert "-> rm them" in out
    assert "1 ok, 1 to look at, 0 wrong" in out

    monkeypatch.setattr(host, "examine", lambda: [FINE, BROKEN])
    with pytest.raises(SystemExit) as ended:
        doctor(json=tmp_path / "found.json")
    assert ended.value.code == 1
    assert json.loads((tmp_path / "found.json").read_text())["fit"] is False


def test_a_table_of_a_hundred_columns_is_not_wider(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    long = Finding("a subject of many words", False, "word " * 60, "remedy " * 40, group="host")
    monkeypatch.setattr(host, "examine", lambda: [long])
    with pytest.raises(SystemExit):
        doctor()
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 100


def test_without_ros_live_checks_are_one_line(monkeypatch, capsys):
    monkeypatch.setattr(host, "examine", lambda: [FINE])
    monkeypatch.setitem(sys.modules, "alt_ros.nodes.topic_survey", None)
    with pytest.raises(SystemExit) as ended:
        doctor(live=())
    assert ended.value.code == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "live checks need ROS" in out
    assert "make env" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"live": (1.0, 2.0)}, "--live takes one number"),
        ({"live": (0.0,)}, "from 1 to 600"),
        ({"domain": 3}, "need --live"),
        ({"live": (), "domain": 500}, "--domain must be from 0 to 232"),
        ({"live": (), "config": "absent.yaml"}, "cannot be read"),
        ({"live": (), "bundle": "absent"}, "manifest.json"),
    ],
)
def test_options_that_cannot_be_met_are_told_before_anything_is_waited_for(
    options, said, monkeypatch, tmp_path
):
    monkeypatch.setattr(host, "examine", lambda: [FINE])
    monkeypatch.setitem(sys.modules, "alt_ros.nodes.topic_survey", None)
    paths = {name: tmp_path / value for name, value in options.items() if isinstance(value, str)}
    with pytest.raises((AltError, ConfigurationError), match=said):
        doctor(**{**options, **paths})
    assert doctor_cli.SECONDS == 5.0
