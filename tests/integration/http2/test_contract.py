"""What a gRPC call does, the same for every pair of a client and a server: ours, and grpcio's with ours."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from coordd.rpc.failure import RpcCode
from tests.support.etcd import eventually
from tests.support.http2_peers import (
    DEADLINE,
    ECHO,
    FAIL,
    FAIL_LATER,
    HEADERS,
    MAKE,
    SLOW,
    AioCaller,
    Caller,
    GrpcioServer,
    OwnServer,
    Server,
    SyncCaller,
    failure,
    own_caller,
    serving,
)

PAIRS = ["grpcio to ours", "blocking grpcio to ours", "ours to grpcio", "ours to ours"]


@pytest.fixture(params=PAIRS)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Caller, Server]]:
    server = GrpcioServer() if request.param == "ours to grpcio" else OwnServer()
    async with serving(server):
        caller: Caller
        if request.param == "grpcio to ours":
            caller = AioCaller(server.port)
        elif request.param == "blocking grpcio to ours":
            caller = SyncCaller(server.port)
        else:
            caller = await own_caller(server.port)
        yield caller, server
        await caller.close()


Peers = tuple[Caller, Server]


@pytest.mark.parametrize("size", [0, 1, 100, 16_379, 16_384, 65_535, 65_536, 1_000_000])
async def test_messages_of_any_size_come_back(pair: Peers, size: int) -> None:
    caller, _ = pair
    body = bytes(range(251)) * (size // 251 + 1)
    assert await caller.call(ECHO, body[:size]) == body[:size]


async def test_ten_megabytes_both_ways(pair: Peers) -> None:
    caller, _ = pair
    body = bytes(range(251)) * 41_000
    assert await caller.call(ECHO, body) == body
    assert len(await caller.call(MAKE, b"10000000")) == 10_000_000
    assert await caller.call(ECHO, b"still here") == b"still here"


@pytest.mark.parametrize("path", [FAIL, FAIL_LATER], ids=["at once", "later"])
@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "",
        "100% of 5 > 3",
        "ä€𝄞 Zürich",
        "line\nbreak\r\n\ttab",
        " around ",
        "%41 is no A",
        "\x7f\x01",
    ],
)
async def test_errors_keep_code_and_text(pair: Peers, path: str, text: str) -> None:
    caller, _ = pair
    error = await failure(caller, path, f"9 {text}".encode())
    assert (error.code, error.text) == (RpcCode.FAILED_PRECONDITION, text)


@pytest.mark.parametrize("code", [code for code in RpcCode if code is not RpcCode.OK])
async def test_every_code_arrives(pair: Peers, code: RpcCode) -> None:
    caller, _ = pair
    assert (await failure(caller, FAIL, f"{int(code)} why".encode())).code is code


async def test_a_text_too_long_for_headers_is_cut(pair: Peers) -> None:
    """gRPC's clients take 8 KiB of headers; more would cost the whole answer."""
    caller, server = pair
    assert (await failure(caller, FAIL, b"13 " + b"long " * 300)).text == "long " * 300
    if isinstance(server, OwnServer):
        text = (await failure(caller, FAIL, b"13 " + "\u00e4\u20ac".encode() * 5000)).text
        assert len(text) > 500
        assert ("\u00e4\u20ac" * 5000).startswith(text)


async def test_an_unknown_method(pair: Peers) -> None:
    caller, _ = pair
    for path in ("/coordd.test.Service/None", "/none.Service/None", "/x"):
        assert (await failure(caller, path)).code is RpcCode.UNIMPLEMENTED


async def test_metadata(pair: Peers) -> None:
    caller, _ = pair
    sent = [
        ("serverid", "4"),
        ("cluster", "by-dev"),
        ("x-empty", ""),
        ("x-odd", "a b,c=d;~!"),
        ("x-long", "v" * 3000),
    ]
    seen = json.loads(await caller.call(HEADERS, metadata=sent))
    assert {name: seen.get(name) for name, _ in sent} == dict(sent)


async def test_metadata_that_changes_and_repeats(pair: Peers) -> None:
    """A client and a server that remember header blocks must not mix them up."""
    caller, _ = pair
    for number in (1, 2, 1, 3, 3, 1, 2):
        seen = json.loads(await caller.call(HEADERS, metadata=[("n", str(number)), ("same", "x")]))
        assert (seen["n"], seen["same"]) == (str(number), "x")


async def test_a_deadline_is_told(pair: Peers) -> None:
    caller, _ = pair
    for timeout_s in (5.0, 100.0, 3.25, 20_000.0):
        left = float(await caller.call(DEADLINE, timeout_s=timeout_s))
        assert timeout_s - 3 < left <= timeout_s * 1.01 + 0.1


async def test_a_deadline_ends_both_sides(pair: Peers) -> None:
    caller, server = pair
    assert (await failure(caller, SLOW, timeout_s=0.15)).code is RpcCode.DEADLINE_EXCEEDED
    await eventually(lambda: server.service.running == 0)
    assert server.service.cancelled == 1
    assert await caller.call(ECHO, b"x") == b"x"


async def test_slow_calls_do_not_hold_up_others(pair: Peers) -> None:
    caller, server = pair
    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(caller.call(SLOW, b"%d" % number)) for number in range(5)]
        await eventually(lambda: server.service.running == 5)
        assert await caller.call(ECHO, b"quick") == b"quick"
        assert len(await caller.call(MAKE, b"300000")) == 300_000
        server.service.proceed.set()
    assert [task.result() for task in slow] == [b"%d" % number for number in range(5)]


async def test_many_large_messages_at_once(pair: Peers) -> None:
    caller, _ = pair
    bodies = [bytes([number]) * 400_000 for number in range(12)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller.call(ECHO, body)) for body in bodies]
    assert [task.result() for task in tasks] == bodies


async def test_a_call_that_is_cancelled_is_cancelled_there_too(pair: Peers) -> None:
    caller, server = pair
    if isinstance(caller, SyncCaller):
        future = caller.channel.unary_unary(SLOW).future(b"")
        await eventually(lambda: server.service.running == 1)
        future.cancel()
    else:
        task = asyncio.get_running_loop().create_task(caller.call(SLOW))
        await eventually(lambda: server.service.running == 1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    await eventually(lambda: server.service.cancelled == 1)
    assert server.service.running == 0
    assert await caller.call(ECHO, b"x") == b"x"


async def test_a_connection_that_goes_cancels_its_calls(pair: Peers) -> None:
    caller, server = pair
    async with asyncio.TaskGroup() as group:
        call = group.create_task(_outcome(caller), name="call")
        await eventually(lambda: server.service.running == 1)
        await caller.close()
    assert call.result() in (RpcCode.CANCELLED, RpcCode.UNAVAILABLE, None)
    await eventually(lambda: server.service.cancelled == 1)


async def _outcome(caller: Caller) -> RpcCode | None:
    try:
        return (await failure(caller, SLOW)).code
    except (asyncio.CancelledError, ValueError):  # grpcio's word for "its channel was closed"
        return None


async def test_hundreds_of_calls_one_after_the_other(pair: Peers) -> None:
    """More than fits in what is remembered of header blocks."""
    caller, _ = pair
    count = 300 if isinstance(caller, SyncCaller) else 600
    for number in range(count):
        assert await caller.call(ECHO, b"%d" % number) == b"%d" % number


async def test_who_calls_is_told_as_grpc_spells_it(pair: Peers) -> None:
    caller, server = pair
    await caller.call(ECHO)
    assert server.service.calls[0].peer.startswith("ipv4:127.0.0.1:")


async def test_stop_lets_a_call_finish_within_the_grace(pair: Peers) -> None:
    caller, server = pair
    async with asyncio.TaskGroup() as group:
        call = group.create_task(caller.call(SLOW, b"done"), name="call")
        await eventually(lambda: server.service.running == 1)
        stop = group.create_task(server.stop(10), name="stop")
        await asyncio.sleep(0.1)
        assert not stop.done()
        server.service.proceed.set()
    assert call.result() == b"done"
    error = await failure(caller, ECHO, timeout_s=1)
    assert error.code in (RpcCode.UNAVAILABLE, RpcCode.DEADLINE_EXCEEDED)


async def test_stop_without_grace_cuts_calls_off(pair: Peers) -> None:
    caller, server = pair
    async with asyncio.TaskGroup() as group:
        call = group.create_task(failure(caller, SLOW), name="call")
        await eventually(lambda: server.service.running == 1)
        await server.stop()
    assert call.result().code in (RpcCode.UNAVAILABLE, RpcCode.CANCELLED)
    await eventually(lambda: server.service.running == 0)
