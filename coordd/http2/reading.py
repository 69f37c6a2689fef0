"""Frames out of the bytes that a peer sends, in pieces of any size.

What comes here is cut into frames; header blocks are put together; padding is taken off; and what is no
frame, or may not come now, ends the connection. What a frame means is not known here.
"""

from abc import ABC, abstractmethod
from typing import Final

from coordd.http2 import frames
from coordd.http2.owner import Http2Error
from coordd.http2.partial import Partial

_MAX_CONTINUATIONS: Final = 64
_PADDING_AND_PRIORITY: Final = frames.PADDED | frames.PRIORITIZED
_PRIORITY_BYTES: Final = 5


class FrameReader(ABC):
    """Takes frames apart; a subclass takes them.

    Args:
        preface: what comes before the first frame, which must be SETTINGS.
        max_block_bytes: largest header block, as it is sent. Larger ones end the connection: what is not read
            would be missing in the decoder's table.
    """

    __slots__ = (
        "_block",
        "_block_ended",
        "_block_stream",
        "_continuations",
        "_max_block_bytes",
        "_only",
        "_partial",
        "_preface",
    )

    def __init__(self, preface: bytes, max_block_bytes: int) -> None:
        self._preface = preface
        self._max_block_bytes = max_block_bytes
        self._only: int | None = frames.SETTINGS
        """The one kind of frame that may come next; None = any."""
        self._partial = Partial()
        self._block: bytearray | None = None
        self._block_stream = self._continuations = 0
        self._block_ended = False

    @abstractmethod
    def _on_data(self, number: int, size: int, payload: bytes, *, ended: bool) -> None:
        """DATA on a stream; `size` is what it counts for the windows."""

    @abstractmethod
    def _on_block(self, number: int, block: bytes, *, ended: bool) -> None:
        """A whole header block of a stream."""

    @abstractmethod
    def _on_other(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        """Any other frame."""

    def _parse(self, data: bytes) -> None:
        """Take apart what has come.

        Raises:
            Http2Error: these are no frames, or not those that may come now.
        """
        if self._partial.waiting or self._preface:
            data = self._join(data)
        at, end, wanted = 0, len(data), frames.HEAD_BYTES
        unpack = frames.HEAD.unpack_from
        while end - at >= frames.HEAD_BYTES:
            high, low, kind, flags, number = unpack(data, at)
            size = high << 16 | low
            start = at + frames.HEAD_BYTES
            stop = start + size
            if size > frames.MAX_FRAME_BYTES:
                raise Http2Error(frames.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            if stop > end:
                wanted = stop - at
                break
            if self._only is not None and kind != self._only:
                raise Http2Error(frames.PROTOCOL_ERROR, f"frame type {kind} where only {self._only} may come")
            at = stop
            number &= frames.MAX_STREAM
            if kind == frames.DATA:
                if flags & frames.PADDED:
                    start, stop = _without_padding(data, start, stop)
                self._on_data(number, size, data[start:stop], ended=flags & frames.END_STREAM != 0)
            elif kind == frames.HEADERS:
                self._on_headers(number, flags, data, start, stop)
            elif kind == frames.CONTINUATION:
                self._on_continuation(number, flags, data[start:stop])
            else:
                self._on_other(kind, number, flags, data[start:stop])
        if at < end:
            self._partial.keep(data[at:], wanted)

    def _join(self, data: bytes) -> bytes:
        """What there is from the beginning of a frame on; nothing, if it is not enough yet."""
        if self._partial.waiting:
            return self._partial.add(data) or b""
        size = min(len(self._preface), len(data))
        if data[:size] != self._preface[:size]:
            raise Http2Error(frames.PROTOCOL_ERROR, "this is not HTTP/2")
        self._preface = self._preface[size:]
        return data[size:]

    def _on_headers(self, number: int, flags: int, data: bytes, start: int, stop: int) -> None:
        if flags & _PADDING_AND_PRIORITY:
            if flags & frames.PADDED:
                start, stop = _without_padding(data, start, stop)
            if flags & frames.PRIORITIZED:
                start += _PRIORITY_BYTES
                if start > stop:
                    raise Http2Error(frames.FRAME_SIZE_ERROR, "HEADERS too short for a priority")
        ended = flags & frames.END_STREAM != 0
        if flags & frames.END_HEADERS:
            self._on_block(number, data[start:stop], ended=ended)
            return
        self._only = frames.CONTINUATION
        self._block = bytearray(data[start:stop])
        self._block_stream = number
        self._block_ended = ended
        self._continuations = 0

    def _on_continuation(self, number: int, flags: int, payload: bytes) -> None:
        block = self._block
        if block is None or number != self._block_stream:
            raise Http2Error(frames.PROTOCOL_ERROR, "CONTINUATION without its HEADERS")
        block += payload
        self._continuations += 1
        if len(block) > self._max_block_bytes or self._continuations > _MAX_CONTINUATIONS:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, "a header block without an end")
        if flags & frames.END_HEADERS:
            self._only = self._block = None
            self._on_block(number, bytes(block), ended=self._block_ended)


def _without_padding(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Where the payload of a padded frame begins and ends."""
    if start == stop or start + 1 + data[start] > stop:
        raise Http2Error(frames.PROTOCOL_ERROR, "more padding than frame")
    return start + 1, stop - data[start]
