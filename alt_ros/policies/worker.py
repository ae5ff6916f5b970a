"""A policy on a thread of its own: whoever offers observations never waits for an answer.

The policy sees every observation in order and answers the newest when it is free: inference that
takes seconds delays its own answers, and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alt_ros.errors import AltError, ConfigurationError
from alt_ros.policies.policy import Policy
from alt_ros.types import ActionChunk, Observation

MOST_WAITING = 256
"""Observations that may wait while the policy is busy; the oldest of more are forgotten."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of one observation.

    Attributes:
        chunk: What to do; None where the policy has nothing to say, or an error came in its way.
        seconds: How long the policy took.
        tag: What was given with the observation.
        error: One line; empty where all went well.
    """

    chunk: ActionChunk | None
    seconds: float
    tag: Any
    error: str = ""


class PolicyWorker:
    """Runs a policy; the only one to touch it between ``start`` and ``stop``.

    Args:
        policy: Which policy.
        answered: Called from the worker's thread with every answer.
        act_every: Observations from one that is answered to the next, at the least.

    Raises:
        ConfigurationError: ``act_every`` is not positive.
    """

    def __init__(
        self, policy: Policy, answered: Callable[[Answer], None], *, act_every: int = 1
    ) -> None:
        if act_every < 1:
            raise ConfigurationError(f"policy: act_every must be at least 1, got {act_every}")
        self._policy = policy
        self._answered = answered
        self._act_every = act_every
        self._waiting: deque[tuple[Callable[[], Observation], Any]] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin a new episode."""
        self.stop()
        self._stopping = False
        self._waiting.clear()
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; waits for an inference that is under way, whose answer is dropped."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._changed:
            self._stopping = True
            self._changed.notify()
        thread.join()

    def offer(self, read: Callable[[], Observation], tag: Any = None) -> None:
        """Give the newest observation; returns at once.

        Args:
            read: Gives the observation; called from the worker's thread, as decoding takes time.
            tag: Comes back with the answer.
        """
        with self._changed:
            self._waiting.append((read, tag))
            self._changed.notify()

    def _run(self) -> None:
        self._policy.reset()
        unanswered = self._act_every  # so that the first observation is answered
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                taken = list(self._waiting)
                self._waiting.clear()
            unanswered += len(taken)
            acts = unanswered >= self._act_every
            for read, tag in taken[:-1] if acts else taken:
                self._observe(read, tag)
            if acts:
                unanswered = 0
                self._answer(*taken[-1])

    def _observe(self, read: Callable[[], Observation], tag: Any) -> None:
        try:
            self._policy.observe(read())
        except Exception as error:
            self._give(Answer(None, 0.0, tag, _line(error)))

    def _answer(self, read: Callable[[], Observation], tag: Any) -> None:
        started, chunk, trouble = time.perf_counter(), None, ""
        try:
            chunk = self._policy.act(read()).chunk
        except Exception as error:
            trouble = _line(error)
        self._give(Answer(chunk, time.perf_counter() - started, tag, trouble))

    def _give(self, answer: Answer) -> None:
        if not self._stopping:
            self._answered(answer)


def _line(error: Exception) -> str:
    """Return an error in one line; one that nobody foresaw with its kind."""
    kind = "" if isinstance(error, AltError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())
