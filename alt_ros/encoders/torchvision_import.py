"""The one place that imports torchvision.

torchvision's wheels on PyPI are CUDA builds. Beside a CPU-only torch their compiled library does
not load, and the import fails where torchvision registers fake kernels for operators which that
library would have defined. Defining the two schemas first lets the Python parts (models,
transforms) import; the operators themselves (non-maximum suppression) stay unusable, and alt_ros
does not use them.
"""

from __future__ import annotations

from types import ModuleType

import torch

from alt_ros.errors import DependencyError

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")
_libraries: list[torch.library.Library] = []  # a schema lives as long as its library object


def import_torchvision() -> ModuleType:
    """Return the torchvision module, imported beside whichever torch is installed.

    Raises:
        DependencyError: torchvision is not installed or does not fit the installed torch.
    """
    try:
        return _import()
    except (ImportError, RuntimeError, AttributeError) as error:
        raise DependencyError(
            f"torchvision must import beside torch {torch.__version__}, it does not ({error}): "
            "install the torchvision release that belongs to this torch"
        ) from error


def _import() -> ModuleType:
    if not torch.cuda.is_available() and not _libraries:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            if not hasattr(torch.ops.torchvision, operator):
                library.define(f"{operator}{_SCHEMA}")
        _libraries.append(library)
    import torchvision

    return torchvision
