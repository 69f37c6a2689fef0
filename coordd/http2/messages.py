"""gRPC's messages within the data of a stream: a flag and a length, then the message.

Source of truth: gRPC's doc/PROTOCOL-HTTP2.md and doc/compression.md.
"""

import zlib
from struct import Struct
from typing import Final

from coordd.http2 import status
from coordd.http2.partial import Partial

_HEAD: Final = Struct(">BL")
_HEAD_BYTES: Final = 5
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
"""zlib's way to say: expect gzip's header."""

_MAX_UNPACKED: Final = 16 << 20
"""Of a packed message: a few bytes could hold up the loop for seconds. Milvus' processes pack nothing."""

IDENTITY: Final = "identity"
ACCEPTED_ENCODINGS: Final = "identity,gzip"
"""What a `MessageReader` reads, as a value of grpc-accept-encoding."""


class MessageError(Exception):
    """These are no messages, or none that are taken; `code` is the gRPC status that says so."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.message = text


def frame_head(size: int) -> bytes:
    """What precedes a message of so many bytes, uncompressed, in the data of a stream."""
    return _HEAD.pack(0, size)


def frame_message(body: bytes) -> bytes:
    """One message, uncompressed, as it stands in the data of a stream."""
    return _HEAD.pack(0, len(body)) + body


class MessageReader:
    """Takes the messages of one stream out of its data.

    Args:
        max_bytes: largest message, unpacked; None = no limit.
        encoding: the stream's grpc-encoding.
    """

    __slots__ = ("_encoding", "_max_bytes", "_partial")

    def __init__(self, max_bytes: int | None, encoding: str = IDENTITY) -> None:
        self._max_bytes = max_bytes
        self._encoding = encoding
        self._partial = Partial()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete with `data`.

        Raises:
            MessageError: RESOURCE_EXHAUSTED for one that is too large, said before it is there; UNIMPLEMENTED
                for a compression that is not known here; INTERNAL for what is no message. The reader is then
                of no more use.
        """
        if self._partial.waiting:
            whole = self._partial.add(data)
            if whole is None:
                return []
            data = whole
        messages: list[bytes] = []
        at, end, wanted = 0, len(data), _HEAD_BYTES
        while end - at >= _HEAD_BYTES:
            flag, size = _HEAD.unpack_from(data, at)
            if flag or (self._max_bytes is not None and size > self._max_bytes):
                self._check(flag, size)
            start = at + _HEAD_BYTES
            if start + size > end:
                wanted = _HEAD_BYTES + size
                break
            at = start + size
            messages.append(data[start:at] if not flag else self._unpack(data[start:at]))
        if at < end:
            self._partial.keep(data[at:], wanted)
        return messages

    @property
    def partial(self) -> bool:
        """Whether a message has begun and is not complete: no stream may end like that."""
        return self._partial.waiting

    def _check(self, flag: int, size: int) -> None:
        """Whether a message with such a head can be read at all."""
        if flag > 1:
            raise MessageError(status.INTERNAL, f"a message with the unknown flag {flag}")
        if flag and self._encoding == IDENTITY:
            raise MessageError(status.INTERNAL, "a compressed message without a grpc-encoding")
        if flag and self._encoding != "gzip":
            text = f"grpc-encoding {self._encoding[:64]!r} is not supported"
            raise MessageError(status.UNIMPLEMENTED, text)
        if self._max_bytes is not None and size > self._max_bytes:
            raise self._too_large(str(size))

    def _unpack(self, packed: bytes) -> bytes:
        """What was packed by gzip, in one member: more of them would be a way to make work out of nothing."""
        machine = zlib.decompressobj(_GZIP_WINDOW)
        limit = _MAX_UNPACKED if self._max_bytes is None else min(self._max_bytes, _MAX_UNPACKED)
        try:
            body = machine.decompress(packed, limit + 1)
        except zlib.error as error:
            raise MessageError(status.INTERNAL, f"a message that gzip cannot unpack: {error}") from error
        if len(body) > limit:
            raise MessageError(
                status.RESOURCE_EXHAUSTED, f"received message larger than max (more than {limit} unpacked)"
            )
        if not machine.eof or machine.unused_data:
            raise MessageError(status.INTERNAL, "a message that is not one whole member of gzip")
        return body

    def _too_large(self, size: str) -> MessageError:
        text = f"received message larger than max ({size} vs. {self._max_bytes})"
        return MessageError(status.RESOURCE_EXHAUSTED, text)
