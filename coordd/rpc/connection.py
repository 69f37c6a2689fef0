"""A client's connection to one process: limits and headers of Milvus' own clients, no retries.

Who is at the other end is said by address and server ID. The ID goes along with each call (header
`serverid`), so that another process which took the address over refuses the call instead of answering it.

Inside a 2.3 cluster there is no TLS. Requests are not compressed: `grpc.client.compressionEnabled` means
zstd, which is not known here; servers take both.

Source of truth: Milvus 2.3.5 internal/util/grpcclient/client.go, pkg/util/interceptor.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from coordd.http2.client import CallFailed, ClientSettings, Keepalive
from coordd.pb import common_pb2
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.line import Line

Answer = TypeVar("Answer", bound=Message)


class Request(Protocol):
    """A message, or what stands for one."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - as messages have it
        """The message's encoding."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A message that is encoded already."""

    data: bytes | bytearray

    def SerializeToString(self) -> bytes:  # noqa: N802 - as messages have it
        """The message's encoding; to be read only. No copy: one of megabytes takes milliseconds."""
        return cast("bytes", self.data)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What all connections of one process have in common.

    Attributes:
        cluster: name of the cluster (header `cluster`): a process of another one refuses the call.
        max_receive_bytes: largest answer.
        max_send_bytes: largest request.
        keepalive_time_ms: how often an idle connection is pinged; Milvus' servers allow one ping per 5 s.
        keepalive_timeout_ms: an unanswered ping ends the connection after this.
    """

    cluster: str
    max_receive_bytes: int = 256 << 20
    max_send_bytes: int = 256 << 20
    keepalive_time_ms: int = 10_000
    keepalive_timeout_ms: int = 20_000

    def settings(self) -> ClientSettings:
        """The same for the transport. Pings go out without calls too, as those of Milvus' clients do."""
        return ClientSettings(
            max_receive_bytes=self.max_receive_bytes,
            max_send_bytes=self.max_send_bytes,
            keepalive=Keepalive(
                time_s=self.keepalive_time_ms / 1000,
                timeout_s=self.keepalive_timeout_ms / 1000,
                without_calls=True,
            ),
        )


class Connection:
    """To the process with `server_id` at `address`. Make it inside a running loop; connects when called."""

    def __init__(self, address: str, server_id: int, options: ClientOptions) -> None:
        self.address = address
        self.server_id = server_id
        self._headers = (("serverid", str(server_id)), ("cluster", options.cluster))
        self._under_way = 0
        self._retired = False
        self._line = Line(address, options.settings())

    @property
    def retired(self) -> bool:
        """Whether it takes no more calls."""
        return self._retired

    @property
    def closed(self) -> bool:
        """Whether it takes no more calls and none is under way: nothing is left of it."""
        return self._line.closed

    async def call(self, path: str, request: Request, answer: type[Answer], timeout_s: float) -> Answer:
        """Call the method at `path` once. Safe to cancel.

        Raises:
            RpcFailure: the call failed at gRPC level, or the connection was closed meanwhile (UNAVAILABLE).
        """
        if self._retired:
            text = f"the connection to {self.server_id} at {self.address} is closed"
            raise RpcFailure(RpcCode.UNAVAILABLE, text)
        body = request.SerializeToString()
        self._under_way += 1
        try:
            raw = await self._line.unary(path, body, metadata=self._headers, timeout_s=timeout_s)
            return answer.FromString(raw)
        except CallFailed as error:
            raise RpcFailure(RpcCode(error.code), error.message or "no answer") from error
        except DecodeError as error:
            raise RpcFailure(RpcCode.INTERNAL, f"the answer of {path} does not decode: {error}") from error
        finally:
            self._under_way -= 1
            if self.retired and not self._under_way:
                await self._line.close()

    async def retire(self) -> None:
        """Take no more calls, and close once those under way have ended."""
        self._retired = True
        if not self._under_way:
            await self._line.close()

    async def close(self) -> None:
        """Close now; calls under way fail with UNAVAILABLE."""
        self._retired = True
        await self._line.close()


def status_of(answer: Message) -> common_pb2.Status:
    """The status that an answer carries, or is.

    Raises:
        TypeError: answers of this type carry none.
    """
    status = answer if isinstance(answer, common_pb2.Status) else getattr(answer, "status", None)
    if not isinstance(status, common_pb2.Status):
        raise TypeError(f"{type(answer).__name__} carries no status")
    return status
