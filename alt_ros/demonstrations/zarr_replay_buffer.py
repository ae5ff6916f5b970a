"""The zarr replay buffer of Diffusion Policy and UMI: a folder or a zip, zarr format 2 or 3.

The layout is flat: ``data/<key>`` holds one row per frame of all episodes, one after the other,
and ``meta/episode_ends`` the row after each episode's last. What is read:

- images: every (N, H, W, 3) array; the key is the view's name.
- ``data/timestamp``: stamps in seconds, where the set has them; else the rate given.
- ``data/state``: the state, unless other keys are named.
- ``data/robot<i>_eef_pos``, ``_eef_rot_axis_angle``, ``_gripper_width`` (UMI): poses, grippers.
- ``data/action``: see ``ZarrReplayBuffer``.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from zarr.storage import ZipStore

from alt_ros import geometry
from alt_ros.demonstrations.demonstration import Demonstration
from alt_ros.demonstrations.sequence import DemonstrationSequence
from alt_ros.errors import ConfigurationError, DataError, DependencyError, in_one_line
from alt_ros.types import ARM_ACTION_SIZE, NANOSECONDS, POSE_SIZE, ActionLayout

Floats = NDArray[np.float64]
_ARM_KEY = re.compile(r"robot(\d+)_eef_pos")
_AXIS_ANGLE_ACTION_SIZE = 7
# Float images whose largest value lies between these are either 0..1 and overshoot, or 0..255
# and nearly black: nobody can tell which.
_UNIT_MAXIMUM, _BYTE_MINIMUM = 1.0, 16.0
# Rows converted and kept at a time, rounded up to whole chunks.
_BLOCK_ROWS = 128
_BLOSC_HEADER = struct.Struct("<12xI")  # version, flags, sizes; the compressed size comes last


class ZarrReplayBuffer(DemonstrationSequence):
    """The episodes of a zarr replay buffer.

    The action is, without end-effector poses in the set, ``data/action`` as it is: layout
    (arms=0, extra=columns). With A arms it is

    - ``data/action`` of A * 7 columns: per arm position, axis-angle rotation, gripper width;
    - ``data/action`` of A * 10 columns: per arm position, rot6d, gripper width, where ``rot6d``
      says whether the six numbers are two rows of the rotation matrix (UMI's and Diffusion
      Policy's own code) or two columns (alt_ros);
    - without ``data/action``: the next frame's pose and gripper width, the last frame's its own;
    - ``data/action`` of any other size: as it is, layout (arms=0, extra=columns).

    Args:
        path: Folder ``*.zarr`` or file ``*.zarr.zip``.
        rate: Frames per second, Hz, of a set without ``data/timestamp``; the layout stores none.
        views: Image keys to read, in order; None reads every (N, H, W, 3) array.
        state_keys: Keys joined into the state; None reads ``state`` where it exists.
        image_maximum: White in float images: 1.0 or 255.0; None measures it and refuses
            images that could be either.
        rot6d: Convention of a 10-column action.

    Raises:
        DataError: The path is no replay buffer, or an array is missing or has the wrong shape.
        DependencyError: The images are compressed with a codec that is not installed.
        ConfigurationError: A parameter is out of its bounds.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        rate: float = 10.0,
        views: Sequence[str] | None = None,
        state_keys: Sequence[str] | None = None,
        image_maximum: float | None = None,
        rot6d: Literal["rows", "columns"] = "rows",
    ) -> None:
        if not (math.isfinite(rate) and rate > 0):
            raise ConfigurationError(f"rate must be positive, got {rate} Hz")
        if image_maximum not in (None, 1.0, 255.0):
            raise ConfigurationError(f"image_maximum must be 1.0 or 255.0, got {image_maximum}")
        if rot6d not in ("rows", "columns"):
            raise ConfigurationError(f"rot6d must be 'rows' or 'columns', got '{rot6d}'")
        self.path = Path(path)
        self._rate, self._rot6d = rate, rot6d
        self._arrays, self.episode_ends = self._open()
        self.views = self._find_views(views)
        self._state_keys = self._find_state(state_keys)
        self._arms = self._find_arms()
        self.layout = self._find_layout()
        self._blocks: dict[str, tuple[int, NDArray[np.uint8]]] = {}
        self._image_maximum = {view: self._measure(view, image_maximum) for view in self.views}

    def __len__(self) -> int:
        return len(self.episode_ends)

    def _load(self, index: int) -> Demonstration:
        start = int(self.episode_ends[index - 1]) if index else 0
        end = int(self.episode_ends[index])
        poses, grippers = self._poses(start, end)
        states = [self._rows(key, start, end) for key in self._state_keys]
        return Demonstration(
            name=f"episode_{index:06d}",
            stamps=self._stamps(start, end),
            images={view: self._images(view, start, end) for view in self.views},
            poses=poses,
            grippers=grippers,
            state=np.concatenate([np.zeros((end - start, 0)), *states], axis=1),
            actions=self._actions(start, end, poses, grippers),
            layout=self.layout,
            source=str(self.path),
        )

    @property
    def _subject(self) -> str:
        return f"zarr replay buffer '{self.path}'"

    def _open(self) -> tuple[dict[str, Any], NDArray[np.int64]]:
        _register_image_codecs()
        try:
            if not self.path.exists():
                raise DataError(f"{self._subject} does not exist: check the path")
            name = str(self.path)  # zarr 2, which Python 3.10 has, takes no Path
            store = name if self.path.is_dir() else ZipStore(name, mode="r")
            root = cast(Any, zarr).open_group(store, mode="r")
            arrays = {key: root["data"][key] for key in root["data"].array_keys()}
            ends = np.asarray(root["meta/episode_ends"][:], dtype=np.int64).reshape(-1)
        except DataError:
            raise
        except PermissionError as error:
            raise DataError(
                f"{self._subject}: no permission to read '{error.filename}': chmod it"
            ) from error
        except Exception as error:  # zarr, zipfile and numcodecs each raise their own
            _raise_for_codec(self._subject, error)
            raise DataError(
                f"{self._subject} must hold the groups data/ and meta/episode_ends, got "
                f"{type(error).__name__}: {in_one_line(error)}"
            ) from error
        lengths = {key: int(array.shape[0]) if array.shape else 0 for key, array in arrays.items()}
        if len(ends) == 0 or lengths == {}:
            raise DataError(f"{self._subject} holds no episodes: record some or leave it out")
        frames = int(ends[-1])
        if ends[0] <= 0 or (np.diff(ends) <= 0).any():
            at = int(np.argmax(np.diff(ends, prepend=0) <= 0))
            raise DataError(f"{self._subject}: episode {at} has no frames: take it out")
        short = {key: length for key, length in lengths.items() if length != frames}
        if short:
            raise DataError(
                f"{self._subject}: every array must have {frames} rows, as meta/episode_ends "
                f"says, got {short}: the copy is incomplete"
            )
        return arrays, ends

    def _find_views(self, views: Sequence[str] | None) -> tuple[str, ...]:
        shapes = {key: tuple(array.shape) for key, array in self._arrays.items()}
        found = tuple(
            sorted(key for key, shape in shapes.items() if len(shape) == 4 and shape[3] == 3)
        )
        wanted = found if views is None else tuple(views)
        if not wanted or not set(wanted) <= set(found):
            raise DataError(
                f"{self._subject}: views {list(wanted)} must be (N, H, W, 3) arrays, "
                f"it holds {shapes}"
            )
        for view in wanted:
            absent = self._arrays[view].nchunks - self._arrays[view].nchunks_initialized
            if absent:
                raise DataError(
                    f"{self._subject}: {absent} of {self._arrays[view].nchunks} chunks of "
                    f"data/{view} are absent and would read as black images: copy it again"
                )
        return wanted

    def _find_state(self, keys: Sequence[str] | None) -> tuple[str, ...]:
        if keys is None:
            return ("state",) if "state" in self._arrays else ()
        unknown = [key for key in keys if key not in self._arrays]
        if unknown:
            raise DataError(
                f"{self._subject} lacks the state keys {unknown}: it holds {list(self._arrays)}"
            )
        return tuple(keys)

    def _find_arms(self) -> tuple[str, ...]:
        numbers = sorted(int(m.group(1)) for m in map(_ARM_KEY.fullmatch, self._arrays) if m)
        arms = tuple(f"robot{number}" for number in numbers)
        for arm in arms:
            for part, columns in (("eef_pos", 3), ("eef_rot_axis_angle", 3), ("gripper_width", 1)):
                key = f"{arm}_{part}"
                got = self._arrays[key].shape[1:] if key in self._arrays else "none"
                if got != (columns,):
                    raise DataError(
                        f"{self._subject}: data/{key} must be (N, {columns}), got {got}"
                    )
        return arms

    def _find_layout(self) -> ActionLayout:
        arms = len(self._arms)
        if "action" not in self._arrays:
            if not arms:
                raise DataError(
                    f"{self._subject} needs data/action or robot0_eef_pos to follow, "
                    f"it holds {list(self._arrays)}"
                )
            return ActionLayout(arms=arms)
        columns = math.prod(self._arrays["action"].shape[1:])
        if arms and columns in (arms * _AXIS_ANGLE_ACTION_SIZE, arms * ARM_ACTION_SIZE):
            return ActionLayout(arms=arms)
        return ActionLayout(arms=0, extra=columns)

    def _read(self, key: str, start: int, end: int) -> NDArray[Any]:
        if self.path.is_dir():  # a zip checks its own sums
            self._check_cut_off(key, start, end)
        try:
            return np.asarray(self._arrays[key][start:end])
        except Exception as error:  # whatever the codec raises on damaged bytes
            _raise_for_codec(self._subject, error)
            raise DataError(
                f"{self._subject}: rows {start} to {end} of data/{key} do not decode "
                f"({in_one_line(error)}): the file is damaged, copy it again"
            ) from error

    def _check_cut_off(self, key: str, start: int, end: int) -> None:
        """Require that no chunk is shorter than its header says: Blosc reads past its end."""
        array = self._arrays[key]
        names = [type(compressor).__name__ for compressor in array.compressors]
        if not any(name.startswith("Blosc") for name in names) or array.shards is not None:
            return
        rows = range(start // array.chunks[0], (end - 1) // array.chunks[0] + 1)
        others = [
            range(math.ceil(size / chunk))
            for size, chunk in zip(array.shape[1:], array.chunks[1:], strict=True)
        ]
        for place in itertools.product(rows, *others):
            file = self.path / "data" / key / array.metadata.encode_chunk_key(place)
            if not file.is_file():
                continue
            with file.open("rb") as opened:
                header = opened.read(_BLOSC_HEADER.size)
            if len(header) < _BLOSC_HEADER.size or (
                _BLOSC_HEADER.unpack(header)[0] != file.stat().st_size
            ):
                raise DataError(
                    f"{self._subject}: '{file.relative_to(self.path)}' is cut off at "
                    f"{file.stat().st_size} bytes: copy it again"
                )

    def _rows(self, key: str, start: int, end: int) -> Floats:
        return self._read(key, start, end).reshape(end - start, -1).astype(np.float64)

    def _stamps(self, start: int, end: int) -> NDArray[np.int64]:
        if "timestamp" in self._arrays:
            seconds = self._rows("timestamp", start, end)[:, 0]
            if not np.isfinite(seconds).all():
                raise DataError(f"{self._subject}: data/timestamp must be finite")
            return np.rint(seconds * NANOSECONDS).astype(np.int64)
        return np.rint(np.arange(end - start) * (NANOSECONDS / self._rate)).astype(np.int64)

    def _poses(self, start: int, end: int) -> tuple[Floats, Floats]:
        n, arms = end - start, len(self._arms)
        poses, grippers = np.zeros((n, arms, POSE_SIZE)), np.zeros((n, arms))
        for i, arm in enumerate(self._arms):
            poses[:, i, :3] = self._rows(f"{arm}_eef_pos", start, end)
            turns = self._rows(f"{arm}_eef_rot_axis_angle", start, end)
            if not np.isfinite(turns).all():
                raise DataError(f"{self._subject}: data/{arm}_eef_rot_axis_angle must be finite")
            poses[:, i, 3:] = Rotation.from_rotvec(turns).as_quat()
            grippers[:, i] = self._rows(f"{arm}_gripper_width", start, end)[:, 0]
        return poses, grippers

    def _actions(self, start: int, end: int, poses: Floats, grippers: Floats) -> Floats:
        n, arms = end - start, self.layout.arms
        if "action" not in self._arrays:
            following = np.minimum(np.arange(n) + 1, n - 1)
            return geometry.arm_action(poses[following], grippers[following])
        rows = self._rows("action", start, end)
        if arms == 0:
            return rows
        rows = rows.reshape(n, arms, -1)
        if not np.isfinite(rows).all():
            raise DataError(f"{self._subject}: data/action must be finite")
        if rows.shape[2] == _AXIS_ANGLE_ACTION_SIZE:
            quaternions = Rotation.from_rotvec(rows[..., 3:6].reshape(-1, 3)).as_quat()
            quaternions = quaternions.reshape(n, arms, 4)
        else:
            quaternions = geometry.rot6d_to_quaternion(rows[..., 3:9])
            if self._rot6d == "rows":  # rows of R are columns of its transpose, its inverse
                quaternions = quaternions * np.array([-1.0, -1.0, -1.0, 1.0])
        targets = np.concatenate([rows[..., :3], quaternions], axis=-1)
        return geometry.arm_action(targets, rows[..., -1])

    def _measure(self, view: str, given: float | None) -> float:
        """Return the value that means white, from the first, middle and last block."""
        dtype = self._arrays[view].dtype
        if dtype == np.uint8:
            return 255.0
        if dtype.kind != "f":
            raise DataError(
                f"{self._subject}: data/{view} must be uint8 or float, got {dtype}: convert it"
            )
        if given is not None:
            return given
        rows, frames = self._block_rows(view), int(self.episode_ends[-1])
        highest, fractions = 0.0, False
        for number in sorted({0, frames // 2 // rows, (frames - 1) // rows}):
            block = self._read(view, number * rows, min((number + 1) * rows, frames))
            highest = max(highest, float(block.max()))
            fractions = fractions or bool((block[:: max(1, len(block) // 8)] % 1).any())
        if highest >= _BYTE_MINIMUM:
            return 255.0
        if highest <= _UNIT_MAXIMUM and fractions:
            return 1.0
        raise DataError(
            f"{self._subject}: data/{view} is {dtype} with a largest value of {highest:g}, which "
            "may mean 0..1 or 0..255: pass image_maximum=1.0 or image_maximum=255.0"
        )

    def _block_rows(self, view: str) -> int:
        chunk = int(self._arrays[view].chunks[0])
        return math.ceil(_BLOCK_ROWS / chunk) * chunk

    def _images(self, view: str, start: int, end: int) -> NDArray[np.uint8]:
        rows = self._block_rows(view)
        images = np.empty((end - start, *self._arrays[view].shape[1:]), dtype=np.uint8)
        for number in range(start // rows, (end - 1) // rows + 1):
            first = number * rows
            block = self._block(view, number)
            begin, stop = max(start, first), min(end, first + len(block))
            images[begin - start : stop - start] = block[begin - first : stop - first]
        return images

    def _block(self, view: str, number: int) -> NDArray[np.uint8]:
        """Return a block of uint8 images; the last one is kept, for episodes share blocks."""
        kept = self._blocks.get(view)
        if kept is not None and kept[0] == number:
            return kept[1]
        rows = self._block_rows(view)
        start, end = number * rows, min((number + 1) * rows, int(self.episode_ends[-1]))
        raw = self._read(view, start, end)
        block = raw if raw.dtype == np.uint8 else self._to_uint8(view, raw, start)
        self._blocks[view] = (number, block)
        return block

    def _to_uint8(self, view: str, raw: NDArray[Any], start: int) -> NDArray[np.uint8]:
        maximum = self._image_maximum[view]
        low, high = float(raw.min()), float(raw.max())
        if not (low >= 0.0 and high <= maximum):
            raise DataError(
                f"{self._subject}: data/{view} must lie in 0..{maximum:g}, rows {start} to "
                f"{start + len(raw)} lie in {low:g}..{high:g}: pass image_maximum or convert it"
            )
        flat = np.ascontiguousarray(raw, dtype=np.float32).reshape(len(raw), -1)
        scaled = cv2.convertScaleAbs(flat, alpha=255.0 / maximum)  # rounds to the nearest
        return np.asarray(scaled, np.uint8).reshape(raw.shape)


def _register_image_codecs() -> None:
    """Make UMI's JPEG XL readable where imagecodecs is installed."""
    if importlib.util.find_spec("imagecodecs") is not None:
        numcodecs = importlib.import_module("imagecodecs.numcodecs")
        numcodecs.register_codecs(verbose=False)


def _raise_for_codec(subject: str, error: BaseException) -> None:
    """Raise a DependencyError where zarr met a codec that it does not have."""
    text = in_one_line(error)
    if "codec not available" in text.lower() or "UnknownCodec" in type(error).__name__:
        raise DependencyError(
            f"{subject} is compressed with a codec that is not installed ({text}): "
            "for UMI's JPEG XL 'pip install imagecodecs'"
        ) from error
