"""One call whose answer takes time: the task that works it out, its deadline, and who may end it early.

Whatever comes first ends the call: the answer, the caller's deadline, the caller's own cancelling, the end of
the connection or of the server. In all cases but the first the task is cancelled.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from coordd.clock import boottime
from coordd.log import get_logger
from coordd.rpc.call import Call
from coordd.rpc.failure import RpcCode, RpcFailure

log = get_logger("coordd.rpc")


class Caller(Protocol):
    """The connection on which a call came. Told once per call, unless it gave the call up itself."""

    def answer(self, stream: int, body: bytes) -> None:
        """The call is answered."""

    def fail(self, stream: int, code: RpcCode, text: str) -> None:
        """The call has failed at gRPC level."""


class ServedCall:
    """A call under way. It is in `under_way` from its beginning to the end of its task."""

    __slots__ = ("_begun", "_caller", "_given_up", "_open", "_stream", "_timer", "_under_way", "task")

    def __init__(
        self,
        caller: Caller,
        stream: int,
        call: Call,
        pending: Coroutine[Any, Any, bytes],
        under_way: "set[ServedCall]",
    ) -> None:
        loop = asyncio.get_running_loop()
        self._caller = caller
        self._stream = stream
        self._under_way = under_way
        self._open = True
        self._begun = self._given_up = False
        self._timer: asyncio.TimerHandle | None = None
        if call.deadline is not None:
            self._timer = loop.call_later(max(0.0, call.deadline - boottime()), self._expire)
        self.task = loop.create_task(self._run(call.method, pending), name=call.method)
        under_way.add(self)

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self._close()
        self._given_up = True
        if self._begun:
            self.task.cancel()

    def cut_off(self, code: RpcCode, text: str) -> None:
        """End it with this failure, unless it has ended already."""
        if self._close():
            self._caller.fail(self._stream, code, text)
        self.give_up()

    def _expire(self) -> None:
        self.cut_off(RpcCode.DEADLINE_EXCEEDED, "the deadline passed before the call was answered")

    def _close(self) -> bool:
        """Whether the caller has heard nothing so far; from now on it is not to be told anything else."""
        was_open, self._open = self._open, False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return was_open

    async def _run(self, method: str, pending: Coroutine[Any, Any, bytes]) -> None:
        self._begun = True
        if self._given_up:
            # Only now: what is cancelled before its first step never begins, nor does what it was to await.
            self.task.cancel()
        try:
            body = await pending
        except RpcFailure as failure:
            self._fail(failure.code, str(failure))
        except asyncio.CancelledError:
            # Whoever gave the call up has closed it before. It was none of those: the loop is about to end.
            self._fail(RpcCode.UNAVAILABLE, "this server has given the call up")
            raise
        except Exception:
            log.exception("unexpected error in the RPC chain", method=method)
            self._fail(RpcCode.UNKNOWN, f"unexpected error in {method}")
        else:
            if self._close():
                self._caller.answer(self._stream, body)
        finally:
            self._under_way.discard(self)

    def _fail(self, code: RpcCode, text: str) -> None:
        if self._close():
            self._caller.fail(self._stream, code, text)
