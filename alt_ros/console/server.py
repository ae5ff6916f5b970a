"""The console's web server: one page, one feed of what is shown, and four things to ask for.

``stop`` is anybody's; ``arm``, ``hold`` and ``disarm`` want the control token. Each viewer has a
task of its own that sends the latest when the last has gone out: a slow one gets less, and nobody
waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import secrets
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from alt_ros.console.board import Board, Viewer
from alt_ros.errors import ConfigurationError

PAGE = Path(__file__).with_name("page")
ACTIONS = ("stop", "arm", "hold", "disarm")
LEAST_TOKEN = 16
SEND_SECONDS = 10.0
"""A viewer that takes nothing for so long is sent away."""
NEEDS_TOKEN, ELSEWHERE, FULL = 4403, 4400, 1013
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Answer(NamedTuple):
    """What came of a request: whether it was done, why or why not, and the HTTP status."""

    success: bool
    message: str
    status: int = 200


Control = Callable[[str], Awaitable[Answer]]
"""Asks the executor for one of ``ACTIONS``; raises nothing."""


@dataclass(frozen=True)
class ConsoleConfig:
    """How the page is served.

    Attributes:
        host: Address to listen at; loopback can be reached from this computer only.
        port: 0 takes a free one.
        token: Who knows it may arm, hold and disarm.
        open_viewing: Show the page's contents without the token.
        rate: Messages a second to a viewer that keeps up.
        most_viewers: More are sent away.
    """

    host: str = "127.0.0.1"
    port: int = 8050
    token: str = ""
    open_viewing: bool = True
    rate: float = 15.0
    most_viewers: int = 64

    def __post_init__(self) -> None:
        if len(self.token) < LEAST_TOKEN or not self.token.isascii():
            raise ConfigurationError(
                f"console: the control token must have {LEAST_TOKEN} ASCII characters or more, "
                f"got {len(self.token)}"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this computer can reach the page."""
        return _is_loopback(self.host)


def new_token() -> str:
    """Return a control token that nobody can guess."""
    return secrets.token_urlsafe(18)


def page_address(host: str, port: int, token: str = "") -> str:
    """Return the page's address, with the token where a browser keeps it to itself."""
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"#token={token}" if token else "")


class ConsoleServer:
    """Serves a board from a thread of its own.

    Args:
        board: What is shown.
        control: How the executor is asked.
        config: How it is served.

    Attributes:
        port: Where it listens, once started.
    """

    def __init__(self, board: Board, control: Control, config: ConsoleConfig) -> None:
        self.port = config.port
        self._board, self._control, self._config = board, control, config
        self._viewers = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def viewers(self) -> int:
        """How many pages are being served."""
        return self._viewers

    def start(self) -> None:
        """Listen, and serve.

        Raises:
            ConfigurationError: The address cannot be had.
        """
        config = self._config
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # what a viewer never reads is thrown away
            timeout = round(1e3 * SEND_SECONDS)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)
        try:
            listener.bind((config.host, config.port))
            listener.listen()  # who comes before the thread is up waits
        except (OSError, OverflowError) as error:
            listener.close()
            raise ConfigurationError(
                f"console: cannot listen at {config.host} port {config.port}: {error}; choose "
                "another with the parameters 'host' and 'port'"
            ) from error
        self.port = int(listener.getsockname()[1])
        app = Starlette(
            routes=[
                Route("/", self._index),
                Route("/page/{name}", self._file),
                Route("/control/{action}", self._act, methods=["POST"]),
                WebSocketRoute("/live", self._live),
            ]
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                ws="websockets-sansio",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                ws_max_size=4096,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="console", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End; the pages say that they have no connection."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=5.0)
        self._server = self._thread = None

    async def _index(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers=_SECURITY)

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in {path.name for path in PAGE.iterdir()}:
            return Response(status_code=404)
        return FileResponse(PAGE / name, headers=_SECURITY)

    async def _act(self, request: Request) -> Response:
        action, who = request.path_params["action"], _client(request)
        if action not in ACTIONS:
            answer = Answer(False, f"there is no '{action}', there are {', '.join(ACTIONS)}", 404)
        elif action != "stop" and (wrong := self._wrong_token(request.headers)):
            self._board.event("warning", f"{action} refused to {who}: {wrong}")
            answer = Answer(False, f"{action} refused: {wrong}", 403)
        else:
            answer = await self._control(action)
            level = "info" if answer.success else "warning"
            self._board.event(level, f"{action} asked by {who}: {answer.message}")
        return JSONResponse(
            {"success": answer.success, "message": answer.message},
            answer.status,
            headers=_SECURITY,
        )

    def _wrong_token(self, headers: Mapping[str, str]) -> str:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return "it needs the control token"
        return "" if self._is_token(token.strip()) else "the control token is wrong"

    def _is_token(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._config.token.encode())

    async def _live(self, websocket: WebSocket) -> None:
        offered = list(websocket.scope["subprotocols"])
        await websocket.accept(subprotocol="alt" if "alt" in offered else None)
        reason = self._unwelcome(websocket, offered)
        if reason:
            await websocket.close(reason)
            return
        self._viewers += 1
        tasks = [asyncio.ensure_future(t) for t in (self._feed(websocket), _leave(websocket))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._viewers -= 1

    def _unwelcome(self, websocket: WebSocket, offered: list[str]) -> int:
        """Return the code that a viewer is sent away with, 0 for a welcome one."""
        host = websocket.headers.get("host", "")
        origin = websocket.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return ELSEWHERE  # another site's page, in a browser that can reach us
        if self._config.is_loopback and not _is_loopback(urlsplit(f"//{host}").hostname or ""):
            return ELSEWHERE  # a name that somebody else lets point here
        tokens = [name[6:] for name in offered if name.startswith("token.")]
        if not self._config.open_viewing and not any(map(self._is_token, tokens)):
            return NEEDS_TOKEN
        return FULL if self._viewers >= self._config.most_viewers else 0

    async def _feed(self, websocket: WebSocket) -> None:
        viewer, period = Viewer(self._board), 1.0 / self._config.rate
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError, asyncio.TimeoutError):
            while True:
                text = json.dumps(viewer.state(), allow_nan=False)
                await asyncio.wait_for(websocket.send_text(text), SEND_SECONDS)
                for shown in viewer.pictures():
                    header = json.dumps(shown.header).encode()
                    data = struct.pack(">I", len(header)) + header + shown.jpeg
                    await asyncio.wait_for(websocket.send_bytes(data), SEND_SECONDS)
                await asyncio.sleep(period)


async def _leave(websocket: WebSocket) -> None:
    """Return when a viewer has gone; it has nothing to say."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"
