"""Clients that are slow: to take their answers, or to send their requests. Some never get on."""

from collections.abc import AsyncIterator

import pytest

from coordd.http2.frames import ENHANCE_YOUR_CALM
from coordd.rpc import kept, served_connection
from coordd.rpc.failure import RpcCode
from coordd.rpc.server import ServerOptions
from tests.support.etcd import eventually
from tests.support.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_WINDOW,
    Frame,
    data,
    frame,
    ping,
    rst_stream,
    settings,
    window_update,
)
from tests.support.http2_peers import ECHO, MAKE, SLOW, OwnServer, own_caller, serving
from tests.support.http2_raw import Raw, call, greeted, headers_of, is_goaway, is_pong, message

MB = 1 << 20
SIZE = 100_000
NO_WINDOW = {INITIAL_WINDOW_SIZE: 0}
OPTIONS = ServerOptions(
    min_ping_interval_ms=0, max_receive_bytes=MB, max_send_bytes=2 * MB, max_concurrent_rpcs=1_000
)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OwnServer]:
    """Requests wait from 1 MB of answers on. Others are served meanwhile, and nothing is left of a call."""
    monkeypatch.setattr(served_connection, "_UNSENT_LIMIT", MB)
    monkeypatch.setattr(served_connection, "_SWEEP_S", 0.02)
    async with serving(OwnServer(OPTIONS)) as server:
        yield server
        other = await own_caller(server.port)
        assert await other.call(ECHO, b"x") == b"x"
        await other.close()


def asked(first: int, count: int, path: str = MAKE, body: bytes = b"%d" % SIZE) -> bytes:
    """`count` calls."""
    return b"".join(call(stream, path, body) for stream in range(first, first + 2 * count, 2))


async def seen(raw: Raw, octets: bytes) -> list[Frame]:
    """What the server says until it has read all of it."""
    before: list[Frame] = []
    raw.write(octets + ping())
    await raw.until(lambda one: is_pong(one) or before.append(one) is not None)
    return before


class Tally:
    """What has come of some calls: bytes of data, and the streams that have ended."""

    def __init__(self) -> None:
        self.bytes = 0
        self.ended: list[int] = []

    def all_ended(self, one: Frame, count: int) -> bool:
        if one.kind == DATA:
            self.bytes += len(one.payload)
        elif one.kind == HEADERS and one.flags & END_STREAM:
            self.ended.append(one.stream)
        return len(self.ended) == count


def statuses(frames: list[Frame]) -> dict[int, int]:
    """grpc-status by stream, of failures."""
    found = {}
    for one in frames:
        if one.kind == HEADERS and one.flags & END_STREAM and b"grpc-status" in one.payload:
            at = one.payload.index(b"grpc-status") + len(b"grpc-status")
            found[one.stream] = int(one.payload[at + 1 : at + 1 + one.payload[at]])
    return found


# --- answers ---


async def test_requests_wait_while_answers_wait_for_windows(server: OwnServer) -> None:
    async with greeted(server.port, NO_WINDOW) as raw:
        await seen(raw, asked(1, 100))
        assert 10 <= len(server.service.calls) <= 12
        raw.write(settings({INITIAL_WINDOW_SIZE: MAX_WINDOW}))  # the connection's window opens bit by bit
        for _ in range(200):
            await seen(raw, window_update(0, 10_000))
        assert 20 <= len(server.service.calls) <= 40
        raw.write(window_update(0, 1 << 30))
        await raw.until(lambda one: one.stream == 199 and bool(one.flags & END_STREAM))
        assert len(server.service.calls) == 100


async def test_all_are_answered_in_their_order_when_the_windows_open(server: OwnServer) -> None:
    async with greeted(server.port, NO_WINDOW) as raw:
        await seen(raw, asked(1, 100))
        tally = Tally()
        raw.write(settings({INITIAL_WINDOW_SIZE: MAX_WINDOW}) + window_update(0, 1 << 30))
        await raw.until(lambda one: tally.all_ended(one, 100))
        assert tally.bytes == 100 * (SIZE + 5)
        assert tally.ended == list(range(1, 201, 2))


async def test_requests_wait_while_the_socket_is_not_read(server: OwnServer) -> None:
    async with greeted(server.port, {INITIAL_WINDOW_SIZE: MAX_WINDOW}) as raw:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        raw.write(window_update(0, 1 << 30) + asked(1, 300))
        await eventually(lambda: len(server.service.calls) > 10)
        other = await own_caller(server.port)
        for _ in range(20):
            assert await other.call(ECHO, b"x") == b"x"
        await other.close()
        assert len(server.service.calls) < 300
        raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
        tally = Tally()
        await raw.until(lambda one: tally.all_ended(one, 300))
        assert tally.bytes == 300 * (SIZE + 5)


async def test_calls_under_way_fail_when_they_would_pile_up_further(server: OwnServer) -> None:
    """They had begun before so much was unread; the connection and what is queued are not touched."""
    async with greeted(server.port, NO_WINDOW) as raw:
        await seen(raw, asked(1, 50, SLOW, b"x" * 15_000))
        await seen(raw, b"".join(call_in_pieces(stream, SLOW, b"y" * 900_000) for stream in (101, 103, 105)))
        assert server.service.running == 53
        server.service.proceed.set()
        frames = await seen(raw, b"")
        while not statuses(frames):
            frames += await seen(raw, b"")
        assert statuses(frames) == {105: RpcCode.RESOURCE_EXHAUSTED}
        tally = Tally()
        raw.write(settings({INITIAL_WINDOW_SIZE: MAX_WINDOW}) + window_update(0, 1 << 30))
        await raw.until(lambda one: tally.all_ended(one, 52))
        assert tally.bytes == 50 * 15_005 + 2 * 900_005


async def test_who_takes_nothing_at_all_is_sent_away(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_connection, "_STALLED_S", 0.1)
    async with greeted(server.port, NO_WINDOW) as raw:
        raw.write(asked(1, 100))
        last = await raw.until(is_goaway)
        assert last.error_code == ENHANCE_YOUR_CALM
        assert last.payload.endswith(b"answers are not read")
        assert await raw.ended() == []


async def test_who_does_not_even_read_the_last_words_is_not_waited_for(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with greeted(server.port, {INITIAL_WINDOW_SIZE: MAX_WINDOW}) as raw:
        raw.write(call(1, SLOW, b"") + window_update(0, 1 << 30))
        await eventually(lambda: server.service.running == 1)
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        monkeypatch.setattr(served_connection, "_STALLED_S", 0.1)
        raw.write(asked(3, 300))
        await eventually(lambda: server.service.cancelled == 1)


async def test_a_call_that_waits_has_its_deadline(server: OwnServer) -> None:
    async with greeted(server.port, NO_WINDOW) as raw:
        await seen(raw, asked(1, 20))
        made = len(server.service.calls)
        short = frame(HEADERS, END_HEADERS, 101, headers_of(ECHO, ("grpc-timeout", "50m")))
        raw.write(short + data(101, message(b"x"), end=True))
        last = await raw.until(lambda one: one.stream == 101)
        assert statuses([last]) == {101: RpcCode.DEADLINE_EXCEEDED}
        assert len(server.service.calls) == made


async def test_a_call_that_waits_may_be_given_up(server: OwnServer) -> None:
    async with greeted(server.port, NO_WINDOW) as raw:
        await seen(raw, asked(1, 20) + rst_stream(39))
        tally = Tally()
        raw.write(settings({INITIAL_WINDOW_SIZE: MAX_WINDOW}) + window_update(0, 1 << 30))
        await raw.until(lambda one: tally.all_ended(one, 19))
        await seen(raw, b"")
        assert len(server.service.calls) == 19


async def test_a_call_that_waits_is_unavailable_when_the_server_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served_connection, "_UNSENT_LIMIT", MB)
    async with serving(OwnServer(OPTIONS)) as server, greeted(server.port, NO_WINDOW) as raw:
        await seen(raw, asked(1, 20))
        made = len(server.service.calls)
        await server.stop()
        failed = statuses(await raw.ended())
        assert failed == dict.fromkeys(range(2 * made + 1, 41, 2), RpcCode.UNAVAILABLE)


async def test_requests_that_wait_are_bounded(server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_SPARE_BYTES", 0)
    async with greeted(server.port, NO_WINDOW) as raw:
        await seen(raw, asked(1, 20))
        frames = await seen(
            raw, b"".join(call_in_pieces(stream, ECHO, bytes(SIZE)) for stream in range(101, 141, 2))
        )
        assert set(statuses(frames).values()) == {RpcCode.RESOURCE_EXHAUSTED}
        assert len(statuses(frames)) == 20 - MB // (SIZE + 100)


# --- requests ---


def beginning(stream: int, *headers: tuple[str, str], size: int = 20) -> bytes:
    """Of a call whose message never comes in full."""
    head = frame(HEADERS, END_HEADERS, stream, headers_of(ECHO, *headers))
    sent = message(bytes(size + 1))[:-1]
    return head + b"".join(data(stream, sent[at : at + 16_384]) for at in range(0, len(sent), 16_384))


def call_in_pieces(stream: int, path: str, body: bytes) -> bytes:
    """A call of more than one frame of data."""
    sent = message(body)
    pieces = [data(stream, sent[at : at + 16_384]) for at in range(0, len(sent), 16_384)]
    return frame(HEADERS, END_HEADERS, stream, headers_of(path)) + b"".join(pieces) + data(stream, end=True)


async def test_a_request_that_never_comes_in_full_has_its_deadline(server: OwnServer) -> None:
    async with greeted(server.port) as raw:
        await seen(raw, beginning(1, ("grpc-timeout", "50m")) + beginning(3, ("grpc-timeout", "1H")))
        last = await raw.until(lambda one: one.stream == 1)
        assert statuses([last]) == {1: RpcCode.DEADLINE_EXCEEDED}
        raw.write(data(3, b"x", end=True))
        last = await raw.until(lambda one: one.stream == 3 and bool(one.flags & END_STREAM))
        assert statuses([last]) == {3: RpcCode.OK}


async def test_without_one_it_may_not_take_for_ever(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "ARRIVAL_LIMIT_S", 0.1)
    async with greeted(server.port) as raw:
        raw.write(b"".join(beginning(stream) for stream in range(1, 41, 2)))
        ended: list[Frame] = []
        await raw.until(
            lambda one: bool(one.kind == HEADERS and (ended.append(one) is not None or len(ended) == 20))
        )
        assert set(statuses(ended).values()) == {RpcCode.DEADLINE_EXCEEDED}
        assert len(statuses(ended)) == 20


async def test_requests_that_have_begun_are_bounded(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_SPARE_BYTES", 0)
    async with greeted(server.port) as raw:
        frames = await seen(raw, b"".join(beginning(stream, size=SIZE) for stream in range(1, 41, 2)))
        failed = statuses(frames)
        assert set(failed.values()) == {RpcCode.RESOURCE_EXHAUSTED}
        assert len(failed) == 20 - MB // SIZE
        [one, *_] = sorted(set(range(1, 41, 2)) - set(failed))
        raw.write(window_update(one, SIZE) + window_update(0, SIZE) + data(one, b"x", end=True))
        last = await raw.until(lambda got: got.stream == one and bool(got.flags & END_STREAM))
        assert statuses([last]) == {one: RpcCode.OK}
        assert await seen(raw, beginning(101, size=SIZE)) == []  # there is room again
