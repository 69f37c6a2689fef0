"""Several ways to the same thing, begun one after the other and then tried side by side."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class NoneWonError(Exception):
    """All attempts have failed. Attributes: `errors`, in the order in which they came; at least one."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = errors


class Race(Generic[T]):
    """Takes the first thing to be had.

    Args:
        head_start_s: how long an attempt is alone before the next one begins, too; less if it fails sooner.
        discard: is given what nobody takes, since something else came first or the race was called off.
        failures: errors that mean that an attempt has failed; any other one ends the race.
    """

    def __init__(
        self, head_start_s: float, discard: Callable[[T], None], failures: tuple[type[Exception], ...]
    ) -> None:
        self._head_start_s = head_start_s
        self._discard = discard
        self._failures = failures
        self._errors: list[Exception] = []

    async def run(self, attempts: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> T:
        """What the first successful attempt gives. Safe to cancel; no attempt goes on when it returns.

        Raises:
            NoneWonError: all have failed.
        """
        loop = asyncio.get_running_loop()
        yet = list(reversed(attempts))
        running: set[asyncio.Task[T]] = set()
        try:
            while yet or running:
                if yet:
                    running.add(loop.create_task(yet.pop()(), name="race"))
                done, _ = await asyncio.wait(
                    running,
                    timeout=self._head_start_s if yet else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    running.discard(task)
                    if self._has_won(task):
                        return task.result()
        finally:
            await self._call_off(running)
        raise NoneWonError(self._errors)

    def _has_won(self, task: asyncio.Task[T]) -> bool:
        error = task.exception()
        if error is None:
            return True
        if not isinstance(error, self._failures):
            raise error
        self._errors.append(error)
        return False

    async def _call_off(self, running: set[asyncio.Task[T]]) -> None:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for task in running:
            if not task.cancelled() and task.exception() is None:
                self._discard(task.result())
