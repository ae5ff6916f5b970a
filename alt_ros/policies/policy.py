"""The contract of a policy: an observation in, a chunk out, and a decision where it watches.

Every policy of the package, and of yours, passes ``test/policies/policy_conformance.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from alt_ros.types import ActionChunk, ActionLayout, Observation, OodDecision


@dataclass(frozen=True)
class PolicyOutput:
    """What a policy says to one observation.

    Attributes:
        chunk: Actions from the observation's stamp on; None where the policy has none yet.
        ood: Whether the observation is out of the demonstrations' distribution; None where the
            policy does not watch for that: a monitor must, beside it.
    """

    chunk: ActionChunk | None
    ood: OodDecision | None


class Policy(ABC):
    """Maps observations, in the order of their stamps, to chunks.

    Between two resets the outputs are a function of the observations alone: no clock, no hidden
    randomness. What a policy draws at random it draws from its seed and the observation's stamp.
    """

    @property
    @abstractmethod
    def views(self) -> tuple[str, ...]:
        """Names of the camera views that an observation must hold."""

    @property
    @abstractmethod
    def layout(self) -> ActionLayout:
        """Meaning of the action columns."""

    @property
    @abstractmethod
    def period(self) -> int:
        """Time from one action to the next, ns."""

    @property
    @abstractmethod
    def horizon(self) -> int:
        """Prediction horizon Tp: the most actions of a chunk."""

    @abstractmethod
    def reset(self) -> None:
        """Begin a new episode: the next output depends on nothing seen before."""

    @abstractmethod
    def observe(self, observation: Observation) -> None:
        """Take an observation that need not be answered; ``act`` takes its own.

        A robot sees more often than a slow policy answers; what lies between belongs to the
        policy's history all the same.

        Raises:
            DataError: The observation lacks a view, or does not fit otherwise.
        """

    @abstractmethod
    def act(self, observation: Observation) -> PolicyOutput:
        """Return the chunk and the decision for one observation.

        Returns:
            A chunk, if any, whose stamp is the observation's, with at most ``horizon`` actions.

        Raises:
            DataError: The observation lacks a view, or does not fit otherwise.
        """
