"""Requests to whichever endpoint can take them: which one, for how long, and what may be sent twice.

All requests and streams share one connection. It is replaced when it breaks, when its member has no leader
or is a learner while other endpoints exist, and when it has swallowed requests in silence for
`SILENCE_LIMIT_S` (a frozen or partitioned member, seconds before HTTP/2 pings notice; with one endpoint too,
because the kernel sends again on an old connection only after pauses that double, and dials anew at once).

A request is sent again, within its deadline, only if it certainly was not applied, or if it writes nothing.
What may have been applied is reported as `OutcomeUnknown`, never repeated.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from coordd.etcd.auth import Authenticator, refused_again
from coordd.etcd.backoff import Backoff
from coordd.etcd.connection import CallFailedError, Connection, Stream, dial
from coordd.etcd.dialling import Dialler
from coordd.etcd.endpoints import Endpoint, parse_endpoints
from coordd.etcd.errors import EtcdError, NotSentInTime, OutcomeUnknown, RequestTimeout, Unavailable
from coordd.etcd.methods import Method
from coordd.etcd.settings import ClientSettings
from coordd.etcd.tls import TlsPolicy
from coordd.etcd.translate import Failure, Verdict, as_write_failure
from coordd.log import get_logger

_LOG = get_logger("coordd.etcd")

SILENCE_LIMIT_S = 1.0
RETIRE_PAUSE_S = 3.0
"""No more than one retirement for silence in this time: when all of etcd is slow, hopping does not help."""
_CLOSED = "the etcd client is closed"


@dataclass(slots=True)
class TransportFigures:
    """What has come of the requests of one client, by name of the request; for metrics.

    `known_revision` is the newest revision of the store that an answer has mentioned; 0 before the first.
    """

    answers: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    known_revision: int = 0

    def answered(self, request: str, revision: int) -> None:
        """Count an answer; `revision` is that of its header."""
        self.answers[request] = self.answers.get(request, 0) + 1
        self.known_revision = max(self.known_revision, revision)

    def failed(self, request: str) -> None:
        """Count a request that was given up."""
        self.failures[request] = self.failures.get(request, 0) + 1


class Transport:
    """The connection to one etcd cluster. Connects on first use; belongs to one event loop."""

    def __init__(self, settings: ClientSettings) -> None:
        """Raises EndpointInvalid or TlsError for settings that cannot work."""
        self.endpoints = parse_endpoints(settings.endpoints, tls=settings.ssl.enabled)
        self.auth = Authenticator(settings.auth)
        self.figures = TransportFigures()
        self._policy = TlsPolicy.from_settings(settings.ssl)
        self._current: Connection | None = None
        self._live: set[Connection] = set()
        self._next = 0
        self._dialler = Dialler(self.endpoints, self.dial)
        self._dialling: asyncio.Task[None] | None = None
        self._waiting = 0
        self._troubled = False
        self._recovered = asyncio.Event()
        self._last_retired = -RETIRE_PAUSE_S
        self._closed = False

    async def close(self) -> None:
        """End all calls and connections. Idempotent."""
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait({self._dialling})
        live, self._live, self._current = self._live, set(), None
        for connection in live:
            connection.close()

    def check_open(self) -> None:
        """Raises Unavailable once `close` has been called: there is nothing to retry for then."""
        if self._closed:
            raise Unavailable(_CLOSED)

    def connected_endpoint(self) -> str | None:
        """Name of the endpoint in use; None while there is none."""
        current = self._current
        return current.endpoint.name if current is not None and current.usable else None

    async def unary(
        self,
        method: Method,
        request: bytes,
        *,
        timeout_s: float,
        writes: bool,
        require_leader: bool = True,
    ) -> Any:
        """One serialized request and its answer, within `timeout_s`.

        Raises:
            OutcomeUnknown: it writes, was sent, and was not answered.
            EtcdError: another of its kinds, see `translate`; nothing was written then.
        """
        try:
            answer = await self._unary(
                method, request, timeout_s, writes=writes, require_leader=require_leader
            )
        except EtcdError as error:
            self.figures.failed(method.name)
            self._troubled |= writes and isinstance(error, (Unavailable, OutcomeUnknown))
            raise
        self.figures.answered(method.name, answer.header.revision)
        if self._troubled and writes:
            self._over_trouble()
        return answer

    async def pause(self, seconds: float) -> None:
        """Sleep between two attempts, but no longer than until etcd is found to take writes again."""
        try:
            async with asyncio.timeout(seconds):
                await self._recovered.wait()
        except TimeoutError:
            return

    def _over_trouble(self) -> None:
        """The first write after trouble was answered, or there is a connection again."""
        self._troubled = False
        self._recovered.set()
        self._recovered = asyncio.Event()

    async def _unary(
        self, method: Method, request: bytes, timeout_s: float, *, writes: bool, require_leader: bool
    ) -> Any:
        deadline = time.monotonic() + timeout_s
        attempts = _Attempts(len(self.endpoints))
        while True:
            connection = await self.connection(deadline, attempts.last)
            token = None
            try:
                limit = self._attempt_s(deadline, writes=writes)
                metadata = await self.auth.metadata(connection, limit, require_leader=require_leader)
                token = self.auth.token
                limit = self._attempt_s(deadline, writes=writes)
                return await connection.unary(method, request, metadata, limit)
            except CallFailedError as failed:
                self.note_failure(connection, failed.failure)
                pause_s = attempts.plan(failed.failure, writes=writes)
                if pause_s is None or time.monotonic() + pause_s >= deadline:
                    raise self._final(failed.failure, writes=writes) from failed
                if failed.failure.verdict is Verdict.REAUTHENTICATE:
                    self.auth.invalidate(token)
            self._troubled |= writes
            if pause_s:
                await self.pause(pause_s)

    @contextlib.asynccontextmanager
    async def stream(self, method: Method, *, timeout_s: float) -> AsyncIterator[Stream]:
        """A bidirectional stream on the current connection.

        Raises CallFailedError or EtcdError if none can be opened; nothing is retried here. A CallFailedError
        of the body passes through, once it is noted what it says about the connection.
        """
        connection = await self.connection(time.monotonic() + timeout_s)
        try:
            metadata = await self.auth.metadata(connection, timeout_s)
            async with connection.stream(method, metadata) as stream:
                yield stream
        except CallFailedError as failed:
            self.note_failure(connection, failed.failure)
            raise

    async def connection(self, deadline: float, last: EtcdError | None = None) -> Connection:
        """A connection that is up; dials if there is none. `deadline` on `time.monotonic()`.

        Raises:
            Unavailable: no endpoint could be reached in time (`last`, if given, is raised instead).
            TlsError: no endpoint can be spoken to over TLS as configured.
        """
        current = self._current
        if current is not None and current.silence_s >= SILENCE_LIMIT_S:
            self.note_silence(current)
            current = self._current
        if current is not None and current.usable:
            return current
        self._waiting += 1
        try:
            async with asyncio.timeout_at(_loop_time(deadline)):
                while True:
                    current = self._current
                    if current is not None and current.usable:
                        return current
                    await self._dialled()
        except TimeoutError as error:
            raise last or self._unreachable() from error
        finally:
            self._waiting -= 1
            if not self._waiting and self._dialling is not None:
                self._dialling.cancel()  # nobody wants it any more

    def note_failure(self, connection: Connection, failure: Failure) -> None:
        """Give the connection up if the failure says that it, or its member, is of no use now."""
        if isinstance(failure.error, NotSentInTime):
            return  # nothing was asked
        if isinstance(failure.error, RequestTimeout):
            self.note_silence(connection)
        elif isinstance(failure.error, Unavailable) and (len(self.endpoints) > 1 or not failure.from_server):
            self._drop(connection)

    def note_silence(self, connection: Connection) -> None:
        """A request was not answered in time: retire the connection if nothing else arrived on it either."""
        now = time.monotonic()
        if connection.silence_s < SILENCE_LIMIT_S:
            return
        if now - self._last_retired >= RETIRE_PAUSE_S:
            self._last_retired = now
            _LOG.warning("etcd endpoint is silent, connecting anew", endpoint=connection.endpoint.name)
            self._drop(connection, retire=True)

    async def dial(self, endpoint: Endpoint, timeout_s: float) -> Connection:
        """A connection of the caller's own to one endpoint. Raises Unavailable or TlsError."""
        return await dial(endpoint, self._policy if endpoint.tls else None, timeout_s)

    async def _dialled(self) -> None:
        """Wait for the one search for a connection that all requests share; begin it if need be."""
        self.check_open()
        if self._current is not None:
            self._drop(self._current)
        task = self._dialling
        if task is None:
            task = asyncio.get_running_loop().create_task(self._dial_any(), name="etcd dial")
            task.add_done_callback(self._dial_ended)
            self._dialling = task
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    def _dial_ended(self, task: asyncio.Task[None]) -> None:
        self._dialling = None
        if not task.cancelled():
            task.exception()  # whoever waits raises it; perhaps nobody does any more

    async def _dial_any(self) -> None:
        connection = await self._dialler.connect(self._next)
        self._live.add(connection)
        self._current = connection
        self._next = self.endpoints.index(connection.endpoint)
        _LOG.info("connected to etcd", endpoint=connection.endpoint.name)
        self._over_trouble()

    def _drop(self, connection: Connection, *, retire: bool = False) -> None:
        """Send nothing more to this connection and prefer the endpoint after it."""
        if connection is self._current:
            self._current = None
            self._next += 1
        self._live = {one for one in self._live if one.alive}
        if retire:
            connection.retire()
        else:
            connection.detach()

    def _attempt_s(self, deadline: float, *, writes: bool) -> float:
        """How long this attempt may take: reads leave time for another endpoint, writes have one attempt."""
        left = max(0.001, deadline - time.monotonic())
        return left if writes or len(self.endpoints) == 1 else max(left / 2, min(left, 1.0))

    def _final(self, failure: Failure, *, writes: bool) -> EtcdError:
        if self._closed:
            failure = replace(failure, error=Unavailable(_CLOSED))
        return as_write_failure(failure) if writes else failure.error

    def _unreachable(self) -> Unavailable:
        errors = self._dialler.errors
        tried = [
            f"{one.name}: {errors[one].message if one in errors else 'no answer'}" for one in self.endpoints
        ]
        return Unavailable(
            f"etcd cannot be reached: {'; '.join(tried)}",
            hint="check etcd.endpoints, and that etcd runs and serves there",
        )


class _Attempts:
    """What has been tried for one request, and what may be tried next."""

    __slots__ = ("_backoff", "_immediate", "_renewed", "last")

    def __init__(self, endpoints: int) -> None:
        self.last: EtcdError | None = None
        self._immediate = endpoints - 1  # the other endpoints are tried without a pause, once each
        self._renewed = False
        self._backoff: Backoff | None = None

    def plan(self, failure: Failure, *, writes: bool) -> float | None:
        """Seconds until the next attempt; None: there must be none. Raises AuthenticationFailed."""
        verdict = failure.verdict
        if verdict is Verdict.REAUTHENTICATE:
            if self._renewed:
                raise refused_again(failure.error)
            self._renewed = True
            return 0.0
        self.last = failure.error
        if not (verdict is Verdict.NOT_TAKEN or (verdict is Verdict.UNKNOWN and not writes)):
            return None
        if self._immediate > 0:
            self._immediate -= 1
            return 0.0
        if self._backoff is None:
            self._backoff = Backoff()
        return self._backoff.pause_s()


def _loop_time(deadline: float) -> float:
    return asyncio.get_running_loop().time() + deadline - time.monotonic()
