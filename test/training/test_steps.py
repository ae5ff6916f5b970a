import json
import sys

import pytest
import torch

from alt_ros.errors import DependencyError
from alt_ros.training.steps import take_steps, write_scalar


class Counted:
    """A training that learns nothing: the loss of a step is the step plus an offset."""

    def __init__(self, offset=0.0, fails_at=None):
        self.offset, self.fails_at = offset, fails_at
        self.taken, self.saved = [], []

    def step(self, step):
        if step == self.fails_at:
            raise RuntimeError("power cut")
        torch.rand(1)
        self.taken.append(step)
        return step + self.offset

    def save(self, path, done):
        self.saved.append(done)
        path.write_text(json.dumps(done))

    def resume(self, path):
        return json.loads(path.read_text()) if path.exists() else 0


def take(run, folder, steps=6, *, tensorboard=False, stop_at=None, every=4, progress=None):
    return take_steps(
        run,
        folder / "checkpoint",
        steps,
        rate=lambda step: 0.1 / (step + 1),
        checkpoint_every=every,
        progress=progress or (lambda done, total: None),
        tensorboard=tensorboard,
        stop_at=stop_at,
    )


def scalars(folder, name):
    """Return the steps and the values of a scalar, as TensorBoard would show them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_every_step_is_taken_once_and_told(tmp_path):
    run, seen = Counted(), []
    taken = take(run, tmp_path, progress=lambda *now: seen.append(now))
    assert run.taken == [0, 1, 2, 3, 4, 5]
    assert seen == [(done, 6) for done in range(1, 7)]
    assert taken is not None
    assert taken.first == 0
    assert taken.seconds >= 0.0
    assert list(tmp_path.iterdir()) == [tmp_path / "checkpoint"]


@pytest.mark.parametrize(("every", "saved"), [(2, [2, 4, 6]), (4, [4, 6]), (100, [6])])
def test_a_checkpoint_is_written_now_and_then_and_at_the_end(tmp_path, every, saved):
    run = Counted()
    take(run, tmp_path, every=every)
    assert run.saved == saved


def test_a_training_that_was_broken_off_goes_on_at_the_next_step(tmp_path):
    first, second = Counted(), Counted()
    assert take(first, tmp_path, stop_at=3) is None
    assert (first.taken, first.saved) == ([0, 1, 2], [3])
    taken = take(second, tmp_path, stop_at=6)  # the last step is no breaking off
    assert (second.taken, second.saved) == ([3, 4, 5], [4, 6])
    assert taken is not None
    assert taken.first == 3


def test_a_finished_training_takes_no_step(tmp_path):
    take(Counted(), tmp_path)
    again = Counted()
    taken = take(again, tmp_path)
    assert (again.taken, again.saved) == ([], [])
    assert taken is not None
    assert taken.first == 6


def test_what_the_steps_draw_is_not_taken_from_the_caller(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    take(Counted(), tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_loss_and_rate_of_each_step_arrive_in_tensorboard(tmp_path):
    take(Counted(0.5), tmp_path, steps=3, tensorboard=True)
    assert scalars(tmp_path, "train/loss") == [(0, 0.5), (1, 1.5), (2, 2.5)]
    rates = scalars(tmp_path, "train/learning_rate")
    assert [step for step, _ in rates] == [0, 1, 2]
    assert [rate for _, rate in rates] == pytest.approx([0.1, 0.05, 0.1 / 3])


def test_what_was_written_after_the_checkpoint_is_dropped_when_it_goes_on(tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        take(Counted(fails_at=3), tmp_path, every=2, tensorboard=True)
    assert scalars(tmp_path, "train/loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    take(Counted(offset=10.0), tmp_path, steps=4, every=2, tensorboard=True)
    assert scalars(tmp_path, "train/loss") == [(0, 0.0), (1, 1.0), (2, 12.0), (3, 13.0)]


def test_one_scalar_is_added_to_those_of_the_training(tmp_path):
    take(Counted(), tmp_path, steps=2, tensorboard=True)
    write_scalar(tmp_path, "validation/loss", 0.25, 2)
    assert scalars(tmp_path, "validation/loss") == [(2, 0.25)]
    assert scalars(tmp_path, "train/loss") == [(0, 0.0), (1, 1.0)]


def test_tensorboard_is_named_where_it_is_missing_before_a_step_is_taken(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    run = Counted()
    with pytest.raises(DependencyError, match="pip install tensorboard, or train without$"):
        take(run, tmp_path, tensorboard=True)
    assert run.taken == []
    with pytest.raises(DependencyError, match="scalars for TensorBoard, which does not import"):
        write_scalar(tmp_path, "validation/loss", 0.25, 2)
    take(run, tmp_path)
    assert len(run.taken) == 6
