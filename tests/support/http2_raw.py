"""A peer that writes HTTP/2 frames by hand over a real socket, for tests of what misbehaving peers get."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.support.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    Frame,
    block,
    frame,
    settings,
    split_frames,
)

HOST = "127.0.0.1"


class Raw:
    """One connection, either way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._rest = b""
        self._next: deque[Frame] = deque()

    def write(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def push(self, octets: bytes) -> bool:
        """Write and wait until the other side takes it; False when it has gone."""
        try:
            self.writer.write(octets)
            await self.writer.drain()
        except ConnectionError:
            return False
        return not self.writer.is_closing()

    async def frames(self) -> list[Frame]:
        """Some frames; none when the other side has closed."""
        while not self._next:
            octets = b""
            with contextlib.suppress(ConnectionError):
                octets = await self.reader.read(1 << 20)
            if not octets:
                break
            found, self._rest = split_frames((self._rest + octets).removeprefix(PREFACE))
            self._next += found
        found = list(self._next)
        self._next.clear()
        return found

    async def until(self, wanted: Callable[[Frame], bool], limit_s: float = 10.0) -> Frame:
        """The first frame that is wanted; what comes before it is dropped."""
        seen: list[Frame] = []
        async with asyncio.timeout(limit_s):
            while found := await self.frames():
                for at, one in enumerate(found):
                    if wanted(one):
                        self._next += found[at + 1 :]
                        return one
                seen += found
        raise AssertionError(f"the other side closed; it had sent {seen[-20:]}")

    async def ended(self, limit_s: float = 10.0) -> list[Frame]:
        """All that comes until the other side closes."""
        seen: list[Frame] = []
        async with asyncio.timeout(limit_s):
            while found := await self.frames():
                seen += found
        return seen

    def abort(self) -> None:
        """End it with a reset, as when the process was killed with data unread."""
        opened = self.writer.get_extra_info("socket")
        if opened is None or opened.fileno() < 0:
            return  # the other side was faster
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def dialled(port: int) -> AsyncIterator[Raw]:
    """A connection to a server, nothing said yet."""
    raw = Raw(*await asyncio.open_connection(HOST, port, limit=1 << 24))
    try:
        yield raw
    finally:
        await raw.close()


@contextlib.asynccontextmanager
async def greeted(port: int, values: dict[int, int] | None = None) -> AsyncIterator[Raw]:
    """A connection to a server, both greetings exchanged."""
    async with dialled(port) as raw:
        raw.write(PREFACE + settings(values))
        await raw.until(lambda one: one.kind == SETTINGS and not one.flags & ACK)
        raw.write(frame(SETTINGS, ACK))
        yield raw


@contextlib.asynccontextmanager
async def raw_server(serve: Callable[[Raw], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that does `serve` with each connection; yields its port."""

    handlers: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        raw = Raw(reader, writer)
        # The client has gone, or the test is over.
        with contextlib.suppress(ConnectionError, AssertionError, asyncio.CancelledError):
            await serve(raw)
        await raw.close()

    server = await asyncio.start_server(connected, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        if handlers:
            await asyncio.wait(handlers)


def message(body: bytes, *, compressed: int = 0) -> bytes:
    """A gRPC message in its frame."""
    return struct.pack(">BI", compressed, len(body)) + body


def headers_of(path: str, *more: tuple[str, str]) -> bytes:
    """The header block of a call."""
    return block(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *more,
        ]
    )


def call(stream: int, path: str, body: bytes = b"") -> bytes:
    """The frames of a small call."""
    return frame(HEADERS, END_HEADERS, stream, headers_of(path)) + frame(
        DATA, END_STREAM, stream, message(body)
    )


def is_goaway(one: Frame) -> bool:
    return one.kind == GOAWAY


def is_pong(one: Frame) -> bool:
    return one.kind == PING and bool(one.flags & ACK)
