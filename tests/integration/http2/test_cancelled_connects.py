"""A connect that is cancelled leaves nothing behind that goes on by itself."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from coordd.http2.client import Channel, ClientSettings, Keepalive

SETTINGS_FRAME = bytes(3) + b"\x04" + bytes(5)
EAGER = ClientSettings(keepalive=Keepalive(time_s=0.001, timeout_s=0.001, without_calls=True))
"""A link that nobody has ended would ping at once, and complain that its transport is closed."""


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_at_every_step(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    complaints: list[dict[str, Any]] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SETTINGS_FRAME)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            for steps in range(40):
                connecting = asyncio.create_task(Channel.connect("127.0.0.1", port, settings=EAGER))
                for _ in range(steps):
                    await asyncio.sleep(0)
                connecting.cancel()
                await asyncio.wait([connecting])
                if not connecting.cancelled() and connecting.exception() is None:
                    connecting.result().close()
            await asyncio.sleep(0.3)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert complaints == []
