"""Recall in Push-T by where things are: the table is asked with the finger and the T.

Pictures that differ by a hair of the T's angle ask for the same push, and pictures that differ by
the finger's side of the T for another one. So the embedding here is the task's own: a small
network tells from the picture where the T is (Li et al. 2025, "Geometry-aware Policy Imitation",
found the same: a task-related head, 67 -> 87); where the finger is, a robot knows. The network
learns from whole pictures that are turned and shifted with what they show: the demonstrations' T
lies in few ways, and one that lies in another was told up to a right angle and more off without.

Notation:

- s = (f, p, theta): finger and T, pixels of 512, and the T's angle, rad
- key(s) = (f, p, RADIUS (cos theta, sin theta)): its Euclidean distance compares states

``correct`` adds two things to recalling the nearest frame's actions a_1..a_Tp:

1. Along with the T: the actions keep their places relative to the T's as it is now,
   a'_t = R(theta - theta_i) (a_t - p_i) + p, where p_i and theta_i are the recalled frame's.
   ``lookup.correction`` anchors a motion to a hand's pose, of which Push-T has none; here the
   thing that is pushed is the anchor.
2. No repeats: each time a frame is recalled, it and its neighbours in time count as
   ``REPEAT_PENALTY`` pixels farther off until the episode ends. What did not help is not tried for
   ever: the scene is where it was, so the nearest frame alone would go round in a circle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.demonstrations.store import DemonstrationStore
from alt_ros.encoders.runtime import compute_device
from alt_ros.errors import DataError
from alt_ros.policies.policy import Policy, PolicyOutput
from alt_ros.preprocessing import resize_image
from alt_ros.progress import Advance
from alt_ros.simulation.push_t import LAYOUT, PERIOD, STATE_SIZE, VIEW
from alt_ros.training.frames import ImageReader
from alt_ros.training.policy import PolicyTrainingConfig
from alt_ros.training.steps import load_state, save_state, take_steps
from alt_ros.types import ActionChunk, ActionLayout, Observation

Array = NDArray[np.float64]
Locate = Callable[[Observation], Array]
"""An observation to the state (5,) that the table is asked with."""

RADIUS = 60.0
"""Pixels that a radian of the T counts: about where the T is pushed from its centre."""
NEIGHBOURS = 60
"""Frames among which the nearest that is no repeat is looked for."""
REPEAT_PENALTY = 20.0
REPEATED = 12
"""Frames before and after a recalled one that count as recalled too."""
HORIZON = 16
SIDE = 48
"""Height and width of what the network sees, pixels."""
CHECKPOINT = "checkpoint.pt"
MIDDLE = 256.0
"""Of the picture, pixels of 512."""
MOVED = 0.7
SHIFT = 0.15
_SCALE = 127.5
_WHITE = 255.0
_SMALL = 0.1  # errors above it count by their size, below it squared: 26 pixels, 6 degrees


def state_key(states: Array) -> Array:
    """Return what states (..., 5) are compared by, (..., 6) pixels."""
    angle = states[..., 4:]
    return np.concatenate(
        [states[..., :4], RADIUS * np.cos(angle), RADIUS * np.sin(angle)], axis=-1
    )


class PoseNetwork(nn.Module):
    """Tells from a picture where the T is.

    Four strided convolutions and no average over the image at the end: where something is, is
    what is asked.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs, outputs, kernel in ((3, 16, 5), (16, 32, 3), (32, 64, 3), (64, 64, 3)):
            convolution = nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2, bias=False)
            blocks += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        places = math.ceil(SIDE / 16) ** 2
        self.layers = nn.Sequential(
            *blocks, nn.Flatten(), nn.Linear(64 * places, 256), nn.ReLU(), nn.Linear(256, 4)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, 4) for images (N, 3, ``SIDE``, ``SIDE``) of 0 to 255.

        x and y from the image's middle, 1 is its edge; cosine and sine of the angle.
        """
        return self.layers(images.float() / _SCALE - 1.0)

    @torch.no_grad()
    def locate(self, observation: Observation) -> Array:
        """Return the state (5,): the finger's measured place, the T's from the picture.

        Raises:
            DataError: The picture or the finger's place is missing.
        """
        if VIEW not in observation.images or len(observation.state) < 2:
            raise DataError(
                f"Push-T: the view '{VIEW}' and the finger's x, y are needed, the observation "
                f"holds {list(observation.images)} and {len(observation.state)} numbers"
            )
        image = resize_image(observation.images[VIEW], SIDE, SIDE).transpose(2, 0, 1)
        device = next(self.parameters()).device
        pixels = torch.from_numpy(np.ascontiguousarray(image))[None].to(device)
        x, y, cosine, sine = self(pixels)[0].tolist()
        place = MIDDLE + MIDDLE * x, MIDDLE + MIDDLE * y
        return np.array([*observation.state[:2], *place, math.atan2(sine, cosine)])


def moved(images: Tensor, wanted: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return pictures turned about their middle and shifted, and where the T is in them then.

    A share ``MOVED`` of them is: by any angle, by up to ``SHIFT`` of the picture along each axis.
    What comes into the picture is white, as the table is.

    Args:
        images: (N, 3, H, H) float32, 0 to 255.
        wanted: (N, 4) float32 as ``PoseNetwork.forward`` gives.
        generator: Source of the moves.
    """
    count = len(images)
    moves = torch.from_numpy((generator.random(count) < MOVED).astype(np.float32))
    turn = moves * torch.from_numpy(generator.uniform(-math.pi, math.pi, count)).float()
    shift = moves[:, None] * torch.from_numpy(generator.uniform(-1.0, 1.0, (count, 2))).float()
    shift *= 2.0 * SHIFT  # the picture is 2 wide, from -1 to 1
    cosine, sine = torch.cos(turn), torch.sin(turn)
    rows = torch.stack([cosine, -sine], dim=1), torch.stack([sine, cosine], dim=1)
    rotation = torch.stack(rows, dim=1)
    back = rotation.transpose(1, 2)  # what is at q after the move was at back (q - shift)
    affine = torch.cat([back, -(back @ shift[:, :, None])], dim=2)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    shown = functional.grid_sample(images - _WHITE, grid, align_corners=False) + _WHITE
    place = (rotation @ wanted[:, :2, None])[:, :, 0] + shift
    direction = (rotation @ wanted[:, 2:, None])[:, :, 0]
    return shown, torch.cat([place, direction], dim=1)


def train_pose(
    store: DemonstrationStore,
    config: PolicyTrainingConfig,
    folder: Path,
    *,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
    stop_at: int | None = None,
) -> tuple[PoseNetwork, float] | None:
    """Train a network on the recorded T, or go on with a training that was broken off.

    Args:
        store: The demonstrations, with the state that ``PushTSimulation.observation`` gives.
        config: How; no demonstration is held out, ``precision`` and ``validation`` are not read.
        folder: Of the checkpoint.
        device: See ``compute_device``.
        progress: Called after each step.
        stop_at: See ``take_steps``.

    Returns:
        The network, on the CPU, and the seconds that the steps of this process took; None where
        the training was broken off by ``stop_at``.

    Raises:
        DataError: The states are not Push-T's, or the loss is no number.
        ConfigurationError: The folder holds the checkpoint of another training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(store, config, compute_device(device))
    taken = take_steps(
        run,
        folder / CHECKPOINT,
        config.steps,
        rate=config.rate,
        checkpoint_every=config.checkpoint_every,
        progress=progress,
        tensorboard=False,
        stop_at=stop_at,
    )
    return None if taken is None else (run.network.cpu().eval(), taken.seconds)


class _Run:
    """One training; what a step draws depends on the seed and the step alone."""

    def __init__(
        self, store: DemonstrationStore, config: PolicyTrainingConfig, device: torch.device
    ) -> None:
        if store.state.shape[1] != STATE_SIZE:
            raise DataError(
                f"Push-T: store '{store.path}' must hold states of {STATE_SIZE} numbers, it holds "
                f"{store.state.shape[1]}: make it of pusht_cchi_v7_replay.zarr.zip"
            )
        self._config, self._device = config, device
        self._images = ImageReader(store, (VIEW,), SIDE, SIDE)
        x, y, angle = np.asarray(store.state)[:, 2:].T
        place = (x - MIDDLE) / MIDDLE, (y - MIDDLE) / MIDDLE
        wanted = np.stack([*place, np.cos(angle), np.sin(angle)], axis=1)
        self._wanted = torch.from_numpy(wanted.astype(np.float32))
        self._identity = json.dumps(
            [
                {**config.to_json(), "checkpoint_every": 0},
                [list(store.names), store.frames],
                [SIDE, MOVED, SHIFT, _SMALL],
            ]
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = PoseNetwork().train()
        self.network.to(device)
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )

    def step(self, step: int) -> float:
        """Take one optimiser step and return its loss."""
        generator = np.random.default_rng([self._config.seed, step])
        rows = generator.integers(len(self._wanted), size=self._config.batch_size)
        images = self._images.raw(rows)[:, 0].float()
        images, wanted = moved(images, self._wanted[rows], generator)
        told = self.network(images.to(self._device))
        loss = functional.smooth_l1_loss(told, wanted.to(self._device), beta=_SMALL)
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.rate(step)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"training: the loss is {value} at step {step}: lower learning_rate, it is "
                f"{self._config.learning_rate}"
            )
        return value

    def save(self, path: Path, done: int) -> None:
        """Write the checkpoint; the older one stays until the new one is complete."""
        state = {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        save_state(path, self._identity, done, state)

    def resume(self, path: Path) -> int:
        """Read the checkpoint, if there is one, and return the number of steps done."""
        state = load_state(path, self._identity, self._device)
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        return int(state["done"])


class StateRecall(Policy):
    """Recalls the frame whose state is nearest, see the module.

    Args:
        store: The demonstrations.
        locate: Tells the state: ``PoseNetwork.locate``, or the simulation's own where the images'
            share in what goes wrong is asked.
        correct: Move the recalled actions along with the T, and do not repeat.

    Raises:
        DataError: The demonstrations are not Push-T's.
    """

    def __init__(self, store: DemonstrationStore, locate: Locate, *, correct: bool) -> None:
        if store.layout != LAYOUT or store.state.shape[1] != STATE_SIZE:
            raise DataError(
                f"Push-T: store '{store.path}' must hold actions of {LAYOUT} and states of "
                f"{STATE_SIZE}, it holds {store.layout} and {store.state.shape[1]}"
            )
        self._locate, self._correct = locate, correct
        self._states, self._actions = np.asarray(store.state), np.asarray(store.actions)
        lengths = np.diff(store.episode_ends, prepend=0)
        self._first = np.repeat(store.episode_ends - lengths, lengths)
        self._end = np.repeat(store.episode_ends, lengths)
        self._tree = KDTree(state_key(self._states))
        self._penalty = np.zeros(len(self._states))

    @property
    def views(self) -> tuple[str, ...]:
        """See ``Policy.views``."""
        return (VIEW,)

    @property
    def layout(self) -> ActionLayout:
        """See ``Policy.layout``."""
        return LAYOUT

    @property
    def period(self) -> int:
        """See ``Policy.period``."""
        return PERIOD

    @property
    def horizon(self) -> int:
        """See ``Policy.horizon``."""
        return HORIZON

    def reset(self) -> None:
        """See ``Policy.reset``."""
        self._penalty[:] = 0.0

    def observe(self, observation: Observation) -> None:
        """See ``Policy.observe``; what is not answered leaves no trace."""

    def act(self, observation: Observation) -> PolicyOutput:
        """See ``Policy.act``."""
        state = self._locate(observation)
        row = self._nearest(state)
        end = int(self._end[row])
        actions = self._actions[row : min(row + HORIZON, end)].copy()
        if self._correct:
            low, high = max(row - REPEATED, int(self._first[row])), min(row + REPEATED + 1, end)
            self._penalty[low:high] += REPEAT_PENALTY
            actions = _along(actions, self._states[row], state)
        chunk = ActionChunk(observation.stamp, PERIOD, actions, LAYOUT)
        return PolicyOutput(chunk, None)

    def _nearest(self, state: Array) -> int:
        count = min(NEIGHBOURS, len(self._states))
        distances, rows = map(np.atleast_1d, self._tree.query(state_key(state), k=count))
        return int(rows[(distances + self._penalty[rows]).argmin()])


def _along(actions: Array, recorded: Array, now: Array) -> Array:
    """Return actions (n, 2) at their places relative to the T, where the T is now."""
    turn = now[4] - recorded[4]
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (actions - recorded[2:4]) @ rotation.T + now[2:4]
