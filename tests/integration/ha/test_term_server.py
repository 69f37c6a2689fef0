"""The server of a term can be stopped at any moment: while it starts or stops, after either was cancelled."""

import asyncio
import contextlib
import socket

import grpc.aio
import pytest

from coordd.daemon import TermServer
from coordd.ha.gate import LeadershipGate
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.port import PortReservation
from coordd.rpc.server import GrpcServer


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
