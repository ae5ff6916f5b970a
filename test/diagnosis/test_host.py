from __future__ import annotations

import os

import pytest

from alt_ros.diagnosis import host
from alt_ros.diagnosis.finding import is_fit
from alt_ros.diagnosis.host import (
    Permission,
    examine,
    judge_governors,
    judge_gpu,
    judge_load,
    judge_memory_lock,
    judge_missing_gpu,
    judge_scheduling,
    permission,
)


def test_every_part_is_looked_at_once_and_what_is_wrong_has_its_remedy_in_one_line():
    findings = examine()
    subjects = [finding.subject for finding in findings]
    assert len(set(subjects)) == len(subjects)
    assert {"rclpy", "DDS profile", "UDP buffers", "stale segments", "GPU", "cores"} <= set(
        subjects
    )
    assert {finding.group for finding in findings} == {"software", "DDS", "host"}
    for finding in findings:
        assert finding.ok or finding.remedy, f"{finding} must say what to do"
        assert "\n" not in finding.remedy + finding.detail
        assert finding.to_json()["state"] == finding.state
    assert is_fit(findings) == all(f.state != "wrong" for f in findings)


def test_asking_for_real_time_leaves_this_thread_as_it_was():
    before = os.sched_getscheduler(0)
    permission(41)
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize(
    ("got", "ok", "said"),
    [
        (Permission("", 98, preempt_rt=True), True, ""),
        (Permission("Operation not permitted", 0), False, "echo 'ada - rtprio 98' | sudo tee -a"),
        (Permission("Operation not permitted", 0, in_container=True), False, "--cap-add SYS_NICE"),
    ],
)
def test_scheduling_that_is_refused_comes_with_the_line_for_the_limits(got, ok, said):
    finding = judge_scheduling(got, "ada")
    assert finding.ok == ok
    assert said in finding.remedy
    assert ("PREEMPT_RT" in finding.detail) == got.preempt_rt


@pytest.mark.parametrize(
    ("limit", "is_root", "in_container", "ok", "said"),
    [
        (-1, False, False, True, ""),
        (8 << 20, True, False, True, ""),
        (8 << 20, False, False, False, "echo 'ada - memlock unlimited' | sudo tee -a"),
        (8 << 20, False, True, False, "--ulimit memlock=-1"),
    ],
)
def test_memory_may_be_locked_without_a_limit_or_as_root(limit, is_root, in_container, ok, said):
    finding = judge_memory_lock(limit, is_root, in_container, "ada")
    assert finding.ok == ok
    assert said in finding.remedy


@pytest.mark.parametrize(
    ("governors", "ok"),
    [([], True), (["performance"] * 4, True), (["performance", "powersave"], False)],
)
def test_one_processor_that_clocks_down_is_told(governors, ok):
    assert judge_governors(governors).ok == ok


@pytest.mark.parametrize(("load", "cores", "ok"), [(0.2, 2, True), (1.5, 2, False), (9, 2, False)])
def test_a_core_must_be_free(load, cores, ok):
    finding = judge_load(load, cores)
    assert finding.ok == ok
    assert f"of {cores} free" in finding.detail


@pytest.mark.parametrize(
    ("driver", "build", "ok", "said"),
    [
        ("", "", True, ""),
        ("", "12.8", True, ""),
        ("550.54", "", False, "install torch with CUDA"),
        ("470.82", "12.8", False, "update the driver for CUDA 12.8"),
    ],
)
def test_why_there_is_no_gpu_is_told_by_driver_and_build(driver, build, ok, said):
    finding = judge_missing_gpu(driver, build)
    assert finding.ok == ok
    assert said in finding.remedy


def test_a_full_gpu_is_told():
    assert judge_gpu("H200", 120.0, 139.0, "12.8", "570.1").ok
    full = judge_gpu("H200", 0.4, 139.0, "12.8", "570.1")
    assert not full.ok
    assert "nvidia-smi" in full.remedy


def test_the_drivers_version_is_read_from_its_line():
    line = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024"
    )
    assert host._driver_version(line) == "550.54.15"
    assert host._driver_version("") == ""
