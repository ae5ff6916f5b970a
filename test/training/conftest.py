import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import write_store
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.types import ActionLayout

sys.path.insert(0, str(Path(__file__).parents[1] / "lookup"))  # tables.py

VIEWS = ("wrist", "front")
SPEC = EncoderSpec(VIEWS, 32, 32, embedding_size=16, view_size=8)


def demonstration(number: int, frames: int = 8, shift: int = 0) -> Demonstration:
    """A square that walks over the image, in a row of its own for each demonstration."""
    images = np.full((frames, 40, 40, 3), 90, np.uint8)
    for i in range(frames):
        top, left = 2 + 9 * number + shift, 2 + 4 * i
        images[i, top : top + 8, left : left + 6] = (230, 60, 20)
    poses = np.zeros((frames, 1, 7))
    poses[:, 0, 6] = 1.0
    actions = np.zeros((frames, 10))
    actions[:, 0] = 0.01 * np.arange(frames)
    actions[:, 1] = 0.1 * number
    actions[:, 3] = actions[:, 7] = 1.0
    return Demonstration(
        name=f"demo {number}{'' if not shift else ' again'}",
        stamps=50_000_000 * np.arange(1, frames + 1),
        images={"wrist": images, "front": images[:, ::-1].copy()},
        poses=poses,
        grippers=np.full((frames, 1), 0.08),
        state=np.zeros((frames, 0)),
        actions=actions,
        layout=ActionLayout(arms=1),
    )


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "cups"
    return write_store(path, [demonstration(number) for number in range(4)])


@pytest.fixture(scope="session")
def held_out_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "again"
    return write_store(path, [demonstration(number, shift=1) for number in range(4)])


@pytest.fixture(scope="session")
def spec():
    return SPEC


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
