"""Replicas in the test's own process, of a role that has no RPCs: for what concerns leadership alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from coordd.errors import CoorddError
from coordd.etcd import EtcdClient, Op
from coordd.ha.coordinator import Term
from coordd.ha.replica import Replica
from coordd.ha.settings import ReplicaSettings
from coordd.meta.fold import Table
from coordd.meta.layout import MetaLayout
from coordd.rpc.forward import GrpcForwarder


def quick_settings(number: int, **changes: Any) -> ReplicaSettings:
    """Of a rootcoord whose trouble is noticed soon. `number` tells it from the others of its group."""
    usual = ReplicaSettings(
        role="rootcoord",
        address=f"127.0.0.1:{number}",
        active_standby=True,
        ttl_s=30,
        registration_attempts=1,
        heartbeat_interval_ms=100,
        serve_guard_ms=600,
        margin_ms=200,
        forward_grace_ms=500,
        drain_s=lambda: 0.1,
        milvus_version="2.3.5",
        switch_key="rootCoord.enableActiveStandby",
    )
    return replace(usual, **changes)


class CannotActivate(CoorddError):
    """What a `PlainCoordinator` says when told to fail."""


@dataclass(eq=False)
class PlainCoordinator:
    """A role without metadata. `failures` activations fail before one succeeds."""

    layout: MetaLayout
    role: str = "rootcoord"
    companions: tuple[str, ...] = ()
    failures: int = 0
    terms: list[Term] = field(default_factory=list)
    tables: Sequence[Table] = ()

    @property
    def follow_from(self) -> str:
        return self.layout.heartbeat_prefix

    async def follow(self) -> None:
        return

    def claim(self) -> None:
        return

    def bequest(self) -> Sequence[Op]:
        return ()

    async def activate(self, term: Term) -> None:
        if self.failures:
            self.failures -= 1
            raise CannotActivate("told to fail")
        self.terms.append(term)

    def deactivate(self) -> None:
        return


@dataclass(eq=False)
class SilentServer:
    """A server that only notes what it is told. `listen_errors` are raised by one listen each."""

    calls: list[str] = field(default_factory=list)
    listen_errors: list[CoorddError] = field(default_factory=list)
    slow_stop_s: float = 0.0

    async def listen(self) -> None:
        self.calls.append("listen")
        if self.listen_errors:
            raise self.listen_errors.pop()

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self, grace_s: float) -> None:
        self.calls.append(f"stop {grace_s:g}")
        await asyncio.sleep(self.slow_stop_s)


@dataclass(eq=False)
class RunningReplica:
    replica: Replica
    coordinator: PlainCoordinator
    servers: list[SilentServer]
    task: asyncio.Task[None]

    @property
    def serving(self) -> bool:
        return self.replica.gate.serving()

    @property
    def server_id(self) -> int:
        return self.replica.gate.server_id

    async def stop(self) -> None:
        self.replica.request_stop()
        async with asyncio.timeout(10):
            await self.task


class Group:
    """Starts replicas under one root path; all are ended with the group."""

    def __init__(self, client: EtcdClient, root: str, since: int = 1) -> None:
        self.client = client
        self.since = since
        """First revision the group can have written; a shared etcd may have compacted earlier ones."""
        self.layout = MetaLayout(root, "meta", "kv")
        self.members: list[RunningReplica] = []

    def start(
        self,
        *,
        ttl_s: int = 30,
        active_standby: bool = True,
        failures: int = 0,
        serve_guard_ms: int = 600,
        margin_ms: int = 200,
        forward_grace_ms: int = 1000,
        client: EtcdClient | None = None,
        listen_errors: Sequence[CoorddError] = (),
    ) -> RunningReplica:
        coordinator = PlainCoordinator(self.layout, failures=failures)
        servers: list[SilentServer] = []
        errors = list(listen_errors)

        def new_server() -> SilentServer:
            servers.append(SilentServer(listen_errors=errors))
            return servers[-1]

        settings = quick_settings(
            len(self.members) + 1,
            active_standby=active_standby,
            ttl_s=ttl_s,
            serve_guard_ms=serve_guard_ms,
            margin_ms=margin_ms,
            forward_grace_ms=forward_grace_ms,
        )
        replica = Replica(
            settings, client or self.client, self.layout, coordinator, new_server, GrpcForwarder
        )
        task = asyncio.get_running_loop().create_task(replica.run(), name=f"replica {settings.address}")
        member = RunningReplica(replica, coordinator, servers, task)
        self.members.append(member)
        return member

    async def end(self) -> None:
        for member in self.members:
            member.task.cancel()
        await asyncio.wait([member.task for member in self.members])


@asynccontextmanager
async def replica_group(client: EtcdClient, root: str) -> AsyncIterator[Group]:
    """A group whose replicas are all ended at the end."""
    group = Group(client, root, await client.revision() + 1)
    try:
        yield group
    finally:
        if group.members:
            await group.end()
