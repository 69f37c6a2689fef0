"""Passing calls on to an heir that is not ready yet, or gone."""

import asyncio

import pytest

from coordd.clock import boottime
from coordd.pb import root_coord_pb2
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.forward import GrpcForwarder
from coordd.rpc.server import GrpcServer
from tests.support.etcd import free_ports
from tests.support.rpc import PREFIX, ROOT_COORD, FakeGate, Role

TIMESTAMP = f"{PREFIX}AllocTimestamp"
REQUEST = root_coord_pb2.AllocTimestampRequest(count=1).SerializeToString()
HEIR = 4


@pytest.mark.parametrize("slow_s", [0.0, 0.5, 1.5])
async def test_a_call_waits_for_an_heir_that_listens_and_does_not_accept_yet(slow_s: float) -> None:
    table = DispatchTable()
    table.add_service(ROOT_COORD, Role())
    server = GrpcServer(Dispatcher(table, FakeGate(), cluster="by-dev"))
    port = server.listen("127.0.0.1", 0, setting="rootCoord.port")
    forwarder = GrpcForwarder(f"127.0.0.1:{port}", HEIR, from_server_id=3)
    try:
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(
                    forwarder.forward(TIMESTAMP, REQUEST, {"serverid": "3"}, boottime() + 10), name="call"
                )
                for _ in range(5)
            ]
            await asyncio.sleep(slow_s)
            await server.start()
        answers = [root_coord_pb2.AllocTimestampResponse.FromString(call.result()) for call in calls]
        assert sorted(answer.timestamp for answer in answers) == [1001, 1002, 1003, 1004, 1005]
        late = await forwarder.forward(TIMESTAMP, REQUEST, {}, boottime() + 10)
        assert root_coord_pb2.AllocTimestampResponse.FromString(late).timestamp == 1006
    finally:
        await forwarder.close()
        await server.stop()


async def test_an_heir_that_is_gone_is_told_at_once() -> None:
    (port,) = free_ports(1)
    forwarder = GrpcForwarder(f"127.0.0.1:{port}", HEIR, from_server_id=3)
    try:
        with pytest.raises(RpcFailure) as caught:
            await forwarder.forward(TIMESTAMP, REQUEST, {}, boottime() + 60)
        assert caught.value.code is RpcCode.UNAVAILABLE
    finally:
        await forwarder.close()
