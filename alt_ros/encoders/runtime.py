"""The encoder as it is deployed: one observation in, one unit vector out.

On one machine, with one thread count, the same observation gives the same bits: in another
runtime, in another process, today and in a replay tomorrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from alt_ros.encoders.identity import encoder_id
from alt_ros.encoders.spec import EncoderSpec
from alt_ros.encoders.torchscript import example_input, load_encoder
from alt_ros.errors import BundleError, ConfigurationError, DataError
from alt_ros.preprocessing import network_input
from alt_ros.types import Observation, Query

# TorchScript's profiling executor settles after two runs; the third and later give the same bits.
WARM_UP_RUNS = 4
CELLS = 8
MIN_CONTRAST = 2.0
"""A picture whose ``CELLS`` by ``CELLS`` means deviate by less shows nothing, of 255. A camera
that is dead or covered is below 1, an underexposed one above 4."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """What an encoder made of one observation.

    Attributes:
        values: (D,) float32 of unit length.
        view_values: (V, F) float32, each row of unit length; NaN for a view that shows nothing,
            which the monitor takes for strange.
        encoder_id: Which encoder made it.
    """

    values: NDArray[np.float32]
    view_values: NDArray[np.float32]
    encoder_id: str

    def query(self, observation: Observation) -> Query:
        """Return what the table is asked, for the observation that was embedded."""
        return Query(observation.stamp, self.values, self.view_values, observation.poses)


class EncoderRuntime:
    """Runs an exported encoder.

    On a CUDA device the network runs in half precision; on the CPU in single precision.

    Args:
        path: TorchScript file written by ``export_encoder``.
        spec: The spec that the file was made with.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:<number>".
        threads: Threads of torch on the CPU; this sets it for the whole process. None leaves it.

    Raises:
        BundleError: The file is missing, is no TorchScript file, or does not fit the spec.
        ConfigurationError: The device is not there, or the thread count is not positive.
    """

    def __init__(
        self, path: Path, spec: EncoderSpec, device: str = "auto", threads: int | None = None
    ) -> None:
        if threads is not None:
            if threads < 1:
                raise ConfigurationError(f"encoder: threads must be at least 1, got {threads}")
            torch.set_num_threads(threads)
        self.spec = spec
        self.device = compute_device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.encoder_id = encoder_id(path) if path.is_file() else ""
        self._module = load_encoder(path, self.device, self.dtype)
        self._warm_up(path)

    def _warm_up(self, path: Path) -> None:
        images, poses = example_input(self.spec, 1, torch.device("cpu"), torch.float32)
        views = len(self.spec.views)
        expected = (1, self.spec.embedding_size), (1, views, self.spec.view_size)
        try:
            values, view_values = self.forward((images, poses))
            for _ in range(WARM_UP_RUNS - 1):
                values, view_values = self.forward((images, poses))
        except RuntimeError as error:
            raise BundleError(
                f"encoder '{path}' must take images {tuple(images.shape)}, it does not: "
                + str(error).strip().rsplit("\n", 1)[-1]
            ) from error
        if (values.shape, view_values.shape) != expected:
            raise BundleError(
                f"encoder '{path}' must give embeddings of shapes {expected}, "
                f"it gives {(values.shape, view_values.shape)}: export it again"
            )

    def preprocess(self, observation: Observation) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the network's input for one observation, on the CPU.

        Returns:
            Images (1, V, 3, H, W) float32 and poses (1, arms, 7) float32.

        Raises:
            DataError: A view is missing, or the poses are of another number of arms.
        """
        spec = self.spec
        images = network_input(observation.images, spec.views, spec.height, spec.width)
        if spec.use_pose and len(observation.poses) != spec.arms:
            raise DataError(
                f"encoder needs the poses of {spec.arms} arms, "
                f"the observation holds {len(observation.poses)}"
            )
        poses = observation.poses if spec.use_pose else np.zeros((spec.arms, 7))
        return (
            torch.from_numpy(images)[None],
            torch.from_numpy(np.asarray(poses, dtype=np.float32))[None],
        )

    def forward(
        self, inputs: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return embeddings (B, D) and view embeddings (B, V, F), float32, of ``preprocess``."""
        on_device = [self._transfer(tensor) for tensor in inputs]
        with torch.inference_mode():
            values, view_values = self._module(*on_device)
        return values.cpu().numpy(), view_values.cpu().numpy()

    def _transfer(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, self.dtype, non_blocking=True)
        return tensor.to(self.device, self.dtype)

    def embed(self, observation: Observation) -> Embedding:
        """Return the embedding of one observation.

        Raises:
            DataError: A view is missing, or the poses are of another number of arms.
        """
        values, view_values = self.forward(self.preprocess(observation))
        return Embedding(values[0], self.seen(observation, view_values[0]), self.encoder_id)

    def seen(
        self, observation: Observation, view_values: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return view embeddings (V, F) of an observation with NaN for views that show nothing."""
        blank = [shows_nothing(observation.images[view]) for view in self.spec.views]
        return np.where(np.array(blank)[:, None], np.float32(np.nan), view_values)


def shows_nothing(image: NDArray[np.uint8]) -> bool:
    """Return whether an image (H, W, 3) is all of one colour but for noise."""
    cells = cv2.resize(image, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return float(cells.astype(np.float64).std(axis=(0, 1)).max()) < MIN_CONTRAST


def compute_device(name: str) -> torch.device:
    """Return the torch device of that name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ConfigurationError: The name is unknown or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"encoder: device must be auto, cpu or cuda, got '{name}'"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            f"encoder: device '{name}' is not there: this torch sees no CUDA device, use 'cpu'"
        )
    return device
