from __future__ import annotations

import sys

import pytest

from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.libraries import examine_libraries


def found() -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine_libraries()}


def test_what_the_tests_themselves_run_on_is_found():
    libraries = found()
    assert all(libraries[subject].ok for subject in ("torch", "hnswlib", "simulation"))
    assert libraries["torch"].detail == sys.modules["torch"].__version__
    assert "renders" in libraries["simulation"].detail


@pytest.mark.parametrize(
    ("module", "subject", "required"),
    [
        ("torch", "torch", True),
        ("hnswlib", "hnswlib", True),
        ("rclpy", "rclpy", False),
        ("alt_ros.msg", "alt_ros messages", False),
    ],
)
def test_a_library_that_is_not_there_is_told(monkeypatch, module, subject, required):
    monkeypatch.setitem(sys.modules, module, None)
    library = found()[subject]
    assert not library.ok
    assert library.required == required
    assert library.remedy


def test_nodes_that_are_not_installed_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    nodes = found()["nodes"]
    assert not nodes.ok
    assert "make env" in nodes.remedy
