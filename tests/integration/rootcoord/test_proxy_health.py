"""CheckHealth's question to a proxy, over a real connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from coordd.clock import boottime
from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import StateCode, Status
from coordd.rootcoord.proxies import GrpcProxyClient, ProxyAddress, ProxyUnreachableError, unhealthy_reasons
from tests.support.etcd import free_ports


@asynccontextmanager
async def proxy(
    answer_after_s: float = 0.0, state: StateCode = StateCode.Healthy
) -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy's internal port; also gives the server IDs it was asked with."""
    asked: list[str] = []

    async def states(_request: object, context: grpc.aio.ServicerContext[object, object]) -> object:
        asked.extend(str(value) for key, value in context.invocation_metadata() or () if key == "serverid")
        await asyncio.sleep(answer_after_s)
        info = milvus_pb2.ComponentInfo(nodeID=6, role="proxy", state_code=state)
        return milvus_pb2.ComponentStates(state=info, status=Status())

    handler = grpc.unary_unary_rpc_method_handler(
        states,
        request_deserializer=milvus_pb2.GetComponentStatesRequest.FromString,
        response_serializer=milvus_pb2.ComponentStates.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("milvus.proto.proxy.Proxy", {"GetComponentStates": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", asked
    finally:
        await server.stop(None)


async def test_a_healthy_proxy_is_asked_by_its_server_id() -> None:
    async with proxy() as (address, asked):
        states = await GrpcProxyClient().component_states(ProxyAddress(6, address), 5.0)
    assert states.state.state_code == StateCode.Healthy
    assert asked == ["6"]


async def test_all_are_asked_and_only_the_bad_ones_are_named() -> None:
    [closed] = free_ports(1)
    async with proxy() as (good, _), proxy(state=StateCode.Abnormal) as (bad, _):
        reasons = await unhealthy_reasons(
            GrpcProxyClient(),
            [ProxyAddress(1, good), ProxyAddress(2, bad), ProxyAddress(3, f"127.0.0.1:{closed}")],
            5.0,
        )
    assert reasons[0] == "service not ready[Proxy=2]: Abnormal"
    assert len(reasons) == 2
    assert "UNAVAILABLE" in reasons[1]


async def test_a_proxy_that_hangs_costs_no_more_than_the_time_given() -> None:
    async with proxy(answer_after_s=30) as (address, _):
        started = boottime()
        with pytest.raises(ProxyUnreachableError, match="DEADLINE_EXCEEDED"):
            await GrpcProxyClient().component_states(ProxyAddress(6, address), 0.3)
        assert boottime() - started < 5
