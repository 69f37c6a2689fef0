"""The sending half of a connection: frames into the output, as far as the peer's windows allow.

What does not fit waits in the queue of its stream. The streams that could send take turns, one frame each.
"""

from collections import deque

from coordd.http2 import frames
from coordd.http2.streams import Stream

MAX_SENT_FRAME_BYTES = 1 << 18
"""Of data in one frame, though a peer may take more: streams take turns frame by frame."""


class Sender:
    """Frames on their way out.

    Attributes:
        output: what is to be written, in order.
        pongs: answers to PINGs; they leave behind the output.
        window: bytes of data that the peer takes on the whole connection.
        initial_window: the window of a new stream.
        max_frame_bytes: largest payload.
        unsent: bytes of data in the queues.
        data_frames: frames of data sent so far.
    """

    __slots__ = (
        "_ready",
        "data_frames",
        "initial_window",
        "max_frame_bytes",
        "output",
        "pongs",
        "unsent",
        "window",
    )

    def __init__(self) -> None:
        self.output: list[bytes | memoryview] = []
        self.pongs: list[bytes] = []
        self.window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame_bytes = frames.MAX_FRAME_BYTES
        self.unsent = 0
        self.data_frames = 0
        self._ready: dict[int, Stream] = {}

    def headers(self, number: int, block: bytes, *, end: bool) -> None:
        """A header block; in several frames if it is large."""
        size = len(block)
        flags = frames.END_STREAM if end else 0
        limit = self.max_frame_bytes
        if size <= limit:
            head = frames.HEAD.pack(
                size >> 16, size & 0xFFFF, frames.HEADERS, flags | frames.END_HEADERS, number
            )
            self.output += (head, block)
            return
        self.output.append(frames.frame(frames.HEADERS, flags, number, block[:limit]))
        for start in range(limit, size, limit):
            flags = frames.END_HEADERS if start + limit >= size else 0
            self.output.append(frames.frame(frames.CONTINUATION, flags, number, block[start : start + limit]))

    def data(self, number: int, stream: Stream, data: bytes, *, end: bool, trailers: bytes | None) -> bool:
        """Data, and perhaps the end of our side: `end`, or `trailers` after the data.

        Returns whether our side has ended, which is not so while something is queued.
        """
        size = len(data)
        if stream.queue or (size and size > min(stream.window, self.window, self.max_frame_bytes)):
            self._enqueue(number, stream, data)
            stream.ending = end or trailers is not None
            stream.trailers = trailers
            return self.release(number, stream)
        if size or trailers is None:
            stream.window -= size
            self.window -= size
            self.data_frames += 1
            self.output += (frames.HEAD.pack(size >> 16, size & 0xFFFF, frames.DATA, int(end), number), data)
        if trailers is not None:
            self.headers(number, trailers, end=True)
            return True
        return end

    def release(self, number: int, stream: Stream) -> bool:
        """Send from the queue of one stream what the windows allow. Returns whether our side has ended."""
        while stream.queue and stream.window > 0 and self.window > 0:
            if self._one_frame(number, stream):
                return True
        if stream.queue and stream.window > 0:
            self._ready[number] = stream
        return False

    def release_all(self) -> list[int]:
        """Send what a larger window of the connection allows. Returns the streams that have ended by it."""
        ended: list[int] = []
        ready = self._ready
        while ready and self.window > 0:
            number, stream = next(iter(ready.items()))
            del ready[number]
            if stream.window <= 0:  # the peer has made it smaller meanwhile
                continue
            if self._one_frame(number, stream):
                ended.append(number)
            elif stream.queue and stream.window > 0:
                ready[number] = stream
        return ended

    def drop(self, number: int, stream: Stream) -> None:
        """Forget what is queued for a stream."""
        if stream.queue:
            self.unsent -= sum(map(len, stream.queue))
            stream.queue = None
            self._ready.pop(number, None)

    def take(self) -> bytes:
        """The output so far, b"" if there is none."""
        output, pongs = self.output, self.pongs
        if pongs:
            output += pongs
            pongs.clear()
        if not output:
            return b""
        data = b"".join(output)
        output.clear()
        return data

    def _enqueue(self, number: int, stream: Stream, data: bytes) -> None:
        if stream.queue is None:
            stream.queue = deque()
        if data or not stream.queue:
            stream.queue.append(memoryview(data))
            self.unsent += len(data)

    def _one_frame(self, number: int, stream: Stream) -> bool:
        """One frame from the queue, if there is one. Returns whether our side has ended by it."""
        queue = stream.queue
        if not queue:
            return False
        piece = queue[0]
        size = min(len(piece), stream.window, self.window, self.max_frame_bytes)
        if size == len(piece):
            queue.popleft()
        else:
            queue[0] = piece[size:]
        self.unsent -= size
        stream.window -= size
        self.window -= size
        last = stream.ending and not queue
        end = last and stream.trailers is None
        self.data_frames += 1
        head = frames.HEAD.pack(size >> 16, size & 0xFFFF, frames.DATA, int(end), number)
        self.output += (head, piece[:size])
        if last and stream.trailers is not None:
            self.headers(number, stream.trailers, end=True)
        return last
