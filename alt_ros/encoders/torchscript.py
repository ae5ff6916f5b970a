"""TorchScript in and out: the only form in which an encoder leaves the training machine.

torch marks its TorchScript functions as deprecated; they are what loads without Python code and
without unpickling, so they are used here, and the warning is silenced here alone.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch

from alt_ros.encoders.identity import encoder_id
from alt_ros.encoders.network import MultiViewEncoder
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.errors import BundleError
from alt_ros.types import POSE_SIZE

TRACE_BATCH = 2


@contextmanager
def _torchscript() -> Generator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*`torch\.jit\.", category=DeprecationWarning)
        yield


def example_input(
    spec: EncoderSpec, batch: int, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return zero images (batch, V, 3, H, W) and poses (batch, arms, 7) of the spec's shape."""
    shape = (batch, len(spec.views), 3, spec.height, spec.width)
    return (
        torch.zeros(shape, device=device, dtype=dtype),
        torch.zeros((batch, spec.arms, POSE_SIZE), device=device, dtype=dtype),
    )


def export_encoder(encoder: MultiViewEncoder, path: Path) -> str:
    """Write the encoder, in evaluation mode, as a TorchScript file that takes any batch size.

    The file is not frozen, so that a GPU can still load it in half precision; ``load_encoder``
    freezes it, which folds the batch norms into the convolutions.

    Args:
        encoder: The trained network; it is left as it was.
        path: File to write; it appears only when it is complete.

    Returns:
        The encoder's id, see ``encoder_id``.
    """
    deployed = copy.deepcopy(encoder).cpu().eval()
    deployed.channels_last = False
    for parameter in deployed.parameters():
        parameter.data = parameter.data.contiguous()
    images, poses = example_input(encoder.spec, TRACE_BATCH, torch.device("cpu"), torch.float32)
    partial = path.with_name(path.name + ".partial")
    try:
        with _torchscript(), torch.no_grad():
            traced = torch.jit.trace(deployed, (images, poses), check_trace=False)
            torch.jit.save(traced, str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return encoder_id(path)


def load_encoder(
    path: Path, device: torch.device, dtype: torch.dtype = torch.float32
) -> torch.jit.ScriptModule:
    """Return the file's encoder, frozen, on the device.

    Raises:
        BundleError: The file is missing or is no TorchScript file.
    """
    if not path.is_file():
        raise BundleError(f"encoder '{path}' must be a TorchScript file, none is there")
    try:
        with _torchscript():
            module = torch.jit.load(str(path), map_location=device).eval()
            return torch.jit.freeze(module.to(dtype=dtype))
    except RuntimeError as error:
        raise BundleError(
            f"encoder '{path}' must be a TorchScript file, torch cannot load it: "
            + str(error).strip().split("\n", 1)[0]
        ) from error
