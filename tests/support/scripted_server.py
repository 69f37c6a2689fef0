"""A gRPC server that does as a test says, connection by connection, on a real socket.

What a call gets is said by its path: `/echo` gives the request back, `/hang` nothing, `/close` ends the
connection, `/goaway` says goodbye before it answers.
"""

import asyncio
from types import TracebackType
from typing import Self

from coordd.http2 import frames, hpack
from coordd.http2.link import Link
from coordd.http2.messages import frame_message
from coordd.http2.owner import Field, Side

HOST = "127.0.0.1"
_HEADER_FIELDS = ((":status", "200"), ("content-type", "application/grpc"))
_HEADERS = hpack.encode(_HEADER_FIELDS)
_OK = hpack.encode([("grpc-status", "0")])


class ScriptedServer:
    """Listens from `__aenter__`. Attributes: `connections`: those that it has accepted, in order."""

    def __init__(self, *, max_streams: int | None = None, port: int = 0) -> None:
        self.connections: list[ScriptedConnection] = []
        self.port = port
        self._max_streams = max_streams

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def open_connections(self) -> int:
        return sum(not one.lost_ for one in self.connections)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for one in self.connections:
            one.link.abort()
        await asyncio.sleep(0)

    def _accept(self) -> Link:
        made = ScriptedConnection()
        made.link = Link(lambda _link: made, Side.SERVER, max_streams=self._max_streams)
        self.connections.append(made)
        return made.link


class ScriptedConnection:
    """Owner of one connection. `paths`, `bodies`, `headers_of`, `resets`: by stream."""

    link: Link

    def __init__(self) -> None:
        self.paths: dict[int, str] = {}
        self.headers_of: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.lost_ = False

    def answer(self, stream: int, body: bytes | None = None) -> None:
        """Answer with this message, by default give the request back."""
        self.link.core.send_headers(stream, _HEADERS)
        self.link.core.send_last(stream, self.bodies[stream] if body is None else frame_message(body), _OK)
        self.link.flush_soon()

    def fail(self, stream: int, code: int, message: str) -> None:
        """Answer with a gRPC status."""
        status = [("grpc-status", str(code)), ("grpc-message", message)]
        self.link.core.send_headers(stream, hpack.encode([*_HEADER_FIELDS, *status]), end=True)
        self.link.flush_soon()

    def headers(self, stream: int, headers: list[Field], ended: bool) -> None:
        self.headers_of[stream] = dict(headers)
        self.paths[stream] = self.headers_of[stream][":path"]
        self.bodies[stream] = b""

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        self.bodies[stream] += data
        if not ended:
            return
        match self.paths[stream]:
            case "/echo":
                self.answer(stream)
            case "/close":
                self.link.abort()
            case "/goaway":
                self.link.core.goaway(frames.NO_ERROR)
                self.answer(stream)
            case _:
                pass

    def reset(self, stream: int, code: int) -> None:
        self.resets[stream] = code

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        pass

    def pong(self, payload: bytes) -> None:
        pass

    def settled(self) -> None:
        pass

    def lost(self, error: Exception | None) -> None:
        self.lost_ = True
