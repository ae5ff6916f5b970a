import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alt_ros.policies.history import RESET_GAP, History
from alt_ros.types import Observation

IMAGES = {"wrist": np.zeros((4, 4, 3), np.uint8)}


@given(
    horizon=st.integers(1, 5),
    steps=st.lists(
        st.sampled_from([-1, 0, 1, 50_000_000, RESET_GAP, RESET_GAP + 1, -RESET_GAP]), max_size=20
    ),
)
def test_the_window_holds_the_last_of_the_episode_and_repeats_its_first(horizon, steps):
    history = History(horizon)
    stamps = np.cumsum([10**12, *steps]).tolist()
    episode: list[int] = []
    for stamp in stamps:
        if episode and not 0 <= stamp - episode[-1] <= RESET_GAP:
            episode = []
        assert history.begins_episode(stamp) == (not episode)
        episode.append(stamp)
        history.add(Observation(stamp, IMAGES))
        expected = (horizon * [episode[0]] + episode)[-horizon:]
        assert [seen.stamp for seen in history.window()] == expected


def test_clearing_begins_a_new_episode():
    history = History(2)
    history.add(Observation(0, IMAGES))
    assert not history.begins_episode(1)
    history.clear()
    assert history.begins_episode(1)
    history.add(Observation(1, IMAGES))
    assert [seen.stamp for seen in history.window()] == [1, 1]
