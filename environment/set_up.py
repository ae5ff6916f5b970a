"""Make the environment that `make demo` and `make test` run in, from nothing; again: do nothing.

System libraries through apt where that is allowed, a virtual environment with pinned wheels (the
real ROS 2 among them), the mending that those wheels need, and the package built with colcon into
the environment. Needs nothing but Python's standard library.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 10), (3, 14)
FREE_GIGABYTES = 6

APT_PACKAGES = {
    "g++": "g++",
    "make": "make",
    "cmake": "cmake",
    "Python.h": "python3-dev",
    "venv": "python3-venv",
    "libEGL.so.1": "libegl1",
    "EGL drivers": "libgl1-mesa-dri",
}


def say(text):
    """Print a line at once."""
    print(text, flush=True)


def fail(text):
    """End with one line."""
    sys.exit(f"alt_ros set-up: {text}")


def check_python():
    """Refuse a Python for which there are no ROS wheels."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        fail(
            f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is needed, this is "
            f"{sys.version.split()[0]}: run 'make PYTHON=/path/to/python3'"
        )


def missing_system_packages():
    """Return the apt packages that are wanting."""
    present = {program: shutil.which(program) for program in ("g++", "make", "cmake")}
    present["Python.h"] = (Path(sysconfig.get_path("include")) / "Python.h").exists()
    present["venv"] = importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv")
    folders = [Path(p) for p in ("/usr/lib", "/usr/lib64", "/lib")]
    present["libEGL.so.1"] = any(
        list(folder.glob(pattern))
        for folder in folders
        for pattern in ("libEGL.so.1", "*/libEGL.so.1")
    )
    present["EGL drivers"] = any(
        list(folder.glob(pattern))
        for folder in folders
        for pattern in ("dri/*swrast*", "*/dri/*swrast*", "*/libgallium*", "libgallium*")
    )
    return [package for need, package in APT_PACKAGES.items() if not present[need]]


def install_system_packages():
    """Install what is wanting through apt, or say the one line to type."""
    packages = missing_system_packages()
    if not packages:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    line = "sudo apt-get update && sudo " + " ".join(command)
    if shutil.which("apt-get") is None:
        fail(f"these Debian packages, or your system's own of the kind, are missing: {packages}")
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if root and (
        shutil.which("sudo") is None
        or subprocess.run([*root, "true"], capture_output=True, check=False).returncode
    ):
        fail(f"system packages are missing, type: {line}")
    say(f"[1/4] system packages: {' '.join(packages)}")
    for step in (["apt-get", "update"], command):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            [*root, *step], capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            fail(f"'{' '.join(step)}' failed: {done.stderr.strip()[-300:]}; type: {line}")
    if missing_system_packages():
        fail(f"still missing after '{line}': {missing_system_packages()}")


def check_space(folder):
    """Refuse to start on a disk that the environment will not fit on."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < FREE_GIGABYTES:
        fail(f"{FREE_GIGABYTES} GB of free disk are needed at '{folder}', there are {free:.1f} GB")


def run(title, command, log, environment=None):
    """Run a command with its output in a log, a sign of life on the terminal."""
    start = time.monotonic()
    ended = threading.Event()

    def tell():
        while not ended.wait(10.0):
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            last = lines[-1].strip()[:60] if lines else ""
            say(f"      {time.monotonic() - start:4.0f} s  {last}")

    say(title)
    log.parent.mkdir(parents=True, exist_ok=True)
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    shown = f"'{' '.join(map(str, command[:4]))} ...'"
    try:
        with log.open("w") as stream:
            code = subprocess.run(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                check=False,
                cwd=ROOT,
            ).returncode
    except OSError as error:
        fail(f"{shown} cannot be run: {error}")
    finally:
        ended.set()
    if code:
        tail = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        reason = " | ".join(line.strip() for line in tail[-3:])[-600:]
        fail(f"{shown} failed ({log}): {reason}")


def digest(*parts):
    """Return a hash over texts and files."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.read_bytes() if isinstance(part, Path) else str(part).encode())
    return total.hexdigest()


def package_digest():
    """Return a hash over what colcon installs: contents of what is built, names of the rest."""
    built = [ROOT / "CMakeLists.txt", ROOT / "package.xml", *(ROOT / "cmake").iterdir()]
    built += [*(ROOT / "msg").glob("*.msg"), *(ROOT / "srv").glob("*.srv")]
    linked = [p for top in ("alt_ros", "config", "launch") for p in (ROOT / top).rglob("*")]
    names = sorted(
        str(p.relative_to(ROOT)) for p in linked if p.is_file() and "__pycache__" not in p.parts
    )
    return digest(str(ROOT), "\n".join(names), *sorted(built))


def build_folder(venv):
    """Return where colcon builds for an environment; what is generated there is linked to."""
    return ROOT / "build" / ("colcon" if venv.name == ".venv" else f"colcon{venv.name}")


def build_package(venv, log):
    """Build messages and package with colcon, into the environment, Python files as links."""
    python = venv / "bin" / "python"
    environment = {
        **os.environ,
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "AMENT_PREFIX_PATH": str(venv),
        "CMAKE_PREFIX_PATH": str(venv),
        "VIRTUAL_ENV": str(venv),
    }
    environment.pop("PYTHONPATH", None)
    work = build_folder(venv)
    command = [
        *(str(venv / "bin" / "colcon"), "--log-base", str(work / "log"), "build"),
        *("--base-paths", str(ROOT), "--build-base", str(work / "build")),
        *("--install-base", str(venv), "--merge-install", "--symlink-install"),
        *("--cmake-args", f"-DPython3_EXECUTABLE={python}", "-DBUILD_TESTING=OFF"),
    ]
    run("[4/4] building messages and nodes (colcon)", command, log, environment)
    installed = [venv / "lib" / "alt_ros", venv / "share" / "alt_ros"]
    installed += venv.glob("lib/python*/site-packages/alt_ros")
    for path in [path for folder in installed for path in folder.rglob("*")]:
        if path.is_symlink() and not path.exists():  # of a file that was moved or deleted
            path.unlink()


def install_browser():
    """Install the browser of the page tests where that takes no question; they skip without."""
    if shutil.which("chromium") or shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    say("[1/4] system package for the page tests: chromium")
    command = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(step, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            say(f"      '{' '.join(step)}' failed, the page tests will be skipped")
            return


def main():
    """Set up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="environment folder")
    parser.add_argument(
        "--distro", choices=("kilted", "jazzy"), default="kilted", help="ROS wheels to install"
    )
    options = parser.parse_args()
    check_python()
    venv = options.venv.resolve()
    requirements = [
        ROOT / "environment" / "requirements.txt",
        ROOT / "environment" / f"ros-{options.distro}.txt",
    ]
    alone = ROOT / "environment" / "without-dependencies.txt"
    mending = ROOT / "environment" / "mend_wheels.py"
    wheels = digest(sys.version, str(venv), mending, alone, *requirements)
    stamp = venv / "alt_ros_set_up.json"
    stamps = json.loads(stamp.read_text()) if stamp.is_file() else {}
    logs = ROOT / "build" / "set_up"
    install_system_packages()
    install_browser()
    start = time.monotonic()
    if stamps.get("wheels") != wheels:
        check_space(venv.parent)
        say(f"[2/4] virtual environment {venv.name}, Python {sys.version.split()[0]}")
        stamp.unlink(missing_ok=True)
        make = [sys.executable, "-m", "venv", "--clear", str(venv)]
        run("      python -m venv", make, logs / "venv.log")
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-input"]
        pip += ["--progress-bar", "off", "--disable-pip-version-check"]
        listed = [part for file in requirements for part in ("-r", str(file))]
        title = "[3/4] wheels: ROS 2, torch, mujoco, ... (a minute or two)"
        run(title, [*pip, *listed], logs / "pip.log")
        run("      gym-pusht", [*pip, "--no-deps", "-r", str(alone)], logs / "pip-alone.log")
        mend = [str(venv / "bin" / "python"), str(mending)]
        run("      mending the ROS wheels", mend, logs / "mend.log")
        stamps = {"wheels": wheels}
        stamp.write_text(json.dumps(stamps))
    if stamps.get("package") != package_digest() or not build_folder(venv).is_dir():
        build_package(venv, logs / "colcon.log")
        stamps["package"] = package_digest()
        stamp.write_text(json.dumps(stamps))
        say(f"environment ready in {time.monotonic() - start:.0f} s: {venv.name}/bin/alt --help")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("alt_ros set-up: interrupted; run it again to go on")
