"""Point the ROS wheels' exported CMake targets at this machine's Python and numpy.

The wheels on PyPI name the Python they were built with (/opt/python/cp311-cp311/...) in
share/*/cmake/*.cmake; message generation needs ours. Jazzy's generators ask for ament_cmake_ros,
of which there is only a wheel that wants Kilted; ament_cmake_ros_core has what they need of it.
Running it again changes nothing.
"""

import re
import sys
import sysconfig
from pathlib import Path

import numpy

BUILDERS_NUMPY = re.compile(r"/opt/python/[^;\"]*?/numpy/(?:_core|core)/include")
BUILDERS_PYTHON = re.compile(r"/opt/python/[^/;\"]+/include/python3\.\d+")


def mend(prefix: Path) -> int:
    """Rewrite the targets below ``prefix``/share; return how many files changed."""
    changed = 0
    for path in sorted((prefix / "share").rglob("*.cmake")):
        text = path.read_text(encoding="utf-8")
        if "/opt/python/" not in text:
            continue
        mended = BUILDERS_NUMPY.sub(numpy.get_include(), text)
        mended = BUILDERS_PYTHON.sub(sysconfig.get_path("include"), mended)
        if mended != text:
            path.write_text(mended, encoding="utf-8")
            changed += 1
    return changed


def stand_in_for_ament_cmake_ros(prefix: Path) -> bool:
    """Let find_package(ament_cmake_ros) give ament_cmake_ros_core; return whether it was due."""
    share = prefix / "share"
    config = share / "ament_cmake_ros" / "cmake" / "ament_cmake_rosConfig.cmake"
    if config.exists() or not (share / "ament_cmake_ros_core").is_dir():
        return False
    config.parent.mkdir(parents=True)
    text = "find_package(ament_cmake_ros_core REQUIRED)\nset(ament_cmake_ros_FOUND TRUE)\n"
    config.write_text(text, encoding="utf-8")
    return True


if __name__ == "__main__":
    print(f"mended {mend(Path(sys.prefix))} CMake files of the ROS wheels")
    if stand_in_for_ament_cmake_ros(Path(sys.prefix)):
        print("ament_cmake_ros: ament_cmake_ros_core stands in")
