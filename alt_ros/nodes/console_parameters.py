"""The console node's parameters."""

from __future__ import annotations

from dataclasses import dataclass

from alt_ros.nodes.parameters import parameter

TOKEN_VARIABLE = "ALT_CONSOLE_TOKEN"
"""Environment variable with the control token: parameters can be read by everybody."""


@dataclass(frozen=True)
class ConsoleParameters:
    """Parameters of console."""

    host: str = parameter("127.0.0.1", "Address to listen at: loopback is this computer only")
    port: int = parameter(8050, "Port; 0 takes a free one", low=0, high=65535)
    open_viewing: bool = parameter(
        True, "Show the page to whoever reaches it; false: to who has the control token"
    )
    views: tuple[str, ...] = parameter(
        ("wrist", "third_person"), "Names of the views; their images come on <view>/image_raw"
    )
    compressed: bool = parameter(False, "Images come on <view>/image_raw/compressed")
    bundle: str = parameter(
        "", "Folder of the bundle: pictures of what is recalled come from the store beside it"
    )
    store: str = parameter("", "The demonstrations' store, where it is not beside the bundle")
    rate: float = parameter(
        15.0, "Messages a second to a viewer that keeps up", unit="Hz", low=1.0, high=60.0
    )
