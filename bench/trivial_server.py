"""A server that does nothing: answers every call with the same AllocID reply. Shows what the client can do.

``python -m bench.trivial_server`` prints its port and serves until it is killed. Any number of connections,
one thread, no checks.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys

from bench.wire import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    FRAME_BYTES,
    HEADERS,
    PING,
    PREFACE,
    PREFIX,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from coordd.pb import common_pb2, root_coord_pb2

# ":status: 200" from the static table, then literals that are not kept.
_HEAD = b"\x88\x00\x0ccontent-type\x10application/grpc"
_TRAILER = b"\x00\x0bgrpc-status\x010"


class _Peer:
    """What has arrived from one client and is not yet handled."""

    def __init__(self) -> None:
        self._rest = b""
        self._preface = True

    def answer(self, data: bytes, message: bytes) -> bytes:
        """What to send for these bytes."""
        buffer = self._rest + data
        position, out = 0, []
        if self._preface and len(buffer) >= len(PREFACE):
            position, self._preface = len(PREFACE), False
            window = struct.pack(">I", (1 << 31) - 1 - 65_535)
            out += [frame(SETTINGS, 0, 0, b""), frame(WINDOW_UPDATE, 0, 0, window)]
        while not self._preface and len(buffer) - position >= FRAME_BYTES:
            high, low, kind, flags, stream = FRAME.unpack_from(buffer, position)
            stop = position + FRAME_BYTES + (high << 8 | low)
            if stop > len(buffer):
                break
            if kind == DATA and flags & END_STREAM:
                out.append(
                    frame(HEADERS, END_HEADERS, stream, _HEAD)
                    + frame(DATA, 0, stream, message)
                    + frame(HEADERS, END_HEADERS | END_STREAM, stream, _TRAILER)
                )
            elif kind == SETTINGS and not flags & ACK:
                out.append(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                out.append(frame(PING, ACK, 0, buffer[position + FRAME_BYTES : stop]))
            position = stop
        self._rest = buffer[position:]
        return b"".join(out)


def main() -> None:
    """Serve."""
    reply = root_coord_pb2.AllocIDResponse(status=common_pb2.Status(), ID=1 << 58, count=1)
    body = reply.SerializeToString()
    message = PREFIX.pack(0, len(body)) + body
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0))
    selector.register(listener, selectors.EVENT_READ)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        for key, _ in selector.select():
            if key.data is None:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(sock, selectors.EVENT_READ, _Peer())
                continue
            try:
                data = key.fileobj.recv(1 << 18)
                if data:
                    key.fileobj.sendall(key.data.answer(data, message))
                    continue
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()


if __name__ == "__main__":
    main()
