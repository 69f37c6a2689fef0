"""Calls that are passed on to the heir of leadership, over real connections."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from coordd.clock import boottime
from coordd.pb import common_pb2, root_coord_pb2
from coordd.rpc import forward as forward_module
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.forward import GrpcForwarder
from coordd.rpc.server import GrpcServer
from tests.support.etcd import eventually
from tests.support.rpc import PREFIX, ROOT_COORD, FakeGate, Role
from tests.support.tcp_proxy import tcp_proxy

HOST = "127.0.0.1"
TIMESTAMP = f"{PREFIX}AllocTimestamp"
ALLOC_ID = f"{PREFIX}AllocID"
OLD, HEIR = 4, 9


class Replica:
    """A role behind a real port."""

    def __init__(self, server_id: int) -> None:
        self.gate = FakeGate()
        self.gate.server_id = server_id
        self.role = Role()
        table = DispatchTable()
        table.add_service(ROOT_COORD, self.role)
        self.dispatcher = Dispatcher(table, self.gate, cluster="by-dev")
        self.server = GrpcServer(self.dispatcher)
        self.port = self.server.listen(HOST, 0, setting="rootCoord.port")

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"


@pytest.fixture
async def heir() -> AsyncIterator[Replica]:
    replica = Replica(HEIR)
    await replica.server.start()
    yield replica
    await replica.server.stop()


@pytest.fixture
async def way(heir: Replica) -> AsyncIterator[GrpcForwarder]:
    forwarder = GrpcForwarder(heir.address, HEIR, OLD)
    yield forwarder
    await forwarder.close()


async def forward(
    way: GrpcForwarder,
    body: bytes = b"",
    metadata: Mapping[str, str] | None = None,
    *,
    path: str = TIMESTAMP,
    in_s: float | None = 10.0,
) -> bytes:
    deadline = None if in_s is None else boottime() + in_s
    return await way.forward(path, body, metadata or {}, deadline)


async def failure(way: GrpcForwarder, **options: Any) -> RpcFailure:
    with pytest.raises(RpcFailure) as caught:
        await forward(way, **options)
    return caught.value


async def test_bytes_pass_both_ways_as_they_are(heir: Replica, way: GrpcForwarder) -> None:
    request = root_coord_pb2.AllocTimestampRequest(count=3)
    unknown_field = b"\xfa\x07\x03abc"  # field 127: of a version that is newer than ours
    answer = await forward(way, request.SerializeToString() + unknown_field)
    assert root_coord_pb2.AllocTimestampResponse.FromString(answer).count == 3
    seen, _ = heir.role.calls[0]
    assert seen.SerializeToString().endswith(unknown_field)


async def test_large_requests_pass(heir: Replica, way: GrpcForwarder) -> None:
    padding = b"\xfa\x07" + b"\x80\x80\x80\x04" + b"x" * (8 << 20)
    await forward(way, padding)
    seen, _ = heir.role.calls[0]
    assert seen.ByteSize() == len(padding)


@pytest.mark.parametrize("addressed", ["4", "9"])
async def test_the_server_id_becomes_the_heirs(heir: Replica, way: GrpcForwarder, addressed: str) -> None:
    await forward(way, metadata={"serverid": addressed, "cluster": "by-dev", "sourceid": "abc"})
    _, call = heir.role.calls[0]
    assert call.metadata["serverid"] == str(HEIR)
    assert call.metadata["cluster"] == "by-dev"
    assert call.metadata["sourceid"] == "abc"


async def test_a_call_without_a_server_id_gets_none(heir: Replica, way: GrpcForwarder) -> None:
    await forward(way)
    _, call = heir.role.calls[0]
    assert "serverid" not in call.metadata


async def test_what_belongs_to_the_callers_connection_is_left_out(heir: Replica, way: GrpcForwarder) -> None:
    await forward(way, metadata={"user-agent": "grpc-go/1.54", "grpc-trace-text": "x", "traceparent": "00-1"})
    _, call = heir.role.calls[0]
    assert "grpc-go/1.54" not in call.metadata.get("user-agent", "")
    assert "grpc-trace-text" not in call.metadata
    assert call.metadata["traceparent"] == "00-1"


async def test_the_deadline_is_passed_on(heir: Replica, way: GrpcForwarder) -> None:
    await forward(way, in_s=7.0)
    _, call = heir.role.calls[0]
    left = call.remaining_s()
    assert left is not None
    assert left <= 7.1  # gRPC rounds a time-out up on its way
    heir.role.proceed.clear()
    assert (await failure(way, path=ALLOC_ID, in_s=0.2)).code is RpcCode.DEADLINE_EXCEEDED
    assert (await failure(way, path=ALLOC_ID, in_s=-1.0)).code is RpcCode.DEADLINE_EXCEEDED


async def test_a_call_without_a_deadline_is_not_forwarded_for_ever(heir: Replica, way: GrpcForwarder) -> None:
    await forward(way, in_s=None)
    _, call = heir.role.calls[0]
    left = call.remaining_s()
    assert left is not None
    assert left <= 61


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RpcFailure(RpcCode.UNKNOWN, "cross cluster routing"), RpcCode.UNKNOWN),
        (RpcFailure(RpcCode.RESOURCE_EXHAUSTED, "full"), RpcCode.RESOURCE_EXHAUSTED),
        (RpcFailure(RpcCode.UNAVAILABLE, "no longer the active rootcoord"), RpcCode.UNAVAILABLE),
    ],
)
async def test_a_failure_of_the_heir_passes_with_code_and_text(
    heir: Replica, way: GrpcForwarder, error: RpcFailure, code: RpcCode
) -> None:
    heir.role.error = error
    caught = await failure(way)
    assert (caught.code, caught.message) == (code, error.message)


async def test_a_method_that_the_heir_does_not_know(way: GrpcForwarder) -> None:
    assert (await failure(way, path=f"{PREFIX}NoSuchMethod")).code is RpcCode.UNIMPLEMENTED


async def test_an_heir_that_is_gone_is_unavailable(heir: Replica, way: GrpcForwarder) -> None:
    await forward(way)
    await heir.server.stop()
    assert (await failure(way)).code is RpcCode.UNAVAILABLE


async def test_an_heir_that_goes_during_the_call_gives_an_error_and_no_second_try(
    heir: Replica, way: GrpcForwarder
) -> None:
    heir.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(failure(way, path=ALLOC_ID))
        await heir.role.entered.wait()
        await heir.server.stop()
    assert call.result().code in (RpcCode.UNAVAILABLE, RpcCode.CANCELLED)
    assert len(heir.role.calls) == 1


async def test_an_heir_that_vanishes_without_a_word_fails_the_calls_before_their_deadlines(
    heir: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = replace(forward_module.KEEPALIVE, time_s=0.05, timeout_s=0.5)
    monkeypatch.setattr(forward_module, "KEEPALIVE", often)
    async with tcp_proxy(heir.address) as proxy:
        way = GrpcForwarder(proxy.endpoint, HEIR, OLD)
        await forward(way)
        heir.role.proceed.clear()
        async with asyncio.TaskGroup() as group:
            call = group.create_task(failure(way, path=ALLOC_ID, in_s=None), name="call")
            await heir.role.entered.wait()
            proxy.partition()
        assert call.result().code is RpcCode.UNAVAILABLE
        await way.close()


async def test_nothing_that_ever_listened_is_unavailable() -> None:
    with socket.socket() as bound:  # bound, but it does not listen
        bound.bind((HOST, 0))
        way = GrpcForwarder(f"{HOST}:{bound.getsockname()[1]}", HEIR, OLD)
        caught = await failure(way)
        await way.close()
    assert caught.code is RpcCode.UNAVAILABLE
    assert caught.message


async def test_calls_wait_for_an_heir_that_listens_and_does_not_serve_yet() -> None:
    """It listens since it answered the offer; connections lie in the backlog until it accepts."""
    replica = Replica(HEIR)
    way = GrpcForwarder(replica.address, HEIR, OLD)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(forward(way))
        await eventually(lambda: way.idle_since == math.inf)
        await replica.server.start()
    assert root_coord_pb2.AllocTimestampResponse.FromString(call.result()).timestamp == 1001
    await way.close()
    await replica.server.stop()


async def test_idle_since_is_the_end_of_the_last_call(heir: Replica, way: GrpcForwarder) -> None:
    made = way.idle_since
    assert made <= boottime()
    heir.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(forward(way, path=ALLOC_ID))
        await heir.role.entered.wait()
        await forward(way)
        assert way.idle_since == math.inf, "one is still under way"
        released_at = boottime()
        heir.role.proceed.set()
    assert released_at <= way.idle_since <= boottime()
    heir.role.error = RpcFailure(RpcCode.UNKNOWN, "no")
    failed_after = boottime()
    await failure(way)
    assert way.idle_since >= failed_after


async def test_a_cancelled_call_is_not_under_way_any_more(heir: Replica, way: GrpcForwarder) -> None:
    heir.role.proceed.clear()
    call = asyncio.get_running_loop().create_task(forward(way, path=ALLOC_ID))
    await heir.role.entered.wait()
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert way.idle_since <= boottime()
    await eventually(lambda: heir.dispatcher.in_flight == 0)


async def test_through_the_whole_chain_of_the_old_replica(heir: Replica, way: GrpcForwarder) -> None:
    """A client that stays with the old address and server ID gets the heir's answers."""
    old = Replica(OLD)
    await old.server.start()
    old.gate.change(holding=True)
    async with grpc.aio.insecure_channel(old.address) as channel, asyncio.TaskGroup() as group:
        call = channel.unary_unary(
            TIMESTAMP,
            request_serializer=root_coord_pb2.AllocTimestampRequest.SerializeToString,
            response_deserializer=root_coord_pb2.AllocTimestampResponse.FromString,
        )

        async def ask() -> Any:
            return await call(
                root_coord_pb2.AllocTimestampRequest(count=2), timeout=10, metadata=(("serverid", str(OLD)),)
            )

        held = [group.create_task(ask()) for _ in range(5)]
        await eventually(lambda: old.gate.waiting == 5)
        old.gate.change(
            holding=False, deposed=True, epoch=0, forwarder=way, state_code=common_pb2.StateCode.Abnormal
        )
        late = await ask()
    await old.server.stop()
    answers = [*(task.result() for task in held), late]
    assert sorted(answer.timestamp for answer in answers) == list(range(1001, 1007))
    assert old.role.calls == []
    assert {call.metadata["serverid"] for _, call in heir.role.calls} == {str(HEIR)}
