"""A client's calls against the server's end of the same connection, both in memory."""

import asyncio
import tracemalloc
from collections.abc import Callable, Iterable

import pytest

from coordd.http2 import frames, hpack, status
from coordd.http2.calls import Calls
from coordd.http2.client_stream import ClientStream
from coordd.http2.connection import Http2Connection
from coordd.http2.exchange import Unary
from coordd.http2.messages import frame_message
from coordd.http2.outcome import CallFailed
from coordd.http2.owner import Field, Side

HEAD = hpack.encode([(":method", "POST"), (":scheme", "http"), (":path", "/s/m"), (":authority", "a")])
HEADERS = hpack.encode([(":status", "200"), ("content-type", "application/grpc")])
OK = hpack.encode([("grpc-status", "0")])


class Wire:
    """The calls, and the server at the other end, which writes down what it is told."""

    def __init__(self, max_streams: int | None = None) -> None:
        self.client = Http2Connection(Side.CLIENT, None)
        self.calls = Calls(self.client, lambda: None, lambda: None, self._changed)
        self.client.owner = self.calls
        self.server = Http2Connection(Side.SERVER, self, max_streams=max_streams)
        self.begun: list[int] = []
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.changes = 0
        self.client.start()
        self.server.start()
        self.carry()

    def carry(self) -> None:
        """Bring everything to the other end, and what that leads to."""
        while True:
            up, down = self.client.take(), self.server.take()
            if not up and not down:
                return
            self.server.feed(up)
            self.client.feed(down)

    def _changed(self) -> None:
        self.changes += 1

    # --- the server is told ---

    def headers(self, stream: int, headers: list[Field], ended: bool) -> None:
        self.begun.append(stream)

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        self.bodies[stream] = self.bodies.get(stream, b"") + data

    def reset(self, stream: int, code: int) -> None:
        self.resets[stream] = code

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        raise AssertionError((last_stream, code, text))

    def pong(self, payload: bytes) -> None:
        raise AssertionError(payload)

    def settled(self) -> None:
        pass

    # --- what a test does ---

    def call(self, body: bytes = b"ask", max_bytes: int | None = None) -> Unary:
        """A call, begun if there is room."""
        made = self.enter(body, max_bytes)
        self.carry()
        return made

    def enter(self, body: bytes | bytearray, max_bytes: int | None = None) -> Unary:
        """A call of which nothing has come to the server so far."""
        loop = asyncio.get_running_loop()
        made = Unary(HEAD, body, loop.create_future(), deadline=loop.time() + 60, max_receive_bytes=max_bytes)
        self.calls.enter(made)
        return made

    def stream(self) -> ClientStream:
        """A call with messages both ways."""
        made = ClientStream(self.calls, self.client, HEAD, max_receive_bytes=None, max_send_bytes=1000)
        self.calls.enter(made)
        self.carry()
        return made

    def answer(self, stream: int, *bodies: bytes, trailers: bytes = OK) -> None:
        """Headers, messages, trailers."""
        self.server.send_headers(stream, HEADERS)
        self.server.send_last(stream, b"".join(map(frame_message, bodies)), trailers)
        self.carry()


def failure(call: Unary) -> CallFailed:
    error = call.answer.exception()
    assert isinstance(error, CallFailed)
    return error


def trailers(code: str, message: str = "") -> bytes:
    return hpack.encode([("grpc-status", code), ("grpc-message", message)])


async def test_a_call_goes_out_and_its_answer_comes_back() -> None:
    wire = Wire()
    call = wire.call(b"question")
    assert wire.bodies == {1: frame_message(b"question")}
    assert not call.answer.done()
    wire.answer(1, b"answer")
    assert call.answer.result() == b"answer"
    assert (len(wire.calls), wire.client.streams, wire.server.streams) == (0, 0, 0)


async def test_a_large_request_is_not_copied_for_each_server_that_is_sent_it() -> None:
    size = 4_000_000
    request = bytearray(b"x" * size)
    wires = [Wire() for _ in range(5)]
    tracemalloc.start()
    try:
        for wire in wires:
            wire.enter(request)
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()
    for wire in wires:
        wire.carry()
        assert wire.bodies == {1: frame_message(bytes(request))}


async def test_calls_beyond_what_the_server_takes_wait_and_begin_in_their_order() -> None:
    wire = Wire(max_streams=2)
    calls = [wire.call(b"%d" % number) for number in range(5)]
    assert wire.begun == [1, 3]
    wire.answer(3, b"b")
    assert wire.begun == [1, 3, 5]
    wire.answer(1, b"a")
    wire.answer(7, b"d")
    assert wire.bodies[9] == frame_message(b"4")
    wire.answer(9, b"e")
    wire.answer(5, b"c")
    assert [call.answer.result() for call in calls] == [b"a", b"b", b"c", b"d", b"e"]
    assert wire.resets == {}


async def test_a_newcomer_does_not_overtake_those_that_wait() -> None:
    wire = Wire(max_streams=2)
    wire.client.peer_max_streams = 1
    wire.call(b"0")
    wire.call(b"1")
    wire.client.peer_max_streams = 2  # as after new settings of the server
    wire.call(b"2")
    assert wire.bodies == {1: frame_message(b"0"), 3: frame_message(b"1")}


async def test_a_call_that_is_given_up_is_cancelled_there_and_makes_room() -> None:
    wire = Wire(max_streams=1)
    first, second = wire.call(b"1"), wire.call(b"2")
    wire.calls.leave(first)
    wire.carry()
    assert wire.resets == {1: frames.CANCEL}
    wire.answer(3, b"there")
    assert second.answer.result() == b"there"


async def test_a_call_that_is_given_up_while_it_waits_is_never_sent() -> None:
    wire = Wire(max_streams=1)
    wire.call(b"1")
    waiting, last = wire.call(b"2"), wire.call(b"3")
    wire.calls.leave(waiting)
    wire.answer(1, b"")
    wire.answer(3, b"third")
    assert (wire.begun, wire.bodies[3]) == ([1, 3], frame_message(b"3"))
    assert (last.answer.result(), waiting.stream) == (b"third", 0)


async def test_an_answer_that_comes_too_late_is_nobodys() -> None:
    wire = Wire()
    call = wire.call()
    wire.calls.leave(call)
    wire.answer(1, b"late")
    assert not call.answer.done()
    other = wire.call()
    wire.answer(3, b"in time")
    assert other.answer.result() == b"in time"


async def test_a_goaway_says_which_calls_were_not_looked_at() -> None:
    wire = Wire(max_streams=3)
    calls = [wire.call() for _ in range(4)]
    wire.server.goaway(frames.NO_ERROR, last_stream=3)
    wire.carry()
    assert [failure(call).sent for call in calls[2:]] == [False, False]
    assert {failure(call).code for call in calls[2:]} == {status.UNAVAILABLE}
    with pytest.raises(CallFailed, match="going away") as caught:
        wire.call()
    assert not caught.value.sent
    changes = wire.changes
    wire.answer(1, b"one")
    wire.answer(3, b"two")
    assert [call.answer.result() for call in calls[:2]] == [b"one", b"two"]
    assert wire.changes > changes, "the owner must learn that the last call has ended"


async def test_the_reason_of_a_goaway_is_told() -> None:
    wire = Wire()
    wire.server.goaway(frames.ENHANCE_YOUR_CALM, b"too_many_pings")
    wire.carry()
    assert wire.calls.refusal is not None
    assert "too_many_pings" in wire.calls.refusal


async def test_a_refused_stream_was_not_looked_at_and_other_resets_say_nothing() -> None:
    wire = Wire()
    refused, cancelled, broken, calm = (wire.call() for _ in range(4))
    wire.server.reset_stream(1, frames.REFUSED_STREAM)
    wire.server.reset_stream(3, frames.CANCEL)
    wire.server.reset_stream(5, frames.INTERNAL_ERROR)
    wire.server.reset_stream(7, frames.ENHANCE_YOUR_CALM)
    wire.carry()
    outcomes = [(failure(call).code, failure(call).sent) for call in (refused, cancelled, broken, calm)]
    assert outcomes == [
        (status.UNAVAILABLE, False),
        (status.CANCELLED, True),
        (status.INTERNAL, True),
        (status.RESOURCE_EXHAUSTED, True),
    ]


async def test_a_lost_connection_fails_all_calls_and_those_that_waited_were_not_sent() -> None:
    wire = Wire(max_streams=1)
    begun, waiting = wire.call(), wire.call()
    wire.calls.lost(ConnectionResetError("reset by peer"))
    assert [(failure(call).code, failure(call).sent) for call in (begun, waiting)] == [
        (status.UNAVAILABLE, True),
        (status.UNAVAILABLE, False),
    ]
    assert "reset by peer" in failure(begun).message
    with pytest.raises(CallFailed):
        wire.call()


async def test_calls_wait_while_the_socket_takes_nothing() -> None:
    wire = Wire()
    wire.calls.block(blocked=True)
    call = wire.call()
    assert (wire.begun, call.stream) == ([], 0)
    wire.calls.block(blocked=False)
    wire.carry()
    wire.answer(1, b"x")
    assert call.answer.result() == b"x"


async def test_a_refusal_of_our_own_lets_those_go_on_that_have_begun() -> None:
    wire = Wire(max_streams=1)
    first, second = wire.call(), wire.call()
    wire.calls.refuse("enough")
    assert (failure(second).sent, failure(second).message) == (False, "enough")
    with pytest.raises(CallFailed, match="enough"):
        wire.call()
    wire.answer(1, b"a")
    assert (first.answer.result(), len(wire.calls), wire.begun) == (b"a", 0, [1])


async def test_when_the_streams_are_used_up_nothing_was_sent_and_no_call_may_begin() -> None:
    wire = Wire()
    first = wire.call()
    wire.client._last_ours = frames.MAX_STREAM
    late = wire.call()
    assert (failure(late).code, failure(late).sent) == (status.UNAVAILABLE, False)
    assert wire.calls.refusal is not None
    wire.answer(1, b"still")
    assert first.answer.result() == b"still"


async def test_an_answer_before_the_request_is_out_ends_the_call() -> None:
    wire = Wire()
    wire.client._sender.window = 10
    call = wire.call(b"x" * 1000)
    assert wire.client.unsent > 0
    wire.answer(1, trailers=trailers("8", "too much"))
    assert failure(call).code == status.RESOURCE_EXHAUSTED
    assert (wire.client.unsent, wire.client.streams) == (0, 0)


End = Callable[[Wire], None]


def by_trailers(*fields: Field) -> End:
    """Trailers only."""
    return lambda wire: wire.server.send_headers(1, hpack.encode(fields), end=True)


def after_headers(body: bytes, last: Iterable[Field] = (("grpc-status", "0"),), *, code: str = "200") -> End:
    """Headers, data, trailers."""

    def end(wire: Wire) -> None:
        wire.server.send_headers(1, hpack.encode([(":status", code)]))
        wire.server.send_last(1, body, hpack.encode(last))

    return end


def cut_off(wire: Wire) -> None:
    """No trailers."""
    wire.server.send_headers(1, HEADERS)
    wire.server.send_data(1, frame_message(b"x"), end=True)


ONE = frame_message(b"x")


@pytest.mark.parametrize(
    ("end", "code", "from_server", "text"),
    [
        (
            by_trailers((":status", "200"), ("grpc-status", "5"), ("grpc-message", "no%20%C3%A4")),
            5,
            True,
            "no ä",
        ),
        (by_trailers((":status", "200"), ("grpc-status", "14")), 14, True, ""),
        (by_trailers((":status", "404"), ("grpc-status", "12")), 12, True, ""),
        (by_trailers((":status", "200"), ("grpc-status", "77")), status.UNKNOWN, True, ""),
        (by_trailers((":status", "200"), ("grpc-status", "-1")), status.UNKNOWN, True, ""),
        (by_trailers((":status", "200"), ("grpc-status", "00")), status.UNKNOWN, True, ""),
        (by_trailers((":status", "200"), ("grpc-status", "³")), status.UNKNOWN, True, ""),
        (by_trailers((":status", "200"), ("grpc-status", "0")), status.INTERNAL, False, "without a message"),
        (by_trailers((":status", "200")), status.UNKNOWN, False, "without grpc-status"),
        (by_trailers((":status", "503")), status.UNAVAILABLE, False, "503"),
        (by_trailers((":status", "401")), status.UNAUTHENTICATED, False, "401"),
        (by_trailers((":status", "500")), status.UNKNOWN, False, "500"),
        (by_trailers(("server", "x")), status.UNKNOWN, False, "none"),
        (after_headers(b"<html>", code="502"), status.UNAVAILABLE, False, "502"),
        (after_headers(b""), status.INTERNAL, False, "without a message"),
        (after_headers(ONE + ONE), status.INTERNAL, False, "two messages"),
        (after_headers(ONE[:-1]), status.INTERNAL, False, "middle of a message"),
        (after_headers(b"\x07" + ONE[1:]), status.INTERNAL, False, "flag"),
        (after_headers(ONE, [("grpc-status", "10"), ("grpc-message", "%zz")]), 10, True, "%zz"),
        (after_headers(ONE, []), status.UNKNOWN, False, "without grpc-status"),
        (after_headers(frame_message(b"x" * 2000)), status.RESOURCE_EXHAUSTED, False, "2000"),
        (cut_off, status.UNKNOWN, False, "without grpc-status"),
    ],
)
async def test_how_a_call_fails(end: End, code: int, *, from_server: bool, text: str) -> None:
    wire = Wire()
    call = wire.call(max_bytes=1000)
    end(wire)
    wire.carry()
    error = failure(call)
    assert (error.code, error.from_server, error.sent) == (code, from_server, True)
    assert text in error.message
    assert (len(wire.calls), wire.client.streams, wire.server.streams) == (0, 0, 0)


async def test_an_answer_that_is_too_large_is_not_waited_for() -> None:
    wire = Wire()
    call = wire.call(max_bytes=1000)
    wire.server.send_headers(1, HEADERS)
    wire.server.send_data(1, frame_message(b"x" * 5000)[:100])
    wire.carry()
    assert failure(call).code == status.RESOURCE_EXHAUSTED
    assert wire.resets == {1: frames.CANCEL}


async def test_messages_of_a_stream_come_in_their_order_and_then_its_end() -> None:
    wire = Wire()
    call = wire.stream()
    wire.server.send_headers(1, HEADERS)
    wire.server.send_data(1, frame_message(b"a") + frame_message(b"b")[:3])
    wire.carry()
    assert await call.receive() == b"a"
    wire.server.send_last(1, frame_message(b"b")[3:] + frame_message(b""), OK)
    wire.carry()
    assert [await call.receive() for _ in range(3)] == [b"b", b"", None]
    with pytest.raises(CallFailed):
        await call.send(b"more")


async def test_a_stream_that_fails_gives_what_has_come_before() -> None:
    wire = Wire()
    call = wire.stream()
    wire.answer(1, b"a", trailers=trailers("10", "enough"))
    assert await call.receive() == b"a"
    for _ in range(2):
        with pytest.raises(CallFailed, match="enough") as caught:
            await call.receive()
        assert (caught.value.code, caught.value.from_server) == (10, True)


async def test_a_stream_sends_when_it_has_room() -> None:
    wire = Wire(max_streams=1)
    unary, call = wire.call(), wire.stream()
    await call.send(b"a")
    wire.carry()
    assert wire.begun == [1]
    wire.answer(1, b"x")
    assert unary.answer.result() == b"x"
    await call.send(b"b")
    wire.calls.block(blocked=True)
    await call.send(b"c")
    wire.carry()
    assert wire.bodies[3] == frame_message(b"a") + frame_message(b"b")
    wire.calls.block(blocked=False)
    wire.carry()
    assert wire.bodies[3].endswith(frame_message(b"c"))
    with pytest.raises(CallFailed, match="limit"):
        await call.send(b"x" * 1001)
    assert not call.over


async def test_a_stream_is_told_while_it_waits() -> None:
    wire = Wire()
    call = wire.stream()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(call.receive(), name="receive")
        await asyncio.sleep(0)
        wire.server.send_headers(1, HEADERS)
        wire.server.send_data(1, frame_message(b"news"))
        wire.carry()
    assert task.result() == b"news"


async def test_receiving_may_be_cancelled_and_done_again() -> None:
    wire = Wire()
    call = wire.stream()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await call.receive()
    wire.answer(1, b"a")
    assert [await call.receive(), await call.receive()] == [b"a", None]


async def test_a_cancelled_stream_is_cancelled_there_and_receives_nothing() -> None:
    wire = Wire()
    call = wire.stream()
    wire.server.send_headers(1, HEADERS)
    wire.server.send_data(1, frame_message(b"a"))
    wire.carry()
    call.cancel()
    call.cancel()
    wire.carry()
    assert (wire.resets, len(wire.calls)) == ({1: frames.CANCEL}, 0)
    with pytest.raises(CallFailed):
        await call.receive()
