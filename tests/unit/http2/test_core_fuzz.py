"""Random and mutated bytes: a connection ends in `Http2Error` or goes on; it never fails, never grows."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordd.http2.connection import Http2Connection, Http2Error, Side
from coordd.http2.hpack import encode
from tests.support.http2 import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    REQUEST,
    RESPONSE_FIELDS,
    SETTINGS,
    TRAILER_FIELDS,
    Recorder,
    data,
    deep_size,
    frame,
    literal,
    make,
    ping,
    request,
    rst_stream,
    split_frames,
    window_update,
)
from tests.support.http2 import settings as settings_frame

RESPONSE, TRAILERS = encode(RESPONSE_FIELDS), encode(TRAILER_FIELDS)


class Answering(Recorder):
    """Answers every request at once, as a server does."""

    core: Http2Connection

    def headers(self, stream: int, headers: list[tuple[str, str]], ended: bool) -> None:
        super().headers(stream, headers, ended)
        if ended:
            self._answer(stream)

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        super().data(stream, data, ended)
        if ended:
            self._answer(stream)

    def _answer(self, stream: int) -> None:
        self.core.send_headers(stream, RESPONSE)
        self.core.send_last(stream, b"z" * 100, TRAILERS)


def server() -> tuple[Http2Connection, Answering]:
    told = Answering()
    told.core = core = make(Side.SERVER, told, max_streams=20, window=1 << 16, max_header_bytes=4096)
    core.start()
    return core, told


def client() -> tuple[Http2Connection, Recorder]:
    told = Recorder()
    core = make(Side.CLIENT, told, window=1 << 16, max_header_bytes=4096)
    core.start()
    for _ in range(3):
        stream = core.new_stream()
        core.send_headers(stream, REQUEST)
        core.send_data(stream, b"y" * 100, end=True)
    return core, told


def survive(core: Http2Connection, told: Recorder, chunks: list[bytes]) -> Http2Error | None:
    """Feed; whatever comes out must be frames, and no more of it than what went in can ask for."""
    fed, sent = 0, b""
    try:
        for chunk in chunks:
            fed += len(chunk)
            core.feed(chunk)
            sent += core.take()
    except Http2Error as error:
        sent += core.take()
        assert split_frames(sent.removeprefix(PREFACE))[1] == b""
        return error
    assert split_frames(sent.removeprefix(PREFACE))[1] == b""
    # Per octet in: at most an answer of ours for 9 (HEADERS), and its windows.
    assert len(sent) <= 2_000 + 40 * fed
    for stream in {event[1] for event in told.events if event[0] in ("headers", "data")}:
        told.ended(stream)  # checks the order of events
    return None


kinds = st.integers(0, 10)
flags = st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D]) | st.integers(0, 255)
streams = st.sampled_from([0, 1, 3, 5, 2, 7, 9, 11]) | st.integers(0, (1 << 32) - 1)
payloads = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [REQUEST, RESPONSE, TRAILERS, REQUEST[:-3], b"\0\0\0\x01", bytes(8), bytes(5), b"\x7f\xff\xff\xff"]
    ),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 65535, 1 << 31, 16384])), max_size=4).map(
        lambda pairs: b"".join(
            number.to_bytes(2, "big") + value.to_bytes(4, "big") for number, value in pairs
        )
    ),
)
frames = st.one_of(
    st.builds(frame, kinds, flags, streams, payloads),
    st.sampled_from(
        [
            request(1),
            request(3, end=True),
            request(5, header_block=REQUEST + literal(b"a", b"b", first=0x40)),
            request(7, header_block=REQUEST + b"\xbe", end=True),
            frame(HEADERS, 0, 9, REQUEST[:9]),
            frame(9, END_HEADERS, 9, REQUEST[9:]),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS),
            data(1, b"x" * 50),
            data(1, b"x" * 50, end=True),
            rst_stream(1),
            window_update(0, 1000),
            window_update(1, 1000),
            settings_frame({4: 10}),
            settings_frame({4: 100_000, 5: 20_000}),
            frame(SETTINGS, ACK),
            ping(),
        ]
    ),
)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=60), max_size=10))
def test_bytes(chunks: list[bytes]) -> None:
    survive(*server(), [PREFACE, settings_frame(), *chunks])
    survive(*client(), [settings_frame(), *chunks])
    survive(*server(), chunks)
    survive(*client(), chunks)


@settings(max_examples=120)
@given(st.lists(frames, max_size=25), st.integers(1, 40))
def test_frames_of_every_kind(sequence: list[bytes], chunk: int) -> None:
    octets = b"".join(sequence)
    cut = [octets[at : at + chunk] for at in range(0, len(octets), chunk)]
    for make_end, hello in ((server, PREFACE + settings_frame()), (client, settings_frame())):
        whole_core, whole = make_end()
        error = survive(whole_core, whole, [hello, octets])
        cut_core, parts = make_end()
        again = survive(cut_core, parts, [hello, *cut])
        assert (error and error.code) == (again and again.code), "cutting the bytes must change nothing"
        assert whole.merged() == parts.merged()


@pytest.mark.parametrize("seed", range(4))
def test_a_conversation_with_a_few_octets_changed(seed: int) -> None:
    """400 damaged copies of a conversation that is all right."""
    rng = random.Random(seed)
    good = PREFACE + settings_frame({4: 1 << 20}) + frame(SETTINGS, ACK)
    for number in range(1, 21, 2):
        good += request(number, header_block=REQUEST + literal(b"n", b"%d" % number, first=0x40))
        good += data(number, bytes(range(90))) + data(number, b"end", end=True) + window_update(0, 500)
        good += window_update(number, 10) + ping()
    core, told = server()
    assert survive(core, told, [good]) is None
    assert len(told.of("headers")) == 10
    survived = 0
    for _ in range(100):
        bad = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(PREFACE), len(bad))
            match rng.randrange(3):
                case 0:
                    bad[at] = rng.randrange(256)
                case 1:
                    del bad[at : at + rng.randrange(1, 12)]
                case _:
                    bad[at:at] = rng.randbytes(rng.randrange(1, 12))
        chunk = rng.randrange(1, 2000)
        survived += (
            survive(*server(), [bytes(bad[at : at + chunk]) for at in range(0, len(bad), chunk)]) is None
        )
    assert 0 < survived < 100, "some damage is noticed, some is in places where anything may be"


def test_random_frames_for_a_long_time_leave_nothing_behind() -> None:
    """Connections that live on after 10,000 frames of noise are as small as new ones."""
    rng = random.Random(5)
    core, told = server()
    core.feed(PREFACE + settings_frame() + frame(SETTINGS, ACK))
    core.take()
    before = deep_size(core) - deep_size(told.events)
    next_stream, fed = 1, 0
    for _ in range(10_000):
        recent = max(1, next_stream - 2 * rng.randrange(1, 10))
        octets = rng.choice(
            [
                request(next_stream, end=True),
                request(next_stream) + data(next_stream, b"x" * 20, end=True),
                request(next_stream) + rst_stream(next_stream),
                rst_stream(recent),
                window_update(recent, 7),
                window_update(0, 200),
                frame(2, 0, rng.randrange(1, 1 << 31), bytes(5)),
                frame(0xBB, 0, rng.randrange(1 << 31), bytes(9)),
            ]
        )
        if octets[3] == HEADERS:
            next_stream += 2
        fed += len(octets)
        try:
            core.feed(octets)
        except Http2Error as error:
            assert error.code == 11, error  # noqa: PT017 - too many resets: a new connection takes over
            core, told = server()
            core.feed(PREFACE + settings_frame() + frame(SETTINGS, ACK))
            next_stream = 1
        core.take()
        told.events.clear()
    assert fed > 250_000
    assert deep_size(core) - before < 60_000
