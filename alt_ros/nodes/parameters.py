"""Node parameters as data: one frozen dataclass per node says type, default, unit and bounds.

``declare`` gives them to ROS, ``table`` to people; a YAML file can only set what stands here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from alt_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from rclpy.node import Node

Declared = TypeVar("Declared")


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """Return a dataclass field that describes a parameter.

    Args:
        default: bool, int, float, str, or a tuple of floats or strings.
        description: One line.
        unit: SI unit, where it has one.
        low: Smallest value of a number.
        high: Largest value of a number.
        choices: The strings that are allowed.
    """
    metadata = {
        "description": description,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": tuple(choices),
    }
    return dataclasses.field(default=default, metadata=metadata)


def declare(node: Node, parameters: type[Declared]) -> Declared:
    """Declare a node's parameters, read-only, and return their values.

    Raises:
        ConfigurationError: A value is of the wrong type or out of bounds.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    values: dict[str, Any] = {}
    for field in dataclasses.fields(parameters):  # type: ignore[arg-type]
        meta, default = field.metadata, field.default
        descriptor = ParameterDescriptor(description=_describe(field), read_only=True)
        if meta["low"] is not None and meta["high"] is not None and not isinstance(default, tuple):
            if isinstance(default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(meta["low"]), to_value=float(meta["high"]))
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(meta["low"]), to_value=int(meta["high"]))
                ]
        declared = list(default) if isinstance(default, tuple) else default
        # An empty list has no type of its own: what may be in it is looked at here.
        descriptor.dynamic_typing = declared == []
        try:
            value = node.declare_parameter(field.name, declared, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigurationError(
                f"parameter '{field.name}' of {node.get_name()} must be {_domain(field)}: {error}"
            ) from error
        if isinstance(default, tuple):
            value = tuple(value or ())
            if not default and not all(isinstance(v, _element(field)) for v in value):
                raise ConfigurationError(
                    f"parameter '{field.name}' of {node.get_name()} must be {_domain(field)}, "
                    f"got {list(value)}"
                )
        if meta["choices"] and value not in meta["choices"]:
            raise ConfigurationError(
                f"parameter '{field.name}' of {node.get_name()} must be {_domain(field)}, "
                f"got '{value}'"
            )
        values[field.name] = value
    return parameters(**values)


def table(parameters: type[Any]) -> list[tuple[str, str, str, str]]:
    """Return (name, default, allowed, description) per parameter."""
    return [
        (f.name, str(f.default), _domain(f), f.metadata["description"])
        for f in dataclasses.fields(parameters)
    ]


def help_text(name: str, purpose: str, parameters: type[Any]) -> str:
    """Return what ``--help`` prints for a node."""
    rows = table(parameters)
    width = max(len(row[0]) for row in rows)
    lines = [
        f"usage: {name} [--ros-args -p NAME:=VALUE ... --params-file FILE -r FROM:=TO ...]",
        "",
        purpose,
        "",
        "parameters:",
        *(f"  {n:<{width}}  {d} ({domain}; default {v!r})" for n, v, domain, d in rows),
    ]
    return "\n".join(lines)


def _domain(field: dataclasses.Field[Any]) -> str:
    meta, default = field.metadata, field.default
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    kind = type(default).__name__
    if isinstance(default, tuple):
        kind = f"list of {_element(field).__name__}"
    unit = f" {meta['unit']}" if meta["unit"] else ""
    if meta["low"] is not None and meta["high"] is not None:
        return f"{kind} in [{meta['low']:g}, {meta['high']:g}]{unit}"
    return f"{kind}{unit}"


def _element(field: dataclasses.Field[Any]) -> type:
    return float if "float" in str(field.type) else str


def _describe(field: dataclasses.Field[Any]) -> str:
    return f"{field.metadata['description']} ({_domain(field)})"
