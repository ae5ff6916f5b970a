import os
import re
import signal
import socket
import sys
import threading
import time
from contextlib import closing

import msgpack
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from remote_servers import ServerProcess, openpi_decode, openpi_encode

from alt_ros.errors import DataError, DependencyError
from alt_ros.policies.openpi_client import (
    MAX_MESSAGE,
    OpenpiClient,
    failed,
    one_line,
    plain_array,
    unpack,
)

NUMBERS = st.sampled_from(["|b1", "|u1", "<i2", "<i8", "<f2", "<f4", "<f8", ">f4"])


@pytest.fixture(scope="module")
def server():
    with ServerProcess("openpi") as process:
        yield process


def client_of(server, *, timeout=5.0, token=""):
    client = OpenpiClient(
        "127.0.0.1", server.port, connect_timeout=5.0, request_timeout=timeout, token=token
    )
    return closing(client)


@pytest.fixture
def client(server):
    with client_of(server) as client:
        yield client


def observation(prompt="go", size=8):
    return {
        "observation/image": np.full((size, size, 3), 10, np.uint8),
        "observation/wrist_image": np.full((size, size, 3), 20, np.uint8),
        "observation/state": np.array([1, 2, 3, 0, 0, 0, 0.02, -0.02], np.float32),
        "prompt": prompt,
    }


def error_of(client, prompt, **options):
    """Return the one line that a request fails with."""
    with pytest.raises(DataError) as caught:
        client.infer(observation(prompt, **options))
    line = str(caught.value)
    assert line.startswith(client.name)
    assert line.isprintable()  # neither a second line nor a terminal's escape codes
    assert len(line) < 600
    return line


def test_an_observation_arrives_with_its_dtypes_and_shapes_and_actions_come_back(client):
    answer = client.infer(observation())
    assert answer["received"] == {
        "observation/image": "|u1 (8, 8, 3)",
        "observation/wrist_image": "|u1 (8, 8, 3)",
        "observation/state": "<f4 (8,)",
        "prompt": "go",
    }
    assert answer["server_timing"] == {"infer_ms": 1.5}
    assert answer["actions"].shape == (5, 7)
    assert answer["actions"][0] == pytest.approx([1.0, 2.01, 3.02, 0, 0, 0, 0.04])


@given(array=numpy_strategies.arrays(NUMBERS, st.sampled_from([(), (3,), (2, 1, 4)])))
def test_every_array_of_numbers_survives_the_way(array):
    sent = openpi_encode(array)
    back = plain_array(sent[b"data"], sent[b"dtype"], list(sent[b"shape"]), "server")
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    assert back.shape == array.shape == openpi_decode(sent).shape


@given(message=st.binary(max_size=200))
def test_bytes_that_are_no_map_are_one_error(message):
    try:
        content = msgpack.unpackb(message)
    except Exception:
        content = None
    assume(not isinstance(content, dict))
    with pytest.raises(DataError) as caught:
        unpack(message, lambda found: found, "server")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("garbage", "must answer in msgpack"),
        ("row", "must answer with a map from names, got list"),
        ("oversize", "message too big"),
        ("object", r"got dtype '\|O'"),
        ("complex", "got dtype '<c16'"),
        ("structured", "got dtype 'f8,f8'"),
        ("short", r"got shape \[5, 7\] and 279 bytes"),
        ("endless", r"got shape \[-1, 4611686018427387904\]"),
        ("scalar", "NumPy scalar must be a number, got bytes"),
        ("raise", "failed with 'ValueError: state has 8 values, the model reads ?"),
    ],
)
def test_a_wrong_answer_is_one_line_and_the_next_request_is_answered(client, prompt, words):
    assert re.search(words, error_of(client, prompt))
    assert "actions" in client.infer(observation())


def test_an_answer_longer_than_the_limit_is_refused_before_it_is_read():
    with pytest.raises(DataError, match=f"at most {MAX_MESSAGE} bytes, got {MAX_MESSAGE + 1}"):
        unpack(bytes(MAX_MESSAGE + 1), lambda found: found, "server")


def test_a_late_answer_is_an_error_and_is_not_taken_for_the_next_one(server):
    with client_of(server, timeout=0.3) as client:
        client.connect()
        before = time.monotonic()
        assert "within 0.3 s" in error_of(client, "wait 0.6")
        assert time.monotonic() - before < 0.55
        time.sleep(0.5)
        assert client.infer(observation("next"))["received"]["prompt"] == "next"


def test_a_server_that_stops_reading_does_not_hold_the_request():
    with ServerProcess("openpi") as server, client_of(server, timeout=0.5) as client:
        client.connect()
        os.kill(server.process.pid, signal.SIGSTOP)
        before = time.monotonic()
        line = error_of(client, "go", size=2500)  # more than the kernel keeps
        assert "within 0.5 s" in line
        assert time.monotonic() - before < 2.5


def test_a_killed_server_is_one_error_until_it_is_back():
    with ServerProcess("openpi") as server, client_of(server) as client:
        client.infer(observation())
        server.kill()
        assert "closed the connection" in error_of(client, "go")
        assert "start it, or correct host" in error_of(client, "go")
        server.start()
        assert "actions" in client.infer(observation())


def test_a_server_killed_while_it_infers_is_an_error_at_once():
    with ServerProcess("openpi") as server, client_of(server) as client:
        client.connect()
        threading.Timer(0.3, server.process.kill).start()
        before = time.monotonic()
        assert "closed the connection" in error_of(client, "wait 5")
        assert time.monotonic() - before < 2.0


def test_a_server_that_never_greets_is_an_error_in_time():
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        client = OpenpiClient(
            "127.0.0.1", silent.getsockname()[1], connect_timeout=0.3, request_timeout=5.0
        )
        before = time.monotonic()
        assert "within 0.3 s" in error_of(client, "go")
        assert time.monotonic() - before < 2.0


def test_a_server_of_another_protocol_is_named_as_such():
    with ServerProcess("groot") as other:
        client = OpenpiClient("127.0.0.1", other.port, connect_timeout=0.3, request_timeout=5.0)
        assert "correct host, port and token" in error_of(client, "go")


def test_the_key_opens_a_server_that_asks_for_one():
    with ServerProcess("openpi", token="secret") as server:
        with client_of(server, token="secret") as client:
            assert "actions" in client.infer(observation())
        with client_of(server, token="guess") as client:
            line = error_of(client, "go")
            assert "401" in line
            assert "guess" not in line


def test_a_closed_client_connects_again(client):
    client.infer(observation())
    client.close()
    client.close()
    assert "actions" in client.infer(observation())


def test_without_its_library_the_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets.sync.client", None)
    with pytest.raises(DependencyError, match="'websockets': pip install .*msgpack"):
        OpenpiClient("127.0.0.1", 1, connect_timeout=1.0, request_timeout=1.0)


def test_what_is_no_array_or_text_is_not_sent(client):
    with pytest.raises(TypeError, match="arrays and text, got object"):
        client.infer({"state": object()})


@given(st.text())
def test_a_servers_words_fit_on_one_line(text):
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 300
    assert failed("server", text).isprintable()
