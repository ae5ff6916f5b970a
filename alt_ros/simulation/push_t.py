"""Push-T in closed loop: the simulation of the human demonstrations, and one episode of a policy.

A round finger pushes a grey T onto its green outline (Florence et al. 2022; Chi et al. 2023,
"Diffusion Policy", section 5). The physics and the drawing are gym-pusht's, which restates the
environment that the demonstrations were recorded in. Held against ``pusht_cchi_v7_replay``:

- ``reset(n)`` gives the first state of demonstration n within 2e-5 pixels, for all 206;
- recorded actions played from the recorded start leave the T within 0.002 pixels of where the
  recording leaves it, for all 206;
- the live picture of a recorded state differs from the recorded one by 0.07 of 255 in the mean, in
  30 of 9,216 pixels, all on edges: newer pygame fills polygons by another rounding. With the older
  rule four of five pictures are equal in every pixel, the others in all but one.
"""

from __future__ import annotations

import importlib
import os
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alt_ros.errors import ConfigurationError, DataError, DependencyError
from alt_ros.policies.policy import Policy
from alt_ros.types import NANOSECONDS, ActionLayout, Observation

Array = NDArray[np.float64]

VIEW = "img"
"""The one view, by the name that it has in the recorded replay buffer."""
PERIOD = NANOSECONDS // 10
"""Time from one observation, and one action, to the next, ns: 10 Hz."""
LAYOUT = ActionLayout(arms=0, extra=2)
"""An action is where the finger shall go: x, y in pixels of 512, y downwards."""
STATE_SIZE = 5
SUCCESS_COVERAGE = 0.95
"""Share of the outline under the T that ends an episode and counts as a reward of 1."""
LARGEST_SEED = 99_999_999

_EPISODE_SPACING = 60 * NANOSECONDS
_IMAGE_SIDE = 96
_PICTURE_SIDE = 256
_REMEDY = (
    "pip install gymnasium pygame 'pymunk<7' shapely && pip install --no-deps gym-pusht "
    "(it asks for opencv-python; opencv-python-headless does)"
)


class PushTSimulation:
    """The T, the finger and the camera, stepped by hand; ROS-free, deterministic.

    Raises:
        DependencyError: gym-pusht, or what it needs, is not installed.
    """

    def __init__(self) -> None:
        self._env = _environment()
        self._time = 0
        self.reset(0)

    @property
    def time(self) -> int:
        """Simulated time, ns; an episode begins at a time of its seed's own."""
        return self._time

    def reset(self, seed: int) -> None:
        """Begin the episode of a seed: the start that Chi et al.'s benchmark draws for it.

        Their generator, not gym-pusht's, which gives another start for the same seed. The
        demonstrations were recorded from seeds 0 to 205, the benchmark begins at 100,000. Each
        seed begins at its own time, so that what a policy draws by an observation's stamp is
        another noise in every episode and the same in every run.

        Args:
            seed: 0 to ``LARGEST_SEED``.

        Raises:
            ConfigurationError: The seed is out of its bounds.
        """
        if not 0 <= seed <= LARGEST_SEED:
            raise ConfigurationError(
                f"Push-T: a seed must be 0 to {LARGEST_SEED}, got {seed}: choose another"
            )
        draws = np.random.RandomState(seed)
        finger = draws.randint(50, 450, size=2)
        block = draws.randint(100, 400, size=2)
        angle = 2.0 * np.pi * draws.randn() - np.pi
        self._place(np.array([*finger, *block, angle], np.float64))
        self._time = seed * _EPISODE_SPACING

    def reset_to(self, state: ArrayLike) -> None:
        """Begin an episode, at time 0, from a state as ``observation`` gives it.

        Args:
            state: (5,) finger x, y and T x, y, pixels of 512; angle, rad. A finger inside the T
                is pushed out of it, as the physics does.

        Raises:
            DataError: The state is not five finite numbers.
        """
        wanted = np.array(state, np.float64)
        if wanted.shape != (STATE_SIZE,) or not np.isfinite(wanted).all():
            raise DataError(
                "Push-T: a state is five finite numbers (finger x, y, T x, y, angle), got "
                f"{wanted.tolist()}"
            )
        # gym-pusht sets the position at angle 0 and then turns about the centre of mass, which
        # carries the T's origin off: begin where that turn ends at the wanted place.
        centre = np.array(self._env.block.center_of_gravity)
        cosine, sine = np.cos(wanted[4]), np.sin(wanted[4])
        wanted[2:4] += np.array([[cosine, -sine], [sine, cosine]]) @ centre - centre
        self._place(wanted)
        self._time = 0

    def _place(self, state: Array) -> None:
        seen, info = self._env.reset(options={"reset_to_state": state})
        self._keep(seen, info)

    def _keep(self, seen: dict[str, Any], info: dict[str, Any]) -> None:
        self._image: NDArray[np.uint8] = np.asarray(seen["pixels"], np.uint8)
        x, y, angle = info["block_pose"]
        # The recorded angle lies in 0 to 2 pi.
        self._state: Array = np.array([*info["pos_agent"], x, y, angle % (2.0 * np.pi)])

    def observation(self) -> Observation:
        """Return what is seen now.

        Returns:
            ``images``: ``VIEW`` (96, 96, 3); ``state`` (5,): finger x, y and T x, y, pixels of
            512; angle, rad, 0 to 2 pi. These are the columns of the recorded state: a policy that
            may not know the T looks at columns 0 and 1.
        """
        return Observation(self._time, {VIEW: self._image.copy()}, state=self._state.copy())

    def step(self, target: ArrayLike) -> float:
        """Let the finger go towards a target for one period.

        Args:
            target: (2,) x, y in pixels of 512.

        Returns:
            The share of the outline that the T covers then, 0 to 1.

        Raises:
            DataError: The target is not two finite numbers.
        """
        wanted = np.asarray(target, np.float64)
        if wanted.shape != (LAYOUT.size,) or not np.isfinite(wanted).all():
            raise DataError(
                f"Push-T: a target is two finite numbers (x, y), got {wanted.tolist()}"
            )
        seen, _, _, _, info = self._env.step(wanted)
        self._keep(seen, info)
        self._time += PERIOD
        return float(info["coverage"])

    def picture(self) -> NDArray[np.uint8]:
        """Return a larger picture (256, 256, 3) RGB for people; a red cross marks the target."""
        return np.asarray(self._env.render(), np.uint8)


def _environment() -> Any:
    """Return gym-pusht's environment, without a window and without its libraries' greetings."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with warnings.catch_warnings():  # pygame may load a pkg_resources that is deprecated
            warnings.simplefilter("ignore")
            module = importlib.import_module("gym_pusht.envs.pusht")
    except ImportError as error:
        raise DependencyError(f"Push-T needs gym-pusht ({error}): {_REMEDY}") from error
    if not hasattr(module.pymunk.Space, "add_collision_handler"):
        raise DependencyError(
            f"Push-T needs pymunk before 7, it is {module.pymunk.version}: {_REMEDY}"
        )
    return module.PushTEnv(
        obs_type="pixels_agent_pos",
        observation_width=_IMAGE_SIDE,
        observation_height=_IMAGE_SIDE,
        visualization_width=_PICTURE_SIDE,
        visualization_height=_PICTURE_SIDE,
    )


@dataclass(frozen=True, eq=False)
class PushTEpisode:
    """What one roll-out did in n steps.

    Attributes:
        seed: Of its start.
        score: The largest reward, min(coverage / 0.95, 1), of any step: what Chi et al. report.
        coverage: Share of the outline under the T after the last step.
        success: Whether the coverage exceeded 0.95, which ends the episode.
        actions: (n, 2) targets as they were executed, pixels of 512.
        states: (n + 1, 5) before each action and at the end, see ``PushTSimulation.observation``.
        answer_ms: (answers,) time of each ``Policy.act``, ms.
        picture: (256, 256, 3) RGB, the end.
    """

    seed: int
    score: float
    coverage: float
    success: bool
    actions: Array
    states: Array
    answer_ms: Array
    picture: NDArray[np.uint8]


def run_push_t_episode(
    simulation: PushTSimulation,
    policy: Policy,
    seed: int,
    *,
    action_horizon: int = 8,
    max_steps: int = 300,
) -> PushTEpisode:
    """Run one episode: act, execute the chunk's first actions while observing, act again.

    Where the policy has no chunk the finger stays at its last target (at first where it is) for
    one step, and the policy is asked again. Nothing clips a target, as in Chi et al.'s benchmark.

    Args:
        simulation: Reset first.
        policy: Reset first.
        seed: See ``PushTSimulation.reset``.
        action_horizon: Ta, most actions executed of a chunk; a shorter chunk is executed whole.
        max_steps: Actions after which the episode ends; 300 as published.

    Raises:
        ConfigurationError: A number is out of its bounds, or the policy is not one for Push-T.
    """
    if action_horizon < 1 or max_steps < 1:
        raise ConfigurationError(
            "Push-T: action_horizon and max_steps must be at least 1, got "
            f"{action_horizon} and {max_steps}"
        )
    check_push_t_policy(policy)
    simulation.reset(seed)
    policy.reset()
    seen = simulation.observation()
    target = seen.state[:2]
    pending = np.zeros((0, 2))
    states: list[Array] = [seen.state]
    actions: list[Array] = []
    coverages: list[float] = []
    answer_ms: list[float] = []
    while len(actions) < max_steps and not (coverages and coverages[-1] > SUCCESS_COVERAGE):
        if len(pending):
            policy.observe(seen)
        else:
            began = time.perf_counter()
            chunk = policy.act(seen).chunk
            answer_ms.append(1000.0 * (time.perf_counter() - began))
            pending = target[None] if chunk is None else chunk.actions[:action_horizon]
        target, pending = pending[0], pending[1:]
        coverages.append(simulation.step(target))
        actions.append(target)
        seen = simulation.observation()
        states.append(seen.state)
    return PushTEpisode(
        seed=seed,
        score=min(max(coverages) / SUCCESS_COVERAGE, 1.0),
        coverage=coverages[-1],
        success=coverages[-1] > SUCCESS_COVERAGE,
        actions=np.array(actions),
        states=np.array(states),
        answer_ms=np.array(answer_ms),
        picture=simulation.picture(),
    )


def check_push_t_policy(policy: Policy) -> None:
    """Require that a policy looks at what there is and answers with targets at 10 Hz.

    Raises:
        ConfigurationError: Its views, its layout or its period are others.
    """
    if not set(policy.views) <= {VIEW}:
        raise ConfigurationError(
            f"Push-T has the view '{VIEW}', the policy needs {list(policy.views)}: train it on "
            "the Push-T demonstrations"
        )
    if policy.layout != LAYOUT or policy.period != PERIOD:
        raise ConfigurationError(
            f"Push-T takes actions of {LAYOUT} every {PERIOD} ns, the policy gives "
            f"{policy.layout} every {policy.period} ns: train it on the Push-T demonstrations"
        )
