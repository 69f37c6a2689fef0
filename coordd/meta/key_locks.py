"""Mutual exclusion by key: whoever names a key waits for all earlier ones that name it.

Keys of one request are taken together or not at all, in order of arrival, so there is no deadlock and no
overtaking among requests that share a key; requests without a common key do not see each other.

Each key has a line of those who hold it or wait for it. Who is first in all of its lines holds its keys.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from types import TracebackType

from coordd.clock import boottime
from coordd.errors import CoorddError


class CommitsOverloaded(CoorddError):
    """Too many commits wait for each other, or one waits too long. Nothing was sent."""

    retriable = True


class KeyLocks:
    """Locks on sets of keys, for one event loop; at most `limit` holders and waiters."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._lines: dict[str, deque[_Holding]] = {}

    def __len__(self) -> int:
        """How many hold or wait for keys."""
        return self._count

    def hold(self, keys: Iterable[str], *, deadline: float) -> "_Holding":
        """Hold all `keys` in an `async with` block; they must be free by `deadline` (CLOCK_BOOTTIME seconds).
        Safe to cancel. To enter the block raises

        CommitsOverloaded: they are not, or the queue is full.
        """
        return _Holding(self, frozenset(keys), deadline)

    def join(self, holding: "_Holding") -> bool:
        """Put it into the lines of its keys; whether it holds them at once.

        Raises:
            CommitsOverloaded: the queue is full.
        """
        if self._count >= self._limit:
            raise CommitsOverloaded(f"{self._count} metadata commits are waiting")
        self._count += 1
        lines, free = self._lines, True
        for key in holding.keys:
            line = lines.get(key)
            if line is None:
                lines[key] = deque((holding,))
            else:
                line.append(holding)
                free = False
        return free

    def leave(self, holding: "_Holding") -> None:
        """Take it out of all lines; those who are first now have their turn."""
        self._count -= 1
        next_ones: set[_Holding] = set()
        for key in holding.keys:
            line = self._lines[key]
            line.remove(holding)
            if line:
                next_ones.add(line[0])
            else:
                del self._lines[key]
        for one in next_ones:
            if all(self._lines[key][0] is one for key in one.keys):
                one.take_turn()


class _Holding:
    """The `async with` block of one request."""

    __slots__ = ("_deadline", "_locks", "_turn", "keys")

    def __init__(self, locks: KeyLocks, keys: frozenset[str], deadline: float) -> None:
        self.keys = keys
        self._locks = locks
        self._deadline = deadline
        self._turn: asyncio.Future[None] | None = None

    async def __aenter__(self) -> None:
        if self._locks.join(self):
            return
        self._turn = asyncio.get_running_loop().create_future()
        try:
            await _wait(self._turn, self._deadline)
        except BaseException:
            self._locks.leave(self)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._locks.leave(self)

    def take_turn(self) -> None:
        """It is the first in all lines."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)


async def _wait(turn: asyncio.Future[None], deadline: float) -> None:
    try:
        async with asyncio.timeout(deadline - boottime()):
            await turn
    except TimeoutError as error:
        raise CommitsOverloaded("an earlier commit of the same keys has not ended in time") from error
