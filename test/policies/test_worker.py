"""The worker with a real policy that takes its time: threads and clocks are the real ones."""

from __future__ import annotations

import queue
import threading
import time

import numpy as np
import pytest

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.policies.policy import Policy, PolicyOutput
from alt_ros.policies.worker import MOST_WAITING, Answer, PolicyWorker
from alt_ros.types import ActionChunk, ActionLayout, Observation

PERIOD = 50_000_000
LAYOUT = ActionLayout(arms=0, extra=1)
IMAGES = {"wrist": np.zeros((4, 4, 3), np.uint8)}
PATIENCE = 10.0


class SlowPolicy(Policy):
    """Writes down what it is told; an answer takes ``seconds``, unless ``gate`` is shut."""

    views = ("wrist",)
    layout = LAYOUT
    period = PERIOD
    horizon = 1

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.told: list[tuple[str, int]] = []
        self.busy = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.refused: set[int] = set()

    def reset(self) -> None:
        self.told.append(("reset", -1))

    def observe(self, observation: Observation) -> None:
        self._take("observe", observation)

    def act(self, observation: Observation) -> PolicyOutput:
        self._take("act", observation)
        self.busy.set()
        time.sleep(self.seconds)
        assert self.gate.wait(PATIENCE)
        actions = np.full((1, 1), float(observation.stamp))
        return PolicyOutput(ActionChunk(observation.stamp, PERIOD, actions, LAYOUT), None)

    def _take(self, how: str, observation: Observation) -> None:
        self.told.append((how, observation.stamp))
        if observation.stamp in self.refused:
            raise DataError(f"observation {observation.stamp} does not fit")

    def seen(self) -> list[int]:
        return [stamp for how, stamp in self.told if how != "reset"]

    def acted(self) -> list[int]:
        return [stamp for how, stamp in self.told if how == "act"]


@pytest.fixture
def started():
    """Return a function that starts a worker and gives it with the queue of its answers."""
    workers: list[PolicyWorker] = []

    def start(policy: SlowPolicy, **options) -> tuple[PolicyWorker, queue.Queue[Answer]]:
        answers: queue.Queue[Answer] = queue.Queue()
        worker = PolicyWorker(policy, answers.put, **options)
        workers.append(worker)
        worker.start()
        return worker, answers

    yield start
    for worker in workers:
        worker.stop()


def offer(worker: PolicyWorker, stamp: int) -> None:
    worker.offer(lambda: Observation(stamp, IMAGES), f"tag {stamp}")


def wait_until(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.001)


def test_an_observation_is_answered_with_its_tag_and_its_time(started):
    worker, answers = started(SlowPolicy(0.05))
    offer(worker, 3)
    answer = answers.get(timeout=PATIENCE)
    assert answer.chunk.stamp == 3
    assert (answer.tag, answer.error) == ("tag 3", "")
    assert 0.05 <= answer.seconds < PATIENCE


def test_while_the_policy_is_busy_offering_takes_no_time_and_the_newest_is_answered_next(started):
    policy = SlowPolicy(0.3)
    worker, answers = started(policy)
    offer(worker, 0)
    assert policy.busy.wait(PATIENCE)
    slowest = 0.0
    for stamp in range(1, 6):
        before = time.perf_counter()
        offer(worker, stamp)
        slowest = max(slowest, time.perf_counter() - before)
    assert slowest < 0.1, "a third of the inference: a busy machine may take tens of ms"
    assert answers.empty()
    assert answers.get(timeout=PATIENCE).tag == "tag 0"
    assert answers.get(timeout=PATIENCE).tag == "tag 5"
    assert policy.told[1:] == [
        ("act", 0),
        *(("observe", stamp) for stamp in range(1, 5)),
        ("act", 5),
    ]


def test_every_observation_is_seen_once_and_in_its_order(started):
    policy = SlowPolicy(0.003)
    worker, _ = started(policy)
    for stamp in range(200):
        offer(worker, stamp)
        if stamp % 20 == 0:
            time.sleep(0.005)
    wait_until(lambda: 199 in policy.seen())
    assert policy.seen() == list(range(200))
    assert policy.acted() == sorted(set(policy.acted()))


def test_an_observation_is_decoded_on_the_workers_thread(started):
    worker, answers = started(SlowPolicy())
    threads = []

    def read() -> Observation:
        threads.append(threading.current_thread())
        return Observation(0, IMAGES)

    worker.offer(read)
    answers.get(timeout=PATIENCE)
    assert threads[0] is not threading.current_thread()


@pytest.mark.parametrize("every", [1, 2, 5])
def test_it_answers_the_first_and_then_every_so_many(started, every):
    policy = SlowPolicy()
    worker, answers = started(policy, act_every=every)
    for stamp in range(11):
        offer(worker, stamp)
        wait_until(lambda stamp=stamp: stamp in policy.seen())
    worker.stop()
    assert policy.acted() == list(range(0, 11, every))
    assert answers.qsize() == len(policy.acted())


def test_what_waited_while_the_policy_was_busy_counts_towards_the_next_answer(started):
    policy = SlowPolicy()
    policy.gate.clear()
    worker, answers = started(policy, act_every=3)
    offer(worker, 0)
    assert policy.busy.wait(PATIENCE)
    for stamp in (1, 2):
        offer(worker, stamp)
    policy.gate.set()
    wait_until(lambda: 2 in policy.seen())
    assert policy.acted() == [0]
    offer(worker, 3)
    wait_until(lambda: 3 in policy.seen())
    assert policy.acted() == [0, 3]
    assert [answers.get(timeout=PATIENCE).tag for _ in range(2)] == ["tag 0", "tag 3"]


def test_an_error_is_an_answer_and_the_worker_goes_on(started):
    policy = SlowPolicy()
    policy.refused = {1}
    worker, answers = started(policy)
    found = []
    for stamp in range(3):
        offer(worker, stamp)
        found.append(answers.get(timeout=PATIENCE))
    assert [answer.error for answer in found] == ["", "observation 1 does not fit", ""]
    assert [answer.chunk is None for answer in found] == [False, True, False]
    assert [answer.tag for answer in found] == ["tag 0", "tag 1", "tag 2"]


def test_an_error_of_an_observation_that_is_not_answered_is_told_as_well(started):
    policy = SlowPolicy()
    policy.refused = {1}
    worker, answers = started(policy, act_every=3)
    for stamp in range(4):
        offer(worker, stamp)
        wait_until(lambda stamp=stamp: stamp in policy.seen())
    found = [answers.get(timeout=PATIENCE) for _ in range(3)]
    assert [(answer.tag, bool(answer.error)) for answer in found] == [
        ("tag 0", False),
        ("tag 1", True),
        ("tag 3", False),
    ]


def test_one_bad_observation_among_those_that_waited_costs_none_of_the_others(started):
    policy = SlowPolicy()
    policy.refused = {2}
    policy.gate.clear()
    worker, answers = started(policy)
    offer(worker, 0)
    assert policy.busy.wait(PATIENCE)
    for stamp in (1, 2, 3, 4):
        offer(worker, stamp)
    policy.gate.set()
    assert answers.get(timeout=PATIENCE).tag == "tag 0"
    answered = [answers.get(timeout=PATIENCE)]
    while answered[-1].chunk is None:
        answered.append(answers.get(timeout=2.0))
    assert policy.seen() == [0, 1, 2, 3, 4]
    assert answered[-1].chunk.stamp == 4
    assert any("observation 2 does not fit" in answer.error for answer in answered)


def test_a_message_that_cannot_be_decoded_is_an_answer_too(started):
    worker, answers = started(SlowPolicy())

    def read() -> Observation:
        raise DataError("image is cut off")

    worker.offer(read, "bad")
    answer = answers.get(timeout=PATIENCE)
    assert (answer.tag, answer.error, answer.chunk) == ("bad", "image is cut off", None)
    offer(worker, 1)
    assert answers.get(timeout=PATIENCE).chunk.stamp == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_that_nobody_foresaw_does_not_silence_the_worker(started):
    worker, answers = started(SlowPolicy())

    def read() -> Observation:
        raise RuntimeError("CUDA out of memory\nat some address")

    worker.offer(read, "bad")
    answer = answers.get(timeout=2.0)
    assert "CUDA out of memory" in answer.error
    assert "\n" not in answer.error
    offer(worker, 1)
    assert answers.get(timeout=PATIENCE).chunk.stamp == 1


def test_stopping_waits_for_the_inference_and_drops_its_answer(started):
    policy = SlowPolicy(0.2)
    worker, answers = started(policy)
    offer(worker, 0)
    assert policy.busy.wait(PATIENCE)
    offer(worker, 1)
    before = time.monotonic()
    worker.stop()
    assert time.monotonic() - before > 0.05
    assert policy.seen() == [0]
    assert answers.empty()
    assert not any(thread.name == "policy" for thread in threading.enumerate())
    worker.stop()  # again does nothing


def test_a_restart_begins_a_new_episode_without_what_still_waited(started):
    policy = SlowPolicy()
    worker, answers = started(policy)
    offer(worker, 0)
    answers.get(timeout=PATIENCE)
    worker.stop()
    offer(worker, 1)
    worker.start()
    offer(worker, 2)
    assert answers.get(timeout=PATIENCE).tag == "tag 2"
    assert policy.told == [("reset", -1), ("act", 0), ("reset", -1), ("act", 2)]


def test_of_too_many_that_wait_the_oldest_are_forgotten(started):
    policy = SlowPolicy()
    policy.gate.clear()
    worker, _ = started(policy)
    offer(worker, 0)
    assert policy.busy.wait(PATIENCE)
    last = MOST_WAITING + 10
    for stamp in range(1, last + 1):
        offer(worker, stamp)
    policy.gate.set()
    wait_until(lambda: last in policy.seen())
    assert policy.seen() == [0, *range(11, last + 1)]


@pytest.mark.parametrize("every", [0, -1])
def test_answering_less_than_never_is_refused(every):
    with pytest.raises(ConfigurationError, match=f"act_every must be at least 1, got {every}"):
        PolicyWorker(SlowPolicy(), print, act_every=every)
