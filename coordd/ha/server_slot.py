"""The gRPC server of a role, shared by those who need it: a session and, after a handover, the forwarding.

It listens while somebody holds it, and no longer: a client that dials a standby is to be refused at once.

A server that stops has left the port at once, but may take seconds over its connections (a peer that does not
read, a handler slow to give up). Nobody but who released it waits for that: a takeover that falls into this
time gets a new server on the same port.
"""

import asyncio

from coordd.ha.coordinator import RoleServer, ServerFactory


class ServerSlot:
    """See the module's docstring. One per replica; holders go by names of their own."""

    def __init__(self, factory: ServerFactory) -> None:
        self._factory = factory
        self._holders: set[str] = set()
        self._server: RoleServer | None = None
        self._started = False
        self._one_at_a_time = asyncio.Lock()

    async def hold(self, who: str) -> None:
        """Listen from now on until `release`; nothing is accepted before `start`. Idempotent.

        Raises:
            CoorddError: the port is in use; `who` holds nothing.
        """
        async with self._one_at_a_time:
            if self._server is None:
                server = self._factory()
                await server.listen()
                self._server, self._started = server, False
            self._holders.add(who)

    async def start(self) -> None:
        """Accept connections, those that wait in the backlog first; nothing if nobody holds the server."""
        async with self._one_at_a_time:
            if self._server is not None and not self._started:
                self._started = True
                await self._server.start()

    async def release(self, who: str) -> None:
        """Stop listening, and what is under way, unless somebody else holds the server. Idempotent.

        Returns when the server has stopped. Safe to cancel: it then stops at once.
        """
        released = None
        async with self._one_at_a_time:
            self._holders.discard(who)
            if not self._holders:
                released, self._server = self._server, None
        if released is not None:  # nobody can listen in between: no other task runs before this one waits
            await released.stop(0.0)
