"""Our client against grpcio's server and servers written by hand: limits, goodbyes, lost peers, streams."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from coordd.http2.client import CallFailed, Channel, ClientSettings, Keepalive
from coordd.rpc.failure import RpcCode
from tests.support.etcd import eventually, free_ports
from tests.support.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    PING,
    RST_STREAM,
    SETTINGS,
    Code,
    Frame,
    block,
    data,
    frame,
    goaway,
    ping,
    rst_stream,
    settings,
)
from tests.support.http2_peers import CHAT, ECHO, HOST, MAKE, SLOW, GrpcioServer, own_caller, serving
from tests.support.http2_raw import Raw, message, raw_server

SETTINGS_OF_CLIENT = ClientSettings()
OK_TRAILERS = block([("grpc-status", "0")])
ANSWER_HEADERS = block([(":status", "200"), ("content-type", "application/grpc")])


async def connected(port: int, client: ClientSettings = SETTINGS_OF_CLIENT) -> Channel:
    return (await own_caller(port, client)).channel


async def close(channel: Channel) -> None:
    channel.close()
    await channel.closed.wait()


@pytest.fixture
async def grpcio() -> AsyncIterator[GrpcioServer]:
    async with serving(GrpcioServer(options=[("grpc.max_concurrent_streams", 100)])) as server:
        yield server


@pytest.fixture
async def channel(grpcio: GrpcioServer) -> AsyncIterator[Channel]:
    channel = await connected(grpcio.port)
    yield channel
    await close(channel)


async def patiently(channel: Channel, path: str, body: bytes) -> bytes:
    """Again when it was refused unseen: grpcio's server counts a stream for a moment after its end."""
    while True:
        try:
            return await channel.unary(path, body, timeout_s=15)
        except CallFailed as error:
            if error.sent:
                raise


async def failed(call: Awaitable[object]) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await call
    return caught.value


# --- how many at once ---


async def test_a_thousand_calls_at_a_time_where_a_hundred_may_be(
    grpcio: GrpcioServer, channel: Channel
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(patiently(channel, SLOW, b"%d" % number)) for number in range(1000)]
        await eventually(lambda: grpcio.service.running == 100)
        assert channel.usable
        grpcio.service.proceed.set()
    assert [task.result() for task in tasks] == [b"%d" % number for number in range(1000)]
    assert grpcio.service.most_running <= 100


async def test_a_call_that_waits_for_a_stream_keeps_its_deadline(
    grpcio: GrpcioServer, channel: Channel
) -> None:
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(channel.unary(SLOW, timeout_s=15, body=b"")) for _ in range(100)]
        await eventually(lambda: grpcio.service.running == 100)
        error = await failed(channel.unary(ECHO, b"x", timeout_s=0.1))
        assert (error.code, error.sent) == (RpcCode.DEADLINE_EXCEEDED, False)
        waiting = group.create_task(channel.unary(ECHO, b"later", timeout_s=15))
        gone = group.create_task(channel.unary(ECHO, b"never", timeout_s=15))
        await asyncio.sleep(0)
        gone.cancel()
        grpcio.service.proceed.set()
    assert waiting.result() == b"later"
    assert {task.result() for task in held} == {b""}
    assert b"never" not in [call.body for call in grpcio.service.calls]


async def test_cancelled_calls_give_their_streams_back(grpcio: GrpcioServer, channel: Channel) -> None:
    for _ in range(3):
        tasks = [
            asyncio.get_running_loop().create_task(channel.unary(SLOW, b"", timeout_s=15)) for _ in range(100)
        ]
        await eventually(lambda: grpcio.service.running == 100)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await eventually(lambda: grpcio.service.running == 0)
    assert await channel.unary(ECHO, b"x", timeout_s=15) == b"x"


# --- sizes ---


async def test_limits_of_size(grpcio: GrpcioServer) -> None:
    channel = await connected(grpcio.port, ClientSettings(max_receive_bytes=1000, max_send_bytes=2000))
    assert len(await channel.unary(MAKE, b"1000", timeout_s=10)) == 1000
    error = await failed(channel.unary(MAKE, b"1001", timeout_s=10))
    assert (error.code, error.sent) == (RpcCode.RESOURCE_EXHAUSTED, True)
    error = await failed(channel.unary(ECHO, bytes(2001), timeout_s=10))
    assert (error.code, error.sent) == (RpcCode.RESOURCE_EXHAUSTED, False)
    assert (await failed(channel.unary(MAKE, b"5000000", timeout_s=10))).code == RpcCode.RESOURCE_EXHAUSTED
    assert await channel.unary(ECHO, bytes(900), timeout_s=10) == bytes(900)
    await close(channel)


# --- the end of a connection ---


async def test_a_server_that_stops_lets_calls_end_and_takes_no_more(
    grpcio: GrpcioServer, channel: Channel
) -> None:
    """GOAWAY in mid-flight."""
    async with asyncio.TaskGroup() as group:
        held = group.create_task(channel.unary(SLOW, b"mine", timeout_s=15))
        await eventually(lambda: grpcio.service.running == 1)
        stop = group.create_task(grpcio.stop(10))
        await eventually(lambda: not channel.usable)
        error = await failed(channel.unary(ECHO, b"x", timeout_s=5))
        assert (error.code, error.sent) == (RpcCode.UNAVAILABLE, False)
        assert not held.done()
        grpcio.service.proceed.set()
        await stop
    assert held.result() == b"mine"
    async with asyncio.timeout(5):
        await channel.closed.wait()


async def test_close_fails_what_is_under_way(grpcio: GrpcioServer, channel: Channel) -> None:
    async with asyncio.TaskGroup() as group:
        held = group.create_task(failed(channel.unary(SLOW, b"", timeout_s=15)))
        await eventually(lambda: grpcio.service.running == 1)
        channel.close()
    assert (held.result().code, held.result().sent) == (RpcCode.UNAVAILABLE, True)
    error = await failed(channel.unary(ECHO, b"", timeout_s=5))
    assert (error.code, error.sent) == (RpcCode.UNAVAILABLE, False)
    await eventually(lambda: grpcio.service.running == 0)


async def test_retire_lets_calls_end(grpcio: GrpcioServer, channel: Channel) -> None:
    async with asyncio.TaskGroup() as group:
        held = group.create_task(channel.unary(SLOW, b"mine", timeout_s=15))
        await eventually(lambda: grpcio.service.running == 1)
        channel.retire()
        assert not channel.usable
        assert not channel.closed.is_set()
        grpcio.service.proceed.set()
    assert held.result() == b"mine"
    async with asyncio.timeout(5):
        await channel.closed.wait()


KILLED = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
client, _ = server.accept()
client.sendall(bytes.fromhex("000000040000000000" "000000040100000000"))
heard = b""
while received := client.recv(65536):
    heard += received
    if heard.count(b"/Slow") == 5:
        print("heard", flush=True)
"""


async def test_a_server_that_is_killed_in_mid_call() -> None:
    """A process of its own that greets and hears calls, and then kill -9."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        channel = await connected(int(await process.stdout.readline()))
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(failed(channel.unary(SLOW, b"", timeout_s=15))) for _ in range(5)]
            assert await process.stdout.readline() == b"heard\n"
            os.kill(process.pid, signal.SIGKILL)
        assert {(task.result().code, task.result().sent) for task in held} == {(RpcCode.UNAVAILABLE, True)}
        assert not channel.usable
        await channel.closed.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_nobody_listens() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ConnectionRefusedError):
        await Channel.connect(HOST, port, settings=SETTINGS_OF_CLIENT)


# --- servers by hand ---


Answer = Callable[[Raw, int], Awaitable[None]]


@contextlib.asynccontextmanager
async def by_hand(answer: Answer, values: dict[int, int] | None = None) -> AsyncIterator[Channel]:
    """A channel to a server that greets, then does `answer` for each request."""

    async def serve(raw: Raw) -> None:
        raw.write(settings(values) + frame(SETTINGS, ACK))
        async with asyncio.TaskGroup() as group:
            while found := await raw.frames():
                for one in found:
                    if one.kind == PING and not one.flags & ACK:
                        raw.write(ping(one.payload, ack=True))
                    if one.flags & END_STREAM and one.kind in (HEADERS, DATA):
                        group.create_task(answer(raw, one.stream))

    async with raw_server(serve) as port:
        channel = await connected(port)
        yield channel
        await close(channel)


def headers(fields: bytes, stream: int, *, end: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, fields)


def whole(stream: int, body: bytes) -> bytes:
    """A good answer."""
    return (
        headers(ANSWER_HEADERS, stream) + data(stream, message(body)) + headers(OK_TRAILERS, stream, end=True)
    )


def trailers_only(*fields: tuple[str, str]) -> Callable[[int], bytes]:
    return lambda stream: headers(block(fields), stream, end=True)


GRPC = ("content-type", "application/grpc")
BAD_ANSWERS: dict[str, tuple[Callable[[int], bytes], RpcCode]] = {
    "a proxy's 503": (
        lambda stream: (
            headers(block([(":status", "503"), ("content-type", "text/html")]), stream)
            + data(stream, b"<html>", end=True)
        ),
        RpcCode.UNAVAILABLE,
    ),
    "401": (trailers_only((":status", "401")), RpcCode.UNAUTHENTICATED),
    "403": (trailers_only((":status", "403")), RpcCode.PERMISSION_DENIED),
    "404": (trailers_only((":status", "404")), RpcCode.UNIMPLEMENTED),
    "400": (trailers_only((":status", "400")), RpcCode.INTERNAL),
    "418": (trailers_only((":status", "418")), RpcCode.UNKNOWN),
    "a status that is no number": (
        trailers_only((":status", "200"), GRPC, ("grpc-status", "ok")),
        RpcCode.UNKNOWN,
    ),
    "a status nobody knows": (
        trailers_only((":status", "200"), GRPC, ("grpc-status", "99")),
        RpcCode.UNKNOWN,
    ),
    "a status beside an HTTP error": (
        trailers_only((":status", "503"), GRPC, ("grpc-status", "8")),
        RpcCode.RESOURCE_EXHAUSTED,
    ),
    "success without a message": (
        lambda stream: headers(ANSWER_HEADERS, stream) + headers(OK_TRAILERS, stream, end=True),
        RpcCode.INTERNAL,
    ),
    "half a message": (
        lambda stream: (
            headers(ANSWER_HEADERS, stream)
            + data(stream, message(b"abcdef")[:-1])
            + headers(OK_TRAILERS, stream, end=True)
        ),
        RpcCode.INTERNAL,
    ),
    "two messages": (
        lambda stream: (
            headers(ANSWER_HEADERS, stream)
            + data(stream, message(b"a") + message(b"b"))
            + headers(OK_TRAILERS, stream, end=True)
        ),
        RpcCode.INTERNAL,
    ),
    "refused": (lambda stream: rst_stream(stream, Code.REFUSED_STREAM), RpcCode.UNAVAILABLE),
    "cancelled": (lambda stream: rst_stream(stream, Code.CANCEL), RpcCode.CANCELLED),
    "internal error": (lambda stream: rst_stream(stream, Code.INTERNAL_ERROR), RpcCode.INTERNAL),
    "calm down": (lambda stream: rst_stream(stream, Code.ENHANCE_YOUR_CALM), RpcCode.RESOURCE_EXHAUSTED),
    "an error code that is none": (lambda stream: rst_stream(stream, 0xFFFFFFFF), RpcCode.INTERNAL),
    "reset in the middle": (
        lambda stream: (
            headers(ANSWER_HEADERS, stream) + data(stream, message(b"abc")[:4]) + rst_stream(stream, 2)
        ),
        RpcCode.INTERNAL,
    ),
    "DATA before HEADERS": (lambda stream: data(stream, message(b"a"), end=True), RpcCode.INTERNAL),
}


@pytest.mark.parametrize(("octets", "code"), BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
async def test_answers_that_are_none(octets: Callable[[int], bytes], code: RpcCode) -> None:
    """By gRPC's own mapping (doc/http-grpc-status-mapping.md, PROTOCOL-HTTP2.md). The next call goes on."""

    async def answer(raw: Raw, stream: int) -> None:
        raw.write(octets(stream) if stream == 1 else whole(stream, b"good"))

    async with by_hand(answer) as channel:
        error = await failed(channel.unary(ECHO, b"x", timeout_s=10))
        assert error.code == code
        assert error.sent == (octets(1) != rst_stream(1, Code.REFUSED_STREAM))
        assert await channel.unary(ECHO, b"x", timeout_s=10) == b"good"


async def test_details_in_any_spelling() -> None:
    for sent, meant in (
        ("a%20b", "a b"),
        ("%C3%A4%e2%82%ac", "ä€"),
        ("100%", "100%"),
        ("%zz%4", "%zz%4"),
        ("raw \xe4", None),
        ("%ff%fe", None),
    ):

        async def answer(raw: Raw, stream: int, text: str = sent) -> None:
            fields = [(":status", "200"), GRPC, ("grpc-status", "5"), ("grpc-message", text)]
            raw.write(headers(block(fields), stream, end=True))

        async with by_hand(answer) as channel:
            error = await failed(channel.unary(ECHO, b"x", timeout_s=10))
            assert (error.code, error.from_server) == (RpcCode.NOT_FOUND, True)
            assert meant is None or error.message == meant


async def test_an_answer_octet_by_octet() -> None:
    async def answer(raw: Raw, stream: int) -> None:
        for octet in whole(stream, b"slowly"):
            await raw.push(bytes([octet]))
            await asyncio.sleep(0)

    async with by_hand(answer) as channel:
        assert await channel.unary(ECHO, b"x", timeout_s=10) == b"slowly"


async def test_calls_above_the_last_stream_of_a_goaway_were_not_seen() -> None:
    async def answer(raw: Raw, stream: int) -> None:
        if stream == 5:
            raw.write(goaway(3, Code.NO_ERROR, b"restart"))
            raw.write(whole(1, b"first") + whole(3, b"second"))

    async with by_hand(answer) as channel, asyncio.TaskGroup() as group:
        first, second = (group.create_task(channel.unary(ECHO, b"x", timeout_s=10)) for _ in range(2))
        third = group.create_task(failed(channel.unary(ECHO, b"x", timeout_s=10)))
        await asyncio.wait([first, second, third])
        assert (first.result(), second.result()) == (b"first", b"second")
        assert (third.result().code, third.result().sent) == (RpcCode.UNAVAILABLE, False)
        async with asyncio.timeout(5):
            await channel.closed.wait()


async def test_a_connection_that_breaks_after_the_request() -> None:
    async def answer(raw: Raw, stream: int) -> None:
        if stream == 3:
            raw.abort()

    async with by_hand(answer) as channel, asyncio.TaskGroup() as group:
        tasks = [group.create_task(failed(channel.unary(ECHO, b"x", timeout_s=10))) for _ in range(2)]
        await asyncio.wait(tasks)
        assert {(task.result().code, task.result().sent) for task in tasks} == {(RpcCode.UNAVAILABLE, True)}
        assert not channel.usable


@pytest.mark.parametrize(
    "octets",
    [b"\xff" * 9, ping(b"short"), b"HTTP/1.1 400 Bad Request\r\n\r\n", headers(ANSWER_HEADERS, 2)],
    ids=["huge frame", "short ping", "HTTP/1.1", "pushed stream"],
)
async def test_a_server_that_breaks_the_rules_in_mid_call(octets: bytes) -> None:
    async def answer(raw: Raw, _stream: int) -> None:
        raw.write(octets)

    async with by_hand(answer) as channel:
        error = await failed(channel.unary(ECHO, b"x", timeout_s=10))
        assert (error.code, error.sent) == (RpcCode.UNAVAILABLE, True)
        async with asyncio.timeout(5):
            await channel.closed.wait()


async def test_streams_that_the_peer_does_not_allow_yet() -> None:
    """MAX_CONCURRENT_STREAMS of 0 is how a server says "wait"."""
    let_go = asyncio.Event()
    order: list[int] = []

    async def serve(raw: Raw) -> None:
        raw.write(settings({MAX_CONCURRENT_STREAMS: 0}) + frame(SETTINGS, ACK))
        await let_go.wait()
        raw.write(settings({MAX_CONCURRENT_STREAMS: 1}))
        while found := await raw.frames():
            for one in found:
                if one.flags & END_STREAM and one.kind == DATA:
                    order.append(one.stream)
                    raw.write(whole(one.stream, b"now"))

    async with raw_server(serve) as port:
        channel = await connected(port)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(channel.unary(ECHO, b"x", timeout_s=10)) for _ in range(3)]
            error = await failed(channel.unary(ECHO, b"x", timeout_s=0.05))
            assert (error.code, error.sent) == (RpcCode.DEADLINE_EXCEEDED, False)
            let_go.set()
        assert [task.result() for task in tasks] == [b"now"] * 3
        assert order == [1, 3, 5]
        await close(channel)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 8, ping()])
async def test_a_server_that_does_not_greet(first: bytes) -> None:
    async def serve(raw: Raw) -> None:
        raw.write(first)
        await raw.writer.drain()

    async with raw_server(serve) as port:
        with pytest.raises(ConnectionError):
            await Channel.connect(HOST, port, settings=SETTINGS_OF_CLIENT)


async def test_connecting_may_be_given_up() -> None:
    gone = asyncio.Event()

    async def serve(raw: Raw) -> None:
        await raw.ended()
        gone.set()

    async with raw_server(serve) as port:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await Channel.connect(HOST, port, settings=SETTINGS_OF_CLIENT)
        async with asyncio.timeout(5):
            await gone.wait()


async def test_a_cancelled_call_tells_its_server() -> None:
    seen: asyncio.Queue[Frame] = asyncio.Queue()

    async def serve(raw: Raw) -> None:
        raw.write(settings() + frame(SETTINGS, ACK))
        while found := await raw.frames():
            for one in found:
                seen.put_nowait(one)

    async def kind(wanted: int) -> Frame:
        async with asyncio.timeout(5):
            while (one := await seen.get()).kind != wanted:
                pass
        return one

    async with raw_server(serve) as port:
        channel = await connected(port)
        task = asyncio.get_running_loop().create_task(channel.unary(ECHO, b"x", timeout_s=10))
        await kind(DATA)
        task.cancel()
        assert (await kind(RST_STREAM)).error_code == Code.CANCEL
        assert (await failed(channel.unary(ECHO, b"x", timeout_s=0.05))).code == RpcCode.DEADLINE_EXCEEDED
        one = await kind(RST_STREAM)
        assert (one.stream, one.error_code) == (3, Code.CANCEL)
        await close(channel)


# --- peers that are half open ---


async def test_a_peer_that_answers_no_ping_is_given_up() -> None:
    async def serve(raw: Raw) -> None:
        raw.write(settings() + frame(SETTINGS, ACK))
        await raw.ended(60)

    async with raw_server(serve) as port:
        keepalive = Keepalive(time_s=0.1, timeout_s=0.1, without_calls=False)
        channel = await connected(port, ClientSettings(keepalive=keepalive))
        await asyncio.sleep(0.4)
        assert channel.usable, "no call is under way: nothing is asked"
        error = await failed(channel.unary(ECHO, b"x", timeout_s=15))
        assert (error.code, error.sent) == (RpcCode.UNAVAILABLE, True)
        async with asyncio.timeout(5):
            await channel.closed.wait()


async def test_an_idle_peer_that_answers_no_ping_is_given_up_if_wanted() -> None:
    async def serve(raw: Raw) -> None:
        raw.write(settings() + frame(SETTINGS, ACK))
        await raw.ended(60)

    async with raw_server(serve) as port:
        keepalive = Keepalive(time_s=0.1, timeout_s=0.1, without_calls=True)
        channel = await connected(port, ClientSettings(keepalive=keepalive))
        async with asyncio.timeout(10):
            await channel.closed.wait()
        assert not channel.usable


async def test_a_peer_that_answers_pings_is_kept() -> None:
    pings = 0

    async def serve(raw: Raw) -> None:
        nonlocal pings
        raw.write(settings() + frame(SETTINGS, ACK))
        while found := await raw.frames():
            for one in found:
                if one.kind == PING and not one.flags & ACK:
                    pings += 1
                    raw.write(ping(one.payload, ack=True))

    async with raw_server(serve) as port:
        keepalive = Keepalive(time_s=0.02, timeout_s=1.0, without_calls=True)
        channel = await connected(port, ClientSettings(keepalive=keepalive))
        await eventually(lambda: pings >= 10)
        await asyncio.sleep(1.2)
        assert channel.usable
        await close(channel)


# --- streams ---


async def test_messages_both_ways(channel: Channel) -> None:
    stream = channel.stream(CHAT)
    for number in range(20):
        await stream.send(b"%d" % number)
        assert await stream.receive() == b"%d" % number
    await stream.send(b"bye")
    assert await stream.receive() is None
    stream.cancel()


async def test_a_stream_that_is_fed_faster_than_it_is_read(channel: Channel) -> None:
    stream = channel.stream(CHAT)
    await stream.send(b"many 2000")
    await stream.send(bytes(300_000))
    assert [await stream.receive() for _ in range(2000)] == [b"%d" % number for number in range(2000)]
    assert await stream.receive() == bytes(300_000)
    stream.cancel()


async def test_a_stream_that_fails_gives_its_messages_first(channel: Channel) -> None:
    stream = channel.stream(CHAT)
    for body in (b"one", b"two", b"fail"):
        await stream.send(body)
    assert [await stream.receive(), await stream.receive()] == [b"one", b"two"]
    for _ in range(2):
        error = await failed(stream.receive())
        assert (error.code, error.message, error.from_server) == (RpcCode.ABORTED, "as you wish: ä€", True)
    stream.cancel()


async def test_a_cancelled_stream_ends_and_leaves_the_others(channel: Channel) -> None:
    ended, other = channel.stream(CHAT), channel.stream(CHAT)
    await ended.send(b"x")
    assert await ended.receive() == b"x"
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(failed(ended.receive()))
        await asyncio.sleep(0)
        ended.cancel()
    assert waiting.result().code == RpcCode.CANCELLED
    await other.send(b"y")
    assert await other.receive() == b"y"
    other.cancel()


async def test_many_streams_beside_calls(channel: Channel) -> None:
    streams = [channel.stream(CHAT) for _ in range(40)]

    async def talk(number: int) -> None:
        for turn in range(10):
            await streams[number].send(b"%d %d" % (number, turn))
            assert await streams[number].receive() == b"%d %d" % (number, turn)

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(talk(number))
        for _ in range(100):
            group.create_task(patiently(channel, ECHO, b"x"))
    for stream in streams:
        stream.cancel()


async def test_a_lost_connection_ends_its_streams(grpcio: GrpcioServer, channel: Channel) -> None:
    stream = channel.stream(CHAT)
    await stream.send(b"x")
    assert await stream.receive() == b"x"
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(failed(stream.receive()))
        await asyncio.sleep(0)
        await grpcio.stop()
    assert waiting.result().code in (RpcCode.UNAVAILABLE, RpcCode.CANCELLED)
    await failed(stream.send(b"y"))
