"""How streams end, and what the owner is told of it."""

import pytest

from coordd.http2 import frames
from coordd.http2.connection import Http2Connection, Http2Error, Side, StreamsExhausted
from coordd.http2.hpack import encode
from coordd.http2.streams import GivenUp

REQUEST = encode([(":method", "POST"), (":path", "/s/M")])
RESPONSE = encode([(":status", "200")])
TRAILERS = encode([("grpc-status", "0")])


class Notes:
    """An owner that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def headers(self, stream: int, headers: list[tuple[str, str]], ended: bool) -> None:
        self.told.append(("headers", stream, headers, ended))

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        self.told.append(("data", stream, data, ended))

    def reset(self, stream: int, code: int) -> None:
        self.told.append(("reset", stream, code))

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        self.told.append(("goaway", last_stream, code, text))

    def pong(self, payload: bytes) -> None:
        self.told.append(("pong", payload))

    def settled(self) -> None:
        self.told.append(("settled",))


class Wire:
    """A client and a server, and the bytes between them."""

    def __init__(self) -> None:
        self.client_notes, self.server_notes = Notes(), Notes()
        self.client = Http2Connection(Side.CLIENT, self.client_notes)
        self.server = Http2Connection(Side.SERVER, self.server_notes)
        self.client.start()
        self.server.start()
        self.carry()
        self.client_notes.told.clear()
        self.server_notes.told.clear()

    def carry(self) -> None:
        while (up := self.client.take()) + (down := self.server.take()):
            self.server.feed(up)
            self.client.feed(down)

    def ask(self, body: bytes = b"question") -> int:
        stream = self.client.new_stream()
        self.client.send_headers(stream, REQUEST)
        self.client.send_data(stream, body, end=True)
        self.carry()
        return stream


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_a_call_and_its_answer(wire: Wire) -> None:
    stream = wire.ask()
    assert wire.server_notes.told[-1] == ("data", stream, b"question", True)
    wire.server.send_headers(stream, RESPONSE)
    wire.server.send_last(stream, b"answer", TRAILERS)
    wire.carry()
    assert wire.client_notes.told == [
        ("headers", stream, [(":status", "200")], False),
        ("data", stream, b"answer", False),
        ("headers", stream, [("grpc-status", "0")], True),
    ]
    assert (wire.client.streams, wire.server.streams) == (0, 0)


def test_a_server_that_has_answered_wants_no_more_of_the_request(wire: Wire) -> None:
    stream = wire.client.new_stream()
    wire.client.send_headers(stream, REQUEST)
    wire.client.send_data(stream, b"the first part")
    wire.carry()
    wire.server.send_headers(stream, TRAILERS, end=True)
    assert wire.server.take().endswith(frames.rst_stream(stream, frames.NO_ERROR))
    wire.client.send_data(stream, b"the second, on its way when the answer came", end=True)
    wire.carry()
    assert not wire.server.broken
    assert wire.server.streams == 0
    assert [note[0] for note in wire.server_notes.told] == ["headers", "data"]


def test_a_client_that_was_answered_early_says_that_it_has_ended(wire: Wire) -> None:
    stream = wire.client.new_stream()
    wire.client.send_headers(stream, REQUEST)
    wire.carry()
    wire.server.send_headers(stream, TRAILERS, end=True)
    wire.client.feed(wire.server.take().removesuffix(frames.rst_stream(stream, frames.NO_ERROR)))
    assert wire.client.take() == frames.rst_stream(stream, frames.NO_ERROR)
    assert wire.client_notes.told == [("headers", stream, [("grpc-status", "0")], True)]


def test_streams_above_the_last_one_of_a_goaway_are_reset(wire: Wire) -> None:
    first, second = wire.ask(), wire.ask()
    wire.server.goaway(frames.NO_ERROR, b"bye", first)
    wire.carry()
    assert wire.client_notes.told == [
        ("goaway", first, frames.NO_ERROR, b"bye"),
        ("reset", second, frames.REFUSED_STREAM),
    ]
    assert wire.client.peer_going_away
    third = wire.ask()
    assert wire.client_notes.told[-1] == ("reset", third, frames.REFUSED_STREAM)


def test_a_stream_that_was_never_begun_is_reset_in_silence(wire: Wire) -> None:
    wire.client.reset_stream(wire.client.new_stream(), frames.CANCEL)
    assert wire.client.take() == b""
    assert wire.client.streams == 0


def test_numbers_of_streams_run_out(wire: Wire) -> None:
    wire.client._last_ours = frames.MAX_STREAM - 2
    assert wire.client.new_stream() == frames.MAX_STREAM
    with pytest.raises(StreamsExhausted):
        wire.client.new_stream()


def test_pings_are_counted_by_whoever_wants_to(wire: Wire) -> None:
    pings: list[int] = []
    wire.server.on_ping = lambda: pings.append(1)
    wire.client.ping(b"12345678")
    wire.carry()
    assert pings == [1]
    assert wire.client_notes.told == [("pong", b"12345678")]


def test_answers_to_pings_leave_behind_what_else_there_is(wire: Wire) -> None:
    stream = wire.client.new_stream()
    wire.client.send_headers(stream, REQUEST, end=True)
    wire.client.ping(b"12345678")
    wire.server.feed(wire.client.take())
    assert wire.server.only_pongs
    wire.server.send_headers(stream, RESPONSE, end=True)
    assert not wire.server.only_pongs
    output = wire.server.take()
    assert output.endswith(frames.frame(frames.PING, frames.ACK, 0, b"12345678"))
    assert not wire.server.only_pongs
    wire.client.feed(output)
    assert [told[0] for told in wire.client_notes.told] == ["headers", "pong"]


def test_nuisances_add_up_until_some_time_has_passed() -> None:
    server = Http2Connection(Side.SERVER, Notes(), flood_limit=10)
    server.feed(frames.PREFACE + frames.settings({}))
    ping = frames.frame(frames.PING, 0, 0, bytes(8))
    for _ in range(5):
        server.feed(ping * 9)
        server.calm()
    with pytest.raises(Http2Error) as caught:
        server.feed(ping * 11)
    assert caught.value.code == frames.ENHANCE_YOUR_CALM


def test_answers_make_up_for_pings() -> None:
    server = Http2Connection(Side.SERVER, Notes(), flood_limit=10)
    server.feed(frames.PREFACE + frames.settings({}))
    for stream in range(1, 101, 2):
        server.feed(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, REQUEST))
        server.send_headers(stream, RESPONSE)
        server.send_last(stream, b"answer", TRAILERS)
        server.feed(frames.frame(frames.PING, 0, 0, bytes(8)))
    assert not server.broken


def test_given_up_streams_are_remembered_up_to_a_limit() -> None:
    given_up = GivenUp(limit=3)
    for number in (1, 5, 9):
        given_up.add(number)
    assert 5 in given_up
    assert 3 not in given_up
    given_up.ended(5)
    assert 5 not in given_up
    given_up.add(11)
    given_up.add(13)
    assert all(number in given_up for number in (3, 5, 11, 13))
    assert 15 not in given_up
