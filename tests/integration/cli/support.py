"""A role with an active replica that a script plays through etcd, and the commands as processes."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import yaml

from coordd.etcd import Compare, EtcdClient, Put
from coordd.etcd.child import bound_to_parent
from coordd.ha.election_events import TermCause
from coordd.ha.history import TermRecord
from coordd.ha.session import Safety, SessionRecord
from coordd.ha.switchover import SwitchoverEntry, answer_done, answer_refused, decode_request
from coordd.meta.layout import MetaLayout

Reaction = Callable[[SwitchoverEntry], Awaitable[None]]


async def coordd(*arguments: str) -> tuple[int, str, str]:
    """Run one command to its end: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *bound_to_parent([sys.executable, "-m", "coordd", *arguments]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(), err.decode()


class Role:
    """A rootcoord: keys written by the test, under a root path of its own."""

    def __init__(self, client: EtcdClient, root: str, folder: Path, endpoints: list[str]) -> None:
        self.client = client
        self.layout = MetaLayout(root, "meta", "kv")
        settings = {"etcd": {"endpoints": endpoints, "rootPath": root}}
        (folder / "milvus.yaml").write_text(yaml.safe_dump(settings))
        self.config = str(folder)

    def record(self, server_id: int, *, milvus: bool = False) -> SessionRecord:
        return SessionRecord(
            server_id=server_id,
            server_name="rootcoord",
            address=f"127.0.0.1:{server_id}",
            version="2.3.5",
            safety=None if milvus else Safety(2000, since_ms=int(time.time() * 1000)),
        )

    async def make(self, active: int, *standbys: int, milvus: bool = False) -> int:
        """Write the sessions, each on a lease of its own; returns the epoch of the active one."""
        leases = {}
        for server_id in (active, *standbys):
            leases[server_id] = (await self.client.grant(60)).id
            key, record = self.layout.session("rootcoord", server_id), self.record(server_id, milvus=milvus)
            await self.client.put(key, record.to_json(), lease=leases[server_id])
        record = self.record(active, milvus=milvus)
        key = self.layout.session("rootcoord")
        return await self.client.put(key, record.to_json(), lease=leases[active])

    async def refuse(self, entry: SwitchoverEntry, reason: str) -> None:
        """Answer as an active replica that declines."""
        assert (await self.client.txn([entry.unchanged], [answer_refused(entry, reason)])).succeeded

    async def hand_over(self, entry: SwitchoverEntry, heir: int) -> int:
        """Answer as an active replica that hands over in the same transaction; returns the heir's epoch."""
        request = entry.request
        assert request is not None
        active = self.layout.session("rootcoord")
        result = await self.client.txn(
            [entry.unchanged, Compare.mod_revision(active, request.epoch)],
            [answer_done(entry, heir), Put(active, self.record(heir).to_json())],
        )
        assert result.succeeded
        return result.revision

    async def term(self, epoch: int, server_id: int, **fields: object) -> None:
        """Write a record of the history."""
        standard: dict[str, object] = {
            "role": "rootcoord", "epoch": epoch, "server_id": server_id, "address": "127.0.0.1:1",
            "host_name": "h", "cause": TermCause.HANDOVER, "predecessor": 12,
            "started_ms": int(time.time() * 1000), "phases_ms": {"fence": 2.0},
        }  # fmt: skip
        record = TermRecord(**{**standard, **fields})
        await self.client.put(self.layout.history(record.role, epoch), record.to_json())

    async def next_request(self, after: int) -> SwitchoverEntry:
        """The first request that is written after revision `after`."""
        key = self.layout.switchover("rootcoord")
        watch = self.client.watch(key, None, from_revision=after + 1)
        async with asyncio.timeout(15), aclosing(watch):
            async for batch in watch:
                for event in batch.events:
                    if event.value is not None:
                        return SwitchoverEntry(key, event.mod_revision, decode_request(key, event.value))
        raise AssertionError("the watch ended")

    @asynccontextmanager
    async def reacting(self, after: int, reaction: Reaction) -> AsyncIterator[None]:
        """Do `reaction` once to the first request after revision `after`; it must have come by the end."""

        async def react() -> None:
            await reaction(await self.next_request(after))

        async with asyncio.TaskGroup() as group:
            group.create_task(react(), name="scripted active")
            yield

    async def request_is_gone(self) -> bool:
        return (await self.client.get(self.layout.switchover("rootcoord"))).kv is None
