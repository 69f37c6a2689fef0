"""Requests that wait for their turn: etcd, or a proxy before it, takes no more of them at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from coordd.etcd import EtcdClient, errors, transport
from coordd.etcd.connection import CallFailedError, dial
from coordd.etcd.endpoints import parse_endpoints
from coordd.etcd.messages import rpc
from coordd.etcd.methods import PUT, RANGE, WATCH
from coordd.etcd.settings import PlainSettings
from coordd.etcd.translate import Verdict
from coordd.http2.status import UNAVAILABLE
from tests.support.etcd import eventually
from tests.support.scripted_server import ScriptedServer

HEADER = rpc.ResponseHeader(revision=7)
NOTHING_FOUND = rpc.RangeResponse(header=HEADER).SerializeToString()
WRITTEN = rpc.PutResponse(header=HEADER).SerializeToString()


@pytest.fixture
async def narrow() -> AsyncIterator[ScriptedServer]:
    """Takes one request at a time."""
    async with ScriptedServer(max_streams=1) as server:
        yield server


def begun(server: ScriptedServer, *paths: str) -> Callable[[], bool]:
    """Whether these requests, and no others, have come on the one connection, in this order."""
    return lambda: len(server.connections) == 1 and requests(server) == list(paths)


def requests(server: ScriptedServer) -> list[str]:
    """All that have come, by their paths."""
    return [path for one in server.connections for path in one.paths.values()]


async def test_a_request_whose_turn_does_not_come_leaves_the_connection_alone(
    narrow: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SILENCE_LIMIT_S", 60.0)
    async with EtcdClient(PlainSettings((narrow.address,))) as client, asyncio.TaskGroup() as group:
        read = group.create_task(client.get("k", timeout_s=30), name="read")
        await eventually(begun(narrow, RANGE.path))
        with pytest.raises(errors.NotSentInTime):
            await client.put("k", b"1", timeout_s=0.05)
        narrow.connections[0].answer(1, NOTHING_FOUND)
        assert (await read).revision == 7
        write = group.create_task(client.put("k", b"2", timeout_s=30), name="write")
        await eventually(begun(narrow, RANGE.path, PUT.path))
        narrow.connections[0].answer(3, WRITTEN)
        assert await write == 7


async def test_requests_that_wait_on_a_connection_that_is_given_up_move_to_the_next(
    narrow: ScriptedServer,
) -> None:
    async with ScriptedServer() as other:
        settings = PlainSettings((narrow.address, other.address))
        async with EtcdClient(settings) as client, asyncio.TaskGroup() as group:
            read = group.create_task(client.get("k", timeout_s=30), name="read")
            await eventually(begun(narrow, RANGE.path))
            first = group.create_task(client.put("k", b"1", timeout_s=30), name="first")
            second = group.create_task(client.put("k", b"2", timeout_s=30), name="second")
            narrow.connections[0].fail(1, UNAVAILABLE, "etcdserver: no leader")  # room for one more there
            await eventually(lambda: sorted(requests(other)) == sorted([RANGE.path, PUT.path]))
            for stream, path in list(other.connections[0].paths.items()):
                other.connections[0].answer(stream, WRITTEN if path == PUT.path else NOTHING_FOUND)
            assert await second == 7
            assert (await read).revision == 7
            assert not first.done()
            narrow.connections[0].answer(3, WRITTEN)
            assert await first == 7
            await eventually(lambda: narrow.open_connections == 0)
        assert requests(narrow) == [RANGE.path, PUT.path]


async def test_no_silence_is_counted_from_what_was_never_asked(narrow: ScriptedServer) -> None:
    [endpoint] = parse_endpoints((narrow.address,), tls=False)
    connection = await dial(endpoint, None, 10)
    nothing = rpc.RangeRequest(key=b"k").SerializeToString()
    async with connection.stream(WATCH, ()):
        await eventually(begun(narrow, WATCH.path))
        assert await fails(connection.unary(RANGE, nothing, (), 0.02)) is Verdict.NOT_TAKEN
        async with connection.stream(WATCH, ()) as second:
            assert await fails(second.ask(rpc.WatchRequest(), 0.02)) is Verdict.NOT_TAKEN
        assert connection.silence_s == 0.0
    async with connection.stream(WATCH, ()) as third:
        assert await fails(third.ask(rpc.WatchRequest(), 0.02)) is Verdict.UNKNOWN
        assert connection.silence_s > 0.0
        await fails(connection.unary(RANGE, nothing, (), 0.02))
        assert connection.silence_s > 0.0, "the question before it was asked"
    connection.close()


async def fails(call: Coroutine[Any, Any, object]) -> Verdict:
    with pytest.raises(CallFailedError) as caught:
        await call
    error = caught.value.failure.error
    assert isinstance(error, errors.RequestTimeout)
    assert isinstance(error, errors.NotSentInTime) == (caught.value.failure.verdict is Verdict.NOT_TAKEN)
    return caught.value.failure.verdict


async def test_no_silence_is_counted_while_a_question_waits_for_its_turn(narrow: ScriptedServer) -> None:
    [endpoint] = parse_endpoints((narrow.address,), tls=False)
    connection = await dial(endpoint, None, 10)
    nothing = rpc.RangeRequest(key=b"k").SerializeToString()
    said = rpc.WatchResponse(header=HEADER).SerializeToString()
    async with connection.stream(WATCH, ()) as first:
        await eventually(begun(narrow, WATCH.path))
        async with asyncio.TaskGroup() as group, connection.stream(WATCH, ()) as second:
            watch = group.create_task(second.ask(rpc.WatchRequest(), 30), name="watch")
            read = group.create_task(connection.unary(RANGE, nothing, (), 30), name="read")
            for _ in range(5):
                await asyncio.sleep(0)
            assert connection.silence_s == 0.0
            first.end()
            await eventually(begun(narrow, WATCH.path, WATCH.path))
            assert connection.silence_s > 0.0
            narrow.connections[0].answer(3, said)
            assert (await watch).header.revision == 7
            await eventually(begun(narrow, WATCH.path, WATCH.path, RANGE.path))
            assert connection.silence_s > 0.0
            narrow.connections[0].answer(5, NOTHING_FOUND)
            assert (await read).header.revision == 7
    assert connection.silence_s == 0.0
    connection.close()
