"""DropDatabase while collections are being created in the database: one comes first, whichever it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from coordd.clock import boottime
from coordd.etcd import Put
from coordd.meta.key_locks import CommitsOverloaded
from coordd.rootcoord.database_drop import DatabaseDrop
from coordd.rootcoord.operations import Operation, Operations, OperationUnfinished, Step, collection_key
from coordd.rpc.status import MilvusError
from tests.support.etcd import eventually
from tests.unit.meta.samples import CREATED, CREATING, DROPPING, LAYOUT, collection_value, database
from tests.unit.rootcoord.recorded import World, world
from tests.unit.rootcoord.term import start_oracle

DB_ID, MUSIC = 7, "music"
SOON_S = 10.0
NOT_EMPTY = "database:music not empty, must drop all collections before drop database"


@dataclass
class Scene:
    """A database, in which a test has collections come about."""

    place: World
    ends: list[asyncio.Event] = field(default_factory=list)

    @property
    def operations(self) -> Operations:
        assert self.place.operations is not None
        return self.place.operations

    async def write(self, collection_id: int, state: int) -> None:
        value = collection_value(collection_id, f"c{collection_id}", db_id=DB_ID, state=state)
        assert self.place.ddl is not None
        put = Put(LAYOUT.collection(DB_ID, collection_id), value)
        await self.place.ddl.carry_out(lambda _stamp: (put,), deadline=boottime() + SOON_S)

    async def begin(self, collection_id: int) -> asyncio.Event:
        """A creation that has written the collection, and ends when the event is set."""
        end, written = asyncio.Event(), asyncio.Event()

        async def create() -> None:
            await self.write(collection_id, CREATING)
            written.set()
            await end.wait()

        key = collection_key(MUSIC, f"c{collection_id}")
        creation = self.operations.carry_out(
            key, [key], lambda: Operation([Step("create", create)]), deadline=boottime() + SOON_S
        )
        self.operations.start(creation, "creation")
        await written.wait()
        return end

    def drop(self, within_s: float = SOON_S) -> DatabaseDrop:
        assert self.place.ddl is not None
        deadline = boottime() + within_s
        return DatabaseDrop(self.place.tables, LAYOUT, self.place.ddl, self.operations, MUSIC, deadline)

    @property
    def exists(self) -> bool:
        return self.place.tables.databases.by_name(MUSIC) is not None


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    place = await world(database(1, "default") | database(DB_ID, MUSIC))
    async with start_oracle(place):
        yield Scene(place)


@pytest.mark.parametrize("made", [True, False])
async def test_it_waits_for_a_creation_and_then_decides(*, made: bool) -> None:
    async with scene() as at, asyncio.TaskGroup() as group:
        end = await at.begin(50)
        drop = group.create_task(_outcome(at.drop()))
        await eventually(lambda: len(at.operations) == 2)  # it has its place behind the creation
        assert at.exists
        await at.write(50, CREATED if made else DROPPING)
        end.set()
        assert await drop == (NOT_EMPTY if made else "")
        assert at.exists == made


async def test_whoever_begins_while_it_waits_is_waited_for_too() -> None:
    async with scene() as at, asyncio.TaskGroup() as group:
        first = await at.begin(50)
        drop = at.drop()
        outcome = group.create_task(_outcome(drop))
        await eventually(lambda: drop._waited_for)
        second = await at.begin(60)
        await at.write(50, DROPPING)
        first.set()
        await eventually(lambda: collection_key(MUSIC, "c60") in drop._waited_for)
        await at.write(60, CREATED)
        second.set()
        assert await outcome == NOT_EMPTY
        assert at.exists


async def test_what_is_being_undone_keeps_no_database() -> None:
    """Nobody works on it: its readers, say, cannot be told."""
    async with scene() as at:
        await at.write(50, CREATING)
        assert await _outcome(at.drop()) == ""
        assert not at.exists


async def test_a_refusal_is_not_waited_for() -> None:
    async with scene() as at:
        await at.begin(50)
        await at.write(60, CREATED)
        assert await _outcome(at.drop()) == NOT_EMPTY


async def test_a_creation_that_stands_still_is_not_waited_for_any_longer_than_the_caller_does() -> None:
    async with scene() as at:
        await at.begin(50)
        with pytest.raises((CommitsOverloaded, OperationUnfinished)):
            await at.drop(within_s=0.1).carry_out()
        assert at.exists


async def _outcome(drop: DatabaseDrop) -> str:
    """The refusal; "" if it is done."""
    try:
        assert await drop.carry_out() > 0
    except MilvusError as refusal:
        return refusal.message
    return ""
