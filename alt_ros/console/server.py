"""The console's web server: a thread that serves one page, its feed and what may be asked for."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from alt_ros.console.board import Board
from alt_ros.errors import ConfigurationError, DependencyError

if TYPE_CHECKING:
    import uvicorn

    from alt_ros.console.app import ConsoleApp

ACTIONS = ("stop", "arm", "hold", "disarm")
LEAST_TOKEN = 16
SEND_SECONDS = 10.0
"""A viewer that takes or answers nothing for so long is sent away."""


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
        return is_loopback(self.host)


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
        self._app: ConsoleApp | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def viewers(self) -> int:
        """How many pages are being served."""
        return 0 if self._app is None else self._app.viewers

    def start(self) -> None:
        """Listen, and serve.

        Raises:
            ConfigurationError: The address cannot be had.
            DependencyError: What serves it is not installed.
        """
        try:
            import uvicorn

            from alt_ros.console.app import ConsoleApp
        except ImportError as error:
            raise DependencyError(
                f"the console needs starlette, uvicorn and websockets ({error}): "
                "pip install starlette uvicorn websockets"
            ) from error
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
        self._app = ConsoleApp(self._board, self._control, config)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app.asgi,
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


def is_loopback(host: str) -> bool:
    """Return whether an address is this computer's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
