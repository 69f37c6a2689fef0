"""The gRPC transport over real sockets: limits, refusals, holding, stopping."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from coordd.pb import common_pb2, root_coord_pb2
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.port import PortInUse, PortReservation
from coordd.rpc.server import GrpcServer, ServerOptions
from tests.support.rpc import PREFIX, FakeGate
from tests.support.served import ALLOC_ID, HOST, SETTING, TIMESTAMP, Served, refused


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(ServerOptions())
    await served.server.start()
    yield served
    assert served.dispatcher.in_flight == 0
    await served.close()


@pytest.fixture
async def small() -> AsyncIterator[Served]:
    """A server with limits low enough to reach."""
    served = Served(ServerOptions(max_receive_bytes=1 << 20, max_send_bytes=1 << 20, max_concurrent_rpcs=2))
    await served.server.start()
    yield served
    await served.close()


async def test_answers_with_the_headers_a_milvus_client_sends(served: Served) -> None:
    answer = await served.timestamp(cluster="by-dev", serverid="4", sourceid="QEBtaWx2dXMtbWVtYmVyQEA=")
    assert answer.timestamp == 1001
    _, call = served.role.calls[0]
    assert call.peer.startswith("ipv4:127.0.0.1:")
    assert call.metadata["sourceid"] == "QEBtaWx2dXMtbWVtYmVyQEA="
    assert 0 < (call.remaining_s() or 0) <= 10.1  # gRPC rounds a time-out up on its way


async def test_of_a_repeated_header_the_first_counts(served: Served) -> None:
    call = served.channel.unary_unary(TIMESTAMP)
    await call(b"", metadata=(("serverid", "4"), ("serverid", "3"), ("trace-bin", b"\x00\xff")), timeout=10)
    _, seen = served.role.calls[0]
    assert seen.metadata["serverid"] == "4"
    assert "trace-bin" not in seen.metadata


async def test_call_without_deadline_has_none(served: Served) -> None:
    await served.channel.unary_unary(TIMESTAMP)(b"")
    _, seen = served.role.calls[0]
    assert seen.deadline is None


@pytest.mark.parametrize("path", [f"{PREFIX}NoSuchMethod", "/no.such.Service/Method", "/x"])
async def test_unknown_method_is_unimplemented(served: Served, path: str) -> None:
    assert (await served.failure(path)).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_bytes_that_do_not_decode_are_an_error_of_that_call_only(served: Served) -> None:
    assert (await served.failure(body=b"\xff\xff")).code() is grpc.StatusCode.INTERNAL
    assert (await served.timestamp()).timestamp == 1001


async def test_wrong_server_id_and_cluster(served: Served) -> None:
    failure = await served.failure(serverid="77")
    assert failure.code() is grpc.StatusCode.UNKNOWN
    assert failure.details() == "node not match[expectedNodeID=77][actualNodeID=4]"
    failure = await served.failure(cluster="prod")
    assert failure.code() is grpc.StatusCode.UNKNOWN
    assert failure.details() == "cross cluster routing[expectedCluster=by-dev][actualCluster=prod]"


async def test_not_yet_is_an_answer_not_a_grpc_error(served: Served) -> None:
    status = common_pb2.Status.FromString(await served.call(f"{PREFIX}DropCollection"))
    assert status.reason == "coordd: RootCoord.DropCollection is not implemented yet"


async def test_a_bug_does_not_end_the_connection(served: Served) -> None:
    served.role.error = ZeroDivisionError("oops")
    assert (await served.timestamp()).status.code == 65535
    served.role.error = None
    assert (await served.timestamp()).status.code == 0


async def test_oversized_request_is_refused_before_it_is_decoded(small: Served) -> None:
    failure = await small.failure(body=b"\x00" * ((1 << 20) + 1))
    assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert small.role.calls == []
    assert (await small.timestamp()).timestamp == 1001


async def test_oversized_answer_is_refused(small: Served) -> None:
    big = common_pb2.Status(reason="x" * (1 << 20))

    def answer(_request: object, _call: object) -> root_coord_pb2.AllocTimestampResponse:
        return root_coord_pb2.AllocTimestampResponse(status=big)

    small.method().handler = answer
    assert (await small.failure()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_default_limit_takes_what_milvus_takes(served: Served) -> None:
    body = b"\x0a" + b"\x80\x80\x80\x04" + b"\x00" * (8 << 20)  # a `base` of 8 MiB, which does not decode
    assert (await served.failure(body=body)).code() is grpc.StatusCode.INTERNAL


async def test_one_call_too_many_is_refused_at_once(small: Served) -> None:
    small.gate.change(guard_valid=False)
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(small.timestamp(), name=f"held {number}") for number in range(2)]
        async with asyncio.timeout(5):
            while small.gate.waiting < 2:  # noqa: ASYNC110 - the gate has no event for "two wait"
                await asyncio.sleep(0.005)
        assert (await small.failure()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        small.gate.change(guard_valid=True)
    assert {task.result().timestamp for task in held} == {1001, 1002}


async def test_held_calls_are_answered_when_the_guard_is_extended(served: Served) -> None:
    served.gate.change(guard_valid=False)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(served.timestamp(), name="held")
        await served.gate.someone_waits.wait()
        served.gate.change(guard_valid=True)
    assert held.result().timestamp == 1001


async def test_deposed_while_a_call_runs(served: Served) -> None:
    served.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(served.failure(ALLOC_ID), name="call")
        await served.role.entered.wait()
        served.gate.depose()
        served.role.proceed.set()
    assert call.result().code() is grpc.StatusCode.UNAVAILABLE
    assert "no longer the active rootcoord" in (call.result().details() or "")


async def test_callers_deadline_ends_the_hold_on_both_sides(served: Served) -> None:
    served.gate.change(guard_valid=False)
    assert (await served.failure(timeout_s=0.1)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        while served.dispatcher.in_flight:  # noqa: ASYNC110 - the server notices in its own time
            await asyncio.sleep(0.005)


async def test_clients_that_connect_before_start_are_served_after_it() -> None:
    served = Served(ServerOptions())
    try:
        reader, writer = await asyncio.open_connection(HOST, served.port)
        call = asyncio.get_running_loop().create_task(served.timestamp(), name="early")
        await asyncio.sleep(0.2)  # time in which a server that accepts would have answered
        assert not call.done()
        await served.server.start()
        assert (await call).timestamp == 1001
        assert await reader.readexactly(9)  # the server's SETTINGS: the early connection is accepted too
        writer.close()
        await writer.wait_closed()
    finally:
        await served.close()


async def test_a_server_that_only_listened_can_be_stopped() -> None:
    served = Served(ServerOptions())
    await served.close()
    assert await refused(served.port)


async def test_who_waits_for_a_server_that_never_starts_is_sent_away_when_it_stops() -> None:
    served = Served(ServerOptions())
    async with asyncio.TaskGroup() as group:
        call = group.create_task(served.failure(), name="early")
        reader, writer = await asyncio.open_connection(HOST, served.port)
        await served.server.stop()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()
    assert call.result().code() is grpc.StatusCode.UNAVAILABLE
    assert served.role.calls == []
    await served.close()


async def test_stop_lets_calls_in_flight_finish_within_the_grace(served: Served) -> None:
    served.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(served.call(ALLOC_ID), name="call")
        await served.role.entered.wait()
        stop = group.create_task(served.server.stop(5), name="stop")
        async with asyncio.timeout(5):
            while not await refused(served.port):
                pass
        assert not stop.done()
        served.role.proceed.set()
    assert root_coord_pb2.AllocIDResponse.FromString(call.result()).ID == 42


async def test_stop_cuts_calls_off_when_the_grace_is_over(served: Served) -> None:
    served.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(served.failure(ALLOC_ID), name="call")
        await served.role.entered.wait()
        async with asyncio.timeout(3):
            await served.server.stop(0.1)
    assert call.result().code() is grpc.StatusCode.UNAVAILABLE


async def test_a_port_in_use_names_address_and_setting() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        server = GrpcServer(Dispatcher(DispatchTable(), FakeGate(), cluster="by-dev"))
        with pytest.raises(PortInUse) as caught:
            server.listen(HOST, port, setting=SETTING)
        await server.stop()
    assert f"{HOST}:{port}" in str(caught.value)
    assert SETTING in str(caught.value)


async def test_a_server_listens_on_its_reservation_and_gives_it_back() -> None:
    with PortReservation(HOST, 0, setting=SETTING) as reservation:
        assert await refused(reservation.port)
        for _ in range(2):  # a term, and a later one
            served = Served(ServerOptions())
            await served.channel.close()
            await served.server.stop()
            server = GrpcServer(served.dispatcher)
            assert server.listen(HOST, reservation.port, setting=SETTING) == reservation.port
            await server.start()
            async with grpc.aio.insecure_channel(f"{HOST}:{reservation.port}") as channel:
                await channel.unary_unary(TIMESTAMP)(b"", timeout=5)
            await server.stop()
            assert await refused(reservation.port)


# --- keep-alive policy ---


async def pings_until_goaway(port: int, count: int, interval_s: float) -> str | None:
    """Send PING frames on a connection without calls; the GOAWAY's debug text, None if all were tolerated."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">IBI", 0, 4, 0)[1:] + b"\x00")
        for number in range(count):
            writer.write(struct.pack(">IBBIQ", 8, 6, 0, 0, number)[1:])
            while True:
                head = await reader.readexactly(9)
                body = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == 7:
                    return body[8:].decode()
                if head[3] == 6 and head[4] & 1:
                    break
            await asyncio.sleep(interval_s)
        return None
    finally:
        writer.close()


async def test_pings_of_idle_clients_are_tolerated_at_the_agreed_rate_only() -> None:
    tolerant = Served(ServerOptions(min_ping_interval_ms=1))
    strict = Served(ServerOptions())
    try:
        for served in (tolerant, strict):
            await served.server.start()
        assert await pings_until_goaway(tolerant.port, 8, 0.02) is None
        assert await pings_until_goaway(strict.port, 8, 0.02) == "too_many_pings"
    finally:
        await tolerant.close()
        await strict.close()


def test_the_agreed_rate_is_that_of_milvus() -> None:
    options = ServerOptions()
    assert options.min_ping_interval_ms == 5_000
    assert options.keepalive_time_ms == 60_000
    assert options.keepalive_timeout_ms == 10_000
    assert options.max_receive_bytes == 512 << 20
    assert options.max_send_bytes == 512 << 20


async def test_the_server_pings_an_idle_client_and_drops_it_when_it_is_silent() -> None:
    served = Served(ServerOptions(keepalive_time_ms=1_000, keepalive_timeout_ms=300))
    try:
        await served.server.start()
        reader, writer = await asyncio.open_connection(HOST, served.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">IBI", 0, 4, 0)[1:] + b"\x00")
        async with asyncio.timeout(10):
            received = (
                await reader.read()
            )  # until the server closes; answers nothing, so the ping goes unheard
        writer.close()
        await writer.wait_closed()
        assert struct.pack(">IB", 8, 6)[1:] in received
    finally:
        await served.close()
