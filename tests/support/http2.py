"""HTTP/2 by hand, for tests of `coordd.http2`: frames and header blocks made without its help.

Numbers are those of RFC 9113; nothing here is taken from the code under test but the connection itself, so
that a constant which is wrong there is wrong against this file too.
"""

import gc
import itertools
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from coordd.http2.connection import Http2Connection
from coordd.http2.owner import Side

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

MAX_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = (1 << 16) - 1


class Code(IntEnum):
    """Error codes, RFC 9113 section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


@dataclass(frozen=True)
class Frame:
    """One frame, read back."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error_code(self) -> int:
        """Of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")

    @property
    def last_stream(self) -> int:
        """Of GOAWAY."""
        return int.from_bytes(self.payload[:4], "big")

    def settings(self) -> dict[int, int]:
        """Of SETTINGS."""
        return dict(struct.iter_unpack(">HI", self.payload))


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame; nothing is checked."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def settings(values: dict[int, int] | None = None) -> bytes:
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in (values or {}).items()))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def rst_stream(stream: int, code: int = Code.CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frame(PING, ACK if ack else 0, 0, payload)


def goaway(last_stream: int, code: int = Code.NO_ERROR, text: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code) + text)


def split_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames at the start of `data`, and what is left over."""
    frames, at = [], 0
    while len(data) - at >= 9:
        end = at + 9 + int.from_bytes(data[at : at + 3], "big")
        if end > len(data):
            break
        kind, flags, stream = struct.unpack_from(">BBI", data, at + 3)
        frames.append(Frame(kind, flags, stream & 0x7FFFFFFF, data[at + 9 : end]))
        at = end
    return frames, data[at:]


def frames_of(data: bytes) -> list[Frame]:
    """All frames of `data`, which must end with one; a client's preface is skipped."""
    frames, rest = split_frames(data.removeprefix(PREFACE))
    assert rest == b"", "the output ends within a frame"
    return frames


def integer(value: int, prefix_bits: int, first: int = 0) -> bytes:
    """RFC 7541 section 5.1."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = bytearray([first | limit]), value - limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name: bytes, value: bytes, *, first: int = 0) -> bytes:
    """A header field with a new name; `first` 0: without indexing, 0x40: with, 0x10: never indexed."""
    return bytes([first]) + integer(len(name), 7) + name + integer(len(value), 7) + value


def block(fields: Iterable[tuple[str, str]]) -> bytes:
    """A header block that touches no table."""
    return b"".join(literal(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields)


REQUEST_FIELDS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Service/Method"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
RESPONSE_FIELDS = [(":status", "200"), ("content-type", "application/grpc")]
TRAILER_FIELDS = [("grpc-status", "0")]
REQUEST = block(REQUEST_FIELDS)
RESPONSE = block(RESPONSE_FIELDS)
TRAILERS = block(TRAILER_FIELDS)


def request(stream: int, *, end: bool = False, header_block: bytes = REQUEST) -> bytes:
    """HEADERS that open a stream."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, header_block)


def data(stream: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, payload)


class Recorder:
    """An owner of a connection that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def headers(self, stream: int, headers: list[tuple[str, str]], ended: bool) -> None:
        self.events.append(("headers", stream, headers, ended))

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        self.events.append(("data", stream, bytes(data), ended))

    def reset(self, stream: int, code: int) -> None:
        self.events.append(("reset", stream, code))

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        self.events.append(("goaway", last_stream, code, bytes(text)))

    def pong(self, payload: bytes) -> None:
        self.events.append(("pong", bytes(payload)))

    def settled(self) -> None:
        self.events.append(("settled",))

    def of(self, kind: str, stream: int | None = None) -> list[tuple[Any, ...]]:
        """Events of one kind, without the kind."""
        return [
            event[1:] for event in self.events if event[0] == kind and (stream is None or event[1] == stream)
        ]

    def body(self, stream: int) -> bytes:
        """All DATA of a stream."""
        return b"".join(chunk for _, chunk, _ in self.of("data", stream))

    def ended(self, stream: int) -> bool:
        """Whether the peer ended the stream, with its last headers or data."""
        last = [event[3] for event in self.events if event[0] in ("headers", "data") and event[1] == stream]
        assert last.count(True) <= 1, "a stream ends once"
        assert True not in last[:-1], "nothing comes after the end of a stream"
        return bool(last) and last[-1]

    def merged(self) -> list[tuple[Any, ...]]:
        """The events, DATA that came in pieces put together: how it was cut is no promise."""
        out: list[tuple[Any, ...]] = []
        for event in self.events:
            if event[0] == "data" and out and out[-1][:2] == event[:2] and not out[-1][3]:
                out[-1] = ("data", event[1], out[-1][2] + event[2], event[3])
            elif event[0] != "data" or event[2] or event[3]:
                out.append(event)
        return out


class End:
    """One end of a connection whose other end is written by hand; its own greeting is taken already."""

    def __init__(self, side: Side, **options: Any) -> None:
        self.side = side
        self.told = Recorder()
        self.core = make(side, self.told, **options)
        self.core.start()
        self.greeting = self.core.take()

    def greet(self, values: dict[int, int] | None = None) -> None:
        """Feed the greeting of the other side, and drop what is answered."""
        self.core.feed((PREFACE if self.side is Side.SERVER else b"") + settings(values))
        self.core.feed(frame(SETTINGS, ACK))
        self.core.take()

    def answer(self, received: bytes) -> list[Frame]:
        """What it sends on being fed."""
        self.core.feed(received)
        return frames_of(self.core.take())

    def sent(self) -> list[Frame]:
        """What it has to send."""
        return frames_of(self.core.take())


def make(side: Side, owner: Recorder, *, max_streams: int | None = None, **options: Any) -> Http2Connection:
    """A connection, with few words."""
    return Http2Connection(side, owner, max_streams=max_streams, **options)


class Pair:
    """A client and a server wired to each other in memory."""

    def __init__(
        self,
        *,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        chunk: int = 1 << 30,
    ) -> None:
        self.at_client, self.at_server = Recorder(), Recorder()
        self.client = make(Side.CLIENT, self.at_client, **(client or {}))
        self.server = make(Side.SERVER, self.at_server, **(server or {}))
        self.chunk = chunk
        self.client.start()
        self.server.start()

    def run(self) -> None:
        """Carry bytes until both are quiet."""
        for _ in range(100_000):
            up, down = self.client.take(), self.server.take()
            if not up and not down:
                return
            self._carry(up, self.server)
            self._carry(down, self.client)
        raise AssertionError("the two never fall silent")

    def _carry(self, octets: bytes, to: Http2Connection) -> None:
        for at in range(0, len(octets), self.chunk):
            to.feed(octets[at : at + self.chunk])


def deep_size(root: object) -> int:
    """Bytes held by an object and all that it refers to, code and modules left out."""
    skipped = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
    seen: dict[int, object] = {}
    queue = [root]
    while queue:
        one = queue.pop()
        if id(one) in seen or isinstance(one, skipped):
            continue
        seen[id(one)] = one
        queue.extend(gc.get_referents(one))
    return sum(map(sys.getsizeof, seen.values()))


def cuts(octets: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """`octets` in chunks of `sizes`, again and again; no size is 0."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(octets):
            return
        yield octets[at : at + size]
        at += size


# --- Huffman coding, RFC 7541 appendix B ---

# Its code is canonical: within a length codes go up with the octet, and lengths follow each other. So the
# lengths say all. The last entry is EOS.
_LENGTHS: dict[int, Iterable[int]] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4"
    b"\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7"
    b"\xbc\xbf\xc5\xe7\xef",
    24: b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d"
    b"\x1e\x1f\x7f\xdc\xf9",
    30: (0x0A, 0x0D, 0x16, 256),
}


def _assign_codes() -> dict[int, str]:
    codes, code, length = {}, 0, 0
    for longer, octets in _LENGTHS.items():
        code <<= longer - length
        length = longer
        for octet in octets:
            codes[octet] = format(code, f"0{length}b")
            code += 1
    assert code == 1 << length, "the code is complete"
    assert len(codes) == 257
    return codes


HUFFMAN_CODES = _assign_codes()
EOS = 256


def huffman_bits(octets: Iterable[int]) -> str:
    """The code as a text of 0 and 1, without padding."""
    return "".join(HUFFMAN_CODES[octet] for octet in octets)


def from_bits(bits: str) -> bytes:
    """Eight to an octet; the last one is filled up with ones."""
    bits += "1" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")


def huffman(octets: bytes) -> bytes:
    """A string as it is Huffman-coded in a header block."""
    coded = from_bits(huffman_bits(octets))
    return integer(len(coded), 7, 0x80) + coded
