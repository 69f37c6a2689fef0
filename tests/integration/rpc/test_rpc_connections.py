"""What the gRPC server does with requests, calls and connections that no gRPC library would send it."""

import asyncio
import gc
import gzip
import resource
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from coordd.http2.frames import CANCEL, ENHANCE_YOUR_CALM, NO_ERROR
from coordd.pb import common_pb2, root_coord_pb2
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcCode
from coordd.rpc.port import PortInUse
from coordd.rpc.server import GrpcServer, ServerOptions
from tests.support.etcd import eventually
from tests.support.http2_client import RawClient, framed, raw_client
from tests.support.rpc import PREFIX, FakeGate
from tests.support.served import ALLOC_ID, HOST, SETTING, TIMESTAMP, Served, refused

REQUEST = root_coord_pb2.AllocTimestampRequest(count=1).SerializeToString()
LIMIT = 1 << 20
both_loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(ServerOptions(max_receive_bytes=LIMIT, max_send_bytes=LIMIT))
    await served.server.start()
    yield served
    await served.close()
    assert served.dispatcher.in_flight == 0


@pytest.fixture
async def client(served: Served) -> AsyncIterator[RawClient]:
    async with raw_client(HOST, served.port) as client:
        yield client


def timestamp(data: bytes) -> int:
    """Of an answer of one message."""
    assert data[:5] == framed(data[5:])[:5]
    return root_coord_pb2.AllocTimestampResponse.FromString(data[5:]).timestamp


async def still_answers(client: RawClient) -> bool:
    answer = await client.call(framed(REQUEST))
    return answer.status == 0 and timestamp(answer.data) > 1000


async def held_call(served: Served, client: RawClient, **headers: str) -> int:
    """A call that runs until the role may proceed; its stream."""
    served.role.proceed.clear()
    stream = client.begin(framed(b""), path=ALLOC_ID, **headers)
    await client.send()
    await served.role.entered.wait()
    return stream


# --- requests ---


async def test_what_an_answer_consists_of(client: RawClient) -> None:
    answer = await client.call(framed(REQUEST))
    assert answer.headers == {":status": "200", "content-type": "application/grpc"}
    assert answer.trailers == {"grpc-status": "0"}
    assert timestamp(answer.data) == 1001


async def test_requests_of_one_packet_are_answered_in_their_order(served: Served, client: RawClient) -> None:
    streams = [client.begin(framed(REQUEST)) for _ in range(200)]
    await client.send()
    answers = [await client.answer(stream) for stream in streams]
    assert [timestamp(answer.data) for answer in answers] == list(range(1001, 1201))
    assert len(served.role.calls) == 200


@pytest.mark.parametrize(
    ("headers", "http_status", "code"),
    [
        ({"method": "GET"}, "405", RpcCode.INTERNAL),
        ({"content_type": "application/json"}, "415", RpcCode.INVALID_ARGUMENT),
        ({"content_type": None}, "415", RpcCode.INVALID_ARGUMENT),
        ({"grpc_timeout": "soon"}, "400", RpcCode.INTERNAL),
        ({"path": "*"}, "400", RpcCode.INTERNAL),
        ({"path": f"{PREFIX}NoSuchMethod"}, "200", RpcCode.UNIMPLEMENTED),
    ],
)
@pytest.mark.parametrize("body", [framed(REQUEST), None], ids=["with a body", "without"])
async def test_requests_that_cannot_be_answered_fail_alone(
    client: RawClient,
    headers: dict[str, str | None],
    http_status: str,
    code: RpcCode,
    body: bytes | None,
) -> None:
    answer = await client.call(body, **headers)
    assert answer.headers[":status"] == http_status
    assert answer.status == code
    assert answer.text
    assert not answer.data
    assert await still_answers(client)


async def test_an_encoding_that_is_not_known_is_answered_with_those_that_are(client: RawClient) -> None:
    answer = await client.call(framed(b"abc", compressed=True), grpc_encoding="snappy")
    assert answer.status == RpcCode.UNIMPLEMENTED
    assert answer.headers["grpc-accept-encoding"] == "identity,gzip"


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        framed(REQUEST)[:-1],
        framed(REQUEST)[:4],
        framed(REQUEST) * 2,
        framed(b"ab", compressed=True),
    ],
    ids=[
        "nothing",
        "empty data",
        "half a message",
        "half a prefix",
        "two messages",
        "compressed with nothing",
    ],
)
async def test_a_request_has_one_message(served: Served, client: RawClient, body: bytes | None) -> None:
    answer = await client.call(body)
    assert answer.status == RpcCode.INTERNAL
    assert answer.text
    assert served.role.calls == []
    assert await still_answers(client)


async def test_a_message_may_come_in_any_pieces(served: Served, client: RawClient) -> None:
    stream = client.begin(None, end=False)
    for octet in framed(REQUEST):
        client.core.send_data(stream, bytes([octet]))
        await client.send()
        await asyncio.sleep(0)
    client.core.send_data(stream, b"", end=True)
    await client.send()
    assert timestamp((await client.answer(stream)).data) == 1001
    assert served.role.calls[0][0].count == 1


async def test_compressed_requests_are_taken(served: Served, client: RawClient) -> None:
    body = root_coord_pb2.AllocTimestampRequest(count=77).SerializeToString()
    answer = await client.call(framed(gzip.compress(body), compressed=True), grpc_encoding="gzip")
    assert timestamp(answer.data) == 1001
    assert served.role.calls[0][0].count == 77


async def test_a_compressed_request_may_not_swell_above_the_limit(served: Served, client: RawClient) -> None:
    bomb = gzip.compress(b"\0" * (64 * LIMIT))
    answer = await client.call(framed(bomb, compressed=True), grpc_encoding="gzip")
    assert answer.status == RpcCode.RESOURCE_EXHAUSTED
    assert served.role.calls == []
    assert await still_answers(client)


async def test_a_request_that_is_too_large_is_refused_by_its_first_bytes(client: RawClient) -> None:
    stream = client.begin(framed(b"x" * (LIMIT + 1))[:5], end=False)
    await client.send()
    answer = await client.answer(stream)
    assert answer.status == RpcCode.RESOURCE_EXHAUSTED
    client.core.send_data(stream, b"x" * 100_000)  # what was under way; it does no harm
    await client.send()
    assert await still_answers(client)


async def test_an_unknown_method_is_refused_before_its_request_has_come(client: RawClient) -> None:
    answer = await client.call(None, end=False, path="/no.such.Service/Method")
    assert answer.status == RpcCode.UNIMPLEMENTED
    assert await still_answers(client)


# --- calls under way ---


async def test_a_call_that_its_client_gives_up_is_cancelled(served: Served, client: RawClient) -> None:
    stream = await held_call(served, client)
    client.core.reset_stream(stream, CANCEL)
    await client.send()
    await eventually(lambda: served.dispatcher.in_flight == 0)
    assert served.method(ALLOC_ID).stats.failed == {RpcCode.CANCELLED: 1}
    assert await still_answers(client)


async def test_a_request_that_is_given_up_on_its_way_is_forgotten(served: Served, client: RawClient) -> None:
    stream = client.begin(framed(REQUEST)[:3], end=False)
    await client.send()
    client.core.reset_stream(stream, CANCEL)
    await client.send()
    assert await still_answers(client)
    assert len(served.role.calls) == 1


async def test_a_call_that_is_given_up_in_the_packet_that_begins_it(
    served: Served, client: RawClient
) -> None:
    """What a plain `def` has handed out to be awaited is begun all the same: else Python warns."""
    served.role.proceed.clear()
    served.method(ALLOC_ID).is_async = False
    stream = client.begin(framed(b""), path=ALLOC_ID)
    client.core.reset_stream(stream, CANCEL)
    assert await still_answers(client)
    await eventually(lambda: served.method(ALLOC_ID).stats.failed == {RpcCode.CANCELLED: 1})
    assert served.dispatcher.in_flight == 0
    gc.collect()


async def test_calls_of_a_connection_that_is_lost_are_cancelled(served: Served) -> None:
    async with raw_client(HOST, served.port) as client:
        for _ in range(3):
            await held_call(served, client)
        await eventually(lambda: served.dispatcher.in_flight == 3)
        client.writer.transport.abort()
        await eventually(lambda: served.dispatcher.in_flight == 0)
    assert served.method(ALLOC_ID).stats.failed == {RpcCode.CANCELLED: 3}


async def test_the_deadline_ends_a_call_though_its_client_does_not(served: Served, client: RawClient) -> None:
    stream = await held_call(served, client, grpc_timeout="100m")
    answer = await client.answer(stream)
    assert answer.status == RpcCode.DEADLINE_EXCEEDED
    await eventually(lambda: served.dispatcher.in_flight == 0)
    assert await still_answers(client)


@pytest.mark.parametrize("path", [TIMESTAMP, ALLOC_ID], ids=["def", "async def"])
async def test_a_handler_whose_work_was_cancelled_elsewhere_is_answered_for(
    served: Served, client: RawClient, path: str
) -> None:
    shared: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    shared.cancel()
    served.method().handler = lambda _request, _call: shared.result()
    served.method(ALLOC_ID).handler = lambda _request, _call: shared
    answer = await client.call(framed(b""), path=path)
    assert answer.status == RpcCode.UNAVAILABLE
    assert served.method(path).stats.failed == {RpcCode.UNAVAILABLE: 1}
    assert served.method(path).stats.bugs == 1
    served.method().handler = served.role.alloc_timestamp
    assert await still_answers(client)


async def test_a_call_whose_task_the_loop_cancels_is_answered_for(served: Served, client: RawClient) -> None:
    stream = await held_call(served, client)
    [task] = [one for one in asyncio.all_tasks() if one.get_name() == ALLOC_ID]
    task.cancel()
    answer = await client.answer(stream)
    assert answer.status == RpcCode.UNAVAILABLE
    assert await still_answers(client)


@pytest.mark.parametrize("looks", [0, 1], ids=["before a task begins", "in a task"])
async def test_a_bug_in_the_chain_is_a_failure_of_the_call(
    served: Served, client: RawClient, looks: int
) -> None:
    serving = served.gate.serving
    outcomes = [True] * looks

    def broken() -> bool:
        if outcomes:
            return outcomes.pop()
        raise ZeroDivisionError("the gate is broken")

    served.gate.serving = broken  # type: ignore[method-assign]
    answer = await client.call(path=ALLOC_ID)
    assert answer.status == RpcCode.UNKNOWN
    assert "unexpected" in answer.text
    served.gate.serving = serving  # type: ignore[method-assign]
    assert await still_answers(client)


# --- connections ---


async def test_pings_between_answers_are_tolerated(served: Served, client: RawClient) -> None:
    for number in range(12):
        client.core.ping(number.to_bytes(8, "big"))
        assert await still_answers(client)
    await client.until(lambda: len(client.pongs) == 12)
    assert client.goaways == []
    for number in range(4):
        client.core.ping(number.to_bytes(8, "big"))
    await client.send()
    await client.until_closed()
    [(_, code, text)] = client.goaways
    assert (code, text) == (ENHANCE_YOUR_CALM, b"too_many_pings")


async def test_pings_while_a_large_answer_is_under_way_are_tolerated(served: Served) -> None:
    """Go's clients send one for each piece, to measure how much fits into the line."""
    answer = root_coord_pb2.AllocTimestampResponse(status=common_pb2.Status(reason="x" * (LIMIT - 100)))
    served.method().handler = lambda _request, _call: answer
    async with raw_client(HOST, served.port, window=LIMIT // 12) as client:
        stream = client.begin(framed(REQUEST))
        await client.send()
        pings = 0
        while not client.answers[stream].ended:
            seen = len(client.answers[stream].data)
            client.core.ping(pings.to_bytes(8, "big"))
            pings += 1
            await client.send()
            await client.until(
                lambda seen=seen, pings=pings: (
                    client.goaways  # type: ignore[misc]
                    or (len(client.pongs) == pings and len(client.answers[stream].data) > seen)
                )
            )
            assert client.goaways == []
        assert pings > 4


# --- the end ---


async def test_an_idle_client_is_told_when_the_server_stops(served: Served, client: RawClient) -> None:
    assert await still_answers(client)
    await served.server.stop(10)
    await client.until_closed()
    assert client.goaways == [(1, NO_ERROR, b"")]
    assert await refused(served.port)


async def test_calls_in_flight_are_answered_within_the_grace_and_new_ones_refused(
    served: Served, client: RawClient
) -> None:
    stream = await held_call(served, client)
    async with asyncio.TaskGroup() as group:
        stop = group.create_task(served.server.stop(10), name="stop")
        await client.until(lambda: client.goaways)
        assert client.goaways == [(stream, NO_ERROR, b"")]
        late = await client.call(framed(REQUEST))
        assert late.reset is not None
        assert not stop.done()
        served.role.proceed.set()
    assert (await client.answer(stream)).status == 0
    await client.until_closed()
    assert len(served.role.calls) == 1


async def test_what_is_under_way_when_the_grace_ends_is_unavailable(
    served: Served, client: RawClient
) -> None:
    half = client.begin(framed(REQUEST)[:3], end=False)
    stream = await held_call(served, client)
    await served.server.stop(0.05)
    for one in (half, stream):
        answer = await client.answer(one)
        assert (answer.status, answer.text) == (RpcCode.UNAVAILABLE, "this server is stopping")
    await client.until_closed()
    assert len(client.goaways) == 1
    assert served.dispatcher.in_flight == 0


async def test_a_stop_that_is_cancelled_cuts_off(served: Served, client: RawClient) -> None:
    stream = await held_call(served, client)
    stop = asyncio.get_running_loop().create_task(served.server.stop(60), name="stop")
    await client.until(lambda: client.goaways)
    stop.cancel()
    assert (await client.answer(stream)).status == RpcCode.UNAVAILABLE
    await client.until_closed()
    assert stop.cancelled()


async def test_two_stops_at_once_take_the_shorter_grace(served: Served, client: RawClient) -> None:
    await held_call(served, client)
    async with asyncio.TaskGroup() as group:
        group.create_task(served.server.stop(60), name="long")
        await client.until(lambda: client.goaways)
        group.create_task(served.server.stop(0), name="short")
    await client.until_closed()


async def test_a_client_that_reads_nothing_does_not_hold_the_stop_up(served: Served) -> None:
    answer = root_coord_pb2.AllocTimestampResponse(status=common_pb2.Status(reason="x" * (LIMIT - 100)))
    served.method().handler = lambda _request, _call: answer
    async with raw_client(HOST, served.port) as client:
        for _ in range(30):
            client.begin(framed(REQUEST))
        await client.send()
        await eventually(
            lambda: len(served.method().stats.buckets) and sum(served.method().stats.buckets) == 30
        )
        await served.server.stop(0.1)
        await client.until_closed()
        assert not all(one.ended for one in client.answers.values())


async def test_a_handler_that_takes_its_time_does_not_hold_the_stop_up(
    served: Served, client: RawClient
) -> None:
    go_on = asyncio.Event()

    async def stubborn(_request: Any, _call: Any) -> Any:
        served.role.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()

    served.method(ALLOC_ID).handler = stubborn
    await held_call(served, client)
    await served.server.stop(0)
    assert served.dispatcher.in_flight == 1
    go_on.set()
    await eventually(lambda: served.dispatcher.in_flight == 0)


# --- listening ---


async def test_all_interfaces_are_those_of_both_families() -> None:
    served = Served(ServerOptions(), host="")
    try:
        await served.server.start()
        for host, told in ((HOST, "ipv4:127.0.0.1:"), ("::1", "ipv6:[::1]:")):
            async with raw_client(host, served.port) as client:
                assert await still_answers(client)
            assert served.role.calls[-1][1].peer.startswith(told)
    finally:
        await served.close()


async def test_a_name_stands_for_all_its_addresses() -> None:
    served = Served(ServerOptions(), host="localhost")
    try:
        await served.server.start()
        found = await asyncio.get_running_loop().getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
        for *_, address in found:
            async with raw_client(str(address[0]), served.port) as client:
                assert await still_answers(client)
    finally:
        await served.close()


@pytest.mark.parametrize("started", [False, True])
async def test_a_port_belongs_to_one_server(*, started: bool) -> None:
    served = Served(ServerOptions())
    other = GrpcServer(served.dispatcher)
    try:
        if started:
            await served.server.start()
        with pytest.raises(PortInUse, match=SETTING):
            other.listen(HOST, served.port, setting=SETTING)
    finally:
        await other.stop()
        await served.close()


@both_loops
def test_connections_wait_while_there_are_no_file_descriptors_for_them(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def live() -> None:
        # Without the client of `Served`, whose threads close descriptors when they like.
        server = GrpcServer(Dispatcher(DispatchTable(), FakeGate(), cluster="by-dev"))
        port = server.listen(HOST, 0, setting=SETTING)
        await server.start()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as client:
            client.settimeout(0.0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
            try:
                await asyncio.get_running_loop().sock_connect(client, (HOST, port))
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await asyncio.get_running_loop().sock_recv(client, 9)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            async with asyncio.timeout(10):
                assert await asyncio.get_running_loop().sock_recv(client, 9)  # the SETTINGS
        await server.stop()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(live())


@both_loops
def test_the_life_of_a_server(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def live() -> None:
        served = Served(ServerOptions())
        await served.channel.close()
        connecting = [asyncio.open_connection(HOST, served.port) for _ in range(3)]
        early = [await one for one in connecting]
        await served.server.start()
        clients = [RawClient(*one) for one in early]
        for client in clients:
            assert await still_answers(client)
        stream = await held_call(served, clients[0])
        async with asyncio.TaskGroup() as group:
            group.create_task(served.server.stop(10), name="stop")
            for client in clients:
                await client.until(lambda client=client: client.goaways)
            assert await refused(served.port)
            served.role.proceed.set()
        assert (await clients[0].answer(stream)).status == 0
        for client in clients:
            await client.until_closed()
            client.writer.close()
            await client.writer.wait_closed()
        await served.server.start()  # too late, and no error
        assert await refused(served.port)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(live())
