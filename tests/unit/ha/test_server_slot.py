"""A server with several holders: it listens while one of them wants it, and not a moment longer."""

import asyncio

import pytest

from coordd.ha.forwarding import hold_of
from coordd.ha.server_slot import ServerSlot
from coordd.rpc.port import PortInUse
from tests.support.replicas import SilentServer


class Servers:
    """The servers that a slot has made, in order."""

    def __init__(self, *listen_errors: PortInUse) -> None:
        self.made: list[SilentServer] = []
        self.listen_errors = list(listen_errors)
        self.slow_stop_s = 0.0

    def make(self) -> SilentServer:
        server = SilentServer(slow_stop_s=self.slow_stop_s)
        if self.listen_errors:
            server.listen_errors.append(self.listen_errors.pop(0))
        self.made.append(server)
        return server

    @property
    def calls(self) -> list[list[str]]:
        return [server.calls for server in self.made]


class SlowStart(SilentServer):
    """Others have their turn while it starts."""

    async def start(self) -> None:
        await super().start()
        await asyncio.sleep(0)
        self.calls.append("started")


async def test_it_listens_with_the_first_holder_and_stops_with_the_last() -> None:
    servers = Servers()
    slot = ServerSlot(servers.make)
    await slot.hold("a")
    await slot.hold("b")
    await slot.hold("a")
    assert servers.calls == [["listen"]]
    await slot.start()
    await slot.start()
    await slot.release("a")
    assert servers.calls == [["listen", "start"]], "b still holds it"
    await slot.release("b")
    assert servers.calls == [["listen", "start", "stop 0"]]


async def test_releasing_what_is_not_held_changes_nothing() -> None:
    servers = Servers()
    slot = ServerSlot(servers.make)
    await slot.release("a")
    await slot.hold("a")
    await slot.release("b")
    await slot.release("b")
    assert servers.calls == [["listen"]]


async def test_starting_what_nobody_holds_starts_nothing() -> None:
    servers = Servers()
    slot = ServerSlot(servers.make)
    await slot.start()
    assert servers.made == []
    await slot.hold("a")
    await slot.release("a")
    await slot.start()
    assert servers.calls == [["listen", "stop 0"]]


async def test_each_time_of_listening_has_a_server_of_its_own() -> None:
    """gRPC's servers are used once."""
    servers = Servers()
    slot = ServerSlot(servers.make)
    for _ in range(2):
        await slot.hold("a")
        await slot.start()
        await slot.release("a")
    assert servers.calls == [["listen", "start", "stop 0"]] * 2


async def test_a_port_that_is_taken_leaves_the_slot_as_it_was() -> None:
    servers = Servers(PortInUse("port in use"))
    slot = ServerSlot(servers.make)
    with pytest.raises(PortInUse):
        await slot.hold("a")
    await slot.start()
    await slot.release("a")
    assert servers.calls == [["listen"]], "what never listened is neither started nor stopped"
    await slot.hold("a")
    await slot.start()
    assert servers.calls == [["listen"], ["listen", "start"]]


async def test_who_holds_while_it_stops_gets_a_new_server_and_waits_for_nobody() -> None:
    servers = Servers()
    servers.slow_stop_s = 3600.0
    slot = ServerSlot(servers.make)
    await slot.hold("a")
    async with asyncio.TaskGroup() as group:
        release = group.create_task(slot.release("a"))
        await asyncio.sleep(0)
        await slot.hold("b")
        await slot.start()
        assert servers.calls == [["listen", "stop 0"], ["listen", "start"]]
        assert not release.done()
        release.cancel()
    await slot.release("a")
    assert servers.calls == [["listen", "stop 0"], ["listen", "start"]], "b holds the new one"


async def test_who_holds_in_the_moment_of_the_release_listens_after_the_other_has_left() -> None:
    calls: list[str] = []
    slot = ServerSlot(lambda: SlowStart(calls))
    await slot.hold("a")
    async with asyncio.TaskGroup() as group:
        group.create_task(slot.start())
        group.create_task(slot.release("a"))
        group.create_task(slot.hold("b"))
    assert calls == ["listen", "start", "started", "stop 0", "listen"]


async def test_a_release_that_is_cancelled_leaves_no_dying_server_to_the_next() -> None:
    servers = Servers()
    servers.slow_stop_s = 30.0
    slot = ServerSlot(servers.make)
    await slot.hold("a")
    async with asyncio.TaskGroup() as group:
        release = group.create_task(slot.release("a"))
        await asyncio.sleep(0)
        release.cancel()
    await slot.hold("a")
    await slot.start()
    assert servers.calls == [["listen", "stop 0"], ["listen", "start"]]


async def test_the_end_of_one_forwarding_does_not_end_the_next() -> None:
    """Leadership may have come back and gone again within the time of the first one."""
    servers = Servers()
    slot = ServerSlot(servers.make)
    first, second = _Way((4, 5)), _Way((6, 5))
    await slot.hold(hold_of(first))
    await slot.hold(hold_of(second))
    await slot.release(hold_of(first))
    assert servers.calls == [["listen"]]


class _Way:
    """A forwarder, as far as its name goes."""

    idle_since = 0.0

    def __init__(self, server_ids: tuple[int, ...]) -> None:
        self.server_ids = server_ids

    async def forward(self, path: str, body: bytes, metadata: object, deadline: float | None) -> bytes:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
