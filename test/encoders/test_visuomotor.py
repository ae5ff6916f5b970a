import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from alt_ros.encoders.visuomotor import (
    SpatialSoftmax,
    Trunk,
    VisuomotorEncoder,
    group_norm,
    normalized_crop,
)
from alt_ros.errors import ConfigurationError
from alt_ros.preprocessing import network_input

torch.set_num_threads(1)


def pictures(count: int, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def small(views: int = 1, **options) -> VisuomotorEncoder:
    torch.manual_seed(0)
    return VisuomotorEncoder(views, width=16, pool=False, **options)


def test_a_whole_image_is_normalised_as_the_encoder_of_the_table_is_given_it():
    images = pictures(2, 40, 48)
    given_images = normalized_crop(images, 1.0, random=False)
    for image, values in zip(images, given_images, strict=True):
        rows = image.permute(1, 2, 0).contiguous().numpy()
        expected = network_input({"wrist": rows}, ["wrist"], 40, 48)[0]
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-6, atol=1e-6)
    assert given_images.is_contiguous(memory_format=torch.channels_last)
    assert given_images.dtype == torch.float32


@pytest.mark.parametrize(("share", "size"), [(1.0, 32), (0.9, 29), (0.5, 16)])
def test_without_chance_the_middle_is_looked_at(share, size):
    images = pictures(2)
    whole = normalized_crop(images, 1.0, random=False)
    edge = (32 - size) // 2
    middle = whole[:, :, edge : edge + size, edge : edge + size]
    assert torch.equal(normalized_crop(images, share, random=False), middle)


@given(seed=st.integers(0, 999), share=st.sampled_from([0.5, 0.9]))
@settings(max_examples=10)
def test_by_chance_each_image_has_a_place_of_its_own_that_the_seed_reproduces(seed, share):
    ramp = torch.arange(16, dtype=torch.uint8)
    rows = ramp[:, None].expand(16, 20)
    columns = torch.arange(20, dtype=torch.uint8)[None].expand(16, 20)
    image = torch.stack([rows, columns, torch.zeros_like(rows)])
    images = image.expand(40, -1, -1, -1)
    torch.manual_seed(seed)
    crops = normalized_crop(images, share, random=True)
    torch.manual_seed(seed)
    assert torch.equal(crops, normalized_crop(images, share, random=True))
    height, width = round(share * 16), round(share * 20)
    assert crops.shape == (40, 3, height, width)
    whole = normalized_crop(image[None], 1.0, random=False)[0]
    places = set()
    for crop in crops:
        top = int((whole[0, :, 0] - crop[0, 0, 0]).abs().argmin())
        left = int((whole[1, 0] - crop[1, 0, 0]).abs().argmin())
        assert torch.equal(crop, whole[:, top : top + height, left : left + width])
        places.add((top, left))
    assert len(places) > 1
    assert max(top for top, _ in places) == 16 - height, "the last place is drawn too"


def test_the_trunk_is_a_resnet_18_with_group_norm():
    trunk = Trunk(64, pool=True)
    # torchvision's resnet18 has 11,689,512 parameters, 513,000 of them in its head; a GroupNorm
    # has as many as a BatchNorm.
    assert sum(p.numel() for p in trunk.parameters()) == 11_689_512 - 513_000
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())
    norms = [module for module in trunk.modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) == 20
    assert all(norm.num_channels // norm.num_groups == 16 for norm in norms)
    assert trunk.channels == 512


@pytest.mark.parametrize(("pool", "cells"), [(True, 2), (False, 4)])
def test_without_pooling_the_map_is_twice_as_fine(pool, cells):
    assert Trunk(16, pool)(torch.zeros(1, 3, 64, 64)).shape == (1, 128, cells, cells)


def test_group_norm_does_not_depend_on_the_batch():
    trunk = Trunk(16, pool=False).train()
    images = normalized_crop(pictures(4), 1.0, random=False)
    alone = trunk(images[:1])
    assert torch.allclose(trunk(images)[:1], alone, atol=1e-5)


@pytest.mark.parametrize(("channels", "groups"), [(16, 1), (64, 4), (8, 1)])
def test_a_group_has_sixteen_channels_if_there_are_as_many(channels, groups):
    assert group_norm(channels).num_groups == groups


@given(row=st.integers(0, 4), column=st.integers(0, 6))
def test_the_spatial_softmax_says_where_a_feature_is(row, column):
    pool = SpatialSoftmax(channels=3, keypoints=2)
    with torch.no_grad():
        pool.reduce.weight.zero_()
        pool.reduce.bias.zero_()
        pool.reduce.weight[0, 1] = 1.0  # the first keypoint is the second feature
    features = torch.zeros(1, 3, 5, 7)
    features[0, 1, row, column] = 100.0
    with torch.no_grad():
        x1, x2, y1, y2 = pool(features)[0].tolist()
    assert (x1, y1) == pytest.approx((-1.0 + column / 3.0, -1.0 + row / 2.0), abs=1e-5)
    assert (x2, y2) == pytest.approx((0.0, 0.0), abs=1e-6), "an even map is nowhere: the middle"


def test_the_camera_of_each_trunk_is_its_own():
    encoder = small(views=2).eval()
    images = torch.stack([pictures(3, seed=1), pictures(3, seed=2)], dim=1)
    other = images.clone()
    other[:, 1] = pictures(3, seed=3)
    with torch.no_grad():
        one, changed = encoder(images), encoder(other)
    assert one.shape == (3, encoder.size) == (3, 2 * 64)
    assert torch.equal(one[:, :64], changed[:, :64])
    assert not torch.allclose(one[:, 64:], changed[:, 64:], atol=1e-4)


def test_what_lies_outside_the_middle_is_not_looked_at_in_deployment_and_is_in_training():
    encoder = small(crop=0.75)
    images = pictures(8)[:, None]
    edged = images.clone()
    edged[..., :4, :], edged[..., -4:, :], edged[..., :4], edged[..., -4:] = 0, 0, 0, 0
    with torch.no_grad():
        encoder.eval()
        assert torch.equal(encoder(images), encoder(edged))
        assert not torch.allclose(encoder(images), encoder(images.flip(0)), atol=1e-4)
        encoder.train()
        torch.manual_seed(0)
        one = encoder(images)
        torch.manual_seed(0)
        assert not torch.allclose(one, encoder(edged), atol=1e-4)


@pytest.mark.parametrize("crop", [0.0, -0.1, 1.01, float("nan")])
def test_a_crop_that_is_no_part_of_the_image_is_refused(crop):
    with pytest.raises(ConfigurationError, match="crop"):
        VisuomotorEncoder(1, width=16, crop=crop)


def test_an_image_of_which_one_place_is_left_is_refused():
    with pytest.raises(ConfigurationError, match="the images are too small, one place is left"):
        VisuomotorEncoder(1)(pictures(1, 32, 32, seed=1)[:, None])
