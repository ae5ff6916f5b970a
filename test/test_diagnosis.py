from __future__ import annotations

import sys

import pytest

from alt_ros import diagnosis
from alt_ros.diagnosis import Finding, examine

SUBJECTS = {
    "rclpy",
    "alt_ros messages",
    "nodes",
    "DDS profile",
    "shared memory",
    "UDP buffers (between hosts)",
    "torch",
    "GPU",
    "hnswlib",
    "simulation",
}


def examined() -> dict[str, Finding]:
    findings = examine()
    assert len({finding.subject for finding in findings}) == len(findings)
    for finding in findings:
        assert finding.subject
        if not finding.ok:
            assert finding.remedy, f"{finding} must say what to do"
        assert "\n" not in finding.remedy
    return {finding.subject: finding for finding in findings}


def test_every_part_is_looked_at_once_and_what_is_wrong_has_its_remedy():
    found = examined()
    assert set(found) == SUBJECTS
    assert found["torch"].required
    assert not found["GPU"].required


def test_what_the_tests_themselves_run_on_is_found():
    found = examined()
    assert all(found[subject].ok for subject in ("torch", "hnswlib", "simulation"))
    assert found["torch"].detail == sys.modules["torch"].__version__
    assert "renders" in found["simulation"].detail


@pytest.mark.parametrize(
    ("module", "subjects", "required"),
    [
        ("torch", ("torch", "GPU"), True),
        ("hnswlib", ("hnswlib",), True),
        ("rclpy", ("rclpy",), False),
        ("alt_ros.msg", ("alt_ros messages",), False),
    ],
)
def test_a_library_that_is_not_there_is_told(monkeypatch, module, subjects, required):
    monkeypatch.setitem(sys.modules, module, None)
    found = examined()
    assert not any(found[subject].ok for subject in subjects)
    assert found[subjects[0]].required == required


def test_nodes_that_are_not_installed_are_told(monkeypatch, tmp_path):
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    found = examined()
    assert not found["nodes"].ok
    assert "make env" in found["nodes"].remedy
    assert not found["DDS profile"].ok


def test_a_middleware_that_is_not_fast_dds_needs_no_profile(monkeypatch):
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert examined()["DDS profile"].detail == "rmw_cyclonedds_cpp: none needed"


def test_a_dds_profile_that_is_not_there_is_told(monkeypatch, tmp_path):
    pytest.importorskip("rclpy", reason="DDS PROFILE NOT TESTED: rclpy is not installed")
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent.xml"))
    profile = examined()["DDS profile"]
    assert (profile.ok, profile.remedy) == (False, "no such file")
    (tmp_path / "absent.xml").touch()
    assert examined()["DDS profile"].ok


def test_too_little_shared_memory_is_told_and_enough_needs_no_remedy(monkeypatch):
    monkeypatch.setattr(diagnosis, "SHARED_MEMORY_MIB", 1 << 40)
    assert not examined()["shared memory"].ok
    monkeypatch.setattr(diagnosis, "SHARED_MEMORY_MIB", 0)
    enough = examined()["shared memory"]
    assert (enough.ok, enough.remedy) == (True, "")


def test_small_socket_buffers_are_told_with_the_line_to_type(monkeypatch):
    monkeypatch.setattr(diagnosis, "SOCKET_BUFFER_BYTES", 1 << 40)
    small = examined()["UDP buffers (between hosts)"]
    assert not small.ok
    assert small.remedy.startswith("sudo sysctl -w net.core.rmem_max=1099511627776 ")
    monkeypatch.setattr(diagnosis, "SOCKET_BUFFER_BYTES", 0)
    assert examined()["UDP buffers (between hosts)"].ok
