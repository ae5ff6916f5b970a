"""Push-T, the public benchmark: people's demonstrations, a simulated T, the published scoring.

Chi et al. 2023 ("Diffusion Policy"), section 5; the demonstrations are theirs, the starts too, and
an episode counts as there (``benchmarks.push_t``). Every policy sees the picture; ALT as it is
and VINN see nothing else, the others, ALT by the T's place among them, also where the finger is,
as published. Settings were chosen on other starts (``push_t_recall``): none of them on these.

Two rows are no policies for a robot: they are told where the T really is. What they lose is the
demonstrations' and the rule's; what they gain over their twins is what the images cost.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import alt_ros
from alt_ros.benchmarks.evaluation import with_retrieval
from alt_ros.benchmarks.push_t import SEEDS, evaluate_push_t
from alt_ros.bundle import Bundle
from alt_ros.demonstrations.store import DemonstrationStore, is_store, write_store
from alt_ros.encoders.augmentation import AugmentationConfig
from alt_ros.encoders.runtime import compute_device
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import DataError
from alt_ros.lookup.calibration import Calibration
from alt_ros.lookup.correction import CorrectionConfig
from alt_ros.policies.alt import AltPolicy
from alt_ros.policies.policy import Policy
from alt_ros.policies.registry import InferenceConfig, trained_policy
from alt_ros.progress import Advance
from alt_ros.report import write_json
from alt_ros.simulation.push_t import VIEW
from alt_ros.studies.parallel import Part, side_by_side
from alt_ros.studies.push_t_recall import HORIZON, Locate, PoseNetwork, StateRecall, train_pose
from alt_ros.studies.push_t_report import (
    ALT,
    CORRECTED,
    DIFFUSION,
    KDTREE,
    NEAR,
    ORDER,
    PUBLISHED,
    TRUE_CORRECTED,
    TRUE_NEAR,
    VINN,
    WEIGHED,
    Figures,
    score_table,
    summarized,
)
from alt_ros.studies.report import Plot, Report, typed_command
from alt_ros.training.alt_bundle import build_bundle
from alt_ros.training.configuration import TrainingConfig
from alt_ros.training.contrastive import train_encoder
from alt_ros.training.policy import PolicyTrainingConfig, native_precision, train_policy
from alt_ros.training.policy_defaults import LEARNING_RATES, policy_spec
from alt_ros.types import Observation

SOURCE = (
    "https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip, in it "
    "pusht_cchi_v7_replay.zarr"
)
KINDS = {VINN: "vinn", KDTREE: "kdtree", DIFFUSION: "diffusion"}
MOTION_TOLERANCE = 32.0
"""Pixels by which motions of one mode may differ in the mean."""
CODE = (
    "benchmarks/push_t.py",
    "lookup",
    "policies",
    "simulation/push_t.py",
    "studies/push_t_recall.py",
)
"""What an episode runs; a kept evaluation of other code is run again."""


@dataclass(frozen=True)
class PushTSettings:
    """How much is done.

    Attributes:
        demonstrations: Most that are read.
        starts: Of the benchmark's.
        max_steps: Actions after which an episode ends.
        action_horizon: Ta.
        pose_steps: Of the network that tells where the T is.
        alt_steps: Of ALT's encoder.
        image_size: Height and width of what ALT's encoder sees, pixels.
        vinn_steps, diffusion_steps: Of these policies.
    """

    demonstrations: int
    starts: int
    max_steps: int
    action_horizon: int
    pose_steps: int
    alt_steps: int
    image_size: int
    vinn_steps: int
    diffusion_steps: int


QUICK = PushTSettings(40, 5, 300, 8, 3_000, 40, 48, 60, 60)
FULL = PushTSettings(206, 50, 300, 8, 10_000, 150, 64, 1_500, 4_000)


@dataclass(frozen=True)
class Work:
    """What a part needs to know; it pickles.

    Attributes:
        folder: The study's.
        settings: How much is done.
        seed: Of every training.
        device: See ``compute_device``.
    """

    folder: Path
    settings: PushTSettings
    seed: int
    device: str

    @property
    def starts(self) -> tuple[int, ...]:
        """Seeds of the starts."""
        return SEEDS[: self.settings.starts]

    def store(self) -> DemonstrationStore:
        """Return the demonstrations."""
        return DemonstrationStore.open(self.folder / "store")

    def picture(self, name: str) -> Path:
        """Return the file with the episodes' ends of a policy."""
        return self.folder / "evaluations" / f"{_slug(name)}.png"


def _slug(name: str) -> str:
    return "_".join(name.replace(",", " ").replace("-", " ").lower().split())


def read_demonstrations(
    data: Path | None, folder: Path, count: int, progress: Advance = lambda done, total: None
) -> DemonstrationStore:
    """Return the store of the first demonstrations; written unless the folder holds it.

    Args:
        data: The replay buffer; None where the store is there already.
        folder: Of the store.
        count: Most demonstrations.
        progress: Called after each demonstration.

    Raises:
        DataError: The replay buffer is not there.
    """
    if is_store(folder) and data is None:
        return DemonstrationStore.open(folder)
    if data is None or not data.exists():
        raise DataError(
            "study 'pusht' needs the human demonstrations, "
            + ("no file was named" if data is None else f"'{data}' does not exist")
            + f": download them from {SOURCE}, and name them with --data"
        )
    from alt_ros.demonstrations.zarr_replay_buffer import ZarrReplayBuffer

    buffer = ZarrReplayBuffer(data)
    count = min(count, len(buffer))
    if is_store(folder):
        store = DemonstrationStore.open(folder)
        if len(store) == count and store.frames == int(buffer.episode_ends[count - 1]):
            return store
    shown = (buffer[number] for number in range(count))
    return write_store(folder, shown, progress=lambda done: progress(done, count))


def _code() -> str:
    """Return a digest of the code that an episode runs."""
    package, digest = Path(alt_ros.__file__).parent, hashlib.sha256()
    for name in CODE:
        place = package / name
        for file in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _evaluated(
    work: Work,
    name: str,
    make: Callable[[Advance], tuple[Policy, float]],
    progress: Advance,
    told: Callable[[], Figures] = dict,
) -> Figures:
    """Return a policy's figures; trained and run unless the folder holds them.

    Args:
        work: What is done.
        name: Of the policy.
        make: Returns it, trained, and the seconds of its training.
        progress: Called with per cent, training and episodes together.
        told: Further figures, asked after the episodes.
    """
    store = work.store()
    settings = asdict(work.settings)
    key = [name, settings, work.seed, list(store.names), store.frames, HORIZON, _code()]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    file, picture = work.picture(name).with_suffix(".json"), work.picture(name)
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["digest"] == digest and picture.is_file():
            return kept["figures"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or cut off
    file.parent.mkdir(parents=True, exist_ok=True)
    policy, seconds = make(lambda done, total: progress(60 * done // max(total, 1), 100))
    figures = evaluate_push_t(
        policy,
        work.starts,
        action_horizon=work.settings.action_horizon,
        max_steps=work.settings.max_steps,
        picture=picture,
        progress=lambda done, total: progress(60 + 40 * done // total, 100),
    )
    figures |= {"training_s": round(seconds, 1), **told()}
    write_json(file, {"digest": digest, "figures": figures})
    return figures


def _run_trained(work: Work, name: str, *, progress: Advance) -> dict[str, Figures]:
    """Train and run a policy of the registry."""
    settings, kind = work.settings, KINDS[name]

    def make(advance: Advance) -> tuple[Policy, float]:
        store = work.store()
        own = {"crop": 0.92} if kind == "diffusion" else {}
        columns = () if kind == "vinn" else (0, 1)  # VINN looks at pictures alone
        spec = policy_spec(
            kind, store, prediction_horizon=HORIZON, state_columns=columns, settings=own
        )
        steps = {"vinn": settings.vinn_steps, "diffusion": settings.diffusion_steps}.get(kind, 1)
        config = PolicyTrainingConfig(
            steps=steps,
            learning_rate=LEARNING_RATES["small"],
            warm_up=min(500, steps // 10),
            precision=native_precision(compute_device(work.device)),
            seed=work.seed,
        )
        result = train_policy(
            store,
            spec,
            config,
            work.folder / kind,
            progress=advance,
            device=work.device,
            tensorboard=False,
        )
        assert result is not None
        inference = InferenceConfig(device=work.device, seed=work.seed)
        return trained_policy(result.checkpoint, inference), result.seconds

    return {name: _evaluated(work, name, make, progress)}


def _run_alt(work: Work, *, progress: Advance) -> dict[str, Figures]:
    """Train ALT's encoder on the images; run plain recall, and the neighbours' weighed motions."""
    settings, made = work.settings, list[tuple[Bundle, float]]()

    def bundle(advance: Advance) -> tuple[Bundle, float]:
        if not made:
            store = work.store()
            side = settings.image_size
            spec = EncoderSpec(views=(VIEW,), height=side, width=side, arms=0)
            config = TrainingConfig(
                steps=settings.alt_steps,
                batch_size=64,
                learning_rate=1e-3,
                schedule="one_cycle",
                temperature=0.2,
                augmentation=AugmentationConfig(crop_scale=1.0),
                checkpoint_every=50,
                seed=work.seed,
            )
            result = train_encoder(
                store,
                spec,
                config,
                work.folder / "alt",
                progress=advance,
                device=work.device,
                tensorboard=False,
            )
            assert result is not None
            built = build_bundle(
                store,
                result.encoder,
                spec,
                work.folder / "bundle",
                calibration=Calibration.given(-1.0),  # nothing is watched here
                horizon=HORIZON,
                provenance=result.to_json(),
                device=work.device,
            )
            made.append((built, result.seconds))
        return made[0]

    def make(retrieval: str, advance: Advance) -> tuple[Policy, float]:
        built, seconds = bundle(advance)
        weighed = replace(
            built, correction=CorrectionConfig(anchor="none", motion_tolerance=MOTION_TOLERANCE)
        )
        return AltPolicy(with_retrieval(weighed, retrieval)), seconds

    return {
        ALT: _evaluated(work, ALT, partial(make, "recall"), _share(progress, 0)),
        WEIGHED: _evaluated(work, WEIGHED, partial(make, "correct"), _share(progress, 1)),
    }


def _share(progress: Advance, half: int) -> Advance:
    return lambda done, total: progress(half * total + done, 2 * total)


def _run_state(work: Work, true: bool, *, progress: Advance) -> dict[str, Figures]:
    """Run recall by the state: the simulation's own, or told from the image."""
    trained: list[tuple[PoseNetwork, float]] = []

    def make(correct: bool, off: list[NDArray[np.float64]], advance: Advance) -> Any:
        store = work.store()
        if true:
            return StateRecall(store, lambda seen: seen.state, correct=correct), 0.0
        if not trained:
            steps = work.settings.pose_steps
            config = PolicyTrainingConfig(
                steps=steps, learning_rate=3e-3, warm_up=steps // 5, seed=work.seed
            )
            folder = work.folder / "pose"
            result = train_pose(store, config, folder, device=work.device, progress=advance)
            assert result is not None
            trained.append(result)
        network, seconds = trained[0]
        return StateRecall(store, _noted(network.locate, off), correct=correct), seconds

    def run(name: str, correct: bool, half: int) -> Figures:
        off: list[NDArray[np.float64]] = []
        return _evaluated(
            work, name, partial(make, correct, off), _share(progress, half), lambda: _told(off)
        )

    near, corrected = (TRUE_NEAR, TRUE_CORRECTED) if true else (NEAR, CORRECTED)
    return {near: run(near, False, 0), corrected: run(corrected, True, 1)}


def _noted(locate: Locate, off: list[NDArray[np.float64]]) -> Locate:
    """Return ``locate`` that notes how far off it is: pixels, degrees. The policy is not told."""

    def noted(seen: Observation) -> NDArray[np.float64]:
        state = locate(seen)
        turn = (state[4] - seen.state[4] + np.pi) % (2.0 * np.pi) - np.pi
        apart = float(np.linalg.norm(state[2:4] - seen.state[2:4]))
        off.append(np.array([apart, abs(np.degrees(turn))]))
        return state

    return noted


def _told(off: Sequence[NDArray[np.float64]]) -> Figures:
    if not off:
        return {}
    place, turn = np.array(off).T
    return {
        "pose_error": {
            "pixels_median": round(float(np.median(place)), 2),
            "pixels_p95": round(float(np.quantile(place, 0.95)), 2),
            "degrees_median": round(float(np.median(turn)), 2),
            "degrees_p95": round(float(np.quantile(turn, 0.95)), 2),
        }
    }


def run_push_t(
    folder: Path,
    *,
    quick: bool,
    seed: int,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
    data: Path | None = None,
) -> Report:
    """Run the study.

    Args:
        folder: Keeps demonstrations, trainings and evaluations: a second run takes them up.
        quick: Fewer demonstrations and starts; the diffusion policy is barely trained.
        seed: Of every training; the starts are the benchmark's.
        device: See ``compute_device``.
        progress: Called with (share done, of all).
        data: ``pusht_cchi_v7_replay.zarr.zip``; None where the folder holds the demonstrations.

    Raises:
        DataError: The demonstrations are not there.
        DependencyError: gym-pusht is not installed.
    """
    settings, started = QUICK if quick else FULL, time.monotonic()
    work = Work(folder / ("quick" if quick else "full"), settings, seed, device)
    store = read_demonstrations(data, work.folder / "store", settings.demonstrations)
    parts = [
        Part(partial(_run_trained, work, DIFFUSION), 10 + settings.diffusion_steps),
        Part(partial(_run_trained, work, VINN), 10 + settings.vinn_steps),
        Part(partial(_run_alt, work), 20 + 5 * settings.alt_steps),
        Part(partial(_run_state, work, False), 20 + settings.pose_steps // 25),
        Part(partial(_run_state, work, True), 20),
        Part(partial(_run_trained, work, KDTREE), 10),
    ]
    workers = 1 if compute_device(device).type == "cuda" else None
    found: dict[str, Figures] = {}
    for part in side_by_side(parts, progress, workers):
        found |= part
    figures = {name: found[name] for name in ORDER}
    return Report(
        name="pusht",
        title="Push-T: people's demonstrations, closed loop",
        summary=summarized(figures, len(store), settings.diffusion_steps),
        tables=(score_table(figures),),
        plots=tuple(_ends(work, name) for name in (CORRECTED, DIFFUSION)),
        values={
            "demonstrations": len(store),
            "frames": store.frames,
            "starts": list(work.starts),
            "policies": figures,
            "published": {name: {"mean": mean, "best": best} for name, mean, best in PUBLISHED},
        },
        seeds=(seed,),
        command=typed_command(),
        seconds=time.monotonic() - started,
    )


def _ends(work: Work, name: str) -> Plot:
    return Plot(
        f"How the episodes end: {name}",
        "Green: where the T should be. Each tile bears its start's seed and its score, which is "
        "the best of the episode and not of its end.",
        work.picture(name).read_bytes(),
    )
