"""The ROS-free library and the ``alt`` command, for a workstation; colcon serves the robot."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
source = (here / "alt_ros" / "__init__.py").read_text(encoding="utf-8")
version = re.search(r'__version__ = "(.+)"', source).group(1)

setup(
    name="alt_ros",
    version=version,
    description="Action Lookup Table policies on a real ROS 2 robot",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["alt_ros", "alt_ros.*"]),
    package_data={
        "alt_ros": ["py.typed"],
        "alt_ros.audit": ["page*.html", "page*.css", "page*.js"],
        "alt_ros.console": ["page/*"],
    },
    python_requires=">=3.10",
    install_requires=[
        "av",
        "diffusers>=0.30",
        "hnswlib>=0.8",
        "matplotlib",
        "mcap",
        "mujoco>=3.3",
        "numpy>=1.26",
        "opencv-python-headless",
        "pillow",
        "pyarrow",
        "rich",
        "rosbags>=0.11",
        "safetensors",
        "scipy>=1.11",
        "tensorboard",
        "torch>=2.1",
        "torchvision>=0.16",
        "tyro>=0.9",
        "zarr",
    ],
    extras_require={
        "rerun": ["rerun-sdk>=0.41"],  # Python 3.11 and later
        "console": ["starlette", "uvicorn", "websockets>=15"],
        "pusht": ["gymnasium", "pygame", "pymunk<7", "shapely"],  # and gym-pusht --no-deps
        "remote": ["msgpack", "pyzmq", "websockets>=15"],
    },
    entry_points={"console_scripts": ["alt = alt_ros.cli:main"]},
)
