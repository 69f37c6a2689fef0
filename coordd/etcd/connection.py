"""One connection to one etcd endpoint, from the dial to its retirement.

A connection never mends itself: what is not usable is given up and dialled anew, so that a request is known
not to have been sent as long as no connection existed. A connection given up in peace (`detach`) takes no new
requests and ends with the last one in flight, and so does one whose server says goodbye (GOAWAY); requests
that wait for their turn on it fail at once, unsent, and move on. One that is believed dead (`retire`) also
ends its streams at once, so that watches and keepalives move on, while unary requests in flight keep their
own deadline.

Half-open connections: HTTP/2 pings every 6 s, answered within 3 s, as long as a call is open. etcd's servers
tolerate no more than one ping per 5 s (--grpc-keepalive-min-time) and none without an open call.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError

from coordd.clock import turns
from coordd.etcd.addresses import first_of, resolve
from coordd.etcd.endpoints import Endpoint
from coordd.etcd.errors import EtcdError, Unavailable
from coordd.etcd.methods import Method
from coordd.etcd.tls import TlsPolicy, why_tls_failed
from coordd.etcd.translate import Failure, Verdict, translate
from coordd.http2.client import Channel, ClientSettings, ClientStream
from coordd.http2.link import Keepalive
from coordd.http2.outcome import CallFailed
from coordd.http2.status import DEADLINE_EXCEEDED

Metadata: TypeAlias = tuple[tuple[str, str], ...]

_SETTINGS = ClientSettings(
    at_once=True,
    max_receive_bytes=None,  # a page of a range, a batch of watch events: no limit of ours
    max_send_bytes=None,
    keepalive=Keepalive(time_s=6.0, timeout_s=3.0, without_calls=False),
)

_TURNS_OF_AN_ANSWER = 4
"""Of the loop, until the answer to a transaction has become one to the caller of a change, and is written."""


class CallFailedError(Exception):
    """A call ended without an answer; `failure` says what that means. Never leaves this package."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure.error))
        self.failure = failure


class Connection:
    """A channel on which the other side has spoken HTTP/2. Belongs to the event loop that made it."""

    def __init__(self, endpoint: Endpoint, channel: Channel) -> None:
        self.endpoint = endpoint
        self._channel = channel
        self._detached = False
        self._streams: set[Stream] = set()
        self._in_flight = 0
        self._questions = 0
        self._silent_since: float | None = None

    @property
    def usable(self) -> bool:
        """True while new requests may be sent: connected, and given up by neither side.

        Looks into the socket, too: a request that is written after the peer has gone, but before the loop has
        noticed, would have an unknown outcome without need.
        """
        return not self._detached and self._channel.usable and not self._channel.hung_up

    @property
    def alive(self) -> bool:
        """False once it is given up and its last call has ended."""
        return not self._detached or self._in_flight > 0

    @property
    def silence_s(self) -> float:
        """How long ago the oldest question was asked since which nothing at all has arrived; 0.0 if none."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    async def unary(self, method: Method, request: bytes, metadata: Metadata, timeout_s: float) -> Any:
        """Send one serialized request and await its answer. Raises CallFailedError."""
        self._in_flight += 1
        try:
            with self.question() as question:
                body = await self._channel.unary(
                    method.path, request, metadata=metadata, timeout_s=timeout_s, on_begin=question.ask
                )
                self.heard()
            return self.decoded(method, body)
        except CallFailed as failed:
            raise self.failed(method, failed) from failed
        finally:
            self._done()

    def question(self) -> "_Question":
        """An answer is being waited for in this context: silence counts from when the question is asked.

        It goes on counting over questions that time out. A question that is cancelled proves nothing, and so
        does one at which the server has not looked.
        """
        return _Question(self)

    def asked(self) -> bool:
        """A question is sent; whether silence is counted from this one on."""
        self._questions += 1
        if self._silent_since is not None:
            return False
        self._silent_since = time.monotonic()
        return True

    def settled(self, *, proves_nothing: bool) -> None:
        """A question that was sent ends, answered or not."""
        if proves_nothing and self._questions == 1:
            self._silent_since = None
        self._questions -= 1

    @contextlib.asynccontextmanager
    async def stream(self, method: Method, metadata: Metadata) -> AsyncIterator["Stream"]:
        """A bidirectional stream, ended on the way out. Raises CallFailedError if it cannot be opened."""
        try:
            call = self._channel.stream(method.path, metadata=metadata)
        except CallFailed as failed:
            raise self.failed(method, failed) from failed
        stream = Stream(self, method, call)
        self._in_flight += 1
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            stream.end()
            self._done()

    def detach(self) -> None:
        """Send no more requests; close when the last one in flight has ended."""
        self._detached = True
        self._channel.retire()
        self._close_if_done()

    def retire(self) -> None:
        """As `detach`, and end the streams now."""
        self.detach()
        for stream in list(self._streams):
            stream.end()

    def close(self) -> None:
        """End everything now."""
        self._detached = True
        self._channel.close()

    def heard(self) -> None:
        """Something arrived: the connection lives."""
        self._silent_since = None if self._questions <= 1 else time.monotonic()

    def failed(self, method: Method, failed: CallFailed) -> CallFailedError:
        """Translate, and note whether the server has spoken."""
        failure = translate(failed, request=method.name, endpoint=self.endpoint.name)
        if failure.from_server:
            self.heard()
        return CallFailedError(failure)

    def ended(self, method: Method, reason: str) -> CallFailedError:
        """A stream is over, and no status says why."""
        text = f"etcd request {method.name} to {self.endpoint.name} was ended: {reason}"
        return CallFailedError(Failure(Verdict.UNKNOWN, Unavailable(text), from_server=False))

    def decoded(self, method: Method, body: bytes) -> Any:
        """One answer. Raises CallFailedError if it is none."""
        try:
            return method.answer.FromString(body)
        except DecodeError as error:
            text = f"the answer of {self.endpoint.name} to {method.name} does not decode: {error}"
            raise CallFailedError(Failure(Verdict.BROKEN, EtcdError(text), from_server=True)) from error

    def _done(self) -> None:
        self._in_flight -= 1
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._detached and self._in_flight == 0:
            self._channel.close()


class _Question:
    """See `Connection.question`. A generator would take several times as long, for each request."""

    __slots__ = ("_asked", "_connection", "_first")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._asked = self._first = False

    def ask(self) -> None:
        """It is sent now, having waited for its turn perhaps."""
        self._asked = True
        self._first = self._connection.asked()

    def __enter__(self) -> "_Question":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._asked:
            unseen = self._first and isinstance(error, CallFailed) and not error.sent
            self._connection.settled(proves_nothing=unseen or isinstance(error, asyncio.CancelledError))


class Stream:
    """An open bidirectional stream. `send` and `receive` raise CallFailedError when it is over."""

    def __init__(self, connection: Connection, method: Method, call: ClientStream) -> None:
        self._connection = connection
        self._method = method
        self._call = call
        self._given_up = False

    async def ask(self, message: Any, limit_s: float) -> Any:
        """Send one message and await the next one that arrives, within `limit_s`."""
        try:
            with self._connection.question() as question:
                self._call.when_begun(question.ask)
                return await self._ask(message, limit_s)
        except CallFailed as failed:
            raise self._connection.failed(self._method, failed) from failed

    async def _ask(self, message: Any, limit_s: float) -> Any:
        """Raises CallFailed if the time is up."""
        try:
            async with asyncio.timeout(limit_s):
                await self.send(message)
                return await self.receive()
        except TimeoutError as error:
            text = f"no answer within {limit_s:.1f} s"
            raise CallFailed(DEADLINE_EXCEEDED, text, sent=self._call.stream > 0) from error

    async def send(self, message: Any) -> None:
        """Hand one message to the transport."""
        try:
            await self._call.send(message.SerializeToString())
        except CallFailed as failed:
            raise self._failed(failed) from failed

    async def receive(self, *, give_way: bool = False) -> Any:
        """The next message; waits as long as it takes.

        `give_way`: what an answer leads to that has come together with it goes first. An own change comes
        back by the watch in one packet with the answer to it.
        """
        try:
            body = await self._call.receive()
        except CallFailed as failed:
            raise self._failed(failed) from failed
        if give_way:
            await turns(_TURNS_OF_AN_ANSWER)
        if body is None:
            raise self._connection.ended(self._method, "etcd has nothing more to say")
        self._connection.heard()
        return self._connection.decoded(self._method, body)

    def end(self) -> None:
        """End it from this side; who waits for it is told. Idempotent."""
        self._given_up = True
        self._call.cancel()

    def _failed(self, failed: CallFailed) -> CallFailedError:
        if self._given_up:
            return self._connection.ended(self._method, "the connection was given up")
        return self._connection.failed(self._method, failed)


def _certified_name(host: str) -> str:
    """What a certificate calls a host: without the dot that ends a full name, or the zone of an address."""
    return host.partition("%")[0].rstrip(".")


async def dial(endpoint: Endpoint, policy: TlsPolicy | None, timeout_s: float) -> Connection:
    """Connect; done when the other side has spoken HTTP/2, not before.

    Raises:
        Unavailable: that did not come about in time; says why.
        TlsError: TLS is what failed.
    """
    context = None if policy is None else policy.context()

    async def connect(address: str) -> Channel:
        try:
            return await Channel.connect(
                address,
                endpoint.port,
                settings=_SETTINGS,
                tls=context,
                server_hostname=None if context is None else _certified_name(endpoint.host),
                authority=endpoint.authority,
            )
        except OSError as error:
            raise _why(endpoint, policy, error) from error

    try:
        async with asyncio.timeout(timeout_s):
            return Connection(endpoint, await first_of(await resolve(endpoint), connect))
    except TimeoutError as error:
        raise Unavailable(f"no connection within {timeout_s:.1f} s") from error


def _why(endpoint: Endpoint, policy: TlsPolicy | None, error: OSError) -> EtcdError:
    if policy is not None and (tls_error := why_tls_failed(endpoint, policy, error)) is not None:
        return tls_error
    if error.errno:
        return Unavailable(os.strerror(error.errno))
    reason = str(error) or "the connection ended right after it was made"
    return Unavailable(f"{reason}; is it etcd, and does it want TLS (etcd.ssl.enabled)?")
