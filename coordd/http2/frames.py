"""HTTP/2 frames: their numbers, and how they are written.

Source of the numbers: RFC 9113, sections 4, 6 and 7.
"""

from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first, before its SETTINGS."""

HEAD = Struct(">BHBBL")
"""The head of a frame: length (high byte, low two bytes), type, flags, stream."""

HEAD_BYTES = 9
MAX_FRAME_BYTES = 1 << 14
"""Largest payload that a peer must take without having said more, and the largest that is taken here."""

DEFAULT_WINDOW = (1 << 16) - 1
"""Window of a connection, and of each stream, until something else is said."""
MAX_WINDOW = (1 << 31) - 1
MAX_STREAM = (1 << 31) - 1

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
SETTINGS_TIMEOUT = 0x4
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
CONNECT_ERROR = 0xA
ENHANCE_YOUR_CALM = 0xB
INADEQUATE_SECURITY = 0xC
HTTP_1_1_REQUIRED = 0xD

SETTING = Struct(">HL")
WORD = Struct(">L")
TWO_WORDS = Struct(">LL")
_WORD_FRAME = Struct(">BHBBLL")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One whole frame; the payload must be small enough for the peer."""
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(name, value) for name, value in values.items()))


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame: `size` more bytes may come, 1 to 2^31 - 1."""
    return _WORD_FRAME.pack(0, 4, WINDOW_UPDATE, 0, stream, size)


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return _WORD_FRAME.pack(0, 4, RST_STREAM, 0, stream, code)


def goaway(last_stream: int, code: int, text: bytes) -> bytes:
    """A GOAWAY frame; `text` is cut to what every peer takes."""
    return frame(GOAWAY, 0, 0, (TWO_WORDS.pack(last_stream, code) + text)[:MAX_FRAME_BYTES])
