import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import write_store
from alt_ros.errors import ConfigurationError
from alt_ros.geometry import arm_action
from alt_ros.training.task import TaskHead, task_targets
from alt_ros.types import ActionLayout

FRAMES = 9


def moving(number, turn):
    """A turned hand that moves along its own x axis, faster and faster."""
    rotation = Rotation.from_euler("z", turn)
    travelled = 0.01 * np.arange(FRAMES) ** 2
    poses = np.zeros((FRAMES, 1, 7))
    poses[:, 0, :3] = rotation.apply(travelled[:, None] * np.array([1.0, 0.0, 0.0]))
    poses[:, 0, 3:] = rotation.as_quat()
    grippers = 0.08 - 0.005 * np.arange(FRAMES)[:, None]
    return Demonstration(
        name=f"demo {number}",
        stamps=50_000_000 * np.arange(1, FRAMES + 1),
        images={"wrist": np.zeros((FRAMES, 8, 8, 3), np.uint8)},
        poses=poses,
        grippers=grippers,
        state=np.zeros((FRAMES, 0)),
        actions=np.column_stack([arm_action(poses, grippers), 3.0 * np.arange(FRAMES)]),
        layout=ActionLayout(arms=1, extra=1),
    )


@pytest.fixture
def turned(tmp_path):
    return write_store(tmp_path / "store", [moving(0, 0.0), moving(1, 1.2)])


def test_the_same_motion_in_the_hands_frame_has_the_same_target(turned):
    targets = task_targets(turned, (1, 3))
    assert targets.shape == (2 * FRAMES, 2 * 8)
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets[:FRAMES], targets[FRAMES:], atol=1e-4)


def test_targets_end_with_the_demonstration_and_are_standardised(turned):
    targets = task_targets(turned, (3,))
    forward, opening, further = targets[:FRAMES, 0], targets[:FRAMES, 6], targets[:FRAMES, 7]
    travelled = 0.01 * np.arange(FRAMES) ** 2
    expected = travelled[np.minimum(np.arange(FRAMES) + 3, FRAMES - 1)] - travelled
    np.testing.assert_allclose(forward, (expected - expected.mean()) / expected.std(), atol=1e-4)
    assert (np.diff(opening)[:5] < 0).all()
    assert opening[-1] == pytest.approx(opening[-3])
    assert further[0] > further[-1]


@pytest.mark.parametrize("ahead", [(), (0,), (4, -1)])
def test_looking_nowhere_or_back_is_refused(turned, ahead):
    with pytest.raises(ConfigurationError, match="ahead must be 1 frame or more"):
        task_targets(turned, ahead)


def test_the_head_can_learn_a_motion_from_embeddings():
    torch.manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(64, 16), dim=1)
    wanted = embeddings @ torch.randn(16, 3)
    head = TaskHead(16, 3)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(300):
        loss = torch.nn.functional.mse_loss(head(embeddings), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.02 * float(wanted.var())
