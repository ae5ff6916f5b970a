import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bundles import CALIBRATION, SPEC, observation, write_small_bundle

import alt_ros
from alt_ros.bundle import FILES, MANIFEST, Bundle
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import BundleError
from alt_ros.lookup.calibration import Calibration
from alt_ros.lookup.correction import CorrectionConfig
from alt_ros.lookup.index import ExactIndex, IndexReport

LOAD_WITHOUT_TORCH = """
import sys
from pathlib import Path
from alt_ros.bundle import Bundle
bundle = Bundle.load(Path(sys.argv[1]), encoder=False)
assert bundle.encoder is None and len(bundle.table) == 15
sys.exit('torch' in sys.modules)
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_small_bundle(tmp_path_factory.mktemp("original") / "cup")


@pytest.fixture
def bundle(original, tmp_path):
    path = tmp_path / "cup"
    path.mkdir()
    for file in original.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return path


def rewrite(path, **changes):
    """Change the manifest and sign it anew, as a program would that means to deceive."""
    from alt_ros.bundle import _manifest_hash

    manifest = {**json.loads((path / MANIFEST).read_text()), **changes}
    manifest["manifest_sha256"] = _manifest_hash(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest))


def test_a_bundle_comes_back_as_it_was_written(bundle):
    read = Bundle.load(bundle, device="cpu")
    assert read.spec == SPEC
    assert (read.horizon, read.period, read.layout.size) == (4, 50_000_000, 10)
    assert read.calibration == CALIBRATION
    assert (read.monitor.raise_window, read.monitor.clear_after) == (3, 4)
    assert read.retrieval.neighbours == 4
    assert read.index.ef == read.index_report.ef
    assert read.provenance == {"store": "cups", "seed": 0}
    assert read.package_version == alt_ros.__version__
    assert read.encoder.encoder_id == read.encoder_id
    assert read.table.names == ("demo 0", "demo 1", "demo 2")


def test_a_loaded_bundle_recalls_its_own_frames(bundle):
    read = Bundle.load(bundle, device="cpu")
    seen = observation(12)
    chunk, decision = read.lookup().step(read.encoder.embed(seen).query(seen))
    assert (chunk.source.demonstration, chunk.source.frame) == (2, 2)
    assert not decision.flag


def test_without_the_encoder_torch_is_not_imported(bundle):
    command = [sys.executable, "-c", LOAD_WITHOUT_TORCH, str(bundle)]
    assert subprocess.run(command, check=False).returncode == 0


def test_the_manifest_states_versions_units_rates_and_hashes(bundle):
    manifest = json.loads((bundle / MANIFEST).read_text())
    assert manifest["format"] == 2
    assert manifest["units"]["position"] == "m"
    assert manifest["period"] == 50_000_000
    assert (manifest["demonstrations"], manifest["frames"]) == (3, 15)
    assert set(manifest["files"]) == set(FILES)
    assert all(len(entry["sha256"]) == 64 for entry in manifest["files"].values())


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(bundle, encoder=False)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, -1, 300])
def test_a_flipped_byte_is_found_and_the_file_named(bundle, name, place):
    data = bytearray((bundle / name).read_bytes())
    data[min(place, len(data) - 1)] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        Bundle.load(bundle, encoder=False)


@pytest.mark.parametrize("place", range(0, 2000, 61))
def test_a_flipped_byte_in_the_manifest_is_found(bundle, place):
    data = bytearray((bundle / MANIFEST).read_bytes())
    data[place % len(data)] ^= 1
    (bundle / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError, match=r"manifest\.json|format"):
        Bundle.load(bundle, encoder=False)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_is_named(bundle, name):
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=name):
        Bundle.load(bundle, encoder=False)


def test_a_bundle_of_a_newer_format_asks_for_an_update(bundle):
    rewrite(bundle, format=3)
    with pytest.raises(BundleError, match="is of format 3, .* reads 2: update alt_ros"):
        Bundle.load(bundle, encoder=False)


def test_a_bundle_of_an_older_format_is_to_be_written_anew(bundle):
    rewrite(bundle, format=1)
    with pytest.raises(BundleError, match="is of format 1, .* anew with 'alt index'"):
        Bundle.load(bundle, encoder=False)


def test_another_calibration_leaves_all_the_rest_as_it_was(bundle):
    before = Bundle.load(bundle, encoder=False)
    calibration = Calibration.given(0.6)
    assert before.recalibrated(calibration).calibration == calibration
    read = Bundle.load(bundle, device="cpu")
    assert read.calibration == calibration
    assert read.encoder_id == before.encoder_id == read.encoder.encoder_id
    assert read.table.embeddings.tobytes() == before.table.embeddings.tobytes()
    assert (read.retrieval, read.monitor, read.horizon) == (
        before.retrieval,
        before.monitor,
        before.horizon,
    )
    assert (read.provenance, read.index_report) == (before.provenance, before.index_report)
    assert {file.name for file in bundle.iterdir()} == {*FILES, MANIFEST}


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": EncoderSpec(("wrist", "front"), 32, 32, embedding_size=64).to_json()},
        {"encoder": EncoderSpec(("wrist",), 32, 32, embedding_size=16, view_size=8).to_json()},
        {"encoder": {}},
        {"index": {}},
        {"horizon": 0},
        {"retrieval": {"neighbours": 0}},
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(bundle, changes):
    rewrite(bundle, **changes)
    with pytest.raises(BundleError, match="bundle"):
        Bundle.load(bundle, encoder=False)


def test_an_index_of_another_dimension_is_not_written(tmp_path):
    wrong = ExactIndex.build(np.eye(15, 8, dtype=np.float32))
    report = IndexReport("exact", 15, 8, 0, 1.0, 15)
    with pytest.raises(BundleError, match="encoder 16, table 16, index 8"):
        write_small_bundle(tmp_path / "cup", index=wrong, index_report=report)
    assert not (tmp_path / "cup").exists()


def test_a_new_bundle_replaces_an_old_one_whole(tmp_path):
    path = write_small_bundle(tmp_path / "cup")
    (path / "left over").write_text("")
    write_small_bundle(path, horizon=2)
    assert Bundle.load(path, encoder=False).horizon == 2
    assert {file.name for file in path.iterdir()} == {*FILES, MANIFEST}
    assert {file.name for file in tmp_path.iterdir()} == {"cup", "cup.encoder.pt"}


def test_something_that_is_no_bundle_is_not_replaced(tmp_path):
    (tmp_path / "cup").mkdir()
    (tmp_path / "cup" / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="no bundle"):
        write_small_bundle(tmp_path / "cup")
    assert (tmp_path / "cup" / "thesis.tex").exists()


def test_a_write_that_fails_leaves_the_old_bundle(bundle, monkeypatch):
    def fail(self, path):
        raise OSError("disk full")

    monkeypatch.setattr(Calibration, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_small_bundle(bundle, horizon=2)
    monkeypatch.undo()
    assert Bundle.load(bundle, encoder=False).horizon == 4
    assert {file.name for file in bundle.parent.iterdir()} == {"cup", "cup.encoder.pt"}


def test_a_bundle_keeps_how_motions_are_corrected(tmp_path):
    correction = CorrectionConfig(anchor="base", attraction=0.25)
    written = Bundle.load(write_small_bundle(tmp_path / "cup", correction=correction))
    assert written.correction == correction
    assert written.lookup().correction is not None
    again = written.recalibrated(Calibration.given(0.5))
    assert again.correction == correction
    plain = Bundle.load(write_small_bundle(tmp_path / "plain"), encoder=False)
    assert plain.correction is None
    assert plain.lookup().correction is None


def test_a_correction_that_is_none_is_told(tmp_path):
    path = write_small_bundle(tmp_path / "cup", correction=CorrectionConfig())
    rewrite(path, correction={**CorrectionConfig().to_json(), "anchor": "elbow"})
    with pytest.raises(BundleError, match="anchor must be one of hand, base, none"):
        Bundle.load(path)
