from __future__ import annotations

import weakref

import pytest

from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.inspection import summarize
from alt_ros.demonstrations.sequence import Concatenation, DemonstrationSequence
from alt_ros.demonstrations.store import write_store


@pytest.fixture
def watched(make_demonstration) -> DemonstrationSequence:
    class Watched(DemonstrationSequence):
        """Four demonstrations; counts how many are alive when another is read."""

        def __init__(self) -> None:
            self.loaded: list[weakref.ref[Demonstration]] = []
            self.most_alive = 0

        def __len__(self) -> int:
            return 4

        def _load(self, index: int) -> Demonstration:
            alive = sum(reference() is not None for reference in self.loaded)
            self.most_alive = max(self.most_alive, alive)
            demonstration = make_demonstration(f"episode {index}")
            self.loaded.append(weakref.ref(demonstration))
            return demonstration

    return Watched()


def test_items_are_read_on_access_and_a_slice_reads_nothing(watched):
    part = watched[3:0:-2]
    assert len(part) == 2
    assert watched.loaded == []
    assert [demonstration.name for demonstration in part] == ["episode 3", "episode 1"]
    assert watched[-1].name == "episode 3"
    for index in (4, -5):
        with pytest.raises(IndexError, match="of 4"):
            watched[index]


@pytest.mark.parametrize(
    "wrap", [lambda w: w, lambda w: w[:], lambda w: Concatenation([("a", w)])]
)
def test_one_demonstration_at_a_time_is_in_memory(tmp_path, watched, wrap):
    summarize(wrap(watched))
    write_store(tmp_path / "store", wrap(watched))
    assert len(watched.loaded) == 8
    assert watched.most_alive == 0
