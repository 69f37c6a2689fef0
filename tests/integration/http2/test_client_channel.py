"""A client's connection in trouble: peers that hang, go, do not read, or speak something else."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from coordd.http2 import frames, status
from coordd.http2.client import CallFailed, Channel, ClientSettings, Keepalive
from tests.support.etcd import eventually, free_ports
from tests.support.scripted_server import HOST, ScriptedServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as made:
        yield made


async def connect(server: ScriptedServer, **settings: Any) -> Channel:
    async with asyncio.timeout(10):
        return await Channel.connect(HOST, server.port, settings=ClientSettings(**settings))


@asynccontextmanager
async def connected(server: ScriptedServer, **settings: Any) -> AsyncIterator[Channel]:
    channel = await connect(server, **settings)
    try:
        yield channel
    finally:
        channel.close()
        await channel.closed.wait()


async def failure(
    channel: Channel, path: str = "/hang", body: bytes = b"", timeout_s: float = 10.0
) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await channel.unary(path, body, timeout_s=timeout_s)
    return caught.value


async def test_what_a_request_says(server: ScriptedServer) -> None:
    async with connected(server, user_agent="tests") as channel:
        await channel.unary("/echo", b"", metadata=(("serverid", "7"), ("x", "a b")), timeout_s=3)
    said = server.connections[0].headers_of[1]
    timeout = said.pop("grpc-timeout")
    assert said == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/echo",
        ":authority": f"{HOST}:{server.port}",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "tests",
        "serverid": "7",
        "x": "a b",
    }
    assert timeout == "3000000u"


@pytest.mark.parametrize(
    "metadata", [("Upper", "x"), ("x", "line\nbreak"), ("x y", "z"), ("x", "ä"), ("", "x")]
)
async def test_metadata_that_cannot_be_sent(server: ScriptedServer, metadata: tuple[str, str]) -> None:
    async with connected(server) as channel:
        with pytest.raises(CallFailed, match="metadata") as caught:
            await channel.unary("/echo", b"", metadata=(metadata,), timeout_s=3)
        assert (caught.value.code, caught.value.sent) == (status.INTERNAL, False)
        assert await channel.unary("/echo", b"x", timeout_s=3) == b"x"


async def test_ever_new_metadata_is_not_kept_for_ever(server: ScriptedServer) -> None:
    async with connected(server) as channel:
        for number in range(600):
            await channel.unary("/echo", b"", metadata=(("x", str(number)),), timeout_s=5)
        assert len(channel._heads._kept) <= 256
    streams = server.connections[0].headers_of.values()
    assert [said["x"] for said in streams] == [str(number) for number in range(600)]


async def test_a_deadline_ends_the_call_here_and_there(server: ScriptedServer) -> None:
    async with connected(server) as channel:
        error = await failure(channel, timeout_s=0.05)
        assert (error.code, error.sent, error.from_server) == (status.DEADLINE_EXCEEDED, True, False)
        await eventually(lambda: server.connections[0].resets == {1: frames.CANCEL})
        assert channel.under_way == 0
        error = await failure(channel, timeout_s=0.0)
        assert (error.code, error.sent) == (status.DEADLINE_EXCEEDED, False)
    assert list(server.connections[0].paths) == [1], "what has no time left is not sent"


async def test_a_cancelled_call_is_cancelled_there_and_leaves_nothing(server: ScriptedServer) -> None:
    async with connected(server) as channel:
        call = asyncio.get_running_loop().create_task(channel.unary("/hang", b"", timeout_s=60))
        await eventually(lambda: server.connections[0].paths)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await eventually(lambda: server.connections[0].resets == {1: frames.CANCEL})
        assert (channel.under_way, channel._link.core.streams) == (0, 0)
        assert await channel.unary("/echo", b"x", timeout_s=5) == b"x"


async def test_a_call_cancelled_as_its_answer_comes_is_cancelled(server: ScriptedServer) -> None:
    async with connected(server) as channel:
        call = asyncio.get_running_loop().create_task(channel.unary("/hang", b"", timeout_s=60))
        await eventually(lambda: server.connections[0].paths)
        [inner] = channel._calls._begun.values()
        call.cancel()
        inner.finish(None)  # the answer, in the turn of the loop in which the call was cancelled
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await channel.unary("/echo", b"x", timeout_s=5) == b"x"


async def test_a_connection_that_goes_in_the_middle_fails_its_calls(server: ScriptedServer) -> None:
    async with connected(server) as channel, asyncio.TaskGroup() as group:
        others = [group.create_task(failure(channel), name="other") for _ in range(3)]
        await eventually(lambda: len(server.connections[0].paths) == 3)
        error = await failure(channel, "/close")
        for one in (error, *[await other for other in others]):
            assert (one.code, one.sent, one.from_server) == (status.UNAVAILABLE, True, False)
        assert not channel.usable
        assert channel.closed.is_set()
        error = await failure(channel, "/echo")
        assert (error.code, error.sent) == (status.UNAVAILABLE, False)


async def test_goodbye_lets_the_calls_end_and_then_closes(server: ScriptedServer) -> None:
    async with connected(server) as channel, asyncio.TaskGroup() as group:
        slow = group.create_task(channel.unary("/hang", b"slow", timeout_s=10), name="slow")
        await eventually(lambda: server.connections[0].paths)
        assert await channel.unary("/goaway", b"x", timeout_s=5) == b"x"
        assert not channel.usable
        assert not (await failure(channel, "/echo")).sent
        assert not channel.closed.is_set()
        server.connections[0].answer(1)
        assert await slow == b"slow"
        await channel.closed.wait()


async def test_a_retired_channel_closes_with_its_last_call(server: ScriptedServer) -> None:
    idle = await connect(server)
    idle.retire()
    await idle.closed.wait()
    busy = await connect(server)
    async with asyncio.TaskGroup() as group:
        group.create_task(busy.unary("/hang", b"", timeout_s=10), name="call")
        await eventually(lambda: server.connections[-1].paths)
        busy.retire()
        assert not (await failure(busy, "/echo")).sent
        assert not busy.closed.is_set()
        server.connections[-1].answer(1)
    await busy.closed.wait()
    await eventually(lambda: server.open_connections == 0)


async def test_a_call_that_waits_on_a_retired_channel_is_not_kept() -> None:
    async with ScriptedServer(max_streams=1) as server, connected(server) as channel:
        async with asyncio.TaskGroup() as group:
            group.create_task(channel.unary("/hang", b"", timeout_s=10), name="under way")
            waiting = group.create_task(failure(channel), name="waiting")
            await eventually(lambda: channel.under_way == 2)
            channel.retire()
            error = await waiting
            assert (error.code, error.sent) == (status.UNAVAILABLE, False)
            server.connections[0].answer(1)
        assert list(server.connections[0].paths) == [1]


async def test_closing_fails_the_calls_under_way(server: ScriptedServer) -> None:
    channel = await connect(server)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(failure(channel), name="call")
        await eventually(lambda: server.connections[0].paths)
        channel.close()
        assert (await call).code == status.UNAVAILABLE
    await channel.closed.wait()
    channel.close()
    channel.retire()
    await eventually(lambda: server.open_connections == 0)


async def test_more_calls_than_the_server_takes_at_once() -> None:
    async with ScriptedServer(max_streams=10) as server, connected(server) as channel:
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(channel.unary("/echo", b"%d" % number, timeout_s=10), name="call")
                for number in range(500)
            ]
        assert [call.result() for call in calls] == [b"%d" % number for number in range(500)]
        assert server.connections[0].resets == {}


async def test_a_call_that_finds_no_room_in_its_time_was_not_sent() -> None:
    async with ScriptedServer(max_streams=1) as server, connected(server) as channel:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(channel.unary("/hang", b"", timeout_s=10), name="first")
            await eventually(lambda: server.connections[0].paths)
            error = await failure(channel, "/echo", timeout_s=0.05)
            assert (error.code, error.sent) == (status.DEADLINE_EXCEEDED, False)
            server.connections[0].answer(1)
            await first
        assert await channel.unary("/echo", b"x", timeout_s=5) == b"x"
        assert list(server.connections[0].paths) == [1, 3]


async def test_a_peer_that_falls_silent_is_found_out(server: ScriptedServer) -> None:
    keepalive = Keepalive(time_s=0.05, timeout_s=0.05, without_calls=True)
    async with connected(server, keepalive=keepalive) as channel:
        server.connections[0].link.transport.pause_reading()  # type: ignore[union-attr]
        error = await failure(channel)
        assert (error.code, error.sent) == (status.UNAVAILABLE, True)
        assert "ping" in error.message
        await channel.closed.wait()


async def test_to_a_peer_that_does_not_read_no_more_than_a_little_is_written(server: ScriptedServer) -> None:
    async with connected(server) as channel:
        transport = server.connections[0].link.transport
        assert transport is not None
        transport.pause_reading()
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(channel.unary("/echo", b"x" * 100_000, timeout_s=10), name="call")
                for _ in range(300)
            ]
            await eventually(lambda: channel._calls.blocked)
            error = await failure(channel, "/echo", timeout_s=0.05)
            assert (error.code, error.sent) == (status.DEADLINE_EXCEEDED, False)
            assert channel._link.transport is not None
            assert channel._link.transport.get_write_buffer_size() < 1_000_000
            transport.resume_reading()
        assert all(len(call.result()) == 100_000 for call in calls)


async def test_sizes_are_limited_both_ways(server: ScriptedServer) -> None:
    async with connected(server, max_send_bytes=1000) as channel:
        assert len(await channel.unary("/echo", b"x" * 1000, timeout_s=5)) == 1000
        error = await failure(channel, "/echo", b"x" * 1001)
        assert (error.code, error.sent) == (status.RESOURCE_EXHAUSTED, False)
    async with connected(server, max_receive_bytes=1000) as channel:
        assert len(await channel.unary("/echo", b"x" * 1000, timeout_s=5)) == 1000
        error = await failure(channel, "/echo", b"x" * 1001)
        assert (error.code, error.sent) == (status.RESOURCE_EXHAUSTED, True)


async def test_streams_and_calls_share_a_connection(server: ScriptedServer) -> None:
    async with connected(server) as channel:
        stream = channel.stream("/hang", metadata=(("x", "y"),))
        await stream.send(b"hello")
        await eventually(lambda: server.connections[0].bodies.get(1, b"").endswith(b"hello"))
        assert "grpc-timeout" not in server.connections[0].headers_of[1]
        assert await channel.unary("/echo", b"x", timeout_s=5) == b"x"
        server.connections[0].answer(1)
        assert [await stream.receive(), await stream.receive()] == [b"hello", None]
        other = channel.stream("/hang")
        channel.close()
        with pytest.raises(CallFailed) as caught:
            await other.receive()
        assert caught.value.code == status.UNAVAILABLE


# --- connecting ---


async def test_where_nobody_listens_it_is_refused() -> None:
    [port] = free_ports(1)
    with pytest.raises(ConnectionRefusedError):
        await Channel.connect(HOST, port, settings=ClientSettings())


async def test_a_peer_that_does_not_accept_yet_is_waited_for() -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Channel.connect(HOST, port, settings=ClientSettings())
        async with asyncio.TaskGroup() as group:
            dial = group.create_task(Channel.connect(HOST, port, settings=ClientSettings()), name="dial")
            await asyncio.sleep(0.05)
            assert not dial.done()
            listening.setblocking(False)
            loop = asyncio.get_running_loop()
            given_up, _ = await loop.sock_accept(listening)
            assert (await _all_of(given_up)).startswith(b"PRI * HTTP/2.0"), "and closed"
            accepted, _ = await loop.sock_accept(listening)
            await loop.sock_sendall(accepted, frames.settings({}))
            channel = await dial
    channel.close()
    await channel.closed.wait()
    accepted.close()


async def _all_of(connection: socket.socket) -> bytes:
    connection.setblocking(False)
    with connection:
        pieces = []
        try:
            while piece := await asyncio.get_running_loop().sock_recv(connection, 1 << 16):
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)


@pytest.mark.parametrize(
    "says",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"",
        frames.PREFACE,
    ],
)
async def test_what_does_not_speak_http2_is_no_peer(says: bytes) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(talk, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(10):
                await Channel.connect(HOST, port, settings=ClientSettings())


@pytest.mark.parametrize(
    ("host", "port"),
    [("", 80), ("x" * 64 + ".invalid", 80), (HOST, 0), (HOST, 1 << 16)],
)
async def test_a_host_or_port_that_is_none(host: str, port: int) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        await Channel.connect(host, port, settings=ClientSettings())
    assert not isinstance(caught.value, ConnectionRefusedError)


Names = Callable[..., None]


@pytest.fixture
async def name(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Has `a.name` resolved to the given addresses, as by a name server."""

    def resolve(*addresses: tuple[str, int]) -> None:
        async def getaddrinfo(host: str, *args: Any, **options: Any) -> list[Any]:
            if host != "a.name":
                return await ask(host, *args, **options)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)

    loop = asyncio.get_running_loop()
    ask = loop.getaddrinfo

    return resolve


@asynccontextmanager
async def swallowing() -> AsyncIterator[tuple[str, int]]:
    """An address at which connects get no answer: its backlog is full."""
    loop = asyncio.get_running_loop()
    waiting = []
    with socket.create_server((HOST, 0), backlog=0) as listening:
        where = listening.getsockname()
        try:
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                waiting.append((one, loop.create_task(loop.sock_connect(one, where))))
            await asyncio.wait([task for _, task in waiting], timeout=0.1)
            assert not all(task.done() for _, task in waiting)
            yield where
        finally:
            for one, task in waiting:
                task.cancel()
                await asyncio.wait([task])
                one.close()


async def test_every_address_of_a_name_is_tried(server: ScriptedServer, name: Names) -> None:
    closed = free_ports(2)
    name((HOST, closed[0]), (HOST, closed[1]), (HOST, server.port))
    channel = await Channel.connect("a.name", 1, settings=ClientSettings())
    assert await channel.unary("/echo", b"x", timeout_s=5) == b"x"
    channel.close()
    await channel.closed.wait()
    assert server.connections[0].headers_of[1][":authority"] == "a.name:1"
    name((HOST, closed[0]), (HOST, closed[1]))
    with pytest.raises(ConnectionRefusedError):
        await Channel.connect("a.name", 1, settings=ClientSettings())


async def test_an_address_that_does_not_answer_does_not_hold_up_the_next(
    server: ScriptedServer, name: Names
) -> None:
    async with swallowing() as silent:
        name(silent, (HOST, server.port))
        channel = await Channel.connect("a.name", 1, settings=ClientSettings())
        assert channel.peername == f"ipv4:{HOST}:{server.port}"
        channel.close()
        await channel.closed.wait()
        name(silent, silent)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await Channel.connect("a.name", 1, settings=ClientSettings())
