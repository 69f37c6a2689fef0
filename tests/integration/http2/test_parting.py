"""The end of a connection: the last words arrive, and a peer that does not part is left."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from coordd.http2 import parting
from coordd.http2.frames import NO_ERROR
from coordd.rpc.server import ServerOptions
from coordd.rpc.tls import server_credentials
from tests.support.etcd import eventually
from tests.support.etcd_tls import make_tls
from tests.support.http2 import (
    DATA,
    INITIAL_WINDOW_SIZE,
    MAX_WINDOW,
    PREFACE,
    Frame,
    ping,
    settings,
    split_frames,
    window_update,
)
from tests.support.http2_peers import HOST, MAKE, OwnServer, serving
from tests.support.http2_raw import Raw, call, is_goaway

SIZE = 8_000_000
OPTIONS = ServerOptions(min_ping_interval_ms=0, max_send_bytes=SIZE)
HELLO = PREFACE + settings({INITIAL_WINDOW_SIZE: MAX_WINDOW}) + window_update(0, 1 << 30)
both_loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


def run(new_loop: NewLoop, main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main)


@asynccontextmanager
async def small_socket(port: int) -> AsyncIterator[socket.socket]:
    """A connection that takes little which is not read at once."""
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        opened.settimeout(0.0)
        await asyncio.get_running_loop().sock_connect(opened, (HOST, port))
        yield opened


async def all_of_it(opened: socket.socket, first: bytes = b"") -> list[Frame]:
    """What has come first, and what comes until the server closes."""
    loop = asyncio.get_running_loop()
    octets = bytearray(first)
    async with asyncio.timeout(20):
        while piece := await loop.sock_recv(opened, 1 << 16):
            octets += piece
    found, rest = split_frames(bytes(octets))
    assert not rest
    return found


@both_loops
def test_an_answer_arrives_though_the_server_stops_with_something_unread(new_loop: NewLoop) -> None:
    async def main() -> None:
        async with serving(OwnServer(OPTIONS)) as server, small_socket(server.port) as client:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, HELLO + call(1, MAKE, b"%d" % SIZE))
            await eventually(lambda: len(server.service.calls) == 1)
            await loop.sock_sendall(client, ping() * 1_000)  # not read: the server waits for us to read
            async with asyncio.TaskGroup() as group:
                group.create_task(server.stop(30))
                frames = await all_of_it(client)
                client.shutdown(socket.SHUT_WR)
            assert sum(len(one.payload) for one in frames if one.kind == DATA) == SIZE + 5
            [last] = filter(is_goaway, frames)
            assert (last.last_stream, last.error_code) == (1, NO_ERROR)

    run(new_loop, main())


@both_loops
def test_what_comes_after_the_last_words_does_no_harm(new_loop: NewLoop) -> None:
    async def main() -> None:
        async with serving(OwnServer(OPTIONS)) as server, small_socket(server.port) as client:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, HELLO + call(1, MAKE, b"%d" % SIZE))
            await eventually(lambda: len(server.service.calls) == 1)
            async with asyncio.TaskGroup() as group:
                group.create_task(server.stop(30))
                await asyncio.sleep(0)  # it has begun, and says goodbye first of all
                for stream in range(3, 203, 2):
                    await loop.sock_sendall(client, call(stream, MAKE, b"1") + b"nonsense" * 100)
                frames = await all_of_it(client)
                client.shutdown(socket.SHUT_WR)
            assert sum(len(one.payload) for one in frames if one.kind == DATA) == SIZE + 5
            assert len(server.service.calls) == 1

    run(new_loop, main())


@both_loops
def test_an_answer_arrives_over_tls_as_well(new_loop: NewLoop, tmp_path: Path) -> None:
    files = make_tls(tmp_path)
    credentials = server_credentials(files.server_cert, files.server_key)
    options = ServerOptions(min_ping_interval_ms=0, max_send_bytes=SIZE, credentials=credentials)
    context = ssl.create_default_context(cafile=str(files.ca))
    context.set_alpn_protocols(["h2"])

    async def main() -> None:
        async with serving(OwnServer(options)) as server:
            raw = Raw(*await asyncio.open_connection(HOST, server.port, ssl=context, limit=1 << 14))
            raw.write(HELLO + call(1, MAKE, b"%d" % SIZE))
            await eventually(lambda: len(server.service.calls) == 1)
            raw.write(ping() * 1_000)
            answer: list[int] = []

            def last(one: Frame) -> bool:
                answer.append(len(one.payload) * (one.kind == DATA))
                return is_goaway(one)

            async with asyncio.TaskGroup() as group:
                group.create_task(server.stop(30))
                assert (await raw.until(last)).last_stream == 1
                assert sum(answer) == SIZE + 5
                raw.writer.close()  # as clients do that are told so and have nothing under way

    run(new_loop, main())


@pytest.mark.parametrize("how", ["closed", "reset"])
@both_loops
def test_a_client_that_has_gone_by_then_is_no_trouble(new_loop: NewLoop, how: str) -> None:
    async def main() -> None:
        async with serving(OwnServer(OPTIONS)) as server:
            async with small_socket(server.port) as client:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(client, HELLO + ping(b"all read"))
                while b"all read" not in await loop.sock_recv(client, 1 << 10):
                    pass
                if how == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            async with asyncio.timeout(10):
                await server.stop(60)  # before the loop has looked at the socket again

    run(new_loop, main())


@both_loops
def test_who_does_not_close_is_left(new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "_PARTING_S", 0.05)

    async def main() -> None:
        async with serving(OwnServer(OPTIONS)) as server, small_socket(server.port) as client:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, HELLO + ping())
            first = await loop.sock_recv(client, 1 << 10)
            async with asyncio.timeout(10):
                await server.stop(60)
            assert [one for one in await all_of_it(client, first) if is_goaway(one)]

    run(new_loop, main())


@both_loops
def test_who_never_reads_the_last_words_is_left(new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "_PARTING_S", 0.05)
    monkeypatch.setattr(parting, "LINGER_S", 0.2)

    async def main() -> None:
        async with serving(OwnServer(OPTIONS)) as server, small_socket(server.port) as client:
            await asyncio.get_running_loop().sock_sendall(client, HELLO + call(1, MAKE, b"%d" % SIZE))
            await eventually(lambda: len(server.service.calls) == 1)
            async with asyncio.timeout(10):
                await server.stop(60)

    run(new_loop, main())
