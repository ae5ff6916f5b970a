"""A roll-out in simulation, kept with its pictures: what ``alt eval --rerun`` shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from alt_ros.audit.page import Frames
from alt_ros.audit.rerun_log import CUP, INFO, MEASURED, WARN, Path3D, Run, Said
from alt_ros.bundle import Bundle
from alt_ros.pictures.jpeg import to_jpeg
from alt_ros.pictures.recalled import RecalledPictures
from alt_ros.policies.alt import AltPolicy
from alt_ros.policies.policy import PolicyOutput
from alt_ros.policies.registry import ALT, InferenceConfig, load_policy
from alt_ros.receding_horizon import HorizonConfig
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.rollout import FRAME_PERIOD, Episode, run_episode
from alt_ros.simulation.scenarios import scenario as find_scenario
from alt_ros.types import NANOSECONDS, Observation


class Recorder(AltPolicy):
    """The policy, which keeps what it saw and said since the last reset.

    Attributes:
        seen: Observations and outputs, in order.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.seen: list[tuple[Observation, PolicyOutput]] = []

    def reset(self) -> None:
        """See ``Policy.reset``."""
        self.seen.clear()
        super().reset()

    def act(self, observation: Observation) -> PolicyOutput:
        """See ``Policy.act``."""
        output = super().act(observation)
        self.seen.append((observation, output))
        return output


def run_of_episode(
    recorder: Recorder, episode: Episode, store: RecalledPictures | None, name: str
) -> Run:
    """Return what is shown of a roll-out.

    The executor's state is known of its end; on the way the flag's changes are told.

    Args:
        recorder: What watched it.
        episode: What came of it.
        store: Pictures of what was recalled.
        name: See ``Run``.
    """
    columns = ("t", "similarity", "score", "threshold", "flag", "demonstration", "frame")
    decisions: dict[str, list[Any]] = {column: [] for column in columns}
    live: list[list[bytes]] = []
    states: list[Said] = []
    recalled: dict[tuple[int, int], list[bytes]] = {}
    up = False
    for observation, output in recorder.seen:
        ood = output.ood
        assert ood is not None  # ALT decides on every observation
        t = (observation.stamp - recorder.seen[0][0].stamp) / NANOSECONDS
        source = output.chunk.source if output.chunk else None
        near = source or ood.neighbour
        followed = near.demonstration, near.frame
        row = (t, ood.neighbour.similarity, ood.score, ood.threshold, ood.flag, *followed)
        for column, value in zip(columns, row, strict=True):
            decisions[column].append(value)
        live.append([to_jpeg(observation.images[view]) for view in recorder.views])
        if store is not None and followed not in recalled:
            recalled[followed] = store.at(*followed)
        if ood.flag and not up:
            states.append(Said(t, f"flag up: {ood.cause}; strangest view: {ood.view}", WARN))
        elif up and not ood.flag:
            states.append(Said(t, "flag down"))
        up = ood.flag
    end = f"{'success' if episode.success else 'no success'}; {episode.reason}"
    states.append(Said(episode.seconds, end, INFO if episode.success else WARN))
    t = np.arange(len(episode.poses), dtype=np.float64) * (FRAME_PERIOD / NANOSECONDS)
    return Run(
        name,
        recorder.views,
        decisions,
        Frames(decisions["t"], live, {at: views for at, views in recalled.items() if views}),
        states,
        paths={
            MEASURED: Path3D(t, episode.poses[:, :3]),
            CUP: Path3D(t, episode.cup[:, :3]),
        },
    )


def record_trial(
    bundle: Bundle,
    scenario: str,
    *,
    seed: int,
    action_horizon: int,
    policy: str = ALT,
    inference: InferenceConfig | None = None,
    watched: bool = True,
    store: RecalledPictures | None = None,
) -> Run:
    """Roll the first trial of a scenario out as ``alt eval`` does; return what is shown of it.

    Args:
        bundle: A loaded bundle; its monitor decides.
        scenario: Name of the scenario, and of the run.
        seed: Of the placement.
        action_horizon: Ta.
        policy: Which policy; any but ALT answers every Ta observations.
        inference: How it answers.
        watched: Whether a flag stops it; else what the monitor would have said is shown.
        store: Pictures of what is recalled.

    Raises:
        ConfigurationError: The scenario does not exist.
        BundleError: The bundle holds no such policy.
    """
    family = find_scenario(scenario)
    recorder = Recorder(bundle)
    acting, monitor, act_every = recorder, None, 1
    if policy != ALT:
        acting = load_policy(policy, bundle.path, inference or InferenceConfig())
        monitor, act_every = recorder, action_horizon
    elif not watched:
        acting, monitor = AltPolicy.unwatched(bundle), recorder
    with CupGraspSimulation((128, 128)) as simulation:
        episode = run_episode(
            simulation,
            acting,
            family,
            0,
            seed=seed,
            horizon=HorizonConfig(action_horizon=action_horizon),
            monitor=monitor,
            act_every=act_every,
            watched=watched,
        )
    return run_of_episode(recorder, episode, store, scenario)
