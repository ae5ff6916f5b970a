"""Where a diffusion model memorises, generalises or misses: the study on 2-D curves.

After He, Liu, Sznaier Camps, Sartoretti, Schwager: "Demystifying Robot Diffusion Policies"
(arXiv 2505.05787), its 2-D manifold study. A DDPM learns points of a closed curve from few or many
samples with a small or a large network. Which of the three it does is told by two numbers here,
where the paper shows pictures.

The model is in ``manifold_training``, the two numbers in ``manifold_judgement``.
"""

from __future__ import annotations

import time
from pathlib import Path

from alt_ros.encoders.runtime import compute_device
from alt_ros.progress import Advance
from alt_ros.studies.manifold_cells import train_cells
from alt_ros.studies.manifold_report import manifold_report
from alt_ros.studies.manifold_settings import FULL, QUICK
from alt_ros.studies.report import Report


def run_manifold(
    folder: Path,
    *,
    quick: bool,
    seed: int = 0,
    device: str = "auto",
    progress: Advance = lambda done, total: None,
) -> Report:
    """Train every cell, judge it and report.

    Args:
        folder: Where ``quick=False`` keeps each trained cell's samples and takes them up again.
        quick: ``QUICK`` instead of ``FULL``.
        seed: Of everything; the same one gives the same samples on the same machine.
        device: Where the networks train: auto, or as torch names it.
        progress: Called with (training steps done, in all).

    Raises:
        ConfigurationError: The device does not exist or the seed is negative.
        DataError: A kept cell cannot be read or written.
        DependencyError: diffusers is not installed.
    """
    settings = QUICK if quick else FULL
    kept = None if quick else folder
    started = time.perf_counter()
    on = str(compute_device(device)) if device == "auto" else device
    results = train_cells(settings, seed=seed, device=on, kept=kept, progress=progress)
    name = "manifold, quick" if quick else "manifold"
    return manifold_report(name, settings, results, seed, time.perf_counter() - started)
