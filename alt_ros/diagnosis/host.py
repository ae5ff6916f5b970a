"""This computer: processors, real-time permission, GPU, and everything else without a robot."""

from __future__ import annotations

import getpass
import importlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from alt_ros.diagnosis.clock import clock_keepers, judge_clock, kernel_clock
from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.libraries import examine_libraries
from alt_ros.diagnosis.middleware import examine_middleware
from alt_ros.diagnosis.shared_memory import examine_shared_memory

GROUP = "host"
PRIORITY = 41
"""What the executor's control thread takes with its default parameters."""
FREE_CORES = 1.0
LIMITS = "/etc/security/limits.d/alt.conf"


def examine() -> list[Finding]:
    """Return the findings that need no robot, most fundamental first."""
    return [
        *examine_libraries(),
        *examine_middleware(),
        *examine_shared_memory(),
        judge_clock(kernel_clock(), clock_keepers()),
        judge_scheduling(permission(PRIORITY)),
        judge_memory_lock(*memory_limit()),
        judge_governors(_governors()),
        judge_load(os.getloadavg()[0], _cores()),
        _accelerator(),
    ]


@dataclass(frozen=True)
class Permission:
    """Whether a thread may be real-time.

    Attributes:
        refusal: Why not; empty where it may.
        limit: RLIMIT_RTPRIO.
        preempt_rt: The kernel is PREEMPT_RT.
        in_container: This process runs in a container.
    """

    refusal: str
    limit: int
    preempt_rt: bool = False
    in_container: bool = False


def permission(priority: int) -> Permission:
    """Ask for SCHED_FIFO on a thread that ends at once."""
    refusal: list[str] = []

    def ask() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        except (AttributeError, OSError) as error:
            refusal.append(getattr(error, "strerror", None) or str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    except (ImportError, AttributeError):
        limit = 0
    return Permission(
        refusal="".join(refusal),
        limit=limit,
        preempt_rt=_read("/sys/kernel/realtime") == "1",
        in_container=_in_container(),
    )


def judge_scheduling(got: Permission, user: str | None = None) -> Finding:
    """Judge whether the control loop can be punctual."""
    subject = "real-time scheduling"
    kernel = "PREEMPT_RT kernel" if got.preempt_rt else "ordinary kernel"
    if not got.refusal:
        detail = f"SCHED_FIFO {PRIORITY} is permitted, {kernel}"
        return Finding(subject, True, detail, required=False, group=GROUP)
    detail = f"SCHED_FIFO {PRIORITY}: {got.refusal} (RLIMIT_RTPRIO {got.limit}), {kernel}"
    remedy = _limits_line("rtprio", "98", user)
    if got.in_container:
        remedy = "docker run --cap-add SYS_NICE --ulimit rtprio=98"
    return Finding(subject, False, detail, remedy, False, GROUP)


def memory_limit() -> tuple[int, bool, bool]:
    """Return RLIMIT_MEMLOCK in bytes, -1 for no limit; whether this is root; in a container."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        return (
            (-1 if limit == resource.RLIM_INFINITY else limit),
            os.geteuid() == 0,
            _in_container(),
        )
    except (ImportError, AttributeError):
        return 0, False, False


def judge_memory_lock(
    limit: int, is_root: bool, in_container: bool, user: str | None = None
) -> Finding:
    """Judge whether the control loop's memory can be kept from being paged out."""
    subject = "locked memory"
    if limit == -1 or is_root:
        detail = "unlimited" if limit == -1 else "permitted to root"
        return Finding(subject, True, detail, required=False, group=GROUP)
    remedy = _limits_line("memlock", "unlimited", user)
    if in_container:
        remedy = "docker run --ulimit memlock=-1"
    return Finding(subject, False, f"limit {limit >> 10} KiB", remedy, False, GROUP)


def _limits_line(item: str, value: str, user: str | None) -> str:
    if user is None:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container's user without a name
            user = "*"
    return f"echo '{user} - {item} {value}' | sudo tee -a {LIMITS}; then log in anew"


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _governors() -> list[str]:
    files = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return [_read(str(file)) for file in files]


def judge_governors(governors: list[str]) -> Finding:
    """Judge whether the processors clock down between two ticks."""
    subject = "CPU governor"
    names = sorted(set(governors))
    slow = {"powersave", "ondemand", "conservative"} & set(names)
    detail = ", ".join(names) or "not governed from here"
    remedy = "sudo cpupower frequency-set -g performance" if slow else ""
    return Finding(subject, not slow, detail, remedy, False, GROUP)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def judge_load(load: float, cores: int) -> Finding:
    """Judge whether there is room for the graph.

    Args:
        load: Of the last minute.
        cores: That this process may use.
    """
    free = max(cores - load, 0.0)
    enough = free >= FREE_CORES
    detail = f"{free:.1f} of {cores} free (load {load:.1f})"
    remedy = "" if enough else "end what else runs here, see top: a busy core makes ticks late"
    return Finding("cores", enough, detail, remedy, False, GROUP)


def _accelerator() -> Finding:
    driver = _driver_version(_read("/proc/driver/nvidia/version"))
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return Finding("GPU", False, "no torch", "pip install torch", required=False, group=GROUP)
    build = torch.version.cuda or ""
    if not torch.cuda.is_available():
        return judge_missing_gpu(driver, build)
    free, total = torch.cuda.mem_get_info(0)
    name = torch.cuda.get_device_name(0)
    return judge_gpu(name, free / 2**30, total / 2**30, build, driver)


def judge_missing_gpu(driver: str, build: str) -> Finding:
    """Judge why torch sees no GPU.

    Args:
        driver: Version of the NVIDIA driver; empty where there is none.
        build: CUDA version that torch was built for; empty for a build without.
    """
    if not driver:
        return Finding(
            "GPU", True, "none: the encoder runs on the CPU", required=False, group=GROUP
        )
    if not build:
        remedy = "install torch with CUDA: https://pytorch.org/get-started/locally"
        detail = f"driver {driver} is there, this torch is built without CUDA"
        return Finding("GPU", False, detail, remedy, required=False, group=GROUP)
    detail = f"torch for CUDA {build} finds no GPU under driver {driver}"
    remedy = f"update the driver for CUDA {build}; in a container: docker run --gpus all"
    return Finding("GPU", False, detail, remedy, required=False, group=GROUP)


def judge_gpu(name: str, free: float, total: float, build: str, driver: str) -> Finding:
    """Judge whether the GPU has room for the encoder; memory in GiB."""
    detail = f"{name}, {free:.1f} of {total:.1f} GiB free, CUDA {build}"
    detail += f", driver {driver}" if driver else ""
    remedy = "" if free >= 1.0 else "end what fills it, see nvidia-smi; or device:=cpu"
    return Finding("GPU", free >= 1.0, detail, remedy, required=False, group=GROUP)


def _driver_version(text: str) -> str:
    """Return ``550.54`` of the line that the driver writes."""
    words = text.split()
    return next((w for w in words if w[0].isdigit() and "." in w), "there" if words else "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
