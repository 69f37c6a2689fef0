"""Clients of a RootCoord that follow the ACTIVE key and note all that they ask and are told.

Each asks one thing after another: blocks of timestamps or of IDs, the list of databases, creations and drops
of a few databases at random. One makes and deletes users, which is not noted: it is for the judge of etcd's
history, as a second kind of change beside the first. A new target is a new connection; so is the same one
after an error. Nothing is repeated: a repetition is a call of its own.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import grpc

from coordd.clock import boottime
from coordd.etcd import EtcdClient, GetResult
from coordd.etcd.errors import Compacted, RequestTimeout, Unavailable
from coordd.ha.session import SessionRecord
from coordd.pb import common_pb2, internal_pb2, milvus_pb2, root_coord_pb2
from tests.support.history import WRITES, Begun, Call, History, Kind, Outcome
from tests.support.rootcoord_client import RootCoordClient

CALL_TIMEOUT_S: Final = 3.0
"""Longer than a takeover after silence: who waits at a replica that hands over is not given up."""

AGAIN_S: Final = 0.02
REFUSALS: Final = ("already exist", "not found", "not exist")
IN_TROUBLE: Final = ("service unavailable", "service not ready", "can not get timestamp")
"""Statuses by which a RootCoord says that it cannot do it now; a write may have been done all the same."""

NEVER_SENT: Final = "failed to connect to all addresses"
UNEXPECTED: Final = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT)


class ActiveKey:
    """The ACTIVE key of a role as a client sees it: by a watch of its own."""

    def __init__(self, client: EtcdClient, key: str) -> None:
        self.holder: SessionRecord | None = None
        self._client = client
        self._key = key
        self._changed = asyncio.Event()

    async def follow(self) -> NoReturn:
        """Task: until cancelled."""
        while True:
            found = await self._read()
            self._take(None if found.kv is None else found.kv.value)
            watch = self._client.watch(self._key, None, from_revision=found.revision + 1)
            with suppress(Compacted):
                async with aclosing(watch) as batches:
                    async for batch in batches:
                        for event in batch.events:
                            self._take(event.value)

    async def _read(self) -> GetResult:
        while True:
            with suppress(RequestTimeout, Unavailable):
                return await self._client.get(self._key)
            await asyncio.sleep(AGAIN_S)

    async def change(self, timeout_s: float) -> None:
        """Until the key changes, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def _take(self, value: bytes | None) -> None:
        self.holder = None if value is None else SessionRecord.from_json(value)
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass
class DatabaseNames:
    """The few databases that the clients fight for now; they are replaced now and then.

    A name that is no longer in use is dropped for good by one client, and then retired.
    """

    history: History
    size: int = 3
    generation: int = 0
    current: list[str] = field(default_factory=list)
    in_use: Counter[str] = field(default_factory=Counter)
    old: list[str] = field(default_factory=list)

    def renew(self) -> None:
        """Put new names in place of all current ones."""
        self.old += self.current
        self.generation += 1
        self.current = [f"g{self.generation}_{index}" for index in range(self.size)]

    def unused_old(self) -> str | None:
        """An old name that no call is about; it is taken out."""
        for name in self.old:
            if not self.in_use[name]:
                self.old.remove(name)
                del self.in_use[name]
                return name
        return None


class Workload:
    """The clients. `oddities`: answers that nobody expects, counted by what they said.

    `failed`: calls that ended in an error of gRPC, `last_failure` the last of them.
    """

    def __init__(self, active: ActiveKey, history: History, seed: int, *, pause_s: float = 0.01) -> None:
        self.history = history
        self.oddities: Counter[str] = Counter()
        self.failed = 0
        self.last_failure = ""
        self.last_success_ns = 0
        self.longest_silence_s = 0.0
        self.names = DatabaseNames(history)
        self.names.renew()
        self._active = active
        self._random = random.Random(f"workload {seed}")
        self._pause_s = pause_s
        self._stopping = False

    async def run(self) -> None:
        """Task: until `stop`."""
        kinds: list[Callable[[_Client], Awaitable[None]]] = [
            self._timestamps, self._timestamps, self._ids, self._list,
            self._change_databases, self._change_databases, self._change_users,
        ]  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for number, kind in enumerate(kinds):
                client = _Client(number, self._active, named=number % 2 == 1)
                group.create_task(self._repeat(client, kind), name=f"client {number}")

    def stop(self) -> None:
        """Every client ends after the call it is at."""
        self._stopping = True

    async def list_databases(self) -> Call:
        """One list, asked until it is answered; part of the history as any other call."""
        client = _Client(999, self._active, named=False)
        try:
            while True:
                call = await self._listed(client)
                if call.outcome is Outcome.OK:
                    return call
                await asyncio.sleep(AGAIN_S)
        finally:
            await client.close()

    async def _repeat(self, client: "_Client", kind: Callable[["_Client"], Awaitable[None]]) -> None:
        try:
            while not self._stopping:
                await kind(client)
                await asyncio.sleep(self._random.random() * 2 * self._pause_s)
        finally:
            await client.close()

    async def _timestamps(self, client: "_Client") -> None:
        count = self._random.choice((1, 1, 1, 10, 1000))
        request = root_coord_pb2.AllocTimestampRequest(count=count)
        begun, answer, detail = await self._call(
            client, Kind.TIMESTAMPS, request, root_coord_pb2.AllocTimestampResponse
        )
        self._end_read(begun, answer, detail, first="timestamp")

    async def _ids(self, client: "_Client") -> None:
        count = self._random.choice((1, 1, 1, 100, 1_000_000))
        request = root_coord_pb2.AllocIDRequest(count=count)
        begun, answer, detail = await self._call(client, Kind.IDS, request, root_coord_pb2.AllocIDResponse)
        self._end_read(begun, answer, detail, first="ID")

    def _end_read(self, begun: Begun, answer: Any, detail: str, *, first: str) -> None:
        if answer is None:
            self.history.end(begun, Outcome.UNKNOWN, detail=detail)
        elif answer.status.code or answer.status.error_code:
            self._note(begun, answer.status.reason)
            self.history.end(begun, Outcome.UNKNOWN, detail=answer.status.reason)
        else:
            self._served(
                self.history.end(begun, Outcome.OK, first=getattr(answer, first), count=answer.count)
            )

    async def _list(self, client: "_Client") -> None:
        await self._listed(client)

    async def _listed(self, client: "_Client") -> Call:
        request = milvus_pb2.ListDatabasesRequest(base=_base(common_pb2.MsgType.ListDatabases))
        begun, answer, detail = await self._call(client, Kind.LIST, request, milvus_pb2.ListDatabasesResponse)
        if answer is None:
            return self.history.end(begun, Outcome.UNKNOWN, detail=detail)
        if answer.status.code or answer.status.error_code:
            self._note(begun, answer.status.reason)
            return self.history.end(begun, Outcome.UNKNOWN, detail=answer.status.reason)
        names = dict(zip(answer.db_names, answer.created_timestamp, strict=True))
        if len(names) != len(answer.db_names):
            self._note(begun, "a name twice")
        call = self.history.end(begun, Outcome.OK, names=names)
        self._served(call)
        return call

    async def _change_databases(self, client: "_Client") -> None:
        old = self.names.unused_old()
        if old is not None:
            await self._drop_for_good(client, old)
            return
        name = self._random.choice(self.names.current)
        self.names.in_use[name] += 1
        try:
            await self._write(client, self._random.choice((Kind.CREATE, Kind.DROP)), name)
        finally:
            self.names.in_use[name] -= 1

    async def _change_users(self, client: "_Client") -> None:
        name = f"user{self._random.randrange(3)}"
        rootcoord = await client.rootcoord()
        credential = internal_pb2.CredentialInfo(username=name, encrypted_password="hash")
        delete = milvus_pb2.DeleteCredentialRequest(username=name)
        try:
            if self._random.random() < 0.5:
                await rootcoord.call("CreateCredential", credential, common_pb2.Status, CALL_TIMEOUT_S)
            else:
                await rootcoord.call("DeleteCredential", delete, common_pb2.Status, CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            self.failed += 1
            self.last_failure = f"a user: {error.code().name}: {error.details()}"
            await client.failed()

    async def _drop_for_good(self, client: "_Client", name: str) -> None:
        while True:
            if (await self._write(client, Kind.DROP, name)).outcome is Outcome.OK:
                self.history.retire(name)
                return
            await asyncio.sleep(AGAIN_S)

    async def _write(self, client: "_Client", kind: Kind, name: str) -> Call:
        request: Any
        if kind is Kind.CREATE:
            base = _base(common_pb2.MsgType.CreateDatabase)
            request = milvus_pb2.CreateDatabaseRequest(base=base, db_name=name)
        else:
            base = _base(common_pb2.MsgType.DropDatabase)
            request = milvus_pb2.DropDatabaseRequest(base=base, db_name=name)
        begun, answer, detail = await self._call(client, kind, request, common_pb2.Status, name)
        if answer is None:
            outcome = Outcome.FAILED if NEVER_SENT in detail else Outcome.UNKNOWN
            return self.history.end(begun, outcome, detail=detail)
        if not (answer.code or answer.error_code):
            call = self.history.end(begun, Outcome.OK)
            self._served(call)
            return call
        if any(words in answer.reason for words in REFUSALS):
            return self.history.end(begun, Outcome.REFUSED, detail=answer.reason)
        self._note(begun, answer.reason)
        return self.history.end(begun, Outcome.UNKNOWN, detail=answer.reason)

    async def _call(
        self, client: "_Client", kind: Kind, request: Any, response: Any, name: str = ""
    ) -> tuple[Begun, Any, str]:
        """What was begun, the answer (None: none), and the reason if there is none."""
        rootcoord = await client.rootcoord()
        begun = self.history.begin(client.number, kind, name, client.server_id)
        try:
            return begun, await rootcoord.call(kind.value, request, response, CALL_TIMEOUT_S), ""
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {error.details()}"
            self.failed += 1
            self.last_failure = f"{begun}: {reason}"
            if error.code() in UNEXPECTED:
                self._note(begun, reason)
            await client.failed()
            return begun, None, reason
        except asyncio.CancelledError:
            self.history.end(begun, Outcome.UNKNOWN, detail="cancelled")
            raise

    def _served(self, call: Call) -> None:
        if call.kind in WRITES:
            return
        if self.last_success_ns:
            silence_s = (call.completed_ns - self.last_success_ns) / 1e9
            self.longest_silence_s = max(self.longest_silence_s, silence_s)
        self.last_success_ns = max(self.last_success_ns, call.completed_ns)

    def _note(self, begun: Begun, reason: str) -> None:
        if not reason.startswith(IN_TROUBLE):
            self.oddities[f"{begun.kind.value}: {reason}"] += 1


class _Client:
    """One connection at a time, to whoever holds the ACTIVE key. `named`: it says whom it means."""

    def __init__(self, number: int, active: ActiveKey, *, named: bool) -> None:
        self.number = number
        self.server_id = 0
        self._active = active
        self._named = named
        self._open: RootCoordClient | None = None

    async def rootcoord(self) -> RootCoordClient:
        """The connection to use now."""
        while (holder := self._active.holder) is None:
            await self._active.change(1.0)
        if self._open is None or holder.server_id != self.server_id:
            await self.close()
            self.server_id = holder.server_id
            self._open = RootCoordClient(holder.address, holder.server_id if self._named else None)
        return self._open

    async def failed(self) -> None:
        """The connection is not used again; a moment passes if the target stays the same."""
        await self.close()
        holder = self._active.holder
        if holder is not None and holder.server_id == self.server_id:
            await self._active.change(AGAIN_S)

    async def close(self) -> None:
        if self._open is not None:
            one, self._open = self._open, None
            await one.channel.close()


def _base(kind: int) -> common_pb2.MsgBase:
    return common_pb2.MsgBase(msg_type=kind)


@asynccontextmanager
async def running(workload: Workload, active: ActiveKey) -> AsyncIterator[Mapping[str, int]]:
    """The clients at work; all of them have ended afterwards. Yields the oddities."""
    async with asyncio.TaskGroup() as group:
        following = group.create_task(active.follow(), name="active key")
        clients = group.create_task(workload.run(), name="clients")
        try:
            yield workload.oddities
            workload.stop()
            limit = boottime() + 2 * CALL_TIMEOUT_S + 20
            while not clients.done():
                assert boottime() < limit, "the clients do not end"
                await asyncio.sleep(0.01)
        finally:
            clients.cancel()
            following.cancel()
