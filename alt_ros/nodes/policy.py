"""The policy node: runs any trained policy from a bundle, in the place of ALT's recall."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from alt_ros.errors import ConfigurationError
from alt_ros.messages import observation_of
from alt_ros.msg import ActionChunk, Observation
from alt_ros.nodes.conversions import to_chunk
from alt_ros.nodes.node import NEWEST, RELIABLE, AltNode, run
from alt_ros.nodes.parameters import parameter
from alt_ros.policies.registry import COMPARED, InferenceConfig, load_policy
from alt_ros.policies.worker import Answer, PolicyWorker


@dataclass(frozen=True)
class PolicyParameters:
    """Parameters of policy."""

    bundle: str = parameter("", "Folder of the bundle that the policy was deployed into; required")
    policy: str = parameter("diffusion", "Which policy", choices=COMPARED)
    act_every: int = parameter(
        2,
        "Observations from one that is answered to the next; a slower policy takes the newest",
        low=1,
        high=1000,
    )
    device: str = parameter("auto", "Where the network runs", choices=("auto", "cpu", "cuda"))
    threads: int = parameter(1, "CPU threads of the network", low=1, high=64)
    seed: int = parameter(0, "Of what the policy draws", low=0, high=2**31 - 1)
    sampler: str = parameter("ddim", "diffusion: how it denoises", choices=("ddim", "ddpm"))
    denoising_steps: int = parameter(10, "diffusion: denoising steps", low=1, high=100)
    ensemble_decay: float = parameter(
        -1.0,
        "m of temporal ensembling, 0.01 for ACT as published; below 0 sends chunks as they are",
        low=-1.0,
        high=100.0,
    )


class PolicyNode(AltNode):
    """Answer /alt/observation with /alt/action_chunk; inference runs on a thread of its own."""

    name = "policy"
    Parameters = PolicyParameters

    def configure(self) -> None:
        """Load the policy, warm it up, subscribe."""
        p = self.parameters
        if not p.bundle:
            raise ConfigurationError("policy needs a bundle: set the parameter 'bundle'")
        decay = None if p.ensemble_decay < 0.0 else p.ensemble_decay
        policy = load_policy(
            p.policy,
            Path(p.bundle),
            InferenceConfig(p.device, p.threads, p.seed, p.sampler, p.denoising_steps, decay),
        )
        self._publisher = self.create_lifecycle_publisher(
            ActionChunk, "alt/action_chunk", RELIABLE
        )
        self._worker = PolicyWorker(policy, self._on_answer, act_every=p.act_every)
        self._answered = self._last_answered = self._late = 0
        self._seconds = 0.0
        self._trouble = ""
        self.create_subscription(Observation, "alt/observation", self._on_observation, NEWEST)

    def activate(self) -> None:
        """Start a fresh episode."""
        self._worker.start()

    def deactivate(self) -> None:
        """Stop; an inference that is under way is thrown away."""
        self._worker.stop()

    def _on_observation(self, message: Observation) -> None:
        if self.is_active:
            self._worker.offer(lambda: observation_of(message), message)

    def _on_answer(self, answer: Answer) -> None:
        """Publish what the worker's thread has answered."""
        if answer.error != self._trouble:
            self._trouble = answer.error
            if answer.error:
                self.get_logger().error(answer.error)
            else:
                self.get_logger().info("observations can be answered again")
        if answer.chunk is None or not self.is_active:
            return
        self._seconds = answer.seconds
        chunk = answer.chunk
        if self.get_clock().now().nanoseconds >= chunk.stamp + len(chunk.actions) * chunk.period:
            self._late += 1  # nothing of it is due any more
            return
        message: Observation = answer.tag
        out = to_chunk(chunk, message.header.frame_id, self.parameters.policy)
        out.policy_seconds = answer.seconds
        out.observation_published = message.published
        self._answered += 1
        self._publisher.publish(out)

    def diagnostics(self) -> tuple[bytes, str, dict[str, Any]]:
        """Report the rate, the time per answer, and answers that came too late."""
        if not hasattr(self, "_worker"):
            return DiagnosticStatus.STALE, "not configured", {}
        rate, self._last_answered = self._answered - self._last_answered, self._answered
        values = {
            "policy": self.parameters.policy,
            "rate [1/s]": rate,
            "last [ms]": f"{1e3 * self._seconds:.1f}",
            "answers after their last action was due": self._late,
        }
        if self._trouble:
            return DiagnosticStatus.ERROR, self._trouble, values
        if self._late:
            text = "answers come after their last action was due: fewer steps, or a faster device"
            return DiagnosticStatus.WARN, text, values
        return DiagnosticStatus.OK, f"{rate} chunks a second", values


def main() -> int:
    """Run the node."""
    return run(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
