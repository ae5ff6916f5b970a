import sys

import pytest

from alt_ros.encoders.torchvision_import import import_torchvision
from alt_ros.errors import DependencyError


def test_torchvision_imports_beside_this_torch_again_and_again():
    assert import_torchvision() is import_torchvision()
    assert import_torchvision().models.resnet18 is not None


def test_without_torchvision_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DependencyError, match="torchvision must import beside torch"):
        import_torchvision()
