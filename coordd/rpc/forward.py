"""Passing calls on, after a handover, to the replica that leadership was handed to.

Requests and answers go through as bytes. A call is passed on once: if the heir cannot be reached the caller
gets UNAVAILABLE, on which Milvus' clients look the coordinator up anew.

An heir listens from before it is made one, and accepts only when it serves; calls wait for that. One that is
gone refuses at once.
"""

import math
from collections.abc import Mapping
from typing import Final

from coordd.clock import boottime
from coordd.http2.client import CallFailed, ClientSettings, Keepalive
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.line import Line

_CALL_CAP_S: Final = 60.0
"""For calls without a deadline, as long as they would be held here."""
KEEPALIVE: Final = Keepalive(time_s=6.0, timeout_s=3.0, without_calls=False)
"""The host of an heir may vanish without a word: calls passed on to it then fail in a few seconds, not at
their deadlines. Servers of coordd take one ping per 5 s."""
_OF_THE_CONNECTION: Final = frozenset({"serverid", "user-agent", "content-type", "te", "host", "connection"})


class GrpcForwarder:
    """To one heir. `from_server_id` is the replica that forwards. Make it inside a running loop."""

    def __init__(self, address: str, server_id: int, from_server_id: int) -> None:
        self.server_ids = (from_server_id, server_id)
        self._header = ("serverid", str(server_id))
        self._under_way = 0
        self._ended_at = boottime()
        self._line = Line(address, ClientSettings(keepalive=KEEPALIVE))
        self._line.begin()

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
        headers = [(name, value) for name, value in metadata.items() if _may_pass(name)]
        if "serverid" in metadata:
            headers.append(self._header)
        remaining = _CALL_CAP_S if deadline is None else max(0.0, deadline - boottime())
        self._under_way += 1
        try:
            return await self._line.unary(path, body, metadata=headers, timeout_s=remaining)
        except CallFailed as error:
            text = error.message or "the new active replica did not answer"
            raise RpcFailure(RpcCode(error.code), text) from error
        finally:
            self._under_way -= 1
            self._ended_at = boottime()

    async def close(self) -> None:
        """Drop the connection; calls under way fail."""
        await self._line.close()


def _may_pass(name: str) -> bool:
    """Headers of the caller's own; the rest belongs to its connection."""
    return name not in _OF_THE_CONNECTION and not name.startswith(("grpc-", ":"))
