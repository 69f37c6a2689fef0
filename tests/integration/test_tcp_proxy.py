"""The faulty network of the tests does what it says."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from tests.support.etcd import eventually
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

SILENCE_S = 0.2


class Echo:
    """A server that repeats what it hears; `heard` is all of it, `ended` counts connections that ended."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
        except OSError:
            pass
        self.ended += 1
        writer.transport.abort()


@asynccontextmanager
async def echo_behind_a_proxy() -> AsyncIterator[tuple[Echo, TcpProxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server, tcp_proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as proxy:
        yield echo, proxy


async def connect(proxy: TcpProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def silent(reading: Awaitable[bytes]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SILENCE_S):
            await reading


async def test_bytes_pass_in_order() -> None:
    async with echo_behind_a_proxy() as (_echo, proxy):
        reader, writer = await connect(proxy)
        sent = bytes(range(256)) * 4000
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        assert (proxy.accepted, proxy.up.passed, proxy.bytes_down) == (1, len(sent), len(sent))
        writer.close()


async def test_delay_is_latency_and_not_rate() -> None:
    async with echo_behind_a_proxy() as (_echo, proxy):
        reader, writer = await connect(proxy)
        proxy.up.delay_s = 0.3
        started = time.monotonic()
        for _ in range(10):
            writer.write(b"x")
            await asyncio.sleep(0.01)
        await reader.readexactly(10)
        assert 0.3 <= time.monotonic() - started < 2.0
        writer.close()


async def test_a_stalled_direction_holds_bytes_back_while_the_other_works() -> None:
    async with echo_behind_a_proxy() as (echo, proxy):
        reader, writer = await connect(proxy)
        proxy.down.stall()
        writer.write(b"one")
        await eventually(lambda: echo.heard == b"one")
        await silent(reader.read(1))
        proxy.down.heal()
        assert await reader.readexactly(3) == b"one"
        proxy.up.stall()
        writer.write(b"two")
        await silent(reader.read(1))
        assert echo.heard == b"one"
        proxy.heal()
        assert await reader.readexactly(3) == b"two"
        writer.close()


async def test_swallowed_bytes_never_come_and_the_connection_ends_when_healed() -> None:
    async with echo_behind_a_proxy() as (echo, proxy):
        reader, writer = await connect(proxy)
        proxy.up.swallow = True
        writer.write(b"lost")
        await silent(reader.read(1))
        assert echo.heard == b""
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        reader, writer = await connect(proxy)
        writer.write(b"new")
        assert await reader.readexactly(3) == b"new"
        writer.close()


@pytest.mark.parametrize("swallow", [False, True])
async def test_a_dead_direction_does_not_tell_that_the_client_has_gone(*, swallow: bool) -> None:
    async with echo_behind_a_proxy() as (echo, proxy):
        reader, writer = await connect(proxy)
        writer.write(b"x")
        await reader.readexactly(1)
        if swallow:
            proxy.up.swallow = True
        else:
            proxy.up.stall()
        writer.transport.abort()
        await asyncio.sleep(SILENCE_S)
        assert echo.ended == 0
        proxy.heal()
        await eventually(lambda: echo.ended == 1)


async def test_a_partition_also_swallows_up_new_connections() -> None:
    async with echo_behind_a_proxy() as (echo, proxy):
        proxy.partition()
        reader, writer = await connect(proxy)
        writer.write(b"later")
        await silent(reader.read(1))
        assert echo.heard == b""
        proxy.heal()
        assert await reader.readexactly(5) == b"later"
        writer.close()


async def test_cut_resets_and_refuse_refuses() -> None:
    async with echo_behind_a_proxy() as (echo, proxy):
        reader, writer = await connect(proxy)
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
        await proxy.accept()
        reader, writer = await connect(proxy)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await eventually(lambda: echo.ended == 2)
