"""Asking the cluster's proxies how they are, for CheckHealth.

A proxy answers GetComponentStates on the internal port that its session record names, as service
`milvus.proto.proxy.Proxy`. All are asked at once, each with the same deadline; nothing is cached and
nothing is repeated: the question is how the proxy is now.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go (CheckHealth), pkg/util/merr/utils.go
(AnalyzeState).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError

from coordd.errors import CoorddError
from coordd.http2.client import CallFailed
from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import StateCode
from coordd.rpc.failure import RpcCode
from coordd.rpc.line import ask_once
from coordd.rpc.status import is_success, not_ready

COMPONENT_STATES = "/milvus.proto.proxy.Proxy/GetComponentStates"
MAX_PARALLEL = 64
"""Proxies asked at the same time; more wait for their turn."""


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """Where a proxy answers, from its session record."""

    server_id: int
    address: str


class ProxyUnreachableError(CoorddError):
    """The proxy gave no answer; the message is gRPC's."""


class ProxyClient(Protocol):
    """One question to one proxy."""

    async def component_states(self, proxy: ProxyAddress, timeout_s: float) -> milvus_pb2.ComponentStates:
        """Raises:
        ProxyUnreachableError: no answer within `timeout_s` seconds.
        """


class GrpcProxyClient:
    """Asks over a connection of its own for each question.

    A kept connection would answer sooner, but a health check should also notice that no new ones are
    accepted.
    """

    async def component_states(self, proxy: ProxyAddress, timeout_s: float) -> milvus_pb2.ComponentStates:
        """Ask one proxy.

        Raises:
            ProxyUnreachableError: no answer within `timeout_s` seconds, an error, or an answer that is none.
        """
        try:
            answer = await ask_once(
                proxy.address,
                COMPONENT_STATES,
                milvus_pb2.GetComponentStatesRequest().SerializeToString(),
                metadata=(("serverid", str(proxy.server_id)),),
                timeout_s=timeout_s,
            )
            return milvus_pb2.ComponentStates.FromString(answer)
        except CallFailed as error:
            text = f"rpc error: code = {RpcCode(error.code).name} desc = {error.message}"
            raise ProxyUnreachableError(text) from error
        except DecodeError as error:
            raise ProxyUnreachableError(f"its answer does not decode: {error}") from error


async def unhealthy_reasons(
    client: ProxyClient, proxies: Sequence[ProxyAddress], timeout_s: float
) -> list[str]:
    """Why CheckHealth must say no: one reason per proxy that is not Healthy, in order of the server IDs."""
    turns = asyncio.Semaphore(MAX_PARALLEL)
    reasons: dict[int, str] = {}

    async def ask(proxy: ProxyAddress) -> None:
        async with turns:
            try:
                reason = _reason(proxy, await client.component_states(proxy, timeout_s))
            except ProxyUnreachableError as error:
                reason = str(error)
        if reason is not None:
            reasons[proxy.server_id] = reason

    async with asyncio.TaskGroup() as group:
        for proxy in proxies:
            group.create_task(ask(proxy), name=f"check-health:proxy-{proxy.server_id}")
    return [reasons[server_id] for server_id in sorted(reasons)]


def _reason(proxy: ProxyAddress, states: milvus_pb2.ComponentStates) -> str | None:
    if not is_success(states.status):
        return states.status.reason
    if states.state.state_code != StateCode.Healthy:
        return str(not_ready("Proxy", proxy.server_id, states.state.state_code))
    return None
