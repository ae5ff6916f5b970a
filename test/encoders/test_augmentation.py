import numpy as np
import pytest
import torch

from alt_ros.encoders.augmentation import STRONG, Augmentation, AugmentationConfig
from alt_ros.errors import ConfigurationError
from alt_ros.preprocessing import network_input

OFF = AugmentationConfig(0.0, 0.0, 0.0, 0.0, crop_scale=1.0, pose_noise=0.0)


def images(batch=3, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (batch, 2, 3, 32, 40), dtype=np.uint8))


def test_the_same_seed_gives_the_same_images_and_another_differs():
    augmentation = Augmentation(32, 40)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(augmentation.images(images()))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_each_frame_of_a_batch_is_changed_in_its_own_way():
    torch.manual_seed(0)
    same = images(1).expand(2, -1, -1, -1, -1)
    changed = Augmentation(32, 40).images(same)
    assert changed.shape == (2, 2, 3, 32, 40)
    assert not torch.equal(changed[0], changed[1])


def test_without_changes_it_gives_what_the_robot_sees():
    raw = images(1)
    views = {name: raw[0, i].permute(1, 2, 0).numpy() for i, name in enumerate("ab")}
    expected = torch.from_numpy(network_input(views, ("a", "b"), 32, 40))
    torch.testing.assert_close(Augmentation(32, 40, OFF).images(raw)[0], expected)


def test_pose_noise_keeps_quaternions_unit_and_has_the_stated_size():
    torch.manual_seed(0)
    poses = torch.zeros(2000, 1, 7)
    poses[..., 6] = 1.0
    noisy = Augmentation(32, 40).poses(poses)
    torch.testing.assert_close(noisy[..., 3:].norm(dim=-1), torch.ones(2000, 1))
    assert float(noisy[..., :3].std()) == pytest.approx(0.01, rel=0.1)
    assert torch.equal(Augmentation(32, 40, OFF).poses(poses), poses)


def test_views_of_a_frame_change_together_or_each_by_itself():
    view = images(1)[:, :1]
    same = view.expand(-1, 2, -1, -1, -1)
    together, apart = (
        Augmentation(32, 40, AugmentationConfig(views_apart=way)).images(same)[0]
        for way in (False, True)
    )
    assert torch.equal(together[0], together[1])
    assert not torch.equal(apart[0], apart[1])


def test_patches_are_of_one_colour_and_small():
    torch.manual_seed(3)
    grey = torch.full((40, 1, 3, 32, 40), 128, dtype=torch.uint8)
    config = AugmentationConfig(0.0, 0.0, 0.0, 0.0, crop_scale=1.0, patches=1)
    plain = Augmentation(32, 40, OFF).images(grey)
    other = (Augmentation(32, 40, config).images(grey) != plain).any(dim=2)[:, 0]  # (40, 32, 40)
    covered = other.flatten(1).sum(dim=1)
    assert 5 <= int((covered > 0).sum()) <= 35
    assert int(covered.max()) <= 4 * 5


def test_blur_takes_contrast_between_neighbours_away():
    torch.manual_seed(0)
    config = AugmentationConfig(0.0, 0.0, 0.0, 0.0, crop_scale=1.0, blur=1.0)
    sharp, soft = (Augmentation(32, 40, c).images(images()) for c in (OFF, config))
    assert float(soft.diff(dim=-1).abs().mean()) < 0.5 * float(sharp.diff(dim=-1).abs().mean())


def test_the_strong_augmentation_gives_finite_images_of_the_same_shape():
    changed = Augmentation(32, 40, STRONG).images(images())
    assert changed.shape == (3, 2, 3, 32, 40)
    assert bool(torch.isfinite(changed).all())


@pytest.mark.parametrize(
    "change",
    [{"hue": 0.6}, {"crop_scale": 0.0}, {"pose_noise": -1.0}, {"blur": 1.5}, {"patches": -1}],
)
def test_changes_out_of_bounds_are_refused(change):
    with pytest.raises(ConfigurationError, match="augmentation"):
        AugmentationConfig(**change)
