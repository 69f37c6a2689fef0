"""A client's and a server's connection wired to each other: everything arrives, however the bytes are cut."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordd.http2.connection import Http2Connection, Side
from coordd.http2.hpack import encode
from tests.support.http2 import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    PREFACE,
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    SETTINGS,
    TRAILER_FIELDS,
    Code,
    End,
    Pair,
    Recorder,
    cuts,
    deep_size,
    frame,
    frames_of,
    request,
)
from tests.support.http2 import REQUEST as PLAIN
from tests.support.http2 import settings as settings_frame

REQUEST, RESPONSE, TRAILERS = encode(REQUEST_FIELDS), encode(RESPONSE_FIELDS), encode(TRAILER_FIELDS)


def call(pair: Pair, body: bytes = b"question") -> int:
    stream = pair.client.new_stream()
    pair.client.send_headers(stream, REQUEST)
    pair.client.send_data(stream, body, end=True)
    return stream


def answer(pair: Pair, stream: int, body: bytes = b"answer") -> None:
    pair.server.send_headers(stream, RESPONSE)
    pair.server.send_last(stream, body, TRAILERS)


def test_greetings() -> None:
    client, server = End(Side.CLIENT), End(Side.SERVER)
    assert client.greeting.startswith(PREFACE)
    assert frames_of(client.greeting)[0].kind == SETTINGS
    assert frames_of(server.greeting)[0].kind == SETTINGS
    for end, other in ((client, server), (server, client)):
        [ack] = [answer for answer in end.answer(other.greeting) if answer.kind == SETTINGS]
        assert (ack.flags, ack.payload) == (ACK, b"")
        assert end.told.events == [("settled",)]


def test_a_unary_call_and_its_answer() -> None:
    pair = Pair()
    stream = call(pair)
    pair.run()
    assert pair.at_server.merged() == [
        ("settled",),
        ("headers", stream, REQUEST_FIELDS, False),
        ("data", stream, b"question", True),
    ]
    answer(pair, stream)
    pair.run()
    assert pair.at_client.merged() == [
        ("settled",),
        ("headers", stream, RESPONSE_FIELDS, False),
        ("data", stream, b"answer", False),
        ("headers", stream, TRAILER_FIELDS, True),
    ]
    assert (pair.client.streams, pair.server.streams) == (0, 0)


def test_an_answer_of_trailers_only() -> None:
    pair = Pair()
    stream = call(pair)
    pair.run()
    pair.server.send_headers(stream, encode(RESPONSE_FIELDS + TRAILER_FIELDS), end=True)
    pair.run()
    assert pair.at_client.of("headers") == [(stream, RESPONSE_FIELDS + TRAILER_FIELDS, True)]
    assert (pair.client.streams, pair.server.streams) == (0, 0)


def test_a_call_without_a_body() -> None:
    pair = Pair()
    stream = pair.client.new_stream()
    pair.client.send_headers(stream, REQUEST, end=True)
    pair.run()
    assert pair.at_server.of("headers") == [(stream, REQUEST_FIELDS, True)]


def test_streams_of_a_client_are_odd_and_go_up() -> None:
    pair = Pair()
    assert [call(pair) for _ in range(4)] == [1, 3, 5, 7]
    assert pair.client.streams == 4
    pair.run()
    assert pair.server.streams == 4


def test_answers_come_in_any_order() -> None:
    pair = Pair()
    streams = [call(pair, f"question {number}".encode()) for number in range(6)]
    pair.run()
    for stream in reversed(streams):
        answer(pair, stream, b"to " + pair.at_server.body(stream))
    pair.run()
    for number, stream in enumerate(streams):
        assert pair.at_client.body(stream) == f"to question {number}".encode()
        assert pair.at_client.ended(stream)


def conversation(pair: Pair) -> None:
    """A bit of everything."""
    first, second = call(pair, b"x" * 40_000), pair.client.new_stream()
    pair.client.send_headers(second, encode([*REQUEST_FIELDS, ("x-long", "v" * 9_000)]))
    pair.client.send_data(second, b"one")
    pair.client.ping(b"abcdefgh")
    pair.run()
    pair.server.send_headers(first, RESPONSE)
    pair.server.send_data(first, b"y" * 20_000)
    pair.server.reset_stream(first, Code.INTERNAL_ERROR)
    pair.server.send_headers(second, RESPONSE)
    pair.server.send_data(second, b"two")
    pair.client.send_data(second, b"three", end=True)
    pair.run()
    pair.server.send_last(second, b"four", TRAILERS)
    pair.server.goaway(Code.NO_ERROR, b"enough", second)
    pair.run()


@pytest.mark.parametrize("chunk", [1, 2, 3, 8, 9, 10, 13, 64, 16_384, 16_393])
def test_cutting_the_bytes_changes_nothing(chunk: int) -> None:
    whole, cut = Pair(), Pair(chunk=chunk)
    for pair in (whole, cut):
        conversation(pair)
    assert cut.at_server.merged() == whole.at_server.merged()
    assert cut.at_client.merged() == whole.at_client.merged()
    assert whole.at_client.body(3) == b"twofour"
    assert whole.at_server.body(3) == b"onethree"
    assert ("goaway", 3, 0, b"enough") in whole.at_client.events
    assert ("pong", b"abcdefgh") in whole.at_client.events
    assert ("reset", 1, Code.INTERNAL_ERROR) in whole.at_client.events


def test_every_place_to_cut_a_call_in_two() -> None:
    client = End(Side.CLIENT)
    client.greet()
    stream = client.core.new_stream()
    client.core.send_headers(stream, REQUEST)
    client.core.send_data(stream, b"question", end=True)
    octets = client.greeting + client.core.take()
    for at in range(len(octets) + 1):
        server = End(Side.SERVER)
        server.core.feed(octets[:at])
        server.core.feed(octets[at:])
        assert server.told.merged() == [
            ("settled",),
            ("headers", stream, REQUEST_FIELDS, False),
            ("data", stream, b"question", True),
        ]


@settings(max_examples=30)
@given(
    bodies=st.lists(st.binary(max_size=300) | st.integers(0, 60_000).map(bytes), min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 30_000), min_size=1, max_size=12),
)
def test_random_bodies_in_random_cuts(bodies: list[bytes], sizes: list[int]) -> None:
    pair = Pair()
    streams = [call(pair, body) for body in bodies]
    while up := pair.client.take():
        for chunk in cuts(up, sizes):
            pair.server.feed(chunk)
        for chunk in cuts(pair.server.take(), sizes):
            pair.client.feed(chunk)
    for stream, body in zip(streams, bodies, strict=True):
        assert pair.at_server.body(stream) == body
        assert pair.at_server.ended(stream)


@pytest.mark.parametrize("chunk", [1, 1 << 30])
def test_headers_longer_than_a_frame_are_continued(chunk: int) -> None:
    fields = [*REQUEST_FIELDS, *((f"x-{number}", "v" * 1000) for number in range(40))]
    pair = Pair(server={"max_header_bytes": 64 << 10}, chunk=chunk)
    stream = pair.client.new_stream()
    pair.client.send_headers(stream, encode(fields), end=True)
    sent = [one for one in frames_of(pair.client.take()) if one.stream == stream]
    assert [one.kind for one in sent] == [HEADERS, CONTINUATION, CONTINUATION]
    assert [bool(one.flags & END_HEADERS) for one in sent] == [False, False, True]
    assert [bool(one.flags & END_STREAM) for one in sent] == [True, False, False]
    assert all(len(one.payload) <= 16_384 for one in sent)
    pair = Pair(server={"max_header_bytes": 64 << 10}, chunk=chunk)
    stream = pair.client.new_stream()
    pair.client.send_headers(stream, encode(fields), end=True)
    pair.run()
    assert pair.at_server.of("headers") == [(stream, fields, True)]


def test_both_sides_may_end_first() -> None:
    pair = Pair()
    stream = pair.client.new_stream()
    pair.client.send_headers(stream, REQUEST)
    pair.run()
    pair.server.send_headers(stream, RESPONSE)
    pair.server.send_last(stream, b"enough heard", TRAILERS)
    pair.run()
    assert pair.at_client.ended(stream)
    pair.client.send_data(stream, b"late", end=True)
    pair.run()
    assert (pair.client.streams, pair.server.streams) == (0, 0)


def test_a_reset_ends_a_stream_on_both_sides() -> None:
    pair = Pair()
    stream = call(pair)
    pair.run()
    pair.client.reset_stream(stream, Code.CANCEL)
    pair.run()
    assert pair.at_server.of("reset") == [(stream, Code.CANCEL)]
    assert (pair.client.streams, pair.server.streams) == (0, 0)


def test_answers_that_cross_a_reset_are_ignored() -> None:
    pair = Pair()
    stream = call(pair)
    pair.run()
    answer(pair, stream, b"z" * 100)
    pair.client.reset_stream(stream, Code.CANCEL)
    pair.run()
    assert pair.at_client.of("data", stream) == []
    assert pair.at_client.of("headers", stream) == []
    later = call(pair)
    pair.run()
    answer(pair, later)
    pair.run()
    assert pair.at_client.body(later) == b"answer"


def test_headers_of_a_forgotten_stream_still_count_for_compression() -> None:
    """The peer's dynamic table is one for the connection: RFC 9113 section 4.3."""
    client = End(Side.CLIENT)
    client.greet()
    first, second = client.core.new_stream(), client.core.new_stream()
    for stream in (first, second):
        client.core.send_headers(stream, REQUEST, end=True)
    client.core.reset_stream(first, Code.CANCEL)
    client.core.take()
    indexed = b"\x88\x40\x01a\x01b"

    client.core.feed(frame(HEADERS, END_HEADERS | END_STREAM, first, indexed))
    client.core.feed(frame(HEADERS, END_HEADERS | END_STREAM, second, b"\x88\xbe"))
    assert client.told.of("headers") == [(second, [(":status", "200"), ("a", "b")], True)]


def test_a_forgotten_stream_tells_nothing_more() -> None:
    pair = Pair()
    stream = call(pair)
    pair.run()
    pair.client.forget(stream)
    answer(pair, stream, b"z" * 100_000)
    pair.run()
    assert pair.at_client.of("data") == []
    assert pair.at_client.of("headers") == []


def test_pings_are_answered() -> None:
    pair = Pair()
    pair.client.ping(b"from c..")
    pair.server.ping(b"from s..")
    pair.run()
    assert pair.at_client.of("pong") == [(b"from c..",)]
    assert pair.at_server.of("pong") == [(b"from s..",)]


def test_goaway_tells_what_is_still_done() -> None:
    pair = Pair()
    first, second = call(pair), call(pair)
    pair.run()
    pair.server.goaway(Code.NO_ERROR, b"bye", first)
    pair.run()
    assert pair.at_client.of("goaway") == [(first, Code.NO_ERROR, b"bye")]
    answer(pair, first)
    pair.run()
    assert pair.at_client.ended(first)
    assert not pair.at_client.ended(second)


def test_goaway_names_the_last_stream_that_came() -> None:
    pair = Pair()
    for _ in range(3):
        call(pair)
    pair.run()
    pair.server.goaway(Code.NO_ERROR)
    pair.run()
    assert pair.at_client.of("goaway") == [(5, Code.NO_ERROR, b"")]


def test_the_limit_of_streams_is_told_and_kept() -> None:
    pair = Pair(server={"max_streams": 2})
    pair.run()
    assert pair.client.peer_max_streams == 2
    streams = [
        call(pair) for _ in range(3)
    ]  # the core sends what its owner asks for: counting is the owner's
    pair.run()
    assert pair.at_client.of("reset") == [(streams[2], Code.REFUSED_STREAM)]
    assert [event[0] for event in pair.at_server.of("headers")] == streams[:2]
    answer(pair, streams[0])
    pair.run()
    again = call(pair)
    pair.run()
    assert pair.at_server.of("headers")[-1][0] == again


def test_a_refused_stream_leaves_compression_in_step() -> None:
    server = End(Side.SERVER, max_streams=1)
    server.greet()

    server.core.feed(request(1))
    server.core.feed(request(3, header_block=PLAIN + b"\x40\x01a\x01b"))
    server.core.feed(request(1 + 4, header_block=PLAIN + b"\xbe"))
    assert [event[0] for event in server.told.of("headers")] == [1]
    server.core.send_headers(1, RESPONSE, end=True)
    server.core.reset_stream(1, Code.NO_ERROR)
    server.core.feed(request(7, header_block=PLAIN + b"\xbe"))
    assert server.told.of("headers", 7) == [(7, [*REQUEST_FIELDS, ("a", "b")], False)]


def test_a_limit_that_changes_later_is_told_to_the_owner() -> None:
    """Or calls that wait for room would wait for ever."""
    client = End(Side.CLIENT)
    client.greet({MAX_CONCURRENT_STREAMS: 0})
    assert client.core.peer_max_streams == 0
    client.told.events.clear()
    client.core.feed(settings_frame({MAX_CONCURRENT_STREAMS: 5}))
    assert client.core.peer_max_streams == 5
    assert client.told.events == [("settled",)]


def test_without_a_limit_none_is_told() -> None:
    assert 3 not in frames_of(End(Side.SERVER).greeting)[0].settings()
    assert frames_of(End(Side.SERVER, max_streams=7).greeting)[0].settings()[3] == 7


@pytest.mark.parametrize("count", [2_000])
def test_closed_streams_leave_nothing_behind(count: int) -> None:

    pair = Pair()

    def calls(number: int) -> None:
        for _ in range(number):
            stream = call(pair)
            pair.run()
            answer(pair, stream)
            pair.run()
        for told in (pair.at_client, pair.at_server):
            told.events.clear()

    calls(50)
    before = deep_size((pair.client, pair.server))
    calls(count)
    assert deep_size((pair.client, pair.server)) - before < 20_000


def ways_to_end() -> list[tuple[str, Callable[[Http2Connection, int], None]]]:
    return [
        ("trailers", lambda core, stream: core.send_last(stream, b"x", TRAILERS)),
        ("data", lambda core, stream: core.send_data(stream, b"x", end=True)),
        ("reset", lambda core, stream: core.reset_stream(stream, Code.INTERNAL_ERROR)),
    ]


@pytest.mark.parametrize(
    ("first", "then"), list(itertools.product(ways_to_end(), repeat=2)), ids=lambda way: way[0]
)
def test_what_is_sent_on_an_ended_stream_does_no_harm(
    first: tuple[str, Callable[[Http2Connection, int], None]],
    then: tuple[str, Callable[[Http2Connection, int], None]],
) -> None:
    """A handler that ends when its caller has gone sends to nobody; the peer must not see a broken rule."""
    pair = Pair()
    stream = call(pair)
    pair.run()
    pair.server.send_headers(stream, RESPONSE)
    first[1](pair.server, stream)
    pair.run()
    then[1](pair.server, stream)
    pair.run()
    other = call(pair)
    pair.run()
    answer(pair, other)
    pair.run()
    assert pair.at_client.body(other) == b"answer"
    assert pair.at_client.ended(stream) or pair.at_client.of("reset", stream)


def test_what_is_sent_after_the_peers_reset_does_no_harm() -> None:
    pair = Pair()
    stream = call(pair)
    pair.run()
    pair.client.reset_stream(stream, Code.CANCEL)
    pair.run()
    answer(pair, stream)
    pair.run()
    other = call(pair)
    pair.run()
    answer(pair, other)
    pair.run()
    assert pair.at_client.body(other) == b"answer"


def test_an_owner_may_answer_from_within_feed() -> None:
    class Echo(Recorder):
        core: Http2Connection

        def data(self, stream: int, data: bytes, ended: bool) -> None:
            super().data(stream, data, ended)
            if ended:
                self.core.send_headers(stream, RESPONSE)
                self.core.send_last(stream, self.body(stream), TRAILERS)

    echo = Echo()
    pair = Pair()
    pair.at_server = echo
    pair.server = echo.core = Http2Connection(Side.SERVER, echo, max_streams=None)
    pair.server.start()
    streams = [call(pair, bytes([number]) * 30_000) for number in range(8)]
    pair.run()
    for number, stream in enumerate(streams):
        assert pair.at_client.body(stream) == bytes([number]) * 30_000


def test_an_owner_may_reset_from_within_feed() -> None:
    class Rude(Recorder):
        core: Http2Connection

        def headers(self, stream: int, headers: list[tuple[str, str]], ended: bool) -> None:
            super().headers(stream, headers, ended)
            self.core.reset_stream(stream, Code.REFUSED_STREAM)

    rude = Rude()
    pair = Pair()
    pair.server = rude.core = Http2Connection(Side.SERVER, rude, max_streams=None)
    pair.server.start()
    streams = [call(pair, b"x" * 50_000) for _ in range(4)]
    pair.run()
    assert pair.at_client.of("reset") == [(stream, Code.REFUSED_STREAM) for stream in streams]
    assert (pair.client.streams, pair.server.streams) == (0, 0)
