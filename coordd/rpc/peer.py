"""Calls to the active process of another role: found by its session, followed over a failover.

The session key `<role>` says address and server ID of the active process. A call goes there, and again until
it is answered or the caller's deadline has passed:

* a gRPC error: the connection is dropped, and the next try goes to whoever is active then;
* a `Status` that says retriable ("not ready"): again on the same connection;
* the session key changes: the try under way is given up, and the next goes to the successor at once; so a
  process that hangs holds nobody up after that;
* UNIMPLEMENTED: final, the method is not there;
* any other answer, whatever its status: the caller's.

So a method may be carried out more than once. Milvus' clients repeat calls in the same cases.

Between two tries lies a pause of `PAUSE_FIRST_S` doubling to `PAUSE_MAX_S` (Milvus: 0.2 s to 10 s, ten
tries); a change of the session key ends it.

Source of truth: Milvus 2.3.5 internal/util/grpcclient/client.go.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeAlias, TypeVar

from google.protobuf.message import Message

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.etcd.backoff import Backoff
from coordd.ha.session_watch import SessionWatch
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.rpc.connection import Answer, ClientOptions, Connection, status_of
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import is_success

log = get_logger("coordd.rpc.peer")

PAUSE_FIRST_S = 0.02
PAUSE_MAX_S = 0.5

T = TypeVar("T")
Target: TypeAlias = tuple[str, int]
"""Address and server ID."""


class PeerUnavailable(CoorddError):
    """The active process of `role` gave no usable answer until the deadline, or there is no such process.

    Whether it has carried the call out is not known, unless it was never `asked`.
    """

    def __init__(self, role: str, message: str, *, hint: str, in_time: bool = True) -> None:
        """`in_time`: the failure came before the deadline, so it says why; not that there was no answer.

        `asked`, set when it is raised: at some time there was a process to send the call to.
        """
        super().__init__(message, hint=hint)
        self.role = role
        self.in_time = in_time
        self.asked = True


class Peer:
    """The active process of `role`. Make it inside a running loop; `keep` must run while it is used."""

    def __init__(self, role: str, sessions: SessionWatch, options: ClientOptions) -> None:
        self.role = role
        self._sessions = sessions
        self._options = options
        self._connection: Connection | None = None
        self._trouble = Trouble()
        self._closed = False

    async def keep(self) -> None:
        """Drop the connection to a process that is not active any more; runs until cancelled, then closes."""
        moved = asyncio.Event()
        end = self._sessions.listen(moved.set)
        try:
            while True:
                await self._drop_if_moved()
                await moved.wait()
                moved.clear()
        finally:
            end()
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.close()

    async def call(self, path: str, request: Message, answer: type[Answer], deadline: float) -> Answer:
        """Call the method at `path`, again and again until `deadline` (seconds on CLOCK_BOOTTIME).

        Safe to cancel; what was sent may be carried out all the same.

        Raises:
            PeerUnavailable: no usable answer until then; names role, process and the last failure.
            RpcFailure: UNIMPLEMENTED; UNAVAILABLE if `keep` has ended.
        """
        backoff = Backoff(PAUSE_FIRST_S, PAUSE_MAX_S)
        told: tuple[Target | None, PeerUnavailable] | None = None
        asked = False
        while True:
            target = self._target()
            asked = asked or target is not None
            outcome = await self._try(target, path, request, answer, deadline)
            if not isinstance(outcome, PeerUnavailable):
                self._trouble.over()
                return outcome
            if self._closed:
                raise RpcFailure(RpcCode.UNAVAILABLE, f"the client of the {self.role} is closed")
            if told is None or outcome.in_time or told[0] != target:
                told = target, outcome
            if boottime() >= deadline:
                told[1].asked = asked
                raise told[1]
            if self._trouble.is_news(outcome):
                log.warning("a peer does not answer, trying again", role=self.role, reason=outcome.message)
            pause_s = min(backoff.pause_s(), deadline - boottime())
            await self._unless_moved(target, asyncio.sleep(pause_s))

    async def _try(
        self,
        target: Target | None,
        path: str,
        request: Message,
        answer: type[Answer],
        deadline: float,
    ) -> Answer | PeerUnavailable:
        if target is None or self._closed:
            return self._absent()
        connection = await self._connect(target)
        call = connection.call(path, request, answer, deadline - boottime())
        try:
            got = await self._unless_moved(target, call)
        except RpcFailure as failure:
            if failure.code is RpcCode.UNIMPLEMENTED:
                raise
            await self._drop(connection)
            in_time = failure.code is not RpcCode.DEADLINE_EXCEEDED
            return self._failed(target, f"{failure.code.name}: {failure.message}", in_time=in_time)
        if got is None:
            await self._drop(connection)
            return self._failed(target, "it is not the active process any more")
        status = status_of(got)
        if is_success(status) or not status.retriable:
            return got
        return self._failed(target, status.reason)

    async def _unless_moved(self, target: Target | None, work: Coroutine[Any, Any, T]) -> T | None:
        """The outcome of `work`; None if it is broken off, because `target` is not the active process."""
        limit = asyncio.timeout(None)

        def look() -> None:
            if self._target() != target and not limit.expired():
                limit.reschedule(0.0)  # now

        end = self._sessions.listen(look)
        try:
            async with limit:
                look()
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            return None
        finally:
            end()

    def _target(self) -> Target | None:
        record = self._sessions.active(self.role)
        return None if record is None else (record.address, record.server_id)

    async def _connect(self, target: Target) -> Connection:
        """The connection to `target`; the one to somebody else is dropped."""
        old = self._connection
        if old is not None and not old.retired and (old.address, old.server_id) == target:
            return old
        connection = self._connection = Connection(*target, self._options)
        if old is not None:
            await old.retire()
        return connection

    async def _drop(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
        await connection.retire()

    async def _drop_if_moved(self) -> None:
        connection = self._connection
        if connection is not None and (connection.address, connection.server_id) != self._target():
            await self._drop(connection)

    def _absent(self) -> PeerUnavailable:
        key = self._sessions.key_of_active(self.role)
        return PeerUnavailable(
            self.role,
            f"there is no active {self.role}",
            hint=f"start one, or find out why it does not take the etcd key {key}",
        )

    def _failed(self, target: Target, reason: str, *, in_time: bool = True) -> PeerUnavailable:
        address, server_id = target
        return PeerUnavailable(
            self.role,
            f"{self.role} {server_id} at {address} did not answer: {reason}",
            hint=f"look at the log of that {self.role}, and whether {address} can be reached from here",
            in_time=in_time,
        )
