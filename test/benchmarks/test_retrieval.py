"""The comparison of retrievals: small real roll-outs, and what is refused before them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # bundles.py

from bundles import write_small_bundle

from alt_ros.benchmarks.retrieval import VARIANTS, compare_retrieval
from alt_ros.errors import BundleError, ConfigurationError


def test_a_variant_a_scenario_and_a_bundle_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="variants of the retrieval are recall, correct"):
        compare_retrieval([tmp_path], tmp_path, variants=("guess",))
    with pytest.raises(ConfigurationError, match="scenario 'nowhere' does not exist"):
        compare_retrieval([tmp_path], tmp_path, scenarios=("nowhere",))
    with pytest.raises(BundleError, match=r"must hold manifest\.json"):
        compare_retrieval([tmp_path], tmp_path)


def test_every_variant_changes_one_thing():
    default = VARIANTS["correct"]
    for name, variant in VARIANTS.items():
        if variant is not None and name not in ("correct", "few and alike"):
            ours, theirs = default.to_json(), variant.to_json()
            assert sum(ours[key] != theirs[key] for key in ours) == 1, name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_variants_are_rolled_out_and_taken_up(tmp_path):
    bundle = write_small_bundle(tmp_path / "cup")
    done: list[tuple[int, int]] = []
    options = {"variants": ("recall", "correct"), "scenarios": ("ind",), "trials": 1}
    values = compare_retrieval(
        [bundle], tmp_path, **options, progress=lambda *now: done.append(now)
    )
    rows = values["bundles"][bundle.as_posix()]
    assert list(rows) == ["recall", "correct"]
    for row in rows.values():
        assert row["ind"]["success"] == 0  # this table has never seen a cup
        assert row["ind"]["success_interval_95"][1] < 1.0
    assert done[-1] == (2, 2)
    assert len(list(tmp_path.rglob("*.npz"))) >= 2
    assert compare_retrieval([bundle], tmp_path, **options)["bundles"] == values["bundles"]
