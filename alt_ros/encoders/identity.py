"""Which encoder a file holds; needs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

ENCODER_ID_DIGITS = 16
_BLOCK = 1 << 20


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def encoder_id(path: Path) -> str:
    """Return the first 16 hexadecimal digits of a TorchScript file's SHA-256."""
    return file_sha256(path)[:ENCODER_ID_DIGITS]
