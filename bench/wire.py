"""The client's half of gRPC over HTTP/2, as bytes in and bytes out, for unary calls of one method.

A gRPC library for Python spends more on a call than the servers measured here do; it would measure itself.
This client sends what Milvus' Go clients send (headers from the dynamic table, one message in one frame) and
spends a few microseconds. It does no I/O, no TLS, no retries, and does not decode response headers: a reply
without a message counts as failed, which is how gRPC servers answer anything but OK.

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), the gRPC over HTTP/2 protocol.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Frame: length (24 bits, here 16 + 8), type, flags, stream.
FRAME = struct.Struct(">HBBBI")
FRAME_BYTES = FRAME.size
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
# A gRPC message is preceded by a flag (compressed or not) and its length.
PREFIX = struct.Struct(">BI")
_WINDOW = (1 << 31) - 1
_INITIAL_WINDOW = 65_535
_REFILL = 1 << 29
# HPACK: the first index of the dynamic table, and the longest string with a length of one byte.
_FIRST_DYNAMIC = 62
_SHORT = 126


class WireError(Exception):
    """The server did what this client does not handle."""


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of unary call. ``path`` is "/package.Service/Method", ``body`` the serialized request."""

    path: str
    body: bytes
    metadata: tuple[tuple[str, str], ...] = ()
    timeout: str = "10S"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    length = len(payload)
    return FRAME.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


class Connection:
    """One connection's state. Streams are numbered 1, 3, 5 and so on; all carry calls of one kind."""

    def __init__(self, call: Call, authority: str) -> None:
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", call.path),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("user-agent", "coordd-bench"),
            ("te", "trailers"),
            ("grpc-timeout", call.timeout),
            *call.metadata,
        ]
        # Sent in full once, which puts them into the server's table; then a byte each.
        self._block = b"".join(b"\x40" + _text(name) + _text(value) for name, value in headers)
        self._later = bytes(0x80 | _FIRST_DYNAMIC + len(headers) - 1 - i for i in range(len(headers)))
        self._message = PREFIX.pack(0, len(call.body)) + call.body
        self._next = 1
        self._rest = b""
        self._bodies: dict[int, bytes] = {}
        self._open: set[int] = set()
        self._send_window = _INITIAL_WINDOW
        self._received = 0
        self._pending = bytearray()
        self.going_away = False

    def opening(self) -> bytes:
        """What goes out first: preface, settings, and windows that never fill up."""
        settings = struct.pack(">HI", 4, _WINDOW)
        grow = struct.pack(">I", _WINDOW - _INITIAL_WINDOW)
        return PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, grow)

    def request(self, body: bytes | None = None) -> tuple[int, bytes]:
        """Stream and bytes of the next call; ``body``: its own message, by default the call's.

        Raises: WireError when the server's window is exhausted.
        """
        message = self._message if body is None else PREFIX.pack(0, len(body)) + body
        if self._send_window < len(message):
            raise WireError("the server's flow control window is exhausted")
        self._send_window -= len(message)
        stream = self._next
        self._next += 2
        self._open.add(stream)
        head = frame(HEADERS, END_HEADERS, stream, self._block)
        self._block = self._later
        return stream, head + frame(DATA, END_STREAM, stream, message)

    def pending(self) -> bytes:
        """Acknowledgements that are due; empty most of the time."""
        if self._received > _REFILL:
            self._pending += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received))
            self._received = 0
        due = bytes(self._pending)
        self._pending.clear()
        return due

    def receive(self, data: bytes) -> list[tuple[int, bytes | None]]:
        """Take bytes; returns the calls that ended: (stream, message with its prefix, or None if failed)."""
        buffer = self._rest + data if self._rest else data
        ended: list[tuple[int, bytes | None]] = []
        position, end = 0, len(buffer)
        while end - position >= FRAME_BYTES:
            high, low, kind, flags, stream = FRAME.unpack_from(buffer, position)
            start = position + FRAME_BYTES
            stop = start + (high << 8 | low)
            if stop > end:
                break
            position = stop
            if kind == DATA:
                self._received += stop - start
                self._bodies[stream] = self._bodies.get(stream, b"") + buffer[start:stop]
            elif kind == HEADERS:
                if not flags & END_STREAM:
                    continue
            else:
                flags = self._control(kind, flags, buffer[start:stop])
            if flags & END_STREAM and stream in self._open:
                self._open.discard(stream)
                ended.append((stream, self._bodies.pop(stream, None)))
        self._rest = buffer[position:]
        return ended

    def _control(self, kind: int, flags: int, payload: bytes) -> int:
        """Handle any other frame; returns END_STREAM if it ends its stream."""
        if kind == RST_STREAM:
            return END_STREAM
        if kind == SETTINGS and not flags & ACK:
            self._pending += frame(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self._pending += frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            self.going_away = True
        elif kind == WINDOW_UPDATE:
            self._send_window += struct.unpack(">I", payload)[0]
        return 0


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) > _SHORT:
        raise WireError(f"a header of more than {_SHORT} bytes: {value}")
    return bytes([len(data)]) + data


def split(address: str) -> tuple[str, int]:
    """Host and port of "host:port"."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def connect(address: str, call: Call, timeout_s: float) -> tuple[socket.socket, Connection]:
    """Open a connection and send its opening. Raises: OSError."""
    sock = socket.create_connection(split(address), timeout=timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = Connection(call, address)
    sock.sendall(connection.opening())
    return sock, connection


def call_once(address: str, call: Call, timeout_s: float = 2.0) -> bytes | None:
    """One call on a connection of its own; the reply's message, None without one."""
    deadline = time.monotonic() + timeout_s
    try:
        sock, connection = connect(address, call, timeout_s)
    except OSError:
        return None
    with sock:
        try:
            sock.sendall(connection.request()[1])
            while time.monotonic() < deadline:
                data = sock.recv(1 << 16)
                if not data:
                    return None
                ended = connection.receive(data)
                if due := connection.pending():
                    sock.sendall(due)
                if ended:
                    body = ended[0][1]
                    return None if body is None else body[PREFIX.size :]
        except OSError:
            pass
    return None
