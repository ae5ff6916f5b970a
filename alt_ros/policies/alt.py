"""The Action Lookup Table policy: embed, recall, follow, watch.

He, Liu, Sznaier Camps, Sartoretti, Schwager 2026, "Demystifying Robot Diffusion Policies: Action
Memorization and a Simple Lookup Table Alternative", arXiv 2505.05787, section 5.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alt_ros.bundle import Bundle
from alt_ros.lookup.calibration import Calibration
from alt_ros.policies.policy import Policy, PolicyOutput
from alt_ros.types import ActionLayout, Observation

if TYPE_CHECKING:
    from alt_ros.encoders.runtime import EncoderRuntime
    from alt_ros.lookup.lookup import Lookup


class AltPolicy(Policy):
    """Runs a bundle.

    Args:
        bundle: A loaded bundle; its encoder is loaded here if it was left out.
        lookup: The step to take in place of the bundle's own, for other retrieval settings.

    Raises:
        BundleError: The encoder does not fit the bundle.
    """

    def __init__(self, bundle: Bundle, lookup: Lookup | None = None) -> None:
        self.bundle = bundle
        self.encoder: EncoderRuntime = bundle.encoder or bundle.load_encoder()
        self.lookup = lookup or bundle.lookup()

    @classmethod
    def load(cls, path: Path, *, device: str = "auto", threads: int | None = None) -> AltPolicy:
        """Return the policy of a bundle's folder."""
        return cls(Bundle.load(path, device=device, threads=threads))

    @classmethod
    def unwatched(cls, bundle: Bundle) -> AltPolicy:
        """Return the policy with its monitor off: it goes on where it is lost. For studies."""
        return cls(bundle, bundle.lookup(calibration=Calibration.given(-1.0)))

    @property
    def views(self) -> tuple[str, ...]:
        """See ``Policy.views``."""
        return self.bundle.spec.views

    @property
    def layout(self) -> ActionLayout:
        """See ``Policy.layout``."""
        return self.bundle.layout

    @property
    def period(self) -> int:
        """See ``Policy.period``."""
        return self.bundle.period

    @property
    def horizon(self) -> int:
        """See ``Policy.horizon``."""
        return self.lookup.horizon

    def reset(self) -> None:
        """See ``Policy.reset``."""
        self.lookup.reset()

    def observe(self, observation: Observation) -> None:
        """See ``Policy.observe``: the monitor looks at every observation."""
        self.act(observation)

    def act(self, observation: Observation) -> PolicyOutput:
        """See ``Policy.act``."""
        chunk, decision = self.lookup.step(self.encoder.embed(observation).query(observation))
        return PolicyOutput(chunk, decision)
