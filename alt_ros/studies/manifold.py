"""Where a diffusion model memorises, generalises or misses: the study on 2-D curves.

After He, Liu, Sznaier Camps, Sartoretti, Schwager: "Demystifying Robot Diffusion Policies"
(arXiv 2505.05787), its 2-D manifold study. A DDPM learns points of a closed curve from few or many
samples with a small or a large network. Which of the three it does is told by two numbers here,
where the paper shows pictures.

Notation (Ho, Jain, Abbeel: "Denoising Diffusion Probabilistic Models", arXiv 2006.11239):

- x_0: a point of the curve; x_t: the same after t + 1 of T = 100 noising steps
- eps: the noise, eps_theta(x_t, t): the network's guess of it
- a_t: the share of the signal's variance that is left, alpha bar; square-cosine in t (Nichol,
  Dhariwal, arXiv 2102.09672)
- x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps (eq. 4); loss |eps - eps_theta(x_t, t)|^2 (eq. 14)

The two numbers of n generated samples:

- ``on_manifold``: the share within ``TOLERANCE`` of the curve. True points, blurred by the noise
  of the last step, would have 0.95.
- ``nearness``: of those samples, moved onto the curve, and of fresh true points: how often the
  sample is nearer to its nearest training point than the fresh point is to its own. Samples that
  follow the curve whatever was trained on have 0.5, samples on training points nearly 1. It is the
  Mann-Whitney statistic, the area under the ROC curve; its variance is that of DeLong, DeLong,
  Clarke-Pearson (Biometrics 44, 1988).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor, nn
from torch.nn import functional

from alt_ros.errors import ConfigurationError, DataError, DependencyError
from alt_ros.progress import Advance
from alt_ros.simulation.rollout import wilson_interval
from alt_ros.studies.report import Interval, Plot, Report, Table, typed_command

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

Points = NDArray[np.float64]

STEPS = 100
"""Noising steps T."""
LAST_NOISE = 0.0251
"""Standard deviation sqrt(1 - a_0) of what the last denoising step takes away."""
TOLERANCE = 1.96 * LAST_NOISE
"""A sample this near to the curve lies on it; the shapes are two units wide."""
THRESHOLD = 2.0 / 3.0
"""Of both numbers: two samples of three on the curve, odds of two to one to be nearer."""
BOUND = 1.5
"""Largest coordinate of a guessed point; the shapes end near 1."""
CURVE = 1 << 16
"""Points that stand for the curve."""
FRESH = 2000
"""True points that no network has seen."""
RESAMPLES = 2000
FREQUENCIES = (1.5, 3.0, 6.0, 12.0)
"""Of the sines and cosines of x and y that the network is given besides, radians a unit."""
INPUTS = 3 + 4 * len(FREQUENCIES)

MEMORISES, GENERALISES, MISSES = "memorises", "generalises", "misses"
SMALL, LARGE, FEW, MANY = "small", "large", "few", "many"
EXPECTED = {
    (SMALL, FEW): MISSES,
    (SMALL, MANY): MISSES,
    (LARGE, FEW): MEMORISES,
    (LARGE, MANY): GENERALISES,
}
"""What the paper's pictures show of each network and amount of samples."""


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron and how it is trained.

    Attributes:
        width: Units of a hidden layer.
        depth: Hidden layers.
        steps: Steps of Adam.
        batch: Samples of a step.
        learning_rate: At the first step; it falls to 0 along a half cosine.
    """

    width: int
    depth: int
    steps: int
    batch: int
    learning_rate: float

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.steps, self.batch) < 1 or self.learning_rate <= 0.0:
            raise ConfigurationError(
                "network: width, depth, steps and batch of at least 1 and a positive learning "
                f"rate are needed, got {self.width}, {self.depth}, {self.steps}, {self.batch}, "
                f"{self.learning_rate}"
            )

    @property
    def parameters(self) -> int:
        """Weights and biases in all."""
        hidden = (self.depth - 1) * (self.width + 1) * self.width
        return (INPUTS + 1) * self.width + hidden + 2 * (self.width + 1)


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        small: The network of low capacity.
        large: The one of high capacity.
        few: Training points of a sparse set.
        many: Training points of a dense one.
        shapes: Names out of ``SHAPES``.
        repeats: Training sets and initial weights of each cell.
        samples: Points that each trained network generates.
    """

    small: Network
    large: Network
    few: int
    many: int
    shapes: tuple[str, ...]
    repeats: int
    samples: int

    def __post_init__(self) -> None:
        unknown = [name for name in self.shapes if name not in SHAPES]
        if unknown or not self.shapes:
            raise ConfigurationError(
                f"shapes: some of {', '.join(SHAPES)} are needed, "
                f"got {', '.join(unknown) or 'none'}"
            )
        if min(self.few, self.many, self.repeats) < 1 or self.samples < 2:
            raise ConfigurationError(
                "settings: few, many and repeats of at least 1 and two samples are needed, got "
                f"{self.few}, {self.many}, {self.repeats}, {self.samples}"
            )

    def cells(self) -> list[Cell]:
        """Return every training of the study."""
        return [
            Cell(shape, size, amount, repeat)
            for shape in self.shapes
            for repeat in range(self.repeats)
            for size, amount in EXPECTED
        ]

    def network(self, cell: Cell) -> Network:
        """Return the network of a cell."""
        return self.small if cell.size == SMALL else self.large

    def points(self, cell: Cell) -> int:
        """Return how many training points a cell has."""
        return self.few if cell.amount == FEW else self.many


class Cell(NamedTuple):
    """One training: a shape, ``SMALL`` or ``LARGE``, ``FEW`` or ``MANY``, and the repeat."""

    shape: str
    size: str
    amount: str
    repeat: int


@dataclass(frozen=True, eq=False)
class Generated:
    """What came of a training.

    Attributes:
        training: (N, 2) float32 points that the network saw.
        samples: (n, 2) float32 points that it generates.
        loss: Mean loss of the last tenth of the steps.
        seconds: Time of training and sampling.
    """

    training: NDArray[np.float32]
    samples: NDArray[np.float32]
    loss: float
    seconds: float


@dataclass(frozen=True)
class Judgement:
    """The two numbers of a training, and what they say.

    Attributes:
        on_manifold: Share of the samples on the curve.
        distance: Median distance of the samples from the curve.
        nearness: Chance to be nearer to a training point than fresh points are; None where no
            sample lies on the curve.
        nearness_error: Its standard error, over samples and fresh points.
        ratio: Median distance to the nearest training point along the curve, over that of fresh
            points; None as above.
    """

    on_manifold: float
    distance: float
    nearness: float | None
    nearness_error: float | None
    ratio: float | None

    @property
    def verdict(self) -> str:
        """What the two numbers say."""
        return verdict(self.on_manifold, self.nearness)


def _angles() -> Points:
    return np.linspace(0.0, 2.0 * np.pi, 4096, endpoint=False)


def _star() -> Points:
    corner = np.arange(10)
    radius, angle = np.where(corner % 2 == 0, 1.0, 0.45), np.pi / 2 + corner * np.pi / 5
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def _ellipse() -> Points:
    return np.column_stack([np.cos(_angles()), 0.6 * np.sin(_angles())])


def _heart() -> Points:
    angle = _angles()
    x = 16.0 * np.sin(angle) ** 3
    y = sum(c * np.cos(k * angle) for k, c in enumerate((13.0, -5.0, -2.0, -1.0), start=1))
    return np.column_stack([x, y + 2.5]) / 16.0


def _rectangle() -> Points:
    return np.array([[-1.0, -0.6], [1.0, -0.6], [1.0, 0.6], [-1.0, 0.6]])


SHAPES = {"star": _star, "ellipse": _ellipse, "heart": _heart, "rectangle": _rectangle}
"""Closed curves, two units wide: the corners of a polygon, in order."""


class Curve:
    """A closed curve of uniform density."""

    def __init__(self, corners: Points) -> None:
        self._corners = np.concatenate([corners, corners[:1]])
        sides = np.linalg.norm(np.diff(self._corners, axis=0), axis=1)
        self._along = np.concatenate([[0.0], np.cumsum(sides)])
        self.points = self.at(np.arange(CURVE) / CURVE)  # (CURVE, 2)
        self._tree = KDTree(self.points)

    @property
    def length(self) -> float:
        """The way around."""
        return float(self._along[-1])

    def at(self, share: Points) -> Points:
        """Return the points (n, 2) at shares (n,) of the way around."""
        way = share * self._along[-1]
        return np.column_stack([np.interp(way, self._along, c) for c in self._corners.T])

    def draw(self, count: int, generator: np.random.Generator) -> Points:
        """Return points (count, 2) drawn uniformly along the curve."""
        return self.at(generator.random(count))

    def project(self, points: Points) -> tuple[Points, Points]:
        """Return the distances (n,) of points (n, 2), and the nearest points of the curve."""
        distances, nearest = self._tree.query(points)
        return np.asarray(distances), self.points[nearest]


@lru_cache(maxsize=len(SHAPES))
def curve(shape: str) -> Curve:
    """Return the curve of a shape out of ``SHAPES``."""
    return Curve(SHAPES[shape]())


def verdict(on_manifold: float, nearness: float | None) -> str:
    """Return what the two numbers say."""
    if on_manifold < THRESHOLD or nearness is None:
        return MISSES
    return MEMORISES if nearness > THRESHOLD else GENERALISES


def judge(
    samples: Points, training: Points, shape: Curve, generator: np.random.Generator
) -> Judgement:
    """Hold samples (n, 2) against the curve and the training points (N, 2).

    Where training points are dense, samples are farther from the curve than those are from each
    other; so samples are moved onto the curve before they are compared with fresh points.
    """
    distances, feet = shape.project(samples)
    on = distances <= TOLERANCE
    tree = KDTree(training)
    ours = np.asarray(tree.query(feet[on])[0])  # (m,)
    fresh = np.asarray(tree.query(shape.draw(FRESH, generator))[0])  # (FRESH,)
    nearness = error = ratio = None
    if on.any():
        nearness, error = _chance_below(ours, fresh)
        ratio = float(np.median(ours) / np.median(fresh))
    return Judgement(float(on.mean()), float(np.median(distances)), nearness, error, ratio)


def _chance_below(ours: Points, others: Points) -> tuple[float, float]:
    """Return the chance that one of ours is below one of the others, and its standard error."""
    beats = (ours[:, None] < others) + 0.5 * (ours[:, None] == others)  # (m, n)
    spread = [
        float(np.var(placement, ddof=1)) / len(placement) if len(placement) > 1 else 0.0
        for placement in (beats.mean(axis=1), beats.mean(axis=0))
    ]
    return float(beats.mean()), math.sqrt(sum(spread))


class Denoiser(nn.Module):
    """eps_theta: a perceptron of the point, sines and cosines of it, and the step."""

    frequencies: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.tensor(FREQUENCIES))
        sizes = [INPUTS, *[network.width] * network.depth]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(network.width, 2))

    def forward(self, noisy: Tensor, step: Tensor) -> Tensor:
        """Return the noise (n, 2) in points (n, 2) at steps (n,)."""
        waves = (noisy[:, :, None] * self.frequencies).flatten(1)  # (n, 2 F)
        when = 2.0 * step[:, None] / STEPS - 1.0
        return self.layers(torch.cat([noisy, waves.sin(), waves.cos(), when], dim=1))


def noise_schedule() -> DDPMScheduler:
    """Return diffusers' DDPM: T steps, square-cosine, the network predicts the noise.

    The guess of x_0 is clipped: at the first steps a_t is nearly 0, and the least error of eps
    would throw the samples far away. The bound is no side of a shape, or clipped samples would lie
    on that shape by themselves.

    Raises:
        DependencyError: diffusers is not installed.
    """
    try:
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    except ImportError as error:
        raise DependencyError(
            f"the manifold study needs diffusers, got '{error}': pip install diffusers"
        ) from error
    return DDPMScheduler(
        num_train_timesteps=STEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        clip_sample=True,
        clip_sample_range=BOUND,
    )


def generate(
    training: NDArray[np.float32],
    network: Network,
    samples: int,
    *,
    seed: int,
    device: str,
    progress: Advance = lambda done, total: None,
) -> Generated:
    """Train a model on points (N, 2) and let it generate as many as wanted.

    Args:
        training: float32 points.
        network: The perceptron and its training.
        samples: Points to generate.
        seed: Of weights, batches and noise.
        device: Where, as torch names it.
        progress: Called now and then with (steps done, steps).
    """
    started = time.perf_counter()
    schedule = noise_schedule()
    random = torch.Generator(device).manual_seed(seed)
    with _one_thread_for(network):
        model, loss = _train(training, network, schedule, seed, random, progress)
        drawn = _sample(model, schedule, samples, random)
    return Generated(training, drawn, loss, round(time.perf_counter() - started, 2))


def _train(
    training: NDArray[np.float32],
    network: Network,
    schedule: DDPMScheduler,
    seed: int,
    random: torch.Generator,
    progress: Advance,
) -> tuple[Denoiser, float]:
    """Return the trained model and the mean loss of the last tenth of the steps."""
    device = random.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Denoiser(network).to(device)
    points = torch.from_numpy(training).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=network.learning_rate, fused=True)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, network.steps)
    counted, late = torch.zeros((), device=device), max(network.steps // 10, 1)
    for done in range(1, network.steps + 1):
        rows = torch.randint(len(points), (network.batch,), generator=random, device=device)
        step = torch.randint(STEPS, (network.batch,), generator=random, device=device)
        noise = torch.randn((network.batch, 2), generator=random, device=device)
        noisy = schedule.add_noise(points[rows], noise, step)  # pyright: ignore[reportArgumentType]
        loss = functional.mse_loss(model(noisy, step), noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        if done > network.steps - late:
            counted += loss.detach()
        if done % 100 == 0 or done == network.steps:
            progress(done, network.steps)
    return model, float(counted) / late


@contextmanager
def _one_thread_for(network: Network) -> Generator[None, None, None]:
    """Keep a narrow network on one thread: products so small are slower when shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if network.width < 512 else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _sample(
    model: Denoiser, schedule: DDPMScheduler, samples: int, random: torch.Generator
) -> NDArray[np.float32]:
    x = torch.randn((samples, 2), generator=random, device=random.device)
    for t in reversed(range(STEPS)):
        noise = model(x, torch.full((samples,), t, device=random.device))
        x = schedule.step(noise, t, x, generator=random, return_dict=False)[0]
    return x.cpu().numpy()


QUICK = Settings(
    small=Network(width=5, depth=2, steps=2500, batch=256, learning_rate=1e-2),
    large=Network(width=96, depth=4, steps=3500, batch=256, learning_rate=5e-3),
    few=20,
    many=100_000,
    shapes=tuple(SHAPES),
    repeats=2,
    samples=1000,
)
"""For two processor cores and some minutes. The large network has 30,050 parameters, not the
paper's 9.5 M: for the same time, many steps of a narrow network fit better than few of a
wide one."""
FULL = Settings(
    small=Network(width=5, depth=2, steps=10_000, batch=256, learning_rate=1e-2),
    large=Network(width=1776, depth=4, steps=10_000, batch=256, learning_rate=5e-4),
    few=20,
    many=100_000,
    shapes=tuple(SHAPES),
    repeats=3,
    samples=2000,
)
"""For a GPU: on two processor cores a training of the large network takes hours. The paper's 9.5 M
parameters; its 146 of the small network are 142 here. Its other sparse set of 3k points is denser
than the noise of the last step is wide, so that memorising it would not show."""


def run_manifold(
    folder: Path,
    *,
    quick: bool,
    seed: int = 0,
    device: str = "cpu",
    progress: Advance = lambda done, total: None,
) -> Report:
    """Train every cell, judge it and report.

    Args:
        folder: Where ``quick=False`` keeps each trained cell's samples and takes them up again.
        quick: ``QUICK`` instead of ``FULL``.
        seed: Of everything; the same one gives the same samples on the same machine.
        device: Where the networks train, as torch names it.
        progress: Called with (training steps done, in all).

    Raises:
        ConfigurationError: The device does not exist or the seed is negative.
        DataError: A kept cell cannot be read or written.
        DependencyError: diffusers is not installed.
    """
    settings = QUICK if quick else FULL
    kept = None if quick else folder
    started = time.perf_counter()
    results = train_cells(settings, seed=seed, device=device, kept=kept, progress=progress)
    name = "manifold, quick" if quick else "manifold"
    return _report(name, settings, results, seed, started)


def train_cells(
    settings: Settings,
    *,
    seed: int,
    device: str,
    kept: Path | None = None,
    progress: Advance = lambda done, total: None,
) -> dict[Cell, tuple[Generated, Judgement]]:
    """Train and judge every cell of the settings.

    The same points are shown to both networks of a shape and repeat.

    Args:
        settings: What is trained.
        seed: Of everything.
        device: Where, as torch names it.
        kept: Folder of finished cells, taken up where their settings are the same; None keeps
            nothing.
        progress: Called with (training steps done, in all).

    Raises:
        ConfigurationError: The device does not exist or the seed is negative.
        DataError: A kept cell cannot be read or written.
        DependencyError: diffusers is not installed.
    """
    _check(seed, device)
    cells = settings.cells()
    total, before = sum(settings.network(cell).steps for cell in cells), 0
    results: dict[Cell, tuple[Generated, Judgement]] = {}
    for cell in cells:
        network, offset = settings.network(cell), before

        def advance(done: int, _: int, offset: int = offset) -> None:
            progress(offset + done, total)

        path = None if kept is None else kept / _name(settings, cell, seed, device)
        generated = None if path is None else _load(path)
        if generated is None:
            generator = np.random.default_rng(_stream(seed, cell, "points"))
            points = curve(cell.shape).draw(settings.points(cell), generator)
            generated = generate(
                points.astype(np.float32),
                network,
                settings.samples,
                seed=int(_stream(seed, cell, cell.size).generate_state(1)[0]),
                device=device,
                progress=advance,
            )
            if path is not None:
                _save(path, generated)
        before += network.steps
        progress(before, total)
        fresh = np.random.default_rng(_stream(seed, cell, "fresh"))
        training = generated.training.astype(np.float64)
        samples = generated.samples.astype(np.float64)
        results[cell] = generated, judge(samples, training, curve(cell.shape), fresh)
    return results


def _check(seed: int, device: str) -> None:
    if seed < 0:
        raise ConfigurationError(f"seed: a number of at least 0 is needed, got {seed}")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"device: one that torch can use is needed, got '{device}' ({reason}): try 'cpu'"
        ) from error


def _stream(seed: int, cell: Cell, purpose: str) -> np.random.SeedSequence:
    """Return the seeds of a purpose, which no other cell and no order of cells changes."""
    text = f"{cell.shape} {cell.amount} {cell.repeat} {purpose}"
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.SeedSequence([seed, int.from_bytes(digest[:8], "little")])


def _name(settings: Settings, cell: Cell, seed: int, device: str) -> str:
    """Return the file of a cell, other for other settings or another state of this module."""
    trained = asdict(settings.network(cell)), settings.points(cell), settings.samples
    text = json.dumps([trained, seed, device]) + Path(__file__).read_text(encoding="utf-8")
    return f"{'-'.join(map(str, cell))}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npz"


def _save(path: Path, generated: Generated) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, **vars(generated))
        partial.replace(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error}") from error


def _load(path: Path) -> Generated | None:
    """Return a kept cell; None where there is none."""
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            return Generated(
                training=file["training"],
                samples=file["samples"],
                loss=float(file["loss"]),
                seconds=float(file["seconds"]),
            )
    except Exception as error:  # damage shows as a zip, a key, a type or a value
        raise DataError(
            f"'{path}' cannot be read as a kept cell: {error}: remove it to train it again"
        ) from error


def _report(
    name: str,
    settings: Settings,
    results: dict[Cell, tuple[Generated, Judgement]],
    seed: int,
    started: float,
) -> Report:
    """Return the report of trained cells, begun at a time of ``time.perf_counter``."""
    regimes = {
        regime: [judged for cell, (_, judged) in results.items() if _regime(cell) == regime]
        for regime in EXPECTED
    }
    expected = {
        regime: sum(judged.verdict == EXPECTED[regime] for judged in judgements)
        for regime, judgements in regimes.items()
    }
    return Report(
        name=name,
        title="Memorising, generalising and missing a 2-D manifold",
        summary=[
            f"{_said(settings, regime)}: {EXPECTED[regime]} in {expected[regime]} of "
            f"{len(judgements)} trainings."
            for regime, judgements in regimes.items()
        ],
        tables=[
            _regime_table(settings, regimes, seed),
            _cell_table(settings, results),
        ],
        plots=[_grid(settings, results), _numbers(results)],
        values={
            "settings": asdict(settings),
            "parameters": {
                SMALL: settings.small.parameters,
                LARGE: settings.large.parameters,
            },
            "tolerance": TOLERANCE,
            "threshold": THRESHOLD,
            "as_expected": {"/".join(regime): count for regime, count in expected.items()},
            "trainings": [
                {
                    **cell._asdict(),
                    **asdict(judged),
                    "verdict": judged.verdict,
                    "expected": EXPECTED[_regime(cell)],
                    "loss": generated.loss,
                    "seconds": generated.seconds,
                }
                for cell, (generated, judged) in results.items()
            ],
        },
        seeds=[seed],
        command=typed_command(),
        seconds=time.perf_counter() - started,
    )


def _regime(cell: Cell) -> tuple[str, str]:
    return cell.size, cell.amount


def _said(settings: Settings, regime: tuple[str, str]) -> str:
    cell = Cell("", *regime, 0)
    parameters, points = settings.network(cell).parameters, settings.points(cell)
    return f"{regime[0].capitalize()} network ({parameters:,} parameters), {points:,} points"


def _regime_table(
    settings: Settings, regimes: dict[tuple[str, str], list[Judgement]], seed: int
) -> Table:
    generator = np.random.default_rng(seed)
    rows: list[list[Any]] = []
    for regime, judgements in regimes.items():
        right = sum(judged.verdict == EXPECTED[regime] for judged in judgements)
        nearness = [judged.nearness for judged in judgements if judged.nearness is not None]
        low, high = wilson_interval(right, len(judgements))
        rows.append(
            [
                _said(settings, regime),
                EXPECTED[regime],
                f"{right} of {len(judgements)}",
                Interval(right / len(judgements), low, high),
                _mean([judged.on_manifold for judged in judgements], generator),
                _mean(nearness, generator) if nearness else None,
                _mean([judged.distance for judged in judgements], generator),
            ]
        )
    return Table(
        "The four regimes",
        ["regime", "paper", "so here", "share so", "on the curve", "nearness", "distance"],
        rows,
        f"On the curve: share of the samples within {TOLERANCE:.3f} of it; true points, blurred "
        "by the noise of the last denoising step, would have 0.95. Nearness: chance that a sample "
        "on the curve is nearer to a training point than a fresh true point is; 0.5 is what "
        "fresh points have, 1 lies on the training points. Distance: median from the curve, of a "
        f"shape two units wide. Below {THRESHOLD:.2f} on the curve a training misses; otherwise "
        f"it memorises above {THRESHOLD:.2f} nearness and generalises below. Intervals of 95 %: "
        f"Wilson for the share, bootstrap over the {len(next(iter(regimes.values())))} trainings "
        "for the means.",
    )


def _mean(values: Sequence[float], generator: np.random.Generator) -> Interval:
    """Return the mean and its bootstrapped interval."""
    array = np.asarray(values)
    means = array[generator.integers(len(array), size=(RESAMPLES, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    # All values alike differ from their mean by a rounding.
    mean = float(array.mean())
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def _cell_table(settings: Settings, results: dict[Cell, tuple[Generated, Judgement]]) -> Table:
    rows: list[list[Any]] = []
    for shape in settings.shapes:
        for size, amount in EXPECTED:
            judgements = [
                results[Cell(shape, size, amount, repeat)][1] for repeat in range(settings.repeats)
            ]
            on = float(np.mean([judged.on_manifold for judged in judgements]))
            drawn = settings.samples * settings.repeats
            low, high = wilson_interval(round(on * drawn), drawn)
            nearness = _pooled(judgements)
            ratios = [judged.ratio for judged in judgements if judged.ratio is not None]
            said = verdict(on, nearness.value if nearness else None)
            rows.append(
                [
                    shape,
                    size,
                    settings.points(Cell(shape, size, amount, 0)),
                    Interval(on, low, high),
                    nearness,
                    float(np.mean(ratios)) if ratios else None,
                    said,
                    f"{sum(j.verdict == said for j in judgements)} of {len(judgements)}",
                ]
            )
    return Table(
        "Every cell",
        ["shape", "network", "points", "on the curve", "nearness", "ratio", "verdict", "agree"],
        rows,
        f"Means over {settings.repeats} trainings, each with its own points and weights, and how "
        "many of them have the verdict of the means. The 95 % intervals are those of these "
        "networks' samples (Wilson; DeLong), not of another training. Ratio: median distance to "
        "the nearest training point, along the curve, over that of fresh points.",
    )


def _pooled(judgements: Sequence[Judgement]) -> Interval | None:
    """Return the mean nearness, and its interval from the standard errors."""
    known = [(j.nearness, j.nearness_error) for j in judgements]
    values = [(value, error) for value, error in known if value is not None and error is not None]
    if not values:
        return None
    mean = sum(value for value, _ in values) / len(values)
    half = 1.96 * math.sqrt(sum(error**2 for _, error in values)) / len(values)
    return Interval(mean, max(mean - half, 0.0), min(mean + half, 1.0))


TRAINED, DRAWN, TRUE = "tab:orange", "tab:blue", "0.6"
COLOURS = {
    (SMALL, FEW): "tab:purple",
    (SMALL, MANY): "tab:green",
    (LARGE, FEW): "tab:red",
    (LARGE, MANY): "tab:blue",
}
MARKERS = dict(zip(SHAPES, "*oDs", strict=True))


def _grid(settings: Settings, results: dict[Cell, tuple[Generated, Judgement]]) -> Plot:
    from matplotlib.figure import Figure

    shapes = settings.shapes
    figure = Figure((2.5 * len(EXPECTED), 2.6 * len(shapes) + 0.6), dpi=110, layout="constrained")
    axes = figure.subplots(len(shapes), len(EXPECTED), squeeze=False)
    for row, shape in zip(axes, shapes, strict=True):
        for axis, regime in zip(row, EXPECTED, strict=True):
            cell = Cell(shape, *regime, 0)
            generated, judged = results[cell]
            line = curve(shape).points[::16]
            axis.plot(*line.T, color=TRUE, linewidth=0.8, label="true curve")
            axis.scatter(
                *generated.samples.T, s=3, color=DRAWN, alpha=0.35, linewidths=0, label="generated"
            )
            if cell.amount == FEW:
                axis.scatter(
                    *generated.training.T, s=26, marker="x", color=TRAINED, label="training points"
                )
            axis.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), xticks=[], yticks=[])
            axis.set_aspect("equal")
            near = "" if judged.nearness is None else f", near {judged.nearness:.2f}"
            axis.set_xlabel(f"{judged.verdict}: on {judged.on_manifold:.2f}{near}", fontsize=8.5)
    for axis, regime in zip(axes[0], EXPECTED, strict=True):
        points = settings.points(Cell("", *regime, 0))
        axis.set_title(f"{regime[0]} network, {points:,} points", fontsize=9.5)
    for axis, shape in zip(axes[:, 0], shapes, strict=True):
        axis.set_ylabel(shape)
    few = next(i for i, regime in enumerate(EXPECTED) if regime[1] == FEW)
    legend = figure.legend(
        *axes[0, few].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        markerscale=1.5,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    return Plot.of(
        "What is generated",
        "The first training of each cell. Of many training points none is drawn, as they cover "
        "the curve; samples outside the frame are not shown. Under each: the verdict, the share "
        "on the curve and the nearness.",
        figure,
    )


def _numbers(results: dict[Cell, tuple[Generated, Judgement]]) -> Plot:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure((7.2, 4.8), dpi=110, layout="constrained")
    axis = figure.subplots()
    axis.axvline(THRESHOLD, color="0.4", linewidth=1)
    axis.plot([THRESHOLD, 1.02], [THRESHOLD, THRESHOLD], color="0.4", linewidth=1)
    axis.axhline(0.5, color="0.7", linestyle=":", linewidth=1)
    axis.annotate("fresh points", (0.47, 0.5), (0, 3), textcoords="offset points", color="0.5")
    for x, y, text in (
        (0.01, 1.0, MISSES),
        (THRESHOLD + 0.01, 1.0, MEMORISES),
        (THRESHOLD + 0.01, THRESHOLD - 0.015, GENERALISES),
    ):
        axis.text(x, y, text, va="top", weight="bold", color="0.35")
    for cell, (_, judged) in results.items():
        if judged.nearness is not None:
            assert judged.nearness_error is not None
            axis.errorbar(
                judged.on_manifold,
                judged.nearness,
                yerr=1.96 * judged.nearness_error,
                color=COLOURS[_regime(cell)],
                marker=MARKERS[cell.shape],
                markersize=7,
                alpha=0.75,
                elinewidth=1,
            )
    handles = [
        *(
            Line2D([], [], color=colour, marker="o", linestyle="", label=f"{size}, {amount}")
            for (size, amount), colour in COLOURS.items()
        ),
        *(
            Line2D([], [], color="0.4", marker=marker, linestyle="", label=shape)
            for shape, marker in MARKERS.items()
            if any(cell.shape == shape for cell in results)
        ),
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize="small")
    lowest = min((j.nearness for _, j in results.values() if j.nearness is not None), default=0.5)
    axis.set(xlim=(0.0, 1.02), ylim=(min(0.4, lowest - 0.05), 1.02))
    axis.set(xlabel="share of the samples on the curve", ylabel="nearness to training points")
    return Plot.of(
        "The two numbers",
        "One marker a training, with the 95 % interval of its nearness; the lines are the "
        "thresholds of the verdicts.",
        figure,
    )
