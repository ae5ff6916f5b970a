"""The console's server over real sockets: who may what, and that nobody waits for a viewer."""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import pytest

pytest.importorskip("uvicorn", reason="CONSOLE NOT TESTED: uvicorn is not installed")

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from alt_ros.console import app as app_module
from alt_ros.console.app import ELSEWHERE, FULL, MOST_AHEAD, NEEDS_TOKEN, PAGE
from alt_ros.console.board import Board, DecisionReport, ExecutorReport, Picture
from alt_ros.console.server import (
    Answer,
    ConsoleConfig,
    ConsoleServer,
    new_token,
    page_address,
)
from alt_ros.errors import ConfigurationError, DependencyError

TOKEN = "0123456789abcdef"


@dataclass
class Console:
    """A server on a free port, and what it asked of the executor."""

    server: ConsoleServer
    board: Board
    asked: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def post(self, action: str, token: str | None = None, **headers) -> tuple[int, dict]:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(
            f"http://{self.address}/control/{action}", method="POST", headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=5.0) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def get(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5.0) as response:
                return response.status, response.read(), dict(response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), dict(error.headers)

    def watch(self, *names: str, **options) -> ClientConnection:
        offered = [Subprotocol(name) for name in ("alt", *names)]
        return connect(f"ws://{self.address}/live", subprotocols=offered, **options)

    def turned_away(self, *names: str, **options) -> int:
        """Return the code with which a viewer was sent away."""
        with self.watch(*names, **options) as viewer, pytest.raises(ConnectionClosed) as closed:
            viewer.recv(timeout=5.0)
        received = closed.value.rcvd
        assert received is not None
        return received.code


@contextmanager
def serving(**fields) -> Iterator[Console]:
    asked: list[str] = []

    async def control(action: str) -> Answer:
        asked.append(action)
        return {
            "stop": Answer(True, "stopped"),
            "arm": Answer(False, "no pose of the arm has come"),
            "hold": Answer(True, "holding"),
            "disarm": Answer(False, "disarm: no answer for 2 s", 504),
        }[action]

    board = Board(["wrist/image_raw"])
    server = ConsoleServer(board, control, ConsoleConfig(port=0, token=TOKEN, **fields))
    server.start()
    try:
        yield Console(server, board, asked)
    finally:
        server.close()


@pytest.fixture
def console() -> Iterator[Console]:
    with serving() as made:
        yield made


def decide(board: Board, frame: int) -> None:
    board.decision(DecisionReport(0, frame, 0.9, 0.5, 1.0, False, "cosine", ""))


def states(viewer: ClientConnection) -> Iterator[dict]:
    while True:
        message = viewer.recv(timeout=5.0)
        if isinstance(message, str):
            yield json.loads(message)
            viewer.send("seen")


def next_picture(viewer: ClientConnection) -> bytes:
    while isinstance(message := viewer.recv(timeout=5.0), str):
        viewer.send("seen")
    return message


def events(console: Console) -> list[str]:
    return [text for _, _, text in console.board.state(0, 0)[0]["events"]]


def test_anybody_may_stop(console):
    assert console.post("stop") == (200, {"success": True, "message": "stopped"})
    assert console.post("stop", "a wrong token")[0] == 200
    assert console.asked == ["stop", "stop"]
    assert events(console) == ["stop asked by 127.0.0.1: stopped"] * 2


@pytest.mark.parametrize("action", ["arm", "hold", "disarm"])
def test_without_the_token_nothing_else_is_done_and_the_attempt_is_logged(console, action):
    status, answer = console.post(action)
    assert (status, answer["success"]) == (403, False)
    assert answer["message"] == f"{action} refused: it needs the control token"
    assert console.post(action, TOKEN[:-1])[0] == 403
    assert console.post(action, "")[0] == 403
    assert console.post(action, Authorization=f"Basic {TOKEN}")[0] == 403
    assert console.asked == []
    assert events(console)[:2] == [
        f"{action} refused to 127.0.0.1: it needs the control token",
        f"{action} refused to 127.0.0.1: the control token is wrong",
    ]


def test_with_the_token_the_executor_is_asked_and_its_answer_is_passed_on(console):
    assert console.post("hold", TOKEN) == (200, {"success": True, "message": "holding"})
    assert console.post("arm", TOKEN) == (
        200,
        {"success": False, "message": "no pose of the arm has come"},
    )
    assert console.post("disarm", TOKEN)[0] == 504
    assert console.asked == ["hold", "arm", "disarm"]


def test_there_is_nothing_else_to_ask_for(console):
    status, answer = console.post("fly", TOKEN)
    assert status == 404
    assert "there are stop, arm, hold, disarm" in answer["message"]
    assert console.get("/control/stop")[0] == 405
    assert console.asked == []


def test_the_page_and_its_parts_come_with_a_policy_that_lets_nothing_else_in(console):
    for path in ("/", *(f"/page/{file.name}" for file in PAGE.iterdir())):
        status, body, headers = console.get(path)
        assert (status, bool(body)) == (200, True)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/page/none.js", "/page/..%2fserver.py", "/page/", "/server.py"])
def test_nothing_but_the_page_is_served(console, path):
    assert console.get(path)[0] == 404


def test_a_viewer_gets_the_history_and_then_what_is_new(console):
    decide(console.board, 1)
    with console.watch() as viewer:
        assert viewer.subprotocol == "alt"
        assert [d[6] for d in next(states(viewer))["decisions"]] == [1]
        decide(console.board, 2)
        new: list[int] = []
        while 2 not in new:
            new += [d[6] for d in next(states(viewer))["decisions"]]
        assert new == [2]


def test_pictures_come_with_what_they_are(console):
    with console.watch() as viewer:
        console.board.picture(Picture("wrist", 7, lambda: b"\xff\xd8 jpeg"))
        message = next_picture(viewer)
        (size,) = struct.unpack(">I", message[:4])
        assert json.loads(message[4 : 4 + size]) == {
            "picture": "live",
            "view": "wrist",
            "stamp": "7",
        }
        assert message[4 + size :] == b"\xff\xd8 jpeg"


def test_closed_viewing_wants_the_token():
    with serving(open_viewing=False) as console:
        assert console.turned_away() == NEEDS_TOKEN
        assert console.turned_away("token.wrong") == NEEDS_TOKEN
        with console.watch(f"token.{TOKEN}") as viewer:
            assert viewer.subprotocol == "alt"
            assert next(states(viewer))["type"] == "state"
        assert console.post("stop")[0] == 200


def test_another_sites_page_sees_nothing(console):
    assert console.turned_away(origin="http://elsewhere.example") == ELSEWHERE
    with console.watch(origin=f"http://{console.address}") as viewer:
        assert next(states(viewer))["type"] == "state"


def test_a_name_that_was_made_to_point_here_sees_nothing(console):
    request = (
        "GET /live HTTP/1.1\r\nHost: elsewhere.example\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", console.server.port), timeout=5.0) as raw:
        raw.sendall(request.encode())
        received, closing = b"", struct.pack(">BBH", 0x88, 2, ELSEWHERE)
        while not received.endswith(closing):
            chunk = raw.recv(4096)
            assert chunk, received
            received += chunk


def test_more_viewers_than_allowed_are_sent_away():
    with serving(most_viewers=1) as console, console.watch() as viewer:
        next(states(viewer))
        assert console.turned_away() == FULL


def test_a_viewer_that_has_gone_is_forgotten(console):
    with console.watch() as viewer:
        next(states(viewer))
        assert console.server.viewers == 1
    deadline = time.monotonic() + 5.0
    while console.server.viewers:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_viewer_that_does_not_read_gets_less_holds_nobody_up_and_is_sent_away(monkeypatch):
    monkeypatch.setattr(app_module, "SEND_SECONDS", 2.0)
    picture = b"\xff\xd8" + bytes(1_000_000)
    with serving(rate=50.0) as console, console.watch(max_queue=1) as asleep:
        asleep.recv(timeout=5.0)
        with console.watch(max_size=None) as awake:
            seen, deadline = 0, time.monotonic() + 20.0
            next(states(awake))
            assert console.server.viewers == 2
            while console.server.viewers == 2:
                assert time.monotonic() < deadline
                console.board.picture(Picture("wrist", seen + 1, lambda: picture))
                next_picture(awake)
                seen += 1
            assert seen > 20
            assert console.post("stop")[0] == 200


def test_a_slow_viewer_gets_less_but_nothing_old(console):
    """However much its socket would take: what it reads was made when it had read the last."""
    with console.watch(max_queue=None) as viewer:
        made, read = [], []
        for state in islice(states(viewer), 12):
            made.append(state["time"])
            read.append(time.time())
            time.sleep(0.2)
        assert all(at > before for at, before in zip(made[MOST_AHEAD:], read, strict=False))


def test_a_viewer_that_does_not_answer_is_sent_away(monkeypatch):
    monkeypatch.setattr(app_module, "SEND_SECONDS", 0.5)
    with serving(rate=50.0) as console, console.watch() as viewer:
        got: list[str | bytes] = []
        with pytest.raises(ConnectionClosed):
            got.extend(viewer)
        assert len(got) == MOST_AHEAD


def test_when_the_server_ends_its_viewers_know(console):
    with console.watch() as viewer:
        next(states(viewer))
        console.server.close()
        with pytest.raises(ConnectionClosed):
            list(states(viewer))


def test_a_server_that_was_closed_can_be_started_again(console):
    console.server.close()
    console.server.start()
    assert console.post("stop")[0] == 200


def test_a_port_that_is_taken_is_told(console):
    async def control(action: str) -> Answer:
        raise AssertionError(action)

    config = ConsoleConfig(port=console.server.port, token=TOKEN)
    with pytest.raises(ConfigurationError, match="cannot listen at 127.0.0.1 port .*'port'"):
        ConsoleServer(console.board, control, config).start()


def test_what_is_not_installed_is_told_with_its_remedy(console, monkeypatch):
    console.server.close()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(DependencyError, match="pip install starlette uvicorn websockets"):
        console.server.start()


@pytest.mark.parametrize("token", ["", "short", "fifteen letters", "sixteen ünïcödes"])
def test_a_token_that_could_be_guessed_is_refused(token):
    with pytest.raises(ConfigurationError, match="control token must have 16 ASCII characters"):
        ConsoleConfig(token=token)


def test_a_new_token_is_a_good_one_and_never_the_same():
    assert ConsoleConfig(token=new_token()).token != new_token()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_loopback_is_known(host, expected):
    assert ConsoleConfig(host=host, token=TOKEN).is_loopback is expected


def test_the_address_holds_the_token_where_no_server_sees_it():
    assert page_address("127.0.0.1", 8050) == "http://127.0.0.1:8050/"
    assert page_address("::1", 80, "t") == "http://[::1]:80/#token=t"
    assert page_address("0.0.0.0", 80) == f"http://{socket.gethostname()}:80/"


def test_the_executors_report_reaches_the_viewer(console):
    console.board.executor(ExecutorReport("fault", "no pose", 1, 2, 3, 4.0, 5.0, 6.0))
    with console.watch() as viewer:
        executor = next(states(viewer))["executor"]
    assert (executor["state"], executor["reason"]) == ("fault", "no pose")
