"""A stream whose receiver keeps too much is held up; the others of its connection go on."""

from collections import Counter

from coordd.http2.connection import Http2Connection, Side
from coordd.http2.hpack import encode

WINDOW = 1 << 20
REQUEST = encode([(":method", "POST"), (":scheme", "http"), (":path", "/a/b")])
RESPONSE = encode([(":status", "200")])


class Owner:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.received: Counter[int] = Counter()
        self.resets: list[tuple[int, int]] = []

    def headers(self, stream: int, headers: list[tuple[str, str]], ended: bool) -> None:
        pass

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        self.received[stream] += len(data)

    def reset(self, stream: int, code: int) -> None:
        self.resets.append((stream, code))

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        raise AssertionError

    def pong(self, payload: bytes) -> None:
        raise AssertionError

    def settled(self) -> None:
        pass


class Pair:
    """A client, and a server that answers two requests without end."""

    def __init__(self) -> None:
        self.told = Owner()
        self.client = Http2Connection(Side.CLIENT, self.told, window=WINDOW)
        self.server = Http2Connection(Side.SERVER, Owner())
        self.client.start()
        self.server.start()
        self.run()
        self.streams = [self._open(), self._open()]

    def _open(self) -> int:
        stream = self.client.new_stream()
        self.client.send_headers(stream, REQUEST)
        self.run()
        self.server.send_headers(stream, RESPONSE)
        self.run()
        return stream

    def run(self) -> None:
        while any(moved := (self.client.take(), self.server.take())):
            up, down = moved
            if up:
                self.server.feed(up)
            if down:
                self.client.feed(down)

    def send(self, stream: int, size: int) -> None:
        self.server.send_data(stream, bytes(size))
        self.run()


def test_a_held_stream_gets_what_its_window_had_room_for() -> None:
    pair = Pair()
    slow, quick = pair.streams
    pair.client.hold_window(slow)
    pair.send(slow, 5 * WINDOW)
    assert pair.told.received[slow] == WINDOW
    pair.send(quick, 5 * WINDOW)
    assert pair.told.received[quick] == 5 * WINDOW
    pair.client.open_window(slow)
    pair.run()
    assert pair.told.received[slow] == 5 * WINDOW
    assert pair.told.resets == []


def test_a_stream_may_be_held_again_and_again() -> None:
    pair = Pair()
    stream = pair.streams[0]
    pair.send(stream, 20 * WINDOW)
    for _ in range(50):
        pair.client.hold_window(stream)
        before = pair.told.received[stream]
        pair.send(stream, WINDOW)
        assert pair.told.received[stream] - before <= WINDOW
        pair.client.open_window(stream)
        pair.run()
    assert pair.told.received[stream] == 70 * WINDOW


def test_a_peer_that_ignores_a_held_window_is_stopped() -> None:
    pair = Pair()
    stream = pair.streams[0]
    pair.client.hold_window(stream)
    pair.send(stream, WINDOW)
    frame = (16384).to_bytes(3, "big") + b"\0\0" + stream.to_bytes(4, "big") + bytes(16384)
    pair.client.feed(frame)
    assert pair.told.resets == [(stream, 3)]  # FLOW_CONTROL_ERROR


def test_a_stream_that_is_over_is_held_and_opened_in_vain() -> None:
    pair = Pair()
    stream = pair.streams[0]
    pair.client.hold_window(stream)
    pair.client.forget(stream)
    pair.client.open_window(stream)
    pair.client.hold_window(stream)
    assert pair.client.take() == b""
