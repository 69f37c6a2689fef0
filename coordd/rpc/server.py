"""gRPC transport on grpc.aio: sockets, limits, keep-alive; bytes in, bytes out.

Every call goes to the `Dispatcher`; this module knows no message type, role or state. A path that is not in
the table is UNIMPLEMENTED; a request above the size limit or one call too many is RESOURCE_EXHAUSTED.

Listening and serving are two steps: between `listen()` and `start()` the kernel completes connections and
keeps them and their first requests in the backlog, where they wait instead of being refused.

Source of the limits: Milvus 2.3.5 internal/distributed/rootcoord/service.go (keep-alive policy) and
pkg/util/paramtable/grpc_param.go (sizes).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from coordd.clock import boottime
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher
from coordd.rpc.failure import RpcFailure
from coordd.rpc.port import ListenError, format_address, why_not
from coordd.rpc.table import Method

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_Unary = Callable[[bytes, Any], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a server of one role takes and how it keeps connections.

    Attributes:
        max_receive_bytes: largest request.
        max_send_bytes: largest answer.
        max_concurrent_rpcs: calls under way at once, held ones included; None = no limit.
        min_ping_interval_ms: a client that pings more often (twice over) is told GOAWAY. Milvus' clients ping
            idle connections every 10 s; gRPC's own default of 5 minutes would cut them off.
        keepalive_time_ms: the server pings a connection that was silent for so long.
        keepalive_timeout_ms: and drops it when the answer takes longer than this.
        credentials: TLS; None = plain text.
    """

    max_receive_bytes: int = 512 << 20
    max_send_bytes: int = 512 << 20
    max_concurrent_rpcs: int | None = None
    min_ping_interval_ms: int = 5_000
    keepalive_time_ms: int = 60_000
    keepalive_timeout_ms: int = 10_000
    credentials: grpc.ServerCredentials | None = None

    def channel_arguments(self) -> list[tuple[str, int]]:
        """The same as arguments of gRPC's core."""
        return [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", self.max_receive_bytes),
            ("grpc.max_send_message_length", self.max_send_bytes),
            ("grpc.http2.min_ping_interval_without_data_ms", self.min_ping_interval_ms),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", self.keepalive_time_ms),
            ("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms),
            # Without this a connection lives on for a minute after its ping went unanswered.
            ("grpc.http2.ping_timeout_ms", self.keepalive_timeout_ms),
            ("grpc.http2.max_pings_without_data", 0),
        ]


class GrpcServer:
    """One listening port of one role; used once: listen → start → stop. Make it inside a running loop."""

    def __init__(self, dispatcher: Dispatcher, options: ServerOptions | None = None) -> None:
        self._options = options or ServerOptions()
        self._paths = _Paths(dispatcher)
        self._started = False
        self._server = grpc.aio.server(
            handlers=[self._paths],
            options=self._options.channel_arguments(),
            maximum_concurrent_rpcs=self._options.max_concurrent_rpcs,
        )

    def listen(self, host: str, port: int, *, setting: str) -> int:
        """Bind and listen, accept nothing yet; returns the port. `host` "" is all interfaces.

        Clients that connect from now on wait until `start()`.

        Raises:
            PortInUse: names address and `setting`, the key that sets the port.
            ListenError: the address cannot be listened on for another reason.
        """
        address = format_address(host, port)
        try:
            if self._options.credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, self._options.credentials)
        except RuntimeError as error:
            # gRPC itself tells only that it failed.
            unknown = ListenError(f"cannot listen on {address}", hint=f"the port is set by {setting}")
            raise (why_not(host, port, setting) or unknown) from error
        return bound

    async def start(self) -> None:
        """Serve, beginning with what waits in the backlog."""
        self._started = True
        await self._server.start()

    async def stop(self, grace_s: float = 0.0) -> None:
        """Refuse new connections and calls at once; calls in flight have `grace_s`, then they are cut off.

        Also ends a server that only listens. May be called again.
        """
        if not self._started:
            # grpc.aio closes the sockets of a server only if it ran. It serves nothing in that moment.
            self._paths.closed = True
            await self.start()
        await self._server.stop(grace_s)


if TYPE_CHECKING:
    _AnyPath = grpc.GenericRpcHandler[bytes, bytes]
    _Handler = grpc.RpcMethodHandler[bytes, bytes]
else:  # the stubs are generic, the classes are not
    _AnyPath = grpc.GenericRpcHandler
    _Handler = grpc.RpcMethodHandler


class _Paths(_AnyPath):
    """The methods of a dispatch table as gRPC handlers, made once per method."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.closed = False
        self._refuse: _Handler = grpc.unary_unary_rpc_method_handler(_refuse)
        self._handlers = {
            method.path: grpc.unary_unary_rpc_method_handler(_unary(dispatcher, method))
            for method in dispatcher.table
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler | None:
        return self._refuse if self.closed else self._handlers.get(handler_call_details.method)


def _unary(dispatcher: Dispatcher, method: Method) -> _Unary:
    """The coroutine function that grpc.aio runs for one call of `method`."""
    start = dispatcher.start
    path = method.path

    async def unary(body: bytes, context: Any) -> bytes:
        remaining = context.time_remaining()
        call = Call(
            path,
            _first_values(context.invocation_metadata()),
            None if remaining is None else boottime() + remaining,
            context.peer(),
        )
        try:
            answer = start(method, body, call)
            return answer if isinstance(answer, bytes) else await answer
        except RpcFailure as failure:
            code, text = _CODES[failure.code], str(failure)
        await context.abort(code, text)
        raise AssertionError("abort returned")

    return unary


async def _refuse(_body: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "this server is stopping")
    raise AssertionError("abort returned")


def _first_values(metadata: Any) -> dict[str, str]:
    """Headers by name; of a repeated one the first, as Milvus' interceptors do. Binary ones are left out."""
    values: dict[str, str] = {}
    for key, value in metadata or ():
        if key not in values and isinstance(value, str):
            values[key] = value
    return values
