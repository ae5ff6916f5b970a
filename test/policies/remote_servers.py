"""Policy servers as real processes: ``python remote_servers.py openpi|groot PORT [TOKEN]``.

Encoding and decoding are written here a second time, as the real servers have them, so that a
mistake in the clients does not cancel out. What is answered follows from the observation alone;
the prompt chooses it. The answer also tells what was received.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time

import msgpack
import numpy as np

HORIZON = 5
STEP = 0.01  # metres that x grows with each action
TOO_LONG = 17 * 2**20


class ServerProcess:
    """A server, started and killed as often as a test wants; it dies with the test."""

    def __init__(self, protocol: str, token: str = "") -> None:
        self.protocol, self.token, self.port = protocol, token, 0
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, at the port that it had before."""
        command = [sys.executable, __file__, self.protocol, str(self.port), self.token]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, **pipes, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        word, self.port = self.process.stdout.readline().split()
        assert word == "ready"
        self.port = int(self.port)

    def kill(self) -> None:
        """Kill it where it stands."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None


class Pickled:
    """What a pickle could do to whoever reads it."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def describe(observation: dict) -> dict:
    """Return what arrived, in words."""
    return {
        key: f"{value.dtype.str} {value.shape}" if isinstance(value, np.ndarray) else value
        for key, value in observation.items()
    }


def follow(position, brightness, other_brightness, steps: bool):
    """Return positions (n, 3) that follow from the state and the images."""
    if steps:
        return np.tile([STEP, 0.0, -STEP], (HORIZON, 1))
    rows = np.tile(np.asarray(position, np.float64), (HORIZON, 1))
    rows[:, 0] += STEP * np.arange(HORIZON)
    rows[:, 1] += brightness / 1000.0
    rows[:, 2] += other_brightness / 1000.0
    return rows


def openpi_actions(observation: dict) -> np.ndarray:
    """Return (n, 7): position, rotation vector, gripper; as LIBERO's checkpoints do."""
    state = observation["observation/state"].astype(np.float64)
    steps = observation["prompt"] == "steps"
    front = observation["observation/image"].mean()
    wrist = observation["observation/wrist_image"].mean()
    positions = follow(state[:3], front, wrist, steps)
    rotation = [0.0, 0.0, 0.1] if steps else state[3:6]
    opening = state[6] - state[7]  # two fingers, one to each side
    return np.hstack([positions, np.tile([*rotation, opening], (HORIZON, 1))])


def groot_actions(observation: dict) -> dict[str, np.ndarray]:
    """Return x, y and z (n,), rot6d (n, 6) and gripper (n, 1)."""
    front, wrist = observation["video.front"], observation["video.wrist"]
    assert front.ndim == wrist.ndim == 4
    assert len(front) == len(wrist) == 1
    position = [observation[f"state.{axis}"].item() for axis in "xyz"]
    steps = observation["annotation.human.task_description"] == ["steps"]
    positions = follow(position, front.mean(), wrist.mean(), steps)
    w, x, y, z = observation["state.rotation"].astype(np.float64)[0]
    rot6d = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        *(2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
    ]
    return {
        **{f"action.{axis}": positions[:, i].astype(np.float32) for i, axis in enumerate("xyz")},
        "action.rotation": np.tile(rot6d, (HORIZON, 1)),
        "action.gripper": np.tile(observation["state.gripper"], (HORIZON, 1)),
    }


def spoil(kind: str, actions: np.ndarray) -> object:
    """Return actions in which something is wrong."""
    if kind == "nan":
        actions = actions.copy()
        actions[3, ..., -1] = np.nan
    if kind == "wide":
        actions = np.concatenate([np.atleast_2d(actions.T).T] * 3, axis=1)
    if kind == "long":
        actions = np.concatenate([actions] * 50)
    if kind == "flat":
        actions = actions.reshape(-1)
    if kind == "list":
        return actions.tolist()
    if kind == "complex":
        actions = actions.astype(np.complex128)
    if kind == "zero":
        actions = np.zeros_like(actions)
    return actions


def openpi_encode(value):
    if isinstance(value, np.ndarray):
        data, shape = value.tobytes(), value.shape
        return {b"__ndarray__": True, b"data": data, b"dtype": value.dtype.str, b"shape": shape}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def openpi_decode(found):
    if b"__ndarray__" in found:
        return np.ndarray(found[b"shape"], np.dtype(found[b"dtype"]), found[b"data"])
    return found


def openpi_answer(request: bytes) -> bytes | str:
    """Return the answer's frame."""
    observation = msgpack.unpackb(request, object_hook=openpi_decode)
    kind, _, detail = observation["prompt"].partition(" ")
    actions = openpi_actions(observation)
    array = openpi_encode(actions)
    answers = {
        "garbage": b"\xc1\xff not msgpack",
        "row": msgpack.packb([1, 2, 3]),
        "lacking": msgpack.packb({"state": 1.0}),
        "oversize": msgpack.packb({"actions": bytes(TOO_LONG)}),
        "object": msgpack.packb({"actions": {**array, b"dtype": "|O"}}),
        "structured": msgpack.packb({"actions": {**array, b"dtype": "f8,f8"}}),
        "short": msgpack.packb({"actions": {**array, b"data": array[b"data"][:-1]}}),
        "endless": msgpack.packb({"actions": {**array, b"shape": [-1, 2**62]}}),
        "scalar": msgpack.packb({"actions": {b"__npgeneric__": True, b"data": b"1"}}),
    }
    if kind == "wait":
        time.sleep(float(detail))
    if kind == "raise":
        return (
            "Traceback (most recent call last):\n"
            '  File "server.py", line 3, in infer\n'
            "    raise ValueError(\n    ^^^^^^^^^\n"
            "ValueError: state has 8 values,\nthe model reads \x1b[31m14\n"
        )
    if kind in answers:
        return answers[kind]
    timing = {"infer_ms": np.float32(1.5)}
    answer = {"actions": spoil(kind, actions), "server_timing": timing}
    return msgpack.packb({**answer, "received": describe(observation)}, default=openpi_encode)


def serve_openpi(port: int, token: str) -> None:
    """Serve until the process ends."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import serve

    def admit(connection, request):
        if token and request.headers.get("Authorization") != f"Api-Key {token}":
            return connection.respond(401, "no such key\n")
        return None

    def handle(connection):
        connection.send(msgpack.packb({"model": "pi0"}))
        try:
            while True:
                answer = openpi_answer(connection.recv())
                connection.send(answer)
                if isinstance(answer, str):
                    connection.close(1011)
        except ConnectionClosed:
            pass

    with serve(
        handle, "127.0.0.1", port, process_request=admit, compression=None, max_size=None
    ) as server:
        print("ready", server.socket.getsockname()[1], flush=True)
        server.serve_forever()


def groot_encode(value):
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def groot_decode(found):
    if "__ndarray_class__" in found:
        return np.load(io.BytesIO(found["as_npy"]), allow_pickle=False)
    return found


def npy(array: np.ndarray) -> dict:
    """Return an array of any dtype as it would be sent, pickled where it holds objects."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def npy_of_header(header: bytes) -> dict:
    """Return an npy file of a header and eight bytes."""
    length = len(header).to_bytes(2, "little")
    return {"__ndarray_class__": True, "as_npy": b"\x93NUMPY\x01\x00" + length + header + bytes(8)}


def groot_answer(request: bytes, token: str) -> bytes:
    """Return the answer's bytes; as the real server does, whatever is wrong becomes ``error``."""
    message = msgpack.unpackb(request, object_hook=groot_decode)
    if token and message.get("api_token") != token:
        return msgpack.packb({"error": "Unauthorized: Invalid API token"})
    if message["endpoint"] == "ping":
        return msgpack.packb({"status": "ok", "message": "Server is running"})
    observation = message["data"]
    kind, _, detail = observation["annotation.human.task_description"][0].partition(" ")
    if kind == "wait":
        time.sleep(float(detail))
    if kind == "raise":
        raise ValueError("state has 8 values,\nthe model reads \x1b[31m14")
    actions = groot_actions(observation)
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,)}\n" % 2**60
    spoiled = {
        "object": {"action.gripper": npy(np.array([[Pickled(detail)]] * HORIZON, object))},
        "header": {"action.gripper": npy_of_header(huge)},
        "broken": {"action.gripper": npy_of_header(b"{'descr': ((((")},
        "pickle": {"action.gripper": {"__ndarray_class__": True, "as_npy": b"\x80\x04N."}},
        "empty": {"action.gripper": {"__ndarray_class__": True}},
        "fortran": {"action.rotation": np.asfortranarray(actions["action.rotation"])},
        "uneven": {"action.x": actions["action.x"][:-1]},
    }
    answers = {
        "garbage": b"\xc1\xff not msgpack",
        "row": msgpack.packb([{}, {}]),
        "lacking": msgpack.packb({"action.x": 1.0}),
        "oversize": bytes(TOO_LONG),
    }
    if kind in answers:
        return answers[kind]
    actions = {**actions, **spoiled.get(kind, {})}
    if kind not in spoiled:
        key = "action.rotation" if kind == "zero" else "action.gripper"
        actions[key] = spoil(kind, actions[key])
    return msgpack.packb({**actions, "received": describe(observation)}, default=groot_encode)


def serve_groot(port: int, token: str) -> None:
    """Serve until the process ends."""
    import zmq

    socket = zmq.Context().socket(zmq.REP)
    socket.bind(f"tcp://127.0.0.1:{port or '*'}")
    print("ready", socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2], flush=True)
    while True:
        request = socket.recv()
        try:
            answer = groot_answer(request, token)
        except Exception as error:
            answer = msgpack.packb({"error": str(error)})
        socket.send(answer)


def end_with_parent() -> None:
    """Leave when whoever started this process is gone."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    servers = {"openpi": serve_openpi, "groot": serve_groot}
    servers[sys.argv[1]](int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
