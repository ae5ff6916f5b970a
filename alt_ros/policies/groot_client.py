"""Client of GR00T's inference service: ZeroMQ request and reply, msgpack maps both ways.

The protocol of github.com/NVIDIA/Isaac-GR00T at N1.5, ``gr00t/eval/service.py``: a request names
an endpoint (``ping``, ``get_action``) and holds its data, an answer is a map, with ``error`` where
the server failed. An array is the bytes of an npy file. Nothing that arrives is unpickled, and a
server that sends pickles is refused.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from alt_ros.errors import DataError
from alt_ros.policies.openpi_client import (
    MAX_MESSAGE,
    failed,
    late,
    library,
    one_line,
    plain_array,
    unpack,
)


class GrootClient:
    """Asks a GR00T-N1.5 server for actions.

    It connects at the first request, and again at the next one after a failure.

    Args:
        host: Name or address of the server.
        port: TCP port.
        connect_timeout: Longest time until the server has answered a ping, s.
        request_timeout: Longest time from a request to its answer, s.
        token: API token; empty where the server asks for none.

    Raises:
        DependencyError: pyzmq or msgpack is not installed.
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
        self.name = f"GR00T server tcp://{host}:{port}"
        self._address = f"tcp://{host}:{port}"
        self._token = {"api_token": token} if token else {}
        self._connect_timeout = connect_timeout
        self._request_timeout = request_timeout
        self._zmq = library("zmq")
        self._msgpack = library("msgpack")
        self._socket: Any = None
        self._monitor: Any = None  # tells when the server goes away

    def connect(self) -> None:
        """Connect and ping the server, unless that is done.

        Raises:
            DataError: The server does not answer, or not as GR00T does.
        """
        if self._socket is not None and self._monitor.poll(0):
            self.close()  # it went away since the last answer
        if self._socket is not None:
            return
        zmq = self._zmq
        self._socket = zmq.Context.instance().socket(zmq.REQ)
        try:
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
            self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self._socket.connect(self._address)
            answer = self._exchange({"endpoint": "ping"}, self._connect_timeout)
            if answer is None:
                raise DataError(
                    f"{self.name} must answer a ping within {self._connect_timeout:g} s, it did "
                    "not: start it, or correct host and port"
                )
        except zmq.ZMQError as error:
            self.close()
            raise DataError(
                f"{self.name} must be an address that ZeroMQ can reach, got '{error}': correct "
                "host and port"
            ) from error
        except BaseException:
            self.close()
            raise

    def infer(self, observation: Mapping[str, NDArray[Any] | str]) -> dict[str, object]:
        """Return the server's answer to an observation.

        Args:
            observation: What the served model reads, by its own keys; the time axis, one step
                long, is put before the arrays here.

        Raises:
            DataError: There is no server, no answer in time, or none that can be read.
        """
        self.connect()
        data = {k: [v] if isinstance(v, str) else v[None] for k, v in observation.items()}
        try:
            request = {"endpoint": "get_action", "data": data}
            answer = self._exchange(request, self._request_timeout)
            if answer is None:
                raise DataError(late(self.name, self._request_timeout))
            return answer
        except BaseException:
            # A socket that has asked takes no other request before its answer: make a new one.
            self.close()
            raise

    def close(self) -> None:
        """Disconnect; a later request connects again."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
        if self._socket is not None:
            self._socket.close(linger=0)
        self._socket = self._monitor = None

    def _exchange(self, request: dict[str, Any], timeout: float) -> dict[str, object] | None:
        """Return the answer, or None where it did not come in time."""
        zmq = self._zmq
        deadline = time.monotonic() + timeout
        self._socket.setsockopt(zmq.SNDTIMEO, round(timeout * 1e3))
        try:
            self._socket.send(self._msgpack.packb({**request, **self._token}, default=_encode))
        except zmq.Again:
            return None
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        ready = dict(poller.poll(max(0.0, deadline - time.monotonic()) * 1e3))
        if self._socket not in ready:
            if self._monitor in ready:
                raise DataError(
                    f"{self.name} must answer with at most {MAX_MESSAGE} bytes, the connection "
                    "closed before that: it stopped, its answer is longer, or it is no GR00T "
                    "server; the next request connects again"
                )
            return None
        message = b"".join(self._socket.recv_multipart())
        answer = unpack(message, self._decode, self.name)
        if "error" in answer:
            raise DataError(failed(self.name, str(answer["error"])))
        return answer

    def _decode(self, found: dict[Any, Any]) -> object:
        if "__ndarray_class__" in found:
            return self._array(found.get("as_npy"))
        return found

    def _array(self, npy: object) -> NDArray[Any]:
        """Return the array of an npy file; its header is held against its size before it is read.

        numpy.load would first allocate what the header asks for.
        """
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        file = io.BytesIO(npy if isinstance(npy, bytes) else b"")
        try:
            shape, fortran, dtype = read[np.lib.format.read_magic(file)](file)
        except Exception as error:  # whatever numpy's parser makes of foreign bytes
            raise DataError(
                f"{self.name}: an array must be an npy file of version 1 or 2, got "
                f"'{one_line(str(error))}': is it a GR00T-N1.5 server?"
            ) from error
        order = "F" if fortran else "C"
        return plain_array(file.read(), dtype.str, shape, self.name, order=order)


def _encode(value: object) -> object:
    if isinstance(value, np.ndarray):
        file = io.BytesIO()
        np.save(file, cast(NDArray[Any], value), allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": file.getvalue()}
    raise TypeError(f"an observation is made of arrays and text, got {type(value).__name__}")
