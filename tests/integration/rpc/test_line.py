"""The one connection that all calls to an address share: made when needed, made anew when lost."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from coordd.http2.client import CallFailed, ClientSettings
from coordd.rpc.failure import RpcCode
from coordd.rpc.line import Line, ask_once
from tests.support.etcd import eventually, free_ports
from tests.support.scripted_server import HOST, ScriptedServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as made:
        yield made


@pytest.fixture
async def line(server: ScriptedServer) -> AsyncIterator[Line]:
    made = Line(server.address, ClientSettings())
    yield made
    await made.close()
    assert made.closed


async def ask(line: Line, path: str = "/echo", body: bytes = b"x", timeout_s: float = 10.0) -> bytes:
    return await line.unary(path, body, metadata=(), timeout_s=timeout_s)


async def failure(line: Line, path: str = "/echo", timeout_s: float = 10.0) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await ask(line, path, timeout_s=timeout_s)
    return caught.value


async def test_calls_share_one_connection_from_the_first_on(server: ScriptedServer, line: Line) -> None:
    assert server.connections == []
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(ask(line, body=b"%d" % one), name="call") for one in range(20)]
    assert [call.result() for call in calls] == [b"%d" % one for one in range(20)]
    await ask(line)
    assert len(server.connections) == 1


async def test_it_may_be_dialled_ahead(server: ScriptedServer, line: Line) -> None:
    line.begin()
    line.begin()
    await eventually(lambda: len(server.connections) == 1)
    await ask(line)
    assert len(server.connections) == 1


async def test_a_connection_that_was_lost_is_made_anew_by_the_next_call(
    server: ScriptedServer, line: Line
) -> None:
    await ask(line)
    server.connections[0].link.abort()
    await eventually(lambda: line._channel is not None and not line._channel.usable)
    assert await ask(line) == b"x"
    assert (await failure(line, "/close")).code == RpcCode.UNAVAILABLE
    assert await ask(line) == b"x"
    assert len(server.connections) == 3


async def test_after_a_goodbye_new_calls_go_elsewhere_and_old_ones_end(
    server: ScriptedServer, line: Line
) -> None:
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(ask(line, "/hang", b"slow"), name="slow")
        await eventually(lambda: server.connections and server.connections[0].paths)
        await ask(line, "/goaway")
        assert await ask(line) == b"x"
        assert len(server.connections) == 2
        server.connections[0].answer(1)
        assert await slow == b"slow"
    await eventually(lambda: server.open_connections == 1)


async def test_closing_ends_old_connections_too(server: ScriptedServer) -> None:
    line = Line(server.address, ClientSettings())
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(failure(line, "/hang"), name="slow")
        await eventually(lambda: server.connections and server.connections[0].paths)
        await ask(line, "/goaway")
        await ask(line)
        await line.close()
        assert (await slow).code == RpcCode.UNAVAILABLE
    assert line.closed
    await eventually(lambda: server.open_connections == 0)
    assert not (await failure(line)).sent


async def test_all_that_wait_for_a_connection_learn_that_there_is_none() -> None:
    [port] = free_ports(1)
    line = Line(f"{HOST}:{port}", ClientSettings())
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(failure(line), name="call") for _ in range(5)]
    assert {(call.result().code, call.result().sent) for call in calls} == {(RpcCode.UNAVAILABLE, False)}
    async with ScriptedServer(port=port):
        assert await ask(line) == b"x", "the next call dials at once"
        await line.close()


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", ":1"])
async def test_an_address_that_is_none(address: str) -> None:
    line = Line(address, ClientSettings())
    error = await failure(line)
    assert (error.code, error.sent) == (RpcCode.UNAVAILABLE, False)
    await line.close()


async def test_a_server_that_does_not_accept_is_waited_for_within_limits() -> None:
    with socket.create_server((HOST, 0)) as listening:
        address = f"{HOST}:{listening.getsockname()[1]}"
        line = Line(address, ClientSettings())
        error = await failure(line, timeout_s=0.05)
        assert (error.code, error.sent) == (RpcCode.DEADLINE_EXCEEDED, False)
        await line.close()
        line = Line(address, ClientSettings(), limit_s=0.05)
        error = await failure(line)
        assert (error.code, error.sent) == (RpcCode.UNAVAILABLE, False)
        await line.close()
        with pytest.raises(CallFailed) as caught:
            await ask_once(address, "/echo", b"", metadata=(), timeout_s=0.05)
        assert caught.value.code == RpcCode.DEADLINE_EXCEEDED


async def test_a_call_without_time_makes_no_connection(server: ScriptedServer, line: Line) -> None:
    for timeout_s in (0.0, -1.0):
        error = await failure(line, timeout_s=timeout_s)
        assert (error.code, error.sent) == (RpcCode.DEADLINE_EXCEEDED, False)
    await ask(line)
    assert len(server.connections) == 1
    assert (await failure(line, timeout_s=0.0)).code == RpcCode.DEADLINE_EXCEEDED


async def test_a_caller_that_goes_does_not_end_the_dial_of_the_others() -> None:
    [port] = free_ports(1)
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((HOST, port))
        reserved.listen()
        line = Line(f"{HOST}:{port}", ClientSettings())
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ask(line), name="first")
            second = group.create_task(failure(line), name="second")
            await asyncio.sleep(0.02)
            first.cancel()
            await asyncio.wait([first])
            assert first.cancelled()
            assert not second.done()
            await line.close()
            assert (await second).code == RpcCode.UNAVAILABLE
    assert line.closed


async def test_one_question_leaves_no_connection(server: ScriptedServer) -> None:
    answer = await ask_once(server.address, "/echo", b"x", metadata=(("a", "b"),), timeout_s=5)
    assert answer == b"x"
    assert server.connections[0].headers_of[1]["a"] == "b"
    await eventually(lambda: server.open_connections == 0)
