"""What every policy that was trained from demonstrations says of itself."""

from __future__ import annotations

from alt_ros.policies.policy import Policy
from alt_ros.policies.spec import PolicySpec
from alt_ros.types import ActionLayout


class TrainedPolicy(Policy):
    """A policy with a spec.

    Args:
        spec: What it takes and gives.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec

    @property
    def views(self) -> tuple[str, ...]:
        """See ``Policy.views``."""
        return self.spec.views

    @property
    def layout(self) -> ActionLayout:
        """See ``Policy.layout``."""
        return self.spec.layout

    @property
    def period(self) -> int:
        """See ``Policy.period``."""
        return self.spec.period

    @property
    def horizon(self) -> int:
        """See ``Policy.horizon``."""
        return self.spec.chunk_size
