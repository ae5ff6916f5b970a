"""Hypothesis profiles (``normal``: the same every time; ``thorough``: searches on), a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("normal", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, print_blob=True)
settings.load_profile("normal")

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real, headless Chromium."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        pytest.skip("PAGE NOT TESTED: playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"PAGE NOT TESTED: there is no {CHROMIUM}")
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        except Error as error:
            pytest.skip(f"PAGE NOT TESTED: chromium does not start: {error}")
        yield chromium
        chromium.close()
