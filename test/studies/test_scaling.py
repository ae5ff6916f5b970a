import json

import numpy as np
import pytest
import torch

from alt_ros.lookup.index import ExactIndex
from alt_ros.studies import scaling, scaling_measures
from alt_ros.studies.parallel import side_by_side
from alt_ros.studies.report import write_report
from alt_ros.studies.scaling import ScalingSettings, run_scaling
from alt_ros.studies.scaling_measures import built_graph, hits, timed, tune
from alt_ros.studies.scaling_report import (
    Findings,
    Size,
    auroc,
    balanced_accuracy,
    bootstrapped,
    scaling_report,
)

torch.set_num_threads(1)


def unit(rows: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, 16))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def costs(rows: int) -> dict:
    times = {kind: [1.0 + 0.1 * n for n in range(9)] for kind in ("hnsw_ms", "exact_ms")}
    return {
        **times,
        "answer_ms": [9.0, 10.0, 11.0],
        "rows": rows,
        "table_bytes": 3000 * rows,
        "index_bytes": 700 * rows,
        "build_seconds": 0.1,
        "build_threads": 1,
        "ef": 32,
        "own_rows_found": 1.0,
        "found": 19,
        "asked": 20,
        "next_demonstration": [0.1, 0.2, 0.3],
    }


def worth(shift: float) -> dict:
    return {
        "detection": {
            "threshold": 1.0,
            "guarantee": "none, extrapolated",
            "scenarios": {
                "ind": {"level": [0.1, 0.4, 1.2], "flag": [False, False, True]},
                "distractors": {"level": [0.2 + shift, 2.0], "flag": [shift > 1, True]},
            },
        },
        **{
            name: {
                "success": [True, False],
                "nearest": [True],
                "recalled_m": [0.01],
                "nearest_m": [0.01, 0.02],
            }
            for name in ("ind", "anywhere")
        },
    }


def test_the_report_says_what_is_recorded_and_what_resampled(tmp_path):
    away = [0.1, 0.2, 0.3, 0.4]
    likeness = {
        "noise": 0.5,
        "from": 3,
        "held_out": 2,
        **dict.fromkeys(("recorded", "resampled"), away),
        **{f"{name}_of": [0, 0, 1, 1] for name in ("recorded", "resampled")},
        **{f"{name}_views": [away, away] for name in ("recorded", "resampled")},
    }
    findings = Findings(
        quick=True,
        seed=0,
        sizes=(Size(3, 3), Size(9, 9), Size(9, 3)),
        trained=3,
        costs=[costs(200), costs(600), costs(600)],
        worth=[worth(0.0), worth(2.0), worth(1.0)],
        likeness={3: likeness},
        encoder_bytes=10**7,
        diffusion_bytes=10**8,
    )
    write_report(tmp_path, scaling_report(findings, 0.0))
    figures = json.loads((tmp_path / "tables.json").read_text())
    assert [row["resampled"] for row in figures["sizes"]] == [False, False, True]
    assert [row["recorded"] for row in figures["sizes"]] == [3, 9, 3]
    assert figures["sizes"][0]["memory_bytes"] == 200 * 3700
    assert figures["sizes"][1]["auroc"]["value"] == 1.0
    assert figures["sizes"][0]["auroc"]["value"] == pytest.approx(4 / 6)
    assert figures["sizes"][0]["balanced_accuracy"]["value"] == pytest.approx(0.5 * (0.5 + 2 / 3))
    assert figures["sizes"][0]["recall_at_1"]["value"] == pytest.approx(0.95)
    assert figures["resampling"][0]["kolmogorov_smirnov"] == 0.0
    assert "resampled from 3" in (tmp_path / "report.md").read_text()


def test_detection_figures_are_what_their_names_say():
    assert auroc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auroc([1.0], [1.0]) == 0.5
    assert balanced_accuracy([True, True], [True, False]) == 0.75
    interval = bootstrapped(auroc, np.arange(20.0), np.arange(20.0))
    assert interval.low < interval.value == 0.5 < interval.high


def test_drawing_whole_groups_widens_the_interval_of_values_that_are_alike():
    values, groups = np.repeat(np.arange(5.0), 100), np.repeat(np.arange(5), 100)
    alone = bootstrapped(np.median, values)
    grouped = bootstrapped(np.median, values, groups=groups)
    assert grouped.high - grouped.low > alone.high - alone.low


def test_a_graph_finds_what_comparing_with_every_row_finds():
    vectors, queries = unit(3000), unit(50, seed=1)
    index = built_graph(vectors, 2)
    assert len(index) == 3000
    assert tune(index, vectors) == 1.0
    exact = ExactIndex.build(vectors)
    best = np.array([exact.query(query, 1)[0][0] for query in queries])
    assert hits(exact, vectors, queries, best) == 50
    assert hits(index, vectors, queries, best) >= 45
    assert hits(exact, vectors, queries, best + 0.1) == 0


def test_timing_ends_when_the_time_is_over(monkeypatch):
    asked: list[int] = []
    assert len(timed(asked.append, range(5))) == 5
    assert asked == [0, 0, 1, 2, 3, 4]
    monkeypatch.setattr(scaling_measures, "SECONDS", 0.0)
    assert len(timed(asked.append, range(5))) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_study_runs_from_nothing_and_takes_up_what_is_there(tmp_path, monkeypatch):
    settings = ScalingSettings(
        sizes=(Size(3, 3), Size(6, 3)),
        trained=3,
        recorded=5,
        held_out=2,
        trials=1,
        calibration_trials=3,
        alt_steps=4,
    )
    monkeypatch.setattr(scaling, "QUICK", settings)
    monkeypatch.setattr(scaling, "OOD_SCENARIOS", ("distractors",))
    monkeypatch.setattr(
        scaling, "side_by_side", lambda parts, progress, workers: side_by_side(parts, progress, 1)
    )
    report = run_scaling(tmp_path, quick=True, seed=0, device="cpu")
    sizes = report.values["sizes"]
    assert [row["resampled"] for row in sizes] == [False, True]
    assert sizes[1]["table_bytes"] > 1.5 * sizes[0]["table_bytes"]
    assert sizes[0]["driven"]["ind"]["trials"] == 1
    assert set(sizes[0]["scenarios"]) == {"distractors"}

    def kept() -> dict:
        return {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*") if f.is_file()}

    before = kept()
    again = run_scaling(tmp_path, quick=True, seed=0, device="cpu")
    assert again.values == report.values
    assert kept() == before
