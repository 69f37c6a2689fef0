"""A TCP proxy on loopback that does to a connection what networks do: cut, stall, swallow, delay, refuse."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self


class TcpProxy:
    """Forwards connections on `port` to `target` ("host:port").

    Faults, each switchable at any time: `stall_up` / `stall_down` hold the bytes of one direction back (and
    so a "partition" is both); `swallow_down` throws answers away; `delay_s` adds latency to both directions;
    `refuse()` closes the listener (connect fails with RST), `accept()` opens it again; `cut()` resets all
    connections. `accepted` counts connections, `bytes_down` what was passed on to clients.
    """

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: speak TLS to clients (and plain TCP to the target)."""
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self.port = 0
        self.swallow_down = False
        self.delay_s = 0.0
        self.accepted = 0
        self.bytes_down = 0
        self._up_open = asyncio.Event()
        self._up_open.set()
        self._down_open = asyncio.Event()
        self._down_open.set()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._handlers = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        self.heal()
        while self._handlers:
            self.cut()
            await asyncio.sleep(0)

    async def accept(self) -> None:
        """Listen (again, on the same port)."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Stop listening; open connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """Reset all open connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    def partition(self) -> None:
        """Both directions go silent; connections stay open, new ones are accepted and stay silent."""
        self._up_open.clear()
        self._down_open.clear()

    def stall_down(self) -> None:
        """Answers are held back until `heal()`."""
        self._down_open.clear()

    def heal(self) -> None:
        """Let held bytes through."""
        self._up_open.set()
        self._down_open.set()
        self.swallow_down = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._handlers += 1
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            self._handlers -= 1
            return
        pair = (writer, up_writer)
        self._writers.update(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, up_writer, up=True), name="proxy-up")
                group.create_task(self._pump(up_reader, writer, up=False), name="proxy-down")
        except* OSError:
            pass
        finally:
            for one in pair:
                self._writers.discard(one)
                one.transport.abort()
            self._handlers -= 1

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        gate = self._up_open if up else self._down_open
        while data := await reader.read(65536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await gate.wait()
            if not up and self.swallow_down:
                continue
            writer.write(data)
            await writer.drain()
            if not up:
                self.bytes_down += len(data)
        raise ConnectionResetError  # one side ended: end the other, too


@contextlib.asynccontextmanager
async def tcp_proxy(target: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[TcpProxy]:
    """A running proxy in front of `target`."""
    async with TcpProxy(target, tls=tls) as proxy:
        yield proxy
