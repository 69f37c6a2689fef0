"""A TCP proxy on loopback that does to connections what networks do: cut, stall, swallow, delay, refuse.

Each direction has its own faults: `up` is from clients to the target, `down` is back. What a TCP connection
never does is not done here either: bytes are not reordered, and a connection that has lost bytes carries none
after them, so `heal()` resets it.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

CHUNK_BYTES: Final = 16 * 1024
CHUNKS_HELD: Final = 16
"""Of one direction of one connection: more is left with the sender, which then feels that nobody reads."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Direction:
    """The faults of one direction. `delay_s`: latency of each byte; the rate is not limited by it.

    `swallow`: bytes, and ends of connections, vanish. `passed`: bytes passed on so far. `come`: bytes of
    all connections that have come since it was stalled.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.swallow = False
        self.passed = 0
        self.come = bytearray()
        self._open = asyncio.Event()
        self._open.set()

    def stall(self) -> None:
        """Hold bytes, and ends of connections, back until `heal()`."""
        self.come.clear()
        self._open.clear()

    def take_in(self, data: bytes) -> None:
        """Bytes have come; they are noted while it is stalled."""
        if not self._open.is_set():
            self.come += data

    def heal(self) -> None:
        """Let held bytes through, lose no more, be fast."""
        self.delay_s = 0.0
        self.swallow = False
        self._open.set()

    async def opened(self) -> None:
        """Until it is not stalled."""
        await self._open.wait()


class TcpProxy:
    """Forwards connections on `port` to `target` ("host:port").

    Faults, each switchable at any time: those of `up` and `down`, see `Direction`; `partition()` is a stall
    of both; `delay_s` sets the latency of both; `refuse()` closes the listener (connect fails with RST),
    `accept()` opens it again; `cut()` resets all connections. One direction that stalls or swallows while the
    other works is a half-open connection. `accepted` counts connections.
    """

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: speak TLS to clients (and plain TCP to the target)."""
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self.port = 0
        self.up = Direction()
        self.down = Direction()
        self.accepted = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def bytes_down(self) -> int:
        """What was passed on to clients so far."""
        return self.down.passed

    @property
    def swallow_down(self) -> bool:
        """Whether answers are thrown away."""
        return self.down.swallow

    @swallow_down.setter
    def swallow_down(self, value: bool) -> None:
        self.down.swallow = value

    @property
    def delay_s(self) -> float:
        """Latency of both directions; of clients' bytes if they differ."""
        return self.up.delay_s

    @delay_s.setter
    def delay_s(self, value: float) -> None:
        self.up.delay_s = self.down.delay_s = value

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        while self._links:
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
        for link in self._links:
            link.reset()

    def partition(self) -> None:
        """Both directions go silent; connections stay open, new ones are accepted and stay silent."""
        self.up.stall()
        self.down.stall()

    def stall_down(self) -> None:
        """Answers are held back until `heal()`."""
        self.down.stall()

    def heal(self) -> None:
        """Let held bytes through, and end the connections that have lost some. Does not listen again."""
        for link in self._links:
            if link.lost_bytes:
                link.reset()
        self.up.heal()
        self.down.heal()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(reader, writer)
        self._links.add(link)
        try:
            await link.run(self._target, self.up, self.down)
        finally:
            self._links.discard(link)


class _Link:
    """One connection through the proxy: two sockets, two pumps."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost_bytes = False
        self._client = (reader, writer)
        self._writers = [writer]
        self._task: asyncio.Task[None] | None = None

    def reset(self) -> None:
        """RST to both sides, whatever is held back."""
        for writer in self._writers:
            _reset(writer)
        if self._task is not None:
            self._task.cancel()

    async def run(self, target: tuple[str, int], up: Direction, down: Direction) -> None:
        """Until both sides know that it has ended."""
        self._task = asyncio.get_running_loop().create_task(self._pump_both(target, up, down), name="proxy")
        try:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()
        finally:
            for writer in self._writers:
                writer.transport.abort()

    async def _pump_both(self, target: tuple[str, int], up: Direction, down: Direction) -> None:
        try:
            server = await asyncio.open_connection(*target)
        except OSError:
            _reset(self._client[1])
            return
        self._writers.append(server[1])
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(self._client[0], server[1], up), name="proxy up")
            group.create_task(self._pump(server[0], self._client[1], down), name="proxy down")

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        """Carry one direction. Its end travels the same way as its bytes, and ends the far side."""
        loop = asyncio.get_running_loop()
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_HELD)
        lost_some = False

        async def read() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(CHUNK_BYTES)
                except OSError:
                    data = b""
                direction.take_in(data)
                await held.put((loop.time() + direction.delay_s, data))

        async def write() -> None:
            nonlocal lost_some
            while True:
                due, data = await held.get()
                if (left_s := due - loop.time()) > 0:
                    await asyncio.sleep(left_s)
                await direction.opened()
                if direction.swallow:
                    self.lost_bytes = lost_some = True
                    if not data:
                        await asyncio.Event().wait()  # until `heal()` or `cut()` resets this link
                elif not lost_some:
                    if not data:
                        writer.transport.abort()
                        return
                    if writer.is_closing():
                        continue
                    writer.write(data)
                    with contextlib.suppress(OSError):  # the other pump reads the reason
                        await writer.drain()
                    direction.passed += len(data)

        async with asyncio.TaskGroup() as group:
            group.create_task(read(), name="read")
            group.create_task(write(), name="write")


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def tcp_proxy(target: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[TcpProxy]:
    """A running proxy in front of `target`."""
    async with TcpProxy(target, tls=tls) as proxy:
        yield proxy
