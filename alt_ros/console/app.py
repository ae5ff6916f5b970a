"""What the console's server answers: the page, the feed of a viewer, and requests.

``stop`` is anybody's; ``arm``, ``hold`` and ``disarm`` want the control token. Each viewer has a
task of its own that sends the latest when the viewer has answered to what was sent before: a slow
one gets less, no older, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import struct
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from alt_ros.console.board import Board, Viewer
from alt_ros.console.server import (
    ACTIONS,
    SEND_SECONDS,
    Answer,
    ConsoleConfig,
    Control,
    is_loopback,
)

PAGE = Path(__file__).with_name("page")
MOST_AHEAD = 2
"""States that a viewer may not have answered to: one on its way there, one on its way back."""
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


class ConsoleApp:
    """Answers requests and feeds viewers.

    Args:
        board: What is shown.
        control: How the executor is asked.
        config: Who may what, and how often.

    Attributes:
        viewers: How many pages are being served.
        asgi: The application for a server.
    """

    def __init__(self, board: Board, control: Control, config: ConsoleConfig) -> None:
        self.viewers = 0
        self._board, self._control, self._config = board, control, config
        self.asgi = Starlette(
            routes=[
                Route("/", self._index),
                Route("/page/{name}", self._file),
                Route("/control/{action}", self._act, methods=["POST"]),
                WebSocketRoute("/live", self._live),
            ]
        )

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
        self.viewers += 1
        may_send = asyncio.Semaphore(MOST_AHEAD)
        both = self._feed(websocket, may_send), _listen(websocket, may_send)
        tasks = [asyncio.ensure_future(task) for task in both]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.viewers -= 1

    def _unwelcome(self, websocket: WebSocket, offered: list[str]) -> int:
        """Return the code that a viewer is sent away with, 0 for a welcome one."""
        host = websocket.headers.get("host", "")
        origin = websocket.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return ELSEWHERE  # another site's page, in a browser that can reach us
        if self._config.is_loopback and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return ELSEWHERE  # a name that somebody else lets point here
        tokens = [name[6:] for name in offered if name.startswith("token.")]
        if not self._config.open_viewing and not any(map(self._is_token, tokens)):
            return NEEDS_TOKEN
        return FULL if self.viewers >= self._config.most_viewers else 0

    async def _feed(self, websocket: WebSocket, may_send: asyncio.Semaphore) -> None:
        viewer, period = Viewer(self._board), 1.0 / self._config.rate
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError, asyncio.TimeoutError):
            while True:
                await asyncio.wait_for(may_send.acquire(), SEND_SECONDS)
                text = json.dumps(viewer.state(), allow_nan=False)
                await asyncio.wait_for(websocket.send_text(text), SEND_SECONDS)
                for shown in viewer.pictures():
                    header = json.dumps(shown.header).encode()
                    data = struct.pack(">I", len(header)) + header + shown.jpeg
                    await asyncio.wait_for(websocket.send_bytes(data), SEND_SECONDS)
                await asyncio.sleep(period)


async def _listen(websocket: WebSocket, may_send: asyncio.Semaphore) -> None:
    """Return when a viewer has gone; until then it says which states it has got."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        may_send.release()


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"
