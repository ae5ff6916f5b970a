from __future__ import annotations

import json
import os
import platform

import pytest

from alt_ros.errors import DataError
from alt_ros.report import machine, write_json


def test_what_was_written_is_read_back(tmp_path):
    values = {"success": 10, "interval": [0.72, 1.0], "end": "läuft", "delay": None}
    write_json(tmp_path / "figures.json", values)
    text = (tmp_path / "figures.json").read_text(encoding="utf-8")
    assert json.loads(text) == values
    assert text.endswith("}\n")


def test_the_folders_above_the_file_are_made(tmp_path):
    write_json(tmp_path / "a" / "b" / "figures.json", [1])
    assert json.loads((tmp_path / "a" / "b" / "figures.json").read_text()) == [1]


def test_an_earlier_file_is_replaced_and_nothing_else_is_left(tmp_path):
    write_json(tmp_path / "figures.json", {"old": list(range(100))})
    write_json(tmp_path / "figures.json", {"new": 1})
    assert json.loads((tmp_path / "figures.json").read_text()) == {"new": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["figures.json"]


def test_values_that_are_no_json_leave_the_earlier_file_whole(tmp_path):
    write_json(tmp_path / "figures.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "figures.json", {"new": object()})
    assert json.loads((tmp_path / "figures.json").read_text()) == {"old": 1}


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="'.*/file/figures.json' cannot be written"):
        write_json(tmp_path / "file" / "figures.json", {})
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(DataError, match="'.*/folder.json' cannot be written"):
        write_json(tmp_path / "folder.json", {})


def test_the_machine_is_described_in_values_that_json_can_hold():
    here = machine()
    assert json.loads(json.dumps(here)) == here
    assert (here["cores"], here["python"]) == (os.cpu_count(), platform.python_version())
    assert here["load_1min"] >= 0.0
    assert isinstance(here["processor"], str)
