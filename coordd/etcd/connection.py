"""One gRPC channel to one etcd endpoint, from the dial to its retirement.

A channel is never left to reconnect by itself: what is not READY is given up and dialled anew, because a
channel that was refused once backs off for seconds, and because a request must be known not to have been
sent as long as no connection existed. A connection given up in peace (`detach`) takes no new requests and
ends with the last one in flight; one that is believed dead (`retire`) also ends its streams at once, so that
watches and keepalives move on, while unary requests in flight keep their own deadline.

Half-open connections: HTTP/2 pings every 6 s, answered within 3 s, as long as a call is open. etcd's servers
tolerate no more than one ping per 5 s (--grpc-keepalive-min-time) and none without an open call.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio
from aetcd import rpc

from coordd.etcd import tls
from coordd.etcd.endpoints import Endpoint
from coordd.etcd.errors import EtcdError, RequestTimeout, TlsError, Unavailable
from coordd.etcd.tls import TlsPolicy
from coordd.etcd.translate import Failure, Verdict, plain, translate

Metadata: TypeAlias = tuple[tuple[str, str], ...]

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", -1),  # a page of a range, a batch of watch events: no limit of ours
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),  # of the other pings; while one is out, no keepalive ping is sent
    ("grpc.http2.max_pings_without_data", 0),  # a quiet watch must be pinged as long as it lasts
    ("grpc.use_local_subchannel_pool", 1),  # a fresh dial must not wait for an older one's back-off
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    ("grpc.primary_user_agent", "coordd"),
)
_EOF: Any = vars(grpc.aio)["EOF"]  # the type stubs lack it
_READY = grpc.ChannelConnectivity.READY
_FAILED = {grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN}


class CallFailedError(Exception):
    """A call ended without an answer; `failure` says what that means. Never leaves this package."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure.error))
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Stubs:
    """aetcd's generated stubs on one channel."""

    kv: Any
    lease: Any
    watch: Any
    auth: Any
    maintenance: Any


class Connection:
    """A channel that was READY when it was made. Belongs to the event loop that made it."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel) -> None:
        self.endpoint = endpoint
        self.stubs = Stubs(
            kv=rpc.KVStub(channel),
            lease=rpc.LeaseStub(channel),
            watch=rpc.WatchStub(channel),
            auth=rpc.AuthStub(channel),
            maintenance=rpc.MaintenanceStub(channel),
        )
        self._channel = channel
        self._detached = False
        self._streams: set[Any] = set()
        self._in_flight = 0
        self._questions = 0
        self._silent_since: float | None = None

    @property
    def usable(self) -> bool:
        """True while new requests may be sent: connected, and not given up."""
        return not self._detached and self._channel.get_state() is _READY

    @property
    def alive(self) -> bool:
        """False once it is given up and its last call has ended."""
        return not self._detached or self._in_flight > 0

    @property
    def silence_s(self) -> float:
        """How long ago the oldest question was asked since which nothing at all has arrived; 0.0 if none."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    async def unary(
        self, request: str, method: Any, message: Any, metadata: Metadata, timeout_s: float
    ) -> Any:
        """Send one request and await its answer. Raises CallFailedError."""
        self._in_flight += 1
        try:
            with self.question():
                answer = await method(message, timeout=timeout_s, metadata=metadata)
                self.heard()
                return answer
        except grpc.aio.AioRpcError as error:
            raise self.failed(request, error) from error
        except asyncio.CancelledError:
            if task_is_cancelled():
                raise
            raise self.closed(request) from None
        finally:
            await self._done()

    @contextlib.contextmanager
    def question(self) -> Iterator[None]:
        """An answer is being waited for: from now on silence counts.

        It goes on counting over questions that time out. A question that is cancelled proves nothing.
        """
        self._questions += 1
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        try:
            yield
        except asyncio.CancelledError:
            if self._questions == 1:
                self._silent_since = None
            raise
        finally:
            self._questions -= 1

    @contextlib.asynccontextmanager
    async def stream(self, request: str, method: Any, metadata: Metadata) -> AsyncIterator["Stream"]:
        """A bidirectional stream, ended on the way out."""
        call = method(metadata=metadata)
        self._streams.add(call)
        self._in_flight += 1
        try:
            yield Stream(self, request, call)
        finally:
            call.cancel()
            self._streams.discard(call)
            await self._done()

    async def detach(self) -> None:
        """Take no new requests; close when the last one has ended."""
        self._detached = True
        if self._in_flight == 0:
            await self._channel.close(None)

    async def retire(self) -> None:
        """As `detach`, and end the streams now."""
        await self.detach()
        for call in list(self._streams):
            call.cancel()

    async def close(self) -> None:
        """End everything now."""
        self._detached = True
        await self._channel.close(None)

    def heard(self) -> None:
        """Something arrived: the connection lives."""
        self._silent_since = None if self._questions <= 1 else time.monotonic()

    def failed(self, request: str, error: grpc.aio.AioRpcError) -> CallFailedError:
        """Translate, and note whether the server has spoken."""
        failure = translate(
            error.code().name, error.details() or "", request=request, endpoint=self.endpoint.name
        )
        if failure.from_server:
            self.heard()
        return CallFailedError(failure)

    def closed(self, request: str) -> CallFailedError:
        """The call was ended from this side because its connection was given up."""
        text = f"etcd request {request} to {self.endpoint.name} was ended: the connection was given up"
        return CallFailedError(Failure(Verdict.UNKNOWN, Unavailable(text), from_server=False))

    async def _done(self) -> None:
        self._in_flight -= 1
        if self._detached and self._in_flight == 0:
            await self._channel.close(None)


class Stream:
    """An open bidirectional stream. `send` and `receive` raise CallFailedError when it is over."""

    def __init__(self, connection: Connection, request: str, call: Any) -> None:
        self._connection = connection
        self._request = request
        self._call = call

    async def ask(self, message: Any, limit_s: float) -> Any:
        """Send one message and await the next one that arrives, within `limit_s`."""
        try:
            with self._connection.question():
                async with asyncio.timeout(limit_s):
                    await self.send(message)
                    return await self.receive()
        except TimeoutError as error:
            text = f"{self._connection.endpoint.name} did not answer {self._request} within {limit_s:.1f} s"
            failure = Failure(Verdict.UNKNOWN, RequestTimeout(text), from_server=False)
            raise CallFailedError(failure) from error

    async def send(self, message: Any) -> None:
        """Hand one message to the transport."""
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise self._connection.failed(self._request, error) from error
        except (asyncio.CancelledError, asyncio.InvalidStateError):
            if task_is_cancelled():
                raise
            raise self._connection.closed(self._request) from None

    async def receive(self) -> Any:
        """The next message; waits as long as it takes."""
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._connection.failed(self._request, error) from error
        except asyncio.CancelledError:
            if task_is_cancelled():
                raise
            raise self._connection.closed(self._request) from None
        if answer is _EOF:
            raise self._connection.closed(self._request)
        self._connection.heard()
        return answer


async def dial(endpoint: Endpoint, policy: TlsPolicy | None, timeout_s: float) -> Connection:
    """Connect. Raises Unavailable, or TlsError when TLS is what fails."""
    limit = time.monotonic() + timeout_s
    if policy is None:
        channel = grpc.aio.insecure_channel(endpoint.target, options=_OPTIONS)
    else:
        if policy.needs_probe:
            await tls.probe(endpoint, policy, timeout_s)
        channel = grpc.aio.secure_channel(endpoint.target, policy.credentials(), options=_OPTIONS)
    try:
        async with asyncio.timeout(max(0.0, limit - time.monotonic())):
            await _until_ready(channel)
    except TimeoutError as error:
        await channel.close(None)
        raise Unavailable(f"no connection within {timeout_s:.1f} s") from error
    except ConnectionError as error:
        reason = await _reason(endpoint, policy, channel)
        await channel.close(None)
        raise reason from error
    except BaseException:
        await channel.close(None)
        raise
    return Connection(endpoint, channel)


async def _until_ready(channel: grpc.aio.Channel) -> None:
    state = channel.get_state(try_to_connect=True)
    while state is not _READY:
        if state in _FAILED:
            raise ConnectionError
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)


async def _reason(endpoint: Endpoint, policy: TlsPolicy | None, channel: grpc.aio.Channel) -> EtcdError:
    """Why the dial failed, in words: gRPC says it only to a call."""
    if policy is not None:
        try:
            await tls.probe(endpoint, policy, 1.0)
        except (TlsError, Unavailable) as error:
            return error
    try:
        await rpc.MaintenanceStub(channel).Status(rpc.StatusRequest(), timeout=0.5)
    except grpc.aio.AioRpcError as error:
        return Unavailable(plain(error.details() or error.code().name))
    return Unavailable("the connection ended right after it was made")


def task_is_cancelled() -> bool:
    """True if it is the current task that is being cancelled.

    grpc.aio raises CancelledError also in a task that merely awaits a call that was ended elsewhere.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
