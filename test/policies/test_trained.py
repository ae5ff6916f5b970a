from alt_ros.policies.policy import PolicyOutput
from alt_ros.policies.spec import PolicySpec
from alt_ros.policies.trained import TrainedPolicy
from alt_ros.types import ActionLayout

SPEC = PolicySpec(
    policy="bc",
    size="small",
    views=("wrist", "front"),
    height=32,
    width=48,
    arms=2,
    extra=1,
    period=50_000_000,
    observation_horizon=3,
    prediction_horizon=8,
)


class Silent(TrainedPolicy):
    def reset(self):
        pass

    def observe(self, observation):
        pass

    def act(self, observation):
        return PolicyOutput(None, None)


def test_a_trained_policy_says_of_itself_what_its_spec_says():
    policy = Silent(SPEC)
    assert policy.spec == SPEC
    assert policy.views == ("wrist", "front")
    assert policy.layout == ActionLayout(2, 1)
    assert policy.period == 50_000_000


def test_the_longest_chunk_begins_at_the_newest_of_the_observations():
    # Tp = 8 actions from the oldest of To = 3 observations on: two of them are of the past.
    assert Silent(SPEC).horizon == 6
