"""A task group for work that ends when its owner does, and what else its users need."""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class TaskScope(asyncio.TaskGroup):
    """A TaskGroup that cancels and awaits its remaining tasks when its body is left, however it is left.

    A plain TaskGroup waits for its tasks instead, which suits work with an end of its own. A task that raises
    still cancels the body and the other tasks, and the error leaves the scope in an ExceptionGroup. An error
    of the body alone leaves it as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running: set[asyncio.Task[Any]] = set()
        self._cancelled_by_group: set[asyncio.Task[Any]] = set()
        self._failed = False

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Start a task that lives no longer than the scope."""
        task = super().create_task(coro, name=name, context=context)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Note whom the group has just cancelled because `task` failed.

        A second cancellation would end their clean-up. (`Task.cancelling` does not tell: a time-out inside a
        task counts there too, and a task spared for that would go on for ever.)
        """
        self._running.discard(task)
        if not self._failed and not task.cancelled() and task.exception() is not None:
            self._failed = True
            self._cancelled_by_group = set(self._running)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running - self._cancelled_by_group:
            task.cancel()
        try:
            await super().__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions != (error,):
                raise
            # Only the body failed: its own error goes on as it is.


def raise_if_cancelled() -> None:
    """To be called where the error of a TaskGroup is caught and not passed on.

    A group that has failed forgets a cancellation of its owner that comes while it waits for its last tasks.

    Raises:
        CancelledError: the current task is being cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
