import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import ConfigurationError
from alt_ros.simulation.scenarios import SCENARIOS, TRAINING_PLACEMENTS
from alt_ros.studies import costs, encoders
from alt_ros.studies.encoders import FULL, QUICK, EncoderSettings, planned, run_encoders
from alt_ros.studies.encoders_cells import FAMILIES, Cell, Measured, Training, trials_of
from alt_ros.studies.encoders_report import plot, recall_table, summary
from alt_ros.studies.report import Interval, write_report
from alt_ros.training.configuration import cup_training

torch.set_num_threads(1)
VIEWS = ("wrist", "third_person")
TINY = EncoderSettings(
    demonstrations=2,
    steps=2,
    trials=1,
    seeds=1,
    sizes={"ResNet-18": (8,), "ViT": (8,), "CLIP": (16,)},
)


@pytest.fixture
def resnet_weights(tmp_path):
    trunk = MultiViewEncoder(EncoderSpec(("a",), 32, 32)).trunks[0]
    trunk.fc = torch.nn.Linear(512, 1000)
    torch.save(trunk.state_dict(), tmp_path / "resnet18.pt")
    return tmp_path / "resnet18.pt"


def cell(family: int, size: int, recalled: int, of: int = 31, weights: Path | None = None) -> Cell:
    """A cell of two seeds."""
    spec, config = cup_training(VIEWS, 0)
    backbone = FAMILIES[family].small
    training = Training(replace(spec, backbone=backbone, embedding_size=size), config, weights, of)
    measured = Measured(recalled, recalled // 2, of, (0.01, 0.008, 0.02), 0.1, 0.5, 60.0)
    return Cell(FAMILIES[family], [training] * 2, [measured] * 2, 5.0, 2_000_000, 10_000_000)


def test_a_full_study_has_all_nine_cells_and_a_quick_one_fewer():
    full = planned(FULL, VIEWS, 0)
    assert [(f.title, t[0].spec.embedding_size) for f, t in full] == [
        (title, size) for title in ("ResNet-18", "ViT", "CLIP") for size in (64, 128, 256)
    ]
    assert {len(trainings) for _, trainings in full} == {FULL.seeds}
    seeds = [t.config.seed for t in planned(FULL, VIEWS, 5)[0][1]]
    assert seeds == list(range(5, 5 + FULL.seeds))
    assert 3 <= len(planned(QUICK, VIEWS, 0)) < len(full)


def test_without_weights_the_transformers_are_small_and_with_them_published(resnet_weights):
    scratch = {f.title: t[0] for f, t in planned(QUICK, VIEWS, 0)}
    assert {title: t.spec.backbone for title, t in scratch.items()} == {
        "ResNet-18": "resnet18",
        "ViT": "vit_tiny",
        "CLIP": "clip_tiny",
    }
    given = {"vit_b_16": resnet_weights, "clip_vit_b_32": resnet_weights}  # any file: not read yet
    started = {f.title: t[0] for f, t in planned(QUICK, VIEWS, 0, given)}
    assert started["ViT"].spec.backbone == "vit_b_16"
    assert started["CLIP"].spec.backbone == "clip_vit_b_32"
    assert started["ViT"].config.learning_rate < scratch["ViT"].config.learning_rate
    assert started["ResNet-18"] == scratch["ResNet-18"]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"vit_tiny": Path("x.pt")}, "resnet18, vit_b_16, clip_vit_b_32, got vit_tiny"),
        ({"vit_b_16": Path("none.pt")}, "'none.pt' is none"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_before_anything_is_done(tmp_path, weights, words):
    with pytest.raises(ConfigurationError, match=words):
        run_encoders(tmp_path, quick=True, seed=0, device="cpu", weights=weights)
    assert list(tmp_path.iterdir()) == []


def test_trials_put_the_cup_back_where_a_demonstration_had_it():
    trials = trials_of(12, 30)
    assert len(set(trials)) == 30
    nearest = [SCENARIOS["ind"].trial(number, seed=3).nearest for number in trials]
    assert nearest == [number % 12 for number in range(30)]
    assert trials_of(31, 31) == list(range(len(TRAINING_PLACEMENTS)))


def test_a_cell_pools_its_seeds():
    pooled = cell(0, 64, recalled=31).recall
    assert pooled.value == pooled.high == 100.0
    assert 92.0 < pooled.low < 95.0  # 62 of 62
    assert cell(0, 64, recalled=31).trials == 62


def test_the_report_says_what_is_certain_and_what_is_not():
    cells = [
        *(cell(0, size, 31) for size in (64, 128, 256)),
        *(cell(1, size, count) for size, count in ((64, 3), (128, 4), (256, 30))),
        cell(2, 128, 30),
    ]
    told = " ".join(summary(cells, 31, quick=False))
    assert "ResNet-18 (scratch) 100 %, ViT (scratch) 10 to 97 %, CLIP (scratch) 97 %" in told
    assert "by chance it would be 3 %" in told
    assert "those of ViT and CLIP overlap with it" in told
    assert (
        "ViT: 10 % with 64 values and 97 % with 256, the least and the most; the intervals do "
        in told
    )
    assert "ViT and CLIP are not the paper's networks" in told
    assert "--quick" not in told
    worse = " ".join(summary([*cells[:3], cells[3]], 31, quick=True))
    assert "the 95 % intervals of ViT lie below it" in worse
    assert "This is --quick" in worse


def test_pretrained_transformers_are_not_called_small(tmp_path):
    told = " ".join(summary([cell(1, 64, 3, weights=tmp_path / "w.pt")], 31, quick=False))
    assert "ViT (pretrained) 10 %" in told
    assert "not the paper's networks" not in told


def test_the_papers_figures_stand_beside_the_cells_that_it_states():
    table = recall_table([cell(0, 64, 31), cell(0, 128, 31), cell(1, 256, 4)])
    assert [row[-1] for row in table.rows] == ["100", None, "12.9 to 16.1"]
    assert all(isinstance(row[4], Interval) for row in table.rows)


def test_the_plot_is_drawn_also_of_a_single_cell():
    assert len(plot([cell(1, 64, 3)], 31).png) > 5_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_study_runs_from_nothing_and_takes_up_what_is_there(
    tmp_path, monkeypatch, resnet_weights
):
    monkeypatch.setattr(encoders, "QUICK", TINY)
    monkeypatch.setattr(costs, "INFERENCES", 2)
    one_process = encoders.side_by_side
    monkeypatch.setattr(
        encoders, "side_by_side", lambda parts, progress, workers: one_process(parts, progress, 1)
    )
    told: list[tuple[int, int]] = []
    weights = {"resnet18": resnet_weights}
    report = run_encoders(
        tmp_path,
        quick=True,
        seed=0,
        device="cpu",
        weights=weights,
        progress=lambda done, total: told.append((done, total)),
    )
    write_report(tmp_path, report)
    figures = json.loads((tmp_path / "tables.json").read_text())
    cells = figures["cells"]
    assert [(c["backbone"], c["start"], c["embedding_size"]) for c in cells] == [
        ("resnet18", "pretrained", 8),
        ("vit_tiny", "scratch", 8),
        ("clip_tiny", "scratch", 16),
    ]
    for values in cells:
        assert values["trials"] == 1
        assert values["recall"]["value"] in (0.0, 100.0)
        assert 0.0 < values["action_distance_mm"]["value"] < 1000.0
        assert values["inference_ms"] > 0.0
        assert values["memory_bytes"] > 4 * values["parameters"]
    assert cells[0]["parameters"] > 4 * cells[1]["parameters"]
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)

    folders = sorted((tmp_path / "trainings").iterdir())
    assert len(folders) == 3
    assert {p.name for f in folders for p in f.iterdir()} == {"bundle", "result.json"}
    kept = {f: (f / "result.json").stat().st_mtime_ns for f in folders}
    damaged = folders[0]
    (damaged / "result.json").write_text("{")
    again = run_encoders(tmp_path, quick=True, seed=0, device="cpu", weights=weights)
    for first, second in zip(report.values["cells"], again.values["cells"], strict=True):
        assert first["recall"] == second["recall"]
        assert first["action_distance_mm"] == second["action_distance_mm"]
    later = {f: (f / "result.json").stat().st_mtime_ns for f in folders}
    assert [f for f in folders if later[f] != kept[f]] == [damaged]
