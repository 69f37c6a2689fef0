"""What peers send that breaks the rules, and what they get for it: RFC 9113 by section, and known attacks."""

import struct
from collections.abc import Callable, Iterable

import pytest

from coordd.http2.connection import Http2Connection, Http2Error, Side
from tests.support.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    REQUEST,
    REQUEST_FIELDS,
    RESPONSE,
    RST_STREAM,
    SETTINGS,
    TRAILERS,
    WINDOW_UPDATE,
    Code,
    End,
    Recorder,
    block,
    cuts,
    data,
    deep_size,
    frame,
    frames_of,
    goaway,
    literal,
    make,
    ping,
    request,
    rst_stream,
    settings,
    window_update,
)

END_ALL = END_HEADERS | END_STREAM

# --- before the greeting is over: the whole of what a client sends ---

BAD_GREETINGS = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS on a plain port": bytes.fromhex("16030100") + bytes(30),
    "nothing like it": b"x" * 24,
    "one octet is wrong": PREFACE[:-1] + b"x",
    "wrong from the first octet": b"x",
    "wrong within the preface": b"PRI * HTTP/1",
    "PING comes first": PREFACE + ping(),
    "HEADERS come first": PREFACE + request(1),
    "SETTINGS ACK comes first": PREFACE + frame(SETTINGS, ACK),
    "a frame of an unknown kind comes first": PREFACE + frame(0xBB),
}


@pytest.mark.parametrize("octets", BAD_GREETINGS.values(), ids=BAD_GREETINGS.keys())
def test_greetings_that_are_none(octets: bytes) -> None:
    for chunk in (len(octets), 1):
        server = End(Side.SERVER)
        assert outcome(server, octets, chunk) is Code.PROTOCOL_ERROR
        assert server.told.events == []


def error_of(core: Http2Connection, chunks: Iterable[bytes]) -> Http2Error | None:
    """What feeding ends with."""
    try:
        for octets in chunks:
            core.feed(octets)
    except Http2Error as error:
        return error
    return None


def code_of(core: Http2Connection, chunks: Iterable[bytes]) -> int | None:
    """The code of what feeding ends with."""
    error = error_of(core, chunks)
    return None if error is None else Code(error.code)


def test_half_a_preface_is_no_error_yet() -> None:
    server = End(Side.SERVER)
    for octet in PREFACE[:-1]:
        server.core.feed(bytes([octet]))
    assert server.core.take() == b""


# --- after it: (what is fed to a server with stream 1 open and stream 3 ended by us, the error) ---

PROTOCOL, FLOW, SIZE = Code.PROTOCOL_ERROR, Code.FLOW_CONTROL_ERROR, Code.FRAME_SIZE_ERROR
CLOSED, COMPRESSION = Code.STREAM_CLOSED, Code.COMPRESSION_ERROR

BROKEN: dict[str, tuple[bytes, Code | tuple[Code, ...]]] = {
    # 4.2
    "a frame above the limit": (frame(DATA, 0, 1, bytes(16_385)), SIZE),
    "an unknown frame above the limit": (frame(0xBB, 0, 0, bytes(16_385)), SIZE),
    "a length of 16 MiB, and nothing yet": (b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", SIZE),
    # 5.1: idle streams
    "DATA on an idle stream": (data(5, b"x"), PROTOCOL),
    "RST_STREAM of an idle stream": (rst_stream(5), PROTOCOL),
    "WINDOW_UPDATE of an idle stream": (window_update(5, 1), PROTOCOL),
    "CONTINUATION of an idle stream": (frame(CONTINUATION, END_HEADERS, 5, REQUEST), PROTOCOL),
    "RST_STREAM of a stream of our own that never was": (rst_stream(2), PROTOCOL),
    "DATA on a stream of our own that never was": (data(2, b"x"), PROTOCOL),
    # 5.1.1
    "a stream with an even number": (request(6), PROTOCOL),
    "a stream with a lower number than one before": (
        request(5) + request(9) + request(7),
        (PROTOCOL, CLOSED),
    ),
    # 6.1
    "DATA on stream 0": (data(0, b"x"), PROTOCOL),
    "DATA with more padding than frame": (frame(DATA, PADDED, 1, b"\x05abcd"), PROTOCOL),
    "DATA whose padding has no length": (frame(DATA, PADDED, 1), (PROTOCOL, SIZE)),
    # 6.2
    "HEADERS on stream 0": (request(0), PROTOCOL),
    "HEADERS with more padding than frame": (frame(HEADERS, END_HEADERS | PADDED, 5, b"\x05abcd"), PROTOCOL),
    "HEADERS whose padding has no length": (frame(HEADERS, END_HEADERS | PADDED, 5), (PROTOCOL, SIZE)),
    "HEADERS with half a priority": (
        frame(HEADERS, END_HEADERS | PRIORITIZED, 5, b"\0\0\0"),
        (PROTOCOL, SIZE),
    ),
    "HEADERS whose padding takes the priority": (
        frame(HEADERS, END_HEADERS | PRIORITIZED | PADDED, 5, b"\x04\0\0\0\0\xff"),
        (PROTOCOL, SIZE),
    ),
    # 6.3
    "PRIORITY on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    # 6.4
    "RST_STREAM of stream 0": (rst_stream(0), PROTOCOL),
    "RST_STREAM of three octets": (frame(RST_STREAM, 0, 1, b"\0\0\0"), SIZE),
    "RST_STREAM of five octets": (frame(RST_STREAM, 0, 1, bytes(5)), SIZE),
    # 6.5
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), PROTOCOL),
    "SETTINGS ACK with a payload": (frame(SETTINGS, ACK, 0, bytes(6)), SIZE),
    "SETTINGS of five octets": (frame(SETTINGS, 0, 0, bytes(5)), SIZE),
    "ENABLE_PUSH 2": (settings({ENABLE_PUSH: 2}), PROTOCOL),
    "INITIAL_WINDOW_SIZE of 2^31": (settings({INITIAL_WINDOW_SIZE: 1 << 31}), FLOW),
    "MAX_FRAME_SIZE of 16383": (settings({MAX_FRAME_SIZE: 16_383}), PROTOCOL),
    "MAX_FRAME_SIZE of 2^24": (settings({MAX_FRAME_SIZE: 1 << 24}), PROTOCOL),
    # 6.6
    "PUSH_PROMISE from a client": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + REQUEST), PROTOCOL),
    # 6.7
    "PING on a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL),
    "PING of seven octets": (frame(PING, 0, 0, bytes(7)), SIZE),
    "PING of nine octets": (frame(PING, 0, 0, bytes(9)), SIZE),
    # 6.8
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "GOAWAY of seven octets": (frame(GOAWAY, 0, 0, bytes(7)), SIZE),
    # 6.9
    "WINDOW_UPDATE of three octets": (frame(WINDOW_UPDATE, 0, 1, bytes(3)), SIZE),
    "WINDOW_UPDATE of the connection by 0": (window_update(0, 0), PROTOCOL),
    "the window of the connection above 2^31-1": (window_update(0, MAX_WINDOW), FLOW),
    "the window of the connection above 2^31-1, in two steps": (
        window_update(0, MAX_WINDOW - DEFAULT_WINDOW) + window_update(0, 1),
        FLOW,
    ),
    "the window of a stream above 2^31-1 by SETTINGS": (
        window_update(1, 1 << 20) + settings({INITIAL_WINDOW_SIZE: MAX_WINDOW}),
        FLOW,
    ),
    # 6.10
    "CONTINUATION without HEADERS": (frame(CONTINUATION, END_HEADERS, 1, REQUEST), PROTOCOL),
    "CONTINUATION after END_HEADERS": (request(5) + frame(CONTINUATION, END_HEADERS, 5), PROTOCOL),
    "CONTINUATION of another stream": (
        frame(HEADERS, 0, 5, REQUEST) + frame(CONTINUATION, END_HEADERS, 7),
        PROTOCOL,
    ),
    "PING within a header block": (frame(HEADERS, 0, 5, REQUEST) + ping(), PROTOCOL),
    "DATA within a header block": (frame(HEADERS, 0, 5, REQUEST) + data(1, b"x"), PROTOCOL),
    "an unknown frame within a header block": (frame(HEADERS, 0, 5, REQUEST) + frame(0xBB), PROTOCOL),
    # 4.3
    "a header block that does not decode": (request(5, header_block=b"\x80"), COMPRESSION),
    "a header block that is cut off": (request(5, header_block=REQUEST[:-1]), COMPRESSION),
    "a header block that is cut off, continued": (
        frame(HEADERS, 0, 5, REQUEST[:-1]) + frame(CONTINUATION, END_HEADERS, 5),
        COMPRESSION,
    ),
    "a header block with an index of nothing": (request(5, header_block=b"\xff\x00"), COMPRESSION),
    "trailers that do not decode": (frame(HEADERS, END_ALL, 1, b"\xc0"), COMPRESSION),
    "a header block of a refused stream that does not decode": (
        request(5, header_block=b"\x82" * 3) + request(7, header_block=b"\xbe"),
        COMPRESSION,
    ),
}


def served(**options: int) -> End:
    """A server with stream 1 open and stream 3 ended from both sides."""
    server = End(Side.SERVER, **options)
    server.greet()
    server.core.feed(request(1) + request(3, end=True))
    server.core.send_headers(3, RESPONSE)
    server.core.send_last(3, b"", TRAILERS)
    server.core.take()
    server.told.events.clear()
    return server


def outcome(end: End, octets: bytes, chunk: int) -> Code | None:
    """The error that feeding ends with; what GOAWAY says must be the same."""
    error = error_of(end.core, cuts(octets, [chunk]))
    if error is None:
        return None
    assert [one.error_code for one in end.sent() if one.kind == GOAWAY] == [error.code]
    return Code(error.code)


@pytest.mark.parametrize("chunk", [1 << 20, 1, 9], ids=["whole", "by octets", "by nines"])
@pytest.mark.parametrize(("octets", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_rules_end_the_connection(
    octets: bytes, expected: Code | tuple[Code, ...], chunk: int
) -> None:
    allowed = expected if isinstance(expected, tuple) else (expected,)
    assert outcome(served(), octets, chunk) in allowed


def test_goaway_of_an_error_names_the_last_stream_that_was_taken() -> None:
    server = served()
    with pytest.raises(Http2Error):
        server.core.feed(request(7) + ping(b"short"))
    assert [one.last_stream for one in server.sent() if one.kind == GOAWAY] == [7]


# --- errors of one stream only ---

# (what is fed, the stream, the code of RST_STREAM; RFC 9113 lets some of them end the connection too)
STREAM_ERRORS = {
    "WINDOW_UPDATE of a stream by 0": (window_update(1, 0), 1, PROTOCOL),
    "the window of a stream above 2^31-1": (window_update(1, MAX_WINDOW), 1, FLOW),
    "DATA after the end of the stream": (data(1, b"x", end=True) + data(1, b"y"), 1, CLOSED),
    "HEADERS after the end of the stream": (
        data(1, b"x", end=True) + frame(HEADERS, END_ALL, 1, TRAILERS),
        1,
        CLOSED,
    ),
    "trailers that do not end the stream": (frame(HEADERS, END_HEADERS, 1, TRAILERS), 1, PROTOCOL),
    "an upper-case name": (request(5, header_block=REQUEST + literal(b"Upper", b"x")), 5, PROTOCOL),
    "a line break in a value": (request(5, header_block=REQUEST + literal(b"a", b"x\r\ny")), 5, PROTOCOL),
}


@pytest.mark.parametrize(("octets", "stream", "code"), STREAM_ERRORS.values(), ids=STREAM_ERRORS.keys())
def test_errors_of_a_stream_leave_the_connection(octets: bytes, stream: int, code: Code) -> None:
    server = served()
    sent = server.answer(octets)
    assert [(one.stream, one.error_code) for one in sent if one.kind == RST_STREAM] == [(stream, code)]
    [pong] = server.answer(ping())
    assert pong.kind == PING
    server.core.feed(request(11, end=True))
    assert [event[0] for event in server.told.of("headers")][-1] == 11


PSEUDO_FIELDS = {
    "no method": [field for field in REQUEST_FIELDS if field[0] != ":method"],
    "no path": [field for field in REQUEST_FIELDS if field[0] != ":path"],
    "no scheme": [field for field in REQUEST_FIELDS if field[0] != ":scheme"],
    "an empty path": [*REQUEST_FIELDS[:2], (":path", ""), *REQUEST_FIELDS[3:]],
    "a path twice": [(":path", "/other"), *REQUEST_FIELDS],
    "a pseudo field after others": [*REQUEST_FIELDS, (":authority", "x")],
    "an unknown pseudo field": [(":protocol", "x"), *REQUEST_FIELDS],
    "a status in a request": [(":status", "200"), *REQUEST_FIELDS],
    "nothing": [],
    "a field of the connection": [*REQUEST_FIELDS, ("connection", "close")],
}


@pytest.mark.parametrize("fields", PSEUDO_FIELDS.values(), ids=PSEUDO_FIELDS.keys())
def test_malformed_requests_do_no_harm(fields: list[tuple[str, str]]) -> None:
    """RFC 9113 section 8.3: a malformed request is an error of its stream, here or with the owner."""
    server = served()
    sent = server.answer(request(5, header_block=block(fields), end=True))
    reset = [one.error_code for one in sent if one.kind == RST_STREAM]
    assert reset == [PROTOCOL] or server.told.of("headers", 5) == [(5, fields, True)]
    server.core.feed(request(7, end=True))
    assert server.told.of("headers", 7)


# --- what must be taken, odd as it looks ---

FINE = {
    "an unknown frame": frame(0xBB, 0xFF, 0, b"whatever"),
    "an unknown frame on a stream": frame(0xBB, 0xFF, 77, b"whatever"),
    "unknown settings": settings({0xBEEF: 1, 0x8: 1}),
    "no settings": settings(),
    "flags that mean nothing": frame(PING, 0xFE, 0, bytes(8)) + frame(WINDOW_UPDATE, 0xFF, 1, b"\0\0\0\x01"),
    "the reserved bit of a stream": frame(WINDOW_UPDATE, 0, 1 | 1 << 31, b"\0\0\0\x01"),
    "the reserved bit of an increment": frame(WINDOW_UPDATE, 0, 1, b"\x80\0\0\x01"),
    "PRIORITY of an idle stream": frame(PRIORITY, 0, 99, bytes(5)),
    "PRIORITY of an ended stream": frame(PRIORITY, 0, 3, bytes(5)),
    "PRIORITY of an open stream": frame(PRIORITY, 0, 1, bytes(5)),
    "WINDOW_UPDATE of an ended stream": window_update(3, 5),
    "RST_STREAM of an ended stream": rst_stream(3),
    "a PING answer to nothing": ping(ack=True),
    "a settings ACK too many": frame(SETTINGS, ACK),
    "GOAWAY with a text": goaway(0, Code.NO_ERROR, b"see you"),
    "empty DATA": data(1) + data(1),
    "DATA that is all padding": frame(DATA, PADDED, 1, b"\x03\0\0\0"),
    "an unknown error code": frame(RST_STREAM, 0, 1, b"\xff\xff\xff\xff"),
    "a large window by SETTINGS": settings({INITIAL_WINDOW_SIZE: MAX_WINDOW}),
    "the largest frame": data(1, bytes(16_384)),
    "streams with gaps between them": request(21) + request(1001),
}


@pytest.mark.parametrize("chunk", [1 << 20, 1], ids=["whole", "by octets"])
@pytest.mark.parametrize("octets", FINE.values(), ids=FINE.keys())
def test_what_is_allowed_is_taken(octets: bytes, chunk: int) -> None:
    server = served()
    assert outcome(server, octets, chunk) is None
    assert not [one for one in server.sent() if one.kind in (GOAWAY, RST_STREAM)]
    server.core.feed(ping())
    assert server.core.take() == ping(ack=True)


def test_padding_and_priority_are_taken_off() -> None:
    server = served()
    padded = bytes([7]) + bytes(5) + REQUEST + bytes(7)
    server.core.feed(frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 5, padded))
    server.core.feed(frame(DATA, PADDED, 5, bytes([3]) + b"body" + bytes(3)))
    server.core.feed(frame(DATA, PADDED | END_STREAM, 5, bytes([0])))
    assert server.told.of("headers") == [(5, REQUEST_FIELDS, False)]
    assert server.told.body(5) == b"body"
    assert server.told.ended(5)


# --- clients: what a server may not do ---

BROKEN_BY_SERVERS = {
    "HEADERS on a stream that was never opened": (frame(HEADERS, END_HEADERS, 3, RESPONSE), PROTOCOL),
    "HEADERS on an even stream": (frame(HEADERS, END_HEADERS, 2, RESPONSE), PROTOCOL),
    "DATA on a stream that was never opened": (data(3, b"x"), PROTOCOL),
    "RST_STREAM of a stream that was never opened": (rst_stream(3), PROTOCOL),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + REQUEST), PROTOCOL),
    "ENABLE_PUSH from a server": (settings({ENABLE_PUSH: 1}), PROTOCOL),
}


def asked(**options: int) -> End:
    """A client with one call under way, on stream 1."""
    client = End(Side.CLIENT, **options)
    client.greet()
    assert client.core.new_stream() == 1
    client.core.send_headers(1, REQUEST, end=True)
    client.core.take()
    return client


@pytest.mark.parametrize(("octets", "expected"), BROKEN_BY_SERVERS.values(), ids=BROKEN_BY_SERVERS.keys())
def test_broken_rules_of_a_server(octets: bytes, expected: Code) -> None:
    assert outcome(asked(), octets, 1 << 20) is expected


@pytest.mark.parametrize("first", [ping(), frame(SETTINGS, ACK), b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_greets_with_settings(first: bytes) -> None:
    client = End(Side.CLIENT)
    with pytest.raises(Http2Error) as caught:
        client.core.feed(first)
    assert caught.value.code in (Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR)


def test_informational_headers_come_before_the_answer() -> None:
    client = asked()
    client.core.feed(frame(HEADERS, END_HEADERS, 1, block([(":status", "103")])))
    client.core.feed(frame(HEADERS, END_HEADERS, 1, RESPONSE) + frame(HEADERS, END_ALL, 1, TRAILERS))
    statuses = [dict(headers).get(":status") for _, headers, _ in client.told.of("headers")]
    assert statuses in ([None], ["103", "200", None], ["200", None])
    assert statuses[-2:] == ["200", None]


# --- flow control ---


@pytest.mark.parametrize("side", list(Side))
def test_data_above_the_window_of_a_stream(side: Side) -> None:
    end = served(window=1000) if side is Side.SERVER else asked(window=1000)
    if side is Side.CLIENT:
        end.core.feed(frame(HEADERS, END_HEADERS, 1, RESPONSE))
    end.core.feed(frame(SETTINGS, ACK))  # from now on the peer knows the window
    sent = end.answer(data(1, bytes(1001)))
    assert [(one.stream, one.error_code) for one in sent if one.kind == RST_STREAM] == [(1, FLOW)]
    assert end.told.of("data") == []


# --- floods: nothing that costs us more than the peer, nothing that grows ---


class Deaf(Recorder):
    """An owner that remembers nothing, so that what grows is the connection."""

    def headers(self, stream: int, headers: list[tuple[str, str]], ended: bool) -> None:
        pass

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        pass

    def reset(self, stream: int, code: int) -> None:
        pass

    def pong(self, payload: bytes) -> None:
        pass

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        pass


def headers_without_end(count: int) -> Iterable[bytes]:
    yield frame(HEADERS, 0, 5, literal(b"a", b"x"))
    for _ in range(count):
        yield frame(CONTINUATION, 0, 5, literal(b"a", b"x" * 1000))


def empty_continuations(count: int) -> Iterable[bytes]:
    yield frame(HEADERS, 0, 5, REQUEST)
    for _ in range(count):
        yield frame(CONTINUATION, 0, 5)


def rapid_resets(count: int) -> Iterable[bytes]:
    for number in range(count):
        yield request(5 + 2 * number, end=True) + rst_stream(5 + 2 * number)


def resets_that_we_are_made_to_send(count: int) -> Iterable[bytes]:
    for number in range(count):
        stream = 5 + 2 * number
        yield request(stream) + window_update(stream, 0)


def streams_with_bad_headers(count: int) -> Iterable[bytes]:
    for number in range(count):
        yield request(5 + 2 * number, header_block=REQUEST + literal(b"Upper", b"x"))


FLOODS: dict[str, Callable[[], Iterable[bytes]]] = {
    "CONTINUATION without end": lambda: headers_without_end(10_000),
    "empty CONTINUATION without end": lambda: empty_continuations(100_000),
    "PING": lambda: (ping() for _ in range(100_000)),
    "SETTINGS": lambda: (settings({INITIAL_WINDOW_SIZE: number % 2}) for number in range(100_000)),
    "empty SETTINGS": lambda: (settings() for _ in range(100_000)),
    "rapid reset": lambda: rapid_resets(12_000),
    "resets that we are made to send": lambda: resets_that_we_are_made_to_send(12_000),
    "streams with bad headers": lambda: streams_with_bad_headers(12_000),
    "empty DATA": lambda: (data(1) for _ in range(200_000)),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_floods_end_with_enhance_your_calm(flood: Callable[[], Iterable[bytes]]) -> None:
    """Each within a few MB of input, while the peer reads nothing of what is sent."""
    told = Deaf()
    core = make(Side.SERVER, told, max_streams=100)
    core.start()
    core.feed(PREFACE + settings() + frame(SETTINGS, ACK) + request(1))
    before = deep_size(core)
    assert code_of(core, flood()) is Code.ENHANCE_YOUR_CALM
    assert deep_size(core) - before < 1 << 20
    core.take()
    assert deep_size(core) - before < 400_000


def some_calls(first: int, count: int) -> range:
    """The streams of `count` calls."""
    return range(first, first + 2 * count, 2)


def test_calls_that_are_given_up_after_a_while_are_no_flood() -> None:
    """A proxy whose deadlines pass by the thousand, while all of its calls are held."""
    told = Deaf()
    core = make(Side.SERVER, told, max_streams=1_000)
    core.start()
    core.feed(PREFACE + settings() + frame(SETTINGS, ACK))
    for round_ in range(11):
        streams = some_calls(1 + 2_000 * round_, 1_000)
        core.feed(b"".join(request(stream, end=True) for stream in streams))
        core.tick()
        core.tick()
        core.feed(b"".join(map(rst_stream, streams)))
        assert core.streams == 0
    core.feed(ping())
    assert core.take().endswith(ping(ack=True))


@pytest.mark.parametrize("between", [False, True], ids=["", "a tick in between"])
def test_calls_that_are_given_up_at_once_are_a_flood_whatever_time_it_takes(between: bool) -> None:
    core = make(Side.SERVER, Deaf(), max_streams=1_000)
    core.start()
    core.feed(PREFACE + settings() + frame(SETTINGS, ACK))

    def hasty() -> Iterable[bytes]:
        for round_ in range(12):
            streams = some_calls(1 + 2_000 * round_, 1_000)
            yield b"".join(request(stream, end=True) for stream in streams)
            if between:
                core.tick()
            yield b"".join(map(rst_stream, streams))
            core.tick()

    assert code_of(core, hasty()) is Code.ENHANCE_YOUR_CALM


def test_resets_that_cross_a_failure_are_no_flood() -> None:
    """Both sides have clocks, and a deadline passes on both."""
    core = make(Side.SERVER, Deaf(), max_streams=1_000)
    core.start()
    core.feed(PREFACE + settings() + frame(SETTINGS, ACK))
    for stream in some_calls(1, 11_000):
        core.feed(request(stream, end=True))
        core.send_headers(stream, RESPONSE, end=True)
        core.feed(rst_stream(stream))
        core.take()
    core.feed(ping())
    assert core.take() == ping(ack=True)


def test_a_server_may_refuse_all_that_it_is_asked() -> None:
    client = End(Side.CLIENT)
    client.greet()
    for _ in range(11_000):
        stream = client.core.new_stream()
        client.core.send_headers(stream, REQUEST, end=True)
        client.core.feed(rst_stream(stream, Code.REFUSED_STREAM))
    assert len(client.told.of("reset")) == 11_000


def test_settings_that_concern_many_streams_are_few() -> None:
    """Each change of the initial window is work for every open stream: 15 octets, and 5,000 streams."""
    core = make(Side.SERVER, Deaf())
    core.start()
    core.feed(PREFACE + settings() + b"".join(request(stream) for stream in range(1, 10_001, 2)))
    core.take()
    changes = (settings({INITIAL_WINDOW_SIZE: 1_000 + number}) for number in range(500))
    assert code_of(core, changes) is Code.ENHANCE_YOUR_CALM


# Frames that ask for nothing: endless, perhaps, but they must not grow anything.
HARMLESS = {
    "PRIORITY": frame(PRIORITY, 0, 1, bytes(5)),
    "PRIORITY of ever new streams": b"".join(
        frame(PRIORITY, 0, number, bytes(5)) for number in range(11, 4011, 2)
    ),
    "unknown frames": frame(0xBB, 0, 0, bytes(100)),
    "answers to no PING": ping(ack=True),
    "ACKs of no SETTINGS": frame(SETTINGS, ACK),
    "GOAWAY": goaway(0),
    "WINDOW_UPDATE of an ended stream": window_update(3, 1),
    "RST_STREAM of an ended stream": rst_stream(3),
    "DATA that is padding": frame(DATA, PADDED, 1, b"\xff" + bytes(255)),
    "one octet of DATA": data(1, b"x"),
}


@pytest.mark.parametrize("octets", HARMLESS.values(), ids=HARMLESS.keys())
def test_frames_that_ask_for_nothing_grow_nothing(octets: bytes) -> None:
    told = Deaf()
    core = make(Side.SERVER, told, max_streams=100)
    core.start()
    core.feed(PREFACE + settings() + frame(SETTINGS, ACK) + request(1) + request(3, end=True))
    core.send_headers(3, RESPONSE)
    core.send_last(3, b"", TRAILERS)
    core.take()
    before = deep_size(core)
    much = octets * max(1, 20_000 // len(octets) * 9)
    try:
        for _ in range(10):
            core.feed(much)
            frames_of(core.take())
            told.events.clear()
    except Http2Error as error:
        assert error.code == Code.ENHANCE_YOUR_CALM  # noqa: PT017 - to allow it is not to want it
    core.take()
    assert deep_size(core) - before < 50_000


def test_header_blocks_above_the_limit_are_not_collected() -> None:
    server = served(max_header_bytes=8_000)
    before = deep_size(server.core)
    code = outcome(server, b"".join(headers_without_end(100)), 1 << 20)
    assert code is Code.ENHANCE_YOUR_CALM
    assert deep_size(server.core) - before < 100_000


def test_headers_that_unfold_are_refused() -> None:
    """A few octets that refer to a large entry again and again."""
    server = served(max_header_bytes=8_000)
    server.core.feed(request(5, header_block=REQUEST + literal(b"a", b"x" * 3_000, first=0x40)))
    sent = server.answer(request(7, header_block=REQUEST + b"\xbe" * 5_000))
    assert [(one.stream, one.error_code) for one in sent if one.kind == RST_STREAM] == [
        (7, Code.ENHANCE_YOUR_CALM)
    ]
    assert server.told.of("headers", 7) == []


def test_streams_above_the_limit_are_refused_and_cost_nothing() -> None:
    server = End(Side.SERVER, max_streams=10)
    server.greet()
    error_of(server.core, map(request, range(1, 2001, 2)))
    sent = [one for one in server.sent() if one.kind == RST_STREAM]
    assert {one.error_code for one in sent} == {Code.REFUSED_STREAM}
    assert server.core.streams == 10
    assert len(sent) >= 50
    assert len(server.told.of("headers")) == 10


def test_a_settings_frame_of_a_thousand_changes() -> None:
    pairs = b"".join(struct.pack(">HI", INITIAL_WINDOW_SIZE, number) for number in range(2_000))
    server = served()
    server.core.feed(frame(SETTINGS, 0, 0, pairs))
    server.core.send_headers(1, RESPONSE)
    server.core.send_data(1, bytes(5_000))
    assert sum(len(one.payload) for one in server.sent() if one.kind == DATA) == 1_999


def test_nothing_is_taken_after_an_error() -> None:
    """The owner may feed what is in its hands already; it must not be acted on."""
    server = served()
    with pytest.raises(Http2Error):
        server.core.feed(ping(b"short"))
    server.core.take()
    error_of(server.core, [request(5, end=True)])
    assert server.told.of("headers") == []


def test_a_client_that_is_told_goaway_of_a_higher_stream_later() -> None:
    """RFC 9113 section 6.8: the last stream must not go up; whether it is an error is left to us."""
    client = asked()
    client.core.feed(goaway(MAX_WINDOW))
    client.core.feed(goaway(1))
    assert [event[0] for event in client.told.of("goaway")] == [MAX_WINDOW, 1]
