"""What only grpcio's clients do: compression, wait-for-ready, changing servers, threads."""

import asyncio
import threading
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from coordd.rpc.failure import RpcCode
from coordd.rpc.server import ServerOptions
from tests.support.etcd import eventually
from tests.support.http2_peers import (
    ECHO,
    HOST,
    MAKE,
    SLOW,
    AioCaller,
    OwnServer,
    SyncCaller,
    failure,
    serving,
)


@pytest.fixture
async def server() -> AsyncIterator[OwnServer]:
    async with serving(OwnServer()) as server:
        yield server


async def test_requests_packed_with_gzip(server: OwnServer) -> None:
    caller = AioCaller(server.port, compression=grpc.Compression.Gzip)
    for body in (b"", b"x", b"abc" * 100_000, bytes(range(251)) * 9):
        assert await caller.call(ECHO, body) == body
    await caller.close()


async def test_requests_packed_in_a_way_we_do_not_know(server: OwnServer) -> None:
    caller = AioCaller(server.port, compression=grpc.Compression.Deflate)
    assert (await failure(caller, ECHO, b"abc" * 1000)).code is RpcCode.UNIMPLEMENTED
    await caller.close()


async def test_a_thousand_calls_at_a_time(server: OwnServer) -> None:
    caller = AioCaller(server.port)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller.call(SLOW, b"%d" % number, timeout_s=15)) for number in range(1000)]
        await eventually(lambda: server.service.running == 1000, 15)
        server.service.proceed.set()
    assert [task.result() for task in tasks] == [b"%d" % number for number in range(1000)]
    await caller.close()


async def test_threads_that_share_a_channel(server: OwnServer) -> None:
    caller = SyncCaller(server.port)
    method = caller.channel.unary_unary(ECHO)
    wrong: list[object] = []

    def work(name: int) -> None:
        for number in range(50):
            body = b"%d %d" % (name, number)
            if (answer := method(body, timeout=15)) != body:
                wrong.append((body, answer))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert wrong == []
    assert len(server.service.calls) == 400
    await caller.close()


async def test_a_client_that_waits_is_served_by_the_next_server() -> None:
    """The goodbye of one server sends a channel to the one that takes the port over."""
    first = OwnServer()
    await first.server.start()
    caller = AioCaller(first.port)
    assert await caller.call(ECHO, b"one") == b"one"
    await first.stop(1)
    second = OwnServer(port=first.port)
    async with serving(second):
        method = caller.channel.unary_unary(ECHO)
        for _ in range(3):  # a call that is written before the goodbye was read may be lost with the socket
            try:
                assert await method(b"two", timeout=15, wait_for_ready=True) == b"two"
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            else:
                break
        assert [call.body for call in second.service.calls] == [b"two"]
    await caller.close()


async def test_a_call_that_was_cut_off_is_not_sent_twice(server: OwnServer) -> None:
    caller = AioCaller(server.port)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(failure(caller, SLOW))
        await eventually(lambda: server.service.running == 1)
        await server.stop()
    assert call.result().code in (RpcCode.UNAVAILABLE, RpcCode.CANCELLED)
    assert len(server.service.calls) == 1
    await caller.close()


async def test_a_request_that_is_too_large_is_told_while_it_is_sent() -> None:
    async with serving(OwnServer(ServerOptions(max_receive_bytes=1 << 20))) as server:
        caller = AioCaller(server.port)
        for _ in range(3):
            assert (await failure(caller, ECHO, bytes(20 << 20))).code is RpcCode.RESOURCE_EXHAUSTED
        assert await caller.call(ECHO, bytes(1 << 20)) == bytes(1 << 20)
        assert len(server.service.calls) == 1
        await caller.close()


async def test_an_answer_that_is_too_large() -> None:
    async with serving(OwnServer(ServerOptions(max_send_bytes=1 << 20))) as server:
        caller = AioCaller(server.port)
        assert (await failure(caller, MAKE, b"1048577")).code is RpcCode.RESOURCE_EXHAUSTED
        assert len(await caller.call(MAKE, b"1048576")) == 1 << 20
        await caller.close()


async def test_keepalive_pings_of_a_busy_client_are_no_strikes() -> None:
    """What the server answers in between wipes them out."""
    async with serving(OwnServer(ServerOptions(min_ping_interval_ms=60_000))) as server:
        channel = grpc.aio.insecure_channel(
            f"{HOST}:{server.port}",
            options=[
                ("grpc.keepalive_time_ms", 1_000),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        method = channel.unary_unary(ECHO)
        for _ in range(30):
            assert await method(b"x", timeout=10) == b"x"
            await asyncio.sleep(0.05)
        await channel.close()
