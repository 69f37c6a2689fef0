"""A queue that is opened when it is first used, so that a term can begin without it."""

from collections.abc import Callable, Collection

from coordd.mq.errors import QueueClosed
from coordd.mq.types import MessageQueue


class LazyQueue:
    """Implements `coordd.mq.MessageQueue` by the queue that `make` makes."""

    def __init__(self, make: Callable[[], MessageQueue]) -> None:
        self._make = make
        self._queue: MessageQueue | None = None
        self._closed = False

    async def send(self, channel: str, payload: bytes) -> bytes:
        """As that queue does; raises also what opening it raises, each time until it opens."""
        return await self._opened().send(channel, payload)

    async def missing(self, channels: Collection[str]) -> Collection[str]:
        """As `send`."""
        return await self._opened().missing(channels)

    def _opened(self) -> MessageQueue:
        if self._closed:
            raise QueueClosed("the message queue is closed")
        if self._queue is None:
            self._queue = self._make()
        return self._queue

    async def close(self) -> None:
        """As that queue does, if it was opened; it is not any more afterwards."""
        self._closed = True
        if self._queue is not None:
            await self._queue.close()
