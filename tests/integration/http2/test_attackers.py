"""Peers that mean harm, or are out of their mind, against our server on a real port.

It serves others meanwhile and afterwards, and keeps nothing of theirs.
"""

import asyncio
import contextlib
import gzip
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from coordd.http2 import link
from coordd.rpc.failure import RpcCode
from coordd.rpc.server import ServerOptions
from tests.support.etcd import eventually
from tests.support.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_WINDOW,
    PREFACE,
    RST_STREAM,
    Code,
    block,
    data,
    frame,
    literal,
    ping,
    rst_stream,
    settings,
    window_update,
)
from tests.support.http2_peers import ECHO, MAKE, SLOW, OwnServer, failure, own_caller, serving
from tests.support.http2_raw import Raw, call, dialled, greeted, headers_of, is_goaway, is_pong, message

# A client of ours may ping as often as it likes here: what is judged is the flood, not the rate.
OPTIONS = ServerOptions(min_ping_interval_ms=0, max_receive_bytes=1 << 20, max_send_bytes=8 << 20)


@pytest.fixture
async def server() -> AsyncIterator[OwnServer]:
    """In the end a client that behaves is served, and the server has forgotten the other."""
    async with serving(OwnServer(OPTIONS)) as server:
        caller = await own_caller(server.port)
        yield server
        for made in (caller, await own_caller(server.port)):
            assert await made.call(ECHO, b"still there") == b"still there"
            await made.close()
        await eventually(lambda: server.service.running == 0)


async def goaway_code(raw: Raw) -> int | None:
    """What the server says with its last words; None if it just closes, as it may when we go on writing."""
    codes = [one.error_code for one in await raw.ended() if one.kind == GOAWAY]
    return codes[-1] if codes else None


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        bytes.fromhex("1603010200010001fc0303") + bytes(500),
        b"\0" * 100,
        b"x",
        PREFACE + ping(),
        PREFACE + b"\xff" * 100,
    ],
    ids=["HTTP/1.1", "HTTP/1.0", "TLS", "zeros", "one octet", "no SETTINGS", "noise after the preface"],
)
async def test_who_does_not_speak_http2_is_sent_away(server: OwnServer, words: bytes) -> None:
    async with dialled(server.port) as raw:
        raw.write(words)
        assert await goaway_code(raw) in (Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR, None)


async def test_a_preface_that_comes_octet_by_octet_is_fine(server: OwnServer) -> None:
    async with dialled(server.port) as raw:
        for octet in PREFACE + settings():
            raw.write(bytes([octet]))
            await asyncio.sleep(0)
        raw.write(ping())
        await raw.until(is_pong)


async def test_connections_that_say_nothing_hold_up_nobody(server: OwnServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for half in (b"", PREFACE[:7], PREFACE, PREFACE + settings()[:5]):
            for _ in range(25):
                raw = await stack.enter_async_context(dialled(server.port))
                raw.write(half)
        caller = await own_caller(server.port)
        assert await caller.call(ECHO, b"x") == b"x"
        await caller.close()


def header_bomb() -> bytes:
    """The headers unfold to 40 MB: one large entry, ten thousand references to it, 16 KiB at a time."""
    large = frame(
        HEADERS, END_HEADERS | END_STREAM, 1, headers_of(ECHO) + literal(b"a", b"x" * 4000, first=0x40)
    )
    references = headers_of(ECHO) + b"\xbe" * 10_000
    return large + b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, stream, references) for stream in range(3, 41, 2)
    )


def continuations(count: int, payload: bytes) -> bytes:
    return frame(HEADERS, 0, 1, headers_of(ECHO)) + frame(CONTINUATION, 0, 1, payload) * count


def rapid_resets(count: int) -> bytes:
    return b"".join(
        frame(HEADERS, END_HEADERS, stream, headers_of(SLOW))
        + data(stream, message(b"x"), end=True)
        + rst_stream(stream)
        for stream in range(1, 2 * count, 2)
    )


FLOODS: dict[str, Callable[[], bytes]] = {
    "CONTINUATION without end": lambda: continuations(20_000, literal(b"a", b"x" * 500)),
    "empty CONTINUATION without end": lambda: continuations(50_000, b""),
    "PING": lambda: ping() * 60_000,
    "SETTINGS": lambda: settings({INITIAL_WINDOW_SIZE: 1000}) * 60_000,
    "rapid reset": lambda: rapid_resets(12_000),
    "empty DATA": lambda: frame(HEADERS, END_HEADERS, 1, headers_of(ECHO)) + data(1) * 60_000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
async def test_floods_end_the_connection(server: OwnServer, flood: Callable[[], bytes]) -> None:
    """In one go, and read by nobody until it is over."""
    octets = flood()
    async with greeted(server.port) as raw:
        for at in range(0, len(octets), 1 << 18):
            if not await raw.push(octets[at : at + (1 << 18)]):
                break
        assert await goaway_code(raw) in (Code.ENHANCE_YOUR_CALM, None)


async def test_calls_that_are_given_up_after_a_while_are_no_flood(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eleven times a thousand deadlines pass within a moment."""
    monkeypatch.setattr(link, "_TICK_S", 0.0)
    async with greeted(server.port) as raw:
        for first in range(1, 22_001, 2_000):
            streams = range(first, first + 2_000, 2)
            begun = (frame(HEADERS, END_HEADERS, stream, headers_of(SLOW)) for stream in streams)
            raw.write(b"".join(begun) + ping())
            await raw.until(is_pong)
            raw.write(b"".join(map(rst_stream, streams)))
        raw.write(ping())
        await raw.until(is_pong)


async def test_headers_that_unfold_are_refused_and_cost_nothing(server: OwnServer) -> None:
    async with greeted(server.port) as raw:
        await raw.push(header_bomb() + ping())
        last = await raw.until(lambda one: is_pong(one) or is_goaway(one))
        assert last.kind != GOAWAY or last.error_code in (Code.ENHANCE_YOUR_CALM, Code.COMPRESSION_ERROR)
    assert len(server.service.calls) == 0


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (window_update(0, MAX_WINDOW), Code.FLOW_CONTROL_ERROR),
        (window_update(0, 0), Code.PROTOCOL_ERROR),
        (frame(DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
        (frame(DATA, 0, 7, b"x"), Code.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff"), Code.COMPRESSION_ERROR),
        (b"\xff" * 9, Code.FRAME_SIZE_ERROR),
        (settings({INITIAL_WINDOW_SIZE: 1 << 31}), Code.FLOW_CONTROL_ERROR),
    ],
    ids=[
        "window overflow",
        "window by 0",
        "DATA on 0",
        "DATA on idle",
        "bad HPACK",
        "huge frame",
        "huge window",
    ],
)
async def test_broken_rules_are_named_before_the_end(server: OwnServer, octets: bytes, code: Code) -> None:
    async with greeted(server.port) as raw:
        raw.write(call(1, SLOW) if octets[3:4] == b"\x08" else b"")
        raw.write(octets)
        assert await goaway_code(raw) == code
    assert server.service.running == 0


async def test_calls_of_a_connection_that_breaks_the_rules_are_cancelled(server: OwnServer) -> None:
    async with greeted(server.port) as raw:
        for stream in range(1, 21, 2):
            raw.write(call(stream, SLOW))
        await eventually(lambda: server.service.running == 10)
        raw.write(ping(b"short"))
        assert await goaway_code(raw) == Code.FRAME_SIZE_ERROR
        await eventually(lambda: server.service.cancelled == 10)


async def test_calls_of_a_connection_that_vanishes_are_cancelled(server: OwnServer) -> None:
    async with greeted(server.port) as raw:
        for stream in range(1, 21, 2):
            raw.write(call(stream, SLOW))
        await eventually(lambda: server.service.running == 10)
        raw.abort()
        await eventually(lambda: server.service.cancelled == 10)


async def test_a_client_that_reads_nothing_is_not_answered_without_bound(server: OwnServer) -> None:
    """It asks for 40 GB and promises to take it; what is made for it must stay within reason."""
    async with greeted(server.port, {INITIAL_WINDOW_SIZE: MAX_WINDOW}) as raw:
        await raw.push(window_update(0, MAX_WINDOW - 65_535))
        ask = asyncio.get_running_loop().create_task(
            raw.push(b"".join(call(stream, MAKE, b"4000000") for stream in range(1, 20_001, 2)))
        )
        caller = await own_caller(server.port)
        for _ in range(30):
            assert await caller.call(ECHO, b"x") == b"x"
            await asyncio.sleep(0.01)
        await caller.close()
        made = len(server.service.calls) - 30
        assert made < 100, "400 MB for somebody who does not read"
        ask.cancel()
        await asyncio.wait([ask])
        raw.abort()


async def test_a_client_without_a_window_gets_its_answers_when_it_opens_it(server: OwnServer) -> None:
    async with greeted(server.port, {INITIAL_WINDOW_SIZE: 0}) as raw:
        raw.write(call(1, ECHO, b"abc") + ping())
        await raw.until(is_pong)
        raw.write(window_update(1, 6))
        first = await raw.until(lambda one: one.kind == DATA)
        raw.write(window_update(1, 2))
        second = await raw.until(lambda one: one.kind == DATA)
        assert first.payload + second.payload == message(b"abc")
        last = await raw.until(lambda one: one.kind == HEADERS)
        assert last.flags & END_STREAM


async def test_requests_that_never_end_hold_up_nobody(server: OwnServer) -> None:
    async with greeted(server.port) as raw:
        for stream in range(1, 2001, 2):
            raw.write(
                frame(HEADERS, END_HEADERS, stream, headers_of(ECHO)) + data(stream, message(b"x" * 50)[:20])
            )
        raw.write(ping())
        await raw.until(is_pong)
        caller = await own_caller(server.port)
        assert await caller.call(ECHO, b"x") == b"x"
        await caller.close()
    assert [one.method for one in server.service.calls] == [ECHO]


async def status_of(raw: Raw, octets: bytes, stream: int = 1) -> str:
    """The grpc-status that a call ends with; "reset <code>" if it is reset instead."""
    raw.write(octets)
    last = await raw.until(
        lambda one: (
            one.stream == stream
            and (one.kind == RST_STREAM or (one.kind == HEADERS and bool(one.flags & END_STREAM)))
        )
    )
    if last.kind == RST_STREAM:
        return f"reset {last.error_code}"
    at = last.payload.index(b"grpc-status") + len(b"grpc-status")
    return last.payload[at + 1 : at + 1 + last.payload[at]].decode()


BAD_MESSAGES = {
    "above the limit": (struct.pack(">BI", 0, 2 << 20), RpcCode.RESOURCE_EXHAUSTED),
    "4 GB": (b"\0\xff\xff\xff\xff", RpcCode.RESOURCE_EXHAUSTED),
    "cut off": (message(b"abcdef")[:-1], RpcCode.INTERNAL),
    "a head that is cut off": (b"\0\0", RpcCode.INTERNAL),
    "none": (b"", RpcCode.INTERNAL),
    "two": (message(b"a") + message(b"b"), RpcCode.INTERNAL),
    "compressed without a word": (message(b"abc", compressed=1), RpcCode.INTERNAL),
    "a flag that is none": (message(b"abc", compressed=7), RpcCode.INTERNAL),
}


@pytest.mark.parametrize(("body", "code"), BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys())
async def test_messages_that_are_none_fail_their_call_only(
    server: OwnServer, body: bytes, code: RpcCode
) -> None:
    async with greeted(server.port) as raw:
        ask = frame(HEADERS, END_HEADERS, 1, headers_of(ECHO)) + data(1, body, end=True)
        assert await status_of(raw, ask) == str(int(code))
        assert await status_of(raw, call(3, ECHO, b"x"), 3) == "0"


async def test_gzip_that_unfolds_is_refused(server: OwnServer) -> None:
    """2 MB of zeros in 2 KB, the limit being 1 MiB; and gzip that is none."""

    async with greeted(server.port) as raw:
        head = headers_of(ECHO, ("grpc-encoding", "gzip"))
        for stream, packed, code in (
            (1, gzip.compress(bytes(2 << 20)), RpcCode.RESOURCE_EXHAUSTED),
            (3, gzip.compress(b"abc" * 99), RpcCode.OK),
            (5, gzip.compress(b"abc" * 99)[:-9], RpcCode.INTERNAL),
            (7, b"no gzip", RpcCode.INTERNAL),
            (9, gzip.compress(b"abc") + b"and more", RpcCode.INTERNAL),
        ):
            ask = frame(HEADERS, END_HEADERS, stream, head) + data(
                stream, message(packed, compressed=1), end=True
            )
            assert await status_of(raw, ask, stream) == str(int(code)), stream
        unknown = frame(HEADERS, END_HEADERS, 11, headers_of(ECHO, ("grpc-encoding", "zstd")))
        assert await status_of(raw, unknown + data(11, message(b"x", compressed=1), end=True), 11) == "12"


BAD_HEADS = {
    "GET": [(":method", "GET"), (":scheme", "http"), (":path", ECHO), ("content-type", "application/grpc")],
    "JSON": [(":method", "POST"), (":scheme", "http"), (":path", ECHO), ("content-type", "application/json")],
    "no content type": [(":method", "POST"), (":scheme", "http"), (":path", ECHO)],
    "no path": [(":method", "POST"), (":scheme", "http"), ("content-type", "application/grpc")],
    "nothing": [],
    "a bad time-out": [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", ECHO),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "soon"),
    ],
}


@pytest.mark.parametrize("fields", BAD_HEADS.values(), ids=BAD_HEADS.keys())
async def test_requests_that_are_not_grpc_get_an_answer(
    server: OwnServer, fields: list[tuple[str, str]]
) -> None:

    async with greeted(server.port) as raw:
        ask = frame(HEADERS, END_HEADERS, 1, block(fields)) + data(1, message(b"x"), end=True)
        assert await status_of(raw, ask) != "0"
        assert await status_of(raw, call(3, ECHO, b"x"), 3) == "0"
    assert [one.method for one in server.service.calls] == [ECHO]


async def test_a_call_whose_request_is_refused_early_may_go_on_sending(server: OwnServer) -> None:
    async with greeted(server.port) as raw:
        ask = frame(HEADERS, END_HEADERS, 1, headers_of("/no/Such")) + data(1, message(bytes(3000)))
        assert await status_of(raw, ask) == "12"
        raw.write(b"".join(data(1, bytes(16_000)) for _ in range(100)) + data(1, end=True))
        assert await status_of(raw, call(3, ECHO, b"x"), 3) == "0"


async def test_forty_attackers_at_once(server: OwnServer) -> None:
    async def attack(number: int) -> None:
        async with dialled(server.port) as raw:
            kind = number % 4
            if kind == 0:
                await raw.push(b"POST / HTTP/1.1\r\n\r\n")
            elif kind == 1:
                await raw.push(PREFACE + settings() + rapid_resets(300) + b"\xff" * 50)
            elif kind == 2:
                await raw.push(PREFACE + settings() + ping() * 2_000 + ping(b"short"))
            else:
                await raw.push(PREFACE + settings() + call(1, SLOW) + b"\0\0\1")
                raw.abort()
            if kind != 3:
                await raw.ended()

    caller = await own_caller(server.port)
    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(attack(number))
        for _ in range(50):
            assert await caller.call(ECHO, b"x") == b"x"
    await caller.close()


async def test_a_call_under_attack_ends_as_it_should(server: OwnServer) -> None:
    """Another client's calls, held meanwhile, are not touched."""
    caller = await own_caller(server.port)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(caller.call(SLOW, b"mine"))
        await eventually(lambda: server.service.running == 1)
        async with greeted(server.port) as raw:
            await raw.push(rapid_resets(500) + ping(b"short"))
            await raw.ended()
        await eventually(lambda: server.service.running == 1)
        server.service.proceed.set()
    assert held.result() == b"mine"
    assert (await failure(caller, "/no/Such")).code is RpcCode.UNIMPLEMENTED
    await caller.close()
