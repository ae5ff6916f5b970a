"""Which backbone, and how many values of an embedding, recall the right demonstration.

The encoder ablation of the ALT paper (He et al. 2026, arXiv 2505.05787): a ResNet-18, a vision
transformer (ViT) and CLIP's image tower with embeddings of 64, 128 and 256 values, all with the
same demonstrations, loss, batches and number of steps. For each:

- recall: episodes ``ind`` in which most commands came from the demonstration whose cup stood
  nearest (``benchmarks.evaluation``), the cup put back within 5 mm, the monitor off.
- success: the cup was lifted and held in those episodes.
- action distance: ``training.leave_one_out``, what is recalled of the other demonstrations.
- time: of one answer, images in and chunk out, on one thread of a CPU.

The paper's transformers are published ones of 86 million parameters. They take part where files
of their weights are given; else small ones of the same architectures are trained from scratch.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from alt_ros.bundle import Bundle
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.runtime import compute_device
from alt_ros.errors import ConfigurationError
from alt_ros.progress import Advance
from alt_ros.simulation.scenarios import TRAINING_PLACEMENTS
from alt_ros.simulation.scene import VIEWS
from alt_ros.studies.costs import alt_method, milliseconds
from alt_ros.studies.encoders_cells import FAMILIES, PUBLISHED, Cell, Family, Training, measure
from alt_ros.studies.encoders_report import cost_table, plot, recall_table, summary
from alt_ros.studies.parallel import Part, side_by_side
from alt_ros.studies.report import Report, typed_command
from alt_ros.studies.trained import IMAGE_SIZE, cup_store
from alt_ros.training.configuration import cup_training

FINE_TUNING_RATE = 1e-4
"""The largest learning rate of published weights: the paper's."""


@dataclass(frozen=True)
class EncoderSettings:
    """How much is done.

    Attributes:
        demonstrations: Of the 31 placements.
        steps: Optimiser steps of a training, of two frames per demonstration each.
        trials: Episodes of each training.
        seeds: Trainings of each cell.
        sizes: Title of a family to the embedding sizes that are tried.
    """

    demonstrations: int
    steps: int
    trials: int
    seeds: int
    sizes: Mapping[str, Sequence[int]] = field(
        default_factory=lambda: {family.title: (64, 128, 256) for family in FAMILIES}
    )


QUICK = EncoderSettings(
    demonstrations=12,
    steps=60,
    trials=12,
    seeds=1,
    sizes={"ResNet-18": (64, 128, 256), "ViT": (128,), "CLIP": (128,)},
)
FULL = EncoderSettings(demonstrations=31, steps=160, trials=31, seeds=3)


@contextmanager
def _one_thread() -> Generator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def planned(
    settings: EncoderSettings,
    views: tuple[str, ...],
    seed: int,
    weights: Mapping[str, Path] | None = None,
) -> list[tuple[Family, list[Training]]]:
    """Return the trainings of each cell.

    Args:
        settings: How much is done.
        views: Of the demonstrations.
        seed: The first seed.
        weights: See ``run_encoders``.

    Raises:
        ConfigurationError: Weights of another backbone, or a file is missing.
    """
    given = dict(weights or {})
    unknown = sorted(set(given) - set(PUBLISHED))
    if unknown:
        raise ConfigurationError(
            f"study 'encoders': weights must be of {', '.join(PUBLISHED)}, got "
            f"{', '.join(unknown)}: leave them out"
        )
    missing = [str(path) for path in given.values() if not path.is_file()]
    if missing:
        raise ConfigurationError(
            f"study 'encoders': weights must be files, '{missing[0]}' is none: give its path"
        )
    plan: list[tuple[Family, list[Training]]] = []
    for family in FAMILIES:
        file = given.get(family.published)
        for size in settings.sizes.get(family.title, ()):
            trainings: list[Training] = []
            for number in range(seed, seed + settings.seeds):
                spec, config = cup_training(views, number, settings.steps)
                config = replace(config, batch_size=2 * settings.demonstrations)
                backbone = family.small
                if file is not None:
                    backbone = family.published
                    config = replace(config, learning_rate=FINE_TUNING_RATE)
                if backbone in ("vit_b_16", "clip_vit_b_32"):  # few patches of that size in 48x48
                    spec = replace(spec, height=IMAGE_SIZE[0], width=IMAGE_SIZE[1])
                spec = replace(spec, backbone=backbone, embedding_size=size)
                trainings.append(Training(spec, config, file, settings.trials))
            plan.append((family, trainings))
    return plan


def run_encoders(
    folder: Path,
    *,
    quick: bool,
    seed: int,
    device: str = "auto",
    weights: Mapping[str, Path] | None = None,
    progress: Advance = lambda done, total: None,
) -> Report:
    """Run the study.

    Args:
        folder: Where demonstrations and trainings are kept, to be taken up again.
        quick: Fewer demonstrations, steps, trials, seeds and cells.
        seed: The first seed, of trainings and placements.
        device: See ``compute_device``.
        weights: Backbone of ``PUBLISHED`` to a file of its weights, see ``MultiViewEncoder``. A
            family that is not named is trained from scratch, small where it is a transformer.
        progress: Called with (seconds' worth of work done, in all), estimated.

    Raises:
        ConfigurationError: Weights of another backbone, or a file is missing or does not fit.
    """
    settings, started = QUICK if quick else FULL, time.monotonic()
    placements = TRAINING_PLACEMENTS[: settings.demonstrations]
    workers = 1 if compute_device(device).type == "cuda" else None
    plan = planned(settings, VIEWS, seed, weights)
    trainings = [training for _, several in plan for training in several]
    size = settings.steps * settings.demonstrations // 16 + 4 * settings.trials
    recording = 2 * len(placements)
    total = recording + size * len(trainings)
    store = cup_store(folder / "store", placements, lambda done, _: progress(2 * done, total))
    root = folder / "trainings"
    parts = [Part(partial(measure, t, store.path, root, device), size) for t in trainings]
    results = iter(side_by_side(parts, lambda done, _: progress(recording + done, total), workers))
    cells: list[Cell] = []
    with _one_thread():
        for family, several in plan:
            bundle = Bundle.load(several[0].folder(root, store) / "bundle", device=device)
            with torch.device("meta"):  # nothing is allocated
                parameters = sum(p.numel() for p in MultiViewEncoder(bundle.spec).parameters())
            method = alt_method(bundle)
            cells.append(
                Cell(
                    family=family,
                    trainings=several,
                    measured=[next(results) for _ in several],
                    milliseconds=milliseconds(method.policy, store),
                    parameters=parameters,
                    memory=method.memory,
                )
            )
    return Report(
        name="encoders",
        title="Which encoder recalls the right demonstration?",
        summary=summary(cells, len(store), quick),
        tables=(recall_table(cells), cost_table(cells, device)),
        plots=(plot(cells, len(store)),),
        values={
            "cells": [cell.to_json() for cell in cells],
            "demonstrations": len(store),
            "steps": settings.steps,
        },
        seeds=tuple(range(seed, seed + settings.seeds)),
        command=typed_command(),
        seconds=time.monotonic() - started,
    )
