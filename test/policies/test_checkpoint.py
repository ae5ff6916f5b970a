import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from trained_conformance import TrainedPolicyConformance, checkpoint

import alt_ros
from alt_ros.encoders.identity import file_sha256
from alt_ros.errors import BundleError
from alt_ros.policies.checkpoint import MANIFEST, WEIGHTS, PolicyCheckpoint, _hash

SPEC = TrainedPolicyConformance.spec(
    type("Any", (TrainedPolicyConformance,), {"policy_name": "bc"})(), settings={"crop": 0.9}
)
ARRAYS = {
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "single": np.linspace(0, 1, 5, dtype=np.float32),
    "double": np.random.default_rng(0).normal(size=(2, 1, 3)),
    "count": np.array([7, -1], np.int64),
    "bytes": np.arange(4, dtype=np.uint8),
    "flag": np.array([True, False]),
    "nothing": np.zeros((0, 3), np.float32),
    "scalar": np.array(3.5, np.float32),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}
MADE = PolicyCheckpoint(SPEC, ARRAYS, {"seed": 3, "store": "cups"})
LOAD_WITHOUT_TORCH = """
import sys
from pathlib import Path
from alt_ros.policies.checkpoint import PolicyCheckpoint
assert PolicyCheckpoint.load(Path(sys.argv[1])).parameters
sys.exit('torch' in sys.modules)
"""


@pytest.fixture
def folder(tmp_path):
    return MADE.save(tmp_path / "policy")


def change(folder, **changes):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest |= changes
    manifest["manifest_sha256"] = _hash(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_policy_comes_back_as_it_was_saved(folder):
    read = PolicyCheckpoint.load(folder)
    assert read.spec == SPEC
    assert read.provenance == {"seed": 3, "store": "cups"}
    assert set(read.arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert read.arrays[name].dtype == array.dtype, name
        assert read.arrays[name].shape == array.shape, name
        assert np.array_equal(read.arrays[name], array), name


def test_it_knows_how_large_it_is():
    small = PolicyCheckpoint(SPEC, {"a": np.zeros((2, 3)), "b": np.zeros(4, np.float32)}, {})
    assert (small.parameters, small.nbytes) == (10, 64)


def test_it_is_read_without_torch(folder):
    command = [sys.executable, "-c", LOAD_WITHOUT_TORCH, str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_kdtree_answers_without_torch(tmp_path):
    spec = replace(SPEC, policy="kdtree", settings={"components": 4})
    folder = checkpoint(spec).save(tmp_path / "tree")
    code = (
        "import sys; from pathlib import Path\n"
        "from alt_ros.policies.registry import load_policy\n"
        "assert load_policy('kdtree', Path(sys.argv[1])).horizon == 8\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_manifest_names_format_version_and_hash(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    assert (manifest["format"], manifest["package_version"]) == (1, alt_ros.__version__)
    assert manifest["weights_sha256"] == file_sha256(folder / WEIGHTS)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"must hold {name}, it is missing: write it with"):
        PolicyCheckpoint.load(folder)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(BundleError, match=f"'{tmp_path}/absent' must hold {MANIFEST}"):
        PolicyCheckpoint.load(tmp_path / "absent")


@pytest.mark.parametrize("place", [0, 8, 60, -1])
def test_a_flipped_byte_of_the_weights_is_found(folder, place):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[place] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(BundleError, match=f"{WEIGHTS} differs from its SHA-256"):
        PolicyCheckpoint.load(folder)


@pytest.mark.parametrize("length", [0, 5, 100])
def test_weights_that_were_cut_off_are_found_even_if_their_hash_is_right(folder, length):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:length])
    with pytest.raises(BundleError, match="differs from its SHA-256"):
        PolicyCheckpoint.load(folder)
    change(folder, weights_sha256=file_sha256(folder / WEIGHTS))
    with pytest.raises(BundleError, match=f"{WEIGHTS} is damaged"):
        PolicyCheckpoint.load(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "\xff"])
def test_a_manifest_that_is_none_is_told_in_one_line(folder, content):
    (folder / MANIFEST).write_bytes(content.encode("latin-1"))
    with pytest.raises(BundleError, match=f"{MANIFEST} is damaged") as refused:
        PolicyCheckpoint.load(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("spec", [{}, [], {**SPEC.to_json(), "period": -1}, None])
def test_a_manifest_without_a_spec_is_told(folder, spec):
    change(folder, spec=spec)
    with pytest.raises(BundleError, match=f"{MANIFEST} is damaged"):
        PolicyCheckpoint.load(folder)


def test_another_format_is_to_be_trained_anew(folder):
    change(folder, format=2)
    with pytest.raises(BundleError, match="is of format 2, .* reads 1: train it anew, or update"):
        PolicyCheckpoint.load(folder)


def test_a_policy_replaces_an_older_one_whole(folder, tmp_path):
    (folder / "left over").write_text("")
    PolicyCheckpoint(SPEC, {"a": np.ones(2)}, {}).save(folder)
    assert {file.name for file in folder.iterdir()} == {MANIFEST, WEIGHTS}
    assert set(PolicyCheckpoint.load(folder).arrays) == {"a"}
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    MADE.save(tmp_path / "empty")
    assert PolicyCheckpoint.load(tmp_path / "empty").spec == SPEC


def test_a_folder_that_is_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("thesis", "file"):
        with pytest.raises(BundleError, match="no policy: choose another folder"):
            MADE.save(tmp_path / name)
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "a file"


def test_a_write_that_fails_leaves_the_older_policy(folder, tmp_path):
    with pytest.raises(TypeError, match="JSON"):
        PolicyCheckpoint(SPEC, {"a": np.ones(2)}, {"store": object()}).save(folder)
    assert set(PolicyCheckpoint.load(folder).arrays) == set(ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_a_changed_manifest_is_found(folder):
    # A period of 40 ms in the place of 50 ms would drive the robot a quarter faster.
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["spec"]["period"] = 40_000_000
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=MANIFEST):
        PolicyCheckpoint.load(folder)
