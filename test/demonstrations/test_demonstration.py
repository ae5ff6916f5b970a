from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alt_ros.errors import DataError


@pytest.mark.parametrize("frames", [1, 5])
def test_every_frame_is_the_observation_a_policy_would_have_been_given(make_demonstration, frames):
    demonstration = make_demonstration(frames=frames)
    for frame in range(frames):
        observation = demonstration.observation(frame)
        assert observation.stamp == demonstration.stamps[frame]
        assert list(observation.images) == ["wrist", "third_person"]
        np.testing.assert_array_equal(
            observation.images["wrist"], demonstration.images["wrist"][frame]
        )
        np.testing.assert_array_equal(observation.poses, demonstration.poses[frame])
        np.testing.assert_array_equal(observation.grippers, demonstration.grippers[frame])
        np.testing.assert_array_equal(observation.state, demonstration.state[frame])


def test_the_period_is_the_median_step(make_demonstration):
    demonstration = make_demonstration(frames=5)
    demonstration.stamps[4] += 900_000_000
    assert demonstration.period == 100_000_000
    assert make_demonstration(frames=1).period == 0


def with_nan(values):
    values = values.copy()
    values[3] = np.nan
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"stamps": d.stamps[[0, 1, 1, 3, 4]]}, "stamps must increase.* at frame 2"),
        (lambda d: {"images": {}}, "has no camera view"),
        (lambda d: {"images": {"w": d.images["wrist"][:4]}}, r"view 'w': shape must be \(5,\)"),
        (lambda d: {"images": {"w": d.images["wrist"] / 255}}, r"view 'w': images .* float64"),
        (lambda d: {"actions": d.actions[:, :7]}, r"actions: shape must be \(5, 10\)"),
        (lambda d: {"poses": d.poses[:, 0]}, "poses: shape must be"),
        (lambda d: {"poses": d.poses * 2}, "quaternion must have norm 1"),
        (lambda d: {"actions": with_nan(d.actions)}, "actions: a value is not finite at frame 3"),
        (lambda d: {"state": with_nan(d.state)}, "state: a value is not finite at frame 3"),
    ],
)
def test_arrays_that_do_not_fit_together_are_an_error(make_demonstration, change, message):
    demonstration = make_demonstration(frames=5)
    with pytest.raises(DataError, match=f"demonstration 'first'.*{message}"):
        replace(demonstration, **change(demonstration))
