"""The installed ``alt`` command, as a person types it: real processes, real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

sys.path.append(str(Path(__file__).parent))
from bundles import write_small_bundle

from alt_ros.bundle import Bundle
from alt_ros.cli import main
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.store import write_store
from alt_ros.encoders.runtime import EncoderRuntime
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.types import ActionLayout, Observation

ALT = Path(sys.executable).with_name("alt")
COMMANDS = (
    "data",
    "train",
    "bench",
    "study",
    "audit",
    "replay",
    "up",
    "doctor",
    "console",
    "eval",
    "demo",
    "index",
    "deploy",
    "calibrate",
)
ALL = [
    *((name,) for name in COMMANDS),
    *(("data", name) for name in ("inspect", "import")),
    *(
        ("bench", name)
        for name in (
            "pipeline",
            "held-out",
            "recall",
            "sync",
            "executor",
            "console",
            "audit",
            "faults",
            "soak",
        )
    ),
]
pytestmark = pytest.mark.skipif(
    not ALT.exists(), reason="COMMAND LINE NOT TESTED: alt is not installed, run 'make test'"
)


def alt(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    narrow = {"COLUMNS": "160", "OMP_NUM_THREADS": "1", "TERM": "dumb"}
    return subprocess.run(
        [ALT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | narrow | variables,
    )


def succeeds(*arguments: str | Path) -> str:
    """Run a command that must succeed; return everything it said."""
    done = alt(*arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def refused(*arguments: str | Path) -> str:
    """Run a command that must be refused; return its one line."""
    done = alt(*arguments)
    assert done.returncode == 2, (done.returncode, done.stderr)
    (line,) = done.stderr.splitlines()
    assert line.startswith("alt: ")
    assert done.stdout == ""
    return line


def demonstration(number: int, frames: int = 10) -> Demonstration:
    """A square that walks over the image, in a row of its own for each demonstration."""
    images = np.full((frames, 40, 40, 3), 90, np.uint8)
    for i in range(frames):
        images[i, 2 + 9 * number : 10 + 9 * number, 1 + 3 * i : 8 + 3 * i] = (230, 60, 20)
    poses = np.zeros((frames, 1, 7))
    poses[..., 6] = 1.0
    actions = np.zeros((frames, 10))
    actions[:, 0], actions[:, 1] = 0.01 * np.arange(frames), 0.1 * number
    actions[:, 3] = actions[:, 7] = 1.0
    return Demonstration(
        name=f"cup {number}",
        stamps=50_000_000 * np.arange(1, frames + 1),
        images={"wrist": images, "front": images[:, ::-1].copy()},
        poses=poses,
        grippers=np.full((frames, 1), 0.08),
        state=np.zeros((frames, 0)),
        actions=actions,
        layout=ActionLayout(arms=1),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "cups"
    write_store(path, [demonstration(number) for number in range(4)])
    return path


@pytest.fixture
def push(tmp_path: Path) -> Path:
    """A replay buffer as Diffusion Policy writes it: two episodes, one camera."""
    root = zarr.create_group(zarr.storage.LocalStore(tmp_path / "push.zarr"), zarr_format=2)
    group = root.create_group("data")
    rng = np.random.default_rng(0)
    for key, values in {
        "img": rng.integers(0, 256, (9, 24, 32, 3)).astype(np.float32),
        "state": rng.normal(size=(9, 5)).astype(np.float32),
        "action": rng.normal(size=(9, 2)).astype(np.float32),
    }.items():
        group.create_array(key, data=values, chunks=(4, *values.shape[1:]))
    root.create_group("meta").create_array("episode_ends", data=np.array([4, 9], np.int64))
    return tmp_path / "push.zarr"


def test_help_lists_every_command():
    said = succeeds("--help")
    assert f"{{{','.join(COMMANDS)}}}" in said
    assert all(f"• {name}" in said for name in COMMANDS)


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_command_explains_itself_without_loading_what_it_needs(command):
    start = time.monotonic()
    said = succeeds(*command, "--help")
    assert time.monotonic() - start < 5.0, "torch alone takes seconds"
    assert f"usage: alt {' '.join(command)}" in said


def test_an_option_and_a_command_that_do_not_exist_are_refused():
    for arguments in (("eval", "--haste", "9"), ("fly",)):
        done = alt(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["eval --bundle", "up --bundle", "bench recall", "calibrate"])
def test_a_missing_bundle_is_one_line(tmp_path, command):
    line = refused(*command.split(), tmp_path / "absent")
    assert line == f"alt: bundle '{tmp_path}/absent' must hold manifest.json, it is missing"


def test_a_missing_bundle_ends_the_pipeline_bench_before_a_node_is_started(tmp_path):
    pytest.importorskip("rclpy", reason="PIPELINE NOT TESTED: rclpy is not installed")
    assert "must hold manifest.json" in refused(
        "bench", "pipeline", "--bundle", tmp_path / "absent"
    )


def test_an_unknown_scenario_is_answered_with_those_that_exist():
    line = refused("eval", "--scenario", "nowhere")
    assert "scenario 'nowhere' does not exist: choose one of training, ind" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--speed", "0.5"), "--speed is of the graph's simulation: add --graph"),
        (("--graph", "--no-monitor"), "leave --no-monitor and --retrieval out"),
        (("--graph", "--retrieval", "recall"), "leave --no-monitor and --retrieval out"),
    ],
)
def test_options_of_eval_that_contradict_each_other_are_refused(options, words):
    assert words in refused("eval", *options)


def test_an_empty_folder_and_a_missing_path_hold_no_demonstrations(tmp_path):
    assert "' is empty: name a training store" in refused("data", "inspect", tmp_path)
    absent = tmp_path / "absent"
    assert f"'{absent}' does not exist" in refused("data", "import", absent, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_demonstrations_are_imported_inspected_and_drawn(tmp_path, push):
    target, sheet = tmp_path / "store", tmp_path / "sheet.png"
    said = succeeds("data", "import", push, target, "--rate", "20", "--image-size", "12", "16")
    assert "2 episodes, 9 frames" in said
    said = succeeds("data", "inspect", target, "--sheet", sheet)
    assert "2 episodes, 9 frames" in said
    assert "16x12" in said
    assert "20.0" in said, "Hz"
    with Image.open(sheet) as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert np.asarray(picture).std() > 10.0
    done = alt("data", "inspect", target, "--sheet", tmp_path / "sheet.unknown")
    assert done.returncode == 2
    assert "must end in .png" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.fixture
def alt_here(monkeypatch, capsys) -> Iterator[Callable[..., str]]:
    """Run the command in this process, which imports torch once; return what it said."""

    def run(*arguments: str | Path, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["alt", *map(str, arguments)])
        capsys.readouterr()
        assert main() == status
        said = capsys.readouterr()
        return said.out + said.err

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


def test_a_missing_store_ends_training(tmp_path, alt_here):
    line = alt_here("train", "alt", tmp_path / "absent", tmp_path / "out", status=2)
    assert line.startswith(f"alt: '{tmp_path}/absent' is not a store")
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_from_store_to_bundle_to_recall(tmp_path, store, alt_here):
    training, bundle, figures = (tmp_path / n for n in ("training", "bundle", "recall.json"))
    train = [
        "train",
        "alt",
        store,
        training,
        "--steps",
        "2",
        "--batch-size",
        "4",
        "--device",
        "cpu",
    ]
    train += ["--image-size", "32", "32", "--embedding-size", "16"]
    said = alt_here(*train)
    assert f"written: {training}/encoder.pt; loss " in said, "a path is not broken at column 80"
    assert "nan" not in said, "nothing was held out"
    first = json.loads((training / "training.json").read_text())
    assert (first["resumed_at"], first["config"]["steps"]) == (0, 2)
    spec = EncoderSpec.from_json(first["spec"])
    rng = np.random.default_rng(0)
    images = {view: rng.integers(0, 256, (40, 40, 3), dtype=np.uint8) for view in spec.views}
    seen = Observation(0, images)
    before = EncoderRuntime(training / "encoder.pt", spec, "cpu").embed(seen).values

    alt_here(*train)  # it is finished: it returns at once, with the same weights
    again = json.loads((training / "training.json").read_text())
    assert (again["resumed_at"], again["loss_last"]) == (2, first["loss_last"])
    after = EncoderRuntime(training / "encoder.pt", spec, "cpu").embed(seen).values
    np.testing.assert_array_equal(after, before)

    said = alt_here("index", store, tmp_path / "absent", bundle, status=2)
    assert said.startswith(f"alt: training folder '{tmp_path}/absent' must hold training.json")
    assert said.count("\n") == 1

    said = alt_here(
        *("index", store, training, bundle, "--kind", "exact", "--horizon", "4"),
        *("--device", "cpu", "--threshold", "0.5"),
    )
    assert "40 frames" in said
    assert "threshold 0.5000 on cosine (given" in said
    assert "nothing is known of the rate of false alarms" in said
    said = alt_here("bench", "recall", bundle, "--horizon", "3", "--json", figures)
    assert "40 frames of 4 demonstrations" in said
    values = json.loads(figures.read_text())
    assert values["oracle"]["value"] <= values["recalled"]["value"]
    assert values["machine"]["cores"] == os.cpu_count()


def test_a_bundle_that_corrects_is_trained_with_a_task_head(tmp_path, store, alt_here):
    training, bundle = tmp_path / "training", tmp_path / "bundle"
    alt_here(
        *("train", "alt", store, training, "--steps", "2", "--batch-size", "4", "--device", "cpu"),
        *("--image-size", "32", "32", "--embedding-size", "16", "--augmentation", "strong"),
        *("--phases", "0", "--contrastive-weight", "0", "--task-weight", "1"),
    )
    config = json.loads((training / "training.json").read_text())["config"]
    assert (config["task_weight"], config["contrastive_weight"]) == (1.0, 0.0)
    assert config["augmentation"]["views_apart"] is True
    alt_here(
        *("index", store, training, bundle, "--kind", "exact", "--device", "cpu"),
        *("--threshold", "0.5", "--retrieval", "correct"),
    )
    assert json.loads((bundle / "manifest.json").read_text())["correction"]["anchor"] == "hand"


def test_a_bundle_is_calibrated_anew_by_its_own_and_by_held_out_episodes(tmp_path, alt_here):
    bundle, plot, figures = (tmp_path / n for n in ("cup", "plot.png", "figures.json"))
    write_small_bundle(bundle)
    demonstrations = [
        replace(demonstration(number), images=_noise(number), success=True) for number in range(4)
    ]
    held_out = tmp_path / "held_out"
    write_store(held_out, demonstrations)

    said = alt_here("calibrate", bundle, "--scores", "cosine", "jumps", "--bins", "2")
    assert "leave_one_demonstration_out" in said
    assert "none, extrapolated" in said
    own = Bundle.load(bundle, encoder=False).calibration
    assert tuple(own.bands) == ("cosine", "jumps")
    assert [len(band.centre) for band in own.bands.values()] == [2, 2]

    options = ("--rate", "0.1", "--per", "frame", "--device", "cpu")
    options += ("--raise-count", "2", "--raise-window", "3")
    said = alt_here("calibrate", bundle, held_out, *options, "--plot", plot, "--json", figures)
    assert "guiding_pose@" in said
    assert "frames taken as independent" in said
    loaded = Bundle.load(bundle, encoder=False)
    assert (loaded.monitor.raise_count, loaded.monitor.raise_window) == (2, 3)
    calibration = loaded.calibration
    assert (calibration.how, calibration.per, calibration.rate) == ("held_out", "frame", 0.1)
    assert json.loads(figures.read_text()) == json.loads((bundle / "calibration.json").read_text())
    with Image.open(plot) as picture:
        assert picture.format == "PNG"

    refused = alt_here("calibrate", bundle, "--raise-count", "9", status=2)
    assert "raise_count must be 1 to raise_window" in refused
    refused = alt_here("calibrate", bundle, held_out, "--rate", "2", status=2)
    assert "rate must be between 0 and 1" in refused
    assert Bundle.load(bundle, encoder=False).calibration == calibration


def _noise(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(100 + number)
    return {
        view: rng.integers(0, 256, (10, 40, 48, 3), dtype=np.uint8)
        for view in ("wrist", "third_person")
    }


def test_the_doctor_finds_what_the_tests_run_on_and_has_remedies_without_gl():
    done = alt("doctor", MUJOCO_GL="no_such_library")
    assert done.returncode == 0, "the graph of a real robot needs no simulation"
    assert "Traceback" not in done.stderr
    assert "torch" in done.stdout
    assert "MUJOCO_GL" in done.stdout
