"""The verdicts hold on points whose answer is known; a small study trains, repeats and resumes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from alt_ros.errors import ConfigurationError, DataError
from alt_ros.studies import manifold
from alt_ros.studies.manifold import (
    EXPECTED,
    FULL,
    GENERALISES,
    LAST_NOISE,
    MEMORISES,
    MISSES,
    QUICK,
    SHAPES,
    THRESHOLD,
    Denoiser,
    Network,
    Settings,
    curve,
    generate,
    judge,
    noise_schedule,
    run_manifold,
    train_cells,
    verdict,
)
from alt_ros.studies.report import write_report

TINY = Settings(
    small=Network(width=4, depth=1, steps=20, batch=16, learning_rate=1e-2),
    large=Network(width=16, depth=2, steps=30, batch=16, learning_rate=1e-2),
    few=5,
    many=50,
    shapes=("star", "heart"),
    repeats=2,
    samples=40,
)


def drawn(shape: str, few: int = 20, seed: int = 0):
    generator = np.random.default_rng(seed)
    return generator, curve(shape), curve(shape).draw(few, generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_a_closed_curve_two_units_wide(shape):
    points = curve(shape).points
    assert np.ptp(points[:, 0]) == pytest.approx(2.0, abs=0.1)
    assert np.abs(points).max() <= 1.05
    steps = np.linalg.norm(np.diff(np.concatenate([points, points[:1]]), axis=0), axis=1)
    assert steps.max() < 2e-4
    np.testing.assert_allclose(curve(shape).at(np.array([0.0])), curve(shape).at(np.array([1.0])))


@pytest.mark.parametrize("shape", SHAPES)
def test_points_are_drawn_evenly_along_the_curve(shape):
    share = np.linspace(0.0, 1.0, 3000)
    steps = np.linalg.norm(np.diff(curve(shape).at(share), axis=0), axis=1)
    # A chord over a corner is shorter than the way around it.
    assert np.median(steps) == pytest.approx(curve(shape).length / 2999, rel=1e-3)
    assert np.quantile(steps, 0.01) > 0.9 * np.median(steps)


def test_the_distance_from_an_ellipse_is_the_one_of_geometry():
    outside = np.array([[1.3, 0.0], [0.0, 0.75], [0.0, 0.5]])
    distances, feet = curve("ellipse").project(outside)
    np.testing.assert_allclose(distances, [0.3, 0.15, 0.1], atol=1e-4)
    np.testing.assert_allclose(feet, [[1.0, 0.0], [0.0, 0.6], [0.0, 0.6]], atol=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("points", [20, 3000])
def test_fresh_true_points_generalise(shape, points):
    generator, line, training = drawn(shape, points)
    samples = line.draw(1000, generator)
    blurred = samples + generator.normal(0.0, LAST_NOISE / 2, samples.shape)
    for fresh in (samples, blurred):
        judged = judge(fresh, training, line, generator)
        assert judged.verdict == GENERALISES
        assert judged.on_manifold > 0.95
        assert judged.nearness is not None
        assert judged.nearness_error is not None
        assert abs(judged.nearness - 0.5) < 4 * judged.nearness_error
        assert judged.ratio == pytest.approx(1.0, abs=0.2)


def test_dense_training_points_do_not_look_memorised_by_samples_beside_the_curve():
    generator, line, training = drawn("star", 100_000)
    samples = line.draw(1000, generator) + generator.normal(0.0, 0.01, (1000, 2))
    judged = judge(samples, training, line, generator)
    assert judged.verdict == GENERALISES
    assert judged.nearness == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_points_with_a_little_noise_are_memorised(shape):
    generator, line, training = drawn(shape)
    samples = training[generator.integers(20, size=1000)] + generator.normal(0.0, 0.01, (1000, 2))
    judged = judge(samples, training, line, generator)
    assert judged.verdict == MEMORISES
    assert judged.nearness is not None
    assert judged.nearness > 0.85
    assert judged.ratio is not None
    assert judged.ratio < 0.2


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cloud_misses(shape):
    generator, line, training = drawn(shape)
    judged = judge(generator.normal(0.0, 0.5, (1000, 2)), training, line, generator)
    assert judged.verdict == MISSES


def test_samples_of_which_none_lies_on_the_curve_have_no_nearness():
    generator, line, training = drawn("star")
    judged = judge(np.full((10, 2), 5.0), training, line, generator)
    assert (judged.on_manifold, judged.nearness, judged.ratio) == (0.0, None, None)
    assert judged.verdict == MISSES


def test_one_sample_on_the_curve_has_a_finite_error():
    generator, line, training = drawn("star")
    judged = judge(training[:1], training, line, generator)
    assert judged.nearness is not None
    assert judged.nearness > 0.99
    assert judged.nearness_error is not None
    assert math.isfinite(judged.nearness_error)


def test_nearness_is_the_mann_whitney_statistic_with_its_spread():
    generator = np.random.default_rng(0)
    ours, others = generator.exponential(1.0, 60), generator.exponential(2.0, 80)
    chance, error = manifold._chance_below(ours, others)
    reference = mannwhitneyu(others, ours).statistic / (60 * 80)
    assert chance == pytest.approx(reference)
    again = [
        manifold._chance_below(generator.exponential(1.0, 60), generator.exponential(2.0, 80))[0]
        for _ in range(300)
    ]
    assert error == pytest.approx(np.std(again), rel=0.2)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_every_pair_of_numbers_has_one_verdict(on_manifold, nearness):
    said = verdict(on_manifold, nearness)
    assert (said == MISSES) == (on_manifold < THRESHOLD)
    assert (said == MEMORISES) == (on_manifold >= THRESHOLD and nearness > THRESHOLD)


def test_the_tolerance_is_that_of_the_last_denoising_step():
    schedule = noise_schedule()
    assert len(schedule.alphas_cumprod) == 100
    noise = float((1.0 - schedule.alphas_cumprod[0]).sqrt())
    assert pytest.approx(noise, abs=5e-5) == LAST_NOISE
    generator = np.random.default_rng(0)
    line = curve("rectangle")
    true = line.draw(4000, generator)
    judged = judge(true + generator.normal(0.0, noise, true.shape), true, line, generator)
    assert judged.on_manifold == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("network", [QUICK.small, QUICK.large, TINY.small, TINY.large])
def test_the_parameters_are_counted_as_torch_has_them(network):
    assert network.parameters == sum(p.numel() for p in Denoiser(network).parameters())


def test_the_networks_have_the_sizes_of_the_paper():
    assert QUICK.small.parameters == FULL.small.parameters == 142
    assert FULL.large.parameters == pytest.approx(9.5e6, rel=0.005)
    assert QUICK.large.parameters == 30_050
    assert (FULL.few, FULL.many) == (QUICK.few, QUICK.many) == (20, 100_000)


def test_a_model_learns_the_one_point_that_it_sees():
    network = Network(width=32, depth=2, steps=400, batch=64, learning_rate=1e-2)
    point = np.array([[0.4, -0.3]], np.float32)
    generated = generate(point, network, 50, seed=0, device="cpu")
    assert np.abs(np.median(generated.samples - point, axis=0)).max() < 0.05
    assert generated.loss < 0.3


def test_the_same_seed_gives_the_same_samples_and_another_one_others():
    one = train_cells(TINY, seed=3, device="cpu")
    torch.rand(7)  # whatever else has drawn numbers before
    again = train_cells(replace(TINY, shapes=("heart", "star")), seed=3, device="cpu")
    other = train_cells(TINY, seed=4, device="cpu")
    assert list(one) == TINY.cells()
    for cell, (generated, judged) in one.items():
        np.testing.assert_array_equal(generated.samples, again[cell][0].samples)
        assert judged == again[cell][1]
        assert not np.array_equal(generated.samples, other[cell][0].samples)


def test_both_networks_see_the_same_points_and_repeats_see_others():
    results = {
        cell: generated for cell, (generated, _) in train_cells(TINY, seed=0, device="cpu").items()
    }
    for cell, generated in results.items():
        assert generated.training.shape == (TINY.points(cell), 2)
        twin = results[cell._replace(size="small" if cell.size == "large" else "large")]
        np.testing.assert_array_equal(generated.training, twin.training)
        repeated = results[cell._replace(repeat=1 - cell.repeat)]
        assert not np.array_equal(generated.training, repeated.training)
        assert generated.samples.shape == (40, 2)


def test_the_progress_counts_every_step_once():
    seen: list[tuple[int, int]] = []
    train_cells(
        TINY, seed=0, device="cpu", progress=lambda done, total: seen.append((done, total))
    )
    total = 2 * 2 * 2 * (20 + 30)
    assert {end for _, end in seen} == {total}
    done = [count for count, _ in seen]
    assert done == sorted(done)
    assert done[-1] == total


def test_training_leaves_torch_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    train_cells(replace(TINY, shapes=("star",), repeats=1), seed=0, device="cpu")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected)


def test_a_finished_cell_is_taken_up_and_a_missing_one_is_trained(tmp_path):
    first = train_cells(TINY, seed=0, device="cpu", kept=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(first) == 16
    changed = {path: path.stat().st_mtime_ns for path in files}
    files[0].unlink()
    second = train_cells(TINY, seed=0, device="cpu", kept=tmp_path)
    assert sorted(tmp_path.iterdir()) == files
    assert [p for p in files if p.stat().st_mtime_ns != changed[p]] == [files[0]]
    for cell, (generated, judged) in first.items():
        np.testing.assert_array_equal(generated.samples, second[cell][0].samples)
        assert judged == second[cell][1]


def test_cells_of_other_settings_are_not_taken_up(tmp_path):
    one = replace(TINY, shapes=("star",), repeats=1)
    train_cells(one, seed=0, device="cpu", kept=tmp_path)
    for other, seed in (
        (one, 1),
        (replace(one, samples=41), 0),
        (replace(one, few=6, many=51), 0),
    ):
        before = len(list(tmp_path.iterdir()))
        train_cells(other, seed=seed, device="cpu", kept=tmp_path)
        assert len(list(tmp_path.iterdir())) == before + len(EXPECTED)


def test_a_damaged_cell_is_named_with_the_remedy(tmp_path):
    one = replace(TINY, shapes=("star",), repeats=1)
    train_cells(one, seed=0, device="cpu", kept=tmp_path)
    path = min(tmp_path.iterdir())
    path.write_bytes(b"PK damaged")
    with pytest.raises(DataError, match=f"{path.name}' cannot be read .* remove it"):
        train_cells(one, seed=0, device="cpu", kept=tmp_path)


@pytest.mark.parametrize("quick", [True, False])
def test_the_study_reports_every_cell_and_keeps_only_a_full_one(tmp_path, monkeypatch, quick):
    monkeypatch.setattr(manifold, "QUICK" if quick else "FULL", TINY)
    report = run_manifold(tmp_path, quick=quick, seed=2, device="cpu")
    assert len(list(tmp_path.glob("*.npz"))) == (0 if quick else 16)
    regimes, cells = report.tables
    assert len(regimes.rows) == len(EXPECTED)
    assert [tuple(row[:3]) for row in cells.rows] == [
        (shape, size, {"few": 5, "many": 50}[amount])
        for shape in ("star", "heart")
        for size, amount in EXPECTED
    ]
    trainings = report.values["trainings"]
    assert len(trainings) == 16
    right = sum(t["verdict"] == t["expected"] for t in trainings)
    assert sum(report.values["as_expected"].values()) == right
    assert len(report.plots) == 2
    assert report.seeds == [2]
    write_report(tmp_path, report)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_study_of_one_training_a_cell_is_reported_too(tmp_path, monkeypatch):
    monkeypatch.setattr(manifold, "QUICK", replace(TINY, shapes=("star",), repeats=1))
    report = run_manifold(tmp_path, quick=True, seed=0, device="cpu")
    assert len(report.values["trainings"]) == 4


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_refused_in_one_line(tmp_path, device):
    with pytest.raises(ConfigurationError, match=f"got '{device}'.*: try 'cpu'$"):
        run_manifold(tmp_path, quick=True, seed=0, device=device)


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="a number of at least 0 is needed, got -1"):
        run_manifold(tmp_path, quick=True, seed=-1, device="cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shapes": ("star", "moon")}, "star, ellipse, heart, rectangle are needed, got moon"),
        ({"shapes": ()}, "are needed, got none"),
        ({"few": 0}, "got 0, 50, 2, 40"),
        ({"samples": 1}, "two samples are needed, got 5, 50, 2, 1"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(change, words):
    with pytest.raises(ConfigurationError, match=words):
        replace(TINY, **change)


@pytest.mark.parametrize("change", [{"width": 0}, {"steps": 0}, {"learning_rate": 0.0}])
def test_a_network_that_cannot_be_trained_is_refused(change):
    with pytest.raises(ConfigurationError, match="at least 1 and a positive learning rate"):
        replace(TINY.small, **change)
