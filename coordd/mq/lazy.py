"""A queue that is opened when the first message is sent, so that a term can begin without it."""

from collections.abc import Callable

from coordd.mq.errors import QueueClosed
from coordd.mq.types import MessageQueue


class LazyQueue:
    """Implements `coordd.mq.MessageQueue` by the queue that `open_queue` makes."""

    def __init__(self, open_queue: Callable[[], MessageQueue]) -> None:
        self._open = open_queue
        self._queue: MessageQueue | None = None
        self._closed = False

    async def send(self, channel: str, payload: bytes) -> bytes:
        """As that queue does; raises also what opening it raises, each time until it opens."""
        if self._closed:
            raise QueueClosed("the message queue is closed")
        if self._queue is None:
            self._queue = self._open()
        return await self._queue.send(channel, payload)

    async def close(self) -> None:
        """As that queue does, if it was opened; it is not any more afterwards."""
        self._closed = True
        if self._queue is not None:
            await self._queue.close()
