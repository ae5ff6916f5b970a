import io
import re
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from remote_servers import ServerProcess

from alt_ros.errors import DataError, DependencyError
from alt_ros.policies.groot_client import GrootClient


@pytest.fixture(scope="module")
def server():
    with ServerProcess("groot") as process:
        yield process


def client_of(server, *, timeout=5.0, connect_timeout=5.0, token=""):
    client = GrootClient(
        "127.0.0.1",
        server.port,
        connect_timeout=connect_timeout,
        request_timeout=timeout,
        token=token,
    )
    return closing(client)


@pytest.fixture
def client(server):
    with client_of(server) as client:
        yield client


def observation(prompt="go"):
    state = {"x": [1], "y": [2], "z": [3], "rotation": [1, 0, 0, 0], "gripper": [0.04]}
    return {
        "video.front": np.full((8, 8, 3), 10, np.uint8),
        "video.wrist": np.full((8, 8, 3), 20, np.uint8),
        **{f"state.{name}": np.array(values, np.float32) for name, values in state.items()},
        "annotation.human.task_description": prompt,
    }


def error_of(client, prompt):
    """Return the one line that a request fails with."""
    with pytest.raises(DataError) as caught:
        client.infer(observation(prompt))
    line = str(caught.value)
    assert line.startswith(client.name)
    assert line.isprintable()
    assert len(line) < 600
    return line


def test_an_observation_arrives_with_its_time_axis_and_actions_come_back(client):
    answer = client.infer(observation())
    received = answer["received"]
    assert received["video.front"] == received["video.wrist"] == "|u1 (1, 8, 8, 3)"
    assert received["state.x"] == "<f4 (1, 1)"
    assert received["state.rotation"] == "<f4 (1, 4)"
    assert received["annotation.human.task_description"] == ["go"]
    assert answer["action.x"] == pytest.approx([1.0, 1.01, 1.02, 1.03, 1.04])
    assert answer["action.rotation"][4].tolist() == [1, 0, 0, 0, 1, 0]
    assert answer["action.gripper"].shape == (5, 1)


def test_an_array_in_columns_keeps_its_places(client):
    straight = client.infer(observation())["action.rotation"]
    assert np.array_equal(client.infer(observation("fortran"))["action.rotation"], straight)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("garbage", "must answer in msgpack"),
        ("row", "must answer with a map from names, got list"),
        ("oversize", "at most 16777216 bytes, the connection closed before that"),
        ("complex", "got dtype '<c16'"),
        ("header", r"got shape \(1152921504606846976,\) and 8 bytes"),
        ("broken", "must be an npy file of version 1 or 2"),
        ("pickle", "must be an npy file of version 1 or 2"),
        ("empty", "must be an npy file of version 1 or 2"),
        ("raise", "failed with 'state has 8 values, the model reads ?"),
    ],
)
def test_a_wrong_answer_is_one_line_and_the_next_request_is_answered(client, prompt, words):
    assert re.search(words, error_of(client, prompt))
    assert "action.x" in client.infer(observation())


def test_a_pickle_is_refused_and_not_run(client, tmp_path):
    marker = tmp_path / "ran"
    assert r"got dtype '|O'" in error_of(client, f"object {marker}")
    assert not marker.exists()


def test_the_pickle_of_that_test_does_run_where_pickles_are_read(tmp_path):
    from remote_servers import Pickled, npy

    marker = tmp_path / "ran"
    file = npy(np.array([Pickled(str(marker))], object))["as_npy"]
    np.load(io.BytesIO(file), allow_pickle=True)
    assert marker.exists()


def test_a_late_answer_is_an_error_and_is_not_taken_for_the_next_one(server):
    with client_of(server, timeout=0.3) as client:
        client.connect()
        before = time.monotonic()
        assert "within 0.3 s" in error_of(client, "wait 0.6")
        assert time.monotonic() - before < 0.55
        answer = client.infer(observation("next"))  # its ping waits for the server
        assert answer["received"]["annotation.human.task_description"] == ["next"]


def test_a_server_that_is_not_there_is_an_error_in_time():
    with ServerProcess("groot") as server:
        server.kill()
        with client_of(server, connect_timeout=0.3) as client:
            before = time.monotonic()
            assert "answer a ping within 0.3 s" in error_of(client, "go")
            assert time.monotonic() - before < 1.0


def test_a_server_killed_while_it_infers_is_an_error_at_once_until_it_is_back():
    with ServerProcess("groot") as server, client_of(server, connect_timeout=0.5) as client:
        client.connect()
        threading.Timer(0.3, server.process.kill).start()
        before = time.monotonic()
        assert "the connection closed before that" in error_of(client, "wait 5")
        assert time.monotonic() - before < 2.0
        server.kill()  # waits for its end
        assert "answer a ping within 0.5 s" in error_of(client, "go")
        server.start()
        assert "action.x" in client.infer(observation())


def test_a_server_that_restarted_between_requests_is_asked_anew():
    with ServerProcess("groot") as server, client_of(server) as client:
        client.infer(observation())
        server.kill()
        server.start()
        assert "action.x" in client.infer(observation())


def test_the_token_opens_a_server_that_asks_for_one():
    with ServerProcess("groot", token="secret") as server:
        with client_of(server, token="secret") as client:
            assert "action.x" in client.infer(observation())
        with client_of(server, token="guess") as client:
            line = error_of(client, "go")
            assert "Unauthorized" in line
            assert "guess" not in line


def test_an_address_that_is_none_is_an_error():
    client = GrootClient("no such host", 1, connect_timeout=0.2, request_timeout=0.2)
    assert "correct host and port" in error_of(client, "go")


def test_without_its_library_the_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "zmq", None)
    with pytest.raises(DependencyError, match="'zmq': pip install .*pyzmq"):
        GrootClient("127.0.0.1", 1, connect_timeout=1.0, request_timeout=1.0)
