"""The set-up script: every refusal is one line, and a second run changes nothing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy
import pytest

FOLDER = Path(__file__).parents[1] / "environment"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"environment_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def set_up() -> ModuleType:
    return load("set_up")


def refusal(function, *arguments) -> str:
    """Return the one line that a function ends the program with."""
    with pytest.raises(SystemExit) as ended:
        function(*arguments)
    line = str(ended.value.code)
    assert line.startswith("alt_ros set-up: ")
    assert "\n" not in line
    return line


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(stat.S_IRWXU)


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 15, 0)])
def test_a_python_without_ros_wheels_is_refused(set_up, monkeypatch, version):
    text = ".".join(map(str, version))
    python = SimpleNamespace(version_info=version, version=f"{text} (main)", exit=sys.exit)
    monkeypatch.setattr(set_up, "sys", python)
    line = refusal(set_up.check_python)
    assert "Python 3.10 to 3.14 is needed" in line
    assert f"this is {text}: run 'make PYTHON=" in line


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 12, 3), (3, 14, 9)])
def test_a_python_with_ros_wheels_is_taken(set_up, monkeypatch, version):
    monkeypatch.setattr(set_up, "sys", SimpleNamespace(version_info=version, exit=sys.exit))
    set_up.check_python()


def test_a_disk_with_too_little_room_is_refused(set_up, monkeypatch, tmp_path):
    usage = SimpleNamespace(free=1_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    line = refusal(set_up.check_space, tmp_path)
    assert line.endswith(f"6 GB of free disk are needed at '{tmp_path}', there are 1.0 GB")
    usage.free = 7_000_000_000
    set_up.check_space(tmp_path)


def test_programs_that_are_not_on_the_path_are_missing(set_up, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {"g++", "make", "cmake"} <= set(set_up.missing_system_packages())
    program(tmp_path, "g++", "true")
    missing = set_up.missing_system_packages()
    assert "g++" not in missing
    assert "cmake" in missing


def test_headers_that_are_not_there_are_missing(set_up, monkeypatch, tmp_path):
    monkeypatch.setattr(set_up.sysconfig, "get_path", lambda name: str(tmp_path))
    assert "python3-dev" in set_up.missing_system_packages()
    (tmp_path / "Python.h").touch()
    assert "python3-dev" not in set_up.missing_system_packages()


def test_nothing_is_installed_where_nothing_is_missing(set_up, monkeypatch, tmp_path):
    monkeypatch.setattr(set_up, "missing_system_packages", list)
    monkeypatch.setenv("PATH", str(tmp_path))
    set_up.install_system_packages()


def test_without_apt_the_missing_packages_are_named(set_up, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    line = refusal(set_up.install_system_packages)
    assert "'g++', 'make', 'cmake'" in line


@pytest.mark.parametrize("sudo", [None, "exit 1"], ids=["no sudo", "sudo asks for a password"])
def test_a_user_who_may_not_install_is_told_the_line_to_type(set_up, monkeypatch, tmp_path, sudo):
    programs = tmp_path / "bin"
    program(programs, "apt-get", f"echo called > '{tmp_path}/called'")
    if sudo:
        program(programs, "sudo", sudo)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    line = refusal(set_up.install_system_packages)
    assert "type: sudo apt-get update && sudo apt-get install -y" in line
    assert " g++ make cmake" in line
    assert not (tmp_path / "called").exists()


def test_an_apt_that_fails_is_quoted_with_the_line_to_type(set_up, monkeypatch, tmp_path):
    program(tmp_path, "apt-get", "echo 'no network here' >&2; exit 100")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    line = refusal(set_up.install_system_packages)
    assert "'apt-get update' failed: no network here; type: sudo apt-get update" in line


def test_an_apt_that_installs_nothing_is_noticed(set_up, monkeypatch, tmp_path):
    program(tmp_path, "apt-get", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "still missing after" in refusal(set_up.install_system_packages)


def test_what_a_command_says_goes_into_the_log(set_up, tmp_path, capsys):
    log = tmp_path / "logs" / "step.log"
    set_up.run("[1/1] a step", [sys.executable, "-c", "print('done so')"], log)
    assert log.read_text() == "done so\n"
    assert capsys.readouterr().out == "[1/1] a step\n"


def test_a_command_that_fails_ends_with_its_last_words_and_the_log(set_up, tmp_path):
    log = tmp_path / "step.log"
    script = "import sys; print('one\\ntwo\\nthree', flush=True); sys.exit('no such wheel')"
    line = refusal(set_up.run, "a step", [sys.executable, "-c", script], log)
    assert f"({log}): two | three | no such wheel" in line


def test_a_command_that_is_not_there_ends_with_one_line(set_up, tmp_path):
    line = refusal(set_up.run, "a step", [tmp_path / "colcon", "build"], tmp_path / "step.log")
    assert f"'{tmp_path}/colcon build ...' cannot be run: " in line


def test_a_digest_is_stable_and_changes_with_text_and_content(set_up, tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("numpy==1.26.4\n")
    before = set_up.digest("3.11", file)
    assert set_up.digest("3.11", file) == before
    assert set_up.digest("3.12", file) != before
    file.write_text("numpy==2.0.0\n")
    assert set_up.digest("3.11", file) != before


def test_the_package_is_built_again_when_a_message_or_the_set_of_files_changes(
    set_up, monkeypatch, tmp_path
):
    for folder in ("cmake", "msg", "srv", "alt_ros/nodes", "config", "launch"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("CMakeLists.txt", "package.xml", "msg/Flag.msg", "alt_ros/nodes/node.py"):
        (tmp_path / file).write_text("one\n")
    monkeypatch.setattr(set_up, "ROOT", tmp_path)
    digests = [set_up.package_digest()]
    (tmp_path / "alt_ros/nodes/node.py").write_text("linked: needs no build\n")
    assert set_up.package_digest() == digests[0]
    for change in ("alt_ros/nodes/other.py", "msg/Flag.msg", "CMakeLists.txt"):
        (tmp_path / change).write_text("two\n")
        digests.append(set_up.package_digest())
    assert len(set(digests)) == 4


def test_the_wheels_targets_are_pointed_at_this_python_once(tmp_path):
    mend_wheels = load("mend_wheels")
    broken = tmp_path / "share" / "rosidl_generator_py" / "cmake" / "export.cmake"
    other = tmp_path / "share" / "std_msgs" / "cmake" / "other.cmake"
    for path in (broken, other):
        path.parent.mkdir(parents=True)
    builder = "/opt/python/cp311-cp311"
    broken.write_text(
        f'  A "{builder}/include/python3.11;/usr/include"\n'
        f'  B "{builder}/lib/python3.11/site-packages/numpy/_core/include"\n'
        f'  C "{builder}/lib/python3.11/site-packages/numpy/core/include;x"\n'
    )
    other.write_text('set(std_msgs_DIR "/usr/include/python3.11")\n')
    assert mend_wheels.mend(tmp_path) == 1
    ours = mend_wheels.sysconfig.get_path("include")
    assert broken.read_text() == (
        f'  A "{ours};/usr/include"\n  B "{numpy.get_include()}"\n  C "{numpy.get_include()};x"\n'
    )
    assert other.read_text() == 'set(std_msgs_DIR "/usr/include/python3.11")\n'
    stamps = [path.stat().st_mtime_ns for path in (broken, other)]
    assert mend_wheels.mend(tmp_path) == 0
    assert [path.stat().st_mtime_ns for path in (broken, other)] == stamps
