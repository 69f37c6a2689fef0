"""One call as its client sees it: what is sent when it begins, and what has come of its answer. No I/O.

An answer is: headers, messages in DATA frames, trailers that say how the call ended; or trailers only. The
table of calls (`coordd.http2.calls`) tells what arrives, the connection has seen to it that it comes in this
order. Subclasses take the messages and the end.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from coordd.http2.connection import Http2Connection
from coordd.http2.messages import IDENTITY, MessageError, MessageReader, frame_head, frame_message
from coordd.http2.outcome import CallFailed, after_sending, of_http, of_trailers
from coordd.http2.owner import Field
from coordd.http2.status import CANCELLED, DEADLINE_EXCEEDED, INTERNAL

_LARGE: Final = 1 << 16
"""A request of more bytes is not copied to have its head before it: several servers may be sent the same one,
of megabytes."""

Headers = list[Field]
TOO_LATE: Final = "Deadline Exceeded"
"""gRPC's words."""


class Exchange(ABC):
    """A call, from the moment it is made until it is `over`.

    Attributes:
        stream: its stream; 0 while nothing of it has been written.
        over: whether it has ended; nothing that arrives later counts.
        on_begin: is called when it begins, which may be long after it was made.
    """

    __slots__ = ("_http_status", "_max_receive_bytes", "_reader", "on_begin", "over", "stream")

    def __init__(self, max_receive_bytes: int | None) -> None:
        self.stream = 0
        self.over = False
        self.on_begin: Callable[[], None] | None = None
        self._max_receive_bytes = max_receive_bytes
        self._http_status = ""
        self._reader: MessageReader | None = None

    @abstractmethod
    def begin(self, core: Http2Connection) -> int:
        """Write the request, or what there is of it, to `stream`. Returns its bytes."""

    def resume(self, core: Http2Connection) -> None:  # noqa: B027 - most calls have nothing left to write
        """The socket takes more again, after a while in which it did not."""

    @abstractmethod
    def message(self, body: bytes) -> None:
        """A message of the answer."""

    @abstractmethod
    def ended(self, failure: CallFailed | None) -> None:
        """The call is over; None is success. Told once."""

    def finish(self, failure: CallFailed | None) -> None:
        """End the call, if it has not ended."""
        if not self.over:
            self.over = True
            self.ended(failure)

    def headers(self, headers: Headers, *, ended: bool) -> None:
        """Headers or trailers; `ended`: nothing follows."""
        if not self._http_status and not self._first(headers, ended=ended):
            return
        failure = of_trailers(headers, self._http_status)
        if failure is None and self._reader is not None and self._reader.partial:
            failure = after_sending(INTERNAL, "the answer ended in the middle of a message")
        self.finish(failure)

    def data(self, data: bytes, *, ended: bool) -> None:
        """Part of the messages; `ended`: no trailers follow."""
        if self._reader is None:
            self.finish(after_sending(INTERNAL, "data before the headers of the answer"))
            return
        try:
            for body in self._reader.feed(data):
                self.message(body)
        except MessageError as error:
            self.finish(after_sending(error.code, error.message))
        if ended:
            self.finish(of_http(self._http_status))

    def _first(self, headers: Headers, *, ended: bool) -> bool:
        """The first headers; whether they are the trailers as well."""
        status, encoding = "", IDENTITY
        for name, value in headers:
            if name == ":status":
                status = value
            elif name == "grpc-encoding":
                encoding = value
        self._http_status = status or "none"
        if ended:
            return True
        if status == "200":
            self._reader = MessageReader(self._max_receive_bytes, encoding)
        else:
            self.finish(of_http(status))
        return False


class Unary(Exchange):
    """A call with one message each way.

    Attributes:
        answer: becomes the message of the answer, or CallFailed.
    """

    __slots__ = ("_block", "_body", "_deadline", "_request", "answer")

    def __init__(
        self,
        block: bytes,
        request: bytes,
        answer: asyncio.Future[bytes],
        *,
        deadline: float,
        max_receive_bytes: int | None,
    ) -> None:
        """`block`: the encoded headers; `request`: the message, only read; `deadline`: as the loop has it."""
        super().__init__(max_receive_bytes)
        self.answer = answer
        self._block = block
        self._request = request
        self._deadline = deadline
        self._body: bytes | None = None

    def begin(self, core: Http2Connection) -> int:
        request, self._request = self._request, b""
        size = len(request)
        core.send_headers(self.stream, self._block)
        if size > _LARGE:
            core.send_data(self.stream, frame_head(size))
            core.send_data(self.stream, request, end=True)
        else:
            core.send_data(self.stream, frame_message(request), end=True)
        return size

    def message(self, body: bytes) -> None:
        if self._body is None:
            self._body = body
        else:
            self.finish(after_sending(INTERNAL, "two messages where one was due"))

    def ended(self, failure: CallFailed | None) -> None:
        if self.answer.done():  # it was cancelled a moment ago
            return
        if failure is not None:
            self.answer.set_exception(self._too_late(failure) or failure)
        elif self._body is None:
            self.answer.set_exception(after_sending(INTERNAL, "the answer is without a message"))
        else:
            self.answer.set_result(self._body)

    def _too_late(self, failure: CallFailed) -> CallFailed | None:
        """A server whose clock runs out first cancels the stream; the caller knows the reason."""
        by_reset = failure.code == CANCELLED and not failure.from_server
        if by_reset and self.answer.get_loop().time() >= self._deadline:
            return after_sending(DEADLINE_EXCEEDED, TOO_LATE)
        return None
