"""Passing calls on, after a handover, to the replica that leadership was handed to.

Requests and answers go through as bytes. A call is passed on once: if the heir cannot be reached the caller
gets UNAVAILABLE, on which Milvus' clients look the coordinator up anew.
"""

import math
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from coordd.clock import boottime
from coordd.rpc.failure import RpcCode, RpcFailure

_CALL_CAP_S = 60.0
"""For calls without a deadline, as long as they would be held here."""
_CONNECT_LIMIT_MS = 5_000
"""gRPC's bound on one attempt to connect goes by the name of a back-off. An heir listens from before it is
made one, and accepts only when it serves: on a busy machine that takes longer than the 100 ms which would do
for a connect alone, and every call forwarded until then would fail. An heir that is gone refuses at once."""

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", _CONNECT_LIMIT_MS),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
]


class GrpcForwarder:
    """To one heir. `from_server_id` is the replica that forwards. Make it inside a running loop."""

    def __init__(self, address: str, server_id: int, from_server_id: int) -> None:
        self.server_ids = (from_server_id, server_id)
        self._header = ("serverid", str(server_id))
        self._under_way = 0
        self._ended_at = boottime()
        self._methods: dict[str, Any] = {}
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._channel.get_state(try_to_connect=True)

    @property
    def idle_since(self) -> float:
        """See `coordd.ha.gate.Forwarder`."""
        return math.inf if self._under_way else self._ended_at

    async def forward(
        self, path: str, body: bytes, metadata: Mapping[str, str], deadline: float | None
    ) -> bytes:
        """The heir's answer.

        Raises:
            RpcFailure: the heir's own failure, UNAVAILABLE if it cannot be reached.
        """
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(
                path, request_serializer=None, response_deserializer=None
            )
        headers = [(name, value) for name, value in metadata.items() if _may_pass(name)]
        if "serverid" in metadata:
            headers.append(self._header)
        remaining = _CALL_CAP_S if deadline is None else max(0.0, deadline - boottime())
        self._under_way += 1
        try:
            answer: bytes = await method(body, timeout=remaining, metadata=headers)
        except grpc.aio.AioRpcError as error:
            code = RpcCode(error.code().value[0])
            raise RpcFailure(code, error.details() or "the new active replica did not answer") from error
        finally:
            self._under_way -= 1
            self._ended_at = boottime()
        return answer

    async def close(self) -> None:
        """Drop the connection; calls under way fail."""
        await self._channel.close(None)


def _may_pass(name: str) -> bool:
    """Headers of the caller's own; the rest belongs to its connection."""
    return name not in {"serverid", "user-agent"} and not name.startswith(("grpc-", ":"))
