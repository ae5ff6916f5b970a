"""The real graph for tests: real nodes in real processes, a small bundle trained here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alt_ros.bundle import Bundle
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import write_store
from alt_ros.simulation.cup_grasp import CupGraspSimulation
from alt_ros.simulation.recording import record_demonstration
from alt_ros.simulation.scenarios import scenario

pytest.importorskip(
    "rclpy", reason="ROS NODES NOT TESTED: rclpy is not installed, run 'make test'"
)

from alt_ros.nodes import graph as ros_graph

DEMONSTRATIONS = 3
TRAINING_STEPS = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ros)


def demonstrate(
    simulation: CupGraspSimulation, trial: int, name: str = "training", seed: int = 0
) -> Demonstration:
    """Record the expert in process."""
    placement = scenario(name).trial(trial, seed).placement
    return record_demonstration(simulation, placement, f"demonstration_{trial:02d}")


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that recalls three cups, calibrated on the same cups put back."""
    from alt_ros.training.alt_bundle import build_bundle
    from alt_ros.training.configuration import cup_training
    from alt_ros.training.contrastive import train_encoder

    folder = tmp_path_factory.mktemp("small")
    trials = range(DEMONSTRATIONS)
    with CupGraspSimulation((128, 128)) as simulation:
        training = [demonstrate(simulation, trial) for trial in trials]
        put_back = [
            replace(demonstrate(simulation, trial, "ind", seed), name=f"put_back_{trial}_{seed}")
            for seed in (1000, 1001, 1002)
            for trial in trials
        ]
    store = write_store(folder / "store", training)
    held_out = write_store(folder / "held_out", put_back)
    spec, config = cup_training(("wrist", "third_person"), seed=0, steps=TRAINING_STEPS)
    config = replace(config, batch_size=16)
    result = train_encoder(store, spec, config, folder / "training", tensorboard=False)
    assert result is not None
    build_bundle(
        store,
        result.encoder,
        spec,
        folder / "bundle",
        calibration_store=held_out,
    )
    # Episodes reach 2 here, black cameras 7 and more; calibrated on so few it would be by chance.
    bundle = Bundle.load(folder / "bundle", device="cpu")
    bundle.recalibrated(replace(bundle.calibration, threshold=4.0))
    return bundle.path


@pytest.fixture(scope="session")
def ros_environment() -> dict[str, str]:
    """A DDS domain of this session's own, on this machine only."""
    variables = ros_graph.environment(local_domain=1 + os.getpid() % 90)
    os.environ.update(variables)
    return variables


@pytest.fixture
def make_graph(
    ros_environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., ros_graph.Graph]]:
    """Start graphs that end with the test."""
    graphs: list[ros_graph.Graph] = []

    def make(*, sim: bool = True) -> ros_graph.Graph:
        config = ros_graph.share() / "config"
        files = [config / "alt.yaml"] + ([config / "simulation.yaml"] if sim else [])
        graphs.append(ros_graph.Graph(tmp_path / "logs", ros_environment, files))
        return graphs[-1]

    yield make
    for graph in graphs:
        graph.stop()
