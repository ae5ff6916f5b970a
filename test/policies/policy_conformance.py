"""What every policy must do: inherit ``PolicyConformance`` and give the two fixtures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alt_ros.errors import AltError
from alt_ros.policies.policy import Policy, PolicyOutput
from alt_ros.types import ActionLayout, Observation

EPISODE = 6
# The fixtures serve all examples, and every subclass runs the same test: both on purpose.
_ON_PURPOSE = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
SHAPES = settings(max_examples=6, deadline=None, suppress_health_check=_ON_PURPOSE)


class PolicyConformance:
    """Tests of the contract in ``alt_ros.policies.policy``.

    A subclass gives the fixtures ``policy`` (a fresh policy) and ``observe`` (a function from a
    frame number and a stamp to an observation that the policy takes).
    """

    @pytest.fixture
    def policy(self) -> Policy:
        raise NotImplementedError("give the fixture 'policy'")

    @pytest.fixture
    def observe(self) -> Callable[[int, int], Observation]:
        raise NotImplementedError("give the fixture 'observe'")

    def episode(
        self,
        policy: Policy,
        observe: Callable[[int, int], Observation],
        start: int = 0,
        first_frame: int = 0,
    ) -> list[PolicyOutput]:
        return [
            policy.act(observe(first_frame + i, start + i * policy.period)) for i in range(EPISODE)
        ]

    def test_it_says_what_it_takes_and_gives(self, policy):
        assert policy.views
        assert all(isinstance(view, str) and view for view in policy.views)
        assert isinstance(policy.layout, ActionLayout)
        assert policy.period > 0
        assert policy.horizon >= 1

    def test_chunks_bear_the_observations_stamp_and_fit_layout_and_horizon(self, policy, observe):
        chunks = [output.chunk for output in self.episode(policy, observe)]
        assert any(chunk is not None for chunk in chunks)
        for i, chunk in enumerate(chunks):
            if chunk is not None:
                assert chunk.stamp == i * policy.period
                assert chunk.period == policy.period
                assert chunk.layout == policy.layout
                assert 1 <= len(chunk.actions) <= policy.horizon
                assert chunk.actions.dtype == np.float64

    def test_a_decision_agrees_with_itself_and_is_given_always_or_never(self, policy, observe):
        outputs = self.episode(policy, observe)
        assert len({output.ood is None for output in outputs}) == 1
        for output in outputs:
            if output.ood is None:
                continue
            assert isinstance(output.ood.flag, bool)
            assert np.isfinite(output.ood.threshold)
            assert output.ood.view in ("", *policy.views)

    def test_after_a_reset_the_same_observations_give_the_same_outputs(self, policy, observe):
        first = self.episode(policy, observe)
        policy.reset()
        self.episode(policy, observe, start=10**12, first_frame=3)
        policy.reset()
        for one, other in zip(first, self.episode(policy, observe), strict=True):
            assert one.ood == other.ood
            assert (one.chunk is None) == (other.chunk is None)
            if one.chunk is not None and other.chunk is not None:
                assert one.chunk.actions.tobytes() == other.chunk.actions.tobytes()
                assert one.chunk.source == other.chunk.source

    def test_what_was_only_observed_counts_like_what_was_answered(self, policy, observe):
        answered = self.episode(policy, observe)[-1]
        policy.reset()
        for i in range(EPISODE - 1):
            policy.observe(observe(i, i * policy.period))
        last = policy.act(observe(EPISODE - 1, (EPISODE - 1) * policy.period))
        assert last.ood == answered.ood
        assert np.array_equal(last.chunk.actions, answered.chunk.actions)

    def test_a_gap_in_the_stamps_is_a_reset(self, policy, observe):
        start = 10**12
        self.episode(policy, observe)
        after_gap = self.episode(policy, observe, start=start)
        policy.reset()
        for one, other in zip(after_gap, self.episode(policy, observe, start=start), strict=True):
            assert one.ood == other.ood
            assert np.array_equal(one.chunk.actions, other.chunk.actions)

    @SHAPES
    @given(height=st.integers(8, 200), width=st.integers(8, 200), seed=st.integers(0, 99))
    def test_images_of_any_size_are_answered(self, policy, observe, height, width, seed):
        rng = np.random.default_rng(seed)
        seen = observe(0, 0)
        shape = height, width, 3
        images = {view: rng.integers(0, 256, shape, dtype=np.uint8) for view in seen.images}
        policy.reset()
        output = policy.act(replace(seen, images=images))
        assert output.chunk.actions.shape[1] == policy.layout.size

    def test_a_chunk_may_be_changed_without_changing_the_policy(self, policy, observe):
        first = self.episode(policy, observe)
        kept = [o.chunk.actions.copy() for o in first if o.chunk is not None]
        for output in first:
            if output.chunk is not None:
                output.chunk.actions[:] = np.nan
        policy.reset()
        again = [o.chunk.actions for o in self.episode(policy, observe) if o.chunk is not None]
        assert all(np.array_equal(a, b) for a, b in zip(kept, again, strict=True))

    def test_it_does_not_change_the_observation(self, policy, observe):
        observation = observe(0, 0)
        before = {view: image.copy() for view, image in observation.images.items()}
        policy.act(observation)
        assert all(np.array_equal(before[v], image) for v, image in observation.images.items())

    def test_an_observation_without_a_view_is_refused_by_name(self, policy, observe):
        whole = observe(0, 0)
        view = policy.views[0]
        images = {name: image for name, image in whole.images.items() if name != view}
        images["another_camera"] = next(iter(whole.images.values()))
        lacking = Observation(0, images, whole.poses, whole.grippers, whole.state)
        with pytest.raises(AltError, match=view):
            policy.act(lacking)
        with pytest.raises(AltError, match=view):
            policy.observe(lacking)
