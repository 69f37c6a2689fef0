"""Flow control: nothing is sent without a window for it, nothing of what is owed is lost."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordd.http2.connection import Side
from coordd.http2.hpack import encode
from tests.support.http2 import (
    ACK,
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_WINDOW,
    PADDED,
    REQUEST_FIELDS,
    RST_STREAM,
    SETTINGS,
    TRAILER_FIELDS,
    WINDOW_UPDATE,
    Code,
    End,
    Frame,
    Pair,
    data,
    frame,
    frames_of,
    request,
    rst_stream,
    window_update,
)
from tests.support.http2 import (
    settings as settings_frame,
)

REQUEST, RESPONSE, TRAILERS = encode(REQUEST_FIELDS), encode([(":status", "200")]), encode(TRAILER_FIELDS)


def octets(frames: list[Frame], stream: int | None = None) -> int:
    """How much DATA the frames hold."""
    return sum(
        len(one.payload) for one in frames if one.kind == DATA and (stream is None or one.stream == stream)
    )


def client_with(window: int | None = None) -> End:
    """A client whose server gives this initial window."""
    client = End(Side.CLIENT)
    client.greet({} if window is None else {INITIAL_WINDOW_SIZE: window})
    return client


def sending(client: End, body: bytes) -> int:
    stream = client.core.new_stream()
    client.core.send_headers(stream, REQUEST)
    client.core.send_data(stream, body, end=True)
    return stream


def test_a_stream_stops_at_its_window_and_goes_on_as_it_is_given() -> None:
    client = client_with(10)
    stream = sending(client, b"0123456789abcdef")
    sent = client.sent()
    assert b"".join(one.payload for one in sent if one.kind == DATA) == b"0123456789"
    assert not any(one.flags & END_STREAM for one in sent)
    assert client.core.unsent == 6
    [more] = client.answer(window_update(stream, 4))
    assert (more.payload, more.flags & END_STREAM) == (b"abcd", 0)
    [last] = client.answer(window_update(stream, 100))
    assert (last.payload, last.flags & END_STREAM) == (b"ef", END_STREAM)
    assert client.core.unsent == 0


def test_a_window_that_is_just_enough_ends_the_stream_with_it() -> None:
    client = client_with(10)
    sending(client, b"0123456789")
    sent = [one for one in client.sent() if one.kind == DATA]
    assert [(one.payload, one.flags) for one in sent] == [(b"0123456789", END_STREAM)]


def test_an_end_without_data_needs_no_window() -> None:
    client = client_with(0)
    stream = client.core.new_stream()
    client.core.send_headers(stream, REQUEST)
    client.core.send_data(stream, b"", end=True)
    last = client.sent()[-1]
    assert (last.kind, last.payload, last.flags) == (DATA, b"", END_STREAM)


def test_the_windows_of_the_connection_and_of_the_stream_both_bind() -> None:
    client = client_with(MAX_WINDOW)
    first, second = sending(client, b"x" * 60_000), sending(client, b"y" * 60_000)
    sent = client.sent()
    assert octets(sent) == DEFAULT_WINDOW
    assert octets(sent, first) == 60_000
    assert client.answer(window_update(second, 1000)) == []
    assert octets(client.answer(window_update(0, 50_000)), second) == 50_000
    assert octets(client.answer(window_update(0, 50_000)), second) == 60_000 - 50_000 - (
        DEFAULT_WINDOW - 60_000
    )


def test_trailers_wait_for_the_data_before_them() -> None:
    server = End(Side.SERVER)
    server.greet({INITIAL_WINDOW_SIZE: 5})
    server.core.feed(request(1, end=True))
    server.core.send_headers(1, RESPONSE)
    server.core.send_last(1, b"0123456789", TRAILERS)
    assert [one.kind for one in server.sent()] == [HEADERS, DATA]
    rest = server.answer(window_update(1, 5))
    assert [(one.kind, one.flags & END_STREAM) for one in rest] == [(DATA, 0), (HEADERS, END_STREAM)]
    assert server.core.streams == 0


def test_data_after_queued_data_stays_behind_it() -> None:
    client = client_with(3)
    stream = client.core.new_stream()
    client.core.send_headers(stream, REQUEST)
    for piece in (b"abc", b"def", b"", b"ghi"):
        client.core.send_data(stream, piece)
    client.core.send_data(stream, b"j", end=True)
    got = b"".join(one.payload for one in client.sent() if one.kind == DATA)
    for _ in range(4):
        got += b"".join(one.payload for one in client.answer(window_update(stream, 2)))
    assert got == b"abcdefghij"


def test_a_larger_initial_window_releases_what_waits_on_open_streams() -> None:
    client = client_with(4)
    first, second = sending(client, b"0123456789"), sending(client, b"0123456789")
    client.sent()
    more = client.answer(settings_frame({INITIAL_WINDOW_SIZE: 6}))
    assert (octets(more, first), octets(more, second)) == (2, 2)
    assert [one.flags for one in more if one.kind == SETTINGS] == [ACK]
    assert octets(client.answer(settings_frame({INITIAL_WINDOW_SIZE: 100}))) == 8


def test_a_smaller_initial_window_makes_windows_negative() -> None:
    """RFC 9113 section 6.9.2: what was sent above it must be paid back before more goes out."""
    client = client_with(10)
    stream = sending(client, b"0123456789abcdef")
    client.sent()
    assert octets(client.answer(settings_frame({INITIAL_WINDOW_SIZE: 3}))) == 0
    assert octets(client.answer(window_update(stream, 7))) == 0
    assert octets(client.answer(window_update(stream, 2))) == 2
    assert octets(client.answer(settings_frame({INITIAL_WINDOW_SIZE: 0}))) == 0
    assert octets(client.answer(window_update(stream, 5))) == 2
    later = sending(client, b"z")
    assert octets(client.sent(), later) == 0
    assert octets(client.answer(window_update(later, 1)), later) == 1


def test_a_stream_that_waits_for_the_connection_may_lose_its_own_window_meanwhile() -> None:
    client = client_with(100)
    greedy = sending(client, bytes(DEFAULT_WINDOW - 5))
    client.core.feed(window_update(greedy, DEFAULT_WINDOW))
    waiting = sending(client, b"0123456789")
    assert octets(client.sent(), waiting) == 5
    client.core.feed(settings_frame({INITIAL_WINDOW_SIZE: 0}))
    client.sent()
    assert client.answer(window_update(0, 100)) == []
    assert client.core.unsent == 5
    assert octets(client.answer(window_update(waiting, 7))) == 2
    [last] = client.answer(window_update(waiting, 7))
    assert (last.payload, last.flags) == (b"789", END_STREAM)


def test_the_initial_window_is_not_that_of_the_connection() -> None:
    client = client_with(MAX_WINDOW)
    sending(client, b"x" * 100_000)
    assert octets(client.sent()) == DEFAULT_WINDOW
    assert octets(client.answer(settings_frame({INITIAL_WINDOW_SIZE: MAX_WINDOW}))) == 0


def test_frames_are_no_longer_than_the_peer_takes() -> None:
    client = End(Side.CLIENT)
    client.greet({MAX_FRAME_SIZE: 20_000, INITIAL_WINDOW_SIZE: 60_000})
    sending(client, b"x" * 50_000)
    lengths = [len(one.payload) for one in client.sent() if one.kind == DATA]
    assert sum(lengths) == 50_000
    assert max(lengths) <= 20_000
    client = client_with(60_000)
    sending(client, b"x" * 50_000)
    assert max(len(one.payload) for one in client.sent()) <= 16_384


def test_what_waits_is_dropped_with_its_stream() -> None:
    for end in (
        lambda client, stream: client.core.reset_stream(stream, Code.CANCEL),
        lambda client, stream: client.core.feed(frame(RST_STREAM, 0, stream, b"\0\0\0\x08")),
    ):
        client = client_with(5)
        stream = sending(client, b"x" * 1000)
        client.sent()
        assert client.core.unsent == 995
        end(client, stream)
        assert client.core.unsent == 0
        assert octets(client.answer(window_update(0, 1000) + window_update(stream, 1000))) == 0


def test_a_stream_that_is_stuck_does_not_hold_up_others() -> None:
    client = client_with(5)
    stuck, other = sending(client, b"x" * 50), sending(client, b"y" * 50)
    client.sent()
    assert octets(client.answer(window_update(other, 45)), other) == 45
    assert client.core.unsent == 45
    assert octets(client.answer(window_update(stuck, 45)), stuck) == 45


def test_many_waiting_streams_share_what_the_connection_is_given() -> None:
    client = client_with(MAX_WINDOW)
    streams = [sending(client, b"x" * 30_000) for _ in range(10)]
    got = octets(client.sent())
    while got < 300_000:
        sent = octets(client.answer(window_update(0, 7_000)))
        assert sent == min(7_000, 300_000 - got)
        got += sent
    assert client.core.unsent == 0
    assert len(streams) == client.core.streams


# --- the window that is given to the peer ---


def given_back(frames: list[Frame], stream: int) -> int:
    """The sum of WINDOW_UPDATEs; stream 0 is the connection."""
    return sum(
        int.from_bytes(one.payload, "big")
        for one in frames
        if one.kind == WINDOW_UPDATE and one.stream == stream
    )


def connection_window(end: End) -> int:
    """What the greeting of an end gives to its peer."""
    return DEFAULT_WINDOW + given_back(frames_of(end.greeting), 0)


def test_windows_that_are_announced() -> None:
    """Per stream as asked for; that of the connection is at least as large, and said at once."""
    server = End(Side.SERVER, window=300_000)

    assert frames_of(server.greeting)[0].settings()[INITIAL_WINDOW_SIZE] == 300_000
    assert connection_window(server) >= 300_000


def test_what_was_read_is_given_back() -> None:
    """A peer that sends without end is never stopped, and never gets more than it was promised."""
    server = End(Side.SERVER, window=100_000)
    server.greet()
    limit = connection = connection_window(server)
    stream = 100_000
    server.core.feed(request(1))
    for _ in range(300):
        stream -= 10_000
        connection -= 10_000
        assert stream >= 0
        assert connection >= 0
        answered = server.answer(data(1, b"x" * 10_000))
        stream += given_back(answered, 1)
        connection += given_back(answered, 0)
        assert stream <= 100_000
        assert connection <= limit
    assert len(server.told.body(1)) == 3_000_000


def test_padding_counts_and_is_given_back() -> None:
    server = End(Side.SERVER, window=70_000)
    server.greet()
    server.core.feed(request(1))
    stream = 70_000
    for _ in range(500):
        payload = bytes([255]) + b"x" + bytes(255)
        stream -= len(payload)
        assert stream >= 0
        stream += given_back(server.answer(frame(DATA, PADDED, 1, payload)), 1)
    assert server.told.body(1) == b"x" * 500


def test_data_of_streams_that_were_reset_is_given_back_to_the_connection() -> None:
    """Or its window would be used up by streams that nobody wants any more."""
    server = End(Side.SERVER, window=100_000)
    server.greet()
    connection = connection_window(server)
    sent, enough = 0, 2 * connection
    for stream in itertools.count(1, 2):
        if sent > enough:
            break
        server.core.feed(request(stream))
        server.core.reset_stream(stream, Code.CANCEL)
        for _ in range(6):
            connection -= 16_000
            sent += 16_000
            assert connection >= 0
            connection += given_back(server.answer(data(stream, b"x" * 16_000)), 0)
    assert server.told.of("data") == []


def test_bodies_far_larger_than_the_windows_arrive() -> None:
    pair = Pair(client={"window": 1 << 16}, server={"window": 1 << 16})
    stream = pair.client.new_stream()
    pair.client.send_headers(stream, REQUEST)
    up, down = bytes(range(256)) * 20_000, bytes(reversed(range(256))) * 20_000
    pair.client.send_data(stream, up, end=True)
    pair.run()
    assert pair.at_server.body(stream) == up
    pair.server.send_headers(stream, RESPONSE)
    pair.server.send_last(stream, down, TRAILERS)
    pair.run()
    assert pair.at_client.body(stream) == down
    assert pair.at_client.ended(stream)


@pytest.mark.parametrize("window", [1, 2, 17, 1000])
def test_tiny_windows_only_make_it_slow(window: int) -> None:
    pair = Pair(client={"window": window}, server={"window": window})
    streams = []
    for number in range(3):
        stream = pair.client.new_stream()
        pair.client.send_headers(stream, REQUEST)
        pair.client.send_data(stream, bytes([number]) * 200, end=True)
        streams.append(stream)
    pair.run()
    for number, stream in enumerate(streams):
        assert pair.at_server.body(stream) == bytes([number]) * 200
        pair.server.send_headers(stream, RESPONSE)
        pair.server.send_last(stream, bytes([number]) * 100, TRAILERS)
    pair.run()
    assert [pair.at_client.body(stream) for stream in streams] == [bytes([n]) * 100 for n in range(3)]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3), st.integers(0, 400)),
        st.tuples(st.just("give"), st.integers(0, 4), st.integers(1, 300)),
        st.tuples(st.just("initial"), st.just(0), st.sampled_from([0, 10, 500])),
    ),
    max_size=60,
)


@settings(max_examples=80)
@given(first=st.integers(0, 200), connection=st.integers(0, 600), steps=steps)
def test_no_octet_is_sent_without_a_window(
    first: int, connection: int, steps: list[tuple[str, int, int]]
) -> None:
    """Against a model of RFC 9113 section 6.9: windows of four streams and of the connection."""
    client = client_with(first)
    greedy = sending(client, bytes(DEFAULT_WINDOW - connection))
    client.core.feed(window_update(greedy, DEFAULT_WINDOW))
    client.core.feed(rst_stream(greedy))
    streams = [client.core.new_stream() for _ in range(4)]
    for stream in streams:
        client.core.send_headers(stream, REQUEST)
    assert octets(client.sent()) == DEFAULT_WINDOW - connection
    initial = first
    windows = dict.fromkeys(streams, first)
    owed = {stream: bytearray() for stream in streams}
    count = 0
    for kind, which, size in steps:
        if kind == "send":
            piece = bytes((count + at) % 251 for at in range(size))
            count += size
            owed[streams[which]] += piece
            client.core.send_data(streams[which], piece)
        elif kind == "give" and which == 4:
            connection += size
            client.core.feed(window_update(0, size))
        elif kind == "give":
            windows[streams[which]] += size
            client.core.feed(window_update(streams[which], size))
        else:
            for stream in streams:
                windows[stream] += size - initial
            initial = size
            client.core.feed(settings_frame({INITIAL_WINDOW_SIZE: size}))
        for one in client.sent():
            if one.kind == DATA:
                assert owed[one.stream].startswith(one.payload)
                del owed[one.stream][: len(one.payload)]
                windows[one.stream] -= len(one.payload)
                connection -= len(one.payload)
                assert windows[one.stream] >= 0 or not one.payload
                assert connection >= 0
        for stream in streams:
            assert not owed[stream] or windows[stream] <= 0 or connection <= 0, "it could have been sent"
    assert client.core.unsent == sum(map(len, owed.values()))
