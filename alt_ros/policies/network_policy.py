"""A trained network as a policy: history in, chunk out."""

from __future__ import annotations

import numpy as np
import torch

from alt_ros.encoders.runtime import compute_device
from alt_ros.policies.history import History
from alt_ros.policies.network import PolicyNetwork
from alt_ros.policies.policy import PolicyOutput
from alt_ros.policies.spec import check_observation, window_inputs
from alt_ros.policies.temporal_ensemble import TemporalEnsemble
from alt_ros.policies.trained import TrainedPolicy
from alt_ros.types import ActionChunk, Observation

WARM_UP_RUNS = 2


class NetworkPolicy(TrainedPolicy):
    """Runs a network; what it draws depends on the seed and the observation's stamp alone.

    Args:
        network: A trained network, with its weights.
        seed: Of what the network draws.
        device: See ``compute_device``.
        ensemble: Averages overlapping chunks; None sends each chunk as it is.

    Raises:
        ConfigurationError: The device is not there.
    """

    def __init__(
        self,
        network: PolicyNetwork,
        *,
        seed: int = 0,
        device: str = "auto",
        ensemble: TemporalEnsemble | None = None,
    ) -> None:
        super().__init__(network.spec)
        self.device = compute_device(device)
        self.network = network.to(self.device).eval()
        self._seed = seed
        self._history = History(self.spec.observation_horizon)
        self._ensemble = ensemble

    def reset(self) -> None:
        """See ``Policy.reset``."""
        self._history.clear()
        if self._ensemble is not None:
            self._ensemble.clear()

    def observe(self, observation: Observation) -> None:
        """See ``Policy.observe``."""
        check_observation(self.spec, observation)
        if self._history.begins_episode(observation.stamp):
            self.reset()
        self._history.add(observation)

    def act(self, observation: Observation) -> PolicyOutput:
        """See ``Policy.act``."""
        self.observe(observation)
        images, state = window_inputs(self.spec, self._history.window())
        seed = np.random.SeedSequence([self._seed, abs(observation.stamp)]).generate_state(1)
        generator = torch.Generator().manual_seed(int(seed[0]))
        with torch.inference_mode():
            actions = self.network.predict(
                torch.from_numpy(images)[None].to(self.device),
                torch.from_numpy(state)[None].to(self.device),
                generator,
            )
        chunk = ActionChunk(
            stamp=observation.stamp,
            period=self.period,
            actions=actions[0].cpu().numpy().astype(np.float64),
            layout=self.layout,
        )
        return PolicyOutput(chunk if self._ensemble is None else self._ensemble.blend(chunk), None)

    def warm_up(self) -> None:
        """Run the network on black images, so that the first observation waits no longer."""
        spec = self.spec
        black = np.zeros((spec.height, spec.width, 3), np.uint8)
        pose = np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], (spec.arms, 1))
        state = np.zeros(max(spec.state_columns, default=-1) + 1)
        images = dict.fromkeys(spec.views, black)
        observation = Observation(0, images, pose, np.zeros(spec.arms), state)
        for _ in range(WARM_UP_RUNS):
            self.act(observation)
            self.reset()
