"""A server that stops while connections are being made: in each turn of the loop they end, and it knows."""

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from coordd.rpc.server import ServerOptions
from tests.support.served import HOST, Served


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_at_every_step(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def stopped_after(steps: int) -> None:
        served = Served(ServerOptions())
        client = socket.create_connection((HOST, served.port))  # waits in the backlog
        await served.server.start()
        for _ in range(steps):
            await asyncio.sleep(0)
        await served.server.stop(0.0)
        assert not served.server._shared.connections
        client.settimeout(10)
        try:
            while client.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass  # it was never accepted
        client.close()
        await served.channel.close()

    async def main() -> None:
        for steps in range(8):
            await stopped_after(steps)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
