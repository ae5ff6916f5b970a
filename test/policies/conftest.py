import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # policy_conformance.py
sys.path.insert(0, str(Path(__file__).parents[1]))  # bundles.py


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory):
    from bundles import write_small_bundle

    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "cup")
