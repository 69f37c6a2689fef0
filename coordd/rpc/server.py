"""The gRPC server of a role: a port, its connections, and their end.

Every call goes to the `Dispatcher`; nothing here knows a message type, role or state. What a connection does
with its calls is in `served_connection`.

Listening and serving are two steps: between `listen()` and `start()` the kernel completes connections and
keeps them and their first requests in the backlog, where they wait instead of being refused.
"""

import asyncio
from typing import Final

from coordd.rpc.dispatch import Dispatcher
from coordd.rpc.listener import Listener
from coordd.rpc.port import bind_all, listen_error
from coordd.rpc.served_connection import Shared
from coordd.rpc.server_options import ServerOptions

__all__ = ["GrpcServer", "ServerOptions"]

_CLOSE_LIMIT_S: Final = 1.0
"""For what remains to be done once all calls have been cut off: a peer that does not read, or a handler that
takes its time over its cancellation, keeps a server no longer than this."""
_POLL_S: Final = 0.02


class GrpcServer:
    """One listening port of one role; used once: listen → start → stop. Make it inside a running loop.

    `start` and `stop` may be called at any moment, also while the other is under way, and may be cancelled.
    """

    def __init__(self, dispatcher: Dispatcher, options: ServerOptions | None = None) -> None:
        self._options = options or ServerOptions()
        self._shared = Shared(dispatcher, self._options)
        self._listener: Listener | None = None

    def listen(self, host: str, port: int, *, setting: str) -> int:
        """Bind and listen, accept nothing yet; returns the port. `host` "" is all interfaces.

        Clients that connect from now on wait until `start()`.

        Raises:
            PortInUse: names address and `setting`, the key that sets the port.
            ListenError: the address cannot be listened on for another reason.
        """
        bound = bind_all(host, port, setting)
        port = bound[0].getsockname()[1]
        listener = Listener(bound, self._options.credentials)
        try:
            listener.listen()
        except OSError as error:
            listener.close()
            raise listen_error(host, port, setting, error) from error
        self._listener = listener
        return port

    async def start(self) -> None:
        """Serve, beginning with what waits in the backlog; nothing if it was stopped before."""
        if self._listener is not None:
            self._listener.accept(self._shared.new_link)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Refuse new connections and calls at once; calls in flight have `grace_s`, then they are cut off.

        Also ends a server that only listens. May be called again, and be cancelled: then it cuts them off.
        """
        if self._listener is not None:
            self._listener.close()
        shared = self._shared
        shared.stopping = True
        for connection in list(shared.connections):
            connection.leave()
        try:
            await self._emptied(grace_s)
        finally:
            for connection in list(shared.connections):
                connection.cut_off()
        if self._listener is not None:
            await self._listener.closed(_CLOSE_LIMIT_S)
        await self._emptied(_CLOSE_LIMIT_S)
        for connection in list(shared.connections):
            connection.abort()
        await self._emptied(_CLOSE_LIMIT_S)
        tasks = {call.task for call in shared.under_way} - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_LIMIT_S)

    async def _emptied(self, limit_s: float) -> None:
        """Return when the last connection has gone, at the latest after `limit_s`."""
        shared = self._shared
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        while shared.connections and (left_s := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left_s, _POLL_S)):
                    await shared.emptied.wait()
            except TimeoutError:
                # An answer that waited for the client to read does not tell when it has gone out.
                for connection in list(shared.connections):
                    connection.close_if_idle()
