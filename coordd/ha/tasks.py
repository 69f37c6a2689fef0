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
        task.add_done_callback(self._running.discard)
        return task

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in list(self._running):
            if not task.cancelling():  # by a task that failed: a second cancellation would end its clean-up
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
