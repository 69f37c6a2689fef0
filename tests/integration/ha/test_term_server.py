"""The server of a term can be stopped at any moment: while it starts or stops, after either was cancelled.

And the next one has the port while it still stops.
"""

import asyncio
import contextlib
import socket

import grpc.aio
import pytest

from coordd.daemon import TermServer
from coordd.ha.gate import LeadershipGate
from coordd.ha.server_slot import ServerSlot
from coordd.http2.client import CallFailed, ClientSettings
from coordd.pb import root_coord_pb2
from coordd.rpc import server as server_module
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcCode
from coordd.rpc.line import Line
from coordd.rpc.port import PortReservation
from coordd.rpc.server import GrpcServer
from tests.support.rpc import PREFIX, ROOT_COORD, FakeGate, Role


@pytest.mark.parametrize("doing", ["start", "stop before start", "stop"])
async def test_it_stops_after_what_was_cancelled(doing: str) -> None:
    with PortReservation("127.0.0.1", 0, setting="test") as reserved:
        for steps in range(8):
            dispatcher = Dispatcher(DispatchTable(), LeadershipGate("rootcoord"), cluster="by-dev")
            server = TermServer(GrpcServer(dispatcher), "127.0.0.1", reserved.port, "test")
            await server.listen()
            if doing == "stop":
                await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{reserved.port}") as channel:
                channel.get_state(try_to_connect=True)
                work = server.start() if doing == "start" else server.stop(1.0)
                task = asyncio.get_running_loop().create_task(work, name=doing)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                async with asyncio.timeout(5):
                    await server.stop(0.0)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", reserved.port), 1)


async def test_it_may_be_stopped_while_it_starts_or_stops() -> None:
    with PortReservation("127.0.0.1", 0, setting="test") as reserved:
        for number in range(100):
            dispatcher = Dispatcher(DispatchTable(), LeadershipGate("rootcoord"), cluster="by-dev")
            server = TermServer(GrpcServer(dispatcher), "127.0.0.1", reserved.port, "test")
            await server.listen()
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                group.create_task(server.start(), name="start")
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                group.create_task(server.stop(0.1), name="stop")
                for _ in range(number // 4 % 4):
                    await asyncio.sleep(0)
                await server.stop(0.0)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", reserved.port), 1)


class Stubborn(Role):
    """Takes its time over being cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = asyncio.Event()

    async def alloc_id(
        self, request: root_coord_pb2.AllocIDRequest, call: Call
    ) -> root_coord_pb2.AllocIDResponse:
        try:
            return await super().alloc_id(request, call)
        finally:
            await self.given_up.wait()


async def test_a_new_term_has_the_port_while_the_server_of_the_last_one_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "_CLOSE_LIMIT_S", 3600.0)
    role, table = Stubborn(), DispatchTable()
    table.add_service(ROOT_COORD, role)
    dispatcher = Dispatcher(table, FakeGate(), cluster="by-dev")
    with PortReservation("127.0.0.1", 0, setting="test") as reserved:
        port = reserved.port
        slot = ServerSlot(lambda: TermServer(GrpcServer(dispatcher), "127.0.0.1", port, "test"))
        await slot.hold("a")
        await slot.start()
        role.proceed.clear()
        async with asyncio.TaskGroup() as group:
            ask = Line(f"127.0.0.1:{port}", ClientSettings())
            call = group.create_task(failure(ask, "AllocID"))
            await role.entered.wait()
            release = group.create_task(slot.release("a"))
            assert await call == RpcCode.UNAVAILABLE
            await slot.hold("b")
            await slot.start()
            other = Line(f"127.0.0.1:{port}", ClientSettings())
            await other.unary(f"{PREFIX}AllocTimestamp", b"", metadata=(), timeout_s=10)
            assert not release.done()
            role.given_up.set()
        await ask.close()
        await other.close()
        await slot.release("b")


async def failure(line: Line, method: str) -> int:
    with pytest.raises(CallFailed) as caught:
        await line.unary(f"{PREFIX}{method}", b"", metadata=(), timeout_s=10)
    return caught.value.code
