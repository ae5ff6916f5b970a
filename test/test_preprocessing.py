"""Images: every encoding against an expectation that OpenCV had no hand in, and what is refused.

The messages are built from a known RGB picture with numpy and Pillow alone.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from alt_ros.errors import DataError
from alt_ros.preprocessing import (
    ENCODINGS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    decode_compressed_image,
    decode_image,
    network_input,
    resize_image,
)

HEIGHT, WIDTH = 12, 16


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return an RGB picture whose channels differ and whose rows and columns differ."""
    y, x = np.mgrid[:height, :width]
    return np.stack([10 + 13 * x, 20 + 17 * y, 250 - 7 * x - 5 * y], -1).clip(0, 255).astype("u1")


RGB = picture()
GREY = RGB[..., 0]
ALPHA = np.full((HEIGHT, WIDTH, 1), 77, np.uint8)


def message(array: np.ndarray, padding: int = 0) -> dict[str, object]:
    rows = np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
    padded = np.concatenate([rows, np.full((len(rows), padding), 0xAB, np.uint8)], axis=1)
    return {
        "data": padded.tobytes(),
        "height": array.shape[0],
        "width": array.shape[1],
        "step": padded.shape[1],
    }


def repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


# encoding -> (what is sent, the RGB that it means)
EXACT = {
    "rgb8": (RGB, RGB),
    "bgr8": (RGB[..., ::-1], RGB),
    "8UC3": (RGB[..., ::-1], RGB),
    "rgba8": (np.concatenate([RGB, ALPHA], -1), RGB),
    "bgra8": (np.concatenate([RGB[..., ::-1], ALPHA], -1), RGB),
    "8UC4": (np.concatenate([RGB[..., ::-1], ALPHA], -1), RGB),
    "mono8": (GREY, repeated(GREY)),
    "8UC1": (GREY, repeated(GREY)),
    "mono16": (GREY.astype("<u2") * 257, repeated(GREY)),
    "16UC1": (GREY.astype("<u2") * 257, repeated(GREY)),
}
# encoding -> the colour of the pixels of the first two rows
BAYER = {
    "bayer_rggb8": ("RG", "GB"),
    "bayer_bggr8": ("BG", "GR"),
    "bayer_gbrg8": ("GB", "RG"),
    "bayer_grbg8": ("GR", "BG"),
}
# encoding -> the order of the four bytes of two neighbouring pixels
YUV = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUYV", "yuyv": "YUYV"}


def test_every_encoding_is_tested():
    assert {*EXACT, *BAYER, *YUV} == set(ENCODINGS)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", EXACT)
def test_an_encoding_is_decoded_to_the_picture_that_was_sent(encoding, padding):
    sent, meant = EXACT[encoding]
    decoded = decode_image(encoding=encoding, **message(sent, padding))
    np.testing.assert_array_equal(decoded, meant)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("colour", [(200, 40, 90), (10, 250, 30), (0, 60, 255)])
@pytest.mark.parametrize("encoding", BAYER)
def test_a_bayer_pattern_gives_the_colour_that_the_filter_saw(encoding, colour, padding):
    channel = {"R": colour[0], "G": colour[1], "B": colour[2]}
    tile = np.array([[channel[c] for c in row] for row in BAYER[encoding]], np.uint8)
    mosaic = np.tile(tile, (HEIGHT // 2, WIDTH // 2))
    decoded = decode_image(encoding=encoding, **message(mosaic, padding))
    np.testing.assert_array_equal(decoded, np.broadcast_to(colour, (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("colour", [(200, 40, 90), (60, 190, 110), (30, 60, 220), (128,) * 3])
@pytest.mark.parametrize("encoding", YUV)
def test_packed_yuv_gives_the_colour_of_bt601(encoding, colour, padding):
    red, green, blue = np.array(colour) / 255.0
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    value = {
        "Y": 16 + 219 * luma,
        "U": 128 + 112 * (blue - luma) / 0.886,
        "V": 128 + 112 * (red - luma) / 0.701,
    }
    pair = np.array([round(value[letter]) for letter in YUV[encoding]], np.uint8)
    sent = np.tile(pair, (HEIGHT, WIDTH // 2)).reshape(HEIGHT, WIDTH, 2)
    decoded = decode_image(encoding=encoding, **message(sent, padding)).astype(int)
    assert np.abs(decoded - np.array(colour)).max() <= 3


@pytest.mark.parametrize("encoding", YUV)
def test_packed_yuv_keeps_each_pixels_own_brightness(encoding):
    letters = YUV[encoding] * (WIDTH // 2)
    luma = (16 + GREY[:, :WIDTH].astype(int) * 219 // 255).astype(np.uint8)
    sent = np.full((HEIGHT, 2 * WIDTH), 128, np.uint8)
    sent[:, [place for place, letter in enumerate(letters) if letter == "Y"]] = luma
    decoded = decode_image(encoding=encoding, **message(sent.reshape(HEIGHT, WIDTH, 2)))
    assert np.abs(decoded.astype(int) - GREY[..., None]).max() <= 2


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
@pytest.mark.parametrize("padding", [0, 4])
def test_sixteen_bits_are_read_in_their_byte_order_and_scaled_to_the_full_range(encoding, padding):
    values = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    meant = repeated(np.rint(values / 257.0).astype(np.uint8))
    for order, big_endian in (("<u2", False), (">u2", True)):
        sent = message(values.astype(order), padding)
        decoded = decode_image(encoding=encoding, big_endian=big_endian, **sent)
        np.testing.assert_array_equal(decoded, meant)
    assert meant.min() == 0
    assert meant.max() == 255


def test_bytes_and_arrays_decode_alike():
    sent = message(RGB)
    as_array = sent | {"data": np.frombuffer(sent["data"], np.uint8)}
    np.testing.assert_array_equal(
        decode_image(encoding="bgr8", **sent), decode_image(encoding="bgr8", **as_array)
    )


@pytest.mark.parametrize("encoding", ["", "RGB8", "32FC1", "nv21"])
def test_an_unknown_encoding_is_refused_and_the_known_ones_are_named(encoding):
    with pytest.raises(DataError, match=f"'{encoding}' is not known.*rgb8.*bayer_grbg8"):
        decode_image(encoding=encoding, **message(RGB))


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": HEIGHT + 1},
        {"height": 0},
        {"width": WIDTH + 1},
        {"width": 0},
        {"step": WIDTH * 3 - 1},
        {"step": WIDTH * 3 + 1},
        {"data": b""},
        {"data": message(RGB)["data"][:-1]},
    ],
)
def test_sizes_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(DataError, match="height \\* step"):
        decode_image(encoding="rgb8", **message(RGB) | wrong)


@pytest.mark.parametrize("encoding", YUV)
def test_packed_yuv_of_odd_width_is_refused(encoding):
    with pytest.raises(DataError, match="even width, got 15"):
        decode_image(encoding=encoding, height=2, width=15, step=30, data=bytes(60))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_image_of_two_pixels_decodes(encoding):
    data = bytes(2 * 4)
    assert decode_image(encoding=encoding, height=1, width=2, step=8, data=data).shape == (1, 2, 3)


def compressed(kind: str, image: np.ndarray = RGB, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_png_decodes_to_the_picture_that_was_saved():
    np.testing.assert_array_equal(decode_compressed_image(compressed("PNG")), RGB)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": bytes(40)}])
def test_a_jpeg_decodes_to_what_pillow_reads(options):
    smooth = picture(48, 64) // 4 + 60
    data = compressed("JPEG", smooth, quality=95, subsampling=0, **options)
    wanted = np.asarray(Image.open(io.BytesIO(data)), int)
    assert np.abs(decode_compressed_image(data).astype(int) - wanted).max() <= 3


def test_a_jpeg_with_bytes_after_its_end_decodes():
    data = compressed("JPEG")
    np.testing.assert_array_equal(
        decode_compressed_image(data + bytes(100)), decode_compressed_image(data)
    )


def test_grey_and_sixteen_bit_pngs_become_rgb():
    np.testing.assert_array_equal(decode_compressed_image(compressed("PNG", GREY)), repeated(GREY))
    deep = GREY.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_compressed_image(compressed("PNG", deep)), repeated(GREY))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_refused_and_not_filled_with_grey(kind, kept):
    data = compressed(kind, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    assert decode_compressed_image(data).shape == (64, 64, 3)
    with pytest.raises(DataError, match="does not decode"):
        decode_compressed_image(data[: int(len(data) * kept)])


def test_a_jpeg_without_its_end_marker_is_refused_whatever_opencv_makes_of_it(monkeypatch):
    import cv2

    # OpenCV 4, the one on a robot, fills what is missing with grey and reports success.
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((8, 8, 3), np.uint8))
    data = compressed("JPEG")
    assert decode_compressed_image(data).shape == (8, 8, 3)
    with pytest.raises(DataError, match="cut off"):
        decode_compressed_image(data[:-2])


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\xff\xd8\xff", bytes(1000)])
def test_bytes_that_are_no_image_are_refused(data):
    with pytest.raises(DataError, match=f"compressed image of {len(data)} bytes"):
        decode_compressed_image(data)


def test_an_image_of_the_right_size_is_not_resampled():
    assert resize_image(RGB, HEIGHT, WIDTH) is RGB


def test_shrinking_averages_over_areas():
    blocks = RGB.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    shrunk = resize_image(RGB, HEIGHT // 2, WIDTH // 2).astype(float)
    assert np.abs(shrunk - blocks).max() <= 0.5


def test_the_networks_input_is_normalised_channel_by_channel_in_the_encoders_order():
    images = {"wrist": RGB, "third_person": RGB[:, ::-1]}
    batch = network_input(images, ["third_person", "wrist"], HEIGHT, WIDTH)
    assert batch.shape == (2, 3, HEIGHT, WIDTH)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    for place, view in enumerate(["third_person", "wrist"]):
        for channel in range(3):
            wanted = images[view][..., channel] / 255.0
            wanted = (wanted - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
            np.testing.assert_allclose(batch[place, channel], wanted, atol=1e-5)


def test_views_of_different_sizes_meet_at_the_networks_size():
    images = {"wrist": picture(24, 32), "third_person": picture(480, 640)}
    assert network_input(images, list(images), 12, 16).shape == (2, 3, 12, 16)


def test_the_networks_input_is_the_same_bits_every_time():
    images = {"wrist": picture(480, 640)}
    first = network_input(images, ["wrist"], 96, 128)
    for _ in range(5):
        assert network_input(images, ["wrist"], 96, 128).tobytes() == first.tobytes()


def test_a_missing_view_is_named_and_so_are_those_present():
    with pytest.raises(DataError, match="lacks \\['wrist'\\].*holds \\['third_person'\\]"):
        network_input({"third_person": RGB}, ["wrist", "third_person"], 8, 8)
