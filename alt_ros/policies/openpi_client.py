"""Client of openpi's policy server: one WebSocket, msgpack maps both ways.

The protocol of github.com/Physical-Intelligence/openpi, whose servers run pi0, pi0-FAST and pi0.5:
the server greets with a map of metadata; then each binary frame is an observation, and the answer
to it a map with ``actions``. A text frame is the server's traceback. An array is a map of its
bytes, dtype and shape. Nothing that arrives is unpickled: CVE-2026-25874 is what that leads to.

What GR00T's client does in the same way is here too: ``library``, ``unpack``, ``plain_array`` and
``one_line``.
"""

from __future__ import annotations

import importlib
import itertools
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError, DependencyError

MAX_MESSAGE = 16 * 2**20
"""A longer answer is refused, bytes: a thousand rows of actions are less than a hundredth."""
_MAX_ITEMS = 2**16  # of one list or map
_MAX_AXES = 8
_MAX_TEXT = 300
_CLOSE_TIMEOUT = 1.0
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class OpenpiClient:
    """Asks an openpi server for actions.

    It connects at the first request, and again at the next one after a failure.

    Args:
        host: Name or address of the server.
        port: TCP port.
        connect_timeout: Longest time until the server has greeted, s.
        request_timeout: Longest time from a request to its answer, s.
        token: API key; empty where the server asks for none.

    Raises:
        DependencyError: websockets or msgpack is not installed.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_timeout: float,
        request_timeout: float,
        token: str = "",
    ) -> None:
        self.name = f"openpi server ws://{host}:{port}"
        self._uri = f"ws://{host}:{port}"
        self._headers = {"Authorization": f"Api-Key {token}"} if token else {}
        self._connect_timeout = connect_timeout
        self._request_timeout = request_timeout
        self._client = library("websockets.sync.client")
        self._error = library("websockets.exceptions").WebSocketException
        self._msgpack = library("msgpack")
        self._connection: Any = None
        self._open = ExitStack()  # closes the connection

    def connect(self) -> None:
        """Connect and hear the server's greeting, unless that is done.

        Raises:
            DataError: The server does not answer, or not as openpi does.
        """
        if self._connection is not None:
            return
        deadline = time.monotonic() + self._connect_timeout
        try:
            self._connection = self._open.enter_context(
                self._client.connect(
                    self._uri,
                    additional_headers=self._headers,
                    compression=None,
                    proxy=None,  # a robot's servers are on its own network
                    open_timeout=self._connect_timeout,
                    close_timeout=_CLOSE_TIMEOUT,
                    # The server answers no ping while it infers, which may take long at first.
                    ping_interval=None,
                    max_size=MAX_MESSAGE,
                )
            )
            greeting = self._connection.recv(timeout=max(0.0, deadline - time.monotonic()))
            self._read(greeting)
        except (OSError, self._error) as error:
            self._drop()
            raise DataError(
                f"{self.name} must answer within {self._connect_timeout:g} s, got "
                f"'{one_line(str(error)) or type(error).__name__}': start it, or correct host, "
                "port and token"
            ) from error
        except BaseException:
            self._drop()
            raise

    def infer(self, observation: Mapping[str, NDArray[Any] | str]) -> dict[str, object]:
        """Return the server's answer to an observation.

        Args:
            observation: What the served model reads, by its own keys.

        Raises:
            DataError: There is no server, no answer in time, or none that can be read.
        """
        self.connect()
        try:
            return self._read(self._exchange(self._msgpack.packb(observation, default=_encode)))
        except BaseException:
            # An answer that comes late must not be taken for the next request's.
            self._drop()
            raise

    def close(self) -> None:
        """Take leave of the server; a later request connects again."""
        self._connection = None
        self._open.close()

    def _exchange(self, request: bytes) -> bytes | str:
        deadline = time.monotonic() + self._request_timeout
        # send() has no time-out of its own: a server that stops reading would hold it for ever.
        timer = threading.Timer(self._request_timeout, _cut, [self._connection])
        timer.daemon = True
        try:
            timer.start()
            self._connection.send(request)
            timer.cancel()
            return self._connection.recv(timeout=max(0.0, deadline - time.monotonic()))
        except (OSError, self._error) as error:  # TimeoutError is an OSError
            if time.monotonic() >= deadline:
                raise DataError(late(self.name, self._request_timeout)) from error
            raise DataError(
                f"{self.name} must answer, it closed the connection ({one_line(str(error))}): "
                "read its log; the next request connects again"
            ) from error
        finally:
            timer.cancel()

    def _read(self, message: bytes | str) -> dict[str, object]:
        if isinstance(message, str):
            raise DataError(failed(self.name, _cause(message)))
        return unpack(message, self._decode, self.name)

    def _decode(self, found: dict[Any, Any]) -> object:
        if b"__ndarray__" in found:
            shape = found.get(b"shape")
            return plain_array(found.get(b"data"), found.get(b"dtype"), shape, self.name)
        if b"__npgeneric__" in found:
            if not isinstance(found.get(b"data"), bool | int | float):
                raise DataError(
                    f"{self.name}: a NumPy scalar must be a number, got "
                    f"{type(found.get(b'data')).__name__}: serve plain numbers"
                )
            return found[b"data"]
        return found

    def _drop(self) -> None:
        """Give the connection up at once."""
        if self._connection is not None:
            _cut(self._connection)
        self.close()


def library(module: str) -> Any:
    """Return a module that only the clients of served policies need.

    Raises:
        DependencyError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(
            f"to ask a policy server needs the Python package '{module.split('.')[0]}': "
            "pip install 'websockets>=15' msgpack pyzmq"
        ) from error


def unpack(
    message: bytes, decode: Callable[[dict[Any, Any]], object], server: str
) -> dict[str, object]:
    """Return the map that a msgpack message holds.

    Args:
        message: At most ``MAX_MESSAGE`` bytes.
        decode: Makes a value of each map in it, the innermost first.
        server: Whom the message comes from, for the errors.

    Raises:
        DataError: The message is too long, damaged or no map.
    """
    if len(message) > MAX_MESSAGE:
        raise DataError(
            f"{server} must answer with at most {MAX_MESSAGE} bytes, got {len(message)}: "
            "serve the actions alone"
        )
    msgpack = library("msgpack")
    try:
        content = msgpack.unpackb(
            message, object_hook=decode, max_array_len=_MAX_ITEMS, max_map_len=_MAX_ITEMS
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DataError(
            f"{server} must answer in msgpack, got {len(message)} bytes that cannot be read "
            f"({one_line(str(error)) or type(error).__name__}): correct protocol and port"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in cast(Any, content)):
        raise DataError(
            f"{server} must answer with a map from names, got {type(content).__name__}: "
            "correct protocol and port"
        )
    return cast(dict[str, object], content)


def plain_array(
    data: object, dtype: object, shape: object, server: str, *, order: str = "C"
) -> NDArray[Any]:
    """Return the array of numbers that bytes are.

    Args:
        data: The bytes.
        dtype: NumPy's short name of a truth value, an integer or a float, such as ``<f4``.
        shape: Sizes of the axes.
        server: Whom the array comes from, for the errors.
        order: ``C``, rows first, or ``F``.

    Returns:
        (shape) of that dtype, read-only.

    Raises:
        DataError: It is of another dtype, or bytes and shape contradict each other.
    """
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise DataError(
            f"{server}: an array must hold truth values, integers or floats, got dtype "
            f"'{one_line(str(dtype))}': convert it before it is sent"
        )
    kind = np.dtype(dtype)
    sizes: list[Any] = list(cast(Any, shape)) if isinstance(shape, list | tuple) else [None]
    held = len(data) if isinstance(data, bytes) else type(data).__name__
    whole = all(type(size) is int and 0 < size <= MAX_MESSAGE for size in sizes)
    if not whole or len(sizes) > _MAX_AXES or held != math.prod(sizes) * kind.itemsize:
        raise DataError(
            f"{server}: an array's shape times {kind.itemsize} bytes must be what it holds, got "
            f"shape {one_line(str(shape))} and {held} bytes: the array is damaged or empty"
        )
    values = np.frombuffer(cast(bytes, data), kind)
    return values.reshape(tuple(sizes), order=cast(Any, order))


def one_line(text: str) -> str:
    """Return a text from elsewhere as one short line that a terminal can print."""
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= _MAX_TEXT else f"{line[: _MAX_TEXT - 3]}..."


def failed(server: str, cause: str) -> str:
    """Return the line for a request that a server could not answer."""
    return (
        f"{server} must answer with actions, it failed with '{one_line(cause)}': read its log, "
        "and hold the keys and sizes in remote.json against what the model reads"
    )


def late(server: str, timeout: float) -> str:
    """Return the line for an answer that did not come in time."""
    return (
        f"{server} must answer within {timeout:g} s, it did not: read its log, or raise "
        "request_timeout (the first request may compile the model)"
    )


def _encode(value: object) -> object:
    if isinstance(value, np.ndarray):
        array = cast(NDArray[Any], value)
        return {
            b"__ndarray__": True,
            b"data": array.tobytes(),
            b"dtype": array.dtype.str,
            b"shape": list(array.shape),
        }
    raise TypeError(f"an observation is made of arrays and text, got {type(value).__name__}")


def _cause(traceback: str) -> str:
    """Return the error that a Python traceback ends with."""
    lines = traceback.strip().splitlines()
    frames = [i for i, line in enumerate(lines) if line.startswith('  File "')]
    after = lines[frames[-1] + 1 :] if frames else lines
    error = list(itertools.dropwhile(lambda line: line.startswith(" "), after))
    return "\n".join(error or lines)


def _cut(connection: Any) -> None:
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)
