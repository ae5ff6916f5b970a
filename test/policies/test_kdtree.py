from typing import ClassVar

import numpy as np
import pytest
from trained_conformance import LENGTHS, TrainedPolicyConformance, checkpoint

from alt_ros.errors import BundleError, ConfigurationError
from alt_ros.policies.checkpoint import PolicyCheckpoint
from alt_ros.policies.kdtree import KdTreePolicy
from alt_ros.types import Observation


class TestKdTreePolicy(TrainedPolicyConformance):
    policy_name = "kdtree"
    own: ClassVar[dict] = {"components": 4}

    def test_a_demonstrated_frame_recalls_itself_and_its_chunk_ends_with_its_episode(self):
        # Without an arm or a state the images alone decide.
        spec = self.spec(arms=0, extra=3)
        policy = KdTreePolicy(checkpoint(spec))
        rng = np.random.default_rng(0)
        actions = rng.normal(size=(sum(LENGTHS), 3))
        rng.normal(size=(sum(LENGTHS), 0))
        images = rng.integers(0, 256, (sum(LENGTHS), 2, 3, 32, 32), dtype=np.uint8)[12]
        views = dict(zip(spec.views, images.transpose(0, 2, 3, 1), strict=True))
        chunk = policy.act(Observation(0, views)).chunk
        assert (chunk.source.demonstration, chunk.source.frame) == (1, 3)
        assert chunk.source.similarity == pytest.approx(1.0, abs=1e-5)
        np.testing.assert_array_equal(chunk.actions, actions[12:16])


def test_more_components_than_frames_are_refused():
    with pytest.raises(ConfigurationError, match="components must be 1 to the 16 frames"):
        checkpoint(TestKdTreePolicy().spec(settings={"components": 17}))


def test_a_checkpoint_without_its_points_is_refused():
    made = checkpoint(TestKdTreePolicy().spec())
    arrays = {name: array for name, array in made.arrays.items() if name != "points"}
    with pytest.raises(BundleError, match=r"its weights lack \['points'\]: train it again"):
        KdTreePolicy(PolicyCheckpoint(made.spec, arrays, {}))
