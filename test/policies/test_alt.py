from dataclasses import replace

import numpy as np
import pytest
from bundles import observation
from policy_conformance import PolicyConformance

from alt_ros.bundle import Bundle
from alt_ros.lookup.correction import CorrectionConfig
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.policies.alt import AltPolicy


class TestAltPolicy(PolicyConformance):
    @pytest.fixture
    def policy(self, bundle_path):
        return AltPolicy.load(bundle_path, device="cpu")

    @pytest.fixture
    def observe(self):
        return observation

    def test_an_observation_of_a_demonstration_recalls_its_own_frame(self, policy):
        output = policy.act(observation(7))
        assert (output.chunk.source.demonstration, output.chunk.source.frame) == (1, 1)
        assert output.chunk.actions[:, 0].tolist() == [7.0, 8.0, 9.0]
        assert output.ood.neighbour.similarity == pytest.approx(1.0, abs=1e-5)
        assert not output.ood.flag

    def test_a_bundle_loaded_without_its_encoder_gets_it_here(self, bundle_path, policy):
        late = AltPolicy(Bundle.load(bundle_path, encoder=False))
        assert late.act(observation(3)).ood == policy.act(observation(3)).ood

    def test_it_calls_the_same_step_as_the_lookup_node(self, bundle_path, policy):
        bundle = Bundle.load(bundle_path, device="cpu")
        step = bundle.lookup()
        for row in (0, 1, 9, 14):
            seen = observation(row)
            chunk, decision = step.step(bundle.encoder.embed(seen).query(seen))
            output = policy.act(seen)
            assert output.ood == decision
            assert output.chunk.source == chunk.source

    def test_other_retrieval_settings_can_be_given(self, bundle_path):
        bundle = Bundle.load(bundle_path, device="cpu")
        lookup = bundle.lookup(retrieval=RetrievalConfig(stay_margin=0.0), horizon=2)
        policy = AltPolicy(bundle, lookup)
        assert policy.horizon == 2
        assert len(policy.act(observation(0)).chunk.actions) == 2


def aside(row, stamp=None):
    """An observation of a frame, with the arm 2 cm beside the demonstration's."""
    pose = np.array([[0.0, 0.02, 0.0, 0.0, 0.0, 0.0, 1.0]])
    return replace(observation(row, stamp), poses=pose)


class TestCorrectingAltPolicy(PolicyConformance):
    @pytest.fixture
    def policy(self, bundle_path):
        bundle = replace(Bundle.load(bundle_path, device="cpu"), correction=CorrectionConfig())
        return AltPolicy(bundle)

    @pytest.fixture
    def observe(self):
        return aside

    def test_the_motion_goes_on_from_where_the_arm_is(self, policy):
        output = policy.act(aside(7))
        assert (output.chunk.source.demonstration, output.chunk.source.frame) == (1, 1)
        assert output.chunk.actions[:, 1] == pytest.approx([0.02] * 3)
