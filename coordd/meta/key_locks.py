"""Mutual exclusion by key: whoever names a key waits for all earlier ones that name it.

Keys of one request are taken together or not at all, in order of arrival, so there is no deadlock and no
overtaking among requests that share a key; requests without a common key do not see each other.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from coordd.clock import boottime
from coordd.errors import CoorddError


class CommitsOverloaded(CoorddError):
    """Too many commits wait for each other, or one waits too long. Nothing was sent."""

    retriable = True


class KeyLocks:
    """Locks on sets of keys, for one event loop; at most `limit` holders and waiters."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: list[tuple[frozenset[str], asyncio.Future[None]]] = []

    def __len__(self) -> int:
        """How many hold or wait for keys."""
        return len(self._queue)

    @asynccontextmanager
    async def hold(self, keys: Iterable[str], *, deadline: float) -> AsyncIterator[None]:
        """Hold all `keys`; they must be free by `deadline` (CLOCK_BOOTTIME seconds). Safe to cancel.

        Raises:
            CommitsOverloaded: they are not, or the queue is full.
        """
        if len(self._queue) >= self._limit:
            raise CommitsOverloaded(f"{len(self._queue)} metadata commits are waiting")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (frozenset(keys), turn)
        self._queue.append(entry)
        self._wake()
        try:
            if not turn.done():
                await _wait(turn, deadline)
            yield
        finally:
            self._queue.remove(entry)
            self._wake()

    def _wake(self) -> None:
        taken: set[str] = set()
        for keys, turn in self._queue:
            if not turn.done() and taken.isdisjoint(keys):
                turn.set_result(None)
            taken |= keys


async def _wait(turn: asyncio.Future[None], deadline: float) -> None:
    try:
        async with asyncio.timeout(deadline - boottime()):
            await turn
    except TimeoutError as error:
        raise CommitsOverloaded("an earlier commit of the same keys has not ended in time") from error
