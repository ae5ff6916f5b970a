"""How a policy that another computer serves is described: ``remote.json``.

``remote.json`` says where the server is and how our observations and actions become its own. For
openpi's checkpoint of LIBERO, whose actions move the arm by at most 5 cm and 0.5 rad a step::

    {
      "protocol": "openpi",
      "host": "gpu.local",
      "port": 8000,
      "views": {"third_person": "observation/image", "wrist": "observation/wrist_image"},
      "image_size": [224, 224],
      "image_fit": "pad",
      "prompt": "put the cup on the plate",
      "prompt_key": "prompt",
      "state": [
        {"key": "observation/state", "columns": ["position", "rotation_vector"]},
        {"key": "observation/state", "columns": ["gripper"], "scale": 0.5},
        {"key": "observation/state", "columns": ["gripper"], "scale": -0.5}
      ],
      "actions": [
        {"key": "actions", "columns": ["position"], "scale": 0.05},
        {"key": "actions", "columns": ["rotation_vector"], "scale": 0.5},
        {"key": "actions", "columns": ["gripper"], "scale": -0.04, "offset": 0.04}
      ],
      "motion": "delta",
      "period": 50000000,
      "horizon": 10
    }

For GR00T-N1.5 the keys are its modalities: ``video.wrist``, ``annotation.human.task_description``,
and one entry a key such as ``{"key": "state.x", "columns": ["x"]}``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from alt_ros.errors import ConfigurationError

FILE = "remote.json"
PROTOCOLS = ("openpi", "groot")
FITS = ("pad", "stretch")
MOTIONS = ("absolute", "delta")
UNUSED = "unused"
"""A column of the server's actions that is not read."""
PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "position": ("x", "y", "z"),
        "quaternion_xyzw": ("qx", "qy", "qz", "qw"),
        "rotation_vector": ("rx", "ry", "rz"),
        "euler_xyz": ("roll", "pitch", "yaw"),
        "rot6d": ("a1", "a2", "a3", "b1", "b2", "b3"),
        "gripper": ("gripper",),
    }
)
"""Names of columns, by the part of an arm that they make. Metres and radians, base frame;
``euler_xyz`` turns about the base's x, then its y, then its z; ``rot6d`` is the rotation matrix's
first column, then its second."""
ROTATIONS = ("quaternion_xyzw", "rotation_vector", "euler_xyz", "rot6d")
PLACES = {name: (part, i) for part, names in PARTS.items() for i, name in enumerate(names)}
_UNSCALED = {*PARTS["quaternion_xyzw"], *PARTS["rot6d"]}


@dataclass(frozen=True)
class Columns:
    """Columns of one of the server's vectors, and what of an arm they are.

    Entries of the same key follow one another in the vector. In a state the server is given
    ``scale * ours + offset``; of its actions we read ``scale * theirs + offset``.

    Attributes:
        key: Name of the vector in the server's map.
        columns: Names of ``PARTS``, whole parts or single columns; in actions also ``unused``.
        arm: Number of the arm.
        scale: From unit to unit: 1 / 0.08 makes a share of an opening of 8 cm.
        offset: Added after that, in the unit of the result.
    """

    key: str
    columns: tuple[str, ...]
    arm: int = 0
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        known = dict.fromkeys((*PARTS, *PLACES, UNUSED))
        if not self.key or not self.columns or not known.keys() >= set(self.columns):
            raise ConfigurationError(
                f"columns of '{self.key}' need a key and some of {', '.join(known)}, got "
                f"{list(self.columns)}"
            )
        finite = math.isfinite(self.scale) and math.isfinite(self.offset)
        if self.arm < 0 or not finite or self.scale == 0.0:
            raise ConfigurationError(
                f"columns of '{self.key}' need an arm of at least 0, a finite scale other than 0 "
                f"and a finite offset, got arm {self.arm}, {self.scale} and {self.offset}"
            )
        if (self.scale, self.offset) != (1.0, 0.0) and _UNSCALED & set(self.names):
            raise ConfigurationError(
                f"columns of '{self.key}' hold a quaternion or rot6d, which has no unit: leave "
                f"out scale {self.scale:g} and offset {self.offset:g}, or list it apart"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """One name a column, parts written out."""
        return tuple(name for part in self.columns for name in PARTS.get(part, (part,)))


@dataclass(frozen=True)
class RemoteConfig:
    """Where a policy is served, and how it is spoken with.

    Attributes:
        protocol: ``openpi`` or ``groot``.
        host: Name or address of the server.
        port: TCP port.
        views: The server's key of each view that it is given.
        image_size: Height and width of the images that it is given, pixels.
        image_fit: ``pad`` keeps the image's proportions and makes the rest black, as openpi's
            own client does; ``stretch`` fills the size.
        prompt: The task in words.
        prompt_key: The server's key of it.
        state: What it is told of the arms; empty where it reads images alone.
        actions: What its actions are: of each arm a position, one rotation and the gripper.
        motion: ``absolute``: an action is the pose to go to. ``delta``: position and rotation
            are the step from the action before, the first from the measured pose, in the base
            frame. The gripper is always absolute.
        period: Time from one action to the next, ns.
        horizon: Most actions of an answer.
        connect_timeout: Longest time until the server is there, s.
        request_timeout: Longest time from a request to its answer, s.
        token_variable: Environment variable that holds the server's key; empty without one.
    """

    protocol: str
    host: str
    port: int
    views: Mapping[str, str]
    image_size: tuple[int, int]
    image_fit: str
    prompt: str
    prompt_key: str
    state: tuple[Columns, ...]
    actions: tuple[Columns, ...]
    motion: str
    period: int
    horizon: int
    connect_timeout: float = 5.0
    request_timeout: float = 5.0
    token_variable: str = ""

    def __post_init__(self) -> None:
        choices = {"protocol": PROTOCOLS, "image_fit": FITS, "motion": MOTIONS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigurationError(
                    f"{name} must be one of {', '.join(known)}, got '{getattr(self, name)}'"
                )
        if not self.host or any(c.isspace() or c in "/@" for c in self.host):
            raise ConfigurationError(f"host must be a name or an address, got '{self.host}'")
        if not 0 < self.port < 2**16:
            raise ConfigurationError(f"port must be 1 to 65535, got {self.port}")
        for name in ("period", "horizon", "connect_timeout", "request_timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} must be positive, got {getattr(self, name)}")
        if len(self.image_size) != 2 or not all(0 < size <= 4096 for size in self.image_size):
            raise ConfigurationError(
                f"image_size must be a height and a width of 1 to 4096 pixels, got "
                f"{list(self.image_size)}"
            )
        if not self.views or not all((*self.views, *self.views.values(), self.prompt_key)):
            raise ConfigurationError(
                f"views and prompt_key must be named, got {dict(self.views)} and "
                f"'{self.prompt_key}'"
            )
        keys = [*self.views.values(), self.prompt_key, *dict.fromkeys(c.key for c in self.state)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ConfigurationError(f"a key must mean one thing, got {twice} more than once")
        if any(UNUSED in entry.names for entry in self.state):
            raise ConfigurationError(f"state: '{UNUSED}' is for actions alone, leave it out")
        for arm in range(self.arms):
            _check_arm(arm, [n for c in self.actions if c.arm == arm for n in c.names])
        object.__setattr__(self, "views", MappingProxyType(dict(self.views)))

    @property
    def arms(self) -> int:
        """Number of arms that the actions move."""
        return 1 + max((entry.arm for entry in self.actions), default=0)

    @classmethod
    def from_json(cls, content: object) -> RemoteConfig:
        """Return the configuration of a JSON map with a value for each field.

        Raises:
            ConfigurationError: A field is unknown, missing, of another type or out of bounds.
        """
        values = _typed(cls, content, "remote policy")
        for name in ("state", "actions"):
            entries = [_typed(Columns, entry, name) for entry in values[name]]
            values[name] = tuple(Columns(**entry) for entry in entries)
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> RemoteConfig:
        """Read ``remote.json`` in a folder.

        Raises:
            ConfigurationError: The file is missing or damaged, or its values do not fit.
        """
        file = path / FILE
        try:
            return cls.from_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"'{file}' must be a JSON file that describes a served policy: {error}"
            ) from error
        except ConfigurationError as error:
            raise ConfigurationError(f"'{file}': {error}") from error


def _check_arm(arm: int, names: list[str]) -> None:
    """Require position, one rotation and gripper of an arm, each once."""
    named = [name for name in names if name != UNUSED]
    wanted = [{*PARTS["position"], *PARTS[kind], *PARTS["gripper"]} for kind in ROTATIONS]
    if len(set(named)) != len(named) or set(named) not in wanted:
        raise ConfigurationError(
            f"actions of arm {arm} must hold position, gripper and one of {', '.join(ROTATIONS)}, "
            f"every column once, got {named}"
        )


def _typed(kind: type[Any], content: object, subject: str) -> dict[str, Any]:
    """Return a JSON map as the fields of a dataclass, types checked by the annotations.

    Raises:
        ConfigurationError: A field is unknown, missing or of another type.
    """
    known = {field.name: field for field in fields(kind)}
    needed = [name for name, field in known.items() if field.default is MISSING]
    given = cast(dict[str, object], content) if isinstance(content, dict) else {}
    unknown, missing = [n for n in given if n not in known], [n for n in needed if n not in given]
    if unknown or missing:
        raise ConfigurationError(
            f"{subject} must be a map of {', '.join(known)}; unknown are {unknown}, missing "
            f"{missing}"
        )
    values: dict[str, Any] = {}
    for name, value in given.items():
        words, check, make = _KINDS[str(known[name].type)]
        if not check(value):
            raise ConfigurationError(f"{subject}: {name} must be {words}, got {value!r}"[:300])
        values[name] = make(value)
    return values


def _is_list(value: Any, kind: type[Any]) -> bool:
    return isinstance(value, list) and all(
        type(item) is kind for item in cast(Sequence[object], value)
    )


def _is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(item, str) for item in cast(dict[object, object], value).values()
    )


# annotation -> (in words, check of a JSON value, conversion)
_KINDS: dict[str, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    "str": ("text", lambda value: isinstance(value, str), str),
    "int": ("a whole number", lambda value: type(value) is int, int),
    "float": ("a number", lambda value: type(value) in (int, float), float),
    "Mapping[str, str]": ("a map from text to text", _is_map, dict),
    "tuple[int, int]": ("two whole numbers", lambda value: _is_list(value, int), tuple),
    "tuple[str, ...]": ("a list of texts", lambda value: _is_list(value, str), tuple),
    "tuple[Columns, ...]": ("a list of maps", lambda value: _is_list(value, dict), tuple),
}
