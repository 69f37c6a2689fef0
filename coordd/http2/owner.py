"""Who uses a connection, and what may come of it."""

from enum import Enum
from typing import Protocol

Field = tuple[str, str]
"""Name, in lower case, and value of a header; latin-1 text."""


class Side(Enum):
    """Which end of the connection we are."""

    CLIENT = "client"
    SERVER = "server"


class Http2Error(Exception):
    """The connection is broken; `code` is HTTP/2's, `text` is for people."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class StreamsExhausted(Exception):
    """The connection has no numbers left for new streams."""


class Owner(Protocol):
    """Is told from within `feed()`; may give orders from there, but must not raise, nor call `feed()`."""

    def headers(self, stream: int, headers: list[Field], ended: bool, /) -> None:
        """Headers or trailers. `ended`: nothing more comes. Leave the list as it is: it may come again."""

    def data(self, stream: int, data: bytes, ended: bool, /) -> None:
        """Some data, perhaps none. `ended`: nothing more comes."""

    def reset(self, stream: int, code: int, /) -> None:
        """The stream has ended by RST_STREAM, by an error of the peer, or by GOAWAY (REFUSED_STREAM)."""

    def goaway(self, last_stream: int, code: int, text: bytes, /) -> None:
        """The peer takes no new streams. Of ours, those above `last_stream` are reset right after this."""

    def pong(self, payload: bytes, /) -> None:
        """The answer to a `ping()`."""

    def settled(self) -> None:
        """The peer's settings have arrived: its first ones, or later others (it may take more streams)."""
