"""Hypothesis profiles: ``normal`` is the same run every time, ``thorough`` searches on."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("normal", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, print_blob=True)
settings.load_profile("normal")
