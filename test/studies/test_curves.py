import numpy as np
import pytest

from alt_ros.studies.curves import SHAPES, curve


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_a_closed_curve_two_units_wide(shape):
    points = curve(shape).points
    assert np.ptp(points[:, 0]) == pytest.approx(2.0, abs=0.1)
    assert np.abs(points).max() <= 1.05
    steps = np.linalg.norm(np.diff(np.concatenate([points, points[:1]]), axis=0), axis=1)
    assert steps.max() < 2e-4
    np.testing.assert_allclose(curve(shape).at(np.array([0.0])), curve(shape).at(np.array([1.0])))


@pytest.mark.parametrize("shape", SHAPES)
def test_points_are_drawn_evenly_along_the_curve(shape):
    share = np.linspace(0.0, 1.0, 3000)
    steps = np.linalg.norm(np.diff(curve(shape).at(share), axis=0), axis=1)
    # A chord over a corner is shorter than the way around it.
    assert np.median(steps) == pytest.approx(curve(shape).length / 2999, rel=1e-3)
    assert np.quantile(steps, 0.01) > 0.9 * np.median(steps)


def test_the_distance_from_an_ellipse_is_the_one_of_geometry():
    outside = np.array([[1.3, 0.0], [0.0, 0.75], [0.0, 0.5]])
    distances, feet = curve("ellipse").project(outside)
    np.testing.assert_allclose(distances, [0.3, 0.15, 0.1], atol=1e-4)
    np.testing.assert_allclose(feet, [[1.0, 0.0], [0.0, 0.6], [0.0, 0.6]], atol=2e-3)
