"""Point the ROS wheels' exported CMake targets at this machine's Python and numpy.

The wheels on PyPI name the Python they were built with (/opt/python/cp311-cp311/...) in
share/*/cmake/*.cmake; message generation needs ours. Running it again changes nothing.
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


if __name__ == "__main__":
    print(f"mended {mend(Path(sys.prefix))} CMake files of the ROS wheels")
