"""A client's connection to one process: limits and headers of Milvus' own clients, no retries.

Who is at the other end is said by address and server ID. The ID goes along with each call (header
`serverid`), so that another process which took the address over refuses the call instead of answering it.

A connection that failed is not mended: gRPC may wait seconds before it dials again, whatever its options say.
Its owner drops it (`retire`) and makes another one, which dials at once.

Inside a 2.3 cluster there is no TLS. Requests are not compressed: `grpc.client.compressionEnabled` means
zstd, which is not known here; servers take both.

Source of truth: Milvus 2.3.5 internal/util/grpcclient/client.go, pkg/util/interceptor.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from coordd.pb import common_pb2
from coordd.rpc.failure import RpcCode, RpcFailure

Answer = TypeVar("Answer", bound=Message)

_CONNECT_LIMIT_MS = 5_000
"""gRPC's bound on one attempt to connect goes by the name of a back-off. A coordinator that is about to take
over listens before it accepts, so Milvus' 200 ms would give up too early; who calls has a deadline."""


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

    def channel_arguments(self) -> list[tuple[str, int]]:
        """The same as arguments of gRPC's core."""
        return [
            ("grpc.max_receive_message_length", self.max_receive_bytes),
            ("grpc.max_send_message_length", self.max_send_bytes),
            ("grpc.keepalive_time_ms", self.keepalive_time_ms),
            ("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", 20),
            ("grpc.min_reconnect_backoff_ms", _CONNECT_LIMIT_MS),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
        ]


class Connection:
    """To the process with `server_id` at `address`. Make it inside a running loop; dials when called."""

    def __init__(self, address: str, server_id: int, options: ClientOptions) -> None:
        self.address = address
        self.server_id = server_id
        self._headers = (("serverid", str(server_id)), ("cluster", options.cluster))
        self._methods: dict[str, Any] = {}
        self._under_way = 0
        self._retired = False
        self._channel_is_gone = False
        self._channel = grpc.aio.insecure_channel(address, options=options.channel_arguments())

    @property
    def retired(self) -> bool:
        """Whether it takes no more calls."""
        return self._retired

    async def call(self, path: str, request: Message, answer: type[Answer], timeout_s: float) -> Answer:
        """Call the method at `path` once. Safe to cancel.

        Raises:
            RpcFailure: the call failed at gRPC level, or the connection was closed meanwhile (UNAVAILABLE).
        """
        if self._retired:
            raise self._closed()
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(
                path, request_serializer=None, response_deserializer=None
            )
        body = request.SerializeToString()
        self._under_way += 1
        try:
            raw: bytes = await method(body, timeout=max(0.0, timeout_s), metadata=self._headers)
            return answer.FromString(raw)
        except grpc.aio.AioRpcError as error:
            raise RpcFailure(RpcCode(error.code().value[0]), error.details() or "no answer") from error
        except DecodeError as error:
            raise RpcFailure(RpcCode.INTERNAL, f"the answer of {path} does not decode: {error}") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._channel_is_gone and task is not None and not task.cancelling():
                raise self._closed() from error  # gRPC's word for a channel that was closed under the call
            raise
        finally:
            self._under_way -= 1
            if self.retired and not self._under_way:
                await self._channel.close(None)

    async def retire(self) -> None:
        """Take no more calls, and close once those under way have ended."""
        self._retired = True
        if not self._under_way:
            await self._channel.close(None)

    async def close(self) -> None:
        """Close now; calls under way fail with UNAVAILABLE."""
        self._retired = self._channel_is_gone = True
        await self._channel.close(None)

    def _closed(self) -> RpcFailure:
        text = f"the connection to {self.server_id} at {self.address} is closed"
        return RpcFailure(RpcCode.UNAVAILABLE, text)


def status_of(answer: Message) -> common_pb2.Status:
    """The status that an answer carries, or is.

    Raises:
        TypeError: answers of this type carry none.
    """
    status = answer if isinstance(answer, common_pb2.Status) else getattr(answer, "status", None)
    if not isinstance(status, common_pb2.Status):
        raise TypeError(f"{type(answer).__name__} carries no status")
    return status
