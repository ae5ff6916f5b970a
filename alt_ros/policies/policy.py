"""The contract of a policy: an observation in, a chunk and a decision out.

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
        ood: Whether the observation is out of the demonstrations' distribution.
    """

    chunk: ActionChunk | None
    ood: OodDecision


class Policy(ABC):
    """Maps observations, in the order of their stamps, to chunks.

    Between two resets the outputs are a function of the observations alone: no clock, no hidden
    randomness.
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
    def act(self, observation: Observation) -> PolicyOutput:
        """Return the chunk and the decision for one observation.

        Returns:
            A chunk, if any, whose stamp is the observation's, with at most ``horizon`` actions.

        Raises:
            DataError: The observation lacks a view, or does not fit otherwise.
        """
