"""Shifts every stamp of a serialised message, whatever its type."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message

from alt_ros.errors import ConfigurationError
from alt_ros.messages import nanoseconds, raw_stamp, with_raw_stamp
from alt_ros.nodes.conversions import to_time

TIME = "builtin_interfaces/Time"
_NESTED = re.compile(r"[A-Za-z]\w*/[A-Za-z]\w*")


@cache
def message_class(type_name: str) -> type[Any]:
    """Return the class of ``sensor_msgs/msg/Image``.

    Raises:
        ConfigurationError: Its package is not installed, or has no such message.
    """
    package, _, kind = type_name.rpartition("/")
    package = package.removesuffix("/msg")
    try:
        return getattr(import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"message type '{type_name}' is not installed here: install ros-<distro>-"
            f"{package.replace('_', '-')}"
        ) from error


@cache
def stamps_of(kind: type[Any]) -> tuple[bool, int]:
    """Return whether a message begins with a stamp, and whether it has none, one or more (2)."""
    begins, count = False, 0
    for place, field_type in enumerate(kind.get_fields_and_field_types().values()):
        nested = _NESTED.search(field_type)
        if nested is None:
            continue
        name = nested.group()
        first, several = (True, 1) if name == TIME else stamps_of(message_class(name))
        if name != field_type:  # an array or a sequence
            first, several = False, 2 * several
        begins |= place == 0 and first
        count += several
    return begins, min(count, 2)


def shift_stamps(raw: bytes, kind: type[Any], shift: Callable[[int], int]) -> bytes:
    """Return a serialised message with its stamps shifted.

    One stamp at the start, as of everything that begins with a Header, is written in its place;
    more, as in a TFMessage, take the message apart.

    Args:
        raw: CDR bytes.
        kind: The message's class.
        shift: From a stamp to what it becomes, ns.
    """
    begins, count = stamps_of(kind)
    if count == 0:
        return raw
    if begins and count == 1:
        stamp = raw_stamp(raw)
        return with_raw_stamp(raw, shift(stamp))
    message = deserialize_message(raw, kind)
    _shift(message, shift)
    return serialize_message(message)


def _shift(message: Any, shift: Callable[[int], int]) -> None:
    for name, field_type in message.get_fields_and_field_types().items():
        nested = _NESTED.search(field_type)
        if nested is None:
            continue
        value = getattr(message, name)
        is_array = nested.group() != field_type
        if nested.group() == TIME:
            times = [to_time(shift(nanoseconds(t))) for t in (value if is_array else [value])]
            setattr(message, name, times if is_array else times[0])
        elif stamps_of(message_class(nested.group()))[1]:
            for part in value if is_array else [value]:
                _shift(part, shift)
