from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from alt_ros.errors import DataError
from alt_ros.simulation.scene import DISTRACTORS, LOOKS, VIEWS, CupPlacement, scene_mjcf


def test_scene_is_well_formed_and_holds_both_cameras_both_cups_and_every_distractor() -> None:
    root = ElementTree.fromstring(scene_mjcf((48, 64)))
    cameras = {camera.get("name") for camera in root.iter("camera")}
    geometry = {geom.get("name") for geom in root.iter("geom")}
    assert cameras == set(VIEWS)
    assert set(DISTRACTORS) <= geometry
    assert {f"{look.name}_bottom" for look in LOOKS} <= geometry


def test_offscreen_buffer_is_as_large_as_the_image() -> None:
    settings = ElementTree.fromstring(scene_mjcf((48, 64))).find("visual/global")
    assert settings is not None
    assert (settings.get("offheight"), settings.get("offwidth")) == ("48", "64")


def test_only_the_mug_has_a_handle() -> None:
    text = scene_mjcf((48, 64))
    assert "mug_handle_0" in text
    assert "tumbler_handle_0" not in text


def test_placement_that_is_not_finite_is_refused() -> None:
    with pytest.raises(DataError, match="cup placement must be finite"):
        CupPlacement(0.5, float("nan"), 0.0)
