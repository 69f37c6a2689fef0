"""gRPC peers for tests: one service behind our server and behind grpcio's, and clients of both kinds for it.

The service takes and gives bytes. What a method does is said in its request, so that no test needs a server
of its own kind.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio

from coordd.clock import boottime
from coordd.http2.client import CallFailed, Channel, ClientSettings
from coordd.rpc.call import Call
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.server import GrpcServer, ServerOptions
from tests.support.etcd import eventually

HOST = "127.0.0.1"
SETTING = "test.port"
ECHO, MAKE, HEADERS, DEADLINE, FAIL, FAIL_LATER, SLOW, CHAT = (
    f"/coordd.test.Service/{name}"
    for name in ("Echo", "Make", "Headers", "Deadline", "Fail", "FailLater", "Slow", "Chat")
)
Metadata = Sequence[tuple[str, str]]
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class Path:
    """What the server knows of a method."""

    path: str


class Table:
    """The methods as the server wants them."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._methods = {path: Path(path) for path in paths}

    def get(self, path: str) -> Path | None:
        return self._methods.get(path)

    def __iter__(self) -> Iterator[Path]:
        return iter(self._methods.values())

    def __len__(self) -> int:
        return len(self._methods)


class Service:
    """Stands where the dispatcher of a role stands.

    Attributes:
        proceed: lets slow calls end.
        running: slow calls under way.
        most_running: most of them at once.
        cancelled: slow calls that were cancelled.
        calls: all that arrived.
    """

    def __init__(self) -> None:
        self.table = Table([ECHO, MAKE, HEADERS, DEADLINE, FAIL, FAIL_LATER, SLOW])
        self.proceed = asyncio.Event()
        self.running = self.most_running = self.cancelled = self.in_flight = 0
        self.calls: list[Call] = []

    def start(self, method: Any, body: bytes, call: Call) -> bytes | Coroutine[Any, Any, bytes]:
        call.body = body
        self.calls.append(call)
        match method.path.rpartition("/")[2]:
            case "Echo":
                return body
            case "Make":
                return b"m" * int(body)
            case "Headers":
                return json.dumps(dict(call.metadata)).encode()
            case "Deadline":
                return repr(call.remaining_s()).encode()
            case "Fail":
                raise self._failure(body)
            case "FailLater":
                return self._fail_later(body)
            case _:
                return self._slow(body)

    async def _fail_later(self, body: bytes) -> bytes:
        await asyncio.sleep(0)
        raise self._failure(body)

    async def _slow(self, body: bytes) -> bytes:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return body

    def _failure(self, body: bytes) -> RpcFailure:
        code, _, text = body.decode().partition(" ")
        return RpcFailure(RpcCode(int(code)), text)


# --- servers ---


class Server(Protocol):
    """A server of `service` that serves already."""

    service: Service
    port: int

    async def stop(self, grace_s: float = 0.0) -> None: ...


class OwnServer:
    """Ours."""

    def __init__(self, options: ServerOptions | None = None, port: int = 0) -> None:
        self.service = Service()
        self.server = GrpcServer(self.service, options)  # type: ignore[arg-type]
        self.port = self.server.listen(HOST, port, setting=SETTING)

    async def stop(self, grace_s: float = 0.0) -> None:
        await self.server.stop(grace_s)


class GrpcioServer:
    """grpcio's."""

    def __init__(
        self, credentials: grpc.ServerCredentials | None = None, options: Sequence[tuple[str, int]] = ()
    ) -> None:
        self.service = Service()
        self.server = grpc.aio.server(
            handlers=[_GrpcioPaths(self.service)],
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                *options,
            ],
        )
        address = f"{HOST}:0"
        if credentials is None:
            self.port = self.server.add_insecure_port(address)
        else:
            self.port = self.server.add_secure_port(address, credentials)

    async def stop(self, grace_s: float = 0.0) -> None:
        await self.server.stop(grace_s)


class _GrpcioPaths(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def __init__(self, service: Service) -> None:
        self._handlers = {
            method.path: grpc.unary_unary_rpc_method_handler(_unary(service, method))
            for method in service.table
        }
        self._handlers[CHAT] = grpc.stream_stream_rpc_method_handler(_chat)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


def _unary(service: Service, method: Path) -> Callable[[bytes, Any], Coroutine[Any, Any, bytes]]:
    async def unary(body: bytes, context: Any) -> bytes:
        remaining = context.time_remaining()
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        call = Call(
            method.path, metadata, None if remaining is None else boottime() + remaining, context.peer(), body
        )
        try:
            answer = service.start(method, body, call)
            return answer if isinstance(answer, bytes) else await answer
        except RpcFailure as failure:
            code, text = _CODES[int(failure.code)], str(failure)
        await context.abort(code, text)
        raise AssertionError("abort returned")

    return unary


async def _chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Gives each message back; `many <n>` n times, `bye` ends, `fail` fails."""
    async for body in requests:
        if body == b"bye":
            return
        if body == b"fail":
            await context.abort(grpc.StatusCode.ABORTED, "as you wish: ä€")
        if body.startswith(b"many "):
            for number in range(int(body[5:])):
                yield b"%d" % number
        else:
            yield body


# --- clients ---


class Failure(Exception):
    """A call that failed, in the same words for every client."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{RpcCode(code).name}: {text}")
        self.code = RpcCode(code)
        self.text = text


class Caller(Protocol):
    """A client with one connection."""

    async def call(
        self, path: str, body: bytes = b"", metadata: Metadata = (), timeout_s: float = 10.0
    ) -> bytes: ...

    async def close(self) -> None: ...


class OwnCaller:
    """Ours."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def call(
        self, path: str, body: bytes = b"", metadata: Metadata = (), timeout_s: float = 10.0
    ) -> bytes:
        try:
            return await self.channel.unary(path, body, metadata=metadata, timeout_s=timeout_s)
        except CallFailed as error:
            raise Failure(error.code, error.message) from error

    async def close(self) -> None:
        self.channel.close()
        await self.channel.closed.wait()


_CLIENT_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]


class AioCaller:
    """grpcio's asyncio client."""

    def __init__(self, port: int, credentials: grpc.ChannelCredentials | None = None, **options: Any) -> None:
        target = f"{HOST}:{port}"
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(target, options=_CLIENT_OPTIONS, **options)
        else:
            self.channel = grpc.aio.secure_channel(target, credentials, options=_CLIENT_OPTIONS, **options)

    async def call(
        self, path: str, body: bytes = b"", metadata: Metadata = (), timeout_s: float = 10.0
    ) -> bytes:
        try:
            answer: bytes = await self.channel.unary_unary(path)(
                body, timeout=timeout_s, metadata=tuple(metadata)
            )
        except grpc.aio.AioRpcError as error:
            raise Failure(error.code().value[0], error.details() or "") from error
        return answer

    async def close(self) -> None:
        await self.channel.close()


class SyncCaller:
    """grpcio's blocking client, in threads."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"{HOST}:{port}", options=_CLIENT_OPTIONS)

    async def call(
        self, path: str, body: bytes = b"", metadata: Metadata = (), timeout_s: float = 10.0
    ) -> bytes:
        method = self.channel.unary_unary(path)
        try:
            return await asyncio.to_thread(method, body, timeout=timeout_s, metadata=tuple(metadata))
        except grpc.RpcError as error:
            raise Failure(error.code().value[0], error.details() or "") from error

    async def close(self) -> None:
        await asyncio.to_thread(self.channel.close)


async def own_caller(
    port: int, settings: ClientSettings | None = None, tls: ssl.SSLContext | None = None
) -> OwnCaller:
    """Ours, connected."""
    async with asyncio.timeout(10):
        return OwnCaller(await Channel.connect(HOST, port, settings=settings or ClientSettings(), tls=tls))


@contextlib.asynccontextmanager
async def serving(server: OwnServer | GrpcioServer) -> AsyncIterator[Any]:
    """The server serves; in the end it is stopped, and nothing of a call is left in it."""
    await server.server.start()
    try:
        yield server
    finally:
        server.service.proceed.set()
        await server.stop()
        await eventually(lambda: server.service.running == 0)


async def failure(caller: Caller, path: str, body: bytes = b"", **options: Any) -> Failure:
    """The failure that a call ends with."""
    try:
        answer = await caller.call(path, body, **options)
    except Failure as error:
        return error
    raise AssertionError(f"it was answered: {answer[:100]!r}")
