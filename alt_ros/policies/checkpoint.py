"""A trained policy as a folder: ``policy.json`` and ``weights.safetensors``, verified when read.

Nothing is unpickled, and no torch is needed to read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

import alt_ros
from alt_ros.encoders.identity import file_sha256
from alt_ros.errors import AltError, BundleError
from alt_ros.policies.spec import PolicySpec

FORMAT = 1
MANIFEST = "policy.json"
WEIGHTS = "weights.safetensors"
_SELF_HASH = "manifest_sha256"


@dataclass(frozen=True, eq=False)
class PolicyCheckpoint:
    """What a trained policy consists of.

    Attributes:
        spec: What it takes and gives.
        arrays: Weights and tables by name.
        provenance: Store, seeds and training settings; JSON values.
    """

    spec: PolicySpec
    arrays: Mapping[str, NDArray[Any]]
    provenance: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        """Number of values of all arrays."""
        return sum(array.size for array in self.arrays.values())

    @property
    def digest(self) -> str:
        """SHA-256 of spec and arrays, in hexadecimal: equal only where every bit is."""
        digest = hashlib.sha256(json.dumps(self.spec.to_json(), sort_keys=True).encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def save(self, folder: Path) -> Path:
        """Write the folder; it appears complete or not at all, and replaces an older one.

        Raises:
            BundleError: The folder exists and holds no policy.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / MANIFEST).is_file():
            if folder.is_file() or any(folder.iterdir()):
                raise BundleError(
                    f"policy '{folder}' would replace something that is no policy: choose another "
                    "folder"
                )
            folder.rmdir()
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            arrays = {name: np.asarray(array, order="C") for name, array in self.arrays.items()}
            save_file(arrays, partial / WEIGHTS)
            manifest: dict[str, Any] = {
                "format": FORMAT,
                "package_version": alt_ros.__version__,
                "spec": self.spec.to_json(),
                "provenance": dict(self.provenance),
                "weights_sha256": file_sha256(partial / WEIGHTS),
            }
            manifest[_SELF_HASH] = _hash(manifest)
            text = json.dumps(manifest, indent=2) + "\n"
            (partial / MANIFEST).write_text(text, encoding="utf-8")
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            if folder.exists():
                folder.replace(old)
            partial.replace(folder)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return folder

    @classmethod
    def load(cls, folder: Path) -> PolicyCheckpoint:
        """Read a policy's folder and verify it.

        Raises:
            BundleError: A file is missing or damaged, or of another format.
        """
        folder = Path(folder)
        for name in (MANIFEST, WEIGHTS):
            if not (folder / name).is_file():
                raise BundleError(
                    f"policy '{folder}' must hold {name}, it is missing: write it with 'alt train'"
                )
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise BundleError(
                    f"policy '{folder}' is of format {manifest['format']}, this alt_ros "
                    f"{alt_ros.__version__} reads {FORMAT}: train it anew, or update alt_ros"
                )
            if manifest.get(_SELF_HASH) != _hash(manifest):
                raise BundleError(
                    f"policy '{folder}': {MANIFEST} was changed after it was written: train it "
                    "again, or copy it again"
                )
            spec = PolicySpec.from_json(manifest["spec"])
            sha256, provenance = str(manifest["weights_sha256"]), manifest["provenance"]
        except BundleError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AltError) as error:
            raise BundleError(f"policy '{folder}': {MANIFEST} is damaged: {error}") from error
        if file_sha256(folder / WEIGHTS) != sha256:
            raise BundleError(
                f"policy '{folder}': {WEIGHTS} differs from its SHA-256 in {MANIFEST}: copy it "
                "again"
            )
        try:
            return cls(spec, load_file(folder / WEIGHTS), provenance)
        except (OSError, SafetensorError) as error:
            raise BundleError(f"policy '{folder}': {WEIGHTS} is damaged: {error}") from error


def _hash(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != _SELF_HASH}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
