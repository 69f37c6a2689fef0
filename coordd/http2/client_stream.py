"""A call with messages both ways, open for as long as both sides like."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from coordd.http2.calls import Calls
from coordd.http2.connection import Http2Connection
from coordd.http2.exchange import Exchange
from coordd.http2.messages import frame_message
from coordd.http2.outcome import CallFailed, after_sending, not_sent
from coordd.http2.status import CANCELLED, RESOURCE_EXHAUSTED

MAX_QUEUED_BYTES: Final = 64 << 20
"""What may wait to be sent, besides one message of any size."""
HOLD_BYTES: Final = 1 << 20
"""While so much waits to be received, the server may send what the stream's window has room for and no more:
it feels that nobody reads. Other calls of the connection go on."""


class ClientStream(Exchange):
    """Made by `Channel.stream`; one task may send and one receive, or one do both.

    Whoever makes it has to `cancel` it in the end, or the server goes on sending.
    """

    __slots__ = (
        "_block", "_calls", "_core", "_failure", "_holding", "_inbox", "_inbox_bytes", "_max_send_bytes",
        "_outbox", "_outbox_bytes", "_wake",
    )  # fmt: skip

    def __init__(
        self,
        calls: Calls,
        core: Http2Connection,
        block: bytes,
        *,
        max_receive_bytes: int | None,
        max_send_bytes: int | None,
    ) -> None:
        """For `Channel.stream`. `block`: the encoded headers."""
        super().__init__(max_receive_bytes)
        self._calls = calls
        self._core = core
        self._block = block
        self._max_send_bytes = max_send_bytes
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._holding = False
        self._failure: CallFailed | None = None
        self._wake: asyncio.Future[None] | None = None

    async def send(self, body: bytes) -> None:
        """Hand one message to the connection; it goes out when the call has begun and the peer takes it.

        Raises:
            CallFailed: the call is over; or it goes on without this message, which is too large, or too much
                waits already.
        """
        if self.over:
            raise self._failure or after_sending(CANCELLED, "the server has ended the call")
        if self._max_send_bytes is not None and len(body) > self._max_send_bytes:
            text = f"a message of {len(body)} bytes, the limit is {self._max_send_bytes}"
            raise not_sent(RESOURCE_EXHAUSTED, text)
        if self._outbox_bytes + self._core.unsent > MAX_QUEUED_BYTES:
            raise not_sent(RESOURCE_EXHAUSTED, "the server does not take what was sent before")
        framed = frame_message(body)
        self._outbox.append(framed)
        self._outbox_bytes += len(framed)
        if self.stream and not self._calls.blocked:
            self.resume(self._core)
            self._calls.write()

    async def receive(self) -> bytes | None:
        """The next message; None when the server has ended the call with success. Safe to cancel.

        Raises:
            CallFailed: the call has failed, after the messages before that were received.
        """
        while not self._inbox:
            if self._failure is not None:
                raise self._failure
            if self.over:
                return None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        body = self._inbox.popleft()
        self._inbox_bytes -= len(body)
        if self._holding and self._inbox_bytes < HOLD_BYTES:
            self._holding = False
            self._core.open_window(self.stream)
            self._calls.write()
        return body

    def when_begun(self, then: Callable[[], None]) -> None:
        """Call `then` when the call begins, now if it has. Of several the last one is called."""
        if self.stream:
            then()
        else:
            self.on_begin = then

    def cancel(self) -> None:
        """End the call from this side; what has arrived is dropped. May be called at any time."""
        if not self.over:
            self.finish(after_sending(CANCELLED, "the call was cancelled on this side"))
            self._calls.leave(self)
        self._inbox.clear()
        self._inbox_bytes = 0

    # --- told by the table of calls ---

    def begin(self, core: Http2Connection) -> int:
        """Open the stream, and send what waits."""
        size = self._outbox_bytes
        core.send_headers(self.stream, self._block)
        self.resume(core)
        return size

    def resume(self, core: Http2Connection) -> None:
        """Send what waits."""
        while self._outbox:
            core.send_data(self.stream, self._outbox.popleft())
        self._outbox_bytes = 0

    def message(self, body: bytes) -> None:
        """Keep it until it is asked for."""
        self._inbox.append(body)
        self._inbox_bytes += len(body)
        if self._inbox_bytes >= HOLD_BYTES and not self._holding:
            self._holding = True
            self._core.hold_window(self.stream)
        self._awake()

    def ended(self, failure: CallFailed | None) -> None:
        """No more messages."""
        self._failure = failure
        self._outbox.clear()
        self._awake()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
