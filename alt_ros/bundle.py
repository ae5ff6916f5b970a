"""What is deployed: encoder, table, index and calibration in one folder, verified when loaded.

The folder holds ``manifest.json``, ``encoder.pt`` (TorchScript), ``table.npz``, ``index.bin`` and
``calibration.json``; ``policies/`` may hold trained policies to compare with, each of which
verifies itself (``policies.checkpoint``). The manifest states versions, shapes, units, rates and
where everything came from, with the SHA-256 and the size of every file and of itself. Nothing is
unpickled, and torch is imported only where the encoder is asked for.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alt_ros
from alt_ros.encoders.identity import ENCODER_ID_DIGITS, file_sha256
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import AltError, BundleError
from alt_ros.lookup.calibration import Calibration
from alt_ros.lookup.correction import CorrectionConfig
from alt_ros.lookup.decision import MonitorConfig
from alt_ros.lookup.index import Index, IndexReport, index_type
from alt_ros.lookup.lookup import Lookup
from alt_ros.lookup.retrieval import RetrievalConfig
from alt_ros.lookup.table import Table
from alt_ros.types import ActionLayout

if TYPE_CHECKING:
    from alt_ros.encoders.runtime import EncoderRuntime

FORMAT = 2
MANIFEST = "manifest.json"
ENCODER = "encoder.pt"
TABLE = "table.npz"
INDEX = "index.bin"
CALIBRATION = "calibration.json"
FILES = (ENCODER, TABLE, INDEX, CALIBRATION)
POLICIES = "policies"
UNITS = {"position": "m", "rotation": "quaternion xyzw, rot6d", "gripper": "m", "time": "ns"}
_SELF_HASH = "manifest_sha256"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle.

    Attributes:
        path: Its folder.
        spec: What the encoder takes and gives.
        encoder_id: First 16 hexadecimal digits of the encoder file's SHA-256.
        table: The demonstration frames.
        index: Searches the table's embeddings.
        index_report: How the index was built.
        calibration: What is usual, and from where on an observation is strange.
        retrieval: How a frame is chosen.
        monitor: When the out-of-distribution flag goes up and down.
        horizon: Prediction horizon Tp, actions.
        provenance: Store, seeds and training settings, as the training wrote them.
        created: Time of writing, ISO 8601, UTC.
        package_version: The alt_ros that wrote it.
        encoder: The encoder, warmed up; None where it was not asked for.
        correction: How recalled motions are corrected; None recalls them as they were.
    """

    path: Path
    spec: EncoderSpec
    encoder_id: str
    table: Table
    index: Index
    index_report: IndexReport
    calibration: Calibration
    retrieval: RetrievalConfig
    monitor: MonitorConfig
    horizon: int
    provenance: Mapping[str, Any]
    created: str
    package_version: str
    encoder: EncoderRuntime | None = None
    correction: CorrectionConfig | None = None

    @classmethod
    def load(
        cls, path: Path, *, encoder: bool = True, device: str = "auto", threads: int | None = None
    ) -> Bundle:
        """Read a bundle and verify all of it.

        Args:
            path: Its folder.
            encoder: Load the encoder too; without it torch is not imported.
            device: See ``EncoderRuntime``.
            threads: See ``EncoderRuntime``.

        Raises:
            BundleError: A file is missing or damaged, the parts do not fit each other, or the
                bundle is of another format.
            ConfigurationError: The device is not there.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        _verify_files(path, manifest)
        try:
            spec = EncoderSpec.from_json(manifest["encoder"])
            report = IndexReport(**manifest["index"])
            table = Table.load(path / TABLE)
            correction = manifest["correction"]
            index = index_type(report.kind).load(path / INDEX, table.embedding_size)
            if report.ef:
                index.ef = report.ef
            bundle = cls(
                path=path,
                spec=spec,
                encoder_id=str(manifest["encoder_id"]),
                table=table,
                index=index,
                index_report=report,
                calibration=Calibration.load(path / CALIBRATION),
                retrieval=RetrievalConfig.from_json(manifest["retrieval"]),
                monitor=MonitorConfig.from_json(manifest["monitor"]),
                horizon=int(manifest["horizon"]),
                provenance=manifest["provenance"],
                created=str(manifest["created"]),
                package_version=str(manifest["package_version"]),
                correction=None if correction is None else CorrectionConfig.from_json(correction),
            )
        except BundleError:
            raise
        except (KeyError, TypeError, ValueError, AltError) as error:
            raise BundleError(f"bundle '{path}': {MANIFEST} does not fit: {error}") from error
        bundle._check_fit()
        return replace(bundle, encoder=bundle.load_encoder(device, threads)) if encoder else bundle

    def load_encoder(self, device: str = "auto", threads: int | None = None) -> EncoderRuntime:
        """Return the bundle's encoder, warmed up; imports torch.

        Raises:
            BundleError: The file does not fit the spec.
            ConfigurationError: The device is not there.
        """
        from alt_ros.encoders.runtime import EncoderRuntime

        return EncoderRuntime(self.path / ENCODER, self.spec, device, threads)

    def lookup(
        self,
        *,
        calibration: Calibration | None = None,
        retrieval: RetrievalConfig | None = None,
        monitor: MonitorConfig | None = None,
        horizon: int | None = None,
    ) -> Lookup:
        """Return the policy's step with this table; what is not given is as in the bundle."""
        return Lookup(
            self.table,
            self.index,
            self.spec.views,
            horizon if horizon is not None else self.horizon,
            calibration or self.calibration,
            retrieval or self.retrieval,
            monitor or self.monitor,
            self.correction,
        )

    @property
    def layout(self) -> ActionLayout:
        """Meaning of the action columns."""
        return self.table.layout

    @property
    def period(self) -> int:
        """Time from one action to the next, ns."""
        return self.table.period

    def recalibrated(self, calibration: Calibration) -> Bundle:
        """Write the bundle's folder anew, whole or not at all, with another calibration.

        Raises:
            BundleError: The folder cannot be read any more.
        """
        write_bundle(
            self.path,
            spec=self.spec,
            encoder=self.path / ENCODER,
            table=self.table,
            index=self.index,
            index_report=self.index_report,
            calibration=calibration,
            retrieval=self.retrieval,
            monitor=self.monitor,
            horizon=self.horizon,
            provenance=self.provenance,
            correction=self.correction,
        )
        return replace(Bundle.load(self.path, encoder=False), encoder=self.encoder)

    def _check_fit(self) -> None:
        _check_parts(f"bundle '{self.path}'", self.spec, self.table, self.index, self.horizon)


def write_bundle(
    path: Path,
    *,
    spec: EncoderSpec,
    encoder: Path,
    table: Table,
    index: Index,
    index_report: IndexReport,
    calibration: Calibration,
    retrieval: RetrievalConfig,
    monitor: MonitorConfig,
    horizon: int,
    provenance: Mapping[str, Any],
    correction: CorrectionConfig | None = None,
) -> Path:
    """Write a bundle; the folder appears complete or not at all, and replaces an older bundle.

    Args:
        path: Folder to write.
        spec: What the encoder takes and gives.
        encoder: Its TorchScript file.
        table: The demonstration frames.
        index: Searches the table's embeddings.
        index_report: How the index was built.
        calibration: What is usual, and from where on an observation is strange.
        retrieval: How a frame is chosen.
        monitor: When the flag goes up and down.
        horizon: Prediction horizon Tp, actions.
        provenance: Store, seeds and training settings; JSON values.
        correction: How recalled motions are corrected; None recalls them as they were.

    Returns:
        The folder.

    Raises:
        BundleError: The parts do not fit each other, the encoder file is missing, or the folder
            exists and is no bundle.
    """
    path = Path(path)
    _check_parts(f"bundle '{path}'", spec, table, index, horizon)
    if not encoder.is_file():
        raise BundleError(f"bundle '{path}' needs the encoder file '{encoder}', it is missing")
    if (
        path.exists()
        and not (path / MANIFEST).is_file()
        and (path.is_file() or any(path.iterdir()))
    ):
        raise BundleError(
            f"bundle '{path}' would replace something that is no bundle: choose another folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        shutil.copyfile(encoder, partial / ENCODER)
        table.save(partial / TABLE)
        index.save(partial / INDEX)
        calibration.save(partial / CALIBRATION)
        files = {name: _fingerprint(partial / name) for name in FILES}
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "package_version": alt_ros.__version__,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "encoder": spec.to_json(),
            "encoder_id": str(files[ENCODER]["sha256"])[:ENCODER_ID_DIGITS],
            "demonstrations": table.demonstrations,
            "frames": len(table),
            "period": table.period,
            "layout": {"arms": table.layout.arms, "extra": table.layout.extra},
            "horizon": horizon,
            "units": UNITS,
            "index": index_report.to_json(),
            "retrieval": retrieval.to_json(),
            "correction": None if correction is None else correction.to_json(),
            "monitor": monitor.to_json(),
            "provenance": dict(provenance),
            "files": files,
        }
        manifest[_SELF_HASH] = _manifest_hash(manifest)
        text = json.dumps(manifest, indent=2) + "\n"
        (partial / MANIFEST).write_text(text, encoding="utf-8")
        if (path / POLICIES).is_dir():  # what was deployed beside an older table stays
            shutil.copytree(path / POLICIES, partial / POLICIES)
        _replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _replace_folder(partial: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.replace(old)
    try:
        partial.replace(path)
    except OSError:
        if old.exists():
            old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        raise BundleError(f"bundle '{path}' must hold {MANIFEST}, it is missing")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version = manifest["format"]
        if type(version) is not int:
            raise TypeError(f"format must be a whole number, got {version!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"bundle '{path}': {MANIFEST} is damaged: {error}") from error
    if version != FORMAT:
        remedy = "update alt_ros" if version > FORMAT else "write it anew with 'alt index'"
        raise BundleError(
            f"bundle '{path}' is of format {version}, this alt_ros {alt_ros.__version__} reads "
            f"{FORMAT}: {remedy}"
        )
    if manifest.get(_SELF_HASH) != _manifest_hash(manifest):
        raise BundleError(
            f"bundle '{path}': {MANIFEST} was changed after it was written: build the bundle again"
        )
    return manifest


def _verify_files(path: Path, manifest: Mapping[str, Any]) -> None:
    for name in FILES:
        file = path / name
        if not file.is_file():
            raise BundleError(f"bundle '{path}' must hold {name}, it is missing: copy it again")
        if _fingerprint(file) != manifest["files"].get(name):
            raise BundleError(
                f"bundle '{path}': {name} is damaged, it differs from its SHA-256 in {MANIFEST}: "
                "copy it again"
            )


def _check_parts(
    subject: str, spec: EncoderSpec, table: Table, index: Index, horizon: int
) -> None:
    sizes = {
        "encoder": spec.embedding_size,
        "table": table.embedding_size,
        "index": index.dimension,
    }
    if len(set(sizes.values())) != 1:
        raise BundleError(
            f"{subject}: embeddings must be of one size, got "
            + ", ".join(f"{part} {size}" for part, size in sizes.items())
            + ": build the bundle again"
        )
    if len(index) != len(table):
        raise BundleError(
            f"{subject}: the index must hold the table's {len(table)} frames, "
            f"it holds {len(index)}: build the bundle again"
        )
    if table.view_embeddings.shape[1:] != (len(spec.views), spec.view_size):
        raise BundleError(
            f"{subject}: view embeddings must be {(len(spec.views), spec.view_size)} as the "
            f"encoder gives them, the table's are {table.view_embeddings.shape[1:]}"
        )
    if horizon < 1:
        raise BundleError(f"{subject}: horizon must be at least 1 action, got {horizon}")


def _fingerprint(file: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(file), "size": file.stat().st_size}


def _manifest_hash(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != _SELF_HASH}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
